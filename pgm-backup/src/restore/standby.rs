//! Whether a directory that is kept as a standby may be brought up to date.
//!
//! It was made by an earlier restore, so it has `standby.signal` for as long as it is one: PostgreSQL removes that file when it
//! is promoted. From then on the directory is a server with data of its own, and nothing may be done to it.

use std::path::Path;

use super::error::RestoreError;
use super::existing::{PID_FILE, is_free};
use super::settings::STANDBY_SIGNAL;

/// What is in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandbyDirectory {
    /// Nothing, what an interrupted restore left, or a standby that nobody runs.
    Free,
    /// A standby that runs, and follows by itself.
    Follows,
}

/// Looks at the directory; one that is not, or no longer, a standby is refused.
pub fn standby_directory(data: &Path) -> Result<StandbyDirectory, RestoreError> {
    if is_free(data)? {
        return Ok(StandbyDirectory::Free);
    }
    if !data.join(STANDBY_SIGNAL).exists() {
        return Err(RestoreError::NoStandby {
            path: data.to_owned(),
        });
    }
    Ok(if data.join(PID_FILE).exists() {
        StandbyDirectory::Follows
    } else {
        StandbyDirectory::Free
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_standby_that_nobody_runs_is_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        let found = || standby_directory(&data);
        assert_eq!(found().unwrap(), StandbyDirectory::Free);
        fs::create_dir(&data).unwrap();
        assert_eq!(found().unwrap(), StandbyDirectory::Free);
        fs::write(data.join("PG_VERSION"), "17").unwrap();
        let refused = found().unwrap_err();
        assert!(matches!(refused, RestoreError::NoStandby { .. }) && refused.hint().is_some());
        fs::write(data.join("standby.signal"), "").unwrap();
        assert_eq!(found().unwrap(), StandbyDirectory::Free);
        fs::write(data.join("postmaster.pid"), "7").unwrap();
        assert_eq!(found().unwrap(), StandbyDirectory::Follows);
        fs::remove_file(data.join("standby.signal")).unwrap();
        assert!(found().is_err(), "it was promoted");
    }
}
