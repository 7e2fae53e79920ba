//! Recovery windows: the stretches of time to any moment of which a server can be restored.
//!
//! A window begins where its oldest backup is consistent and goes as far as WAL follows without a hole. The newest one
//! goes up to what is durable here, because `restore` reads the spool, too.

use jiff::Timestamp;
use pgm_mgmt::Gap;
use pgm_proto::{Lsn, TimelineId};

use super::catalog::{Backup, ServerCatalog};

/// One stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct Window {
    /// Its first moment.
    pub(in crate::service) from: Timestamp,
    /// Its last moment.
    pub(in crate::service) to: Timestamp,
    /// How many backups begin in it.
    pub(in crate::service) backups: usize,
    /// Whether it grows with the server.
    pub(in crate::service) growth: Growth,
}

/// Whether a window grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Growth {
    /// What the server writes goes on to it.
    Live,
    /// It is closed: something is missing behind it, or the server went another way.
    Closed,
}

/// What is received right now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) timeline: TimelineId,
    /// How far it is durable here.
    pub(super) durable: Lsn,
    /// The moment up to which everything is durable.
    pub(super) until: Timestamp,
}

/// The windows of one server, oldest first.
pub(super) fn windows(catalog: &ServerCatalog, gaps: &[Gap], live: Option<Live>) -> Vec<Window> {
    let mut windows: Vec<(Option<(TimelineId, Lsn)>, Window)> = Vec::new();
    for backup in catalog.backups.iter().filter(|backup| backup.is_sound()) {
        let live = live.filter(|live| goes_on(backup, catalog.archived, gaps, live));
        let (end, to, growth) = match live {
            Some(live) => (None, Some(live.until), Growth::Live),
            None if backup.reach.1 >= backup.end => {
                let to = catalog.timeline.time_of(backup.reach.1);
                (Some(backup.reach), to, Growth::Closed)
            }
            None => continue,
        };
        if let Some((_, window)) = windows.iter_mut().find(|(known, _)| *known == end) {
            window.backups += 1;
            continue;
        }
        let from = backup.stopped;
        let window = Window {
            from,
            to: to.unwrap_or(from).max(from),
            backups: 1,
            growth,
        };
        windows.push((end, window));
    }
    windows.into_iter().map(|(_, window)| window).collect()
}

/// Whether what is received now continues the WAL of `backup` without a hole.
fn goes_on(backup: &Backup, archived: Option<Lsn>, gaps: &[Gap], live: &Live) -> bool {
    let (timeline, reach) = backup.reach;
    let hole = gaps
        .iter()
        .any(|gap| gap.timeline == timeline && gap.from >= backup.start && gap.from < live.durable);
    timeline == live.timeline
        && !hole
        && live.durable >= backup.end
        && archived.is_none_or(|archived| reach >= archived)
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Soundness;
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn backup(at: i64, start: u64, reach: u64) -> Backup {
        Backup {
            label: String::new(),
            started: second(at),
            stopped: second(at + 1),
            timeline: TimelineId::FIRST,
            start: Lsn::new(start),
            end: Lsn::new(start + 10),
            raw_bytes: 0,
            stored_bytes: 0,
            checksums: true,
            soundness: Soundness::Valid,
            proof: None,
            reach: (TimelineId::FIRST, Lsn::new(reach)),
        }
    }

    fn catalog(archived: u64, backups: Vec<Backup>) -> ServerCatalog {
        let mut catalog = ServerCatalog {
            backups,
            archived: Some(Lsn::new(archived)),
            ..ServerCatalog::default()
        };
        for position in 0..100 {
            catalog
                .timeline
                .add(Lsn::new(position * 10), second(position.cast_signed()));
        }
        catalog.timeline.sort();
        catalog
    }

    fn live(durable: u64) -> Live {
        Live {
            timeline: TimelineId::FIRST,
            durable: Lsn::new(durable),
            until: second(99),
        }
    }

    #[test]
    fn a_hole_ends_one_window_and_a_later_backup_begins_the_next() {
        let catalog = catalog(
            800,
            vec![backup(1, 10, 300), backup(2, 20, 300), backup(50, 500, 800)],
        );
        let gap = Gap {
            timeline: TimelineId::FIRST,
            from: Lsn::new(300),
            to: Lsn::new(400),
        };
        let windows = windows(&catalog, &[gap], Some(live(850)));
        let expected = [
            (second(2), second(30), 2, Growth::Closed),
            (second(51), second(99), 1, Growth::Live),
        ];
        let seen: Vec<_> = windows
            .iter()
            .map(|window| (window.from, window.to, window.backups, window.growth))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_backup_whose_wal_is_still_in_the_spool_opens_a_window() {
        let catalog = catalog(5, vec![backup(1, 10, 10)]);
        assert_eq!(
            windows(&catalog, &[], Some(live(25)))[0].growth,
            Growth::Live
        );
        assert_eq!(windows(&catalog, &[], Some(live(15))), []);
        assert_eq!(windows(&catalog, &[], None), []);
    }

    #[test]
    fn damaged_backups_open_nothing() {
        let mut damaged = backup(1, 10, 300);
        damaged.soundness = Soundness::Damaged;
        assert_eq!(windows(&catalog(300, vec![damaged]), &[], None), []);
    }
}
