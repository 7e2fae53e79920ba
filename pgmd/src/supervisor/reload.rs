//! What a reload applies, and what it leaves for a restart: one comparison for every setting, by its reload class.

use std::collections::{BTreeMap, BTreeSet};

use pgm_mgmt::{Reloaded, SettingChange, SettingEffect};
use pgm_proto::ServerName;

use crate::config::{Config, Entry, Member, ReloadClass};

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

/// Compares the configuration in force with the one that was read again, in which settings that cannot change now have
/// kept their values.
pub(super) fn plan(old: &Config, new: Config) -> Plan {
    let mut report = Reloaded::default();
    let mut renewed = Renewed::default();
    let before: BTreeMap<&str, &Entry> = old
        .entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry))
        .collect();
    for entry in &new.entries {
        let Some(before) = before.get(entry.key.as_str()) else {
            continue; // of a new server
        };
        if let Some(pending) = &entry.pending {
            let change = change(before, pending, SettingEffect::RestartRequired);
            report.restart_required.push(line(&change));
            report.changes.push(change);
        } else if !entry.same_value(before) {
            let change = change(before, entry, SettingEffect::Applied);
            report.applied.push(line(&change));
            report.changes.push(change);
            renewed.note(entry);
        }
    }
    let mut stop = Vec::new();
    let mut start = Vec::new();
    for (there, other, what) in [(old, &new, "gone"), (&new, old, "new")] {
        let names = there.repositories.keys();
        for name in names.filter(|name| !other.repositories.contains_key(name)) {
            report.applied.push(format!("repository {name} is {what}"));
            renewed.all = true;
        }
    }
    for (there, other, what) in [(old, &new, "gone"), (&new, old, "new")] {
        let names = there.standbys.keys();
        for name in names.filter(|name| !other.standbys.contains_key(*name)) {
            report.applied.push(format!("standby {name} is {what}"));
        }
    }
    for server in old.servers.keys() {
        if !new.servers.contains_key(server) {
            stop.push(server.clone());
            report.applied.push(format!("server {server} is gone"));
        }
    }
    for server in new.servers.keys() {
        if !old.servers.contains_key(server) {
            start.push(server.clone());
            report.applied.push(format!("server {server} is new"));
        } else if renewed.all || renewed.servers.contains(server) {
            stop.push(server.clone());
            start.push(server.clone());
        }
    }
    Plan {
        config: new,
        stop,
        start,
        report,
    }
}

/// Whose receive workers have to begin anew.
#[derive(Debug, Default)]
struct Renewed {
    all: bool,
    servers: BTreeSet<ServerName>,
}

impl Renewed {
    fn note(&mut self, entry: &Entry) {
        if entry.setting.reload == ReloadClass::NewWorkers {
            let of_server = entry.member.as_ref().and_then(Member::server);
            match of_server {
                Some(server) => _ = self.servers.insert(server),
                None => self.all = true,
            }
        }
    }
}

fn change(before: &Entry, after: &Entry, effect: SettingEffect) -> SettingChange {
    SettingChange {
        key: after.key.clone(),
        from: before.value.clone(),
        to: after.value.clone(),
        effect,
    }
}

/// `log_level: info -> debug`.
fn line(change: &SettingChange) -> String {
    let key = &change.key;
    if change.from == change.to {
        return format!("{key} has changed"); // a password
    }
    let shown = |value: &Option<String>| value.as_deref().unwrap_or("none").to_owned();
    format!("{key}: {} -> {}", shown(&change.from), shown(&change.to))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The plan when the file of `old` holds `new` now.
    fn plan(old: &str, new: &str) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgmd.ron");
        std::fs::write(&file, old).unwrap();
        let old = Config::load(&file).unwrap();
        std::fs::write(&file, new).unwrap();
        super::plan(&old, old.load_again().unwrap())
    }

    fn names(servers: &[ServerName]) -> Vec<&str> {
        servers.iter().map(ServerName::as_str).collect()
    }

    #[test]
    fn the_same_file_changes_nothing() {
        let text = r#"(servers: {"a": (conninfo: "host=x")})"#;
        let plan = plan(text, text);
        assert!(plan.stop.is_empty() && plan.start.is_empty());
        assert_eq!(plan.report, Reloaded::default());
    }

    #[test]
    fn servers_come_go_and_change() {
        let old = r#"(servers: {"a": (conninfo: "host=x"), "b": (conninfo: "host=x"), "c": (conninfo: "host=x")})"#;
        let new = r#"(servers: {"b": (conninfo: "host=y"), "c": (conninfo: "host=x"), "d": (conninfo: "host=x")})"#;
        let plan = plan(old, new);
        assert_eq!(names(&plan.stop), ["a", "b"]);
        assert_eq!(names(&plan.start), ["b", "d"]);
        assert_eq!(
            plan.report.applied,
            [
                "servers.b.conninfo: host=x -> host=y",
                "server a is gone",
                "server d is new"
            ]
        );
    }

    #[test]
    fn a_new_backup_rate_does_not_disturb_receiving() {
        let old = r#"(servers: {"a": (conninfo: "host=x")})"#;
        let new = r#"(servers: {"a": (conninfo: "host=x", backup_max_rate_kib: 1024)})"#;
        let plan = plan(old, new);
        assert!(plan.stop.is_empty() && plan.start.is_empty());
        assert_eq!(
            plan.report.applied,
            ["servers.a.backup_max_rate_kib: none -> 1024"]
        );
    }

    #[test]
    fn what_cannot_move_is_said_and_kept() {
        let old =
            r#"(spool: "/s", unix_socket_dir: "/run/y", repository: (path: "/q"), servers: {})"#;
        let new = r#"(spool: "/other", unix_socket_dir: "/run/x", repository: (path: "/r"), log_level: "debug", servers: {})"#;
        let plan = plan(old, new);
        assert_eq!(
            plan.report.restart_required,
            [
                "unix_socket_dir: /run/y -> /run/x",
                "spool: /s -> /other",
                "repository.path: /q -> /r",
            ]
        );
        assert_eq!(plan.config.spool, Path::new("/s"));
        assert_eq!(plan.report.applied, ["log_level: info -> debug"]);
    }

    #[test]
    fn repositories_come_and_go() {
        let old = r#"(servers: {"a": (conninfo: "host=x")}, repositories: {"x": (path: "/x")})"#;
        let new = r#"(servers: {"a": (conninfo: "host=x")}, repositories: {"y": (path: "/y")})"#;
        let plan = plan(old, new);
        assert_eq!(names(&plan.start), ["a"]);
        assert_eq!(
            plan.report.applied,
            ["repository x is gone", "repository y is new"]
        );
        let names: Vec<String> = plan
            .config
            .targets()
            .iter()
            .map(|target| format!("{} {}", target.place.name, target.place))
            .collect();
        assert_eq!(
            names,
            ["default ", "y /y"].map(|name| {
                name.replace(
                    "default ",
                    &format!("default {}", plan.config.repository.place()),
                )
            })
        );
    }

    #[test]
    fn another_compression_reaches_every_worker() {
        let old = r#"(servers: {"a": (conninfo: "host=x")})"#;
        let new = r#"(repository: (compression: "lz4"), servers: {"a": (conninfo: "host=x")})"#;
        let plan = plan(old, new);
        assert_eq!(names(&plan.start), ["a"]);
        assert_eq!(
            plan.report.applied,
            ["repository.compression: zstd:3 -> lz4"]
        );
    }
}
