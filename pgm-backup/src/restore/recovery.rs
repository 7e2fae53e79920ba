//! The recovery settings of a restored server: `recovery.signal` and the lines of `postgresql.auto.conf`.
//!
//! The file came with the backup and keeps every other setting. Recovery settings that an earlier restore left in it
//! are dropped, because PostgreSQL refuses to start with two targets. No password is ever written here.

use pgm_proto::TimelineId;

use super::StandbySettings;
use super::target::{Boundary, Target, TargetAction};

/// The file that PostgreSQL reads after `postgresql.conf`.
pub(super) const AUTO_CONF: &str = "postgresql.auto.conf";
/// The file that makes PostgreSQL recover from the archive.
pub(super) const SIGNAL: &str = "recovery.signal";

/// What the restored server is told about its recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecoverySettings<'a> {
    pub(super) restore_command: &'a str,
    pub(super) target: &'a Target,
    pub(super) boundary: Boundary,
    pub(super) action: TargetAction,
    pub(super) timeline: TimelineId,
}

/// Gives `existing`, the content of `postgresql.auto.conf`, these recovery settings in place of those it has.
///
/// Both are bytes: values of settings may be in any encoding.
pub(super) fn rewrite(existing: &[u8], settings: &RecoverySettings<'_>) -> Vec<u8> {
    with_lines(existing, &lines(settings), |_| false)
}

/// The same for a standby. Of where it streams from, what `existing` says stays unless another place is given.
pub(super) fn rewrite_standby(existing: &[u8], settings: &StandbySettings) -> Vec<u8> {
    let mut lines = vec![
        ("restore_command", settings.restore_command.clone()),
        ("recovery_target_timeline", "latest".to_owned()),
    ];
    if let Some(primary) = &settings.primary_conninfo {
        lines.push(("primary_conninfo", primary.clone()));
    }
    with_lines(existing, &written(lines), |name| {
        name == "primary_conninfo" && settings.primary_conninfo.is_some()
    })
}

/// `existing` without recovery settings and those that are `replaced`, and behind it `new`.
fn with_lines(existing: &[u8], new: &str, replaced: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(existing.len() + 512);
    for line in existing.split_inclusive(|&byte| byte == b'\n') {
        let name = setting_name(line);
        if !is_recovery_setting(&name) && !replaced(&name) {
            text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            text.push(b'\n');
        }
    }
    text.extend_from_slice(new.as_bytes());
    text
}

/// The setting that a line is for, in small letters.
fn setting_name(line: &[u8]) -> String {
    let name = String::from_utf8_lossy(line).to_ascii_lowercase();
    let name_end = |c: char| c == '=' || c.is_whitespace();
    let name = name.trim_start().split(name_end).next();
    name.unwrap_or("").to_owned()
}

fn is_recovery_setting(name: &str) -> bool {
    name.starts_with("recovery_target")
        || name == "restore_command"
        || name == "recovery_end_command"
}

fn lines(settings: &RecoverySettings<'_>) -> String {
    let mut lines = vec![("restore_command", settings.restore_command.to_owned())];
    match settings.target {
        Target::Latest => {}
        Target::Immediate => lines.push(("recovery_target", "immediate".into())),
        // PostgreSQL takes microseconds, and reads the zone from the text.
        Target::Time(time) => lines.push((
            "recovery_target_time",
            time.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string(),
        )),
        Target::Lsn(lsn) => lines.push(("recovery_target_lsn", lsn.to_string())),
        Target::Xid(xid) => lines.push(("recovery_target_xid", xid.to_string())),
        Target::Name(name) => lines.push(("recovery_target_name", name.clone())),
    }
    if settings.boundary == Boundary::Exclusive {
        lines.push(("recovery_target_inclusive", "off".into()));
    }
    lines.push(("recovery_target_timeline", settings.timeline.to_string()));
    if *settings.target != Target::Latest {
        lines.push(("recovery_target_action", settings.action.word().into()));
    }
    written(lines)
}

fn written(lines: Vec<(&str, String)>) -> String {
    lines
        .into_iter()
        .fold(String::new(), |text, (name, value)| {
            text + name + " = " + &quoted(&value) + "\n"
        })
}

/// A value in single quotes, as `guc-file.l` reads it back.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(target: &Target) -> RecoverySettings<'_> {
        RecoverySettings {
            restore_command: "pgm-cli wal get --repository '/var/my repo' s %f \"%p\"",
            target,
            boundary: Boundary::Inclusive,
            action: TargetAction::Promote,
            timeline: TimelineId::FIRST,
        }
    }

    fn rewrite_text(existing: &str, settings: &RecoverySettings<'_>) -> String {
        String::from_utf8(rewrite(existing.as_bytes(), settings)).unwrap()
    }

    #[test]
    fn settings_of_an_earlier_restore_are_replaced_and_others_kept() {
        let existing = "# Do not edit\nwork_mem = '8MB'\nRecovery_Target_xid = '5'\n restore_command='x'\n\
                        primary_conninfo = 'host=a'";
        let target = Target::Time("2026-11-22T10:00:00.5Z".parse().unwrap());
        assert_eq!(
            rewrite_text(existing, &settings(&target)),
            "# Do not edit\nwork_mem = '8MB'\nprimary_conninfo = 'host=a'\n\
             restore_command = 'pgm-cli wal get --repository ''/var/my repo'' s %f \"%p\"'\n\
             recovery_target_time = '2026-11-22 10:00:00.500000+00'\n\
             recovery_target_timeline = '1'\nrecovery_target_action = 'promote'\n"
        );
    }

    #[test]
    fn a_standby_follows_the_newest_timeline_and_streams_from_where_it_is_told() {
        let existing = b"primary_conninfo = 'host=old'\nrestore_command = 'x'\nwork_mem = '8MB'\n";
        let mut settings = StandbySettings {
            restore_command: "y".into(),
            ..StandbySettings::default()
        };
        let kept = String::from_utf8(rewrite_standby(existing, &settings)).unwrap();
        assert_eq!(
            kept,
            "primary_conninfo = 'host=old'\nwork_mem = '8MB'\nrestore_command = 'y'\n\
             recovery_target_timeline = 'latest'\n"
        );
        settings.primary_conninfo = Some("host='new one'".into());
        let replaced = String::from_utf8(rewrite_standby(existing, &settings)).unwrap();
        assert_eq!(
            replaced,
            "work_mem = '8MB'\nrestore_command = 'y'\nrecovery_target_timeline = 'latest'\n\
             primary_conninfo = 'host=''new one'''\n"
        );
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let target = Target::Name("a'b\\c".into());
        assert!(
            rewrite_text("", &settings(&target)).contains("recovery_target_name = 'a''b\\\\c'\n")
        );
    }

    #[test]
    fn the_end_of_the_archive_needs_no_target() {
        let text = rewrite_text("", &settings(&Target::Latest));
        assert!(
            !text.contains("recovery_target_action")
                && text.contains("recovery_target_timeline = '1'")
        );
    }
}
