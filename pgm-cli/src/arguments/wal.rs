//! The commands that look into WAL, and what they share: where it is read from.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pgm_proto::{Lsn, ServerName, TimelineId};
use pgm_wal::record::{Record, RelationFile};

/// Where WAL is read from.
#[derive(Debug, Args)]
pub(crate) struct WalSourceArguments {
    /// Segment files, folders such as pg_wal, tar archives, objects of a repository; compressed or not
    #[arg(
        value_name = "PATH",
        required_unless_present = "server",
        conflicts_with = "server"
    )]
    pub(crate) paths: Vec<PathBuf>,
    /// Read the archive and the spool of this server
    #[arg(long, value_name = "SERVER")]
    pub(crate) server: Option<ServerName>,
    /// The timeline to follow, over its ancestors; the newest when left out
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<TimelineId>,
    /// Begin with the first record at this position or behind it
    #[arg(short, long, value_name = "LSN")]
    pub(crate) start: Option<Lsn>,
    /// End before the first record at this position or behind it
    #[arg(short, long, value_name = "LSN")]
    pub(crate) end: Option<Lsn>,
}

/// Arguments of `wal get`.
#[derive(Debug, Args)]
pub(crate) struct WalGetArguments {
    /// The spool of the server, for the newest segments that are not archived yet
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    /// How far recovery must get: when WAL before this position is absent, recovery must stop
    #[arg(long, value_name = "LSN", requires = "timeline")]
    pub(crate) needed: Option<Lsn>,
    /// The timeline of that position
    #[arg(long, value_name = "N", requires = "needed")]
    pub(crate) timeline: Option<TimelineId>,
    /// Recovery has its target before that position: the state of the WAL behind it does not matter
    #[arg(long, requires = "needed")]
    pub(crate) stops_there: bool,
    /// Another repository of the server, for what those before it do not give: where it is, its file of credentials and the source
    /// of its master key, each - when it has none; can be given several times
    #[arg(long = "or", value_names = ["URL|DIR", "CREDENTIALS", "KEY"], num_args = 3)]
    pub(crate) others: Vec<String>,
    /// While PostgreSQL replays, fetch so many segments ahead into pgm_ahead beside PATH; 0 fetches none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=64))]
    pub(crate) ahead: u8,
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The file that PostgreSQL asks for (%f)
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// Where it wants it (%p)
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

/// Arguments of `wal info`.
#[derive(Debug, Args)]
pub(crate) struct WalInfoArguments {
    #[command(flatten)]
    pub(crate) source: WalSourceArguments,
    #[command(flatten)]
    pub(crate) filter: WalFilterArguments,
    /// Print at most this many records
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print numbers and sizes by resource manager, or by kind of record, instead of records
    #[arg(short = 'z', long, value_enum, value_name = "BY", num_args = 0..=1, require_equals = true, default_missing_value = "rmgr")]
    pub(crate) stats: Option<WalStats>,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "stats")]
    pub(crate) quiet: bool,
    /// Connect to this database of the server that wrote the WAL, to print names behind the numbers of files
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) conninfo: Option<String>,
}

/// Arguments of `wal browse`.
#[derive(Debug, Args)]
pub(crate) struct WalBrowseArguments {
    #[command(flatten)]
    pub(crate) source: WalSourceArguments,
    /// Connect to this database of the server that wrote the WAL, to show names behind the numbers of files
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) conninfo: Option<String>,
}

/// Which records are shown: those that every option given lets through.
#[derive(Debug, Args)]
pub(crate) struct WalFilterArguments {
    /// Only records of this resource manager, such as Heap; can be given several times
    #[arg(short, long, value_name = "NAME", value_parser = parse_manager)]
    pub(crate) rmgr: Vec<u8>,
    /// Only records that refer to blocks of this relation: TABLESPACE/DATABASE/FILE, DATABASE/FILE or FILE
    #[arg(short = 'R', long, value_name = "RELATION", value_parser = parse_relation)]
    pub(crate) relation: Option<RelationFilter>,
    /// Only records of this transaction; can be given several times
    #[arg(short, long, value_name = "XID")]
    pub(crate) xid: Vec<u32>,
    /// Only records behind the last end of a transaction before this moment
    #[arg(long, value_name = "T", value_parser = super::parse_time)]
    pub(crate) since: Option<jiff::Timestamp>,
    /// Only records up to the last end of a transaction at this moment
    #[arg(long, value_name = "T", value_parser = super::parse_time)]
    pub(crate) until: Option<jiff::Timestamp>,
}

/// What statistics are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WalStats {
    /// By resource manager
    Rmgr,
    /// By kind of record
    Record,
}

/// Arguments of `wal verify`.
#[derive(Debug, Args)]
pub(crate) struct WalVerifyArguments {
    #[command(flatten)]
    pub(crate) source: WalSourceArguments,
    /// How many stretches of WAL are read at once
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
}

