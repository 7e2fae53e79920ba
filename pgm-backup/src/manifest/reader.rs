//! Reading a manifest.

use pgm_storage::{FrameDecoder, ObjectPath, PackReader, Storage};

use super::entry::{Line, ManifestEntry, ManifestHeader, ManifestTotals, PackRecord};
use super::object::ManifestObject;
use super::{LINE_BYTES_MAX, MANIFEST_FORMAT};
use crate::catalog::BackupEntry;
use crate::error::{Error, Result};

/// Streams the entries of a manifest whose bytes were checked as a whole when it was opened.
///
/// ```no_run
/// # fn example(repository: &pgm_backup::Repository, entry: &pgm_backup::BackupEntry) -> pgm_backup::Result<()> {
/// for line in repository.manifest(entry)? {
///     if let pgm_backup::manifest::ManifestEntry::File(file) = line? {
///         println!("{} {}", file.size, file.path);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ManifestReader {
    object: ObjectPath,
    pack: PackReader,
    decoder: FrameDecoder,
    scratch: Vec<u8>,
    header: ManifestHeader,
    packs: Vec<PackRecord>,
    totals: ManifestTotals,
    /// Raw bytes read and not parsed yet begin at `parsed`.
    lines: Vec<u8>,
    parsed: usize,
    frame: Vec<u8>,
    next_frame: usize,
    entry_frames_end: usize,
    seen: ManifestTotals,
    finished: bool,
}

impl ManifestReader {
    /// Opens the manifest at `path`, checks every byte of it against `entry`, and reads header, packs and totals.
    pub fn open(storage: &dyn Storage, path: &ObjectPath, entry: &BackupEntry) -> Result<Self> {
        ManifestObject::open(storage, path, entry)?.read(entry)
    }

    pub(super) fn begin(object: &ManifestObject, entry: &BackupEntry) -> Result<Self> {
        let ManifestObject { path, object } = object;
        let pack = PackReader::open(Box::new(object.clone()))?;
        let damaged = |reason: &str| Error::damaged(path, reason);
        let decoder = FrameDecoder::new().map_err(|error| damaged(&error.to_string()))?;
        let frames = pack.frames().len();
        if frames < 2 {
            return Err(damaged("it has no beginning or no end"));
        }
        let mut reader = Self {
            object: path.clone(),
            pack,
            decoder,
            scratch: Vec::new(),
            header: ManifestHeader {
                format: 0,
                server: entry.server.clone(),
                label: entry.label,
            },
            packs: Vec::new(),
            totals: ManifestTotals::default(),
            lines: Vec::new(),
            parsed: 0,
            frame: Vec::new(),
            next_frame: 1,
            entry_frames_end: frames - 1,
            seen: ManifestTotals::default(),
            finished: false,
        };
        reader.read_header(entry)?;
        reader.read_end(frames)?;
        Ok(reader)
    }

    /// The first line.
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// The packs that extents point into, by their index.
    pub fn packs(&self) -> &[PackRecord] {
        &self.packs
    }

    /// Counts of all entries.
    pub fn totals(&self) -> &ManifestTotals {
        &self.totals
    }

    /// The next entry; `None` after the last one, when the counts are right.
    pub fn next_entry(&mut self) -> Result<Option<ManifestEntry>> {
        let Some(line) = self.next_line(self.entry_frames_end)? else {
            return self.check_counts().map(|()| None);
        };
        let entry = match line {
            Line::Directory(directory) => {
                self.seen.directories += 1;
                ManifestEntry::Directory(directory)
            }
            Line::File(file) => {
                self.check_extents(&file)?;
                self.seen.files += 1;
                self.seen.raw_bytes = self.seen.raw_bytes.saturating_add(file.size);
                ManifestEntry::File(file)
            }
            Line::Tablespace(link) => {
                self.seen.links += 1;
                ManifestEntry::Tablespace(link)
            }
            Line::Symlink(link) => {
                self.seen.links += 1;
                ManifestEntry::Symlink(link)
            }
            Line::Header(_) | Line::Pack(_) | Line::End(_) => {
                return Err(self.damaged("it has a line in a wrong place"));
            }
        };
        Ok(Some(entry))
    }

