//! What can be typed after `admin`: the master key, and users.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pgm_proto::ServerName;
use pgmd::secrets::{Argon2Salt, PasswordLength, UserName};

/// Commands on keys and users; they work with and without pgmd, on its own host.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Make the master key, which seals passwords and files, or another one for a repository
    MasterKey(MasterKeyArguments),
    /// Passwords of PostgreSQL's users, and who may use remote management
    #[command(subcommand)]
    User(UserCommand),
}

/// Arguments of `admin master-key`.
#[derive(Debug, Args)]
pub(crate) struct MasterKeyArguments {
    /// A random key; the default
    #[arg(long, group = "how")]
    pub(crate) generate: bool,
    /// A key from a passphrase, which is asked for twice: the same passphrase and salt make the same key again
    #[arg(long, group = "how")]
    pub(crate) passphrase: bool,
    /// The salt that was printed when the key was made from the passphrase the first time
    #[arg(long, value_name = "HEX", requires = "passphrase")]
    pub(crate) salt: Option<Argon2Salt>,
    /// Only show the id of the key that there is
    #[arg(long, group = "how")]
    pub(crate) id: bool,
    /// The file of the key, instead of the one that the setting master_key names; needs no configuration
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Commands on users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    Add(UserAddArguments),
    /// Change a user's password or role
    Edit(UserEditArguments),
    /// Remove a user
    #[command(visible_alias = "delete")]
    Del(UserDelArguments),
    /// List the users; no password is shown
    #[command(visible_alias = "list")]
    Ls,
}

/// Which kind of user it is: exactly one.
#[derive(Debug, Args)]
#[group(id = "kind", required = true, multiple = false)]
pub(crate) struct KindArguments {
    /// A user of PostgreSQL: the password with which pgmd logs in, sealed in the vault
    #[arg(long)]
    pub(crate) postgres: bool,
    /// A user of remote management and of the admin console
    #[arg(long)]
    pub(crate) admin: bool,
}

/// Where a password comes from; asked for twice when nothing is said.
#[derive(Debug, Args)]
#[group(id = "password", required = false, multiple = false)]
pub(crate) struct PasswordArguments {
    /// Take the password from the first line of this file (mode 0600), or of the standard input: -
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Take the password from this environment variable
    #[arg(long, value_name = "NAME")]
    pub(crate) password_env: Option<String>,
    /// Take the password from what this command prints
    #[arg(long, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,
    /// Make a random password and print it, this once
    #[arg(long)]
    pub(crate) generate: bool,
}

/// Arguments of `admin user add`.
#[derive(Debug, Args)]
pub(crate) struct UserAddArguments {
    /// The user's name
    #[arg(value_name = "NAME")]
    pub(crate) name: UserName,
    #[command(flatten)]
    pub(crate) kind: KindArguments,
    /// This password is for one server only
    #[arg(long, value_name = "SERVER", conflicts_with = "admin")]
    pub(crate) server: Option<ServerName>,
    /// What an admin may do (default: admin)
    #[arg(long, value_enum, value_name = "ROLE", conflicts_with = "postgres")]
    pub(crate) role: Option<RoleArgument>,
    #[command(flatten)]
    pub(crate) password: PasswordArguments,
    /// How many letters a random password has
    #[arg(long, value_name = "N", requires = "generate", value_parser = parse_length)]
    pub(crate) length: Option<PasswordLength>,
}

/// Arguments of `admin user edit`.
#[derive(Debug, Args)]
pub(crate) struct UserEditArguments {
    /// The user's name
    #[arg(value_name = "NAME")]
    pub(crate) name: UserName,
    #[command(flatten)]
    pub(crate) kind: KindArguments,
    /// The password for one server only
    #[arg(long, value_name = "SERVER", conflicts_with = "admin")]
    pub(crate) server: Option<ServerName>,
    /// What an admin may do from now on; the password stays when nothing is said about it
    #[arg(long, value_enum, value_name = "ROLE", conflicts_with = "postgres")]
    pub(crate) role: Option<RoleArgument>,
    #[command(flatten)]
    pub(crate) password: PasswordArguments,
    /// How many letters a random password has
    #[arg(long, value_name = "N", requires = "generate", value_parser = parse_length)]
    pub(crate) length: Option<PasswordLength>,
}

/// Arguments of `admin user del`.
#[derive(Debug, Args)]
pub(crate) struct UserDelArguments {
    /// The user's name
    #[arg(value_name = "NAME")]
    pub(crate) name: UserName,
    #[command(flatten)]
    pub(crate) kind: KindArguments,
    /// The password for one server only
    #[arg(long, value_name = "SERVER", conflicts_with = "admin")]
    pub(crate) server: Option<ServerName>,
}

/// What an admin may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArgument {
    /// Everything
    Admin,
    /// Look, and change nothing
    #[value(name = "read_only", alias = "read-only")]
    ReadOnly,
}

fn parse_length(text: &str) -> Result<PasswordLength, String> {
    let letters = text.parse().ok().and_then(PasswordLength::new);
    letters.ok_or_else(|| {
        let (min, max) = (PasswordLength::LIMITS.start(), PasswordLength::LIMITS.end());
        format!("a password has {min} to {max} letters")
    })
}
