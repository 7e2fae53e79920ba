//! Directories that are kept ready to be started as standbys: after each backup of a server its own are brought up to date, one
//! after the other, each by a job. What becomes of that never touches the backup.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use pgm_mgmt::{Error, ErrorCode, JobKind, Response, Role, StandbyResult, StandbyStatus};
use pgm_proto::ServerName;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::daemon::lock;
use super::{Daemon, JobRequest};
use crate::config::{Config, StandbyConfig};
use crate::repository::second;
use crate::service::{Caller, Origin};
use crate::worker::{StandbyOptions, Task};

/// Whose turn it is, and how the last ones ended.
#[derive(Debug, Default)]
pub struct Standbys {
    due: Mutex<BTreeSet<ServerName>>,
    /// Somebody is due.
    added: Notify,
    ends: Mutex<BTreeMap<String, StandbyEnds>>,
}

/// How the attempts to bring one up to date ended, since the daemon started.
#[derive(Debug, Clone, Default)]
pub struct StandbyEnds {
    /// How many, by result.
    pub counts: BTreeMap<StandbyResult, u64>,
    /// The newest.
    pub last: Option<StandbyEnd>,
    /// When one last updated it, and to which backup.
    pub updated: Option<(Timestamp, String)>,
}

/// One end.
#[derive(Debug, Clone)]
pub struct StandbyEnd {
    at: Timestamp,
    result: StandbyResult,
    /// Why, unless it was updated, and what to do.
    reason: Option<(String, Option<String>)>,
}

impl StandbyEnds {
    /// How the newest attempt ended.
    pub fn result(&self) -> Option<StandbyResult> {
        self.last.as_ref().map(|last| last.result)
    }
}

impl Standbys {
    /// A backup of `server` succeeded.
    pub(super) fn backup_taken(&self, config: &Config, server: &ServerName) {
        if config.standbys.values().any(|one| one.server == *server) {
            lock(&self.due).insert(server.clone());
            self.added.notify_one();
        }
    }

    /// How the attempts on this one ended.
    pub fn ends(&self, name: &str) -> StandbyEnds {
        lock(&self.ends).get(name).cloned().unwrap_or_default()
    }

    /// How the standbys of `server` are.
    pub fn status(&self, config: &Config, server: &ServerName) -> Vec<StandbyStatus> {
        let own = config
            .standbys
            .iter()
            .filter(|(_, one)| one.server == *server);
        own.map(|(name, entry)| status(name, entry, self.ends(name)))
            .collect()
    }

    async fn next(&self) -> ServerName {
        loop {
            if let Some(server) = lock(&self.due).pop_first() {
                return server;
            }
            self.added.notified().await;
        }
    }

    fn note(&self, config: &Config, name: &str, outcome: &Result<Response, Error>) {
        let at = Timestamp::now();
        let mut all = lock(&self.ends);
        // Those that are no longer configured are forgotten.
        all.retain(|name, _| config.standbys.contains_key(name));
        let ends = all.entry(name.to_owned()).or_default();
        let (result, reason) = match outcome {
            Ok(Response::StandbyUpdated(done)) => {
                if let Some(label) = &done.label {
                    ends.updated = Some((at, label.clone()));
                }
                let reason = done.warnings.first().filter(|_| done.label.is_none());
                (done.result, reason.map(|text| (text.clone(), None)))
            }
            Ok(_) => return,
            Err(error) => {
                let reason = (error.text.clone(), error.hint.clone());
                (StandbyResult::Failed, Some(reason))
            }
        };
        *ends.counts.entry(result).or_default() += 1;
        ends.last = Some(StandbyEnd { at, result, reason });
    }
}

fn status(name: &str, entry: &StandbyConfig, ends: StandbyEnds) -> StandbyStatus {
    let last = ends.last;
    let updated = ends.updated;
    let reason = last.as_ref().and_then(|last| last.reason.clone());
    let (reason, hint) = reason.map_or((None, None), |(text, hint)| (Some(text), hint));
    StandbyStatus {
        standby: name.to_owned(),
        directory: entry.directory.display().to_string(),
        result: last.as_ref().map(|last| last.result),
        at: last.map(|last| second(last.at)),
        updated: updated.as_ref().map(|(at, _)| second(*at)),
        label: updated.map(|(_, label)| label),
        reason,
        hint,
    }
}

/// Runs until it is aborted. One directory at a time: each restore uses all processors.
pub(super) async fn keep(daemon: Arc<Daemon>) {
    loop {
        let server = daemon.standbys().next().await;
        // Those of now, not of when the backup ended.
        let config = daemon.config();
        for (name, entry) in &config.standbys {
            if entry.server == server {
                update(&daemon, &config, name, entry).await;
            }
        }
    }
}

