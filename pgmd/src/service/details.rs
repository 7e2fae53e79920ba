//! The details of the status: what has to be looked up in the repository, and facts of the processes.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use pgm_backup::Repository;
use pgm_mgmt::{
    BackupStatus, BackupSummary, Error, MediumDetails, RestorePoint, ServerDetails, StatusDetails,
    WalStretch, WrittenSetting,
};
use pgm_proto::ServerName;
use pgm_storage::{LocalStorage, Storage as _};
use pgm_wal::archive::{Archive, ArchiveError};

use super::answer::blocking;
use super::status;
use crate::config::Config;
use crate::known_repository;
use crate::listing;
use crate::repository::chain;
use crate::supervisor::Daemon;
use crate::windows::ServerWal;

/// The details of all servers, or of one.
pub(super) async fn details(
    daemon: &Arc<Daemon>,
    only: Option<ServerName>,
) -> Result<StatusDetails, Error> {
    let status = status::status(daemon, only).await?;
    let config = daemon.config();
    let servers = status.servers.iter();
    let mut servers: Vec<ServerDetails> = servers.map(|server| facts(daemon, server)).collect();
    let (servers, config) = blocking(move || {
        look_up(&config, &mut servers);
        Ok((servers, config))
    })
    .await?;
    Ok(StatusDetails {
        status,
        uptime_seconds: seconds_since(daemon.started()),
        repository: repository_medium(&config),
        spool: medium(&config.spool),
        settings: settings(&config),
        servers,
    })
}

fn seconds_since(moment: jiff::Timestamp) -> u64 {
    let seconds = jiff::Timestamp::now().as_second() - moment.as_second();
    u64::try_from(seconds).unwrap_or(0)
}

/// What is known without looking anything up.
fn facts(daemon: &Daemon, server: &pgm_mgmt::ServerStatus) -> ServerDetails {
    ServerDetails {
        server: server.server.clone(),
        mode: daemon.mode(&server.server),
        worker_pid: server.worker_pid,
        worker_seconds: server.worker_pid.and_then(process_age),
        restarts: server.restarts,
        backup_raw_bytes: 0,
        backup_stored_bytes: 0,
        wal_objects: 0,
        wal_stored_bytes: 0,
        spool_bytes: server.spool_bytes,
        timelines: Vec::new(),
        oldest_backup: None,
        windows: Vec::new(),
        newest_backup: None,
        proven: None,
        repository_error: None,
    }
}

/// Seconds since the process started, as the kernel counts.
fn process_age(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    age(&stat, &uptime, rustix::param::clock_ticks_per_second())
}

fn age(stat: &str, uptime: &str, ticks_per_second: u64) -> Option<u64> {
    // The name in parentheses may contain anything; the third field follows it, the start is the 22nd.
    let (_, rest) = stat.rsplit_once(") ")?;
    let started: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let up: u64 = uptime.split('.').next()?.parse().ok()?;
    Some(up.saturating_sub(started / ticks_per_second.max(1)))
}

fn look_up(config: &Config, servers: &mut [ServerDetails]) {
    let opened = known_repository::open(&config.repository.place(), &config.spool);
    for details in servers {
        let looked = match &opened {
            Ok(repository) => look_up_server(config, repository, details),
            Err(error) => Err(chain(error)),
        };
        details.repository_error = looked.err();
    }
}

fn look_up_server(
    config: &Config,
    repository: &Repository,
    details: &mut ServerDetails,
) -> Result<(), String> {
    let (catalog, backups) =
        listing::catalog(repository, &details.server).map_err(|error| error.text)?;
    details.backup_raw_bytes = backups.iter().map(|backup| backup.raw_bytes).sum();
    details.backup_stored_bytes = backups.iter().map(|backup| backup.stored_bytes).sum();
    let sound = |backup: &&BackupSummary| backup.status != BackupStatus::Damaged;
    details.oldest_backup = backups.iter().find(sound).map(point);
    details.newest_backup = backups.iter().rev().find(sound).map(point);
    details.proven = listing::proven(&backups);
    let spool = config.spool_of(&details.server);
    ServerWal::look(repository, &details.server, Some(&spool))
        .and_then(|wal| {
            details.windows = wal.windows(catalog.backups(), &backups)?;
            look_up_wal(repository, &wal, details)
        })
        .map_err(|error| chain(&error))
}

fn look_up_wal(
    repository: &Repository,
    wal: &ServerWal,
    details: &mut ServerDetails,
) -> Result<(), ArchiveError> {
    let Some(index) = wal.index() else {
        return Ok(());
    };
    let archive = Archive::new(Arc::clone(repository.storage()), details.server.clone());
    let intervals = index.intervals().into_iter();
    let stretches = intervals.map(|interval| WalStretch {
        timeline: interval.timeline,
        from: interval.start,
        to: interval.end,
    });
    details.timelines = stretches.collect();
    archive.list(index.segment_size(), &mut |_, bytes| {
        details.wal_objects += 1;
        details.wal_stored_bytes += bytes;
        ControlFlow::Continue(())
    })
}

fn point(backup: &BackupSummary) -> RestorePoint {
    RestorePoint {
        label: backup.label.clone(),
        from_time: backup.stopped.clone(),
        from_lsn: backup.end_lsn,
    }
}

fn repository_medium(config: &Config) -> MediumDetails {
    let place = config.repository.place();
    match place.folder() {
        Some(folder) => medium(&folder),
        None => MediumDetails {
            path: place.to_string(),
            total_bytes: None,
            used_bytes: None,
            free_bytes: None,
        },
    }
}

fn medium(folder: &Path) -> MediumDetails {
    let space = LocalStorage::open(folder)
        .ok()
        .and_then(|storage| storage.space().ok().flatten());
    MediumDetails {
        path: folder.display().to_string(),
        total_bytes: space.map(|space| space.total),
        used_bytes: space.map(|space| space.total.saturating_sub(space.free)),
        free_bytes: space.map(|space| space.free),
    }
}

fn settings(config: &Config) -> Vec<WrittenSetting> {
    let entries = config.entries.iter();
    let written = entries.filter(|entry| entry.line.is_some());
    written
        .map(|entry| WrittenSetting {
            key: entry.key.clone(),
            value: entry.value.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_process_is_what_the_kernel_says() {
        let stat = "42 (a) b) ) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 7 0 99950 8192000 300";
        assert_eq!(age(stat, "1010.77 5000.00\n", 100), Some(11));
        assert_eq!(age(stat, "900.00 1.00\n", 100), Some(0));
        assert_eq!(age("", "900.00", 100), None);
        assert!(process_age(std::process::id()).is_some());
    }
}
