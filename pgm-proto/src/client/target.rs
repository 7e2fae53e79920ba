//! Whether a server is of the kind that `target_session_attrs` asks for.
//!
//! PostgreSQL 14 and newer report `in_hot_standby` and `default_transaction_read_only` by themselves; where something
//! on the way does not pass them on, the server is asked with SHOW, which replication sessions know too.

use super::Client;
use crate::{Error, TargetSession};

/// What each pass over the hosts accepts: only `prefer-standby` needs a second one.
pub(crate) fn passes(wanted: TargetSession) -> &'static [TargetSession] {
    match wanted {
        TargetSession::Any => &[TargetSession::Any],
        TargetSession::ReadWrite => &[TargetSession::ReadWrite],
        TargetSession::ReadOnly => &[TargetSession::ReadOnly],
        TargetSession::Primary => &[TargetSession::Primary],
        TargetSession::Standby => &[TargetSession::Standby],
        TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
    }
}

/// Gives `client` back when it is at a server of the kind `wanted`.
pub(crate) fn check(mut client: Client, wanted: TargetSession) -> Result<Client, Error> {
    let (fits, found) = match wanted {
        TargetSession::Any | TargetSession::PreferStandby => return Ok(client),
        TargetSession::ReadWrite => (!read_only(&mut client)?, "read-only"),
        TargetSession::ReadOnly => (read_only(&mut client)?, "not read-only"),
        TargetSession::Primary => (!is_on(&mut client, "in_hot_standby")?, "a standby"),
        TargetSession::Standby => (is_on(&mut client, "in_hot_standby")?, "not a standby"),
    };
    if fits {
        return Ok(client);
    }
    Err(Error::WrongServer {
        peer: client.peer.clone(),
        wanted,
        found,
    })
}

fn read_only(client: &mut Client) -> Result<bool, Error> {
    Ok(is_on(client, "in_hot_standby")? || is_on(client, "default_transaction_read_only")?)
}

fn is_on(client: &mut Client, setting: &str) -> Result<bool, Error> {
    if let Some(value) = client.parameter(setting) {
        return Ok(value == "on");
    }
    Ok(client.show(setting)? == "on")
}
