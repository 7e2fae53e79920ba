//! The key=value form of a connection string: `host=db1 password='it\'s'`.
//!
//! Values with blanks are in single quotes, a backslash takes the next character as it is. Follows
//! `conninfo_parse` in `fe-connect.c`.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use super::setting::Setting;
use super::{
    ChannelBinding, ConnInfo, ConnInfoError, Keepalive, Place, RootCertificates, SslMode,
    TargetSession,
};

/// Reads the settings in the order in which they are written.
pub(super) fn parse(text: &str) -> Result<Vec<Setting>, ConnInfoError> {
    let mut cursor = Cursor {
        rest: text.chars().peekable(),
        position: 1,
    };
    let mut settings = Vec::new();
    loop {
        cursor.skip_blanks();
        if cursor.rest.peek().is_none() {
            return Ok(settings);
        }
        let key = cursor.key();
        cursor.skip_blanks();
        let position = cursor.position;
        if cursor.next() != Some('=') {
            return Err(broken(position, "expected `=` after the name of a setting"));
        }
        cursor.skip_blanks();
        let value = cursor.value()?;
        settings.push(Setting { key, value });
    }
}

struct Cursor<'a> {
    rest: Peekable<Chars<'a>>,
    position: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        self.position += 1;
        self.rest.next()
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(char::is_ascii_whitespace).is_some() {
            self.position += 1;
        }
    }

    fn key(&mut self) -> String {
        let mut key = String::new();
        while let Some(c) = self.rest.next_if(|c| *c != '=' && !c.is_ascii_whitespace()) {
            self.position += 1;
            key.push(c);
        }
        key
    }

    fn value(&mut self) -> Result<String, ConnInfoError> {
        let quoted = self.rest.peek() == Some(&'\'');
        let start = self.position;
        if quoted {
            self.next();
        }
        let mut value = String::new();
        loop {
            match self.rest.peek() {
                None if quoted => {
                    return Err(broken(start, "a quoted value has no closing quote"));
                }
                None => return Ok(value),
                Some('\'') if quoted => {
                    self.next();
                    return Ok(value);
                }
                Some(c) if !quoted && c.is_ascii_whitespace() => return Ok(value),
                Some('\\') => {
                    self.next();
                    value.extend(self.next());
                }
                Some(_) => value.extend(self.next()),
            }
        }
    }
}

fn broken(position: usize, problem: &'static str) -> ConnInfoError {
    ConnInfoError::Syntax { position, problem }
}

/// Prints `info` so that [`parse`] reads it back, except for the password.
pub(super) fn print(info: &ConnInfo) -> String {
    let mut out = String::new();
    let mut put = |key: &str, value: &str| {
        let space = if out.is_empty() { "" } else { " " };
        let _ = write!(out, "{space}{key}={}", quote(value));
    };
    let join = |values: Vec<String>| values.join(",");
    if !info.hosts.is_empty() {
        put(
            "host",
            &join(
                info.hosts
                    .iter()
                    .map(|host| host.place.to_string())
                    .collect(),
            ),
        );
        if info.hosts.iter().any(|host| host.address.is_some()) {
            let text = |address: std::net::IpAddr| address.to_string();
            let addresses = info.hosts.iter().map(|host| host.address.map(text));
            put(
                "hostaddr",
                &join(addresses.map(Option::unwrap_or_default).collect()),
            );
        }
        put(
            "port",
            &join(
                info.hosts
                    .iter()
                    .map(|host| host.port.to_string())
                    .collect(),
            ),
        );
    }
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let seconds = |duration: std::time::Duration| duration.as_secs().to_string();
    let optional = [
        ("user", info.user.clone()),
        ("dbname", info.database.clone()),
        ("password", info.password.as_ref().map(|_| "***".to_owned())),
        ("passfile", info.passfile.as_ref().map(path)),
        ("application_name", info.application_name.clone()),
        ("options", info.options.clone()),
        (
            "sslrootcert",
            info.tls.roots.as_ref().map(RootCertificates::to_string),
        ),
        ("sslcert", info.tls.certificate.as_ref().map(path)),
        ("sslkey", info.tls.key.as_ref().map(path)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            put(key, &value);
        }
    }
    let (usual, own) = (Keepalive::default(), info.keepalive);
    let differing = [
        (
            info.tls.mode != SslMode::default(),
            "sslmode",
            info.tls.mode.to_string(),
        ),
        (
            info.tls.binding != ChannelBinding::default(),
            "channel_binding",
            info.tls.binding.to_string(),
        ),
        (
            info.target != TargetSession::default(),
            "target_session_attrs",
            info.target.to_string(),
        ),
        (
            info.connect_timeout != ConnInfo::CONNECT_TIMEOUT,
            "connect_timeout",
            seconds(info.connect_timeout),
        ),
        (
            own.enabled != usual.enabled,
            "keepalives",
            u8::from(own.enabled).to_string(),
        ),
        (own.idle != usual.idle, "keepalives_idle", seconds(own.idle)),
        (
            own.interval != usual.interval,
            "keepalives_interval",
            seconds(own.interval),
        ),
        (
            own.count != usual.count,
            "keepalives_count",
            own.count.to_string(),
        ),
    ];
    for (differs, key, value) in differing {
        if differs {
            put(key, &value);
        }
    }
    out
}

fn quote(value: &str) -> String {
    let plain = |c: char| !c.is_ascii_whitespace() && c != '\'' && c != '\\';
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(name) => f.write_str(name),
            Self::Unix(folder) => folder.display().fmt(f),
        }
    }
}

impl std::fmt::Display for RootCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::System => f.write_str("system"),
        }
    }
}
