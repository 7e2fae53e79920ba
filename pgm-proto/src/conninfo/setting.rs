//! From the settings of a connection string, in either form, to a [`ConnInfo`].
//!
//! As in libpq a later setting replaces an earlier one, and an empty value means "not given".

use std::net::IpAddr;
use std::time::Duration;

use super::{
    ChannelBinding, ConnInfo, ConnInfoError, Host, Place, RootCertificates, SslMode, TargetSession,
};
use crate::Secret;

/// One setting as it is written.
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
}

impl Setting {
    pub(super) fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

const KEYS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "connect_timeout",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "target_session_attrs",
    "gssencmode",
];

/// What libpq has and pgm has not.
const UNSUPPORTED: &[&str] = &[
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "tcp_user_timeout",
];

#[derive(Default)]
struct Lists {
    hosts: Vec<String>,
    addresses: Vec<String>,
    ports: Vec<String>,
}

/// Checks and puts together.
pub(super) fn assemble(settings: Vec<Setting>) -> Result<ConnInfo, ConnInfoError> {
    let mut info = ConnInfo::default();
    let mut lists = Lists::default();
    let mut fallback_name = None;
    let mut mode_given = false;
    for Setting { key, value } in settings {
        let Some(key) = KEYS.iter().copied().find(|known| *known == key) else {
            return Err(unknown(key));
        };
        if value.contains('\0') {
            return Err(ConnInfoError::Conflict("a value contains a zero byte"));
        }
        let given = (!value.is_empty()).then(|| value.clone());
        match key {
            "host" => lists.hosts = split(&value),
            "hostaddr" => lists.addresses = split(&value),
            "port" => lists.ports = split(&value),
            "dbname" => info.database = given,
            "user" => info.user = given,
            "password" => info.password = given.map(Secret::new),
            "passfile" => info.passfile = given.map(Into::into),
            "options" => info.options = given,
            "application_name" => info.application_name = given,
            "fallback_application_name" => fallback_name = given,
            "sslcert" => info.tls.certificate = given.map(Into::into),
            "sslkey" => info.tls.key = given.map(Into::into),
            "sslrootcert" => info.tls.roots = given.map(roots),
            _ if value.is_empty() => {}
            "sslmode" => {
                info.tls.mode = word(key, &value, SslMode::WORDS, SslMode::from_word)?;
                mode_given = true;
            }
            _ => apply(&mut info, key, &value)?,
        }
    }
    info.application_name = info.application_name.or(fallback_name);
    info.hosts = hosts(&lists)?;
    if info.tls.roots == Some(RootCertificates::System) {
        if mode_given && info.tls.mode != SslMode::VerifyFull {
            return Err(ConnInfoError::Conflict(
                "sslrootcert=system needs sslmode=verify-full: anyone can get a certificate from \
                 a public authority",
            ));
        }
        info.tls.mode = SslMode::VerifyFull;
    }
    Ok(info)
}

/// The settings that are one word or number each.
fn apply(info: &mut ConnInfo, key: &'static str, value: &str) -> Result<(), ConnInfoError> {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    match key {
        "channel_binding" => {
            let (words, from_word) = (ChannelBinding::WORDS, ChannelBinding::from_word);
            info.tls.binding = word(key, value, words, from_word)?;
        }
        "target_session_attrs" => {
            info.target = word(key, value, TargetSession::WORDS, TargetSession::from_word)?;
        }
        // Nothing here waits for ever: 0, which libpq takes for that, means the usual time.
        "connect_timeout" => match number(key, value, 0, 3600)? {
            0 => info.connect_timeout = ConnInfo::CONNECT_TIMEOUT,
            given => info.connect_timeout = seconds(given),
        },
        "keepalives" => info.keepalive.enabled = number(key, value, 0, 1)? == 1,
        "keepalives_idle" => info.keepalive.idle = seconds(number(key, value, 1, 32767)?),
        "keepalives_interval" => info.keepalive.interval = seconds(number(key, value, 1, 32767)?),
        "keepalives_count" => info.keepalive.count = number(key, value, 1, 127)?,
        "client_encoding" => {
            let utf8 = ["utf8", "utf-8", "unicode", "auto"];
            if !utf8.contains(&value.to_ascii_lowercase().as_str()) {
                return Err(bad_value(key, value, "UTF8".to_owned()));
            }
        }
        "gssencmode" if ["disable", "prefer"].contains(&value) => {}
        "gssencmode" => return Err(bad_value(key, value, "disable".to_owned())),
        _ => return Err(unknown(key.to_owned())),
    }
    Ok(())
}

