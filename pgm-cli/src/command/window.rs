//! Recovery windows in words: their first point and their last one.

use pgm_mgmt::{BackupDetails, RecoveryWindow};

/// `from 2026-11-22T02:35:10Z (0/3000100) to 2026-11-22T09:00:00.123456Z (0/5A1B2C8), timeline 1`: the last time is the last
/// commit's.
pub(super) fn in_words(window: &RecoveryWindow) -> String {
    format!(
        "{} {}, timeline {}",
        beginning(window),
        end(window),
        window.timeline
    )
}

fn beginning(window: &RecoveryWindow) -> String {
    format!("from {} ({})", window.from_time, window.from_lsn)
}

fn end(window: &RecoveryWindow) -> String {
    match &window.last_commit {
        Some(commit) => format!("to {} ({})", commit.time, window.to_lsn),
        None => format!("to {}, without a commit near it", window.to_lsn),
    }
}

/// The lines of `info`: name and text.
pub(super) fn lines(details: &BackupDetails) -> Vec<(&'static str, String)> {
    let Some(window) = &details.window else {
        let text = "not: the WAL that makes it consistent is not there";
        return vec![("Restorable", text.to_owned())];
    };
    let mut lines = vec![
        ("Restorable", beginning(window)),
        ("", format!("{}, timeline {}", end(window), window.timeline)),
    ];
    if let Some(commit) = &window.last_commit {
        let text = format!("transaction {}, committed at {}", commit.xid, commit.time);
        lines.push(("Last commit", format!("{text} ({})", commit.lsn)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use pgm_mgmt::PlannedTransaction;
    use pgm_proto::{Lsn, TimelineId};

    use super::*;

    #[test]
    fn both_ends_are_named_with_position_and_time() {
        let mut window = RecoveryWindow {
            backups: vec!["20261122T023456Z".to_owned()],
            from_lsn: Lsn::new(0x0300_0100),
            from_time: "2026-11-22T02:35:10Z".to_owned(),
            to_lsn: Lsn::new(0x05A1_B2C8),
            timeline: TimelineId::FIRST,
            last_commit: Some(PlannedTransaction {
                xid: 749,
                lsn: Lsn::new(0x05A1_B298),
                time: "2026-11-22T09:00:00.123456Z".to_owned(),
            }),
        };
        let expected = "from 2026-11-22T02:35:10Z (0/3000100) to 2026-11-22T09:00:00.123456Z (0/5A1B2C8), timeline 1";
        assert_eq!(in_words(&window), expected);
        window.last_commit = None;
        let expected = "from 2026-11-22T02:35:10Z (0/3000100) to 0/5A1B2C8, without a commit near it, timeline 1";
        assert_eq!(in_words(&window), expected);
    }
}
