//! The one proof that WAL is on disk.
//!
//! A flush position is only ever what `fdatasync` returned for: nothing but [`DurableLsn::sync`] makes one, and what
//! is acknowledged to a server, shown in metrics or waited for takes nothing else.

use std::fmt;
use std::fs::File;
use std::io;

use pgm_proto::Lsn;

/// The end of the WAL that has been written to disk and synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurableLsn(Lsn);

impl DurableLsn {
    /// Syncs `file`, into which WAL up to `written` has been written.
    ///
    /// After an error the file's state is unknown: it must not be synced again (the kernel reports a lost write once).
    pub(crate) fn sync(file: &File, written: Lsn) -> io::Result<Self> {
        #[cfg(test)]
        crate::fault::strike(crate::fault::Fault::Sync)?;
        file.sync_data()?;
        Ok(Self(written))
    }

    /// The position: every byte before it is on disk.
    pub const fn lsn(self) -> Lsn {
        self.0
    }
}

impl fmt::Display for DurableLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
