//! The replication commands with short answers.
//!
//! Follows the manual's 55.4, "Streaming Replication Protocol". `START_REPLICATION` is the transport's
//! (`transport/postgres.rs`), `BASE_BACKUP` is in `base_backup.rs`.

use std::str::FromStr;

use super::Client;
use super::query::{RawField, lossy};
use super::quote::{identifier, setting};
use crate::transport::SlotPosition;
use crate::{Error, Lsn, SlotName, SystemId, TimelineId};

/// The first major version with options in parentheses, and with READ_REPLICATION_SLOT.
pub(crate) const PARENTHESES_MAJOR: u32 = 15;

const DUPLICATE_OBJECT: &str = "42710";

/// The answer to IDENTIFY_SYSTEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The server's identity, shared by its standbys.
    pub system_id: SystemId,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// The end of its flushed WAL.
    pub flush_lsn: Lsn,
}

/// Whether a slot is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotCreated {
    /// It was created just now.
    Created,
    /// A slot with this name was there already.
    Existed,
}

/// A timeline history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// Its name: `00000002.history`.
    pub name: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl Client {
    /// Asks the server who it is and where it stands (IDENTIFY_SYSTEM).
    pub fn identify_system(&mut self) -> Result<Identity, Error> {
        const COMMAND: &str = "IDENTIFY_SYSTEM";
        let row = self.single_row(COMMAND, COMMAND)?;
        Ok(Identity {
            system_id: value(&row, 0, COMMAND)?,
            timeline: value(&row, 1, COMMAND)?,
            flush_lsn: value(&row, 2, COMMAND)?,
        })
    }

    /// The value of a setting (SHOW).
    pub fn show(&mut self, name: &str) -> Result<String, Error> {
        let row = self.single_row(&format!("SHOW {}", setting(name)), "SHOW")?;
        value(&row, 0, "SHOW")
    }

    /// Where a physical slot stands (READ_REPLICATION_SLOT, PostgreSQL 15 and later); `None` when it does not exist.
    pub fn read_replication_slot(
        &mut self,
        slot: &SlotName,
    ) -> Result<Option<SlotPosition>, Error> {
        const COMMAND: &str = "READ_REPLICATION_SLOT";
        if self.version.major() < PARENTHESES_MAJOR {
            return Err(Error::TooOld {
                command: COMMAND,
                major_min: PARENTHESES_MAJOR,
                version: self.version,
            });
        }
        let row = self.single_row(&format!("{COMMAND} {}", identifier(slot.as_str())), COMMAND)?;
        if optional::<String>(&row, 0, COMMAND)?.is_none() {
            return Ok(None);
        }
        Ok(Some(SlotPosition {
            restart_lsn: optional(&row, 1, COMMAND)?,
            timeline: optional(&row, 2, COMMAND)?,
        }))
    }

    /// Creates a physical slot that keeps WAL from now on (CREATE_REPLICATION_SLOT … RESERVE_WAL).
    pub fn create_physical_slot(&mut self, slot: &SlotName) -> Result<SlotCreated, Error> {
        let reserve = if self.version.major() < PARENTHESES_MAJOR {
            "RESERVE_WAL"
        } else {
            "(RESERVE_WAL)"
        };
        let name = identifier(slot.as_str());
        match self.query_raw(&format!(
            "CREATE_REPLICATION_SLOT {name} PHYSICAL {reserve}"
        )) {
            Ok(_) => Ok(SlotCreated::Created),
            Err(error) if error.sqlstate() == Some(DUPLICATE_OBJECT) => Ok(SlotCreated::Existed),
            Err(error) => Err(error),
        }
    }

    /// Drops a slot (DROP_REPLICATION_SLOT); fails when it is in use.
    pub fn drop_slot(&mut self, slot: &SlotName) -> Result<(), Error> {
        self.query_raw(&format!(
            "DROP_REPLICATION_SLOT {}",
            identifier(slot.as_str())
        ))?;
        Ok(())
    }

    /// The history file of a timeline (TIMELINE_HISTORY). Timeline 1 has none.
    pub fn timeline_history(&mut self, timeline: TimelineId) -> Result<HistoryFile, Error> {
        const COMMAND: &str = "TIMELINE_HISTORY";
        let row = self.single_row(&format!("{COMMAND} {timeline}"), COMMAND)?;
        let [Some(name), Some(content)] =
            <[RawField; 2]>::try_from(row).map_err(|_| shape(COMMAND))?
        else {
            return Err(shape(COMMAND));
        };
        if name != history_file_name(timeline).as_bytes() {
            return Err(shape(COMMAND));
        }
        Ok(HistoryFile {
            name: lossy(name),
            content,
        })
    }

    fn single_row(&mut self, sql: &str, command: &'static str) -> Result<Vec<RawField>, Error> {
        let rows = self
            .query_raw(sql)?
            .into_iter()
            .flat_map(|result| result.rows);
        <[Vec<RawField>; 1]>::try_from(rows.collect::<Vec<_>>())
            .map(|[row]| row)
            .map_err(|_| shape(command))
    }
}

/// The only name that a history file of this timeline may have.
pub(crate) fn history_file_name(timeline: TimelineId) -> String {
    format!("{}.history", timeline.file_prefix())
}

/// A size as SHOW prints it: a number and kB, MB or GB.
pub(crate) fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "B" | "" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn value<T: FromStr>(row: &[RawField], index: usize, command: &'static str) -> Result<T, Error> {
    optional(row, index, command)?.ok_or_else(|| shape(command))
}

fn optional<T: FromStr>(
    row: &[RawField],
    index: usize,
    command: &'static str,
) -> Result<Option<T>, Error> {
    let field = row.get(index).ok_or_else(|| shape(command))?;
    let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
    field
        .as_deref()
        .map(|bytes| parse(bytes).ok_or_else(|| shape(command)))
        .transpose()
}

/// The answer is not what the command gives.
fn shape(command: &str) -> Error {
    Error::Protocol(format!(
        "the answer to {command} does not have the expected form"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_show_prints_them() {
        assert_eq!(size_bytes("16MB"), Some(16 << 20));
        assert_eq!(size_bytes("1GB"), Some(1 << 30));
        for text in ["", "MB", "16TBs", "-1MB", "99999999999999GB"] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_row_of_another_form_is_an_error() {
        let row = vec![Some(b"12".to_vec()), None, Some(b"\xFF".to_vec())];
        assert_eq!(value::<u32>(&row, 0, "X").unwrap(), 12);
        assert_eq!(optional::<u32>(&row, 1, "X").unwrap(), None);
        assert!(value::<u32>(&row, 1, "X").is_err());
        assert!(optional::<String>(&row, 2, "X").is_err());
        assert!(optional::<u32>(&row, 3, "X").is_err());
    }
}
