//! What records say, in the words of `pg_waldump` of the PostgreSQL version that wrote them.
//!
//! One file per resource manager, or per handful of small ones, as in PostgreSQL's `access/rmgrdesc`: `name` gives an
//! operation's name, `describe` writes what `pg_waldump` prints behind it. [`write_line`] writes the whole line.
//!
//! Nothing is allocated but by growing the caller's text. A record that is too short for what it claims to be is described
//! as far as it goes. Times are always UTC. Names are lossy where they are not UTF-8.

mod brin;
mod btree;
mod data;
mod database;
mod gin;
mod gist;
mod hash;
mod heap;
mod line;
mod message;
mod multixact;
mod spgist;
mod standby;
mod status;
mod storage;
mod transaction;
mod xlog;

use std::borrow::Cow;

pub(crate) use data::Data;
pub use line::{write_blocks, write_line};
pub(crate) use transaction::Ending;

use super::block::RelationFile;
use super::entry::Record;
use super::header::RESOURCE_MANAGER_TRANSACTION;
use super::page::WalVersion;

/// The transactions within the one that `record` ends, which end with it; none for other records.
pub fn subtransactions<'a>(record: &Record<'a>) -> impl Iterator<Item = u32> + use<'a> {
    let is_transaction = record.resource_manager == RESOURCE_MANAGER_TRANSACTION;
    let ending = is_transaction.then(|| Ending::of(record)).flatten();
    ending
        .into_iter()
        .flat_map(|ending| ending.subtransactions())
}

/// The relations whose files the end of a transaction removes; none for other records.
pub fn removed_relations<'a>(record: &Record<'a>) -> impl Iterator<Item = RelationFile> + use<'a> {
    let is_transaction = record.resource_manager == RESOURCE_MANAGER_TRANSACTION;
    let ending = is_transaction.then(|| Ending::of(record)).flatten();
    ending
        .into_iter()
        .flat_map(|ending| ending.relations.iter())
}

/// What a resource manager's description needs.
type Describe = fn(&Record<'_>, &mut String) -> Option<()>;
/// Gives an operation's name, from all of `info`.
type Name = fn(u8, WalVersion) -> Option<&'static str>;

struct Manager {
    name: &'static str,
    operation: Name,
    describe: Describe,
}

macro_rules! manager {
    ($name:literal, $operation:path, $describe:path) => {
        Manager {
            name: $name,
            operation: $operation,
            describe: $describe,
        }
    };
}

/// The built-in resource managers by number: `access/rmgrlist.h`, the same in PostgreSQL 14 to 18.
static MANAGERS: [Manager; 22] = [
    manager!("XLOG", xlog::name, xlog::describe),
    manager!("Transaction", transaction::name, transaction::describe),
    manager!("Storage", storage::name, storage::describe),
    manager!("CLOG", status::commit_name, status::describe_commit),
    manager!("Database", database::name, database::describe),
    manager!(
        "Tablespace",
        database::tablespace_name,
        database::describe_tablespace
    ),
    manager!("MultiXact", multixact::name, multixact::describe),
    manager!("RelMap", storage::map_name, storage::describe_map),
    manager!("Standby", standby::name, standby::describe),
    manager!("Heap2", heap::name2, heap::describe2),
    manager!("Heap", heap::name, heap::describe),
    manager!("Btree", btree::name, btree::describe),
    manager!("Hash", hash::name, hash::describe),
    manager!("Gin", gin::name, gin::describe),
    manager!("Gist", gist::name, gist::describe),
    manager!(
        "Sequence",
        storage::sequence_name,
        storage::describe_sequence
    ),
    manager!("SPGist", spgist::name, spgist::describe),
    manager!("BRIN", brin::name, brin::describe),
    manager!("CommitTs", status::time_name, status::describe_time),
    manager!(
        "ReplicationOrigin",
        message::origin_name,
        message::describe_origin
    ),
    manager!("Generic", message::generic_name, message::describe_generic),
    manager!("LogicalMessage", message::name, message::describe),
];

/// The names of the built-in resource managers, by their numbers.
pub fn resource_managers() -> impl ExactSizeIterator<Item = &'static str> {
    MANAGERS.iter().map(|manager| manager.name)
}

/// The name of the resource manager with this number. One of an extension is `custom128` and so on.
pub fn resource_manager_name(number: u8) -> Cow<'static, str> {
    match MANAGERS.get(usize::from(number)) {
        Some(manager) => Cow::Borrowed(manager.name),
        None => Cow::Owned(format!("custom{number:03}")),
    }
}

/// The name of the operation `info` of a resource manager; `None` when it is not known.
pub fn operation_name(manager: u8, info: u8, version: WalVersion) -> Option<&'static str> {
    let manager = MANAGERS.get(usize::from(manager))?;
    (manager.operation)(info, version)
}

/// Writes the operation's name, `UNKNOWN` and its bits if it has none.
pub fn write_operation(record: &Record<'_>, out: &mut String) {
    use std::fmt::Write as _;
    match operation_name(record.resource_manager, record.info, record.version) {
        Some(name) => out.push_str(name),
        None => {
            let _ = write!(out, "UNKNOWN ({:x})", record.operation());
        }
    }
}

/// Writes what the record says, without its operation's name and its blocks.
pub fn describe(record: &Record<'_>, out: &mut String) {
    use std::fmt::Write as _;
    match MANAGERS.get(usize::from(record.resource_manager)) {
        Some(manager) => {
            if (manager.describe)(record, out).is_none() {
                out.push_str(" (the record ends here)");
            }
        }
        None => {
            let _ = write!(out, "rmid: {}", record.resource_manager);
        }
    }
}
