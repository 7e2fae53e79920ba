//! The recovery settings of a restored server: `recovery.signal` and the lines of `postgresql.auto.conf`.
//!
//! The file came with the backup and keeps every other setting. Recovery settings that an earlier restore left in it
//! are dropped, because PostgreSQL refuses to start with two targets. No password is ever written here.

use pgm_proto::TimelineId;

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
pub(super) fn rewrite(existing: &str, settings: &RecoverySettings<'_>) -> String {
    let mut text = without_recovery_settings(existing);
    text.push_str(&lines(settings));
    text
}

/// Drops recovery settings from a configuration text.
pub(super) fn without_recovery_settings(existing: &str) -> String {
    let kept = existing.lines().filter(|line| !is_recovery_setting(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn is_recovery_setting(line: &str) -> bool {
    let name_end = |c: char| c == '=' || c.is_whitespace();
    let name = line.trim_start().split(name_end).next().unwrap_or("").to_ascii_lowercase();
    name.starts_with("recovery_target") || name == "restore_command" || name == "recovery_end_command"
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
    lines.into_iter().map(|(name, value)| format!("{name} = {}\n", quoted(&value))).collect()
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

    #[test]
    fn settings_of_an_earlier_restore_are_replaced_and_others_kept() {
        let existing = "# Do not edit\nwork_mem = '8MB'\nRecovery_Target_xid = '5'\n restore_command='x'\n\
                        primary_conninfo = 'host=a'";
        let target = Target::Time("2026-11-22T10:00:00.5Z".parse().unwrap());
        assert_eq!(
            rewrite(existing, &settings(&target)),
            "# Do not edit\nwork_mem = '8MB'\nprimary_conninfo = 'host=a'\n\
             restore_command = 'pgm-cli wal get --repository ''/var/my repo'' s %f \"%p\"'\n\
             recovery_target_time = '2026-11-22 10:00:00.500000+00'\n\
             recovery_target_timeline = '1'\nrecovery_target_action = 'promote'\n"
        );
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let target = Target::Name("a'b\\c".into());
        assert!(rewrite("", &settings(&target)).contains("recovery_target_name = 'a''b\\\\c'\n"));
    }

    #[test]
    fn the_end_of_the_archive_needs_no_target() {
        let text = rewrite("", &settings(&Target::Latest));
        assert!(!text.contains("recovery_target_action") && text.contains("recovery_target_timeline = '1'"));
    }
}
