//! Takes a backup that stands alone (its WAL included) into a folder, which becomes a repository.
//!
//! ```text
//! backup_to_folder CONNINFO DIR
//! ```

use std::error::Error;
use std::sync::Arc;

use pgm_backup::catalog::BackupWal;
use pgm_backup::{
    BackupRequest, BackupTarget, Context, NoArchive, Progress, ProgressSink, Repository, backup,
};
use pgm_proto::{Client, Session};
use pgm_storage::{Cancel, Compression, LocalStorage};

/// Prints a dot for each 64 MiB.
#[derive(Debug, Default)]
struct Dots;

impl ProgressSink for Dots {
    fn report(&self, progress: &Progress<'_>) {
        if progress.done_bytes % (64 << 20) >= 63 << 20 {
            eprint!(".");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [conninfo, folder] = &arguments[..] else {
        return Err("usage: backup_to_folder CONNINFO DIR".into());
    };
    let mut client = Client::connect(&conninfo.parse()?, Session::PhysicalReplication)?;
    let repository = Repository::open_or_create(Arc::new(LocalStorage::create(folder)?))?;
    let cx = Context::new(Cancel::new(), Arc::new(Dots));
    let request = BackupRequest {
        wal: BackupWal::Included,
        ..BackupRequest::default()
    };
    let server = "main".parse()?;
    // A backup can go to several repositories in one pass.
    let targets = [BackupTarget {
        repository: &repository,
        compression: Compression::ZSTD,
        coverage: &NoArchive,
    }];
    let mut outcomes = backup(&cx, &mut client, &server, &targets, &request)?;
    let outcome = outcomes.pop().ok_or("no outcome")?;
    let entry = outcome.into_result()?;
    let size = entry.size;
    println!(
        "backup {} of {} files: {} bytes in {} bytes, consistent from {}",
        entry.label, size.files, size.raw_bytes, size.stored_bytes, entry.end_lsn
    );
    Ok(())
}
