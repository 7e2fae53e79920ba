//! The requirements of `check`: from facts to findings, each failure with the command that mends it.
//!
//! Pure functions: what a server must be like can be read here from top to bottom.

use pgm_proto::SlotName;

use super::facts::{Facts, SqlFacts};
use super::finding::Finding;
use crate::output::bytes;

/// The oldest and the newest major version that pgm is tested with.
const MAJORS: std::ops::RangeInclusive<u32> = 14..=18;
/// Connections that pgm opens besides its stream: one backup.
const SENDERS_WANTED: u64 = 2;
/// A clock that differs more than this makes targets by time unreliable.
const CLOCK_SECONDS_MAX: f64 = 2.0;

/// What the configuration says about the server.
pub(super) struct Wanted<'a> {
    pub(super) slot: &'a SlotName,
    pub(super) create_slot: bool,
    pub(super) application_name: &'a str,
    pub(super) local: bool,
}

/// Judges a server that could be reached.
pub(super) fn judge(facts: &Facts, wanted: &Wanted<'_>) -> Vec<Finding> {
    let mut findings = vec![version(facts), encryption(facts, wanted)];
    match (&facts.sql, &facts.sql_error) {
        (Some(sql), _) => findings.extend(judge_sql(sql, facts, wanted)),
        (None, Some(error)) => findings.push(Finding::warning(
            "settings",
            format!("not checked, no SQL session: {error}"),
            error.hint(),
        )),
        (None, None) => {}
    }
    findings
}

fn judge_sql(sql: &SqlFacts, facts: &Facts, wanted: &Wanted<'_>) -> Vec<Finding> {
    let mut findings = vec![
        role(sql),
        wal_level(sql),
        slot(sql, wanted),
        free_slots(sql, wanted),
        free_senders(sql),
        synchronous(sql, wanted),
        slot_limit(sql),
        fsync(sql),
        full_page_writes(sql),
        checksums(sql),
        clock(sql),
    ];
    if sql.in_recovery {
        findings.push(Finding::ok(
            "role in cluster",
            "standby: WAL and backups come from it".into(),
        ));
    }
    if let Some(identity) = &facts.identity {
        findings.push(Finding::ok(
            "system identifier",
            identity.system_id.to_string(),
        ));
    }
    findings
}

fn version(facts: &Facts) -> Finding {
    const NAME: &str = "version";
    let Some(version) = facts.version else {
        return Finding::failure(
            NAME,
            "unknown".into(),
            "is this a PostgreSQL server?".into(),
        );
    };
    let major = version.major();
    if major < *MAJORS.start() {
        let fix = format!(
            "upgrade the server to PostgreSQL {} or newer",
            MAJORS.start()
        );
        return Finding::failure(NAME, format!("{version} is too old"), fix);
    }
    if major > *MAJORS.end() {
        let detail = format!(
            "{version} is newer than what this pgm was tested with ({})",
            MAJORS.end()
        );
        return Finding::warning(NAME, detail, Some("upgrade pgm".into()));
    }
    Finding::ok(NAME, version.to_string())
}

fn encryption(facts: &Facts, wanted: &Wanted<'_>) -> Finding {
    const NAME: &str = "encryption";
    match (facts.tls, wanted.local) {
        (true, _) => Finding::ok(NAME, "TLS".into()),
        (false, true) => Finding::ok(NAME, "not needed: same host".into()),
        (false, false) => Finding::warning(
            NAME,
            "data travels in clear".into(),
            Some("add sslmode=verify-full and sslrootcert=FILE to the server's conninfo".into()),
        ),
    }
}

fn role(sql: &SqlFacts) -> Finding {
    const NAME: &str = "role attributes";
    if sql.replication || sql.superuser {
        let what = if sql.superuser {
            "superuser"
        } else {
            "replication"
        };
        return Finding::ok(NAME, format!("{} ({what})", sql.role));
    }
    let fix = format!(
        "ALTER ROLE {} WITH LOGIN REPLICATION;",
        identifier(&sql.role)
    );
    Finding::failure(NAME, format!("role {} lacks REPLICATION", sql.role), fix)
}

fn wal_level(sql: &SqlFacts) -> Finding {
    const NAME: &str = "wal_level";
    match setting(sql, NAME) {
        level @ ("replica" | "logical") => Finding::ok(NAME, level.into()),
        level => Finding::failure(
            NAME,
            format!("{level}: too little for recovery"),
            "ALTER SYSTEM SET wal_level = 'replica'; -- then restart the server".into(),
        ),
    }
}

