//! One valid record, as the reader gives it.

use pgm_proto::Lsn;

use super::block::{Block, Blocks, Shape};
use super::page::WalVersion;

/// A valid record. It borrows from the reader: from its page where the record lies on one page, else from the buffer
/// in which the reader has put it together.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one begins, page headers not counted (`EndRecPtr`).
    pub end_lsn: Lsn,
    /// Where the record before it begins.
    pub previous: Lsn,
    /// Its transaction, 0 for none.
    pub xid: u32,
    /// The number of its resource manager.
    pub resource_manager: u8,
    /// What it is, in the words of its resource manager (upper four bits), and PostgreSQL's own flags.
    pub info: u8,
    /// Its length, header included.
    pub total_len: u32,
    /// How much of that are full-page images.
    pub images_len: u32,
    /// The replication origin that it comes from.
    pub origin: Option<u16>,
    /// The transaction that its own is a part of, where the record says so.
    pub top_level_xid: Option<u32>,
    /// The format of the WAL.
    pub version: WalVersion,
    /// Its main data, at most the first 16 MiB.
    pub main_data: &'a [u8],
    pub(super) shape: Shape,
    pub(super) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The blocks that it refers to, by their numbers within the record.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = Block<'a>> + use<'a> {
        Blocks::new(self.bytes, &self.shape, self.version)
    }

    /// The block with the number `id` within the record.
    pub fn block(&self, id: u8) -> Option<Block<'a>> {
        self.blocks().find(|block| block.id == id)
    }

    /// What it is, in the words of its resource manager: the upper four bits of `info`.
    pub const fn operation(&self) -> u8 {
        self.info & 0xF0
    }

    /// The record as it is stored, page headers left out; of a record longer than 20 MiB the beginning.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
