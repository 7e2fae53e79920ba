//! The last commit in a stretch of WAL: the newest moment that can be restored.

use pgm_proto::Lsn;

use super::Commit;
use super::changes::ChangesError;
use super::times::{BACK_MAX, Way};
use crate::archive::Archive;
use crate::{History, SegmentSize, Spool};

/// So many segments without a digest are read: the unfinished one, and those that wait to be archived.
const READ_MAX: usize = 8;

/// The last commit along `history` between `from` and `to`, up to which the WAL is there. Goes back from `to`, not further
/// than 64 segments, of which at most 8 are read because they have no digest: `None` says that there is no commit in those.
pub fn last_commit(
    archive: &Archive,
    spool: Option<&Spool>,
    history: &History,
    size: SegmentSize,
    (from, to): (Lsn, Lsn),
) -> Result<Option<Commit>, ChangesError> {
    let way = Way::new(archive, spool, history, size, (from, to));
    let mut reads = READ_MAX;
    for number in way.newest_first().take(BACK_MAX) {
        let transactions = match way.digest(number)? {
            Some(digest) => digest.transactions,
            None if reads == 0 => break,
            None => {
                reads -= 1;
                way.read(number, to)?
            }
        };
        if transactions.last_commit.is_some() {
            return Ok(transactions
                .last_commit
                .filter(|commit| commit.lsn >= from && commit.end_lsn <= to));
        }
    }
    Ok(None)
}
