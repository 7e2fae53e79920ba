//! The answer to BASE_BACKUP, message by message; no I/O here.
//!
//! ```text
//! result set   start position and timeline
//! result set   tablespaces, the main data directory last
//!   14:   for each of them, in that order: CopyOutResponse, CopyData*, CopyDone
//!         then the manifest in the same way
//!   15+:  one CopyOutResponse, then CopyData that begin with a letter:
//!         n  name of an archive, path of the tablespace     m  the manifest begins
//!         d  bytes of what began last                       p  progress
//!         CopyDone
//! result set   end position and timeline
//! error        perhaps: wrong page checksums
//! ReadyForQuery
//! ```
//!
//! Result sets and the command each end with CommandComplete, so nothing depends on that one. A name from the server is
//! never a path: it must be that of a tablespace in the list, and each comes at most once. The end is accepted only
//! after everything in the list has come.

use super::{CompressionMethod, Tablespace};
use crate::client::replication::PARENTHESES_MAJOR;
use crate::message::{Body, fields, unexpected};
use crate::{Error, Lsn, ServerError, ServerVersion, TimelineId};

/// More tablespaces than any server has.
const TABLESPACES_MAX: usize = 10_000;

/// A position with its timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) lsn: Lsn,
    pub(super) timeline: TimelineId,
}

/// What a message means. Bytes are given as the number of bytes before them in the message's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Skip,
    Archive(Option<u32>),
    Data {
        skip: usize,
    },
    Manifest,
    ManifestData {
        skip: usize,
    },
    End {
        position: Position,
        failure: Option<ServerError>,
    },
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Start,
    Tablespaces,
    /// The tablespaces have all come, except that the set's end may still.
    Copy,
    /// 14: bytes of an archive.
    Archive,
    /// 14: bytes of the manifest.
    Manifest,
    /// 15+: messages that begin with a letter.
    Messages(Current),
    End,
    Ready,
    Nothing,
}

/// 15+: what the bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    Nothing,
    Archive,
    Manifest,
}

/// How the server sends the archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    CopyPerArchive,
    OneCopy,
}

/// The state of an answer.
#[derive(Debug)]
pub(super) struct BackupStream {
    form: Form,
    /// What the names of archives end with.
    suffix: &'static str,
    expect: Expect,
    start: Position,
    tablespaces: Vec<Tablespace>,
    /// Which of `tablespaces` have begun.
    seen: Vec<bool>,
    manifest_seen: bool,
    end: Option<Position>,
    failure: Option<ServerError>,
}

impl BackupStream {
    pub(super) fn new(version: ServerVersion, compression: CompressionMethod) -> Self {
        let form = if version.major() < PARENTHESES_MAJOR {
            Form::CopyPerArchive
        } else {
            Form::OneCopy
        };
        Self {
            form,
            suffix: compression.suffix(),
            expect: Expect::Start,
            start: Position {
                lsn: Lsn::INVALID,
                timeline: TimelineId::FIRST,
            },
            tablespaces: Vec::new(),
            seen: Vec::new(),
            manifest_seen: false,
            end: None,
            failure: None,
        }
    }

