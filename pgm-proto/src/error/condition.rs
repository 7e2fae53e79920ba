//! What a server's error means for a receiver, told by its SQLSTATE (manual, appendix A).

use super::Error;

const UNDEFINED_OBJECT: &str = "42704";
const OBJECT_IN_USE: &str = "55006";
const UNDEFINED_FILE: &str = "58P01";
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";
const CANNOT_CONNECT_NOW: &str = "57P03";
const TOO_MANY_CONNECTIONS: &str = "53300";

impl Error {
    /// Whether the server no longer has the WAL or history file that was asked for.
    pub fn is_wal_removed(&self) -> bool {
        self.sqlstate() == Some(UNDEFINED_FILE)
    }

    /// Whether the replication slot is in use by another connection, perhaps one of ours that the server has not
    /// given up yet.
    pub fn is_slot_busy(&self) -> bool {
        self.sqlstate() == Some(OBJECT_IN_USE)
    }

    /// Whether the replication slot does not exist.
    pub fn is_slot_missing(&self) -> bool {
        matches!(self, Self::SlotMissing { .. }) || self.sqlstate() == Some(UNDEFINED_OBJECT)
    }

    /// Whether the server shuts down, starts up or has crashed, so that it will be back.
    pub fn is_server_away(&self) -> bool {
        matches!(
            self.sqlstate(),
            Some(ADMIN_SHUTDOWN | CRASH_SHUTDOWN | CANNOT_CONNECT_NOW)
        )
    }

    /// Whether the same attempt may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoHost { attempts } => attempts.iter().any(Self::is_retryable),
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::WrongServer { .. }
            | Self::Timeout { .. }
            | Self::Closed
            | Self::Io(_) => true,
            Self::Server(_) | Self::Refused { .. } => {
                self.is_server_away()
                    || self.is_slot_busy()
                    || self.sqlstate() == Some(TOO_MANY_CONNECTIONS)
            }
            _ => false,
        }
    }
}

/// The next action for the conditions above, where the server does not name one.
pub(super) fn hint(error: &Error) -> Option<String> {
    if let Error::SlotMissing { slot } = error {
        return Some(format!(
            "run `SELECT pg_create_physical_replication_slot('{slot}', true);` on the server, or set \
             `create_slot: true`"
        ));
    }
    let refusal = error.server_error().and_then(super::incremental::of);
    if let Some(refusal) = refusal {
        return refusal.hint().map(str::to_owned);
    }
    let text = if error.is_wal_removed() {
        "the server has already removed this file; a replication slot would have kept it: take a new \
         full backup, and see max_slot_wal_keep_size and wal_keep_size"
    } else if error.is_slot_busy() {
        "another connection uses the slot; `SELECT active_pid FROM pg_replication_slots;` tells \
         which. After a lost connection the server frees it within wal_sender_timeout"
    } else {
        return None;
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerError;

    fn server(sqlstate: &str) -> Error {
        ServerError {
            sqlstate: sqlstate.into(),
            ..ServerError::default()
        }
        .into()
    }

    #[test]
    fn removed_wal_is_told_apart_and_not_retried() {
        assert!(server("58P01").is_wal_removed());
        assert!(!server("58P01").is_retryable());
        assert!(server("58P01").hint().unwrap().contains("full backup"));
    }

    #[test]
    fn a_shutdown_or_a_busy_slot_passes_by_itself() {
        for sqlstate in ["57P01", "57P02", "57P03", "55006", "53300"] {
            assert!(server(sqlstate).is_retryable(), "{sqlstate}");
        }
        assert!(!server("28P01").is_retryable());
    }

    #[test]
    fn a_missing_slot_says_how_to_make_it() {
        let error = Error::SlotMissing {
            slot: "pgmd".parse().unwrap(),
        };
        let call = "SELECT pg_create_physical_replication_slot('pgmd', true);";
        assert!(error.hint().unwrap().contains(call));
    }
}