fn hosts(lists: &Lists) -> Result<Vec<Host>, ConnInfoError> {
    let Lists {
        hosts,
        addresses,
        ports,
    } = lists;
    let count = if addresses.is_empty() {
        hosts.len()
    } else {
        addresses.len()
    };
    // A port alone is the port of the local socket.
    let count = if count == 0 && !ports.is_empty() {
        1
    } else {
        count
    };
    let lengths = [
        ("host", hosts.len()),
        ("hostaddr", addresses.len()),
        ("port", ports.len()),
    ];
    for (key, length) in lengths {
        let shared = length == 0 || (key == "port" && length == 1);
        if !shared && length != count {
            return Err(ConnInfoError::ListLength {
                key,
                count: length,
                hosts: count,
            });
        }
    }
    let at = |list: &[String], index: usize| list.get(index).cloned().unwrap_or_default();
    (0..count)
        .map(|index| {
            let address = match at(addresses, index).as_str() {
                "" => None,
                text => {
                    let expected = || "an IPv4 or IPv6 address".to_owned();
                    let parsed = text.parse::<IpAddr>();
                    Some(parsed.map_err(|_| bad_value("hostaddr", text, expected()))?)
                }
            };
            let port = at(ports, if ports.len() == 1 { 0 } else { index });
            let port = match port.as_str() {
                "" => ConnInfo::PORT,
                text => number("port", text, 1, 65535).map(|port| port as u16)?,
            };
            Ok(Host {
                place: place(&at(hosts, index), address),
                address,
                port,
            })
        })
        .collect()
}

fn place(host: &str, address: Option<IpAddr>) -> Place {
    match (host, address) {
        ("", Some(address)) => Place::Tcp(address.to_string()),
        ("", None) => Place::local_socket(),
        _ if host.starts_with('/') => Place::Unix(host.into()),
        _ => Place::Tcp(host.to_owned()),
    }
}

impl Place {
    /// Where PostgreSQL puts its socket: Debian's and Red Hat's folder if there is one, else the project's own.
    pub(crate) fn local_socket() -> Self {
        let packaged = std::path::Path::new("/var/run/postgresql");
        Self::Unix(if packaged.is_dir() {
            packaged.into()
        } else {
            "/tmp".into()
        })
    }
}

fn roots(value: String) -> RootCertificates {
    match value.as_str() {
        "system" => RootCertificates::System,
        _ => RootCertificates::File(value.into()),
    }
}

fn split(list: &str) -> Vec<String> {
    match list {
        "" => Vec::new(),
        _ => list.split(',').map(|item| item.trim().to_owned()).collect(),
    }
}

fn number(key: &'static str, value: &str, min: u32, max: u32) -> Result<u32, ConnInfoError> {
    let number = value
        .trim()
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| bad_value(key, value, format!("a number from {min} to {max}")))
}

fn word<T>(
    key: &'static str,
    value: &str,
    words: &[&str],
    from_word: fn(&str) -> Option<T>,
) -> Result<T, ConnInfoError> {
    from_word(value).ok_or_else(|| bad_value(key, value, format!("one of {}", words.join(", "))))
}

fn bad_value(key: &'static str, value: &str, expected: String) -> ConnInfoError {
    ConnInfoError::Value {
        key,
        value: value.to_owned(),
        expected,
    }
}

fn unknown(key: String) -> ConnInfoError {
    if let Some(key) = UNSUPPORTED.iter().copied().find(|known| *known == key) {
        return ConnInfoError::UnsupportedKey { key };
    }
    let distance = |known: &&'static str| strsim::damerau_levenshtein(known, &key);
    let nearest = KEYS.iter().copied().min_by_key(distance);
    let nearest = nearest.filter(|known| distance(known) <= 3.min(key.len() / 2));
    ConnInfoError::UnknownKey { key, nearest }
}
