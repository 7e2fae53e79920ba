//! Restores the newest backup from which a moment can be reached, and lets PostgreSQL recover to that moment.
//!
//! ```text
//! restore_to_time REPOSITORY SERVER TIME DIR 'pgm-cli wal get --repository REPOSITORY SERVER "%f" "%p"'
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use pgm_backup::restore::{
    BackupChoice, Boundary, Existing, Recovery, RestoreRequest, RestoreSource, Target,
    TargetAction, TimelineChoice, plan, restore,
};
use pgm_backup::{Context, Repository};
use pgm_proto::ServerName;
use pgm_storage::LocalStorage;
use pgm_wal::archive::Archive;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [repository, server, time, directory, restore_command] = &arguments[..] else {
        return Err("usage: restore_to_time REPOSITORY SERVER TIME DIR RESTORE_COMMAND".into());
    };
    let server: ServerName = server.parse()?;
    let repository = Repository::open(Arc::new(LocalStorage::open(Path::new(repository))?))?;
    let archive = Archive::new(Arc::clone(repository.storage()), server.clone());
    let request = RestoreRequest {
        backup: BackupChoice::Newest,
        directory: std::path::absolute(directory)?,
        existing: Existing::Refuse,
        target: Target::Time(time.parse()?),
        boundary: Boundary::Inclusive,
        timeline: TimelineChoice::Newest,
        action: TargetAction::Promote,
        tablespaces: Vec::new(),
        recovery: Recovery::Command(restore_command.clone()),
    };
    let cx = Context::quiet();
    // Refused here, before a byte is written, when the moment cannot be reached.
    let plan = plan(&cx, &repository, &archive, None, &server, request)?;
    println!(
        "backup {}, timeline {}, {} WAL segments",
        plan.entry.label, plan.timeline, plan.wal_segments
    );
    let report = restore(&cx, RestoreSource::new(&repository, &archive), &plan)?;
    println!(
        "{} files, {} bytes in {:?}",
        report.files, report.bytes, report.elapsed
    );
    Ok(())
}
