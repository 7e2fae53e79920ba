//! What is done with bytes from strangers: the same for libFuzzer's targets and for the test that every run makes.
//!
//! Each function takes any bytes, panics when something is broken that must hold, and returns.

use pgm_mgmt::{Error, Event, Frame, MessageId, Request, Response};
use pgm_proto::server::{
    BUFFER_BYTES_MAX, Encryption, Handshake, HandshakeOptions, MockSecret, Next, PlainText,
};
use pgm_proto::{ScramIterations, ScramVerifier};

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
            MessageId::Event => drop(frame.message::<Event>()),
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
