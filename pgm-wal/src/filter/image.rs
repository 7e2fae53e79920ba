//! Full-page images that were made after a transaction had committed: they say so in their rows' hint bits.
//!
//! Replaying puts an image into place as it is, and whoever then reads a row trusts its hint bits and never asks how the
//! transaction ended. So the bits that say that a left-out transaction has committed are cleared: the reader asks, and
//! finds that it was aborted. A page of a visibility map says of pages of the table that everybody sees all their rows,
//! and the pages say so themselves; that is cleared, too.
//!
//! ```text
//! page   lsn 8 | checksum 2 | flags 2 | lower 2 | upper 2 | special 2 | … | items u32: offset 15, state 2, length 15 bits
//! row    xmin u32 | xmax u32 | 12 bytes | infomask2 u16 | infomask u16 | hoff u8
//! map    page header 24 | two bits a page of the table
//! ```
//!
//! Follows `storage/bufpage.h`, `access/htup_details.h` and `visibilitymap.c`.

use std::collections::HashSet;
use std::ops::Range;

use super::heap::XMIN_FROZEN;
use super::rows::PageRows;
use crate::record::BLOCK_BYTES;

const FLAGS_AT: usize = 10;
const LOWER_AT: usize = 12;
const PAGE_HEADER_BYTES: usize = 24;
const PD_ALL_VISIBLE: u16 = 0x0004;
const ITEM_NORMAL: u32 = 1;

const XMIN_AT: usize = 0;
const XMAX_AT: usize = 4;
const INFOMASK_AT: usize = 20;
const ROW_HEADER_BYTES: usize = 23;
const XMIN_COMMITTED: u16 = 0x0100;
const XMAX_COMMITTED: u16 = 0x0400;
const XMAX_IS_MULTI: u16 = 0x1000;

/// How many pages of a table one page of its visibility map covers.
const BLOCKS_PER_MAP_PAGE: u32 = ((BLOCK_BYTES - PAGE_HEADER_BYTES) * 4) as u32;

pub(super) type Page = [u8; BLOCK_BYTES];

/// What was found on the image of a table's page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Rows that were removed are no longer there.
    pub(super) pruned: bool,
    /// Rows that were written are frozen.
    pub(super) frozen: bool,
}

/// Compares a table's page with what is known of it, and forgets rows that are gone.
pub(super) fn compare(page: &Page, rows: &mut PageRows, left_out: &HashSet<u32>) -> Seen {
    let mut seen = Seen::default();
    for offset in rows.removed.iter() {
        let there = row_at(page, offset).is_some_and(|at| {
            u16_at(page, at + INFOMASK_AT) & XMAX_IS_MULTI != 0
                || left_out.contains(&u32_at(page, at + XMAX_AT))
        });
        if !there {
            seen.pruned = true;
        }
    }
    let wrote = rows.inserted.iter().chain(rows.versions.iter());
    for offset in wrote.collect::<Vec<_>>() {
        match row_at(page, offset) {
            Some(at) if left_out.contains(&u32_at(page, at + XMIN_AT)) => {
                seen.frozen |= u16_at(page, at + INFOMASK_AT) & XMIN_FROZEN == XMIN_FROZEN;
            }
            _ => rows.forget(offset),
        }
    }
    seen
}

/// Makes a table's page forget that the transactions have committed.
pub(super) fn clear_hints(page: &mut Page, left_out: &HashSet<u32>) {
    let flags = u16_at(page, FLAGS_AT) & !PD_ALL_VISIBLE;
    put_u16(page, FLAGS_AT, flags);
    for offset in 1..=item_count(page) {
        let Some(at) = row_at(page, offset) else {
            continue;
        };
        let mut infomask = u16_at(page, at + INFOMASK_AT);
        let xmin = u32_at(page, at + XMIN_AT);
        if infomask & XMIN_FROZEN == XMIN_COMMITTED && left_out.contains(&xmin) {
            infomask &= !XMIN_COMMITTED;
        }
        let xmax = u32_at(page, at + XMAX_AT);
        if infomask & XMAX_IS_MULTI == 0 && left_out.contains(&xmax) {
            infomask &= !XMAX_COMMITTED;
        }
        put_u16(page, at + INFOMASK_AT, infomask);
    }
}

/// The pages of a table that page `number` of its visibility map covers.
pub(super) fn mapped(number: u32) -> Range<u32> {
    let first = number.saturating_mul(BLOCKS_PER_MAP_PAGE);
    first..first.saturating_add(BLOCKS_PER_MAP_PAGE)
}

/// Clears the bits of `blocks` of a table, all of which this page of its visibility map covers.
pub(super) fn clear_visibility(page: &mut Page, blocks: impl Iterator<Item = u32>) {
    for block in blocks {
        let within = block % BLOCKS_PER_MAP_PAGE;
        page[PAGE_HEADER_BYTES + within as usize / 4] &= !(0x03 << (within % 4 * 2));
    }
}

fn item_count(page: &Page) -> u16 {
    let lower = u16_at(page, LOWER_AT).min(BLOCK_BYTES as u16);
    lower.saturating_sub(PAGE_HEADER_BYTES as u16) / 4
}

/// Where the row with this number begins, if there is one.
fn row_at(page: &Page, offset: u16) -> Option<usize> {
    if offset == 0 || offset > item_count(page) {
        return None;
    }
    let item = u32_at(page, PAGE_HEADER_BYTES + (usize::from(offset) - 1) * 4);
    let (at, state, len) = (item & 0x7FFF, item >> 15 & 0x3, item >> 17);
    let at = at as usize;
    let fits = len as usize >= ROW_HEADER_BYTES && at + len as usize <= BLOCK_BYTES;
    (state == ITEM_NORMAL && fits).then_some(at)
}

fn u16_at(page: &Page, at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &Page, at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

fn put_u16(page: &mut Page, at: usize, value: u16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}
