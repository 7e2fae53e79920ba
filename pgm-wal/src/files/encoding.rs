//! How a file is compressed, told from its first bytes, and reading it decoded.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use pgm_storage::{
    FileFormat, FrameDecoder, ObjectReader, PackReader, StorageError, StreamDecoder,
};

use super::FilesError;

/// How much is read at once from a file that is decoded.
const BUFFER_BYTES: usize = 128 * 1024;
/// How much tells one from the other.
const MAGIC_BYTES: u64 = 6;

/// How the bytes of a file are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are.
    Plain,
    /// As one of the formats that other programs know, too.
    Compressed(FileFormat),
    /// An object of a repository.
    Pack,
}

impl Encoding {
    /// Looks at the first bytes of the file at `path`.
    pub(super) fn of(path: &Path) -> Result<Self, FilesError> {
        let failed = |error| FilesError::io("read", path, error);
        let mut head = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAGIC_BYTES)
            .read_to_end(&mut head)
            .map_err(failed)?;
        if head.starts_with(b"PGMS") {
            return Err(FilesError::Sealed {
                path: path.to_owned(),
            });
        }
        Ok(match FileFormat::detect(&head) {
            Some(format) => Self::Compressed(format),
            None if head.starts_with(b"PGMP") => Self::Pack,
            None => Self::Plain,
        })
    }

    /// Opens the file at `path` for reading from its beginning on.
    pub(super) fn open(self, path: &Path) -> Result<Box<dyn Read>, FilesError> {
        let failed = |error| FilesError::io("open", path, error);
        let file = File::open(path).map_err(failed)?;
        let buffered = |file| BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(match self {
            Self::Plain => Box::new(buffered(file)),
            Self::Compressed(format) => {
                Box::new(StreamDecoder::new(buffered(file), format).map_err(failed)?)
            }
            Self::Pack => Box::new(FrameStream::open(path, file)?),
        })
    }
}

/// A file as an object of a storage.
struct FileObject {
    file: File,
    size: u64,
    place: String,
}

impl ObjectReader for FileObject {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> pgm_storage::Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| StorageError::Damaged {
                path: self.place.clone(),
                reason: error.to_string(),
            })
    }
}

/// The frames of a pack, decoded one after the other.
struct FrameStream {
    pack: PackReader,
    decoder: FrameDecoder,
    scratch: Vec<u8>,
    raw: Vec<u8>,
    taken: usize,
    next: usize,
}

impl FrameStream {
    fn open(path: &Path, file: File) -> Result<Self, FilesError> {
        let failed = |error| FilesError::io("open", path, error);
        let size = file.metadata().map_err(failed)?.len();
        let object = FileObject {
            file,
            size,
            place: path.display().to_string(),
        };
        let damaged = |source| FilesError::Pack {
            path: path.to_owned(),
            source,
        };
        Ok(Self {
            pack: PackReader::open(Box::new(object)).map_err(damaged)?,
            decoder: FrameDecoder::new().map_err(|error| failed(std::io::Error::other(error)))?,
            scratch: Vec::new(),
            raw: Vec::new(),
            taken: 0,
            next: 0,
        })
    }
}

impl Read for FrameStream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.taken == self.raw.len() {
            let Some(location) = self.pack.frames().get(self.next) else {
                return Ok(0);
            };
            self.pack
                .read(
                    location,
                    &mut self.decoder,
                    &mut self.scratch,
                    &mut self.raw,
                )
                .map_err(std::io::Error::other)?;
            self.taken = 0;
            self.next += 1;
        }
        let count = buf.len().min(self.raw.len() - self.taken);
        buf[..count].copy_from_slice(&self.raw[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}
