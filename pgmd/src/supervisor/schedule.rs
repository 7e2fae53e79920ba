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
        for server in due(&config) {
            start(&daemon, &config, &server);
        }
    }
}

/// The servers that have a policy.
fn due(config: &Config) -> Vec<ServerName> {
    let servers = config.servers.iter().filter(|(_, server)| {
        let policy = server.retention.unwrap_or(config.retention);
        !policy.keeps_everything()
    });
    servers.map(|(name, _)| name.clone()).collect()
}

fn start(daemon: &Arc<Daemon>, config: &Config, server: &ServerName) {
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
    let asked = JobRequest {
        caller: &caller,
        kind: JobKind::Retention,
        server,
        task: Task::Retention {
            options: retention::with_policy(config, options),
        },
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
    fn only_servers_with_a_policy_are_due() {
        let text = r#"(retention: "last 2", servers: {
            "a": (conninfo: "host=x"),
            "b": (conninfo: "host=x", retention: "everything"),
            "c": (conninfo: "host=x", retention: "days 7"),
        })"#;
        let config = Config::parse(std::path::Path::new("/etc/pgm/pgmd.ron"), text).unwrap();
        let due = due(&config);
        let names: Vec<&str> = due.iter().map(ServerName::as_str).collect();
        assert_eq!(names, ["a", "c"]);
        let asked = |server: &str| RetentionOptions {
            server: server.parse().unwrap(),
            policy: None,
            dry_run: true,
        };
        let policy = |server| {
            retention::with_policy(&config, asked(server))
                .policy
                .unwrap()
        };
        assert_eq!(
            (policy("a").as_str(), policy("c").as_str()),
            ("last 2", "days 7")
        );
    }
}
