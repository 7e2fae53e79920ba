//! The catalog level: entry, manifests and packs agree with each other.

use std::collections::BTreeSet;

use pgm_storage::PackReader;
use pgm_wal::{SegmentName, SegmentSize};

use super::Level;
use super::findings::Findings;
use super::verification::{Area, Counts};
use crate::catalog::{BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::{Extent, FileEntry, ManifestEntry, ManifestReader, PackRecord};
use crate::repository::{Repository, layout, numbered};
use crate::restore::segments;
use crate::verify::verification::Verification;

/// Packs that are kept open.
const OPEN_PACKS_MAX: usize = 16;
/// How often cancelling is looked at.
const ENTRIES_BETWEEN_CHECKS: u64 = 1024;

/// Checks everything but the data itself; gives the manifest, from its beginning, if it is sound.
pub(super) fn check(
    cx: &Context,
    repository: &Repository,
    entry: &BackupEntry,
    level: Level,
    findings: &Findings<'_>,
    counts: &mut Counts,
) -> Result<Option<ManifestReader>> {
    cx.report(Phase::VerifyCatalog, 0, None, &entry.label.to_string());
    check_server(repository, entry, findings);
    check_keys(repository, findings);
    check_said(repository, entry, findings);
    check_server_manifest(repository, entry, findings);
    let path = layout::manifest(&entry.server, entry.label);
    let manifest = match repository.manifest(entry) {
        Ok(manifest) => manifest,
        Err(error) => {
            findings.failed(Area::Catalog, &path, &error);
            return Ok(None);
        }
    };
    counts.packs = manifest.packs().len() as u64;
    let sizes_agree = check_packs(cx, repository, entry, &manifest, findings)?;
    let totals = *manifest.totals();
    let size = &entry.size;
    if (totals.files, totals.directories, totals.raw_bytes)
        != (size.files, size.directories, size.raw_bytes)
        || !sizes_agree
    {
        let reason = "its counts or sizes are not those of the manifest";
        findings.object(
            Area::Catalog,
            &layout::entry(&entry.server, entry.label),
            reason,
        );
    }
    let mut places = match level {
        Level::Catalog => Some(Places::new(repository, entry, &manifest)),
        // The data is read anyway, and says more.
        Level::Frames | Level::Wal | Level::Restore => None,
    };
    if let Err(error) = check_entries(cx, entry, manifest, places.as_mut(), findings, counts) {
        if matches!(error, Error::Cancelled) {
            return Err(error);
        }
        findings.failed(Area::Catalog, &path, &error);
        return Ok(None);
    }
    Ok(repository.manifest(entry).ok())
}

/// The record of the server, which the backup must agree with.
fn check_server(repository: &Repository, entry: &BackupEntry, findings: &Findings<'_>) {
    let path = layout::server(&entry.server);
    match repository.server(&entry.server) {
        Ok(Some(server))
            if server.system_id != entry.system_id
                || server.segment_bytes != entry.segment_bytes =>
        {
            findings.object(Area::Catalog, &path, "the backup is of another server");
        }
        Ok(Some(_)) => {}
        Ok(None) => findings.object(Area::Catalog, &path, "it is missing"),
        Err(error) => findings.failed(Area::Catalog, &path, &error),
    }
}

/// The copies of the keys of a sealed repository: one that can be read is enough to restore.
fn check_keys(repository: &Repository, findings: &Findings<'_>) {
    match repository.damaged_keys() {
        Ok(damaged) => {
            for error in damaged {
                let object = damaged_object(&error);
                let object = object.unwrap_or_else(|| layout::keys().to_string());
                findings.failed(Area::Marks, &object, &error);
            }
        }
        Err(error) => findings.failed(Area::Marks, &layout::keys(), &error),
    }
}

/// Marks and earlier verifications.
fn check_said(repository: &Repository, entry: &BackupEntry, findings: &Findings<'_>) {
    let marks = layout::marks(&entry.server, entry.label);
    match repository.marks(&entry.server, entry.label) {
        Ok(found) => {
            if let Some(error) = found.damage {
                let object = damaged_object(&error).unwrap_or_else(|| marks.to_string());
                findings.failed(Area::Marks, &object, &error);
            }
        }
        Err(error) => findings.failed(Area::Marks, &marks, &error),
    }
    let storage = &**repository.storage();
    let folder = layout::verifications(&entry.server, entry.label);
    let newest = numbered::numbers(storage, &folder).map(|numbers| numbers.last().copied());
    let read = newest.and_then(|newest| match newest {
        Some(number) => {
            numbered::read::<Verification>(storage, &folder, number, Verification::FORMAT).map(drop)
        }
        None => Ok(()),
    });
    if let Err(error) = read {
        let object = damaged_object(&error).unwrap_or_else(|| folder.to_string());
        findings.failed(Area::Marks, &object, &error);
    }
}

fn damaged_object(error: &Error) -> Option<String> {
    match error {
        Error::Damaged { object, .. } | Error::UnknownFormat { object, .. } => {
            Some(object.to_string())
        }
        _ => None,
    }
}

/// The server's own manifest, every byte.
fn check_server_manifest(repository: &Repository, entry: &BackupEntry, findings: &Findings<'_>) {
    if let Err(error) = repository.server_manifest(entry, &mut std::io::sink()) {
        let path = layout::server_manifest(&entry.server, entry.label);
        findings.failed(Area::Catalog, &path, &error);
    }
}

/// Packs are there, have a sound index, and are as the manifest says. Gives whether their sizes make up what the
/// catalog entry says.
fn check_packs(
    cx: &Context,
    repository: &Repository,
    entry: &BackupEntry,
    manifest: &ManifestReader,
    findings: &Findings<'_>,
) -> Result<bool> {
    let mut own_bytes = entry.manifest.size + entry.server_manifest.map_or(0, |object| object.size);
    let mut own_packs = 0;
    for record in manifest.packs() {
        cx.check_cancel()?;
        if record.label == entry.label {
            own_bytes = own_bytes.saturating_add(record.size);
            own_packs += 1;
        }
        let path = layout::pack(&entry.server, record.label, record.number);
        match repository.pack(&entry.server, record) {
            Ok(pack) if !agrees(&pack, record) => {
                findings.object(
                    Area::Data,
                    &path,
                    "its index is not that of the pack in the manifest",
                );
            }
            Ok(_) => {}
            Err(error) => findings.failed(Area::Data, &path, &error),
        }
    }
    Ok(own_bytes == entry.size.stored_bytes && own_packs == entry.size.packs)
}

fn agrees(pack: &PackReader, record: &PackRecord) -> bool {
    let summary = pack.summary();
    summary.raw_bytes == record.raw_bytes && u64::from(summary.frames) == record.frames
}

/// Every line of the manifest; with `places`, every extent must lie in a frame that is there.
fn check_entries(
    cx: &Context,
    entry: &BackupEntry,
    manifest: ManifestReader,
    mut places: Option<&mut Places<'_>>,
    findings: &Findings<'_>,
    counts: &mut Counts,
) -> Result<()> {
    let mut wal_files = needed_wal_files(entry);
    let mut lines = 0_u64;
    for line in manifest {
        lines += 1;
        if lines.is_multiple_of(ENTRIES_BETWEEN_CHECKS) {
            cx.check_cancel()?;
        }
        let ManifestEntry::File(file) = line? else {
            continue;
        };
        if !wal_files.is_empty() {
            wal_files.remove(file.path.as_bytes());
        }
        counts.files += 1;
        counts.raw_bytes += file.size;
        if let Some(places) = &mut places {
            places.check(&file, findings);
        }
    }
    for missing in wal_files {
        let file = String::from_utf8_lossy(&missing).into_owned();
        let manifest = layout::manifest(&entry.server, entry.label);
        let reason = format!("it has no {file}, which the backup needs to become consistent");
        findings.object(Area::Wal, &manifest, reason);
    }
    Ok(())
}

/// The WAL files that a backup must bring along.
fn needed_wal_files(entry: &BackupEntry) -> BTreeSet<Vec<u8>> {
    let size = SegmentSize::new(u64::from(entry.segment_bytes));
    match (entry.wal, size) {
        (BackupWal::Included, Ok(size)) => segments(entry, size)
            .map(|number| SegmentName::new(entry.timeline, number).file_name(size))
            .map(|name| format!("pg_wal/{name}").into_bytes())
            .collect(),
        _ => BTreeSet::new(),
    }
}

/// The frames of the packs that extents point into.
struct Places<'a> {
    repository: &'a Repository,
    entry: &'a BackupEntry,
    records: Vec<PackRecord>,
    open: Vec<(u32, Option<PackReader>)>,
}

