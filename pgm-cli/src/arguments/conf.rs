//! Commands about the configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfCommand {
    /// List the settings with their values, defaults, and when a change takes effect
    Ls(ConfLsArguments),
    /// Print the value of a setting, or the values of a section, as KEY=VALUE for the shell
    Get(ConfGetArguments),
    /// Change a setting in the configuration file, and apply it
    ///
    /// Comments and order of the file stay. A value that cannot be used changes nothing. What needs a restart of pgmd is
    /// said.
    Set(ConfSetArguments),
    /// Read the configuration file again; says what is in force now and what needs a restart
    Reload,
    /// Turn a pgmoneta.conf into a configuration of pgmd, and list what has no counterpart
    Import(ConfImportArguments),
}

/// Arguments of `conf ls`.
#[derive(Debug, Args)]
pub(crate) struct ConfLsArguments {
    /// Only this setting or section, such as management or servers.prod
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Describe each setting
    #[arg(short, long)]
    pub(crate) long: bool,
}

/// Arguments of `conf get`.
#[derive(Debug, Args)]
pub(crate) struct ConfGetArguments {
    /// The setting or section, such as jobs_max or server.prod.slot; all when left out
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// Arguments of `conf set`.
#[derive(Debug, Args)]
pub(crate) struct ConfSetArguments {
    /// The setting, such as log_level, management.port or servers.prod.slot
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// The value: debug, 10s, 16MiB, a path …; none for no value
    #[arg(
        value_name = "VALUE",
        required_unless_present = "default",
        allow_hyphen_values = true
    )]
    pub(crate) value: Option<String>,
    /// Go back to the default, by taking the setting out of the file
    #[arg(long, conflicts_with = "value")]
    pub(crate) default: bool,
}

/// Arguments of `conf import`.
#[derive(Debug, Args)]
pub(crate) struct ConfImportArguments {
    /// The configuration of pgmoneta
    #[arg(value_name = "PGMONETA_CONF")]
    pub(crate) file: PathBuf,
    /// Its users, to say whose passwords have to be entered again
    #[arg(long, value_name = "PGMONETA_USERS_CONF")]
    pub(crate) users: Option<PathBuf>,
    /// The configuration to write; it must not exist. Only the report when left out
    #[arg(short, long, value_name = "PGMD_RON")]
    pub(crate) output: Option<PathBuf>,
}
