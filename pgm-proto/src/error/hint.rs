//! The next action for each error.
//!
//! Servers speak the language of `lc_messages`, so the SQLSTATE decides wherever it can, and the English text only
//! tells apart what shares a SQLSTATE.

use std::io;

use rustls::CertificateError;

use crate::ConnInfoError;

use super::{AuthenticationError, Encryption, Error, Peer, ServerError, TlsError, condition};

pub(super) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::NoHost { attempts } => attempts.iter().find_map(hint),
        Error::Resolve { host, .. } => Some(format!(
            "check the spelling of `{host}`, or give the address with hostaddr"
        )),
        Error::Connect { peer, source } => connect(peer, source),
        Error::Tls { peer, source } => tls(peer, source),
        Error::Authentication { source, user, .. } => authentication(source, user),
        Error::Refused { peer, user, database, encryption, source } => {
            refused(&Login { peer, user, database, encryption: *encryption }, source)
        }
        Error::WrongServer { .. } => Some(
            "list every host of the cluster in the connection string, or change target_session_attrs"
                .to_owned(),
        ),
        Error::Server(source) => source.hint.clone().or_else(|| condition::hint(error)),
        Error::Timeout { .. } => Some(
            "check that the server is not overloaded and that no firewall drops packets on the way"
                .to_owned(),
        ),
        Error::Closed | Error::Io(_) => Some("the server's log tells why".to_owned()),
        Error::ConnInfo(ConnInfoError::Missing { key }) => {
            Some(format!("add {key}=… to the connection string"))
        }
        Error::SlotMissing { .. } => condition::hint(error),
        Error::ConnInfo(_) | Error::Protocol(_) | Error::TooOld { .. } | Error::Interrupted => None,
    }
}

fn connect(peer: &Peer, source: &io::Error) -> Option<String> {
    let kind = source.kind();
    Some(match (peer, kind) {
        (Peer::Unix(path), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => format!(
            "is a server running on this machine, with its socket in the folder of `{}` \
             (unix_socket_directories) and on this port?",
            path.display()
        ),
        (Peer::Unix(_), io::ErrorKind::PermissionDenied) => {
            "this user may not enter the socket's folder (unix_socket_permissions)".to_owned()
        }
        (Peer::Tcp { port, .. }, io::ErrorKind::ConnectionRefused) => format!(
            "is the server running, does its listen_addresses include this address, and is its port {port}?"
        ),
        (Peer::Tcp { .. }, io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable) => {
            "is the host up, and does a firewall let the port through?".to_owned()
        }
        _ => return None,
    })
}

fn tls(peer: &Peer, source: &TlsError) -> Option<String> {
    let Peer::Tcp { host, .. } = peer else {
        return None;
    };
    Some(match source {
        TlsError::NotSupported { .. } => {
            "turn TLS on at the server (ssl = on), or use sslmode=prefer".to_owned()
        }
        TlsError::Certificate(problem) => match problem {
            CertificateError::UnknownIssuer => {
                "give the authority that signed the server's certificate with sslrootcert"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "the certificate is for another name than `{host}`: connect to a name it lists, or use \
                     sslmode=verify-ca"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate, and check this machine's clock".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "check this machine's clock".to_owned()
            }
            CertificateError::Other(_) => {
                "the server needs an X.509 version 3 certificate (made with a \
                 subjectAltName extension, for example)"
                    .to_owned()
            }
            _ => return None,
        },
        TlsError::NoSystemRoots => "give a file with sslrootcert".to_owned(),
        TlsError::RequestRefused => "the server's log tells why".to_owned(),
        TlsError::UnencryptedData => {
            "something between here and the server changes the traffic".to_owned()
        }
        TlsError::File { .. } | TlsError::Handshake(_) | TlsError::Settings(_) => return None,
    })
}

fn authentication(source: &AuthenticationError, user: &str) -> Option<String> {
    Some(match source {
        AuthenticationError::NoPassword => format!(
            "add a line `HOST:PORT:DATABASE:{user}:PASSWORD` to the password file (mode 0600; DATABASE is \
             `replication` for replication), or give passfile or password in the connection string"
        ),
        AuthenticationError::Unsupported { .. } => {
            "use scram-sha-256 in pg_hba.conf for this user".to_owned()
        }
        AuthenticationError::ChannelBinding { .. } => {
            "use sslmode=verify-full and scram-sha-256 in pg_hba.conf, or channel_binding=prefer"
                .to_owned()
        }
        AuthenticationError::Iterations { min, .. } => {
            format!("set scram_iterations to {min} at the server and set the password again")
        }
        AuthenticationError::ServerSignature => {
            "this may not be the server you think it is; do not send it a password".to_owned()
        }
        AuthenticationError::Scram(_) => return None,
    })
}

struct Login<'a> {
    peer: &'a Peer,
    user: &'a str,
    database: &'a str,
    encryption: Encryption,
}

fn refused(login: &Login<'_>, source: &ServerError) -> Option<String> {
    let Login { user, database, .. } = login;
    let role = quote_identifier(user);
    let says = |text: &str| source.message.contains(text);
    Some(match source.sqlstate.as_str() {
        "28P01" => format!(
            "check the password of `{user}` in the connection string or the password file (.pgpass)"
        ),
        "28000" if says("pg_hba.conf") => hba_hint(login, &source.message),
        "28000" if says("does not exist") => {
            format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…';")
        }
        "28000" if says("not permitted to log in") => format!("ALTER ROLE {role} LOGIN;"),
        "28000" => format!(
            "check the entry for `{user}` in pg_hba.conf; the server's log tells which line matched"
        ),
        "42501" if *database == "replication" => format!("ALTER ROLE {role} REPLICATION;"),
        "42501" => format!(
            "GRANT CONNECT ON DATABASE {} TO {role};",
            quote_identifier(database)
        ),
        "3D000" => format!("database `{database}` does not exist: give another with dbname"),
        "53300" if *database == "replication" => {
            "raise max_wal_senders and restart the server, or stop another replication client"
                .to_owned()
        }
        "53300" => {
            "raise max_connections and restart the server, or close other sessions".to_owned()
        }
        "57P03" => "the server is starting up or shutting down: try again in a moment".to_owned(),
        _ => return source.hint.clone(),
    })
}

/// The line that would let this session in. The server's message names the address that it saw.
fn hba_hint(login: &Login<'_>, message: &str) -> String {
    let Login {
        peer,
        user,
        database,
        encryption,
    } = login;
    let host = message
        .split("host \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let (database, user) = (quote_hba(database), quote_hba(user));
    let line = match (peer, host) {
        (Peer::Unix(_), _) => format!("local {database} {user} scram-sha-256"),
        (Peer::Tcp { .. }, host) => {
            let kind = match encryption {
                Encryption::Tls => "hostssl",
                Encryption::None => "host",
            };
            let address = match host.map(str::parse::<std::net::IpAddr>) {
                Some(Ok(address)) if address.is_ipv6() => format!("{address}/128"),
                Some(Ok(address)) => format!("{address}/32"),
                _ => "ADDRESS/32".to_owned(),
            };
            format!("{kind} {database} {user} {address} scram-sha-256")
        }
    };
    format!("add this line to pg_hba.conf, then run SELECT pg_reload_conf(); :  {line}")
}

fn quote_hba(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_identifier(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins_plain = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if begins_plain && name.bytes().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
