//! What is done with bytes from strangers: the same for libFuzzer's targets and for the test that every run makes.
//!
//! Each function takes any bytes, panics when something is broken that must hold, and returns.

use std::ops::ControlFlow;

use pgm_mgmt::{Error, Frame, MessageId, Request, Response};
use pgm_proto::server::{
    BUFFER_BYTES_MAX, Encryption, Handshake, HandshakeOptions, MockSecret, Next, PlainText,
};
use pgm_proto::{Lsn, ScramIterations, ScramVerifier, TimelineId};
use pgm_wal::record::describe::write_line;
use pgm_wal::record::{
    BLOCK_BYTES, Event, RecordError, RecordReader, SegmentSource, SourceError, WalVersion,
};
use pgm_wal::summary::{Rules, Summary};
use pgm_wal::{History, SegmentName, SegmentNumber, SegmentSize};

/// More than any reply to one read before a login.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// A certificate that never was; what is bound to is its hash, and there is none.
const NO_CERTIFICATE: &[u8] = b"0\0";
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// Frames of the management protocol, and what is in them.
pub fn management_frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(frame) = Frame::read_from(&mut rest) {
        assert!(frame.payload.len() <= bytes.len());
        match frame.id {
            MessageId::Request => {
                if let Ok(request) = frame.message::<Request>() {
                    // What is understood is written as it is read.
                    let again = Frame::new(MessageId::Request, &request);
                    let again = again.expect("a request that was read can be written");
                    assert_eq!(again.message::<Request>().ok(), Some(request));
                }
            }
            MessageId::Response => drop(frame.message::<Response>()),
            MessageId::Event => drop(frame.message::<pgm_mgmt::Event>()),
            MessageId::Error => drop(frame.message::<Error>()),
        }
    }
    // Without the frame around it, so that no length has to be guessed first.
    let frame = Frame {
        id: MessageId::Request,
        payload: bytes.to_vec(),
    };
    drop(frame.message::<Request>());
}

