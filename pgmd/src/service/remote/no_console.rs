//! Clients that send SQL: there is no console here, and each is told so in PostgreSQL's words.
//!
//! A simple query gets an ERROR and may be followed by the next; of an extended query everything up to its Sync is
//! skipped. Nothing is kept of what is skipped, whatever its length.

use std::io;
use std::time::Duration;

use pgm_proto::server::{Refusal, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::stream::write;

/// Tag and length.
const HEADER_BYTES: usize = 5;
/// As long as a management request.
const LENGTH_MAX: u32 = 1 << 20;

/// Answers one client until it goes.
pub(super) async fn converse(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    idle: Duration,
) {
    let refusal = Refusal::new("0A000", "there is no console here")
        .with_hint("use pgm-cli with the options --host, --port and --user");
    let mut skipping = Skipping::Nothing;
    loop {
        let message = tokio::time::timeout(idle, next(&mut reader)).await;
        let Ok(Ok(Some(tag))) = message else {
            return;
        };
        let answer = match (tag, skipping) {
            (b'X', _) => return,
            (b'S', Skipping::UntilSync) => {
                skipping = Skipping::Nothing;
                ready()
            }
            (_, Skipping::UntilSync) | (b'H', Skipping::Nothing) => continue,
            (b'Q', Skipping::Nothing) => [refusal.error(), ready()].concat(),
            (b'P' | b'B' | b'D' | b'E' | b'C' | b'F', Skipping::Nothing) => {
                skipping = Skipping::UntilSync;
                refusal.error()
            }
            (b'S', Skipping::Nothing) => ready(),
            (tag, Skipping::Nothing) => {
                let text = format!("invalid frontend message type {tag}");
                let _ = write(&mut writer, &Refusal::new("08P01", text).fatal()).await;
                return;
            }
        };
        if write(&mut writer, &answer).await.is_err() {
            return;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Skipping {
    Nothing,
    UntilSync,
}

/// The tag of the next message, whose body is read and dropped; `None` when it is no message.
async fn next(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u8>> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header).await?;
    let [tag, length @ ..] = header;
    let length = u32::from_be_bytes(length);
    if !(4..=LENGTH_MAX).contains(&length) {
        return Ok(None);
    }
    let mut body = reader.take(u64::from(length - 4));
    let skipped = tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
    Ok((skipped == u64::from(length - 4)).then_some(tag))
}
