//! A record as a line of JSON: lsn, prev, length, rmgr, record, xid, blocks, description.

use std::borrow::Cow;
use std::io::{self, Write};

use pgm_wal::record::Record;
use pgm_wal::record::describe::{describe, resource_manager_name, write_operation};
use serde::{Serialize, Serializer};

use crate::relation_names::RelationLabels;

#[derive(Serialize)]
struct Line<'a> {
    lsn: String,
    prev: String,
    length: u32,
    /// Of which full-page images.
    images_length: u32,
    rmgr: Cow<'static, str>,
    record: &'a str,
    xid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_level_xid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<u16>,
    blocks: Blocks<'a>,
    description: &'a str,
}

#[derive(Serialize)]
struct Reference<'a> {
    id: u8,
    relation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    fork: &'static str,
    block: u32,
    /// Whether the record has the whole page.
    image: bool,
}

/// The blocks that a record refers to, as a list.
struct Blocks<'a>(&'a Record<'a>, &'a RelationLabels);

impl Serialize for Blocks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.blocks().map(|block| Reference {
            id: block.id,
            relation: block.relation.to_string(),
            name: self.1.name(block.relation.database, block.relation.number),
            fork: block.fork.name(),
            block: block.number,
            image: block.image.is_some(),
        }))
    }
}

/// Writes `record`; `text` is used for putting it into words.
pub(super) fn write(
    record: &Record<'_>,
    labels: &RelationLabels,
    text: &mut String,
    out: &mut impl Write,
) -> io::Result<()> {
    text.clear();
    write_operation(record, text);
    let operation = text.len();
    describe(record, text);
    let (operation, description) = text.split_at(operation);
    let line = Line {
        lsn: record.lsn.to_string(),
        prev: record.previous.to_string(),
        length: record.total_len,
        images_length: record.images_len,
        rmgr: resource_manager_name(record.resource_manager),
        record: operation,
        xid: record.xid,
        top_level_xid: record.top_level_xid,
        origin: record.origin,
        blocks: Blocks(record, labels),
        description,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
