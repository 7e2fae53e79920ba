//! What a reload applies, and what it leaves for a restart. A pure comparison of two configurations.

use std::path::PathBuf;

use pgm_mgmt::Reloaded;
use pgm_proto::ServerName;

use crate::config::{Config, ServerConfig};

/// What a reload does.
#[derive(Debug)]
pub(super) struct Plan {
    /// The configuration that is in force afterwards.
    pub(super) config: Config,
    /// Servers whose workers end.
    pub(super) stop: Vec<ServerName>,
    /// Servers whose workers start, after those have ended.
    pub(super) start: Vec<ServerName>,
    /// What to tell.
    pub(super) report: Reloaded,
}

/// Compares the configuration in force with the file's.
pub(super) fn plan(old: &Config, new: Config) -> Plan {
    let mut config = new;
    let mut report = Reloaded::default();
    for (name, old, new) in [
        (
            "unix_socket_dir",
            &old.unix_socket_dir,
            &mut config.unix_socket_dir,
        ),
        (
            "repository.path",
            &old.repository.path,
            &mut config.repository.path,
        ),
        ("spool", &old.spool, &mut config.spool),
    ] {
        keep(name, old, new, &mut report);
    }
    if old.log_level != config.log_level {
        report
            .applied
            .push(format!("log_level is {}", config.log_level.name()));
    }
    if old.jobs_max != config.jobs_max {
        report
            .applied
            .push(format!("jobs_max is {}", config.jobs_max));
    }
    let compression = config.repository.compression;
    let everything = old.repository.compression != compression;
    if everything {
        report.applied.push(format!("compression is {compression}"));
    }
    let defaults_changed = old.connection_defaults.passfile != config.connection_defaults.passfile;
    if defaults_changed {
        report.applied.push("passfile has changed".to_owned());
    }
    let mut plan = Plan {
        config,
        stop: Vec::new(),
        start: Vec::new(),
        report,
    };
    for server in old.servers.keys() {
        if !plan.config.servers.contains_key(server) {
            plan.stop.push(server.clone());
            plan.report.applied.push(format!("server {server} is gone"));
        }
    }
    for (server, entry) in &plan.config.servers {
        match old.servers.get(server) {
            None => {
                plan.start.push(server.clone());
                plan.report.applied.push(format!("server {server} is new"));
            }
            Some(before) => {
                let changed = is_other_worker(before, entry);
                if changed || everything || defaults_changed {
                    plan.stop.push(server.clone());
                    plan.start.push(server.clone());
                }
                if before != entry {
                    plan.report
                        .applied
                        .push(format!("server {server} has changed"));
                }
            }
        }
    }
    plan
}

/// Whether a receive worker has to begin anew.
fn is_other_worker(old: &ServerConfig, new: &ServerConfig) -> bool {
    old.conninfo_text != new.conninfo_text
        || old.slot != new.slot
        || old.create_slot != new.create_slot
}

/// Keeps the old path, because a running daemon cannot move.
fn keep(name: &str, old: &PathBuf, new: &mut PathBuf, report: &mut Reloaded) {
    if old != new {
        report
            .restart_required
            .push(format!("{name}: {} -> {}", old.display(), new.display()));
        new.clone_from(old);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("/etc/pgm/pgmd.ron"), text).unwrap()
    }

    fn names(servers: &[ServerName]) -> Vec<&str> {
        servers.iter().map(ServerName::as_str).collect()
    }

    #[test]
    fn the_same_file_changes_nothing() {
        let text = r#"(servers: {"a": (conninfo: "host=x")})"#;
        let plan = plan(&config(text), config(text));
        assert!(plan.stop.is_empty() && plan.start.is_empty());
        assert_eq!(plan.report, Reloaded::default());
    }

    #[test]
    fn servers_come_go_and_change() {
        let old = r#"(servers: {"a": (conninfo: "host=x"), "b": (conninfo: "host=x"), "c": (conninfo: "host=x")})"#;
        let new = r#"(servers: {"b": (conninfo: "host=y"), "c": (conninfo: "host=x"), "d": (conninfo: "host=x")})"#;
        let plan = plan(&config(old), config(new));
        assert_eq!(names(&plan.stop), ["a", "b"]);
        assert_eq!(names(&plan.start), ["b", "d"]);
        assert_eq!(
            plan.report.applied,
            [
                "server a is gone",
                "server b has changed",
                "server d is new"
            ]
        );
    }

    #[test]
    fn a_new_backup_rate_does_not_disturb_receiving() {
        let old = r#"(servers: {"a": (conninfo: "host=x")})"#;
        let new = r#"(servers: {"a": (conninfo: "host=x", backup_max_rate_kib: 1024)})"#;
        let plan = plan(&config(old), config(new));
        assert!(plan.stop.is_empty() && plan.start.is_empty());
        assert_eq!(plan.report.applied, ["server a has changed"]);
    }

    #[test]
    fn what_cannot_move_is_said_and_kept() {
        let old = "(servers: {})";
        let new = r#"(spool: "/other", unix_socket_dir: "/run/x", repository: (path: "/r"), log_level: "debug", servers: {})"#;
        let plan = plan(&config(old), config(new));
        assert_eq!(
            plan.report.restart_required,
            [
                "unix_socket_dir: /etc/pgm/run -> /run/x",
                "repository.path: /etc/pgm/repository -> /r",
                "spool: /etc/pgm/spool -> /other",
            ]
        );
        assert_eq!(plan.config.spool, Path::new("/etc/pgm/spool"));
        assert_eq!(plan.report.applied, ["log_level is debug"]);
    }

    #[test]
    fn another_compression_reaches_every_worker() {
        let old = r#"(servers: {"a": (conninfo: "host=x")})"#;
        let new = r#"(repository: (compression: "lz4"), servers: {"a": (conninfo: "host=x")})"#;
        let plan = plan(&config(old), config(new));
        assert_eq!(names(&plan.start), ["a"]);
        assert_eq!(plan.report.applied, ["compression is lz4"]);
    }
}