/// A client's login. The first byte chooses the options; then come pieces: a byte with their length, and their bytes. A
/// length of 250 and above stands for a message that a client might send, so that the later states are reached.
pub fn handshake(bytes: &[u8]) {
    let Some((choice, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut client = Client::new(*choice);
    while let Some((length, after)) = rest.split_first() {
        let (piece, after) = match *length {
            length @ 250.. => (client.canned(length), after),
            length => {
                let (piece, after) = after.split_at(after.len().min(length.into()));
                (piece.to_vec(), after)
            }
        };
        rest = after;
        client.send(&piece);
    }
}

/// A client that does not know the password, and what it has heard.
struct Client {
    handshake: Handshake<()>,
    nonce: Vec<u8>,
    refused: bool,
}

impl Client {
    fn new(choice: u8) -> Self {
        let encryption = match choice & 3 {
            0 => Encryption::Unavailable,
            1 => Encryption::Offered,
            _ => Encryption::Begun,
        };
        let plain_text = match choice & 4 {
            0 => PlainText::Allowed,
            _ => PlainText::Refused,
        };
        let options = HandshakeOptions {
            encryption,
            plain_text,
            certificate: (choice & 8 != 0).then(|| NO_CERTIFICATE.to_vec()),
            mock_secret: MockSecret::new([7; 32]),
            iterations: ScramIterations::default(),
        };
        Self {
            handshake: Handshake::new(options),
            nonce: Vec::new(),
            refused: false,
        }
    }

    fn send(&mut self, piece: &[u8]) {
        let step = self.handshake.receive(piece, find);
        assert!(self.handshake.held_bytes() <= BUFFER_BYTES_MAX);
        assert!(step.reply.len() <= REPLY_BYTES_MAX);
        assert!(!self.refused || step.reply.is_empty(), "said after the end");
        if let Some(at) = step.reply.windows(2).position(|bytes| bytes == b"r=") {
            let nonce = &step.reply[at + 2..];
            let end = nonce.iter().position(|byte| *byte == b',');
            self.nonce = nonce[..end.unwrap_or(nonce.len())].to_vec();
        }
        match step.next {
            Next::Read => {}
            Next::BeginTls => self.handshake.encrypted(),
            Next::Accepted(_) => panic!("a login without the password"),
            Next::Refused { refusal, .. } => {
                assert_eq!(refusal.sqlstate.len(), 5);
                self.refused = true;
            }
            Next::Cancelled(_) => self.refused = true,
        }
    }

    fn canned(&self, which: u8) -> Vec<u8> {
        match which {
            250 => startup(b"user\0ann\0database\0pgm\0\0"),
            251 => startup(b"user\0nobody\0\0"),
            252 => sasl(b"SCRAM-SHA-256\0\0\0\0\x0Bn,,n=,r=abc"),
            253 => sasl(b"SCRAM-SHA-256-PLUS\0\0\0\0\x1Ep=tls-server-end-point,,n=,r=abc"),
            254 => vec![0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F],
            _ => {
                let proof = b",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
                sasl(&[b"c=biws,r=", self.nonce.as_slice(), proof].concat())
            }
        }
    }
}

fn find(user: &str) -> Option<(ScramVerifier, ())> {
    let verifier = || VERIFIER.parse().expect("RFC 7677's example");
    (user == "ann").then(|| (verifier(), ()))
}

fn startup(parameters: &[u8]) -> Vec<u8> {
    let length = (parameters.len() as u32 + 8).to_be_bytes();
    [&length, &[0, 3, 0, 0], parameters].concat()
}

fn sasl(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&b"p"[..], &length, body].concat()
}

/// WAL of one segment. The first byte chooses the version of PostgreSQL, and whether the rest is the segment as it is; else
/// it is pieces of which WAL is made, with headers and checksums that are right: info, resource manager, and a length, then
/// the body. A resource manager of 250 stands for a filler that goes over pages, one of 251 for bits that are flipped in
/// what was made.
pub fn wal_records(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let version = WalVersion::ALL[usize::from(choice & 0x7F) % WalVersion::ALL.len()];
    let mut wal = MadeWal::new(version);
    if choice & 0x80 != 0 {
        wal.bytes = rest.to_vec();
    } else {
        wal.pieces(rest);
    }
    let one_by_one = wal.read();
    assert_eq!(one_by_one, wal.count());
}

/// Where the segment begins; there is a newer one, so that damage is told from the end.
const WAL_START: u64 = 3 << 20;
const WAL_BYTES_MAX: usize = 1 << 18;
const PAGE: usize = 8192;

/// WAL that is made from pieces.
struct MadeWal {
    version: WalVersion,
    bytes: Vec<u8>,
    previous: u64,
}

impl MadeWal {
    fn new(version: WalVersion) -> Self {
        Self {
            version,
            bytes: Vec::new(),
            previous: 0,
        }
    }

    fn pieces(&mut self, mut rest: &[u8]) {
        while let [info, manager, length, after @ ..] = rest
            && self.bytes.len() < WAL_BYTES_MAX
        {
            let (body, after) = after.split_at(after.len().min(usize::from(*length)));
            rest = after;
            match manager {
                250 => {
                    let length = u32::from(*length) * 100;
                    let mut filler = vec![254];
                    filler.extend(length.to_le_bytes());
                    filler.resize(filler.len() + length as usize, 0xAB);
                    self.record(*info, 21, &filler);
                }
                251 => {
                    if let [low, high, ..] = body {
                        let at = usize::from(u16::from_le_bytes([*low, *high]));
                        if let Some(byte) = self.bytes.get_mut(at) {
                            *byte ^= info;
                        }
                    }
                }
                manager => self.record(*info, *manager, body),
            }
        }
    }

    fn record(&mut self, info: u8, manager: u8, body: &[u8]) {
        let mut record = Vec::with_capacity(24 + body.len());
        record.extend((24 + body.len() as u32).to_le_bytes());
        record.extend(700_u32.to_le_bytes());
        record.extend(self.previous.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(body), &record);
        record.extend(checksum.to_le_bytes());
        record.extend_from_slice(body);
        self.align();
        self.open_page(0);
        self.previous = WAL_START + self.bytes.len() as u64;
        let mut rest = &record[..];
        while !rest.is_empty() {
            self.open_page(rest.len() as u32);
            let room = PAGE - self.bytes.len() % PAGE;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    fn open_page(&mut self, remaining: u32) {
        if !self.bytes.len().is_multiple_of(PAGE) {
            return;
        }
        let address = WAL_START + self.bytes.len() as u64;
        let long = self.bytes.is_empty();
        let flags = u16::from(remaining != 0 && !long) | u16::from(long) << 1;
        self.bytes.extend(self.version.magic().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(1_u32.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        let remaining = if long { 0 } else { remaining };
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(7_u64.to_le_bytes());
            self.bytes.extend((1_u32 << 20).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    fn reader(&self) -> Option<RecordReader<&Self>> {
        let history = History::root(TimelineId::FIRST);
        RecordReader::seek(self, history, Lsn::new(WAL_START)).ok()
    }

    /// Reads everything, and does with each record all that can be done; gives how many there are.
    fn read(&self) -> u64 {
        let Some(mut reader) = self.reader() else {
            return 0;
        };
        let mut summary = Summary::new(TimelineId::FIRST, Lsn::new(WAL_START), Rules::Complete);
        let (mut records, mut before) = (0, Lsn::new(WAL_START));
        let (mut text, mut page) = (String::new(), [0; BLOCK_BYTES]);
        while let Ok(Some(record)) = reader.next() {
            assert!(record.lsn >= before && record.end_lsn >= record.lsn + 24);
            before = record.end_lsn;
            records += 1;
            text.clear();
            write_line(&record, &mut text);
            assert!(!text.is_empty());
            drop(Event::of(&record));
            drop(summary.add(&record));
            let parts = record.blocks().map(|block| {
                let image = block.image;
                // What cannot be restored is an error, and no more than that.
                let _ = image.map(|image| image.restore(&mut page));
                block.data.len() + image.map_or(0, |image| image.bytes.len())
            });
            assert!(parts.sum::<usize>() <= record.total_len as usize);
        }
        records
    }

    /// Counts the records in the way that does not move them.
    fn count(&self) -> u64 {
        let Some(mut reader) = self.reader() else {
            return 0;
        };
        let mut records = 0;
        let ended = reader.for_each(|_| {
            records += 1;
            Ok::<_, RecordError>(ControlFlow::Continue(()))
        });
        // Damage is an end, too.
        drop(ended);
        records
    }
}

impl SegmentSource for &MadeWal {
    fn segment_size(&self) -> SegmentSize {
        SegmentSize::MIN
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        if segment.start(SegmentSize::MIN) != Lsn::new(WAL_START) {
            return Ok(None);
        }
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(Some(count))
    }

    fn newest(&mut self, _: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        Ok(Some(
            SegmentSize::MIN.number_at(Lsn::new(WAL_START + (1 << 20))),
        ))
    }
}
