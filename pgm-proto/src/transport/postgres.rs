//! A server as the source of WAL: START_REPLICATION over a physical replication connection.
//!
//! `streaming.rs` knows what each message means; here are the connection and the slot. Nothing is allocated per message:
//! WAL is borrowed from the connection's fixed buffer, and a status is written from the stack.

mod streaming;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use crate::client::replication::{PARENTHESES_MAJOR, size_bytes};
use crate::frame::Filled;
use crate::transport::{
    Incoming, Outgoing, ServerIdentity, SlotPosition, StandbyStatus, WalTransport,
};
use crate::{Client, ConnInfo, Error, Lsn, Session, SlotName, TimelineId, Woken};

use streaming::{Step, Streaming};

/// Seconds from 1970-01-01 to 2000-01-01, where PostgreSQL's time begins.
const POSTGRES_EPOCH_SECONDS: u64 = 946_684_800;

/// A CopyData message with a standby status update: tag, length, `r`, three positions, a time, a flag.
const STATUS_BYTES: usize = 1 + 4 + 1 + 3 * 8 + 8 + 1;

/// How long the server may take for one of the short commands of `connect`.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Reads in one `receive` without a message that means something. Enough for the longest message in TLS records; more
/// is a server that keeps us busy.
const READS_MAX: usize = 256;

const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How to reach a server and stream its WAL.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// The server.
    pub conninfo: ConnInfo,
    /// The replication slot that keeps WAL for us; without one the server may remove WAL before we have it.
    pub slot: Option<SlotName>,
    /// What to do when the slot does not exist.
    pub create_slot: SlotPolicy,
}

/// What to do when the replication slot does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotPolicy {
    /// Create it.
    Create,
    /// Fail: somebody else creates it.
    Require,
}

/// WAL from a PostgreSQL server.
///
/// Before PostgreSQL 15 a slot's position cannot be read: [`ServerIdentity::slot`] stays empty, and a missing slot is found
/// with [`SlotPolicy::Require`] only when streaming starts.
#[derive(Debug)]
pub struct PostgresTransport {
    options: TransportOptions,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    streaming: Streaming,
}

