//! Directories that are kept ready to be started as standbys.

use pgm_mgmt::StandbyResult;

use super::family::{Family, Kind};

/// All of them are reported, also as 0, so that alerts have something to look at.
const RESULTS: [StandbyResult; 3] = [
    StandbyResult::Updated,
    StandbyResult::Skipped,
    StandbyResult::Failed,
];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_standby_updates_total",
        kind: Kind::Counter,
        help: "Attempts to bring a standby's directory to the newest backup, by result; skipped is one that runs.",
        labels: &["server", "standby", "result"],
        samples: |facts, out| {
            for one in &facts.standbys {
                for result in RESULTS {
                    let count = one.ends.counts.get(&result).copied().unwrap_or_default();
                    let labels = [one.server.as_str(), &one.name, result.name()];
                    out.add(&labels, count.into());
                }
            }
        },
    },
    Family {
        name: "pgm_standby_updated_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When a standby's directory was last brought to the newest backup, since pgmd started.",
        labels: &["server", "standby"],
        samples: |facts, out| {
            for one in &facts.standbys {
                if let Some((at, _)) = &one.ends.updated {
                    out.add(&[one.server.as_str(), &one.name], (*at).into());
                }
            }
        },
    },
    Family {
        name: "pgm_standby_failed",
        kind: Kind::Gauge,
        help: "Whether the newest attempt to bring a standby's directory to the newest backup failed.",
        labels: &["server", "standby"],
        samples: |facts, out| {
            for one in &facts.standbys {
                let failed = one.ends.result() == Some(StandbyResult::Failed);
                out.add(&[one.server.as_str(), &one.name], failed.into());
            }
        },
    },
];