fn slot(sql: &SqlFacts, wanted: &Wanted<'_>) -> Finding {
    const NAME: &str = "slot";
    let name = wanted.slot;
    let create = format!("SELECT pg_create_physical_replication_slot('{name}', true);");
    let Some(slot) = &sql.slot else {
        if wanted.create_slot {
            return Finding::ok(
                NAME,
                format!("{name} will be made at the start (create_slot)"),
            );
        }
        return Finding::failure(NAME, format!("{name} is missing"), create);
    };
    if slot.kind != "physical" {
        let fix = format!(
            "name another slot in the configuration, or: SELECT pg_drop_replication_slot('{name}');"
        );
        return Finding::failure(NAME, format!("{name} is a {} slot", slot.kind), fix);
    }
    if slot.wal_status.as_deref() == Some("lost") {
        let fix = format!(
            "SELECT pg_drop_replication_slot('{name}'); {create} -- then take a full backup"
        );
        return Finding::failure(
            NAME,
            format!("{name} has lost WAL it should have kept"),
            fix,
        );
    }
    match &slot.active_pid {
        Some(pid) => Finding::ok(NAME, format!("{name}, in use by process {pid}")),
        None if slot.reserves => Finding::ok(NAME, format!("{name}, not in use")),
        None => Finding::ok(NAME, format!("{name}, keeps no WAL before its first use")),
    }
}

fn free_slots(sql: &SqlFacts, wanted: &Wanted<'_>) -> Finding {
    const NAME: &str = "max_replication_slots";
    let max: u64 = setting(sql, NAME).parse().unwrap_or(0);
    if sql.slot.is_some() || !wanted.create_slot || sql.slots_used < max {
        return Finding::ok(NAME, format!("{} of {max} used", sql.slots_used));
    }
    let fix = format!(
        "ALTER SYSTEM SET max_replication_slots = {}; -- then restart the server",
        max + 2
    );
    Finding::failure(NAME, format!("all {max} are used"), fix)
}

fn free_senders(sql: &SqlFacts) -> Finding {
    const NAME: &str = "max_wal_senders";
    let max: u64 = setting(sql, NAME).parse().unwrap_or(0);
    let streaming = sql
        .slot
        .as_ref()
        .is_some_and(|slot| slot.active_pid.is_some());
    let wanted = SENDERS_WANTED - u64::from(streaming);
    let fix = format!(
        "ALTER SYSTEM SET max_wal_senders = {}; -- then restart the server",
        sql.senders_used + wanted + 2
    );
    match max.saturating_sub(sql.senders_used) {
        0 if wanted > 0 => Finding::failure(NAME, format!("all {max} are used"), fix),
        free if free < wanted => Finding::warning(
            NAME,
            format!("{free} free: streaming and a backup need {wanted}"),
            Some(fix),
        ),
        free => Finding::ok(NAME, format!("{free} of {max} free")),
    }
}

fn synchronous(sql: &SqlFacts, wanted: &Wanted<'_>) -> Finding {
    const NAME: &str = "synchronous_standby_names";
    let names = setting(sql, NAME);
    let ours = names.contains(wanted.application_name) || names.contains('*');
    if !ours {
        return Finding::ok(
            NAME,
            format!(
                "does not name {}: commits do not wait for pgm (for RPO 0: ALTER SYSTEM SET \
                 synchronous_standby_names = '{}'; SELECT pg_reload_conf();)",
                wanted.application_name, wanted.application_name
            ),
        );
    }
    if setting(sql, "synchronous_commit") == "remote_apply" {
        return Finding::failure(
            NAME,
            "names pgm while synchronous_commit is remote_apply: an archive never applies, commits would hang".into(),
            "ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf();".into(),
        );
    }
    let state = sql.sync_state.as_deref().unwrap_or("not connected now");
    Finding::ok(
        NAME,
        format!("{names} ({state}): commits wait until pgm has them on disk"),
    )
}

fn slot_limit(sql: &SqlFacts) -> Finding {
    const NAME: &str = "max_slot_wal_keep_size";
    match setting(sql, NAME) {
        "-1" => Finding::ok(
            NAME,
            "unlimited: the server keeps WAL until pgm has it; watch its disk".into(),
        ),
        limit => Finding::warning(
            NAME,
            format!("{limit}: after an outage longer than that, WAL is lost"),
            Some("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();".into()),
        ),
    }
}

fn fsync(sql: &SqlFacts) -> Finding {
    switch(sql, "fsync", "a crash of the server can corrupt it")
}

fn full_page_writes(sql: &SqlFacts) -> Finding {
    switch(
        sql,
        "full_page_writes",
        "torn pages cannot be repaired after a crash",
    )
}

fn switch(sql: &SqlFacts, name: &'static str, danger: &str) -> Finding {
    if setting(sql, name) == "on" {
        return Finding::ok(name, "on".into());
    }
    let fix = format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();");
    Finding::warning(name, format!("off: {danger}"), Some(fix))
}

