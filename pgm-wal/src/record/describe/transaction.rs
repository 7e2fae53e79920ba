//! Transaction: how transactions end, and what belongs to their ends. Follows `xactdesc.c`.

use super::data::{Data, lossy, lsn, path, put, time};
use super::standby::{MESSAGE_BYTES, invalidations, xids};
use crate::record::block::RelationFile;
use crate::record::entry::Record;
use crate::record::page::WalVersion;

const OPERATION: u8 = 0x70;
const HAS_INFO: u8 = 0x80;
const COMMIT: u8 = 0x00;
const PREPARE: u8 = 0x10;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWO_PHASE: u32 = 1 << 4;
const HAS_ORIGIN: u32 = 1 << 5;
const HAS_GID: u32 = 1 << 7;
const HAS_STATISTICS: u32 = 1 << 8;
const APPLY_FEEDBACK: u32 = 1 << 29;
const RELATION_CACHE_INIT: u32 = 1 << 30;
const FORCE_SYNC: u32 = 1 << 31;

const RELATION_BYTES: usize = 12;

/// Files of relations in a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relations<'a> {
    data: Data<'a>,
    count: usize,
}

impl<'a> Relations<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = RelationFile> + use<'a> {
        (0..self.count).map_while(move |index| self.data.relation(index * RELATION_BYTES))
    }
}

/// An array of a record, of which the elements are not looked at yet.
type Array<'a> = (usize, Data<'a>);

/// The end of a transaction as it is recorded: `xl_xact_commit` or `xl_xact_abort` and what follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    time: i64,
    flags: u32,
    database: (u32, u32),
    subtransactions: Array<'a>,
    /// The relations whose files are removed.
    pub(crate) relations: Relations<'a>,
    statistics: Array<'a>,
    invalidations: Array<'a>,
    /// The number of the prepared transaction.
    two_phase_xid: Option<u32>,
    origin: Option<(u64, i64)>,
}

impl<'a> Ending<'a> {
    /// The transactions that are part of the one that ends.
    pub(crate) fn subtransactions(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (count, items) = self.subtransactions;
        (0..count).map_while(move |index| items.u32(index * 4))
    }

    /// What `record` says, if it ends a transaction; `None` also when it is too short.
    pub(crate) fn of(record: &Record<'a>) -> Option<Self> {
        let commits = match record.info & OPERATION {
            COMMIT | COMMIT_PREPARED => true,
            ABORT | ABORT_PREPARED => false,
            _ => return None,
        };
        let data = Data(record.main_data);
        let time = data.i64(0)?;
        let mut rest = data.from(8)?;
        let mut flags = 0;
        if record.info & HAS_INFO != 0 {
            flags = rest.u32(0)?;
            rest = rest.from(4)?;
        }
        let mut database = (0, 0);
        if flags & HAS_DATABASE != 0 {
            database = (rest.u32(0)?, rest.u32(4)?);
            rest = rest.from(8)?;
        }
        let mut take = |flag, element| -> Option<Array<'a>> {
            if flags & flag == 0 {
                return Some((0, Data(&[])));
            }
            let count = rest.count(0)?;
            let items = rest.from(4)?;
            rest = items.from(count.checked_mul(element)?)?;
            Some((count, items))
        };
        let subtransactions = take(HAS_SUBTRANSACTIONS, 4)?;
        let (count, relations) = take(HAS_RELATIONS, RELATION_BYTES)?;
        let statistics = take(HAS_STATISTICS, statistic_bytes(record.version))?;
        // Only a commit has them.
        let invalidations = take(if commits { HAS_INVALIDATIONS } else { 0 }, MESSAGE_BYTES)?;
        let mut two_phase_xid = None;
        if flags & HAS_TWO_PHASE != 0 {
            two_phase_xid = Some(rest.u32(0)?);
            rest = rest.from(4)?;
            if flags & HAS_GID != 0 {
                rest = rest.from(rest.text(0)?.len() + 1)?;
            }
        }
        let origin = if flags & HAS_ORIGIN != 0 {
            Some((rest.u64(0)?, rest.i64(8)?))
        } else {
            None
        };
        Some(Self {
            time,
            flags,
            database,
            subtransactions,
            relations: Relations {
                data: relations,
                count,
            },
            statistics,
            invalidations,
            two_phase_xid,
            origin,
        })
    }
}

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & OPERATION {
        COMMIT => "COMMIT",
        PREPARE => "PREPARE",
        ABORT => "ABORT",
        COMMIT_PREPARED => "COMMIT_PREPARED",
        ABORT_PREPARED => "ABORT_PREPARED",
        0x50 => "ASSIGNMENT",
        0x60 => "INVALIDATION",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.info & OPERATION {
        COMMIT | COMMIT_PREPARED => commit(record, out),
        ABORT | ABORT_PREPARED => abort(record, out),
        PREPARE => prepare(record, out),
        0x50 => {
            put(out, format_args!("xtop {}: subxacts:", data.u32(0)?))?;
            xids(out, data.from(8)?, data.count(4)?)
        }
        0x60 => invalidations(out, data.from(4)?, data.count(0)?, None),
        _ => Some(()),
    }
}

