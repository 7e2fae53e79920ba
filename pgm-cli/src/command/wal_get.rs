//! `pgm-cli wal get`: PostgreSQL's `restore_command`. Works with and without a daemon.
//!
//! PostgreSQL takes an exit status of 1 to 125 as «there is no such file», ends recovery there and opens. So 1 is said
//! only when nothing lies behind the file either; damage, a gap and failing storage end with 128, which stops recovery.
//!
//! A restore writes down how far recovery must get (`--needed`). Before that position nothing is ever absent. Behind it
//! everything may be when recovery has its target before (`--stops-there`): PostgreSQL reads ahead, and a hole or damage
//! right behind the target must not keep it from stopping there. It never opens without having reached a target.
//!
//! With `--ahead` the next segments are fetched while PostgreSQL replays, for the calls that follow (`wal_get/ahead.rs`). With
//! `--or` there are several repositories to ask (`wal_get/places.rs`).

mod ahead;
mod places;
mod reader;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pgm_proto::Lsn;
use pgm_storage::StoreAddress;
use pgm_wal::archive::{Lookup, Origin};
use pgm_wal::{SegmentSize, Spool, WalFileName};
use pgmd::config::MasterKeySource;
use pgmd::place::RepositoryPlace;

use self::ahead::Ahead;
use self::places::{Places, Trouble, Wanted, is_whole};
use super::{Cx, place_at};
use crate::arguments::WalGetArguments;
use crate::error::{CliError, Failure, chain};

/// «There is no such file.»
const ABSENT: u8 = 1;
/// The word of `--or` for what a repository does not have.
const NONE: &str = "-";

pub(super) fn run(cx: &Cx, arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    get(cx, arguments).map_err(|error| error.with_failure(Failure::StopRecovery))
}

fn get(cx: &Cx, arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    let (places, spool) = places(cx, arguments)?;
    let source = ahead::source(arguments, &places, spool.as_ref());
    let open_spool = || {
        let found = spool.as_ref().map_or(Ok(None), Spool::find);
        found.map_err(|error| stop(&error, error.hint()))
    };
    let places = Places::new(places, arguments.server.clone());
    if reader::is_one() {
        return Ok(reader::run(arguments, places, open_spool()?, &source));
    }
    let mut ahead = Ahead::open(arguments, source);
    if ahead.deliver() {
        return Ok(ExitCode::SUCCESS);
    }
    let spool = open_spool()?;
    let Some(size) = places.segment_size(spool.as_ref())? else {
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
    let wanted = Wanted {
        size,
        destination: &arguments.path,
        spool: spool.as_ref(),
    };
    let mut found = places.fetch(name, wanted);
    // Perhaps the room was lacking that they took.
    if matches!(found, Err(Trouble::Destination(_))) && ahead.make_room() {
        found = places.fetch(name, wanted);
    }
    match (&found, name) {
        (Ok((found, at)), WalFileName::Segment(name)) if is_whole(found) => {
            ahead.follow(places.archive(*at), spool.as_ref(), name, size);
        }
        (Ok((found, _)), _) if is_whole(found) => {}
        _ => ahead.end(),
    }
    let found = match found {
        Ok((found, _)) => Ok(found),
        Err(Trouble::Destination(error)) => Err(stop(&error, error.hint())),
        Err(Trouble::Unknown(error)) => Err(error),
    };
    if let (WalFileName::History(timeline), Err(_) | Ok(Lookup::Absent)) = (name, &found)
        && arguments.needed.is_some()
        && places.have_wal(timeline, size, spool.as_ref())?
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

fn places(
    cx: &Cx,
    arguments: &WalGetArguments,
) -> Result<(Vec<RepositoryPlace>, Option<PathBuf>), CliError> {
    let at = cx.at()?;
    let named = arguments.spool.clone();
    let spool = named.or_else(|| at.spool_of(&arguments.server));
    let mut places = at.places();
    if !arguments.others.is_empty() && at.config.is_some() {
        let text = "--or names further repositories beside that of --repository";
        let hint = "without --repository all that are configured are asked";
        return Err(CliError::new(Failure::Usage, text, Some(hint.into())));
    }
    for words in arguments.others.chunks(3) {
        if let [address, credentials, key] = words {
            places.push(other_place(address, credentials, key)?);
        }
    }
    Ok((places, spool))
}

/// One that `--or` names.
fn other_place(address: &str, credentials: &str, key: &str) -> Result<RepositoryPlace, CliError> {
    let wrong = |error: &dyn std::fmt::Display| {
        CliError::new(Failure::Usage, format!("--or: {error}"), None)
    };
    let address: StoreAddress = address.parse().map_err(|error| wrong(&error))?;
    let credentials = (credentials != NONE).then(|| Path::new(credentials));
    let key: Option<MasterKeySource> = match key {
        NONE => None,
        key => Some(key.parse().map_err(|error| wrong(&error))?),
    };
    place_at(&address, credentials, key.as_ref())
}

fn stop(error: &dyn std::error::Error, hint: Option<String>) -> CliError {
    CliError::new(Failure::StopRecovery, chain(error), hint)
}
