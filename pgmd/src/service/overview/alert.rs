//! What a person should do something about, most urgent first.

use std::time::Duration;

use pgm_mgmt::{JobKind, ServerState};
use pgm_storage::Space;

use super::words;
use crate::service::facts::{Facts, ServerFacts, Soundness};
use crate::supervisor::Outcome;

/// A newest backup that is older than this is worth a word.
const BACKUP_AGE_MAX: Duration = Duration::from_hours(8 * 24);
/// So is a certificate that ends so soon.
const CERTIFICATE_ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) urgency: Urgency,
    /// The server, when it is about one.
    pub(super) server: Option<String>,
    /// What is wrong.
    pub(super) text: String,
    /// What to do.
    pub(super) hint: Option<String>,
    /// Since when, in words.
    pub(super) since: Option<String>,
}

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Data is not safe, or cannot be given back.
    Bad,
    /// It will be like that if nothing is done.
    Warn,
}

impl Urgency {
    /// Its class in the page.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warn => "warn",
        }
    }
}

/// All of them.
pub(super) fn alerts(facts: &Facts) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = facts
        .servers
        .iter()
        .flat_map(|server| of_server(facts, server))
        .collect();
    alerts.extend(of_daemon(facts));
    alerts.sort_by_key(|alert| alert.urgency);
    alerts
}

fn alert(urgency: Urgency, text: impl Into<String>, hint: Option<&str>) -> Alert {
    Alert {
        urgency,
        server: None,
        text: text.into(),
        hint: hint.map(str::to_owned),
        since: None,
    }
}

fn of_server(facts: &Facts, server: &ServerFacts) -> Vec<Alert> {
    let mut alerts = Vec::new();
    if let Some(problem) = &server.problem {
        alerts.push(Alert {
            since: Some(words::ago(facts.now, problem.at)),
            ..alert(Urgency::Bad, &problem.text, problem.hint.as_deref())
        });
    } else if server.state == ServerState::Stopped {
        let hint = "see pgmd's log, or bring it online again";
        alerts.push(alert(Urgency::Bad, "its wal is not received", Some(hint)));
    } else if server.state == ServerState::Offline {
        let hint = format!("bring it back: pgm-cli mode {} online", server.name);
        let text = "it is offline, as was ordered: its wal is not received";
        alerts.push(alert(Urgency::Warn, text, Some(&hint)));
    } else if server.identity.is_none() {
        alerts.push(alert(
            Urgency::Warn,
            "it has not been reached since pgmd started",
            None,
        ));
    }
    alerts.extend(open_gap(server));
    alerts.extend(backups(facts, server));
    for alert in &mut alerts {
        alert.server = Some(server.name.to_string());
    }
    alerts
}

/// A hole that no backup lies behind.
fn open_gap(server: &ServerFacts) -> Option<Alert> {
    let newest = server.newest_backup().map(|of| (of.timeline, of.start));
    let gap = server
        .gaps
        .iter()
        .rfind(|gap| newest.is_none_or(|newest| newest < (gap.timeline, gap.to)))?;
    let text = format!(
        "wal is missing from {} to {} on timeline {}: no restore can cross the hole",
        gap.from, gap.to, gap.timeline
    );
    let hint = format!("take a new full backup: pgm-cli backup {}", server.name);
    Some(alert(Urgency::Bad, text, Some(&hint)))
}

fn backups(facts: &Facts, server: &ServerFacts) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let damaged = server.backups().iter();
    let damaged: Vec<&str> = damaged
        .filter(|backup| backup.soundness == Soundness::Damaged)
        .map(|backup| backup.label.as_str())
        .collect();
    if let Some(label) = damaged.first() {
        let text = match damaged.len() {
            1 => format!("backup {label} is damaged"),
            several => format!("{several} backups are damaged, {label} is one of them"),
        };
        let hint = format!("look at it: pgm-cli info {} {label}", server.name);
        alerts.push(alert(Urgency::Warn, text, Some(&hint)));
    }
    let key = (server.name.clone(), JobKind::Backup.to_string());
    let failed = facts.counts.jobs.get(&key).and_then(|of| of.last_failure);
    let newest = server.newest_backup().map(|backup| backup.stopped);
    let take_one = format!("take one: pgm-cli backup {}", server.name);
    if failed > newest {
        alerts.push(Alert {
            since: failed.map(|at| words::ago(facts.now, at)),
            ..alert(
                Urgency::Warn,
                "the last backup failed",
                Some("see pgmd's log"),
            )
        });
    }
    let running = |kind| {
        facts
            .jobs
            .iter()
            .any(|of| of.kind == kind && of.server == server.name)
    };
    match newest {
        None if server.catalog.is_some()
            && server.identity.is_some()
            && !running(JobKind::Backup) =>
        {
            let text = "there is no backup yet, so nothing can be restored";
            alerts.push(alert(Urgency::Warn, text, Some(&take_one)));
        }
        Some(at) if words::since(facts.now, at) > BACKUP_AGE_MAX => {
            let age = words::duration(words::since(facts.now, at));
            let text = format!("the newest backup is {age} old, so a restore takes long");
            alerts.push(alert(Urgency::Warn, text, Some(&take_one)));
        }
        _ => {}
    }
    alerts
}

