//! What `check` asks a server: facts only, no judgement.
//!
//! One SQL session, then one replication session, both read-only. What the role may not see is `None`, not an error.
//! Where only one of the two can be had, its answers help to say why the other one cannot.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgm_proto::{
    Client, ConnInfo, Encryption, Error, Identity, QueryResult, ServerVersion, Session, SlotName,
};

/// Everything that was learned about a server.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The server's version.
    pub(super) version: Option<ServerVersion>,
    /// What IDENTIFY_SYSTEM answered.
    pub(super) identity: Option<Identity>,
    /// What the SQL session told, when one could be had.
    pub(super) sql: Option<SqlFacts>,
    /// Why there was no SQL session.
    pub(super) sql_error: Option<Error>,
    /// Why there was no replication session.
    pub(super) replication_error: Option<Error>,
    /// Whether the sessions are encrypted.
    pub(super) tls: bool,
}

/// What an ordinary session can see.
#[derive(Debug, Default)]
pub(super) struct SqlFacts {
    /// Settings by name, as `SHOW` prints them.
    pub(super) settings: BTreeMap<String, String>,
    /// The role's name.
    pub(super) role: String,
    /// Whether the role is a superuser.
    pub(super) superuser: bool,
    /// Whether the role has REPLICATION.
    pub(super) replication: bool,
    /// Whether the server is a standby.
    pub(super) in_recovery: bool,
    /// Our slot, when it exists.
    pub(super) slot: Option<SlotFacts>,
    /// Slots in use.
    pub(super) slots_used: u64,
    /// WAL senders in use.
    pub(super) senders_used: u64,
    /// How our receiver is named in `pg_stat_replication`: its `sync_state`.
    pub(super) sync_state: Option<String>,
    /// How far the server's clock is ahead of ours, in seconds.
    pub(super) clock_ahead_seconds: f64,
    /// Bytes of all tablespaces, when the role may see them.
    pub(super) data_bytes: Option<u64>,
}

/// A replication slot.
#[derive(Debug, Default)]
pub(super) struct SlotFacts {
    /// `physical` or `logical`.
    pub(super) kind: String,
    /// The process that uses it.
    pub(super) active_pid: Option<String>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub(super) wal_status: Option<String>,
    /// Whether it keeps WAL.
    pub(super) reserves: bool,
}

/// The settings that the rules look at.
const SETTINGS: &str = "'wal_level','max_wal_senders','max_replication_slots','synchronous_standby_names',\
'synchronous_commit','data_checksums','full_page_writes','fsync','wal_segment_size','max_slot_wal_keep_size',\
'wal_sender_timeout','summarize_wal','archive_mode','ssl','data_directory'";

/// Asks a server; fails only when neither session could be had.
pub(super) fn gather(
    conninfo: &ConnInfo,
    slot: &SlotName,
    application_name: &str,
) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    // First, so that our own replication session is none of the senders that are counted.
    if let Err(error) = sql(conninfo, slot, application_name, &mut facts) {
        if is_out_of_reach(&error) {
            return Err(error);
        }
        facts.sql_error = Some(error);
    }
    match (replication(conninfo, &mut facts), &facts.sql) {
        (Ok(()), _) => {}
        (Err(error), Some(_)) => facts.replication_error = Some(error),
        (Err(error), None) => return Err(error),
    }
    Ok(facts)
}

/// Whether another session has no better chance.
fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error,
        Error::ConnInfo(_) | Error::Resolve { .. } | Error::Connect { .. } | Error::Timeout { .. }
    )
}

fn replication(conninfo: &ConnInfo, facts: &mut Facts) -> Result<(), Error> {
    let mut client = Client::connect(conninfo, Session::PhysicalReplication)?;
    facts.identity = Some(client.identify_system()?);
    facts.meet(&client);
    Ok(())
}

impl Facts {
    /// What every session tells.
    fn meet(&mut self, client: &Client) {
        self.version = Some(client.server_version());
        self.tls = client.encryption() != Encryption::None;
    }
}

