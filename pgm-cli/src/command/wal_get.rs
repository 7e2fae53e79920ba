//! `pgm-cli wal get`: PostgreSQL's `restore_command`. Works with and without a daemon.
//!
//! PostgreSQL takes an exit status of 1 to 125 as «there is no such file», ends recovery there and opens. So 1 is said
//! only when nothing lies behind the file either; damage, a gap and failing storage end with 128, which stops recovery.
//!
//! A restore writes down how far recovery must get (`--needed`). Before that position nothing is ever absent. Behind it
//! everything may be when recovery has its target before (`--stops-there`): PostgreSQL reads ahead, and a hole or damage
//! right behind the target must not keep it from stopping there. It never opens without having reached a target.
//!
//! With `--ahead` a call fetches the next segments too, for the calls that follow (`wal_get/ahead.rs`).

mod ahead;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use pgm_backup::Repository;
use pgm_proto::Lsn;
use pgm_wal::archive::{Archive, ArchiveError, Lookup, Origin};
use pgm_wal::{SegmentSize, Spool, WalFileName};
use pgmd::place::RepositoryPlace;

use self::ahead::Ahead;
use super::Cx;
use crate::arguments::WalGetArguments;
use crate::error::{CliError, Failure, chain};

/// «There is no such file.»
const ABSENT: u8 = 1;

pub(super) fn run(cx: &Cx, arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    get(cx, arguments).map_err(|error| error.with_failure(Failure::StopRecovery))
}

fn get(cx: &Cx, arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    let (places, spool) = places(cx, arguments)?;
    let mut ahead = Ahead::open(arguments, &places, spool.as_deref());
    if ahead.deliver() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((archive, name, size)) = from_one_of(&places, arguments) {
        if let WalFileName::Segment(name) = name {
            ahead.fill(&archive, None, name, size);
        }
        return Ok(ExitCode::SUCCESS);
    }
    // What is nowhere is judged by the first.
    let repository =
        pgmd::repository::open(&places[0]).map_err(|error| stop(&error, error.hint()))?;
    let archive = Archive::new(Arc::clone(repository.storage()), arguments.server.clone());
    let spool = match spool {
        Some(spool) => Spool::find(spool).map_err(|error| stop(&error, error.hint()))?,
        None => None,
    };
    let Some(size) = segment_size(&repository, &archive, spool.as_ref(), arguments)? else {
        return Err(CliError::new(
            Failure::StopRecovery,
            format!(
                "there is no WAL of `{}` in the repository",
                arguments.server
            ),
            Some("look at restore_command: server, --repository and --spool are in it".into()),
        ));
    };
    // What is no WAL file is asked for too, such as backup history files of earlier archives: there is none here.
    let Ok(name) = WalFileName::parse(&arguments.file, size) else {
        return Ok(ExitCode::from(ABSENT));
    };
    let mut found = archive.fetch(name, size, &arguments.path, spool.as_ref());
    // Perhaps the room was lacking that they took.
    if matches!(found, Err(ArchiveError::File { .. })) && ahead.make_room() {
        found = archive.fetch(name, size, &arguments.path, spool.as_ref());
    }
    match (&found, name) {
        (Ok(Lookup::Delivered(Origin::Archive | Origin::Spool)), WalFileName::Segment(name)) => {
            ahead.fill(&archive, spool.as_ref(), name, size);
        }
        (Ok(Lookup::Delivered(Origin::Archive | Origin::Spool)), _) => {}
        _ => ahead.end(),
    }
    let found = found.map_err(|error| stop(&error, error.hint()));
    if let (WalFileName::History(timeline), Err(_) | Ok(Lookup::Absent)) = (name, &found)
        && arguments.needed.is_some()
        && archive
            .has_wal(timeline, size, spool.as_ref())
            .map_err(|error| stop(&error, error.hint()))?
    {
        return stand_in(arguments);
    }
    match need(arguments, name, size) {
        Need::No => Ok(ExitCode::from(match found {
            Ok(Lookup::Delivered(_)) => 0,
            _ => ABSENT,
        })),
        Need::UpTo(end) => delivered_to(found?, end, arguments),
        Need::Unknown => delivered(found?, || Ok(ExitCode::from(ABSENT))),
    }
}

