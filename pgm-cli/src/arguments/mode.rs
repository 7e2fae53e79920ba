//! `mode`.

use clap::{Args, ValueEnum};
use pgm_proto::ServerName;

/// Arguments of `mode`.
#[derive(Debug, Args)]
pub(crate) struct ModeArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The mode from now on, also after a restart of pgmd; shown when left out
    #[arg(value_enum, value_name = "online|offline")]
    pub(crate) mode: Option<Mode>,
}

/// Whether pgmd works for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Receive its WAL, and take backups when asked to
    Online,
    /// Leave it alone; its slot keeps its WAL, its backups can be restored
    Offline,
}
