//! One remote client: its login within its time, and then what its first byte asks for.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;

use pgm_mgmt::{DATABASE, MessageId, Role};
use pgm_proto::server::{CancelKey, Login, Refusal, welcome};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::login::{Client, Failure, LoggedIn};
use super::stream::{Stream, write, write_and_end};
use crate::audit::{Outcome, Record};
use crate::service::caller::{Caller, Origin};
use crate::service::{console, conversation};
use crate::supervisor::Daemon;

/// What clients ask about a server. The version is that of the oldest PostgreSQL whose clients we serve, so that none
/// of them warns of a newer one.
const PARAMETERS: &[(&str, &str)] = &[
    ("server_version", console::SERVER_VERSION),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("in_hot_standby", "off"),
    ("default_transaction_read_only", "off"),
    ("is_superuser", "off"),
];

/// Serves one client until it goes or misbehaves. `cut` ends its login early, when its place is needed.
pub(super) async fn run(
    client: Client,
    socket: TcpStream,
    cut: oneshot::Receiver<()>,
    daemon: Arc<Daemon>,
) {
    let outcome = tokio::select! {
        outcome = within_its_time(&client, socket, &daemon) => outcome,
        _ = cut => {
            debug!("{} did not log in before its place was needed", client.address);
            None
        }
    };
    client.remote.leave(client.ticket);
    if let Some(LoggedIn {
        mut stream,
        login,
        tls,
    }) = outcome
    {
        let user = login.user.escape_debug();
        match admit(&client, &login) {
            Ok(place) => {
                info!(
                    "{user} logged in from {} ({}, {tls})",
                    client.address, login.mechanism
                );
                serve(&client, stream, login, &daemon).await;
                drop(place);
            }
            Err(refusal) => {
                info!("{user} from {} is refused: {refusal}", client.address);
                write_and_end(&mut *stream, &refusal.fatal()).await;
            }
        }
    }
}

async fn within_its_time(client: &Client, socket: TcpStream, daemon: &Daemon) -> Option<LoggedIn> {
    tokio::time::sleep(client.remote.wait(client.source)).await;
    let address = client.address;
    let logging_in = client.log_in(socket);
    match tokio::time::timeout(client.limits.authentication_timeout, logging_in).await {
        Ok(Ok(logged_in)) => {
            client.remote.login_succeeded(client.source);
            note_login(daemon, address, &logged_in);
            return Some(logged_in);
        }
        Ok(Err(Failure::Refused { user, refusal })) if refusal.sqlstate == "28P01" => {
            client.remote.login_failed(client.source);
            let user = user.unwrap_or_default();
            daemon.tally().login_failure("password");
            let denied = Outcome::Denied {
                reason: "wrong password, or no such user",
            };
            let record = Record::new("login", address.to_string()).by(&user, None);
            daemon.audit().record(&record.outcome(&denied));
            warn!("the login of {} from {address} failed", user.escape_debug());
        }
        Ok(Err(Failure::Refused { refusal, .. })) => {
            debug!("{address} was refused: {}", refusal.text.escape_debug());
        }
        Ok(Err(Failure::Gone(error))) => debug!("{address} did not log in: {error}"),
        Ok(Err(Failure::Nothing)) => {}
        Err(_) => debug!("{address} did not log in within authentication_timeout"),
    }
    None
}

/// Records that somebody has come in.
fn note_login(daemon: &Daemon, address: SocketAddr, logged_in: &LoggedIn) {
    let login = &logged_in.login;
    let record = Record::new("login", address.to_string())
        .by(&login.user, Some(login.identity))
        .fact("mechanism", login.mechanism)
        .fact("tls", logged_in.tls);
    daemon.audit().record(&record.outcome(&Outcome::Ok));
}

/// What is left to check once it is known who it is.
fn admit(client: &Client, login: &Login<Role>) -> Result<super::Place, Refusal> {
    let parameter = |name: &str| login.parameters.get(name).map(String::as_str);
    match parameter("replication") {
        None | Some("false" | "off" | "no" | "0") => {}
        Some(_) => {
            let refusal = Refusal::new("0A000", "replication is not offered here");
            return Err(refusal.with_hint("connect without replication=…"));
        }
    }
    match parameter("database") {
        Some(DATABASE) => {}
        other => {
            let name = other.unwrap_or(&login.user);
            let refusal = Refusal::new("3D000", format!("database \"{name}\" does not exist"));
            return Err(refusal.with_hint(format!("the only one is dbname={DATABASE}")));
        }
    }
    client
        .remote
        .place(client.limits.max_connections)
        .ok_or_else(|| {
            let refusal = Refusal::new("53300", "sorry, too many clients already");
            refusal.with_hint("management.max_connections says how many there may be")
        })
}

async fn serve(client: &Client, mut stream: Stream, login: Login<Role>, daemon: &Arc<Daemon>) {
    let mut parameters = PARAMETERS.to_vec();
    parameters.push(("session_authorization", &login.user));
    let name = login.parameters.get("application_name");
    parameters.push(("application_name", name.map_or("", String::as_str)));
    let key = CancelKey::new();
    if write(&mut stream, &welcome(&parameters, key))
        .await
        .is_err()
    {
        return;
    }
    let mut first = login.unread;
    if first.is_empty() {
        let mut byte = [0; 1];
        let idle = client.limits.idle_timeout;
        match tokio::time::timeout(idle, stream.read_exact(&mut byte)).await {
            Ok(Ok(_)) => first.push(byte[0]),
            Ok(Err(_)) | Err(_) => return,
        }
    }
    let caller = Caller {
        user: login.user,
        role: login.identity,
        origin: Origin::Remote {
            address: client.address,
        },
    };
    let idle = client.limits.idle_timeout;
    let (reader, writer) = tokio::io::split(stream);
    let is_frame = first
        .first()
        .is_some_and(|byte| MessageId::from_byte(*byte).is_some());
    let reader = Cursor::new(first).chain(reader);
    if is_frame {
        conversation::converse(reader, writer, &caller, daemon, idle).await;
    } else {
        let cancelled = client.remote.open_console(key);
        console::converse(reader, writer, &caller, daemon, idle, &cancelled).await;
        client.remote.close_console(key);
    }
}
