//! Where pgmd is when it is elsewhere, and who asks.

use std::path::PathBuf;

use clap::Args;

const HEADING: &str = "A daemon elsewhere";

/// The options that lead to a daemon over TCP. With them a path on the command line is one of the daemon's host.
#[derive(Debug, Args)]
pub(crate) struct RemoteArguments {
    /// The host where pgmd runs (its management.port); or the folder of its unix socket
    #[arg(
        id = "remote_host", short = 'h', long = "host", global = true, help_heading = HEADING,
        env = "PGM_HOST", value_name = "HOST"
    )]
    pub(crate) host: Option<String>,
    /// The port
    #[arg(
        id = "remote_port", short = 'p', long = "port", global = true, help_heading = HEADING,
        env = "PGM_PORT", value_name = "PORT", default_value_t = pgm_mgmt::PORT
    )]
    pub(crate) port: u16,
    /// The user to log in as; your own name when left out
    #[arg(
        id = "remote_user", short = 'U', long = "user", global = true, help_heading = HEADING,
        env = "PGM_USER", value_name = "NAME"
    )]
    pub(crate) user: Option<String>,
    /// The password is the first line of this file (mode 0600); else it comes from the variable PGM_PASSWORD, from
    /// ~/.pgpass (HOST:PORT:pgm:NAME:PASSWORD), or is asked for
    // The same name as the option of `admin user`, which takes its place there.
    #[arg(id = "password_file", long = "password-file", global = true, help_heading = HEADING, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// disable, prefer, require, verify-ca or verify-full: as libpq; verify-full when there is --sslrootcert, else
    /// require, with the login bound to the certificate
    #[arg(
        id = "remote_sslmode", long = "sslmode", global = true, help_heading = HEADING,
        env = "PGM_SSLMODE", value_name = "MODE",
        value_parser = ["disable", "prefer", "require", "verify-ca", "verify-full"]
    )]
    pub(crate) sslmode: Option<String>,
    /// The authorities (PEM) that vouch for the daemon's certificate; system for those of this host
    #[arg(
        id = "remote_sslrootcert", long = "sslrootcert", global = true, help_heading = HEADING,
        env = "PGM_SSLROOTCERT", value_name = "FILE"
    )]
    pub(crate) sslrootcert: Option<PathBuf>,
    /// Our own certificate (PEM), where the daemon asks for one
    #[arg(
        id = "remote_sslcert", long = "sslcert", global = true, help_heading = HEADING,
        env = "PGM_SSLCERT", value_name = "FILE", requires = "remote_sslkey"
    )]
    pub(crate) sslcert: Option<PathBuf>,
    /// The key of that certificate (PEM, mode 0600)
    #[arg(
        id = "remote_sslkey", long = "sslkey", global = true, help_heading = HEADING,
        env = "PGM_SSLKEY", value_name = "FILE"
    )]
    pub(crate) sslkey: Option<PathBuf>,
}
