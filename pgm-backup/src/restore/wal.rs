//! Puts the WAL that a backup needs to become consistent into `pg_wal`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;

use pgm_wal::archive::Lookup;
use pgm_wal::{SegmentName, WalFileName};

use super::elsewhere::Elsewhere;
use super::error::RestoreError;
use super::roots::Roots;
use super::{RestorePlan, RestoreSource, reach};
use crate::catalog::BackupWal;
use crate::context::{Context, Phase};

/// Fetches the segments from the backup's start to its end.
pub(super) fn place(
    cx: &Context,
    roots: &Roots,
    source: RestoreSource<'_>,
    elsewhere: &Elsewhere<'_>,
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
        let destination = folder.join(&file_name);
        let failed = match source.archive.fetch(name, size, &destination, source.spool) {
            Ok(Lookup::Delivered(_)) => continue,
            Ok(_) => RestoreError::BackupWithoutWal {
                missing: file_name,
                label: entry.label,
            },
            Err(error) => error.into(),
        };
        elsewhere.give_segment((name, size), &destination, source.spool, failed)?;
    }
    Ok(())
}
