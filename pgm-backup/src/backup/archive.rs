//! An archive that the server has compressed, into the bytes that it is made of.
//!
//! The bytes come in messages, and the decoder asks for them; memory is one message, one piece of 256 KiB and the decoder's window,
//! at most 8 MiB. Decoding costs the feeder's thread about a second for a GB: the network is what is saved here.

use std::io::{self, BufRead, Read};

use pgm_proto::BaseBackupEvent;
use pgm_storage::{FileFormat, StreamDecoder};

use super::copy::Source;
use super::feed::Feeder;
use crate::context::Context;
use crate::error::{Error, Result};

/// So much is decoded at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Reads the archive that has begun to its end; gives the event that follows it.
pub(super) fn read_compressed(
    cx: &Context,
    source: &mut impl Source,
    format: FileFormat,
    feeder: &mut Feeder<'_>,
) -> Result<BaseBackupEvent<'static>> {
    let mut stored = Stored {
        source,
        message: Vec::new(),
        taken: 0,
        next: None,
        failure: None,
    };
    if let Err(error) = decode(cx, &mut stored, format, feeder) {
        // What the decoder says of a connection that broke is not what matters.
        return Err(stored.failure.map_or(error, Error::from));
    }
    stored.next.ok_or_else(|| Error::BadStream {
        reason: "there is more behind the end of a compressed archive".into(),
    })
}

fn decode<S: Source>(
    cx: &Context,
    stored: &mut Stored<'_, S>,
    format: FileFormat,
    feeder: &mut Feeder<'_>,
) -> Result<()> {
    let bad = |error: io::Error| Error::BadStream {
        reason: format!(
            "an archive that should be {} is not: {error}",
            format.suffix()
        ),
    };
    let mut decoder = StreamDecoder::bounded(stored, format).map_err(bad)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        cx.check_cancel()?;
        match decoder.read(&mut piece).map_err(bad)? {
            0 => return Ok(()),
            read => feeder.data(&piece[..read])?,
        }
    }
}

/// The bytes of one archive as they come.
struct Stored<'a, S> {
    source: &'a mut S,
    message: Vec<u8>,
    taken: usize,
    /// What came behind the archive.
    next: Option<BaseBackupEvent<'static>>,
    failure: Option<pgm_proto::Error>,
}

impl<S: Source> BufRead for Stored<'_, S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.message.len() && self.next.is_none() {
            self.message.clear();
            self.taken = 0;
            match self.source.next() {
                Ok(BaseBackupEvent::Data(bytes)) => self.message.extend_from_slice(bytes),
                // Comes after `Manifest` only.
                Ok(BaseBackupEvent::ManifestData(_)) => {
                    return Err(io::Error::other("it goes over into the manifest"));
                }
                Ok(BaseBackupEvent::Archive { tablespace }) => {
                    self.next = Some(BaseBackupEvent::Archive { tablespace });
                }
                Ok(BaseBackupEvent::Manifest) => self.next = Some(BaseBackupEvent::Manifest),
                Ok(BaseBackupEvent::End(end)) => self.next = Some(BaseBackupEvent::End(end)),
                Err(error) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("the connection broke"));
                }
            }
        }
        Ok(&self.message[self.taken..])
    }

    fn consume(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.message.len());
    }
}

impl<S: Source> Read for Stored<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut there = self.fill_buf()?;
        let read = there.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}