    /// Whether start and tablespaces are known.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.expect, Expect::Start | Expect::Tablespaces)
    }

    /// Whether the server has finished its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.expect == Expect::Nothing
    }

    pub(super) fn start(&self) -> Position {
        self.start
    }

    pub(super) fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    /// The server has hung up, as it does after a fatal error.
    pub(super) fn closed(&mut self) -> Result<Step, Error> {
        if self.failure.is_some() {
            self.ready()
        } else {
            Err(Error::Closed)
        }
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, tag: u8, body: &[u8]) -> Result<Step, Error> {
        match (tag, self.expect) {
            (b'E', _) => {
                self.failure
                    .get_or_insert_with(|| ServerError::from_body(body));
                return Ok(Step::Skip);
            }
            (b'Z', _) => return self.ready(),
            // Between an error and the end of the answer nothing matters.
            _ if self.failure.is_some() => return Ok(Step::Skip),
            _ => {}
        }
        match (tag, self.expect) {
            (b'd', Expect::Archive) => Ok(data(body, 0)),
            (b'd', Expect::Manifest) => Ok(manifest_data(body, 0)),
            (b'd', Expect::Messages(current)) => self.message(current, body),
            (b'H', Expect::Copy) => self.copy_begins(),
            (b'c', Expect::Archive) => {
                self.expect = Expect::Copy;
                Ok(Step::Skip)
            }
            (b'c', Expect::Manifest | Expect::Messages(_)) => {
                self.all_came()?;
                self.expect = Expect::End;
                Ok(Step::Skip)
            }
            (b'T' | b'D' | b'C', _) => self.result(tag, body),
            _ => Err(unexpected(tag, self.waiting_for())),
        }
    }

    fn result(&mut self, tag: u8, body: &[u8]) -> Result<Step, Error> {
        match (tag, self.expect) {
            (b'T', Expect::Start | Expect::Tablespaces | Expect::End)
            | (b'C', Expect::Start | Expect::End | Expect::Ready) => {}
            (b'D', Expect::Start) => {
                self.start = position(body)?;
                self.expect = Expect::Tablespaces;
            }
            (b'D', Expect::Tablespaces) => self.add_tablespace(tablespace(body)?)?,
            // The end of the first result set, or of the second.
            (b'C', Expect::Tablespaces) if self.tablespaces.is_empty() => {}
            (b'C', Expect::Tablespaces) => {
                self.seen = vec![false; self.tablespaces.len()];
                self.expect = Expect::Copy;
            }
            (b'D', Expect::End) => {
                self.end = Some(position(body)?);
                self.expect = Expect::Ready;
            }
            _ => return Err(unexpected(tag, self.waiting_for())),
        }
        Ok(Step::Skip)
    }

    fn add_tablespace(&mut self, tablespace: Tablespace) -> Result<(), Error> {
        let known = |other: &Tablespace| other.oid == tablespace.oid;
        if self.tablespaces.len() >= TABLESPACES_MAX || self.tablespaces.iter().any(known) {
            return Err(Error::Protocol(
                "the list of tablespaces is not plausible".into(),
            ));
        }
        self.tablespaces.push(tablespace);
        Ok(())
    }

    fn copy_begins(&mut self) -> Result<Step, Error> {
        if self.form == Form::OneCopy {
            self.expect = Expect::Messages(Current::Nothing);
            return Ok(Step::Skip);
        }
        let Some(index) = self.seen.iter().position(|seen| !seen) else {
            self.manifest_seen = true;
            self.expect = Expect::Manifest;
            return Ok(Step::Manifest);
        };
        self.expect = Expect::Archive;
        self.archive_begins(index)
    }

    fn message(&mut self, current: Current, body: &[u8]) -> Result<Step, Error> {
        let mut message = Body::new(body, "CopyData");
        match (message.u8()?, current) {
            (b'd', Current::Archive) => Ok(data(body, 1)),
            (b'd', Current::Manifest) => Ok(manifest_data(body, 1)),
            (b'p', _) => Ok(Step::Skip),
            (b'n', Current::Nothing | Current::Archive) => {
                let name = message.text()?;
                self.expect = Expect::Messages(Current::Archive);
                self.archive_begins(self.archive_index(name)?)
            }
            (b'm', Current::Nothing | Current::Archive) => {
                self.manifest_seen = true;
                self.expect = Expect::Messages(Current::Manifest);
                Ok(Step::Manifest)
            }
            (kind, _) => Err(unexpected(kind, "the next part of a base backup")),
        }
    }

    fn archive_begins(&mut self, index: usize) -> Result<Step, Error> {
        if std::mem::replace(&mut self.seen[index], true) {
            return Err(Error::Protocol(
                "an archive of the base backup comes twice".into(),
            ));
        }
        Ok(Step::Archive(self.tablespaces[index].oid))
    }

    /// Which tablespace `base.tar` or `16385.tar.zst` is.
    fn archive_index(&self, name: &[u8]) -> Result<usize, Error> {
        let suffix = self.suffix;
        let named = |tablespace: &Tablespace| match tablespace.oid {
            None => name == format!("base.tar{suffix}").as_bytes(),
            Some(oid) => name == format!("{oid}.tar{suffix}").as_bytes(),
        };
        self.tablespaces.iter().position(named).ok_or_else(|| {
            let name = name.escape_ascii();
            Error::Protocol(format!(
                "archive `{name}` belongs to no tablespace of the base backup"
            ))
        })
    }

    fn all_came(&self) -> Result<(), Error> {
        if self.manifest_seen && self.seen.iter().all(|seen| *seen) {
            return Ok(());
        }
        Err(Error::Protocol(
            "the base backup ended before all its archives came".into(),
        ))
    }

    fn ready(&mut self) -> Result<Step, Error> {
        self.expect = Expect::Nothing;
        match (self.end, self.failure.take()) {
            (Some(position), failure) => Ok(Step::End { position, failure }),
            (None, Some(failure)) => Err(failure.into()),
            (None, None) => Err(Error::Protocol(
                "the base backup ended without a position".into(),
            )),
        }
    }

    fn waiting_for(&self) -> &'static str {
        match self.expect {
            Expect::Start => "the start of a base backup",
            Expect::Tablespaces => "the list of tablespaces",
            Expect::Copy | Expect::Messages(Current::Nothing) => "an archive of a base backup",
            Expect::Archive | Expect::Messages(Current::Archive) => "bytes of an archive",
            Expect::Manifest | Expect::Messages(Current::Manifest) => "bytes of the manifest",
            Expect::End => "the end position of a base backup",
            Expect::Ready | Expect::Nothing => "the end of the command",
        }
    }
}

fn data(body: &[u8], skip: usize) -> Step {
    if body.len() > skip {
        Step::Data { skip }
    } else {
        Step::Skip
    }
}

fn manifest_data(body: &[u8], skip: usize) -> Step {
    if body.len() > skip {
        Step::ManifestData { skip }
    } else {
        Step::Skip
    }
}

fn position(body: &[u8]) -> Result<Position, Error> {
    let row = fields(body)?;
    let [Some(lsn), Some(timeline)] = row[..] else {
        return Err(malformed("position"));
    };
    Ok(Position {
        lsn: parsed(lsn).ok_or_else(|| malformed("position"))?,
        timeline: parsed(timeline).ok_or_else(|| malformed("position"))?,
    })
}

fn tablespace(body: &[u8]) -> Result<Tablespace, Error> {
    let row = fields(body)?;
    let [oid, location, size] = row[..] else {
        return Err(malformed("tablespace"));
    };
    let number = |field: Option<&[u8]>| {
        field
            .map(|text| parsed(text).ok_or_else(|| malformed("tablespace")))
            .transpose()
    };
    let oid = number(oid)?
        .map(u32::try_from)
        .transpose()
        .map_err(|_| malformed("tablespace"))?;
    Ok(Tablespace {
        oid,
        location: location.map(|text| String::from_utf8_lossy(text).into_owned()),
        size_kib: number(size)?,
    })
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn malformed(what: &str) -> Error {
    Error::Protocol(format!(
        "a {what} in the answer to BASE_BACKUP is malformed"
    ))
}

#[cfg(test)]
mod tests;