/// Arguments of `wal summary`.
#[derive(Debug, Args)]
pub(crate) struct WalSummaryArguments {
    #[command(flatten)]
    pub(crate) source: WalSourceArguments,
    /// Also list pages of visibility maps in which a change of a row clears bits, which PostgreSQL leaves out
    #[arg(long)]
    pub(crate) complete: bool,
    /// Write the summary into this folder, in the form and under the name of PostgreSQL's own
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `wal find`: what is looked for, one of them.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false))]
pub(crate) struct WalFindArguments {
    #[command(flatten)]
    pub(crate) source: WalSourceArguments,
    /// The end of this transaction
    #[arg(short, long, value_name = "XID", group = "what")]
    pub(crate) xid: Option<u32>,
    /// The first commit after this moment
    #[arg(long, value_name = "T", group = "what", value_parser = super::parse_time)]
    pub(crate) commit_after: Option<jiff::Timestamp>,
    /// Where a table of this name was dropped
    #[arg(long, value_name = "NAME", group = "what")]
    pub(crate) drop_table: Option<String>,
    /// Where a table of this name was truncated or rewritten
    #[arg(long, value_name = "NAME", group = "what")]
    pub(crate) truncate: Option<String>,
    /// Where the file with this number (pg_relation_filenode) was removed, whatever for
    #[arg(long, value_name = "FILE", group = "what")]
    pub(crate) file: Option<u32>,
}

/// Arguments of `wal filter`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("without").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("result").required(true))]
pub(crate) struct WalFilterOutArguments {
    #[command(flatten)]
    pub(crate) source: WalSourceArguments,
    /// Leave out this transaction; can be given several times
    #[arg(short = 'x', long, value_name = "XID", group = "without")]
    pub(crate) without_xid: Vec<u32>,
    /// Leave out the transactions that dropped a table of this name; can be given several times
    #[arg(long, value_name = "NAME", group = "without")]
    pub(crate) without_drop_table: Vec<String>,
    /// Leave out the transactions that truncated or rewrote a table of this name; can be given several times
    #[arg(long, value_name = "NAME", group = "without")]
    pub(crate) without_truncate: Vec<String>,
    /// Leave out transactions that depend on those, too, instead of refusing
    #[arg(long)]
    pub(crate) with_dependents: bool,
    /// Write the segments into this folder, which must be empty or not exist
    #[arg(short, long, value_name = "DIR", group = "result")]
    pub(crate) output: Option<PathBuf>,
    /// Write nothing, only say what would be left out and what is in the way
    #[arg(long, group = "result")]
    pub(crate) dry_run: bool,
}

/// A relation, as far as it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RelationFilter {
    pub(crate) tablespace: Option<u32>,
    pub(crate) database: Option<u32>,
    pub(crate) number: u32,
}

impl RelationFilter {
    /// Whether `record` refers to a block of it.
    pub(crate) fn is_in(self, record: &Record<'_>) -> bool {
        record.blocks().any(|block| {
            let RelationFile {
                tablespace,
                database,
                number,
            } = block.relation;
            number == self.number
                && self.database.is_none_or(|wanted| wanted == database)
                && self.tablespace.is_none_or(|wanted| wanted == tablespace)
        })
    }
}

impl From<RelationFile> for RelationFilter {
    fn from(relation: RelationFile) -> Self {
        Self {
            tablespace: Some(relation.tablespace),
            database: Some(relation.database),
            number: relation.number,
        }
    }
}

impl fmt::Display for RelationFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [self.tablespace, self.database].into_iter().flatten() {
            write!(f, "{part}/")?;
        }
        write!(f, "{}", self.number)
    }
}

pub(crate) fn parse_relation(text: &str) -> Result<RelationFilter, String> {
    let wrong = || format!("`{text}` is not TABLESPACE/DATABASE/FILE, DATABASE/FILE or FILE");
    let numbers: Vec<u32> = text
        .split('/')
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let (tablespace, database, number) = match numbers[..] {
        [number] => (None, None, number),
        [database, number] => (None, Some(database), number),
        [tablespace, database, number] => (Some(tablespace), Some(database), number),
        _ => return Err(wrong()),
    };
    Ok(RelationFilter {
        tablespace,
        database,
        number,
    })
}

/// A resource manager by its name, upper or lower case, or `custom` and its number.
pub(crate) fn parse_manager(text: &str) -> Result<u8, String> {
    let managers = pgm_wal::record::describe::resource_managers();
    if let Some(number) = managers
        .enumerate()
        .find_map(|(number, name)| name.eq_ignore_ascii_case(text).then_some(number))
    {
        return Ok(number as u8);
    }
    let custom = text
        .strip_prefix("custom")
        .and_then(|digits| digits.parse::<u8>().ok())
        .filter(|number| *number >= 128);
    custom.ok_or_else(|| {
        let names: Vec<&str> = pgm_wal::record::describe::resource_managers().collect();
        format!(
            "there is no resource manager `{text}`; they are {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_named_by_one_to_three_numbers() {
        let parsed = parse_relation("1663/5/16384").unwrap();
        assert_eq!((parsed.tablespace, parsed.database), (Some(1663), Some(5)));
        assert_eq!(parse_relation("16384").unwrap().database, None);
        for text in ["", "a", "1/2/3/4", "1//3", "-1"] {
            assert!(parse_relation(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resource_managers_are_found_by_name() {
        assert_eq!(parse_manager("heap"), Ok(10));
        assert_eq!(parse_manager("XLOG"), Ok(0));
        assert_eq!(parse_manager("custom200"), Ok(200));
        assert!(parse_manager("custom5").is_err());
        assert!(parse_manager("Haep").unwrap_err().contains("Btree"));
    }
}
