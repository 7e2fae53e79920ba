//! What happens when the server has removed WAL that we still needed.
//!
//! It cannot be had any more, but what comes after it must be protected from now on: the spool is archived and emptied,
//! so that receiving begins at the oldest position that the server still keeps for us. The hole is told loudly, shows in
//! the archive's index, and no restore crosses it.

use pgm_mgmt::Gap;
use pgm_proto::{Client, Error, Lsn, Session, TimelineId};
use pgm_wal::{Spool, SpoolError, WalFileName};
use tracing::{error, info, warn};

use super::archive;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::repository::chain;

/// SQLSTATE `object_not_in_prerequisite_state`: how a server says that a slot was invalidated.
const NOT_IN_PREREQUISITE_STATE: &str = "55000";

/// Whether the server refuses the slot because it gave up its WAL.
pub(super) fn is_lost_slot(error: &Error) -> bool {
    error.sqlstate() == Some(NOT_IN_PREREQUISITE_STATE)
}

/// Tells that WAL is missing for good.
pub(super) fn tell(link: &Link, before: TimelineId, from: Lsn, timeline: TimelineId, to: Lsn) {
    error!(
        "wal is missing from {from} (timeline {before}) to {to} (timeline {timeline}): the server had removed it; \
         HINT: take a new full backup, no restore can cross the hole"
    );
    link.tell(WorkerEvent::NewGap(Gap { timeline, from, to }));
}

/// Empties the spool of what is archived, so that receiving can begin behind the hole. `None` when something in it is not
/// archived yet: nothing is given up.
pub(super) fn clear_spool(
    link: &Link,
    description: &Description,
    timeline: TimelineId,
    lsn: Lsn,
) -> Option<(TimelineId, Lsn)> {
    let text = format!("the server has removed the wal from {lsn} on timeline {timeline}");
    let hint = "a new full backup is needed; streaming goes on behind the hole";
    error!("{text}; HINT: {hint}");
    link.tell(WorkerEvent::Problem {
        text,
        hint: Some(hint.to_owned()),
    });
    match try_clear(description, timeline, lsn) {
        Ok(from) => from.map(|from| (timeline, from)),
        Err(error) => {
            error!("the spool cannot be emptied: {error}");
            None
        }
    }
}

/// Gives the first missing byte.
fn try_clear(
    description: &Description,
    timeline: TimelineId,
    lsn: Lsn,
) -> Result<Option<Lsn>, String> {
    let spool = Spool::open(&description.spool).map_err(|error| chain(&error))?;
    let Some(size) = spool.segment_size().map_err(|error| chain(&error))? else {
        return Ok(Some(lsn));
    };
    let listing = spool.list().map_err(|error| chain(&error))?;
    let mut newest = lsn;
    for target in &description.repositories {
        let archive = archive::open(description, target).map_err(|error| chain(&error))?;
        let index = archive.index(size, None).map_err(|error| chain(&error))?;
        if let Some(name) = listing.segments.iter().find(|name| !index.contains(**name)) {
            let file = name.file_name(size);
            warn!("{file} is not archived in {} yet", target.place.name);
            return Ok(None);
        }
        newest = index
            .newest_end(timeline)
            .map_or(newest, |end| end.max(newest));
    }
    // The round that has just ended archived what is valid of the unfinished segments.
    let files = listing.segments.iter().copied().map(WalFileName::Segment);
    for file in files.chain(listing.partials.iter().copied().map(WalFileName::Partial)) {
        spool
            .remove(file)
            .map_err(|error: SpoolError| chain(&error))?;
    }
    set_aside(&spool).map_err(|error| error.to_string())?;
    Ok(Some(newest))
}

/// Files that a failed sync left behind would still count as the place to go on.
fn set_aside(spool: &Spool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(spool.folder())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name
            .to_str()
            .filter(|name| name.contains(".partial.failed-"))
        else {
            continue;
        };
        std::fs::rename(
            entry.path(),
            spool.folder().join(format!("set-aside-{name}")),
        )?;
    }
    Ok(())
}

/// Makes a slot anew that the server has invalidated, if the configuration lets us make slots.
pub(super) fn renew_slot(link: &Link, description: &Description) {
    let Task::Receive {
        connection,
        slot,
        create_slot,
    } = &description.task
    else {
        return;
    };
    let by_hand = || {
        format!(
            "drop it: SELECT pg_drop_replication_slot('{slot}'); pgmd makes it anew when create_slot is true"
        )
    };
    let renewed = (|| -> Result<bool, String> {
        let conninfo = connection.conninfo().map_err(|error| chain(&error))?;
        let mut client = Client::connect(&conninfo, Session::Sql).map_err(|error| chain(&error))?;
        let status = client.query(&format!(
            "SELECT wal_status FROM pg_catalog.pg_replication_slots \
             WHERE slot_name = '{slot}' AND slot_type = 'physical' AND NOT active"
        ));
        let status = status.map_err(|error| chain(&error))?;
        let row = status.first().and_then(|result| result.rows.first());
        if row
            .and_then(|row| row.first().cloned().flatten())
            .as_deref()
            != Some("lost")
        {
            return Ok(false);
        }
        if !create_slot {
            return Ok(false);
        }
        let mut client = Client::connect(&conninfo, Session::PhysicalReplication)
            .map_err(|error| chain(&error))?;
        client.drop_slot(slot).map_err(|error| chain(&error))?;
        Ok(true)
    })();
    match renewed {
        Ok(true) => return info!("the replication slot {slot} was lost and is made anew"),
        Ok(false) => {}
        Err(error) => error!("the replication slot {slot} cannot be looked at: {error}"),
    }
    link.tell(WorkerEvent::Problem {
        text: format!("the server does not stream from the replication slot {slot}"),
        hint: Some(by_hand()),
    });
    link.pause(std::time::Duration::from_secs(5));
}
