//! How much scheduled verifications have read today: `verify.ron` in the base directory.
//!
//! ```text
//! (day:"2026-11-25",spent_bytes:123456)
//! ```
//!
//! A verification begins only while less than the day's budget is spent, and then runs to its end: what it reads beyond the
//! budget is taken from the days that follow, so that on average no more than the budget is read, however large a backup
//! is. A file that cannot be read says that nothing was spent.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "verify.ron";
/// A larger file is something else.
const BYTES_MAX: u64 = 4096;

/// What was spent, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    day: Date,
    spent_bytes: u64,
}

/// What may be read in a day, and what of it was.
#[derive(Debug)]
pub(super) struct Budget {
    path: PathBuf,
    spent: Spent,
}

impl Budget {
    /// As the base directory `folder` remembers it.
    pub(super) fn open(folder: &Path, today: Date) -> Self {
        let path = folder.join(FILE_NAME);
        let nothing = Spent {
            day: today,
            spent_bytes: 0,
        };
        let spent = match read(&path) {
            Ok(spent) => spent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => nothing,
            Err(error) => {
                tracing::warn!("cannot read {}: {error}", path.display());
                nothing
            }
        };
        Self { path, spent }
    }

    /// Whether a verification may begin, of which `a_day` bytes may be read a day; 0 is no limit.
    pub(super) fn allows(&mut self, a_day: u64, today: Date) -> bool {
        let days = today
            .since(self.spent.day)
            .map_or(0, |span| span.get_days());
        // A clock that was set back spends nothing and earns nothing.
        if let Ok(days @ 1..) = u64::try_from(days) {
            let earned = a_day.saturating_mul(days);
            self.spent = Spent {
                day: today,
                spent_bytes: self.spent.spent_bytes.saturating_sub(earned),
            };
        }
        a_day == 0 || self.spent.spent_bytes < a_day
    }

    /// So many bytes were read.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.spent.spent_bytes = self.spent.spent_bytes.saturating_add(bytes);
        if let Err(error) = write(&self.path, &self.spent) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }
}

fn read(path: &Path) -> io::Result<Spent> {
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    ron::from_str(&text).map_err(io::Error::other)
}

fn write(path: &Path, spent: &Spent) -> io::Result<()> {
    let text = ron::to_string(spent).map_err(io::Error::other)?;
    let new = path.with_extension("ron.new");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn what_is_read_beyond_the_budget_is_taken_from_the_days_that_follow() {
        let folder = tempfile::tempdir().unwrap();
        let monday = date(2026, 11, 23);
        let day = |number: i8| date(2026, 11, 23 + number);
        let mut budget = Budget::open(folder.path(), monday);
        assert!(budget.allows(100, monday));
        budget.spend(60);
        assert!(budget.allows(100, monday));
        budget.spend(290);
        assert!(!budget.allows(100, monday));
        // It is remembered over a restart: 350 are paid off on the fourth day.
        let mut budget = Budget::open(folder.path(), day(1));
        assert!(!budget.allows(100, day(1)));
        assert!(!budget.allows(100, day(2)));
        assert!(budget.allows(100, day(3)));
        budget.spend(60);
        assert!(!budget.allows(100, day(3)));
        assert!(budget.allows(0, day(3)), "no limit");
        // A week without anything saves nothing up.
        assert!(budget.allows(100, date(2026, 12, 20)));
        budget.spend(100);
        assert!(!budget.allows(100, date(2026, 12, 20)));
        assert!(!budget.allows(100, monday), "the clock was set back");
    }

    #[test]
    fn a_file_that_is_something_else_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "((((").unwrap();
        assert!(Budget::open(folder.path(), date(2026, 1, 1)).allows(1, date(2026, 1, 1)));
    }
}
