//! One connection: login, commands, the stream of WAL.

use std::fmt::Write;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use pgm_proto::frame::{Filled, FrameReader};
use pgm_proto::{Lsn, TimelineId};

use super::message::{complete, error, message, ready, result_set};
use super::output::Output;
use super::stream::{Said, Stream};
use super::{Fault, Shared, lock};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const COPY_BOTH: &[u8] = b"W\0\0\0\x07\0\0\0";

/// Why a session ended; nobody asks, but `?` is handy.
pub(super) type Ended = io::Result<()>;

pub(super) fn serve(socket: TcpStream, shared: &Shared) {
    let _ = Session::new(socket, shared).and_then(Session::run);
}

struct Session<'s> {
    socket: TcpStream,
    reader: FrameReader,
    output: Output,
    shared: &'s Shared,
}

impl<'s> Session<'s> {
    fn new(socket: TcpStream, shared: &'s Shared) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let output = Output::new(socket.try_clone()?, shared.script.fault);
        let mut reader = FrameReader::new();
        reader.accept_long_messages();
        Ok(Self {
            socket,
            reader,
            output,
            shared,
        })
    }

    fn run(mut self) -> Ended {
        self.log_in()?;
        loop {
            let (tag, body) = next(&mut self.reader, &mut self.socket)?;
            if tag != b'Q' {
                return Ok(());
            }
            let command = String::from_utf8_lossy(&body)
                .trim_end_matches('\0')
                .to_owned();
            lock(&self.shared.commands).push(command.clone());
            if self.shared.script.fault != Fault::NeverAnswers {
                self.answer(&command)?;
            }
        }
    }

