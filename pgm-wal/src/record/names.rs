//! Names of relations, learned from the WAL itself.
//!
//! A table's name is in `pg_class`, and what is done to `pg_class` is in the WAL: new rows, and after each checkpoint the
//! whole page before its first change. So a reader that began at a checkpoint, or saw the table being made, knows the names
//! of the tables that are dropped later, although the server that dropped them does not.
//!
//! ```text
//! pg_class   oid u32 | name 64, zero-terminated | namespace, type, of type, owner, access method u32 each | file u32
//! ```
//!
//! The same in PostgreSQL 14 to 18 (`catalog/pg_class.h`). Rows that are stored as differences to the row before are not
//! seen until the page comes whole again; nor is a `pg_class` that was itself rewritten (`VACUUM FULL pg_class`).

use std::collections::HashMap;

use super::block::{Block, Fork, RelationFile};
use super::entry::Record;
use super::image::BLOCK_BYTES;

/// `pg_class`: its file is named as its OID until somebody rewrites it.
const PG_CLASS: u32 = 1259;
const HEAP: u8 = 10;
const HEAP_OPERATION: u8 = 0x70;
const HEAP_INSERT: u8 = 0x00;
const HEAP_DELETE: u8 = 0x10;

const NAME_AT: usize = 4;
const NAME_BYTES: usize = 64;
const FILE_AT: usize = 88;
/// The header of a row, and of a row in a record.
const ROW_HEADER_BYTES: usize = 23;
const RECORD_ROW_HEADER_BYTES: usize = 5;
const PAGE_HEADER_BYTES: usize = 24;

/// The names of relations by database and file.
#[derive(Debug, Default)]
pub struct RelationNames {
    names: HashMap<(u32, u32), String>,
}

impl RelationNames {
    /// Learns from a record.
    pub fn observe(&mut self, record: &Record<'_>) {
        for block in record.blocks() {
            let relation = block.relation;
            if relation.number != PG_CLASS || block.fork != Fork::Main {
                continue;
            }
            if let Some(image) = block.image {
                let mut page = [0; BLOCK_BYTES];
                if image.restore(&mut page).is_ok() {
                    self.learn_page(relation.database, &page);
                }
            } else if let Some(row) = inserted_row(record, &block) {
                self.learn_row(relation.database, row);
            }
        }
    }

    /// The name of a relation, if it was learned.
    pub fn name(&self, relation: RelationFile) -> Option<&str> {
        self.names
            .get(&(relation.database, relation.number))
            .map(String::as_str)
    }

    fn learn_page(&mut self, database: u32, page: &[u8; BLOCK_BYTES]) {
        let lower = usize::from(u16::from_le_bytes([page[12], page[13]])).min(BLOCK_BYTES);
        for at in (PAGE_HEADER_BYTES..lower.saturating_sub(3)).step_by(4) {
            self.learn_row(database, row_of_item(page, at).unwrap_or_default());
        }
    }

    fn learn_row(&mut self, database: u32, row: &[u8]) {
        let (Some(file), Some(name)) = (file_of(row), row.get(NAME_AT..NAME_AT + NAME_BYTES))
        else {
            return;
        };
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        // Views and mapped catalogs have no file here.
        if file != 0 && !name.is_empty() {
            let name = String::from_utf8_lossy(name).into_owned();
            self.names.insert((database, file), name);
        }
    }
}

/// A relation of which a record inserts the row into `pg_class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeRelation {
    /// The database.
    pub database: u32,
    /// The file's number, 0 for a view.
    pub file: u32,
    /// Whether it is the new place of another one that is being rewritten, as `VACUUM FULL`, `CLUSTER` and `ALTER TABLE`
    /// make them: PostgreSQL names them `pg_temp_` and a number.
    pub transient: bool,
}

impl MadeRelation {
    /// What `record` makes, if it does.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let block = record.block(0)?;
        let inserts =
            record.resource_manager == HEAP && record.info & HEAP_OPERATION == HEAP_INSERT;
        if block.relation.number != PG_CLASS || !inserts {
            return None;
        }
        let database = block.relation.database;
        if let Some(row) = inserted_row(record, &block) {
            return Self::of_row(database, row);
        }
        let mut page = [0; BLOCK_BYTES];
        block.image?.restore(&mut page).ok()?;
        let offset = usize::from(u16::from_le_bytes(*record.main_data.first_chunk()?));
        let item = PAGE_HEADER_BYTES + offset.checked_sub(1)? * 4;
        Self::of_row(database, row_of_item(&page, item)?)
    }

    fn of_row(database: u32, row: &[u8]) -> Option<Self> {
        let name = row.get(NAME_AT..NAME_AT + NAME_BYTES)?;
        let name = name.split(|byte| *byte == 0).next()?;
        let number = name.strip_prefix(b"pg_temp_");
        Some(Self {
            database,
            file: file_of(row)?,
            transient: number
                .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit)),
        })
    }
}

/// The row that `record` inserts into `block`, without its header, if it says it beside no image.
fn inserted_row<'a>(record: &Record<'a>, block: &Block<'a>) -> Option<&'a [u8]> {
    let inserts = record.resource_manager == HEAP && record.info & HEAP_OPERATION == HEAP_INSERT;
    let offset = block.data.get(RECORD_ROW_HEADER_BYTES - 1)?;
    let begin = RECORD_ROW_HEADER_BYTES + usize::from(*offset);
    let begin = begin.checked_sub(ROW_HEADER_BYTES)?;
    block.data.get(begin..).filter(|_| inserts)
}

/// The row, without its header, to which the item at `at` of a page points.
fn row_of_item(page: &[u8; BLOCK_BYTES], at: usize) -> Option<&[u8]> {
    // An item: offset 15 bits, state 2 bits, length 15 bits; 1 is a row that is there.
    let item = u32::from_le_bytes(*page.get(at..)?.first_chunk()?);
    let (offset, state, len) = (item & 0x7FFF, item >> 15 & 0x3, item >> 17);
    let begin = offset as usize;
    let row = page
        .get(begin..begin + len as usize)
        .filter(|_| state == 1)?;
    row.get(usize::from(*row.get(ROW_HEADER_BYTES - 1)?)..)
}

/// The number of the file that a row of `pg_class` names.
fn file_of(row: &[u8]) -> Option<u32> {
    let file = row.get(FILE_AT..)?.first_chunk()?;
    Some(u32::from_le_bytes(*file))
}

/// Whether `record` deletes a row of `pg_class`: its transaction drops a relation.
pub fn drops_relation(record: &Record<'_>) -> bool {
    record.resource_manager == HEAP
        && record.info & HEAP_OPERATION == HEAP_DELETE
        && record
            .blocks()
            .any(|block| block.relation.number == PG_CLASS)
}
