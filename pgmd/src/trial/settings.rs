//! The settings of a trial's server: its own files, and nothing of the original's.
//!
//! The original's settings may name libraries, commands and servers that are none of a trial's business, or may lie outside
//! the data directory. Of `postgresql.auto.conf`, which PostgreSQL reads wherever its other settings are, only what the restore wrote
//! is kept. The server listens on a socket in a private folder alone, and does nothing by itself: it archives, vacuums
//! and replicates nothing. What a crash of it leaves is thrown away, so it syncs nothing.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pgm_backup::catalog::BackupEntry;

use super::error::TrialError;
use super::guard::guarded;
use super::programs::Programs;
use super::scratch::{PORT, Scratch};

const AUTO_CONF: &str = "postgresql.auto.conf";
/// What the restore writes into it.
const RECOVERY_SETTINGS: [&str; 2] = ["restore_command", "recovery_target"];
/// Room for prepared transactions when the control file does not say.
const PREPARED_TRANSACTIONS: u32 = 1000;
/// From which major version on triggers at login can be switched off.
const EVENT_TRIGGERS_SINCE: u32 = 17;

/// The file of settings.
pub(super) fn file(scratch: &Scratch) -> PathBuf {
    scratch.folder().join("postgresql.conf")
}

/// Writes all files of settings.
pub(super) fn write(
    programs: &Programs,
    scratch: &Scratch,
    entry: &BackupEntry,
) -> Result<(), TrialError> {
    let access = scratch.folder().join("pg_hba.conf");
    put(&access, "local all all trust\n")?;
    let names = scratch.folder().join("pg_ident.conf");
    put(&names, "")?;
    let prepared = prepared_transactions(programs, scratch).unwrap_or(PREPARED_TRANSACTIONS);
    let mut settings = settings(scratch, &access, &names, prepared);
    if entry.version.major() >= EVENT_TRIGGERS_SINCE {
        settings.push(("event_triggers", "off".to_owned()));
    }
    let lines = settings.iter().map(|(name, value)| {
        format!(
            "{name} = '{}'\n",
            value.replace('\\', r"\\").replace('\'', "''")
        )
    });
    put(&file(scratch), &lines.collect::<String>())?;
    keep_recovery(&scratch.data().join(AUTO_CONF))?;
    own_links(&scratch.data())
}

fn settings(
    scratch: &Scratch,
    access: &Path,
    names: &Path,
    prepared: u32,
) -> Vec<(&'static str, String)> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut settings = vec![
        ("listen_addresses", String::new()),
        ("unix_socket_directories", path(&scratch.socket_folder())),
        ("unix_socket_permissions", "0700".to_owned()),
        ("port", PORT.to_string()),
        ("hba_file", path(access)),
        ("ident_file", path(names)),
        ("max_prepared_transactions", prepared.to_string()),
        ("max_connections", "20".to_owned()),
        ("lc_messages", "C".to_owned()),
        ("log_destination", "stderr".to_owned()),
    ];
    let off = [
        "archive_mode",
        "autovacuum",
        "hot_standby",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "logging_collector",
        "restart_after_crash",
        "ssl",
        "huge_pages",
    ];
    settings.extend(off.map(|name| (name, "off".to_owned())));
    // No walsender, and no subscription reaches for its publisher.
    let none = ["max_wal_senders", "max_logical_replication_workers"];
    settings.extend(none.map(|name| (name, "0".to_owned())));
    let empty = [
        "shared_preload_libraries",
        "session_preload_libraries",
        "local_preload_libraries",
        "primary_conninfo",
        "primary_slot_name",
    ];
    settings.extend(empty.map(|name| (name, String::new())));
    settings
}

/// How many prepared transactions the original had room for; replaying more is fatal.
fn prepared_transactions(programs: &Programs, scratch: &Scratch) -> Option<u32> {
    let output = guarded(&programs.optional("pg_controldata")?)
        .arg(scratch.data())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("max_prepared_xacts setting:"))?;
    // More may have been allowed later, in the WAL that is replayed.
    line.trim()
        .parse::<u32>()
        .ok()
        .map(|count| count.max(PREPARED_TRANSACTIONS))
}

/// Drops everything from `postgresql.auto.conf` but the recovery settings.
fn keep_recovery(path: &Path) -> Result<(), TrialError> {
    let bytes = fs::read(path).map_err(|error| TrialError::file("read", path, error))?;
    let kept = String::from_utf8_lossy(&bytes)
        .lines()
        .filter(|line| RECOVERY_SETTINGS.iter().any(|name| line.starts_with(name)))
        .fold(String::new(), |text, line| text + line + "\n");
    put(path, &kept)
}

/// Links of the data directory lead to places of the original, which a trial does not touch: folders take their place.
fn own_links(data: &Path) -> Result<(), TrialError> {
    let failed = |error| TrialError::file("look into", data, error);
    for entry in fs::read_dir(data).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_symlink() {
            let path = entry.path();
            let replaced = fs::remove_file(&path).and_then(|()| fs::create_dir(&path));
            replaced.map_err(|error| TrialError::file("replace", &path, error))?;
        }
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<(), TrialError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| TrialError::file("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recovery_settings_stay_and_no_link_leads_outside() {
        let folder = tempfile::tempdir().unwrap();
        let auto = folder.path().join(AUTO_CONF);
        let text = "# ours\narchive_command = 'rm -rf /'\nshared_preload_libraries = 'x'\n\
                    restore_command = 'pgm-cli wal get'\nrecovery_target_timeline = '3'\n";
        fs::write(&auto, text).unwrap();
        keep_recovery(&auto).unwrap();
        assert_eq!(
            fs::read_to_string(&auto).unwrap(),
            "restore_command = 'pgm-cli wal get'\nrecovery_target_timeline = '3'\n"
        );
        let link = folder.path().join("pg_log");
        std::os::unix::fs::symlink("/var/log", &link).unwrap();
        own_links(folder.path()).unwrap();
        assert!(link.symlink_metadata().unwrap().is_dir());
        assert_eq!(fs::read_dir(&link).unwrap().count(), 0);
    }
}