impl PostgresTransport {
    /// A transport that is not connected yet.
    pub fn new(options: TransportOptions) -> Self {
        Self {
            options,
            connection: None,
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, Error> {
        self.connection.as_mut().ok_or(Error::Closed)
    }

    /// Makes sure that the slot is there, and tells where it stands if the server can tell.
    fn slot(&self, client: &mut Client) -> Result<Option<SlotPosition>, Error> {
        let Some(slot) = &self.options.slot else {
            return Ok(None);
        };
        let can_tell = client.server_version().major() >= PARENTHESES_MAJOR;
        if can_tell && let Some(position) = client.read_replication_slot(slot)? {
            return Ok(Some(position));
        }
        match self.options.create_slot {
            SlotPolicy::Require if can_tell => Err(Error::SlotMissing { slot: slot.clone() }),
            SlotPolicy::Require => Ok(None),
            SlotPolicy::Create => {
                client.create_physical_slot(slot)?;
                if can_tell {
                    client.read_replication_slot(slot)
                } else {
                    Ok(None)
                }
            }
        }
    }

    fn start_command(&self, timeline: TimelineId, lsn: Lsn) -> String {
        let slot = match &self.options.slot {
            Some(slot) => format!("SLOT \"{slot}\" "),
            None => String::new(),
        };
        format!("START_REPLICATION {slot}PHYSICAL {lsn} TIMELINE {timeline}")
    }
}

impl WalTransport for PostgresTransport {
    fn connect(&mut self) -> Result<ServerIdentity, Error> {
        self.disconnect();
        let mut client = Client::connect(&self.options.conninfo, Session::PhysicalReplication)?;
        client.set_silence_max(ANSWER_MAX);
        let identity = client.identify_system()?;
        let segment_bytes = segment_bytes(&client.show("wal_segment_size")?)?;
        let slot = self.slot(&mut client)?;
        let version = client.server_version();
        self.connection = Some(Connection {
            client,
            streaming: Streaming::default(),
        });
        Ok(ServerIdentity {
            system_id: identity.system_id,
            timeline: identity.timeline,
            flush_lsn: identity.flush_lsn,
            version,
            segment_bytes,
            slot,
        })
    }

    fn send(&mut self, message: Outgoing) -> Result<(), Error> {
        let start = match message {
            Outgoing::Start { timeline, lsn } => self.start_command(timeline, lsn),
            _ => String::new(),
        };
        let Connection { client, streaming } = self.connection()?;
        match message {
            Outgoing::TimelineHistory(timeline) => {
                streaming.ask_history(timeline)?;
                client.send_query(&format!("TIMELINE_HISTORY {timeline}"))
            }
            Outgoing::Start { .. } => {
                streaming.ask_start()?;
                client.send_query(&start)
            }
            Outgoing::Status(status) if streaming.takes_status() => {
                client.send_bytes(&status_message(status, SystemTime::now()))
            }
            Outgoing::EndStream if streaming.end_by_us() => client.send_copy_done(),
            // The stream has ended in the meantime: nobody is there to read it.
            Outgoing::Status(_) | Outgoing::EndStream => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<Incoming<'_>, Error> {
        let Self {
            options,
            connection: Some(connection),
        } = self
        else {
            return Err(Error::Closed);
        };
        let step = connection.step().map_err(|error| match &options.slot {
            Some(slot) if error.is_slot_missing() => Error::SlotMissing { slot: slot.clone() },
            _ => error,
        })?;
        connection.incoming(step)
    }

    fn wait(&mut self, timeout: Duration, wake: Option<BorrowedFd<'_>>) -> Result<Woken, Error> {
        let Connection { client, .. } = self.connection()?;
        if client.reader.has_message() {
            return Ok(Woken::Readable);
        }
        let deadline = Instant::now() + timeout;
        Ok(client.stream.wait_readable(Some(deadline), wake)?)
    }

    fn disconnect(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.client.stream.close();
        }
    }
}

impl Connection {
    /// Takes messages until one means something; [`Step::Skip`] when the socket is drained before that.
    fn step(&mut self) -> Result<Step, Error> {
        for _ in 0..READS_MAX {
            while self.client.advance_buffered()? {
                let frame = self.client.current()?;
                match self.streaming.take(frame.tag, frame.body)? {
                    Step::Skip => {}
                    Step::CopyDone => self.client.send_copy_done()?,
                    step => return Ok(step),
                }
            }
            match self.client.reader.fill(&mut self.client.stream)? {
                Filled::Bytes(_) => {}
                Filled::Drained => break,
                Filled::Closed if self.streaming.may_close() => return Ok(Step::Closed),
                Filled::Closed => return Err(Error::Closed),
            }
        }
        Ok(Step::Skip)
    }

    fn incoming(&self, step: Step) -> Result<Incoming<'_>, Error> {
        Ok(match step {
            Step::Skip | Step::CopyDone => Incoming::Nothing,
            Step::Started => Incoming::Started,
            Step::Closed => Incoming::Closed,
            Step::EndOfTimeline { next, switch } => Incoming::EndOfTimeline { next, switch },
            Step::Keepalive {
                server_end,
                reply_requested,
            } => Incoming::Keepalive {
                server_end,
                reply_requested,
            },
            Step::Wal { start, server_end } => Incoming::Wal {
                start,
                server_end,
                data: &self.client.current()?.body[streaming::WAL_HEADER_BYTES..],
            },
            Step::History { timeline } => {
                let (name, content) = streaming::history(self.client.current()?.body, timeline)?;
                Incoming::History {
                    timeline,
                    name,
                    content,
                }
            }
        })
    }
}

/// Reads what `SHOW wal_segment_size` says.
fn segment_bytes(text: &str) -> Result<u32, Error> {
    let plausible = |bytes: &u64| {
        bytes.is_power_of_two() && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(bytes)
    };
    let bytes = size_bytes(text).filter(plausible);
    bytes
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| {
            let text = text.escape_debug();
            Error::Protocol(format!(
                "`{text}` is no size of a WAL segment (1 MiB to 1 GiB)"
            ))
        })
}

/// A standby status update within CopyData (manual: 55.4).
fn status_message(status: StandbyStatus, now: SystemTime) -> [u8; STATUS_BYTES] {
    let since_1970 = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let since_2000 = since_1970.saturating_sub(Duration::from_secs(POSTGRES_EPOCH_SECONDS));
    let microseconds = u64::try_from(since_2000.as_micros()).unwrap_or(u64::MAX);
    let mut message = [0; STATUS_BYTES];
    message[0] = b'd';
    message[1..5].copy_from_slice(&(STATUS_BYTES as u32 - 1).to_be_bytes());
    message[5] = b'r';
    let numbers = [
        status.write.bytes(),
        status.flush.bytes(),
        status.apply.bytes(),
        microseconds,
    ];
    for (place, number) in message[6..STATUS_BYTES - 1]
        .chunks_exact_mut(8)
        .zip(numbers)
    {
        place.copy_from_slice(&number.to_be_bytes());
    }
    message[STATUS_BYTES - 1] = u8::from(status.reply_requested);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_bytes_of_the_manual() {
        let status = StandbyStatus {
            write: Lsn::new(3),
            flush: Lsn::new(2),
            apply: Lsn::INVALID,
            reply_requested: true,
        };
        let second_2000 = SystemTime::UNIX_EPOCH + Duration::from_secs(POSTGRES_EPOCH_SECONDS + 1);
        let message = status_message(status, second_2000);
        let mut expected = b"d\0\0\0\x26r".to_vec();
        for number in [3_u64, 2, 0, 1_000_000] {
            expected.extend(number.to_be_bytes());
        }
        expected.push(1);
        assert_eq!(message, expected[..]);
    }

    #[test]
    fn only_possible_segment_sizes_are_accepted() {
        assert_eq!(segment_bytes("16MB").unwrap(), 16 << 20);
        assert_eq!(segment_bytes("1GB").unwrap(), 1 << 30);
        for text in ["", "3MB", "512kB", "2GB", "16 MB", "0"] {
            assert!(segment_bytes(text).is_err(), "{text}");
        }
    }
}
