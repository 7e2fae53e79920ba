//! A restore into a tar stream: what [`restore`](super::restore) would write, as one archive that stands alone.
//!
//! ```text
//! SERVER-LABEL/data/…                        the data directory; global/pg_control last
//! SERVER-LABEL/data/pg_wal/…                 all WAL from the backup to the target, and histories
//! SERVER-LABEL/data/pg_tblspc/OID            a link to ../../tablespaces/OID
//! SERVER-LABEL/tablespaces/OID/…             the tablespaces
//! ```
//!
//! Nothing is staged: files go straight from packs to the stream, WAL from the archive. Recovery finds its WAL in `pg_wal`, so the
//! server needs neither pgm nor the repository; PostgreSQL asks for a `restore_command` all the same, and gets one that has nothing.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use pgm_proto::TimelineId;
use pgm_wal::archive::{Archive, ArchiveSource};
use pgm_wal::record::SegmentSource as _;
use pgm_wal::{SegmentName, SegmentSize, Spool, WalFileName};

use super::error::RestoreError;
use super::pieces::Pieces;
use super::recovery::{self, RecoverySettings};
use super::roots::TABLESPACES;
use super::tar_writer::{Attributes, Kind, TarWriter};
use super::{CONTROL_FILE, RestorePlan, backup_manifest, reach, settings};
use crate::catalog::{BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::manifest::{FileEntry, FilePath, ManifestEntry, ManifestObject, ManifestReader};
use crate::repository::Repository;

/// The longest `postgresql.auto.conf`, which is rewritten in memory.
const AUTO_CONF_BYTES_MAX: u64 = 16 << 20;
/// WAL is copied in pieces of this size.
const WAL_PIECE_BYTES: usize = 1 << 20;
/// What PostgreSQL runs for each file that it would like to have: everything there is rests in `pg_wal`.
const NOTHING_COMMAND: &str = "false";

/// What was written.
#[derive(Debug, Clone)]
pub struct ExportReport {
    /// The folder in the archive that everything is in.
    pub folder: String,
    /// Files of the data directory.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// WAL segments.
    pub wal_segments: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Writes what `plan` gives into `out` as a tar archive, whole to its end; the plan's folders are not looked at.
pub fn export(
    cx: &Context,
    repository: &Repository,
    archive: &Archive,
    spool: Option<&Spool>,
    plan: &RestorePlan,
    out: &mut dyn Write,
) -> Result<ExportReport, RestoreError> {
    let begun = Instant::now();
    let entry = &plan.entry;
    let manifests = repository.manifest_object(entry)?;
    let manifest = manifests.read(entry)?;
    let pieces = Pieces::new(repository, entry, manifest.packs().to_vec())?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let mut export = Export {
        cx,
        plan,
        tar: TarWriter::new(out, uid.as_raw(), gid.as_raw()),
        pieces,
        folder: format!("{}-{}", entry.server, entry.label),
        now: u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0),
        files: 0,
        bytes: 0,
        found: Vec::new(),
    };
    export.beginning()?;
    let (control, auto_conf) = export.manifest(manifest)?;
    export.settings((repository, &manifests), auto_conf.as_ref())?;
    let wal_segments = export.wal(archive, spool)?;
    export.control(control.as_ref())?;
    let (folder, files, bytes) = (export.folder, export.files, export.bytes);
    export.tar.finish().map_err(stream)?;
    Ok(ExportReport {
        folder,
        files,
        bytes,
        wal_segments,
        elapsed: begun.elapsed(),
    })
}

struct Export<'a> {
    cx: &'a Context,
    plan: &'a RestorePlan,
    tar: TarWriter<&'a mut dyn Write>,
    pieces: Pieces<'a>,
    folder: String,
    now: u64,
    files: u64,
    bytes: u64,
    /// The checksums of files of which the manifest has none, in its order.
    found: Vec<u32>,
}