fn checksums(sql: &SqlFacts) -> Finding {
    const NAME: &str = "data_checksums";
    if setting(sql, NAME) == "on" {
        return Finding::ok(NAME, "on".into());
    }
    let folder = sql.settings.get("data_directory");
    let folder = folder.map_or("DATA_DIRECTORY", String::as_str);
    Finding::warning(
        NAME,
        "off: backups cannot notice damaged pages".into(),
        Some(format!(
            "stop the server, then: pg_checksums --enable -D '{folder}'"
        )),
    )
}

fn clock(sql: &SqlFacts) -> Finding {
    const NAME: &str = "clock";
    let ahead = sql.clock_ahead_seconds;
    if ahead.abs() <= CLOCK_SECONDS_MAX {
        return Finding::ok(NAME, format!("differs by {:.0} ms", ahead.abs() * 1000.0));
    }
    let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
    Finding::warning(
        NAME,
        format!(
            "the server's is {:.1} s {direction} this host's",
            ahead.abs()
        ),
        Some("run a time service (chrony, systemd-timesyncd) on both hosts".into()),
    )
}

/// Judges the room that is left where backups rest.
pub(super) fn room(what: &'static str, place: &str, free: u64, data: Option<u64>) -> Finding {
    let detail = format!("{} free at {place}", bytes(free));
    let Some(data) = data else {
        return Finding::ok(what, detail);
    };
    // A compressed backup is a third to a tenth of the data; below that the first one is in doubt.
    if free < data / 4 {
        let fix =
            format!("make room, or put `{what}` of the configuration on a larger file system");
        return Finding::warning(
            what,
            format!("{detail}, the server holds {}", bytes(data)),
            Some(fix),
        );
    }
    Finding::ok(what, format!("{detail}; the server holds {}", bytes(data)))
}

fn setting<'a>(sql: &'a SqlFacts, name: &str) -> &'a str {
    sql.settings.get(name).map_or("unknown", String::as_str)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;

    fn sql(changes: &[(&str, &str)]) -> SqlFacts {
        let mut settings: std::collections::BTreeMap<String, String> = [
            ("wal_level", "replica"),
            ("max_wal_senders", "10"),
            ("max_replication_slots", "10"),
            ("synchronous_standby_names", ""),
            ("synchronous_commit", "on"),
            ("data_checksums", "on"),
            ("full_page_writes", "on"),
            ("fsync", "on"),
            ("max_slot_wal_keep_size", "-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in changes {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        SqlFacts {
            settings,
            role: "backup".into(),
            replication: true,
            ..SqlFacts::default()
        }
    }

    fn wanted(slot: &SlotName) -> Wanted<'_> {
        Wanted {
            slot,
            create_slot: false,
            application_name: "pgmd",
            local: true,
        }
    }

    #[test]
    fn each_failure_names_the_sql_that_mends_it() {
        let slot_name: SlotName = "pgmd".parse().unwrap();
        let minimal = wal_level(&sql(&[("wal_level", "minimal")]));
        assert_eq!(minimal.outcome, Outcome::Failure);
        assert!(
            minimal
                .fix
                .unwrap()
                .starts_with("ALTER SYSTEM SET wal_level")
        );
        let missing = slot(&sql(&[]), &wanted(&slot_name));
        assert!(
            missing
                .fix
                .unwrap()
                .contains("pg_create_physical_replication_slot('pgmd', true)")
        );
        let powerless = role(&SqlFacts {
            replication: false,
            ..sql(&[])
        });
        assert_eq!(
            powerless.fix.unwrap(),
            "ALTER ROLE \"backup\" WITH LOGIN REPLICATION;"
        );
        let full = free_senders(&SqlFacts {
            senders_used: 10,
            ..sql(&[])
        });
        assert_eq!(full.outcome, Outcome::Failure);
    }

    #[test]
    fn waiting_for_an_archive_to_apply_is_a_failure() {
        let slot_name: SlotName = "pgmd".parse().unwrap();
        let facts = sql(&[
            ("synchronous_standby_names", "pgmd"),
            ("synchronous_commit", "remote_apply"),
        ]);
        assert_eq!(
            synchronous(&facts, &wanted(&slot_name)).outcome,
            Outcome::Failure
        );
    }

    #[test]
    fn a_healthy_server_has_no_failure() {
        let slot_name: SlotName = "pgmd".parse().unwrap();
        let wanted = Wanted {
            create_slot: true,
            ..wanted(&slot_name)
        };
        let findings = judge_sql(&sql(&[]), &Facts::default(), &wanted);
        assert!(
            findings
                .iter()
                .all(|finding| finding.outcome == Outcome::Ok),
            "{findings:?}"
        );
    }
}
