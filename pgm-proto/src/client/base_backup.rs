//! BASE_BACKUP: a copy of the whole data directory as tar archives, one for each tablespace.
//!
//! Both forms of the command and of the answer (PostgreSQL 14's, and 15's and later) give the same sequence of
//! [`BaseBackupEvent`]s; `stream.rs` tells them apart. Bytes are borrowed from the connection's fixed buffer, and nothing
//! is allocated per message. Four things a reader of the tar bytes must know:
//!
//! - A tar header may be split between two events.
//! - Before PostgreSQL 15 an archive ends without the two zero blocks that end a tar file; the next event but
//!   [`BaseBackupEvent::Data`] ends it.
//! - Bytes of an archive come as the server compressed them, if it was told to; the manifest is never compressed.
//! - Tablespaces appear as symbolic links in `pg_tblspc` of the main archive; no `tablespace_map` is asked for.
//!
//! The server is told not to wait for its own archiving (`WAIT false`): the caller knows when the WAL is safe.

mod compression;
mod options;
mod stream;
mod upload;

use crate::client::Client;
use crate::{Error, Lsn, ServerError, ServerNotice, TimelineId};

pub use compression::{CompressionMethod, ParseServerCompressionError, ServerCompression};
pub use options::{
    BackupPages, BaseBackupOptions, CHECKPOINT_SPREAD_MAX, Checkpoint, ManifestChecksums,
    WalInclusion,
};
use stream::{BackupStream, Step};
pub use upload::ManifestUpload;

/// A base backup that is being received.
///
/// Dropped before [`BaseBackupEvent::End`], it closes the connection, and the server gives up.
#[derive(Debug)]
pub struct BaseBackup<'c> {
    client: &'c mut Client,
    stream: BackupStream,
    compression: ServerCompression,
    refusal: Option<String>,
}

/// One archive of a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// The tablespace's OID, `None` for the main data directory.
    pub oid: Option<u32>,
    /// Where the tablespace is on the server.
    pub location: Option<String>,
    /// Its size as the server estimates it, in KiB.
    pub size_kib: Option<u64>,
}

/// The next thing in a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseBackupEvent<'a> {
    /// An archive begins.
    Archive {
        /// The tablespace, `None` for the main data directory.
        tablespace: Option<u32>,
    },
    /// Bytes of the archive, at least one.
    Data(&'a [u8]),
    /// The server's `backup_manifest` begins.
    Manifest,
    /// Bytes of the manifest, at least one.
    ManifestData(&'a [u8]),
    /// That was all.
    End(BackupEnd),
}

/// How a base backup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupEnd {
    /// WAL up to here is needed to make the backup consistent.
    pub end_lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// What the server said on the way, pages with wrong checksums among them.
    pub notices: Vec<ServerNotice>,
    /// The error that the server raised after the end, for example for wrong page checksums (SQLSTATE XX001). All
    /// files were received nevertheless.
    pub failure: Option<ServerError>,
}

impl Client {
    /// Starts a base backup; returns when the server has made its checkpoint.
    ///
    /// How long the server may stay silent is [`set_silence_max`](Self::set_silence_max)'s matter; with
    /// [`Checkpoint::Spread`] another [`CHECKPOINT_SPREAD_MAX`] for the beginning.
    ///
    /// A server that cannot compress as it is asked to sends everything as it is: [`BaseBackup::compression`] says what comes,
    /// and [`BaseBackup::refusal`] why it is not what was asked for.
    pub fn base_backup(&mut self, options: &BaseBackupOptions) -> Result<BaseBackup<'_>, Error> {
        options.is_known_to(self.version)?;
        let mut options = options.clone();
        let mut refusal = None;
        if !options.compression.is_known_to(self.version) {
            options.compression = ServerCompression::NONE;
            refusal = Some("servers before PostgreSQL 15 do not compress backups".to_owned());
        }
        let stream = match self.begin_backup(&options) {
            Err(Error::Server(error)) if is_about_compression(&options, &error) => {
                options.compression = ServerCompression::NONE;
                refusal = Some(error.message.clone());
                self.begin_backup(&options)?
            }
            begun => begun?,
        };
        Ok(BaseBackup {
            client: self,
            stream,
            compression: options.compression,
            refusal,
        })
    }

    fn begin_backup(&mut self, options: &BaseBackupOptions) -> Result<BackupStream, Error> {
        let sql = options.command(self.version);
        let silence_max = self.exchange.silence_max + options.checkpoint.silence();
        let mut stream = BackupStream::new(self.version, options.compression.method());
        self.take_notices();
        self.exchange(|client| {
            client.send_query(&sql)?;
            while !stream.has_begun() {
                client.advance_backup(&mut stream, silence_max)?;
            }
            Ok(())
        })?;
        Ok(stream)
    }

    fn advance_backup(
        &mut self,
        stream: &mut BackupStream,
        silence_max: std::time::Duration,
    ) -> Result<Step, Error> {
        match self.advance(silence_max) {
            Err(Error::Closed) => stream.closed(),
            Err(error) => Err(error),
            Ok(()) => {
                let frame = self.current()?;
                stream.take(frame.tag, frame.body)
            }
        }
    }
}

impl BaseBackup<'_> {
    /// Recovery begins here; WAL from here on is needed.
    pub fn start_lsn(&self) -> Lsn {
        self.stream.start().lsn
    }

    /// The timeline of the start.
    pub fn timeline(&self) -> TimelineId {
        self.stream.start().timeline
    }

    /// How the archives are compressed.
    pub fn compression(&self) -> ServerCompression {
        self.compression
    }

    /// Why they are not compressed as they should be.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// What will be sent: the tablespaces, and the main data directory as the last one.
    pub fn tablespaces(&self) -> &[Tablespace] {
        self.stream.tablespaces()
    }

    /// The next event; nothing may be asked for after [`BaseBackupEvent::End`].
    ///
    /// Waits for the server, but not longer than it may stay silent, and not after an interruption.
    #[allow(clippy::should_implement_trait)] // it borrows from the connection, which an iterator cannot
    pub fn next(&mut self) -> Result<BaseBackupEvent<'_>, Error> {
        let silence_max = self.client.exchange.silence_max;
        let step = loop {
            match self.client.advance_backup(&mut self.stream, silence_max)? {
                Step::Skip => {}
                step => break step,
            }
        };
        Ok(match step {
            Step::Skip | Step::Manifest => BaseBackupEvent::Manifest,
            Step::Archive(tablespace) => BaseBackupEvent::Archive { tablespace },
            Step::Data { skip } => BaseBackupEvent::Data(self.bytes_after(skip)?),
            Step::ManifestData { skip } => BaseBackupEvent::ManifestData(self.bytes_after(skip)?),
            Step::End { position, failure } => BaseBackupEvent::End(BackupEnd {
                end_lsn: position.lsn,
                timeline: position.timeline,
                notices: self.client.take_notices(),
                failure,
            }),
        })
    }

    fn bytes_after(&self, skip: usize) -> Result<&[u8], Error> {
        Ok(&self.client.current()?.body[skip..])
    }
}

/// Whether the server does not know the method or the level, or was built without the library
/// (`parse_basebackup_options` in `basebackup.c`).
fn is_about_compression(options: &BaseBackupOptions, error: &ServerError) -> bool {
    options.compression != ServerCompression::NONE
        && ["42601", "0A000", "22023"].contains(&error.sqlstate.as_str())
}

impl Drop for BaseBackup<'_> {
    fn drop(&mut self) {
        if !self.stream.is_answered() {
            self.client.stream.close();
        }
    }
}
