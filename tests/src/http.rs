//! One HTTP request, as bytes: what a test sends is exactly what it wrote.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any server here takes to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What came back.
#[derive(Debug)]
pub struct HttpAnswer {
    /// The status, 0 if there was no answer at all.
    pub status: u16,
    /// The lines before the body, names in small letters.
    pub head: String,
    /// The body as it was sent, with the frames of its chunks.
    pub body: String,
}

/// Sends `request` to `address` and reads until the server closes.
pub fn http(address: SocketAddr, request: &str) -> HttpAnswer {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) {
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        // A server that refuses what comes may close before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut answer);
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    HttpAnswer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
