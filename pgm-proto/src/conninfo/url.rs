//! The URL form of a connection string: `postgresql://user:password@host1:port1,host2/database?key=value&…`.
//!
//! Every part may be percent-encoded; a host that begins with `/` once decoded is a socket folder. Follows
//! `conninfo_uri_parse_options` in `fe-connect.c`.

use super::ConnInfoError;
use super::setting::Setting;

/// What comes after the scheme, when `text` has one.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
}

/// Reads what comes after the scheme.
pub(super) fn parse(rest: &str) -> Result<Vec<Setting>, ConnInfoError> {
    let mut settings = Vec::new();
    let (rest, query) = split_once_or_all(rest, '?');
    let (authority, database) = split_once_or_all(rest, '/');
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    if let Some(login) = login {
        let (user, password) = split_once_or_all(login, ':');
        push(&mut settings, "user", user)?;
        push(&mut settings, "password", password.unwrap_or(""))?;
    }
    hosts_and_ports(hosts, &mut settings)?;
    push(&mut settings, "dbname", database.unwrap_or(""))?;
    for pair in query
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(broken("a parameter has no `=`"));
        };
        let (key, value) = (decode(key)?, decode(value)?);
        // JDBC's spelling, which libpq accepts too.
        if key == "ssl" && value == "true" {
            settings.push(Setting::new("sslmode", "require"));
        } else {
            settings.push(Setting { key, value });
        }
    }
    Ok(settings)
}

fn hosts_and_ports(hosts: &str, settings: &mut Vec<Setting>) -> Result<(), ConnInfoError> {
    if hosts.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for one in hosts.split(',') {
        let (name, port) = match one.strip_prefix('[') {
            Some(bracketed) => {
                let Some((address, rest)) = bracketed.split_once(']') else {
                    return Err(broken("an IPv6 address has no closing `]`"));
                };
                match (rest, rest.strip_prefix(':')) {
                    ("", _) => (address, None),
                    (_, Some(port)) => (address, Some(port)),
                    _ => return Err(broken("only `:` and a port may follow `]`")),
                }
            }
            None => split_once_or_all(one, ':'),
        };
        names.push(decode(name)?);
        let port = decode(port.unwrap_or(""))?;
        // A password with an unescaped delimiter ends up here, and must not be shown.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(broken(
                "a port is not a number (in a password write % : / ? # @ as %25 %3A %2F %3F %23 %40)",
            ));
        }
        ports.push(port);
    }
    if names.iter().any(|name| name.contains(',')) {
        return Err(broken("a host contains a comma"));
    }
    if names.iter().any(|name| !name.is_empty()) {
        settings.push(Setting::new("host", names.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        settings.push(Setting::new("port", ports.join(",")));
    }
    Ok(())
}

fn push(settings: &mut Vec<Setting>, key: &str, encoded: &str) -> Result<(), ConnInfoError> {
    if !encoded.is_empty() {
        settings.push(Setting::new(key, decode(encoded)?));
    }
    Ok(())
}

fn split_once_or_all(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// Resolves `%41`; a broken or zero escape is an error, as in libpq.
fn decode(encoded: &str) -> Result<String, ConnInfoError> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(broken(
                "`%` must be followed by two hexadecimal digits (write % as %25)",
            ));
        };
        match u8::try_from(high * 16 + low) {
            Ok(decoded) if decoded != 0 => bytes.push(decoded),
            _ => return Err(broken("%00 is forbidden")),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken("what is percent-encoded is not UTF-8"))
}

fn broken(problem: &'static str) -> ConnInfoError {
    ConnInfoError::Url { problem }
}
