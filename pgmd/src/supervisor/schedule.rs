//! What the daemon does without being asked: retention, every `retention_interval`, for each server that has a policy.
//!
//! Retention works on the repository alone, so it also runs for servers that are offline or cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use pgm_mgmt::{JobKind, RetentionOptions, Role};
use pgm_proto::ServerName;
use tokio::time::Instant;
use tracing::warn;

use super::{Daemon, JobRequest};
use crate::config::Config;
use crate::place::RepositoryTarget;
use crate::retention;
use crate::service::{Caller, Origin};
use crate::worker::Task;

/// How often the interval is looked at, which a reload may have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs until it is aborted.
pub(super) async fn keep(daemon: Arc<Daemon>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let config = daemon.config();
        let every = config.retention_interval;
        if every.is_zero() || last.elapsed() < every {
            continue;
        }
        last = Instant::now();
        for (server, target) in due(&config) {
            start(&daemon, &config, &server, target);
        }
    }
}

/// The servers with a policy, and the repositories that it is for.
fn due(config: &Config) -> Vec<(ServerName, RepositoryTarget)> {
    let mut due = Vec::new();
    for server in config.servers.keys() {
        for target in config.targets() {
            if !retention::policy(config, &target.place.name, server).keeps_everything() {
                due.push((server.clone(), target));
            }
        }
    }
    due
}

fn start(daemon: &Arc<Daemon>, config: &Config, server: &ServerName, target: RepositoryTarget) {
    let caller = Caller {
        user: "schedule".to_owned(),
        role: Role::Admin,
        origin: Origin::Local { pid: None },
    };
    let options = RetentionOptions {
        server: server.clone(),
        policy: None,
        dry_run: false,
    };
    let options = retention::with_policy(config, &target.place.name, options);
    let asked = JobRequest {
        caller: &caller,
        kind: JobKind::Retention,
        server,
        repositories: vec![target],
        task: Task::Retention { options },
    };
    // Its end is logged as every job's is; nobody waits for it.
    if let Err(error) = daemon.start_job(asked) {
        warn!("retention of {server} was not started: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_with_a_policy_are_due_where_it_holds() {
        let text = r#"(retention: "last 2", repositories: {"far": (path: "/far", retention: "months 3")}, servers: {
            "a": (conninfo: "host=x"),
            "b": (conninfo: "host=x", retention: "everything"),
            "c": (conninfo: "host=x", retention: "days 7"),
        })"#;
        let config = Config::parse(std::path::Path::new("/etc/pgm/pgmd.ron"), text).unwrap();
        let due = due(&config);
        let names: Vec<(&str, &str)> = due
            .iter()
            .map(|(server, target)| (server.as_str(), target.place.name.as_str()))
            .collect();
        let both = ["default", "far"];
        let expected = [
            ("a", both[0]),
            ("a", both[1]),
            ("b", both[1]),
            ("c", both[0]),
            ("c", both[1]),
        ];
        assert_eq!(names, expected);
        let asked = |server: &str| RetentionOptions {
            server: server.parse().unwrap(),
            policy: None,
            dry_run: true,
        };
        let policy = |repository: &str, server| {
            retention::with_policy(&config, &repository.parse().unwrap(), asked(server))
                .policy
                .unwrap()
        };
        assert_eq!(
            (
                policy("default", "a").as_str(),
                policy("default", "c").as_str()
            ),
            ("last 2", "days 7")
        );
    }
}
