//! The options that name a repository: one of the configuration's, or one outright.

use std::path::PathBuf;

use clap::Args;
use pgm_proto::RepositoryName;
use pgm_storage::StoreAddress;
use pgmd::config::MasterKeySource;

const HEADING: &str = "A repository without pgmd";

/// A repository that is named outright: no daemon is asked and no configuration is read. Or one of those that are configured.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RepositoryArguments {
    /// Work on this repository, without daemon and configuration: a directory, s3://…, azure://…, gs://… or sftp://…
    #[arg(
        id = "repository_address", long = "repository", global = true, help_heading = HEADING,
        env = "PGM_REPOSITORY", value_name = "URL|DIR"
    )]
    pub(crate) repository: Option<StoreAddress>,
    /// The file with the credentials for it (lines NAME=value, mode 0600); else they come from the environment
    #[arg(
        id = "repository_credentials", long = "credentials", global = true, help_heading = HEADING,
        env = "PGM_CREDENTIALS", value_name = "FILE"
    )]
    pub(crate) credentials: Option<PathBuf>,
    /// The master key of a sealed repository, and of encrypt and decrypt: FILE, env:NAME or command:COMMAND
    #[arg(
        long = "master-key",
        global = true,
        help_heading = HEADING,
        env = "PGM_MASTER_KEY",
        hide_env_values = true,
        value_name = "SOURCE"
    )]
    pub(crate) master_key: Option<MasterKeySource>,
    /// Of several configured repositories, only this one
    #[arg(
        id = "repository_name",
        long = "repo",
        global = true,
        help_heading = "Everywhere",
        value_name = "NAME",
        conflicts_with = "repository_address"
    )]
    pub(crate) repo: Option<RepositoryName>,
}
