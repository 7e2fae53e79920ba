//! The lines of a manifest.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

use super::path::FilePath;
use crate::label::BackupLabel;

/// One thing of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestEntry {
    /// A directory, which may be empty.
    Directory(DirectoryEntry),
    /// A regular file.
    File(FileEntry),
    /// The link of a tablespace, `pg_tblspc/OID`.
    Tablespace(TablespaceLink),
    /// Any other symbolic link.
    Symlink(SymlinkEntry),
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Where it is.
    pub path: FilePath,
    /// Permission bits.
    pub mode: u32,
    /// Time of last change in seconds since 1970.
    pub mtime: u64,
}

/// A regular file. Its extents are in order, touch each other and cover the file from 0 to `size`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it is; files of a tablespace are below `pg_tblspc/OID/`.
    pub path: FilePath,
    /// Its bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Time of last change in seconds since 1970.
    pub mtime: u64,
    /// CRC-32C of its content; `None` when only a part of it went by while it was backed up (an incremental backup that the
    /// server itself made).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<u32>,
    /// Where its content rests.
    pub extents: Vec<Extent>,
}

/// A run of bytes of a file within one frame of a pack. In JSON an array of five numbers, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u32, u64, u32, u32)", into = "(u64, u32, u64, u32, u32)")]
pub struct Extent {
    /// Where the run begins in the file.
    pub file_offset: u64,
    /// The pack: an index into the manifest's table of packs.
    pub pack: u32,
    /// Where the frame begins in the pack.
    pub frame_offset: u64,
    /// Where the run begins in the frame's raw bytes.
    pub start: u32,
    /// Its bytes, at least 1.
    pub length: u32,
}

impl From<(u64, u32, u64, u32, u32)> for Extent {
    fn from(numbers: (u64, u32, u64, u32, u32)) -> Self {
        let (file_offset, pack, frame_offset, start, length) = numbers;
        Self {
            file_offset,
            pack,
            frame_offset,
            start,
            length,
        }
    }
}

impl From<Extent> for (u64, u32, u64, u32, u32) {
    fn from(extent: Extent) -> Self {
        (
            extent.file_offset,
            extent.pack,
            extent.frame_offset,
            extent.start,
            extent.length,
        )
    }
}

/// The link of a tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceLink {
    /// Its OID: the link is `pg_tblspc/OID`.
    pub oid: u32,
    /// Where it leads on the server.
    pub target: String,
}

/// A symbolic link that is not a tablespace's. BASE_BACKUP sends none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymlinkEntry {
    /// Where it is.
    pub path: FilePath,
    /// Where it leads.
    pub target: String,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// Format version of the manifest.
    pub format: u32,
    /// The server.
    pub server: ServerName,
    /// The backup.
    pub label: BackupLabel,
}

/// A pack that extents point into: of this backup, or of an earlier one of the same server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRecord {
    /// The backup whose folder it is in.
    pub label: BackupLabel,
    /// Its number there: `NNNN.pack`.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// Bytes of its frames before compression.
    pub raw_bytes: u64,
    /// Its frames.
    pub frames: u64,
    /// Checksum of its index, and so of all that is in it; `None` in manifests from before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_crc32c: Option<u32>,
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestTotals {
    /// How many frames before the last one hold the table of packs.
    pub table_frames: u32,
    /// Packs in the table.
    pub packs: u32,
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, of tablespaces and others.
    pub links: u64,
    /// Bytes of all files.
    pub raw_bytes: u64,
}

/// A line of any kind, as it is read; entries are written as [`ManifestEntry`], which looks the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Header(ManifestHeader),
    Directory(DirectoryEntry),
    File(FileEntry),
    Tablespace(TablespaceLink),
    Symlink(SymlinkEntry),
    Pack(PackRecord),
    End(ManifestTotals),
}

/// The lines around the entries, as they are written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FrameLine<'a> {
    Header(&'a ManifestHeader),
    Pack(&'a PackRecord),
    End(&'a ManifestTotals),
}