impl<'a> Places<'a> {
    fn new(repository: &'a Repository, entry: &'a BackupEntry, manifest: &ManifestReader) -> Self {
        Self {
            repository,
            entry,
            records: manifest.packs().to_vec(),
            open: Vec::new(),
        }
    }

    fn check(&mut self, file: &FileEntry, findings: &Findings<'_>) {
        for extent in &file.extents {
            if self.holds(extent) {
                continue;
            }
            let record = self.records.get(extent.pack as usize);
            let object = record.map_or_else(
                || layout::manifest(&self.entry.server, self.entry.label),
                |pack| layout::pack(&self.entry.server, pack.label, pack.number),
            );
            findings.add(super::verification::Finding {
                area: Area::Data,
                object: object.to_string(),
                offset: Some(extent.frame_offset),
                file: Some(file.path.to_string()),
                reason: "there is no frame here that holds what the manifest says".to_owned(),
            });
        }
    }

    /// Whether the extent lies in a frame. That a pack cannot be opened was found before.
    fn holds(&mut self, extent: &Extent) -> bool {
        let number = extent.pack;
        if !self.open.iter().any(|(open, _)| *open == number) {
            if self.open.len() >= OPEN_PACKS_MAX {
                self.open.remove(0);
            }
            let record = self.records.get(number as usize);
            let pack =
                record.and_then(|record| self.repository.pack(&self.entry.server, record).ok());
            self.open.push((number, pack));
        }
        let found = self.open.iter().find(|(open, _)| *open == number);
        let Some((_, Some(pack))) = found else {
            return found.is_some();
        };
        let frames = pack.frames();
        let at = frames.binary_search_by_key(&extent.frame_offset, |frame| frame.offset);
        let end = extent.start.checked_add(extent.length);
        at.is_ok_and(|at| end.is_some_and(|end| end <= frames[at].raw_bytes))
    }
}
