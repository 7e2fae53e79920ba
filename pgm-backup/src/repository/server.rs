//! `server.ron`: who a server is, so that two servers never share a name by mistake.
//!
//! Written once, by whoever meets the server first; a server that later answers with another system identifier or
//! another segment size is refused.

use pgm_proto::{ServerName, ServerVersion, SystemId};
use pgm_storage::{PutMode, Storage};
use serde::{Deserialize, Serialize};

use super::layout;
use crate::error::{Error, Result};
use crate::record::{self, RECORD_BYTES_MAX};

const FORMAT: u32 = 1;

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its system identifier.
    pub system_id: SystemId,
    /// Its version.
    pub version: ServerVersion,
    /// Its WAL segment size in bytes.
    pub segment_bytes: u32,
}

/// What a repository knows of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Format version of the record.
    pub format: u32,
    /// The server.
    pub server: ServerName,
    /// Its system identifier.
    pub system_id: SystemId,
    /// Its version when it was first seen; the major version never changes for one system identifier.
    pub version: ServerVersion,
    /// Its WAL segment size in bytes.
    pub segment_bytes: u32,
    /// When it was first seen.
    pub registered: jiff::Timestamp,
}

pub(super) fn read(storage: &dyn Storage, server: &ServerName) -> Result<Option<ServerRecord>> {
    let path = layout::server(server);
    match storage.get(&path, RECORD_BYTES_MAX) {
        Ok(bytes) => record::decode(&path, &bytes, FORMAT).map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Error::reading(&path, error)),
    }
}

pub(super) fn register(
    storage: &dyn Storage,
    server: &ServerName,
    facts: &ServerFacts,
) -> Result<ServerRecord> {
    if let Some(known) = read(storage, server)? {
        return same(known, facts);
    }
    let new = ServerRecord {
        format: FORMAT,
        server: server.clone(),
        system_id: facts.system_id,
        version: facts.version,
        segment_bytes: facts.segment_bytes,
        registered: jiff::Timestamp::now(),
    };
    match storage.put(
        &layout::server(server),
        &record::encode(&new),
        PutMode::Create,
    ) {
        Ok(()) => Ok(new),
        // Somebody else met the server at the same time: then theirs counts.
        Err(error) if error.is_already_exists() => {
            let known = read(storage, server)?;
            known.map_or(Err(error.into()), |known| same(known, facts))
        }
        Err(error) => Err(error.into()),
    }
}

fn same(known: ServerRecord, facts: &ServerFacts) -> Result<ServerRecord> {
    if known.system_id != facts.system_id {
        return Err(Error::OtherSystem {
            server: known.server,
            known: known.system_id,
            found: facts.system_id,
        });
    }
    if known.segment_bytes != facts.segment_bytes {
        return Err(Error::OtherSegmentSize {
            server: known.server,
            known: known.segment_bytes,
            found: facts.segment_bytes,
        });
    }
    Ok(known)
}
