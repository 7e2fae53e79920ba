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

use super::block::{Fork, RelationFile};
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
            } else if record.resource_manager == HEAP
                && record.info & HEAP_OPERATION == HEAP_INSERT
                && let Some(offset) = block.data.get(RECORD_ROW_HEADER_BYTES - 1)
            {
                let begin = RECORD_ROW_HEADER_BYTES + usize::from(*offset);
                let row = begin
                    .checked_sub(ROW_HEADER_BYTES)
                    .and_then(|begin| block.data.get(begin..));
                self.learn_row(relation.database, row.unwrap_or_default());
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
        let u16_at = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let lower = usize::from(u16_at(12)).min(BLOCK_BYTES);
        for at in (PAGE_HEADER_BYTES..lower.saturating_sub(3)).step_by(4) {
            // An item: offset 15 bits, state 2 bits, length 15 bits; 1 is a row that is there.
            let item = u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
            let (offset, state, len) = (item & 0x7FFF, item >> 15 & 0x3, item >> 17);
            let begin = offset as usize;
            let Some(row) = page.get(begin..begin + len as usize).filter(|_| state == 1) else {
                continue;
            };
            let data = row
                .get(ROW_HEADER_BYTES - 1)
                .and_then(|header| row.get(usize::from(*header)..));
            self.learn_row(database, data.unwrap_or_default());
        }
    }

    fn learn_row(&mut self, database: u32, row: &[u8]) {
        let file = row.get(FILE_AT..).and_then(|rest| rest.first_chunk());
        let (Some(file), Some(name)) = (file, row.get(NAME_AT..NAME_AT + NAME_BYTES)) else {
            return;
        };
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let file = u32::from_le_bytes(*file);
        // Views and mapped catalogs have no file here.
        if file != 0 && !name.is_empty() {
            let name = String::from_utf8_lossy(name).into_owned();
            self.names.insert((database, file), name);
        }
    }
}

/// Whether `record` deletes a row of `pg_class`: its transaction drops a relation.
pub fn drops_relation(record: &Record<'_>) -> bool {
    record.resource_manager == HEAP
        && record.info & HEAP_OPERATION == HEAP_DELETE
        && record
            .blocks()
            .any(|block| block.relation.number == PG_CLASS)
}
