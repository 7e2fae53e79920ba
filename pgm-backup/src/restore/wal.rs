//! Puts the WAL that a backup needs to become consistent into `pg_wal`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;

use pgm_wal::archive::{Archive, Lookup};
use pgm_wal::{SegmentName, Spool, WalFileName};

use super::error::RestoreError;
use super::roots::Roots;
use super::{RestorePlan, reach};
use crate::catalog::BackupWal;
use crate::context::{Context, Phase};

/// Fetches the segments from the backup's start to its end.
pub(super) fn place(
    cx: &Context,
    roots: &Roots,
    archive: &Archive,
    spool: Option<&Spool>,
    plan: &RestorePlan,
) -> Result<(), RestoreError> {
    let entry = &plan.entry;
    if entry.wal == BackupWal::Included {
        return Ok(());
    }
    let folder = roots.data_path().join("pg_wal");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| RestoreError::file("make folder", &folder, error))?;
    let size = plan.segment_size()?;
    let segments = reach::segments(entry, size);
    let total = segments.clone().count() as u64 * size.bytes();
    for (index, number) in segments.enumerate() {
        cx.check_cancel()?;
        cx.report(Phase::Restore, index as u64 * size.bytes(), Some(total), "");
        let name = WalFileName::Segment(SegmentName::new(entry.timeline, number));
        let file_name = name.file_name(size);
        match archive.fetch(name, size, &folder.join(&file_name), spool)? {
            Lookup::Delivered(_) => {}
            _ => {
                return Err(RestoreError::BackupWithoutWal {
                    missing: file_name,
                    label: entry.label,
                });
            }
        }
    }
    Ok(())
}
