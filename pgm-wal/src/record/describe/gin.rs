//! GIN indexes. Follows `gindesc.c`.

use super::data::{Data, letter, put};
use crate::record::entry::Record;
use crate::record::page::WalVersion;

const IS_DATA: u16 = 0x01;
const IS_LEAF: u16 = 0x02;
const SPLIT_ROOT: u16 = 0x04;

const ACTION_DELETE: u8 = 1;
const ACTION_INSERT: u8 = 2;
const ACTION_REPLACE: u8 = 3;
const ACTION_ADD_ITEMS: u8 = 4;

const ITEM_POINTER_BYTES: usize = 6;

pub(super) fn name(info: u8, _: WalVersion) -> Option<&'static str> {
    Some(match info & 0xF0 {
        0x10 => "CREATE_PTREE",
        0x20 => "INSERT",
        0x30 => "SPLIT",
        0x40 => "VACUUM_PAGE",
        0x50 => "DELETE_PAGE",
        0x60 => "UPDATE_META_PAGE",
        0x70 => "INSERT_LISTPAGE",
        0x80 => "DELETE_LISTPAGE",
        0x90 => "VACUUM_DATA_LEAF_PAGE",
        _ => return None,
    })
}

pub(super) fn describe(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    match record.operation() {
        0x20 => insert(record, out),
        0x30 => {
            let flags = data.u16(24)?;
            put(
                out,
                format_args!("isrootsplit: {} ", letter(flags & SPLIT_ROOT != 0)),
            )?;
            kind(out, flags)
        }
        // Behind the metadata, which is 56 bytes long.
        0x80 => put(out, format_args!("ndeleted: {}", data.i32(56)?)),
        0x90 => match full_page(record) {
            Some(text) => put(out, format_args!("{text}")),
            None => segments(out, Data(record.block(0)?.data)),
        },
        _ => Some(()),
    }
}

fn kind(out: &mut String, flags: u16) -> Option<()> {
    put(
        out,
        format_args!(
            "isdata: {} isleaf: {}",
            letter(flags & IS_DATA != 0),
            letter(flags & IS_LEAF != 0)
        ),
    )
}

fn full_page(record: &Record<'_>) -> Option<&'static str> {
    let image = record.block(0)?.image?;
    Some(if image.applied {
        " (full page image)"
    } else {
        " (full page image, for WAL verification)"
    })
}

fn insert(record: &Record<'_>, out: &mut String) -> Option<()> {
    let data = Data(record.main_data);
    let flags = data.u16(0)?;
    kind(out, flags)?;
    if flags & IS_LEAF == 0 {
        put(
            out,
            format_args!(" children: {}/{}", data.block_id(2)?, data.block_id(6)?),
        )?;
    }
    if let Some(text) = full_page(record) {
        return put(out, format_args!("{text}"));
    }
    let payload = Data(record.block(0)?.data);
    if flags & IS_DATA == 0 {
        put(out, format_args!(" isdelete: {}", letter(payload.bool(2)?)))
    } else if flags & IS_LEAF != 0 {
        segments(out, payload)
    } else {
        put(
            out,
            format_args!(
                " pitem: {}-{}/{}",
                payload.block_id(2)?,
                payload.block_id(6)?,
                payload.u16(10)?
            ),
        )
    }
}

/// What is done to the segments of a posting tree's leaf page.
fn segments(out: &mut String, data: Data<'_>) -> Option<()> {
    let actions = data.u16(0)?;
    put(out, format_args!(" {actions} segments:"))?;
    let mut at = 2;
    for _ in 0..actions {
        let (segment, action) = (data.u8(at)?, data.u8(at + 1)?);
        at += 2;
        match action {
            ACTION_DELETE => put(out, format_args!(" {segment} (delete)"))?,
            ACTION_INSERT | ACTION_REPLACE => {
                // A posting list: its first item, the length of the rest, the rest.
                let len = usize::from(data.u16(at + ITEM_POINTER_BYTES)?);
                at += ITEM_POINTER_BYTES + 2 + len.next_multiple_of(2);
                let word = if action == ACTION_INSERT {
                    "insert"
                } else {
                    "replace"
                };
                put(out, format_args!(" {segment} ({word})"))?;
            }
            ACTION_ADD_ITEMS => {
                let items = data.u16(at)?;
                at += 2 + usize::from(items) * ITEM_POINTER_BYTES;
                put(out, format_args!(" {segment} (add {items} items)"))?;
            }
            _ => return put(out, format_args!(" {segment} unknown action {action} ???")),
        }
    }
    Some(())
}