fn of_daemon(facts: &Facts) -> Vec<Alert> {
    let mut alerts = Vec::new();
    if let Some(error) = facts
        .repository
        .look
        .as_ref()
        .and_then(|look| look.error.as_ref())
    {
        let text = format!("the repository cannot be read: {error}");
        let hint = "make it reachable again; meanwhile wal is kept in the spool";
        alerts.push(alert(Urgency::Bad, text, Some(hint)));
    }
    let (repository, spool) = (facts.repository.space, facts.repository.spool_space);
    if is_one_medium(repository, spool) {
        let hint = "give it more room, or keep fewer backups: when it is full, wal stops";
        alerts.extend(room("the disk of repository and spool", spool, hint));
    } else {
        let hint = "give it more room, or keep fewer backups";
        alerts.extend(room("the repository", repository, hint));
        let hint = "give it more room: when it is full, wal stops";
        alerts.extend(room("the spool", spool, hint));
    }
    if let Some(reading) = facts.counts.configuration
        && reading.outcome == Outcome::Failure
    {
        alerts.push(Alert {
            since: Some(words::ago(facts.now, reading.at)),
            ..alert(
                Urgency::Warn,
                "the configuration could not be read again; the old one is in force",
                Some("pgmd --check-config says what is wrong with it"),
            )
        });
    }
    for (what_for, until) in &facts.certificates {
        let left = words::since(*until, facts.now);
        if left < CERTIFICATE_ENDS_SOON {
            let text = match left.as_secs() {
                0 => format!("the certificate of {what_for} has expired"),
                _ => format!(
                    "the certificate of {what_for} expires in {}",
                    words::duration(left)
                ),
            };
            alerts.push(alert(
                Urgency::Warn,
                text,
                Some("put a new one in its place"),
            ));
        }
    }
    alerts
}

/// Two looks at one medium differ by what was written between them.
fn is_one_medium(one: Option<Space>, other: Option<Space>) -> bool {
    one.zip(other).is_some_and(|(one, other)| {
        one.total == other.total && one.free.abs_diff(other.free) < one.total / 100
    })
}

fn room(of: &str, space: Option<Space>, hint: &str) -> Option<Alert> {
    let space = space?;
    let percent = space.free.saturating_mul(100).checked_div(space.total)?;
    let urgency = match percent {
        0..3 => Urgency::Bad,
        3..10 => Urgency::Warn,
        _ => return None,
    };
    let text = format!(
        "{of} has {} free of {}",
        words::bytes(space.free),
        words::bytes(space.total)
    );
    Some(alert(urgency, text, Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::facts::sample;

    fn texts(facts: &Facts) -> Vec<String> {
        let line = |alert: Alert| {
            let server = alert
                .server
                .map(|name| format!("{name}: "))
                .unwrap_or_default();
            format!("{} {server}{}", alert.urgency.class(), alert.text)
        };
        alerts(facts).into_iter().map(line).collect()
    }

    #[test]
    fn what_is_wrong_is_said_and_what_is_well_is_not() {
        assert_eq!(
            texts(&sample::facts()),
            [
                "bad sales: cannot connect to \"db2\": connection refused <& \"quoted\">",
                "warn sales: backup 20260303T180000Z is damaged",
                "warn sales: the last backup failed",
                "warn new: it has not been reached since pgmd started",
            ]
        );
    }

    #[test]
    fn an_open_hole_and_a_full_disk_are_urgent() {
        let mut facts = sample::facts();
        facts.servers.truncate(2);
        facts.servers[1]
            .catalog
            .as_mut()
            .unwrap()
            .backups
            .truncate(1);
        facts.servers[1].problem = None;
        facts.repository.space = Some(Space {
            free: 1 << 30,
            total: 100 << 30,
        });
        assert_eq!(
            texts(&facts)[..2],
            [
                "bad sales: wal is missing from 0/28000000 to 0/32000000 on timeline 1: no restore can cross the hole",
                "bad the repository has 1.0 GiB free of 100 GiB",
            ]
        );
    }
}