fn sql(
    conninfo: &ConnInfo,
    slot: &SlotName,
    application_name: &str,
    facts: &mut Facts,
) -> Result<(), Error> {
    let database = conninfo.database().unwrap_or("postgres").to_owned();
    let mut client = Client::connect(&conninfo.clone().with_database(database), Session::Sql)?;
    facts.meet(&client);
    facts.sql = Some(sql_facts(&mut client, slot, application_name)?);
    Ok(())
}

fn sql_facts(
    client: &mut Client,
    slot: &SlotName,
    application_name: &str,
) -> Result<SqlFacts, Error> {
    let mut facts = SqlFacts {
        settings: settings(client)?,
        ..SqlFacts::default()
    };
    clock(client, &mut facts)?;
    role(client, &mut facts)?;
    facts.slot = slot_facts(client, slot)?;
    facts.slots_used = count(client, "SELECT count(*) FROM pg_replication_slots")?;
    facts.senders_used = count(client, "SELECT count(*) FROM pg_stat_replication")?;
    let ours = format!(
        "SELECT sync_state FROM pg_stat_replication WHERE application_name = {} LIMIT 1",
        literal(application_name)
    );
    facts.sync_state = first_row(&client.query(&ours)?).and_then(|row| row.first().cloned()?);
    let sizes = "SELECT sum(pg_tablespace_size(oid))::bigint FROM pg_tablespace";
    facts.data_bytes = client
        .query(sizes)
        .ok()
        .and_then(|result| first_row(&result)?.first()?.as_deref()?.parse().ok());
    Ok(facts)
}

fn settings(client: &mut Client) -> Result<BTreeMap<String, String>, Error> {
    let query =
        format!("SELECT name, current_setting(name) FROM pg_settings WHERE name IN ({SETTINGS})");
    let results = client.query(&query)?;
    let rows = results.into_iter().flat_map(|result| result.rows);
    Ok(rows
        .filter_map(|row| {
            let mut cells = row.into_iter();
            Some((cells.next()??, cells.next()??))
        })
        .collect())
}

fn clock(client: &mut Client, facts: &mut SqlFacts) -> Result<(), Error> {
    let before = SystemTime::now();
    let results = client
        .query("SELECT extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery()")?;
    let round_trip = before.elapsed().unwrap_or(Duration::ZERO);
    let here = before.duration_since(UNIX_EPOCH).unwrap_or_default() + round_trip / 2;
    if let Some([Some(epoch), Some(in_recovery)]) = first_row(&results).map(Vec::as_slice) {
        facts.clock_ahead_seconds = epoch.parse::<f64>().unwrap_or(0.0) - here.as_secs_f64();
        facts.in_recovery = in_recovery == "t";
    }
    Ok(())
}

fn role(client: &mut Client, facts: &mut SqlFacts) -> Result<(), Error> {
    let results = client.query(
        "SELECT rolname, rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user",
    )?;
    if let Some([Some(name), Some(superuser), Some(replication)]) =
        first_row(&results).map(Vec::as_slice)
    {
        facts.role.clone_from(name);
        facts.superuser = superuser == "t";
        facts.replication = replication == "t";
    }
    Ok(())
}

fn slot_facts(client: &mut Client, slot: &SlotName) -> Result<Option<SlotFacts>, Error> {
    let query = format!(
        "SELECT slot_type, active_pid::text, wal_status, restart_lsn IS NOT NULL \
         FROM pg_replication_slots WHERE slot_name = {}",
        literal(slot.as_str())
    );
    let results = client.query(&query)?;
    Ok(first_row(&results).map(|row| {
        let cell = |index: usize| row.get(index).cloned().flatten();
        SlotFacts {
            kind: cell(0).unwrap_or_default(),
            active_pid: cell(1),
            wal_status: cell(2),
            reserves: cell(3).as_deref() == Some("t"),
        }
    }))
}

fn count(client: &mut Client, query: &str) -> Result<u64, Error> {
    let results = client.query(query)?;
    let cell = first_row(&results).and_then(|row| row.first()?.as_deref()?.parse().ok());
    Ok(cell.unwrap_or(0))
}

fn first_row(results: &[QueryResult]) -> Option<&Vec<Option<String>>> {
    results.first().and_then(|result| result.rows.first())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
