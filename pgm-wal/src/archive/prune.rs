//! Removing WAL that nothing needs any more.
//!
//! What is needed is for retention to say; here the whole list is read first, so that a list that breaks off removes
//! nothing, and what goes is removed oldest first, so that an interruption leaves no hole. History files stay.

use std::ops::ControlFlow;

use super::{Archive, ArchiveError, StoredName};
use crate::SegmentSize;

/// An object of the archive that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unneeded {
    /// The object.
    pub name: StoredName,
    /// Its bytes in the repository.
    pub bytes: u64,
}

impl Archive {
    /// Every segment, finished or not, that is not `needed`: by timeline, oldest first.
    pub fn unneeded(
        &self,
        size: SegmentSize,
        needed: &dyn Fn(StoredName) -> bool,
    ) -> Result<Vec<Unneeded>, ArchiveError> {
        let mut unneeded = Vec::new();
        self.list(size, &mut |name, bytes| {
            let history = matches!(name, StoredName::History(_));
            if !history && !needed(name) {
                unneeded.push(Unneeded { name, bytes });
            }
            ControlFlow::Continue(())
        })?;
        unneeded.sort_unstable_by_key(|object| match object.name {
            StoredName::Segment(segment) | StoredName::Partial { segment, .. } => segment,
            StoredName::History(timeline) => {
                crate::SegmentName::at(timeline, pgm_proto::Lsn::INVALID, size)
            }
        });
        Ok(unneeded)
    }

    /// Removes one object, and what was derived from it. That it is gone already is fine.
    pub fn remove(&self, name: StoredName, size: SegmentSize) -> Result<(), ArchiveError> {
        if let StoredName::Segment(segment) = name {
            self.remove_digest(segment, size)?;
        }
        match self.storage.delete(&self.object(name, size)?) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
