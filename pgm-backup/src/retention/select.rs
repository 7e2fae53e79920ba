//! Which backups stay and which go: a calculation without I/O and without a clock.
//!
//! Time is counted back from the newest thing that is known of the server (its newest backup, its newest archived
//! WAL), never from the clock on the wall: a clock that jumps ahead, or a server that was switched off a year ago,
//! expires nothing. Periods are counted by the backups in them: seven days are the newest seven days *that have a backup*.
//!
//! Three things no rule can do: remove the newest sound backup, remove one that a person retained, or remove one that is
//! damaged or cannot be read. A damaged backup never stands for a period either: the next sound one does.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::{Date, ISOWeekDate};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::policy::RetentionPolicy;
use crate::label::BackupLabel;

/// What the rules look at in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, and so when it began.
    pub label: BackupLabel,
    /// The earliest moment that can be restored from it.
    pub consistent: Timestamp,
    /// Whether it can be restored from.
    pub standing: Standing,
    /// Whether a person wants it kept.
    pub mark: Mark,
}

/// Whether a backup can be restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As far as is known.
    Sound,
    /// No: its entry cannot be read, or it failed a verification.
    Damaged,
}

/// Whether a person wants a backup kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The rules decide.
    None,
    /// It stays.
    Retained,
}

/// What becomes of one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The backup.
    pub label: BackupLabel,
    /// Why it stays, most telling first. Empty: it goes.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether the backup stays.
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Why a backup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A person said so.
    Retained,
    /// It is damaged, and removing that is for a person to decide.
    Damaged,
    /// There is no rule that would let anything go.
    NoRule,
    /// It is the newest one that can be restored from.
    Newest,
    /// It is among the newest: the so-manieth of so many.
    Last {
        /// Counted from the newest, from 1.
        place: u32,
        /// How many the rule keeps.
        of: u32,
    },
    /// A restore to any moment since it must be possible.
    Window,
    /// The window begins after it: its first moments can be restored from this backup alone.
    WindowStart,
    /// The first of its day.
    Day(Date),
    /// The first of its week.
    Week(ISOWeekDate),
    /// The first of its month.
    Month(Date),
    /// The first of its year.
    Year(Date),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retained => f.write_str("retained"),
            Self::Damaged => f.write_str("damaged: a person has to decide"),
            Self::NoRule => f.write_str("no rule of retention is set"),
            Self::Newest => f.write_str("the newest that can be restored"),
            Self::Last { place, of } => write!(f, "{place} of the last {of}"),
            Self::Window => f.write_str("in the recovery window"),
            Self::WindowStart => f.write_str("the recovery window begins with it"),
            Self::Day(day) => write!(f, "first of the day {day}"),
            Self::Week(week) => write!(f, "first of the week {}-W{:02}", week.year(), week.week()),
            Self::Month(day) => write!(f, "first of the month {}", day.strftime("%Y-%m")),
            Self::Year(day) => write!(f, "first of the year {}", day.strftime("%Y")),
        }
    }
}

/// Decides over the backups of one server, given oldest first; the answer has the same order.
///
/// `newest_known` is the newest moment of the server that is in the repository, such as the newest archived commit; the
/// backups' own times count as well.
pub fn select(
    policy: &RetentionPolicy,
    candidates: &[Candidate],
    newest_known: Option<Timestamp>,
) -> Vec<Decision> {
    let sound: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.standing == Standing::Sound)
        .collect();
    let mut reasons: BTreeMap<BackupLabel, Vec<Reason>> = BTreeMap::new();
    let mut keep = |label: BackupLabel, reason| reasons.entry(label).or_default().push(reason);
    for candidate in candidates {
        if candidate.mark == Mark::Retained {
            keep(candidate.label, Reason::Retained);
        }
        if candidate.standing == Standing::Damaged {
            keep(candidate.label, Reason::Damaged);
        }
        if policy.keeps_everything() {
            keep(candidate.label, Reason::NoRule);
        }
    }
    if let Some(newest) = sound.last() {
        keep(newest.label, Reason::Newest);
    }
    for (place, candidate) in (1..=policy.last).zip(sound.iter().rev()) {
        let of = policy.last;
        keep(candidate.label, Reason::Last { place, of });
    }
    if let Some(start) = window_start(policy, &sound, newest_known) {
        let inside = sound.partition_point(|candidate| candidate.consistent <= start);
        if let Some(anchor) = inside.checked_sub(1) {
            keep(sound[anchor].label, Reason::WindowStart);
        }
        for candidate in &sound[inside..] {
            keep(candidate.label, Reason::Window);
        }
    }
    for (count, period) in [
        (policy.days, Reason::Day as fn(Date) -> Reason),
        (policy.weeks, |day| Reason::Week(day.iso_week_date())),
        (policy.months, Reason::Month),
        (policy.years, Reason::Year),
    ] {
        for (label, reason) in firsts(&sound, count, period) {
            keep(label, reason);
        }
    }
    candidates
        .iter()
        .map(|candidate| Decision {
            label: candidate.label,
            reasons: reasons.remove(&candidate.label).unwrap_or_default(),
        })
        .collect()
}

/// Where the recovery window begins, when there is one.
pub(super) fn window_start(
    policy: &RetentionPolicy,
    sound: &[&Candidate],
    newest_known: Option<Timestamp>,
) -> Option<Timestamp> {
    let newest_backup = sound.iter().map(|candidate| candidate.consistent).max();
    let newest = newest_backup.max(newest_known)?;
    let seconds = i64::try_from(policy.window_seconds).ok()?;
    if seconds == 0 {
        return None;
    }
    Some(
        newest
            .checked_sub(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MIN),
    )
}

/// The first backup of each of the newest `count` periods that have one.
fn firsts(
    sound: &[&Candidate],
    count: u32,
    period: impl Fn(Date) -> Reason,
) -> Vec<(BackupLabel, Reason)> {
    let mut periods: Vec<(BackupLabel, Reason)> = Vec::new();
    // Newest first; within a period the last one seen is its first.
    for candidate in sound.iter().rev() {
        let day = candidate.label.time().to_zoned(TimeZone::UTC).date();
        let this = key(period(day));
        match periods.last_mut() {
            Some((label, reason)) if *reason == this => {
                *label = candidate.label;
                continue;
            }
            _ => {}
        }
        if periods.len() >= count as usize {
            break;
        }
        periods.push((candidate.label, this));
    }
    periods
}

/// The same for all days of a period.
fn key(reason: Reason) -> Reason {
    match reason {
        Reason::Month(day) => Reason::Month(day.first_of_month()),
        Reason::Year(day) => Reason::Year(day.first_of_year()),
        Reason::Week(week) => Reason::Week(week.first_of_week().unwrap_or(week)),
        other => other,
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