async fn update(daemon: &Arc<Daemon>, config: &Config, name: &str, entry: &StandbyConfig) {
    let caller = Caller {
        user: "schedule".to_owned(),
        role: Role::Admin,
        origin: Origin::Local { pid: None },
    };
    let asked = JobRequest {
        caller: &caller,
        kind: JobKind::Standby,
        server: &entry.server,
        repositories: config.targets(),
        task: Task::Standby {
            options: StandbyOptions::new(name, entry),
        },
    };
    let outcome = match daemon.start_job(asked) {
        Ok(ticket) => ticket.outcome.await.unwrap_or_else(|_| {
            let text = "the job ended without a word";
            Err(Error::new(ErrorCode::Internal, text))
        }),
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(Response::StandbyUpdated(done)) => {
            for warning in &done.warnings {
                warn!("{warning}");
            }
            if let Some(label) = &done.label {
                info!("standby {name} of {} has backup {label}", entry.server);
            }
        }
        Ok(_) => {}
        Err(error) => {
            let hint = error.hint.as_deref().unwrap_or("pgm-cli status");
            warn!("standby {name} was not updated: {error}; HINT: {hint}");
        }
    }
    daemon.standbys().note(config, name, &outcome);
}

#[cfg(test)]
mod tests {
    use pgm_mgmt::StandbyOutcome;

    use super::*;

    fn config(standbys: &str) -> Config {
        let text = format!(
            "(standbys: {{{standbys}}}, servers: {{\"a\": (conninfo: \"host=x\"), \"b\": (conninfo: \"host=y\")}})"
        );
        Config::parse(std::path::Path::new("/etc/pgm/pgmd.ron"), &text).unwrap()
    }

    fn done(result: StandbyResult, label: Option<&str>, warning: &str) -> Response {
        Response::StandbyUpdated(StandbyOutcome {
            server: "a".parse().unwrap(),
            standby: "near".to_owned(),
            directory: "/s/a".to_owned(),
            result,
            label: label.map(ToOwned::to_owned),
            files: 1,
            raw_bytes: 2,
            kept_bytes: 1,
            removed: 0,
            elapsed_ms: 3,
            warnings: vec![warning.to_owned()],
        })
    }

    #[test]
    fn only_servers_with_standbys_are_due_and_once() {
        let config = config("\"near\": (server: \"a\", directory: \"/s/a\")");
        let standbys = Standbys::default();
        for server in ["a", "b", "a"] {
            standbys.backup_taken(&config, &server.parse().unwrap());
        }
        let due: Vec<String> = lock(&standbys.due)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(due, ["a"]);
    }

    #[test]
    fn what_was_updated_stays_known_when_a_later_attempt_fails() {
        let config = config("\"near\": (server: \"a\", directory: \"/s/a\")");
        let server: ServerName = "a".parse().unwrap();
        let standbys = Standbys::default();
        let never = &standbys.status(&config, &server)[0];
        assert_eq!((never.result, never.updated.as_ref()), (None, None));
        standbys.note(
            &config,
            "near",
            &Ok(done(StandbyResult::Updated, Some("L1"), "read me")),
        );
        let updated = &standbys.status(&config, &server)[0];
        assert_eq!(updated.result, Some(StandbyResult::Updated));
        assert_eq!(updated.reason, None);
        standbys.note(
            &config,
            "near",
            &Ok(done(StandbyResult::Skipped, None, "it runs")),
        );
        let error = Error::new(ErrorCode::RestoreFailed, "no room").with_hint("make some");
        standbys.note(&config, "near", &Err(error));
        let failed = &standbys.status(&config, &server)[0];
        assert_eq!(failed.result, Some(StandbyResult::Failed));
        assert_eq!(failed.label.as_deref(), Some("L1"));
        assert_eq!(failed.updated, updated.updated);
        assert_eq!(failed.reason.as_deref(), Some("no room"));
        assert_eq!(failed.hint.as_deref(), Some("make some"));
        let counts = standbys.ends("near").counts;
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [1, 1, 1]);
        // One that is gone from the configuration is forgotten.
        let other = self::config("\"far\": (server: \"a\", directory: \"/s/f\")");
        standbys.note(
            &other,
            "far",
            &Ok(done(StandbyResult::Updated, Some("L2"), "")),
        );
        assert!(standbys.ends("near").last.is_none());
    }
}