impl Export<'_> {
    fn private(&self, mode: u32) -> Attributes {
        Attributes {
            mode,
            mtime: self.now,
        }
    }

    /// The folders that hold everything.
    fn beginning(&mut self) -> Result<(), RestoreError> {
        let mut folders = vec![self.folder.clone(), format!("{}/data", self.folder)];
        if !self.plan.entry.tablespaces.is_empty() {
            folders.push(format!("{}/tablespaces", self.folder));
        }
        for tablespace in &self.plan.entry.tablespaces {
            folders.push(format!("{}/tablespaces/{}", self.folder, tablespace.oid));
        }
        let attributes = self.private(0o700);
        for folder in folders {
            self.tar
                .entry(folder.as_bytes(), Kind::Directory, attributes)
                .map_err(stream)?;
        }
        Ok(())
    }

    /// Every file but `pg_control` and `postgresql.auto.conf`, which it gives back for later.
    fn manifest(
        &mut self,
        manifest: ManifestReader,
    ) -> Result<(Option<FileEntry>, Option<FileEntry>), RestoreError> {
        let (mut control, mut auto_conf) = (None, None);
        for line in manifest {
            self.cx.check_cancel()?;
            match line? {
                ManifestEntry::Directory(directory) => {
                    let Some(name) = self.name(&directory.path) else {
                        continue;
                    };
                    let attributes = Attributes {
                        mode: directory.mode,
                        mtime: directory.mtime,
                    };
                    self.tar
                        .entry(&name, Kind::Directory, attributes)
                        .map_err(stream)?;
                }
                ManifestEntry::File(file) => match file.path.as_bytes() {
                    CONTROL_FILE => control = Some(file),
                    b"postgresql.auto.conf" => auto_conf = Some(file),
                    // What is restored is a server of its own, not one that waits for a primary.
                    b"standby.signal" | b"recovery.signal" | b"backup_manifest" => {}
                    _ => self.file(&file)?,
                },
                ManifestEntry::Tablespace(_) | ManifestEntry::Symlink(_) => {}
            }
        }
        Ok((control, auto_conf))
    }

    fn file(&mut self, file: &FileEntry) -> Result<(), RestoreError> {
        let Some(name) = self.name(&file.path) else {
            return Ok(());
        };
        let attributes = Attributes {
            mode: file.mode,
            mtime: file.mtime,
        };
        self.tar
            .entry(&name, Kind::File(file.size), attributes)
            .map_err(stream)?;
        let (tar, cx) = (&mut self.tar, self.cx);
        let total = Some(self.plan.entry.size.raw_bytes);
        let mut done = self.bytes;
        let crc32c = self.pieces.read(file, &mut |piece| {
            cx.check_cancel()?;
            done += piece.len() as u64;
            cx.report(Phase::Archive, done, total, "");
            tar.content(piece).map_err(stream)
        })?;
        if file.crc32c.is_none() {
            self.found.push(crc32c);
        }
        self.files += 1;
        self.bytes += file.size;
        Ok(())
    }

    /// The links to tablespaces, the server's own manifest, and how the server recovers.
    fn settings(
        &mut self,
        read: (&Repository, &ManifestObject),
        auto_conf: Option<&FileEntry>,
    ) -> Result<(), RestoreError> {
        let entry = &self.plan.entry;
        for tablespace in &entry.tablespaces {
            let link = format!("{}/data/{TABLESPACES}/{}", self.folder, tablespace.oid);
            // Relative, so that the folder can be anywhere, and be moved.
            let target = format!("../../tablespaces/{}", tablespace.oid);
            let attributes = self.private(0o777);
            self.tar
                .entry(
                    link.as_bytes(),
                    Kind::Symlink(target.as_bytes()),
                    attributes,
                )
                .map_err(stream)?;
        }
        let attributes = self.private(0o600);
        if let Some(size) = backup_manifest::bytes(read, entry, &self.found)? {
            let name = format!("{}/data/{}", self.folder, settings::BACKUP_MANIFEST);
            self.tar
                .entry(name.as_bytes(), Kind::File(size), attributes)
                .map_err(stream)?;
            backup_manifest::write(read, entry, &self.found, &mut self.tar)?;
        }
        let existing = match auto_conf {
            Some(file) => self.small_file(file)?,
            None => Vec::new(),
        };
        let name = format!("{}/data/{}", self.folder, recovery::AUTO_CONF);
        let content = match entry.wal {
            BackupWal::Archive => recovery::rewrite(&existing, &self.recovery()),
            BackupWal::Included => existing,
        };
        self.tar
            .file(name.as_bytes(), &content, attributes)
            .map_err(stream)?;
        if entry.wal == BackupWal::Archive {
            let name = format!("{}/data/{}", self.folder, recovery::SIGNAL);
            self.tar
                .file(name.as_bytes(), b"", attributes)
                .map_err(stream)?;
        }
        Ok(())
    }

    fn recovery(&self) -> RecoverySettings<'_> {
        RecoverySettings {
            restore_command: NOTHING_COMMAND,
            target: &self.plan.stop.target,
            boundary: self.plan.stop.boundary,
            action: self.plan.request.action,
            timeline: self.plan.timeline,
        }
    }

    fn small_file(&mut self, file: &FileEntry) -> Result<Vec<u8>, RestoreError> {
        if file.size > AUTO_CONF_BYTES_MAX {
            return Err(RestoreError::Damaged {
                label: self.plan.entry.label,
                reason: format!("file {} has {} bytes", file.path, file.size),
            });
        }
        let mut content = Vec::new();
        self.pieces.read(file, &mut |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(content)
    }

    /// The WAL of the way to the target, and the histories along it.
    fn wal(&mut self, archive: &Archive, spool: Option<&Spool>) -> Result<u64, RestoreError> {
        let entry = &self.plan.entry;
        if entry.wal == BackupWal::Included {
            return Ok(0);
        }
        let size = self.plan.segment_size()?;
        let mut timelines: Vec<TimelineId> = vec![self.plan.timeline];
        timelines.extend(
            self.plan
                .history
                .entries()
                .iter()
                .map(|entry| entry.timeline),
        );
        for timeline in timelines {
            if let Some(content) = archive.history_file(timeline, spool)? {
                let name = WalFileName::History(timeline).file_name(size);
                let name = format!("{}/data/pg_wal/{name}", self.folder);
                let attributes = self.private(0o600);
                self.tar
                    .file(name.as_bytes(), &content, attributes)
                    .map_err(stream)?;
            }
        }
        let segments = self.segments(archive, spool, size)?;
        let mut source = ArchiveSource::new(archive.clone(), spool.cloned(), size);
        let total = Some(segments.len() as u64 * size.bytes());
        for (done, segment) in segments.iter().enumerate() {
            let done = done as u64 * size.bytes();
            self.cx.report(Phase::Archive, done, total, "wal");
            self.segment(&mut source, *segment, size)?;
        }
        Ok(segments.len() as u64)
    }

    /// The segments from the backup's start to the target, and those of the backup on its own timeline.
    fn segments(
        &self,
        archive: &Archive,
        spool: Option<&Spool>,
        size: SegmentSize,
    ) -> Result<BTreeSet<SegmentName>, RestoreError> {
        let entry = &self.plan.entry;
        let own = reach::segments(entry, size);
        let mut segments: BTreeSet<SegmentName> = own
            .map(|number| SegmentName::new(entry.timeline, number))
            .collect();
        let index = archive.index(size, spool)?;
        let way = index.walk(&self.plan.history, entry.start_lsn, self.plan.needed);
        let way = way.map_err(|missing| missing_wal(entry, missing.segment, size))?;
        for stretch in way {
            let (first, last) = (
                size.number_at(stretch.start),
                size.number_before(stretch.end),
            );
            segments.extend((first.value()..=last.value()).map(|number| {
                SegmentName::new(stretch.timeline, pgm_wal::SegmentNumber::new(number))
            }));
        }
        Ok(segments)
    }

    /// One segment, with zeros behind what is valid of an unfinished one.
    fn segment(
        &mut self,
        source: &mut ArchiveSource,
        segment: SegmentName,
        size: SegmentSize,
    ) -> Result<(), RestoreError> {
        let name = format!("{}/data/pg_wal/{}", self.folder, segment.file_name(size));
        let attributes = self.private(0o600);
        self.tar
            .entry(name.as_bytes(), Kind::File(size.bytes()), attributes)
            .map_err(stream)?;
        let mut piece = vec![0; WAL_PIECE_BYTES.min(size.bytes() as usize)];
        let mut offset = 0;
        while offset < size.bytes() {
            self.cx.check_cancel()?;
            let read = source.read_at(segment, offset, &mut piece);
            let read = read.map_err(|error| RestoreError::Damaged {
                label: self.plan.entry.label,
                reason: error.to_string(),
            })?;
            let valid = read.ok_or_else(|| missing_wal(&self.plan.entry, segment, size))?;
            piece[valid..].fill(0);
            self.tar.content(&piece).map_err(stream)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Without this file PostgreSQL does not start: it comes last.
    fn control(&mut self, control: Option<&FileEntry>) -> Result<(), RestoreError> {
        let Some(control) = control else {
            return Err(RestoreError::Damaged {
                label: self.plan.entry.label,
                reason: "global/pg_control is not in the manifest".to_owned(),
            });
        };
        self.file(control)
    }

    /// The place of a path in the archive; none for a tablespace's own folder, which is there.
    fn name(&self, path: &FilePath) -> Option<Vec<u8>> {
        let bytes = path.as_bytes();
        let below = bytes
            .strip_prefix(TABLESPACES.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"));
        if let Some(below) = below {
            let mut parts = below.splitn(2, |byte| *byte == b'/');
            let oid = parts
                .next()
                .and_then(|oid| std::str::from_utf8(oid).ok()?.parse::<u32>().ok());
            let tablespaces = &self.plan.entry.tablespaces;
            if let Some(oid) = oid.filter(|oid| tablespaces.iter().any(|known| known.oid == *oid)) {
                let mut name = format!("{}/tablespaces/{oid}/", self.folder).into_bytes();
                name.extend_from_slice(parts.next()?);
                return Some(name);
            }
        }
        let mut name = format!("{}/data/", self.folder).into_bytes();
        name.extend_from_slice(bytes);
        Some(name)
    }
}

fn missing_wal(entry: &BackupEntry, segment: SegmentName, size: SegmentSize) -> RestoreError {
    RestoreError::BackupWithoutWal {
        missing: segment.file_name(size),
        label: entry.label,
    }
}

/// The stream's own failure.
fn stream(source: io::Error) -> RestoreError {
    RestoreError::Stream { source }
}
