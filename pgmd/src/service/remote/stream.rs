//! The bytes of one remote client, encrypted or not, and the ways to end them.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How long a client may take to read what it is told.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long, and how much, is read from a client that was told off, so that it gets to read why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 << 10;

/// Both directions of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection, over TLS or not.
pub(super) type Stream = Box<dyn Duplex>;

/// Writes all of `bytes`; an error when the client does not take them in time.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    tokio::time::timeout(WRITE_PATIENCE, written).await?
}

/// Says `bytes` and hangs up. What the client still sends is read for a moment: a socket that is closed with unread
/// bytes is reset, and the client would not hear why.
pub(super) async fn write_and_end(stream: &mut (impl Duplex + ?Sized), bytes: &[u8]) {
    let mut stream = stream;
    if write(&mut stream, bytes).await.is_err() {
        return;
    }
    let end = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES_MAX;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok::<_, io::Error>(()),
                count => match left.checked_sub(count) {
                    Some(rest) => left = rest,
                    None => return Ok(()),
                },
            }
        }
    };
    // Whatever happens now, the connection ends.
    let _ = tokio::time::timeout(LINGER, end).await;
}
