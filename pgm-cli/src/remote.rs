//! A daemon elsewhere: from the options to a connection string, and where the password comes from.
//!
//! In this order: the variable `PGM_PASSWORD`, `--password-file`, the password file of PostgreSQL's programs (`PGPASSFILE`,
//! else `~/.pgpass`), the terminal. A password is never an argument, and never printed.
//!
//! Unless told otherwise the connection is encrypted, and either the daemon's certificate is checked (when there are
//! authorities to check it with) or the login is bound to it, so that nobody in between can pass it on.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pgm_mgmt::{Client, ClientError, Deadlines};
use pgm_proto::{AuthenticationError, ConnInfo, Defaults, Secret};
use pgmd::config::{OsUser, SOCKET_NAME};

use crate::arguments::remote::RemoteArguments;
use crate::error::{CliError, Failure};

/// No password is longer.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// A daemon that was named on the command line or in the environment.
#[derive(Debug)]
pub(crate) enum Remote {
    /// At a unix socket of this host.
    Socket(PathBuf),
    /// Over TCP.
    Tcp(Box<Login>),
}

/// How to log in to it.
#[derive(Debug)]
pub(crate) struct Login {
    info: ConnInfo,
    user: String,
    password: Option<Secret>,
}

impl Remote {
    /// What the options say; `None` without a host.
    pub(crate) fn new(arguments: &RemoteArguments) -> Result<Option<Self>, CliError> {
        let Some(host) = &arguments.host else {
            return Ok(None);
        };
        if host.starts_with('/') {
            return Ok(Some(Self::Socket(Path::new(host).join(SOCKET_NAME))));
        }
        let os_user = OsUser::current();
        let user = arguments
            .user
            .clone()
            .unwrap_or_else(|| os_user.name.clone());
        let info = conninfo(arguments, host, &user)?.with_defaults(&Defaults {
            passfile: passfile(&os_user),
            application_name: Some("pgm-cli".to_owned()),
            ..Defaults::default()
        });
        let password = match std::env::var("PGM_PASSWORD") {
            Ok(password) => Some(Secret::new(password)),
            Err(_) => arguments
                .password_file
                .as_deref()
                .map(first_line)
                .transpose()?,
        };
        Ok(Some(Self::Tcp(Box::new(Login {
            info,
            user,
            password,
        }))))
    }

    /// Connects and logs in; asks the terminal for the password when there is none.
    pub(crate) fn connect(&self) -> Result<Client, CliError> {
        let login = match self {
            Self::Socket(path) => return Ok(Client::connect(path, Deadlines::default())?),
            Self::Tcp(login) => login,
        };
        let info = match &login.password {
            Some(password) => login.info.clone().with_password(password.clone()),
            None => login.info.clone(),
        };
        match Client::connect_remote(&info, Deadlines::default()) {
            Err(error) if lacks_password(&error) => {
                let info = info.with_password(ask(&login.user)?);
                Ok(Client::connect_remote(&info, Deadlines::default())?)
            }
            connected => Ok(connected?),
        }
    }

    /// Whether paths of this host mean nothing there.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

fn conninfo(arguments: &RemoteArguments, host: &str, user: &str) -> Result<ConnInfo, CliError> {
    let checks = arguments.sslrootcert.is_some();
    let mode = arguments.sslmode.as_deref();
    let mode = mode.unwrap_or(if checks { "verify-full" } else { "require" });
    let binding = match mode {
        "require" if !checks => "require",
        _ => "prefer",
    };
    let port = arguments.port.to_string();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let settings = [
        ("host", Some(host.to_owned())),
        ("port", Some(port)),
        ("user", Some(user.to_owned())),
        ("sslmode", Some(mode.to_owned())),
        ("channel_binding", Some(binding.to_owned())),
        ("sslrootcert", path(&arguments.sslrootcert)),
        ("sslcert", path(&arguments.sslcert)),
        ("sslkey", path(&arguments.sslkey)),
    ];
    let words = settings.iter().filter_map(|(name, value)| {
        let value = value.as_ref()?.replace('\\', r"\\").replace('\'', r"\'");
        Some(format!("{name}='{value}'"))
    });
    let text = words.collect::<Vec<_>>().join(" ");
    text.parse()
        .map_err(|error| CliError::new(Failure::Usage, error, None))
}

fn passfile(user: &OsUser) -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    named.or_else(|| user.home.as_ref().map(|home| home.join(".pgpass")))
}

fn first_line(path: &Path) -> Result<Secret, CliError> {
    let failed = |problem: String, hint: Option<String>| {
        let text = format!("the password file {} {problem}", path.display());
        CliError::new(Failure::Usage, text, hint)
    };
    let unreadable = |error: std::io::Error| failed(format!("cannot be read: {error}"), None);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        let hint = format!("chmod 600 {}", path.display());
        return Err(failed("may be read by others".to_owned(), Some(hint)));
    }
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(file.take(PASSWORD_BYTES_MAX + 1));
    reader.read_line(&mut line).map_err(unreadable)?;
    let line = zeroize_after(line);
    if line.expose().len() as u64 > PASSWORD_BYTES_MAX {
        return Err(failed("has too long a line".to_owned(), None));
    }
    Ok(line)
}

fn zeroize_after(line: String) -> Secret {
    let whole = Secret::new(line);
    Secret::new(whole.expose().trim_end_matches(['\n', '\r']))
}

fn lacks_password(error: &ClientError) -> bool {
    let ClientError::Login { source } = error else {
        return false;
    };
    matches!(
        **source,
        pgm_proto::Error::Authentication {
            source: AuthenticationError::NoPassword,
            ..
        }
    )
}

/// Asks the terminal, without showing what is typed.
fn ask(user: &str) -> Result<Secret, CliError> {
    if !std::io::stdin().is_terminal() {
        let text = format!("pgmd asks for the password of {user}, and there is no terminal to ask");
        let hint = "set PGM_PASSWORD, use --password-file, or add a line to ~/.pgpass: HOST:PORT:pgm:NAME:PASSWORD";
        return Err(CliError::new(Failure::Usage, text, Some(hint.to_owned())));
    }
    let typed = rpassword::prompt_password(format!("Password of {user}: "));
    typed.map(Secret::new).map_err(|error| {
        CliError::new(
            Failure::Failed,
            format!("cannot read the password: {error}"),
            None,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn login(more: &[&str]) -> ConnInfo {
        use clap::Parser as _;
        let typed = [
            &["pgm-cli", "ping", "-h", "db.example.org", "-U", "ann"],
            more,
        ]
        .concat();
        let arguments = crate::arguments::Arguments::try_parse_from(typed).unwrap();
        let remote = arguments.remote;
        conninfo(&remote, remote.host.as_deref().unwrap(), "ann").unwrap()
    }

    #[test]
    fn without_authorities_the_login_is_bound_and_with_them_the_name_is_checked() {
        let text = login(&[]).redacted();
        assert!(text.contains("sslmode=require"), "{text}");
        assert!(text.contains("channel_binding=require"), "{text}");
        assert!(text.contains("port=5435"), "{text}");
        let text = login(&["--sslrootcert", "it's.crt"]).redacted();
        assert!(text.contains("sslmode=verify-full"), "{text}");
        let text = login(&["--sslmode", "disable"]).redacted();
        assert!(!text.contains("channel_binding=require"), "{text}");
    }

    #[test]
    fn a_password_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "pen cil \nmore\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o644).unwrap();
        assert!(first_line(&path).is_err());
        mode(0o600).unwrap();
        assert_eq!(first_line(&path).unwrap().expose(), "pen cil ");
    }
}