    fn log_in(&mut self) -> Ended {
        loop {
            let mut length = [0; 4];
            self.socket.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length).clamp(8, 10_000) as usize;
            let mut startup = vec![0; length - 4];
            self.socket.read_exact(&mut startup)?;
            let code = u32::from_be_bytes([startup[0], startup[1], startup[2], startup[3]]);
            if code != SSL_REQUEST && code != GSS_REQUEST {
                break;
            }
            self.output.send(b"N")?;
        }
        let mut welcome = message(b'R', &[0; 4]);
        let version = self.shared.script.version.as_str();
        for (name, value) in [
            ("server_version", version),
            ("in_hot_standby", "off"),
            ("default_transaction_read_only", "off"),
        ] {
            welcome.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
        }
        welcome.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
        welcome.extend(ready());
        self.output.send(&welcome)
    }

    fn answer(&mut self, command: &str) -> Ended {
        let scripted = &self.shared.script.answers;
        if let Some((_, bytes)) = scripted
            .iter()
            .find(|(start, _)| command.starts_with(*start))
        {
            return self.output.send(bytes);
        }
        let words: Vec<_> = command.split_whitespace().collect();
        let mut answer = match words.as_slice() {
            ["IDENTIFY_SYSTEM"] => self.identity(),
            ["SHOW", name] => self.setting(name),
            ["READ_REPLICATION_SLOT", slot] => self.slot(slot),
            ["CREATE_REPLICATION_SLOT", slot, "PHYSICAL", ..] => self.create_slot(slot),
            ["DROP_REPLICATION_SLOT", slot] => self.drop_slot(slot),
            ["TIMELINE_HISTORY", timeline] => self.history(timeline),
            ["START_REPLICATION", rest @ ..] => return self.start_replication(rest),
            _ => error("ERROR", "42601", "syntax error"),
        };
        answer.extend(ready());
        self.output.send(&answer)
    }

    fn current(&self) -> (TimelineId, Lsn) {
        *self.shared.script.timelines.last().unwrap()
    }

    fn identity(&self) -> Vec<u8> {
        let (timeline, end) = self.current();
        let [id, timeline, end] = [
            self.shared.script.system_id.to_string(),
            timeline.to_string(),
            end.to_string(),
        ];
        let row = [
            Some(id.as_bytes()),
            Some(timeline.as_bytes()),
            Some(end.as_bytes()),
            None,
        ];
        let mut answer = result_set(&["systemid", "timeline", "xlogpos", "dbname"], &[&row]);
        answer.extend(complete("IDENTIFY_SYSTEM"));
        answer
    }

    fn setting(&self, name: &str) -> Vec<u8> {
        match name.trim_matches('"') {
            "wal_segment_size" => {
                let size = self.shared.script.segment_size.as_bytes();
                result_set(&["wal_segment_size"], &[&[Some(size)]])
            }
            _ => error("ERROR", "42704", "unrecognized configuration parameter"),
        }
    }

    fn slot(&self, slot: &str) -> Vec<u8> {
        let columns = ["slot_type", "restart_lsn", "restart_tli"];
        match lock(&self.shared.slots).get(slot.trim_matches('"')) {
            None => result_set(&columns, &[&[None, None, None]]),
            Some(lsn) => {
                let (lsn, timeline) = (lsn.to_string(), self.current().0.to_string());
                let row = [
                    Some(&b"physical"[..]),
                    Some(lsn.as_bytes()),
                    Some(timeline.as_bytes()),
                ];
                result_set(&columns, &[&row])
            }
        }
    }

    fn create_slot(&self, slot: &str) -> Vec<u8> {
        let slot = slot.trim_matches('"');
        let mut slots = lock(&self.shared.slots);
        if slots.contains_key(slot) {
            return error("ERROR", "42710", "replication slot already exists");
        }
        slots.insert(slot.to_owned(), self.current().1);
        let columns = [
            "slot_name",
            "consistent_point",
            "snapshot_name",
            "output_plugin",
        ];
        result_set(
            &columns,
            &[&[Some(slot.as_bytes()), Some(b"0/0"), None, None]],
        )
    }

    fn drop_slot(&self, slot: &str) -> Vec<u8> {
        match lock(&self.shared.slots).remove(slot.trim_matches('"')) {
            Some(_) => complete("DROP_REPLICATION_SLOT"),
            None => error("ERROR", "42704", "replication slot does not exist"),
        }
    }

    fn history(&self, timeline: &str) -> Vec<u8> {
        let timelines = &self.shared.script.timelines;
        let place = timelines
            .iter()
            .position(|(id, _)| id.to_string() == timeline);
        let Some(place) = place.filter(|place| *place > 0) else {
            return error("ERROR", "58P01", "could not open the history file");
        };
        let mut content = String::new();
        for (id, end) in &timelines[..place] {
            let _ = writeln!(content, "{id}\t{end}\tno recovery target specified");
        }
        let name = format!("{}.history", timelines[place].0.file_prefix());
        let row = [Some(name.as_bytes()), Some(content.as_bytes())];
        result_set(&["filename", "content"], &[&row])
    }

    fn start_replication(&mut self, words: &[&str]) -> Ended {
        let (slot, words) = match words {
            ["SLOT", slot, words @ ..] => (Some(slot.trim_matches('"')), words),
            words => (None, words),
        };
        let ["PHYSICAL", lsn, "TIMELINE", timeline] = words else {
            return self.refuse("42601", "syntax error");
        };
        let (Ok(start), Ok(timeline)) = (lsn.parse::<Lsn>(), timeline.parse::<TimelineId>()) else {
            return self.refuse("42601", "syntax error");
        };
        if slot.is_some_and(|slot| !lock(&self.shared.slots).contains_key(slot)) {
            return self.refuse("42704", "replication slot does not exist");
        }
        let timelines = &self.shared.script.timelines;
        let Some(place) = timelines.iter().position(|(id, _)| *id == timeline) else {
            return self.refuse(
                "XX000",
                "requested timeline is not in this server's history",
            );
        };
        let end = timelines[place].1;
        let next = timelines.get(place + 1).map(|(id, _)| (*id, end));
        if start > end {
            return self.refuse("55000", "requested starting point is ahead of the WAL");
        }
        if next.is_none() || start < end {
            self.stream(start, end, next.is_none())?;
        }
        let mut answer = Vec::new();
        if let Some((next, switch)) = next {
            let (next, switch) = (next.to_string(), switch.to_string());
            let row = [Some(next.as_bytes()), Some(switch.as_bytes())];
            answer.extend(result_set(&["next_tli", "next_tli_startpos"], &[&row]));
        }
        answer.extend(complete("START_STREAMING"));
        answer.extend(ready());
        self.output.send(&answer)
    }

    fn refuse(&mut self, sqlstate: &str, text: &str) -> Ended {
        let mut answer = error("ERROR", sqlstate, text);
        answer.extend(ready());
        self.output.send(&answer)
    }

    /// Streams from `start` to `end`, and then until somebody ends it.
    fn stream(&mut self, start: Lsn, end: Lsn, is_current: bool) -> Ended {
        self.output.send(COPY_BOTH)?;
        match self.shared.script.fault {
            Fault::Garbage => return self.output.send(&[0xA5; 4096]),
            Fault::HugeLength => {
                return self
                    .output
                    .send(&[b'd', 0x7F, 0xFF, 0xFF, 0xFF, b'w', 0, 0]);
            }
            _ => {}
        }
        let (sender, said) = channel();
        let Self {
            socket,
            reader,
            output,
            shared,
        } = self;
        let line = socket.try_clone()?;
        thread::scope(|scope| {
            scope.spawn(|| listen(reader, socket, shared, &sender));
            let mut stream = Stream::new(output, shared, &said);
            let ended = stream
                .send_wal(start, end)
                .and_then(|()| stream.end(end, is_current));
            if ended.is_err() {
                // The listener reads until the stream or the connection ends.
                let _ = line.shutdown(Shutdown::Both);
            }
            ended
        })
    }
}

/// Takes what the client says within the stream, until it ends its half of it.
fn listen(reader: &mut FrameReader, socket: &mut TcpStream, shared: &Shared, said: &Sender<Said>) {
    loop {
        let news = match next(reader, socket) {
            Ok((b'd', body)) if body.len() == 34 && body[0] == b'r' => {
                let number =
                    |at: usize| body[at..at + 8].try_into().map(u64::from_be_bytes).unwrap();
                shared.statuses.fetch_add(1, Ordering::AcqRel);
                shared.written.fetch_max(number(1), Ordering::AcqRel);
                shared.flushed.fetch_max(number(9), Ordering::AcqRel);
                if body[33] == 0 {
                    continue;
                }
                Said::StatusWithReply
            }
            Ok((b'c', _)) => Said::CopyDone,
            _ => Said::Gone,
        };
        let last = news != Said::StatusWithReply;
        if said.send(news).is_err() || last {
            return;
        }
    }
}

/// The client's next message.
fn next(reader: &mut FrameReader, socket: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    loop {
        if let Some(frame) = reader.next().map_err(io::Error::other)? {
            return Ok((frame.tag, frame.body.to_vec()));
        }
        if reader.fill(socket)? == Filled::Closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
