//! How the server's data is read.

/// The ways to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupSource {
    /// Its files, where they are on this host and may be read; for an incremental backup else changed pages from the server,
    /// where it can send them, or read them for ordinary sessions; else everything from the server.
    #[default]
    Auto,
    /// Its files. Where that is not possible, there is no backup.
    Local,
    /// Its files, as the server reads them for ordinary sessions. Where that is not possible, there is no backup.
    Blocks,
    /// Everything from the server: pages that have not changed are recognised as they go by.
    Stream,
    /// Changed pages from the server. Where that is not possible, the backup is taken from all that it sends, with a warning.
    Native,
}
