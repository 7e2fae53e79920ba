//! The packets that come before the first message with a tag.
//!
//! ```text
//! | length: u32, counts itself | code: u32 | body |        8 to 10,000 bytes, bounded before the body is waited for
//! ```
//!
//! Follows PostgreSQL's `ProcessStartupPacket`. What the parameters mean is left to the caller, but for the user.

use std::collections::BTreeMap;

use super::cancel::CancelKey;

/// The longest packet or message before a client has logged in, as in PostgreSQL.
pub(super) const LENGTH_MAX: usize = 10_000;
/// The shortest packet: its length and its code.
const LENGTH_MIN: usize = 8;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const MAJOR: u16 = 3;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// The client wants TLS.
    SslRequest,
    /// The client wants GSSAPI's encryption.
    GssEncRequest,
    /// Somebody wants a query to be cancelled.
    CancelRequest(CancelKey),
    /// The client begins.
    Startup(Startup),
}

/// The startup packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Startup {
    /// The minor version of protocol 3 that the client would like.
    pub(super) minor: u16,
    pub(super) user: String,
    /// All parameters but the user, `_pq_.` options among them.
    pub(super) parameters: BTreeMap<String, String>,
}

/// What is wrong with a packet: SQLSTATE and text, as PostgreSQL says it.
pub(super) type Problem = (&'static str, String);

/// Length of the packet that `bytes` begin with, once it is known.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Problem> {
    let Some(length) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if (LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        return Ok(Some(length));
    }
    Err(violation("invalid length of startup packet"))
}

impl Packet {
    /// Reads a whole packet, its length included.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Problem> {
        let (Some(code), Some(body)) = (packet.get(4..8), packet.get(8..)) else {
            return Err(violation("invalid length of startup packet"));
        };
        let code = u32::from_be_bytes([code[0], code[1], code[2], code[3]]);
        match code {
            SSL_REQUEST | GSSENC_REQUEST if !body.is_empty() => {
                Err(violation("invalid length of startup packet"))
            }
            SSL_REQUEST => Ok(Self::SslRequest),
            GSSENC_REQUEST => Ok(Self::GssEncRequest),
            CANCEL_REQUEST => CancelKey::parse(body)
                .map(Self::CancelRequest)
                .ok_or_else(|| violation("invalid length of startup packet")),
            _ => Startup::parse((code >> 16) as u16, code as u16, body).map(Self::Startup),
        }
    }
}

impl Startup {
    fn parse(major: u16, minor: u16, body: &[u8]) -> Result<Self, Problem> {
        if major != MAJOR {
            let text = format!(
                "unsupported frontend protocol {major}.{minor}: server supports {MAJOR}.0 to {MAJOR}.0"
            );
            return Err(("0A000", text));
        }
        let layout =
            || violation("invalid startup packet layout: expected terminator as last byte");
        // name, zero, value, zero, …, and one more zero at the very end
        let fields = body.strip_suffix(&[0]).ok_or_else(layout)?;
        let mut parameters = BTreeMap::new();
        let mut rest = fields;
        while !rest.is_empty() {
            let (name, after) = text(rest).ok_or_else(layout)??;
            let (value, after) = text(after).ok_or_else(layout)??;
            if name.is_empty() {
                return Err(layout());
            }
            parameters.insert(name.to_owned(), value.to_owned());
            rest = after;
        }
        let user = parameters.remove("user").filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| {
            let text = "no user name specified in startup packet";
            ("28000", text.to_owned())
        })?;
        Ok(Self {
            minor,
            user,
            parameters,
        })
    }
}

/// The text up to the first zero, and what follows it.
fn text(bytes: &[u8]) -> Option<Result<(&str, &[u8]), Problem>> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&bytes[..end]);
    Some(match text {
        Ok(text) => Ok((text, &bytes[end + 1..])),
        Err(_) => Err((
            "22021",
            "invalid byte sequence for encoding \"UTF8\" in startup packet".to_owned(),
        )),
    })
}

fn violation(text: &str) -> Problem {
    ("08P01", text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn lengths_have_bounds() {
        assert_eq!(length(&[0, 0, 0]), Ok(None));
        assert_eq!(length(&[0, 0, 0, 8]), Ok(Some(8)));
        assert_eq!(length(&[0, 0, 0x27, 0x10]), Ok(Some(10_000)));
        for bad in [[0, 0, 0, 7], [0, 0, 0x27, 0x11], [0xFF; 4], *b"GET "] {
            assert_eq!(length(&bad).unwrap_err().0, "08P01");
        }
    }

    #[test]
    fn a_startup_packet_is_read_to_its_end() {
        let body = b"user\0ann\0database\0pgm\0_pq_.x\0\0\0";
        let Packet::Startup(startup) = Packet::parse(&packet(0x0003_0002, body)).unwrap() else {
            panic!()
        };
        assert_eq!((startup.minor, startup.user.as_str()), (2, "ann"));
        assert_eq!(startup.parameters["database"], "pgm");
        assert_eq!(startup.parameters["_pq_.x"], "");
        for end in 0..body.len() {
            let cut = Packet::parse(&packet(0x0003_0000, &body[..end]));
            // Cut between two parameters it may still be one, but without its last zero never.
            assert!(cut.is_err() || body[end - 1] == 0, "{end}: {cut:?}");
        }
    }

    #[test]
    fn what_is_no_startup_packet_is_refused() {
        for (code, body, sqlstate) in [
            (0x0002_0000, &b"user\0ann\0\0"[..], "0A000"),
            (0x0003_0000, b"", "08P01"),
            (0x0003_0000, b"\0", "28000"),
            (0x0003_0000, b"user\0\0\0", "28000"),
            (0x0003_0000, b"user\0ann\0\0garbage", "08P01"),
            (0x0003_0000, b"user\0ann\0\0a\0b\0\0", "08P01"),
            (0x0003_0000, b"user\0\xFF\xFE\0\0", "22021"),
            (SSL_REQUEST, b"x", "08P01"),
        ] {
            let problem = Packet::parse(&packet(code, body)).unwrap_err();
            assert_eq!(problem.0, sqlstate, "{code:x} {body:?}");
        }
    }
}