    fn read_header(&mut self, entry: &BackupEntry) -> Result<()> {
        self.read_frame(0)?;
        // A newer header may have other fields: look at its version alone first.
        let probe: serde_json::Value = serde_json::from_slice(&self.frame).map_err(|error| {
            Error::damaged(&self.object, format!("its header is not readable: {error}"))
        })?;
        let format = probe["header"]["format"]
            .as_u64()
            .and_then(|format| u32::try_from(format).ok());
        match format {
            Some(found) if found > MANIFEST_FORMAT => {
                let object = self.object.clone();
                return Err(Error::UnknownFormat {
                    object,
                    found,
                    newest: MANIFEST_FORMAT,
                });
            }
            _ => {}
        }
        match serde_json::from_slice(&self.frame) {
            Ok(Line::Header(header))
                if header.server == entry.server && header.label == entry.label =>
            {
                self.header = header;
                Ok(())
            }
            Ok(Line::Header(_)) => Err(self.damaged("it belongs to another backup")),
            _ => Err(self.damaged("it does not begin with a header")),
        }
    }

    fn read_end(&mut self, frames: usize) -> Result<()> {
        self.read_frame(frames - 1)?;
        let Ok(Line::End(totals)) = serde_json::from_slice(&self.frame) else {
            return Err(self.damaged("its end is missing"));
        };
        self.totals = totals;
        let table_frames = totals.table_frames as usize;
        let Some(table_begin) = (frames - 1).checked_sub(table_frames).filter(|&at| at >= 1) else {
            return Err(self.damaged("its table of packs is missing"));
        };
        self.next_frame = table_begin;
        while let Some(line) = self.next_line(frames - 1)? {
            let Line::Pack(pack) = line else {
                return Err(self.damaged("its table of packs has a line of another kind"));
            };
            self.packs.push(pack);
        }
        if self.packs.len() != totals.packs as usize {
            return Err(self.damaged("its table of packs is not complete"));
        }
        self.next_frame = 1;
        self.entry_frames_end = table_begin;
        Ok(())
    }

    /// The next line of the frames before `frames_end`.
    fn next_line(&mut self, frames_end: usize) -> Result<Option<Line>> {
        let mut searched = self.parsed;
        loop {
            if let Some(found) = self.lines[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let line = &self.lines[self.parsed..searched + found];
                let parsed = serde_json::from_slice(line).map_err(|error| {
                    Error::damaged(&self.object, format!("a line is not readable: {error}"))
                });
                self.parsed = searched + found + 1;
                return parsed.map(Some);
            }
            self.lines.drain(..self.parsed);
            self.parsed = 0;
            searched = self.lines.len();
            if self.next_frame == frames_end {
                return if searched == 0 {
                    Ok(None)
                } else {
                    Err(self.damaged("its last line is cut"))
                };
            }
            if searched > LINE_BYTES_MAX {
                return Err(self.damaged("it has a line that is too long"));
            }
            self.read_frame(self.next_frame)?;
            self.lines.extend_from_slice(&self.frame);
            self.next_frame += 1;
        }
    }

    fn read_frame(&mut self, number: usize) -> Result<()> {
        let location = self.pack.frames()[number];
        Ok(self.pack.read(
            &location,
            &mut self.decoder,
            &mut self.scratch,
            &mut self.frame,
        )?)
    }

    fn check_extents(&self, file: &super::FileEntry) -> Result<()> {
        let mut covered = 0_u64;
        for extent in &file.extents {
            let fits = extent.file_offset == covered
                && extent.length > 0
                && (extent.pack as usize) < self.packs.len();
            if !fits {
                break;
            }
            covered = covered.saturating_add(u64::from(extent.length));
        }
        if covered == file.size {
            return Ok(());
        }
        Err(self.damaged(&format!("the extents of {} do not cover it", file.path)))
    }

    fn check_counts(&mut self) -> Result<()> {
        self.finished = true;
        let ManifestTotals {
            table_frames,
            packs,
            ..
        } = self.totals;
        if (ManifestTotals {
            table_frames,
            packs,
            ..self.seen
        }) == self.totals
        {
            return Ok(());
        }
        Err(self.damaged("its entries are not as many as its end says"))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::damaged(&self.object, reason)
    }
}

impl Iterator for ManifestReader {
    type Item = Result<ManifestEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = self.next_entry();
        self.finished |= !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