fn commit(record: &Record<'_>, out: &mut String) -> Option<()> {
    let ending = Ending::of(record)?;
    begin(&ending, record, out)?;
    statistics(out, "", ending.statistics, record.version)?;
    let (count, messages) = ending.invalidations;
    let init = (ending.flags & RELATION_CACHE_INIT != 0).then_some(ending.database);
    invalidations(out, messages, count, init)?;
    if ending.flags & APPLY_FEEDBACK != 0 {
        out.push_str("; apply_feedback");
    }
    if ending.flags & FORCE_SYNC != 0 {
        out.push_str("; sync");
    }
    origin(&ending, record, out)
}

fn abort(record: &Record<'_>, out: &mut String) -> Option<()> {
    let ending = Ending::of(record)?;
    begin(&ending, record, out)?;
    origin(&ending, record, out)?;
    statistics(out, "", ending.statistics, record.version)
}

fn begin(ending: &Ending<'_>, record: &Record<'_>, out: &mut String) -> Option<()> {
    if let Some(xid) = ending.two_phase_xid.filter(|xid| *xid != 0) {
        put(out, format_args!("{xid}: "))?;
    }
    time(out, ending.time)?;
    relations(out, "rels", ending.relations, record.version)?;
    subtransactions(out, ending.subtransactions)
}

fn origin(ending: &Ending<'_>, record: &Record<'_>, out: &mut String) -> Option<()> {
    match ending.origin {
        Some((position, moment)) => write_origin(record, position, moment, out),
        None => Some(()),
    }
}

fn write_origin(record: &Record<'_>, position: u64, moment: i64, out: &mut String) -> Option<()> {
    put(
        out,
        format_args!("; origin: node {}, lsn ", record.origin.unwrap_or_default()),
    )?;
    lsn(out, position)?;
    out.push_str(", at ");
    time(out, moment)
}

/// `xl_xact_prepare`, whose arrays are aligned to 8 bytes; before PostgreSQL 15 without numbers of statistics.
fn prepare(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let with_statistics = record.version >= WalVersion::V15;
    let shift = if with_statistics { 8 } else { 0 };
    let statistic = |at| {
        if with_statistics {
            data.count(at)
        } else {
            Some(0)
        }
    };
    let lengths = [
        (data.count(28)?, 4),
        (data.count(32)?, RELATION_BYTES),
        (data.count(36)?, RELATION_BYTES),
        (statistic(40)?, statistic_bytes(record.version)),
        (statistic(44)?, statistic_bytes(record.version)),
        (data.count(40 + shift)?, MESSAGE_BYTES),
    ];
    let gid_len = usize::from(data.u16(46 + shift)?);
    let gid = data.0.get(64 + shift..64 + shift + gid_len)?;
    let mut rest = data.from(64 + shift + gid_len.next_multiple_of(8))?;
    let mut arrays = [(0, rest); 6];
    for (array, (count, element)) in arrays.iter_mut().zip(lengths) {
        *array = (count, rest);
        // The last one may end without padding.
        let len = count.checked_mul(element)?;
        rest = rest
            .from(len.next_multiple_of(8))
            .or_else(|| rest.from(len))?;
    }
    let [
        subxacts,
        commits,
        aborts,
        commit_stats,
        abort_stats,
        messages,
    ] = arrays;
    out.push_str("gid ");
    lossy(out, gid.split(|byte| *byte == 0).next()?);
    out.push_str(": ");
    time(out, data.i64(16)?)?;
    for (label, (count, data)) in [("rels(commit)", commits), ("rels(abort)", aborts)] {
        relations(out, label, Relations { data, count }, record.version)?;
    }
    statistics(out, "commit ", commit_stats, record.version)?;
    statistics(out, "abort ", abort_stats, record.version)?;
    subtransactions(out, subxacts)?;
    // The tablespace is not recorded.
    let init = data.bool(44 + shift)?.then_some((data.u32(12)?, 0));
    invalidations(out, messages.1, messages.0, init)?;
    match record.origin.filter(|origin| *origin != 0) {
        Some(_) => write_origin(record, data.u64(48 + shift)?, data.i64(56 + shift)?, out),
        None => Some(()),
    }
}

fn relations(
    out: &mut String,
    label: &str,
    relations: Relations<'_>,
    version: WalVersion,
) -> Option<()> {
    if relations.count > 0 {
        put(out, format_args!("; {label}:"))?;
    }
    for relation in relations.iter() {
        out.push(' ');
        path(out, relation, 0, version)?;
    }
    Some(())
}

fn subtransactions(out: &mut String, (count, items): Array<'_>) -> Option<()> {
    if count > 0 {
        out.push_str("; subxacts:");
        xids(out, items, count)?;
    }
    Some(())
}

/// `xl_xact_stats_item`: the object has 64 bits from PostgreSQL 18 on.
const fn statistic_bytes(version: WalVersion) -> usize {
    if matches!(version, WalVersion::V18) {
        16
    } else {
        12
    }
}

fn statistics(
    out: &mut String,
    label: &str,
    (count, items): Array<'_>,
    version: WalVersion,
) -> Option<()> {
    if count > 0 {
        put(out, format_args!("; {label}dropped stats:"))?;
    }
    for index in 0..count {
        let item = items.from(index * statistic_bytes(version))?;
        let object = if version >= WalVersion::V18 {
            item.u64(8)?
        } else {
            u64::from(item.u32(8)?)
        };
        put(
            out,
            format_args!(" {}/{}/{object}", item.i32(0)?, item.u32(4)?),
        )?;
    }
    Some(())
}
