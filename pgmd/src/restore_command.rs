//! The `restore_command` of restored servers.
//!
//! It names program, repositories and spool outright, so that a restored server recovers without pgmd and without its
//! configuration: the repository of the plan first, and behind it the others that the restore knew, for what it does not
//! give. Of credentials and keys it names the file that holds them, never themselves. It also says how far recovery must
//! get: WAL that was there when the restore was planned and is absent now is never taken for the end of the archive.

use std::path::{Path, PathBuf};

use pgm_backup::restore::{RestorePlan, Target};
use pgm_proto::{Lsn, ServerName, TimelineId};

use crate::place::RepositoryPlace;

/// How many segments one call fetches ahead.
const AHEAD: u8 = 8;
/// What `--or` has for a repository without credentials or without a key.
const NONE: &str = "-";
/// The name of the command line's program.
const PROGRAM: &str = "pgm-cli";

/// How far recovery must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// Where it ends: WAL before it must be delivered.
    pub lsn: Lsn,
    /// The timeline that this position is on.
    pub timeline: TimelineId,
    /// Whether recovery goes on from there.
    pub then: Then,
}

/// What recovery does when it has read all WAL that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It takes whatever else the archive has.
    GoesOn,
    /// It stops at its target: what lies behind does not matter.
    Stops,
}

impl Needed {
    /// How far the server that `plan` makes must get.
    pub fn of(plan: &RestorePlan) -> Self {
        Self {
            lsn: plan.needed,
            timeline: plan.history.timeline_at(plan.needed),
            then: match plan.stop.target {
                Target::Latest => Then::GoesOn,
                _ => Then::Stops,
            },
        }
    }
}

/// A `restore_command` that runs `program`.
pub fn restore_command(
    program: &Path,
    place: &RepositoryPlace,
    others: &[RepositoryPlace],
    spool: Option<&Path>,
    server: &ServerName,
    needed: Needed,
) -> String {
    let Needed { lsn, timeline, .. } = needed;
    let stops = match needed.then {
        Then::GoesOn => "",
        Then::Stops => " --stops-there",
    };
    let option = |name: &str, path: Option<&Path>| {
        path.map_or_else(String::new, |path| format!(" --{name} {}", quoted(path)))
    };
    let key_of = |place: &RepositoryPlace| Some(place.key.as_ref()?.source().to_string());
    let key = key_of(place);
    let others = others.iter().fold(String::new(), |text, other| {
        let none = || NONE.to_owned();
        let credentials = other.credentials.as_deref().map_or_else(none, quoted);
        let key = key_of(other).map_or_else(none, |key| quoted(Path::new(&key)));
        let address = other.to_string();
        text + " --or " + &quoted(Path::new(&address)) + " " + &credentials + " " + &key
    });
    format!(
        "{} wal get --repository {}{}{}{others}{} --ahead {AHEAD} --needed {lsn} --timeline {timeline}{stops} {server} %f \"%p\"",
        quoted(program),
        quoted(Path::new(&place.to_string())),
        option("credentials", place.credentials.as_deref()),
        option("master-key", key.as_deref().map(Path::new)),
        option("spool", spool),
    )
}

/// The `pgm-cli` beside the program that runs, else the one that `PATH` finds.
pub fn program_beside() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .map(|program| program.with_file_name(PROGRAM));
    beside
        .filter(|program| program.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}

/// A path as one word for the shell, safe from PostgreSQL's placeholders.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_each_whatever_is_in_them() {
        let command = restore_command(
            Path::new("/usr/bin/pgm-cli"),
            &RepositoryPlace::local("/srv/50% of it's"),
            &[],
            Some(Path::new("/spool/prod")),
            &"prod".parse().unwrap(),
            Needed {
                lsn: Lsn::new(0x0300_0028),
                timeline: TimelineId::FIRST,
                then: Then::Stops,
            },
        );
        assert_eq!(
            command,
            "/usr/bin/pgm-cli wal get --repository '/srv/50%% of it'\\''s' --spool /spool/prod --ahead 8 --needed 0/3000028 \
             --timeline 1 --stops-there prod %f \"%p\""
        );
    }

    #[test]
    fn all_repositories_are_named_with_what_opens_them() {
        let far = RepositoryPlace {
            name: pgm_proto::RepositoryName::default(),
            address: "s3://bucket/a?region=x&sse=AES256".parse().unwrap(),
            credentials: Some("/etc/pgm/s3".into()),
            key: Some(crate::seal_key::PlaceKey::new(
                "env:PGM_KEY".parse().unwrap(),
            )),
        };
        let command = restore_command(
            Path::new("pgm-cli"),
            &far,
            &[far.clone(), RepositoryPlace::local("/srv/my pgm")],
            None,
            &"prod".parse().unwrap(),
            Needed {
                lsn: Lsn::new(0x0300_0028),
                timeline: TimelineId::FIRST,
                then: Then::GoesOn,
            },
        );
        assert_eq!(
            command,
            "pgm-cli wal get --repository 's3://bucket/a?region=x&sse=AES256' --credentials /etc/pgm/s3 \
             --master-key env:PGM_KEY --or 's3://bucket/a?region=x&sse=AES256' /etc/pgm/s3 env:PGM_KEY --or '/srv/my pgm' - - --ahead 8 --needed 0/3000028 --timeline 1 prod %f \"%p\""
        );
    }
}
