//! A data directory, wherever it is: how its folders are listed, and how its files are opened.
//!
//! What is backed up of it, and in which order, is the same everywhere (`walk`), and so is what becomes of it (`copy`).

use crate::backup::collect::FileHeader;
use crate::backup::read::SourceFile;
use crate::error::Result;
use crate::manifest::FilePath;

/// A data directory.
pub(super) trait DataDirectory {
    /// A folder that can be listed.
    type Folder;
    /// What a list tells of a name.
    type Known: Copy;

    /// The data directory itself.
    fn root(&self) -> Result<Self::Folder>;

    /// The numbers in `pg_tblspc` that are links, and where each leads to: an absolute path.
    fn links(&self) -> Result<Vec<Link>>;

    /// The folder that the link of a tablespace leads to, if it is there, and how it is told from others.
    fn space(&self, target: &str) -> Result<Option<(Self::Folder, Option<FolderId>)>>;

    /// What there is in a folder.
    fn list(&self, folder: &Self::Folder, path: &[u8]) -> Result<Names<Self::Known>>;

    /// What is under a name, if there is still something; `known` is what the list has told of it.
    fn look(&self, at: At<'_, Self>, known: Option<Self::Known>) -> Result<Option<Entry>>;

    /// Opens a folder, unless it is gone, or something else by now.
    fn open_folder(&self, at: At<'_, Self>) -> Result<Option<Self::Folder>>;

    /// Whether a folder of the data directory is that of this tablespace.
    fn is_space(&self, path: &[u8], entry: &Entry, target: &str, id: Option<FolderId>) -> bool;

    /// Fails if it is certain that a file cannot be read.
    fn may_read(&self, at: At<'_, Self>, entry: &Entry) -> Result<()>;

    /// Opens a file that was there a moment ago.
    fn open(&self, at: At<'_, Self>, path: &FilePath, entry: &Entry) -> Result<Opening>;

    /// Whether so many files are open that what is short is read at once.
    fn has_many_open(&self) -> bool;

    /// `pg_control`, whole.
    fn control_file(&self) -> Result<(FileHeader, Vec<u8>)>;
}

/// The number of a tablespace, and where its link leads to.
pub(super) type Link = (u32, String);

/// A name in a folder.
#[derive(Debug)]
pub(super) struct At<'a, D: DataDirectory + ?Sized> {
    pub(super) folder: &'a D::Folder,
    pub(super) name: &'a [u8],
    /// The whole path, below the data directory.
    pub(super) path: &'a [u8],
}

impl<D: DataDirectory + ?Sized> Clone for At<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: DataDirectory + ?Sized> Copy for At<'_, D> {}

/// What is under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// The permission bits.
    pub(super) mode: u32,
    /// The time of the last change, in seconds since 1970.
    pub(super) mtime: u64,
    /// How a folder is told from others, where that is known.
    pub(super) id: Option<FolderId>,
    /// Whether it can certainly be read.
    pub(super) is_readable: bool,
}

impl Entry {
    /// Of a file, what is known of it before its content.
    pub(super) fn header(&self, path: &FilePath) -> FileHeader {
        FileHeader {
            path: path.clone(),
            size: self.size,
            mode: self.mode,
            mtime: self.mtime,
        }
    }
}

/// Of which kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// Device and number of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FolderId(pub(super) u64, pub(super) u64);

/// What has become of a file that was to be opened.
#[derive(Debug)]
pub(super) enum Opening {
    /// It is read where its bytes get their places in frames. The pages are not checked yet.
    Open(FileHeader, SourceFile),
    /// It is short, and was read as a whole.
    Read(FileHeader, Vec<u8>),
    Gone,
    /// Something else is there by now.
    Other,
}

/// The names in a folder, sorted, close together in memory.
#[derive(Debug)]
pub(super) struct Names<K> {
    bytes: Vec<u8>,
    places: Vec<NamePlace<K>>,
}

/// Where a name begins in the bytes, its length, and what the list has told of it.
#[derive(Debug, Clone, Copy)]
struct NamePlace<K> {
    begin: u32,
    length: u16,
    known: K,
}

impl<K: Copy> Names<K> {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Takes one more; `None` if it is more than any folder has.
    pub(super) fn push(&mut self, name: &[u8], known: K) -> Option<()> {
        self.places.push(NamePlace {
            begin: u32::try_from(self.bytes.len()).ok()?,
            length: u16::try_from(name.len()).ok()?,
            known,
        });
        self.bytes.extend_from_slice(name);
        Some(())
    }

    /// Brings them into their order, once all are there.
    pub(super) fn sort(&mut self) {
        let Self { bytes, places } = self;
        places.sort_unstable_by_key(|place| name_at(bytes, place));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], K)> {
        let places = self.places.iter();
        places.map(|place| (name_at(&self.bytes, place), place.known))
    }

    /// The same, to change what the list has told.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut K)> {
        let Self { bytes, places } = self;
        places
            .iter_mut()
            .map(|place| (name_at(bytes, place), &mut place.known))
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let found = self
            .places
            .binary_search_by_key(&name, |place| name_at(&self.bytes, place));
        found.is_ok()
    }
}

fn name_at<'a, K>(bytes: &'a [u8], place: &NamePlace<K>) -> &'a [u8] {
    &bytes[place.begin as usize..][..usize::from(place.length)]
}