/// Delivers a history without entries for one that is lost or damaged.
///
/// The plan did without it, so PostgreSQL only wants to know which numbers are taken; if it learned that this one is free,
/// the restored server would write its own WAL under the names of that which is there.
fn stand_in(arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    let text = format!(
        "# pgm: {} is lost or damaged; this stands in for it, so that the timeline's number is not used again\n",
        arguments.file
    );
    eprint!("{}", text.trim_start_matches("# "));
    std::fs::write(&arguments.path, text).map_err(|error| {
        CliError::new(
            Failure::StopRecovery,
            format!("cannot write {}: {error}", arguments.path.display()),
            None,
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether recovery needs a file.
enum Need {
    /// It stops before it.
    No,
    /// Up to this position.
    UpTo(Lsn),
    /// If it is there.
    Unknown,
}

fn need(arguments: &WalGetArguments, name: WalFileName, size: SegmentSize) -> Need {
    let (Some(needed), WalFileName::Segment(segment)) = (arguments.needed, name) else {
        return Need::Unknown;
    };
    let start = segment.start(size);
    if start >= needed && arguments.stops_there {
        Need::No
    } else if start < needed && arguments.timeline == Some(segment.timeline) {
        Need::UpTo(needed)
    } else {
        Need::Unknown
    }
}

/// The answer for a segment that was there, up to `end` at least, when the restore was planned.
fn delivered_to(
    found: Lookup,
    end: Lsn,
    arguments: &WalGetArguments,
) -> Result<ExitCode, CliError> {
    let gone = |what: String| {
        CliError::new(
            Failure::StopRecovery,
            format!("{what}, but recovery needs the wal up to {end}: it was there when the restore was planned"),
            Some("find out what happened to the repository and the spool, or restore again to what is left".into()),
        )
    };
    if let Lookup::Delivered(Origin::Partial(reached)) = found
        && reached < end
    {
        // A shorter segment would end recovery like an absent one.
        let _ = std::fs::remove_file(&arguments.path);
        return Err(gone(format!(
            "wal segment {} ends at {reached}",
            arguments.file
        )));
    }
    delivered(found, || {
        Err(gone(format!("wal segment {} is absent", arguments.file)))
    })
}

fn delivered(
    found: Lookup,
    absent: impl FnOnce() -> Result<ExitCode, CliError>,
) -> Result<ExitCode, CliError> {
    match found {
        Lookup::Delivered(_) => Ok(ExitCode::SUCCESS),
        Lookup::Absent => absent(),
        Lookup::Gap { missing, next_present } => Err(CliError::new(
            Failure::StopRecovery,
            format!("wal segment {missing} is missing from the archive, and {next_present} is there: recovery must not end here"),
            Some("look for the segment in pg_wal of the server or its standbys, or restore with --target-lsn below it".into()),
        )),
    }
}

/// Delivers a whole file from whichever of several repositories has it.
fn from_one_of(
    places: &[RepositoryPlace],
    arguments: &WalGetArguments,
) -> Option<(Archive, WalFileName, SegmentSize)> {
    if places.len() < 2 {
        return None;
    }
    places.iter().find_map(|place| {
        let repository = pgmd::repository::open(place).ok()?;
        let archive = Archive::new(Arc::clone(repository.storage()), arguments.server.clone());
        let size = archive.segment_size().ok()??;
        let name = WalFileName::parse(&arguments.file, size).ok()?;
        let found = archive.fetch(name, size, &arguments.path, None).ok()?;
        matches!(found, Lookup::Delivered(Origin::Archive)).then_some((archive, name, size))
    })
}

fn places(
    cx: &Cx,
    arguments: &WalGetArguments,
) -> Result<(Vec<RepositoryPlace>, Option<PathBuf>), CliError> {
    let at = cx.at()?;
    let named = arguments.spool.clone();
    let spool = named.or_else(|| at.spool_of(&arguments.server));
    Ok((at.places(), spool))
}

/// The server's segment size, from whichever place knows it.
fn segment_size(
    repository: &Repository,
    archive: &Archive,
    spool: Option<&Spool>,
    arguments: &WalGetArguments,
) -> Result<Option<SegmentSize>, CliError> {
    let record = repository
        .server(&arguments.server)
        .map_err(|error| stop(&error, error.hint()))?;
    if let Some(size) =
        record.and_then(|record| SegmentSize::new(u64::from(record.segment_bytes)).ok())
    {
        return Ok(Some(size));
    }
    if let Some(spool) = spool
        && let Some(size) = spool
            .segment_size()
            .map_err(|error| stop(&error, error.hint()))?
    {
        return Ok(Some(size));
    }
    archive
        .segment_size()
        .map_err(|error| stop(&error, error.hint()))
}

fn stop(error: &dyn std::error::Error, hint: Option<String>) -> CliError {
    CliError::new(Failure::StopRecovery, chain(error), hint)
}
