//! UPLOAD_MANIFEST: the manifest of an earlier backup, for an incremental one that follows in the same session.
//!
//! ```text
//! we      Query UPLOAD_MANIFEST
//! server  CopyInResponse
//! we      CopyData*, CopyDone (CopyFail, when we cannot go on)
//! server  CommandComplete, ReadyForQuery; or an error, also in the middle, and ReadyForQuery
//! ```
//!
//! Follows the manual's 55.4 and `UploadManifest` in `walsender.c`: what is uploaded counts for the rest of the session, the
//! last one if there are several. The server parses as the bytes come; here they pass through one buffer. An error in the
//! middle is read at the end only: the server takes and forgets the rest, so both sides stay in step.

use std::io::{self, Write};

use crate::Error;
use crate::ServerError;
use crate::client::Client;
use crate::message::unexpected;

/// The first major version with incremental backups.
pub(crate) const INCREMENTAL_MAJOR: u32 = 17;
const COMMAND: &str = "UPLOAD_MANIFEST";
/// CopyData: tag and length.
const HEADER_BYTES: usize = 5;
/// The bytes of a manifest in one message.
const PIECE_BYTES: usize = 64 << 10;

/// A manifest on its way to the server: bytes are written to it, then it is [finished](Self::finish) or
/// [given up](Self::give_up). Dropped before that, it closes the connection.
#[derive(Debug)]
pub struct ManifestUpload<'c> {
    client: &'c mut Client,
    /// A message that is filled; its header is set when it is sent.
    message: Vec<u8>,
    failure: Option<Error>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sending,
    Answered,
}

impl Client {
    /// Begins to upload the manifest of an earlier backup, with which the next base backup of this session can be an
    /// incremental one (PostgreSQL 17 and later).
    pub fn upload_manifest(&mut self) -> Result<ManifestUpload<'_>, Error> {
        if self.version.major() < INCREMENTAL_MAJOR {
            return Err(Error::TooOld {
                command: COMMAND,
                major_min: INCREMENTAL_MAJOR,
                version: self.version,
            });
        }
        self.exchange(|client| {
            client.send_query(COMMAND)?;
            client.until(b'G', "the beginning of an upload")
        })?;
        let mut message = Vec::with_capacity(HEADER_BYTES + PIECE_BYTES);
        message.resize(HEADER_BYTES, 0);
        Ok(ManifestUpload {
            client: self,
            message,
            failure: None,
            state: State::Sending,
        })
    }

    /// Takes messages up to the one with this tag; an error of the server's is read to the end of its answer.
    fn until(&mut self, wanted: u8, waiting_for: &'static str) -> Result<(), Error> {
        let silence_max = self.exchange.silence_max;
        let mut failure: Option<ServerError> = None;
        loop {
            match self.advance(silence_max) {
                // It hangs up after a fatal error.
                Err(Error::Closed) if failure.is_some() => break,
                advanced => advanced?,
            }
            let frame = self.current()?;
            match frame.tag {
                b'E' => {
                    failure.get_or_insert_with(|| ServerError::from_body(frame.body));
                }
                b'Z' if failure.is_some() => break,
                _ if failure.is_some() => {}
                tag if tag == wanted => return Ok(()),
                // The result of the command, before the server is ready again.
                b'C' if wanted == b'Z' => {}
                tag => return Err(unexpected(tag, waiting_for)),
            }
        }
        Err(failure.map_or(Error::Closed, Error::from))
    }
}

impl ManifestUpload<'_> {
    /// Ends the upload; fails when the server refuses the manifest, and the session is good for more then.
    pub fn finish(mut self) -> Result<(), Error> {
        self.send();
        self.end(Client::send_copy_done)
    }

    /// Ends the upload without a manifest: the session is as before. `reason` goes to the server's log.
    pub fn give_up(mut self, reason: &str) -> Result<(), Error> {
        match self.end(|client| client.send_copy_fail(reason)) {
            Err(Error::Server(_)) => Ok(()),
            ended => ended,
        }
    }

    fn end(&mut self, send: impl FnOnce(&mut Client) -> Result<(), Error>) -> Result<(), Error> {
        self.state = State::Answered;
        let failure = self.failure.take();
        self.client.exchange(|client| {
            if let Some(error) = failure {
                return Err(error);
            }
            send(client)?;
            client.until(b'Z', "the end of an upload")
        })
    }

    fn send(&mut self) {
        let length = self.message.len() - 1;
        if self.failure.is_none() && length > HEADER_BYTES - 1 {
            self.message[0] = b'd';
            self.message[1..HEADER_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
            let sent = self.client.check_interrupt();
            let sent = sent.and_then(|()| self.client.send_bytes(&self.message));
            self.failure = sent.err();
        }
        self.message.truncate(HEADER_BYTES);
    }
}

impl Write for ManifestUpload<'_> {
    /// Takes as much as fits into a message. Once the connection has failed it takes nothing;
    /// [`finish`](ManifestUpload::finish) has the error then.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.message.len() == HEADER_BYTES + PIECE_BYTES {
            self.send();
        }
        if self.failure.is_some() {
            return Err(io::Error::other("the connection to the server failed"));
        }
        let taken = bytes
            .len()
            .min(HEADER_BYTES + PIECE_BYTES - self.message.len());
        self.message.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ManifestUpload<'_> {
    fn drop(&mut self) {
        if self.state == State::Sending {
            self.client.stream.close();
        }
    }
}
