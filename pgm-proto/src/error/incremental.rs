//! Why a server does not send an incremental backup.
//!
//! Follows `PrepareForIncrementalBackup` in `basebackup_incremental.c`, `parse_basebackup_options` in `basebackup.c` and
//! `WaitForWalSummarization` in `walsummarizer.c`. All of it is SQLSTATE 55000 (or XX000 for what a manifest says), so only the
//! English text tells the reasons apart; in another language it is [`IncrementalRefusal::Other`].

use super::{Error, ServerError};

/// What stands against an incremental backup with the manifest that was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncrementalRefusal {
    /// `summarize_wal` is off.
    SummariesOff,
    /// WAL summaries since the earlier backup are missing: not made, or removed already.
    SummariesMissing,
    /// The manifest is that of another database system.
    OtherSystem,
    /// The earlier backup is not of this server's past: of a timeline that it was never on, or not before this backup.
    OtherHistory,
    /// What only the server's own words tell.
    Other,
}

impl IncrementalRefusal {
    /// The next action, when there is one to name.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::SummariesOff => Some(
                "ALTER SYSTEM SET summarize_wal = on; and SELECT pg_reload_conf(); the backup after the next can be incremental",
            ),
            Self::SummariesMissing => Some(
                "the server keeps WAL summaries for wal_summary_keep_time (10 days unless it is set): take backups more often \
                 than that, or raise it",
            ),
            Self::OtherSystem | Self::OtherHistory | Self::Other => None,
        }
    }
}

impl Error {
    /// Why the server refused an incremental backup, if that is what this error of
    /// [`upload_manifest`](crate::Client::upload_manifest) or [`base_backup`](crate::Client::base_backup) says: a full one may
    /// succeed in the same session.
    pub fn incremental_refusal(&self) -> Option<IncrementalRefusal> {
        match self {
            Self::Server(source) if !self.is_retryable() => {
                Some(of(source).unwrap_or(IncrementalRefusal::Other))
            }
            Self::TooOld { .. } => Some(IncrementalRefusal::Other),
            _ => None,
        }
    }
}

/// The reason in the server's words; `None` when it says something else.
pub(super) fn of(error: &ServerError) -> Option<IncrementalRefusal> {
    let says = |text: &str| error.message.contains(text);
    if says("cannot be taken unless WAL summarization is enabled") {
        Some(IncrementalRefusal::SummariesOff)
    } else if says("WAL summaries are required") || says("WAL summarization is not progressing") {
        Some(IncrementalRefusal::SummariesMissing)
    } else if says("system identifier in backup manifest") {
        Some(IncrementalRefusal::OtherSystem)
    } else if says("found in manifest, but not in this server's history")
        || says("manifest requires WAL from")
    {
        Some(IncrementalRefusal::OtherHistory)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str, message: &str) -> Error {
        ServerError {
            sqlstate: sqlstate.into(),
            message: message.into(),
            ..ServerError::default()
        }
        .into()
    }

    #[test]
    fn each_refusal_is_told_by_the_servers_words() {
        use IncrementalRefusal::{
            Other, OtherHistory, OtherSystem, SummariesMissing, SummariesOff,
        };
        for (message, refusal) in [
            (
                "incremental backups cannot be taken unless WAL summarization is enabled",
                SummariesOff,
            ),
            (
                "WAL summaries are required on timeline 1 from 0/2000028 to 0/5000028, but no summaries for that \
                 timeline and LSN range exist",
                SummariesMissing,
            ),
            (
                "system identifier in backup manifest is 1, but database system identifier is 2",
                OtherSystem,
            ),
            (
                "timeline 2 found in manifest, but not in this server's history",
                OtherHistory,
            ),
            (
                "manifest requires WAL from final timeline 1 ending at 0/3000000, but this backup starts at 0/2000028",
                OtherHistory,
            ),
            ("Sicherungsmanifest unlesbar", Other),
        ] {
            let error = server("55000", message);
            assert_eq!(error.incremental_refusal(), Some(refusal), "{message}");
            assert_eq!(
                error.hint().as_deref(),
                refusal.hint(),
                "an error has the hint of its reason: {message}"
            );
        }
    }

    #[test]
    fn a_server_that_goes_away_or_a_broken_line_is_no_refusal() {
        assert_eq!(server("57P01", "shutdown").incremental_refusal(), None);
        assert_eq!(Error::Closed.incremental_refusal(), None);
        assert_eq!(Error::Interrupted.incremental_refusal(), None);
    }
}
