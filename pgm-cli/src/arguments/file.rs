//! What can be typed to seal, open, compress or decompress a file of this host.

use std::path::PathBuf;

use clap::Args;
use pgm_storage::Compression;

/// What all four have in common.
#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where to write; an existing file is never overwritten
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Keep FILE; else it is removed once the result is safe on disk and was read back
    #[arg(short, long)]
    pub(crate) keep: bool,
}

/// Arguments of `encrypt` and `decrypt`.
#[derive(Debug, Args)]
pub(crate) struct SealArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
}

/// Arguments of `compress`.
#[derive(Debug, Args)]
pub(crate) struct CompressArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// How: zstd or zstd:LEVEL (-100 to -1, 1 to 22), lz4, gzip or gzip:LEVEL (1 to 9)
    #[arg(long, value_name = "CODEC", default_value = "zstd")]
    pub(crate) with: Compression,
}
