//! The manifest of a backup: every file, and where each of its bytes rests.
//!
//! The object `manifest` is a pack whose frames, put together, are JSON lines:
//!
//! ```text
//! frame 0            {"header":{"format":1,"server":"main","label":"20261122T023456Z"}}
//! frames 1 to n      {"directory":{…}}  {"file":{…}}  {"tablespace":{…}}  {"symlink":{…}}    in order of completion
//! next t frames      {"pack":{"label":"…","number":0,"size":…,"raw_bytes":…,"frames":…}}     line i is pack index i
//! last frame         {"end":{"table_frames":t,"packs":…,"files":…,"directories":…,"links":…,"raw_bytes":…}}
//! ```
//!
//! Header, table and end have frames of their own, so a reader knows all packs before the first file although the
//! writer learns them last. Both sides stream: neither ever holds more than a frame, a line and the table of packs.
//! That the end is there, that its counts are right and that the whole object has the checksum in `backup.ron` make
//! truncation and every flipped bit visible.

mod entry;
mod object;
mod path;
mod reader;
mod writer;

pub use entry::{
    DirectoryEntry, Extent, FileEntry, ManifestEntry, ManifestHeader, ManifestTotals, PackRecord,
    SymlinkEntry, TablespaceLink,
};
pub(crate) use object::{ManifestObject, check_object};
pub use path::{FilePath, ParseFilePathError};
pub use reader::ManifestReader;
pub(crate) use writer::Checksummed;
pub use writer::ManifestWriter;

/// The newest format version of manifests that this code knows.
pub const MANIFEST_FORMAT: u32 = 1;

/// The longest line of a manifest: a file with more than a million extents.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests;
