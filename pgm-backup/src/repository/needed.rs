//! Which packs the backups of a server need.
//!
//! A manifest points into packs of its own backup and of earlier ones. So what is in the folder of a backup that is no
//! more (or never was) is needed only by later backups, and it is in doubt only while a later one cannot be read.

use std::collections::BTreeSet;

use pgm_proto::ServerName;
use pgm_storage::Storage;

use super::layout;
use crate::catalog;
use crate::error::Result;
use crate::label::BackupLabel;
use crate::manifest::ManifestReader;

/// The packs that readable backups point into, and the backups that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    packs: BTreeSet<(BackupLabel, u32)>,
    unreadable: Vec<Unreadable>,
}

/// A backup that is there, and of which it is not known what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The backup.
    pub label: BackupLabel,
    /// Why its catalog entry or manifest cannot be read.
    pub reason: String,
}

impl Needed {
    /// Reads the manifests of all backups of `server` that are younger than `than`; `check` is asked before each.
    pub(crate) fn by_backups_after(
        than: BackupLabel,
        storage: &dyn Storage,
        server: &ServerName,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let mut needed = Self::default();
        for label in catalog::labels(storage, server)? {
            if label <= than {
                continue;
            }
            check()?;
            let entry = match catalog::read_entry(storage, server, label) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(error) => {
                    needed.doubt(label, error.to_string());
                    continue;
                }
            };
            let path = layout::manifest(server, label);
            match ManifestReader::open(storage, &path, &entry) {
                Ok(manifest) => {
                    let packs = manifest.packs().iter();
                    needed
                        .packs
                        .extend(packs.map(|pack| (pack.label, pack.number)));
                }
                Err(error) => needed.doubt(label, error.to_string()),
            }
        }
        Ok(needed)
    }

    fn doubt(&mut self, label: BackupLabel, reason: String) {
        self.unreadable.push(Unreadable { label, reason });
    }

    /// Whether a readable backup points into this pack.
    pub(crate) fn has(&self, label: BackupLabel, number: u32) -> bool {
        self.packs.contains(&(label, number))
    }

    /// The first backup that may need packs of `label` and cannot be read.
    pub(crate) fn doubt_about(&self, label: BackupLabel) -> Option<&Unreadable> {
        self.unreadable.iter().find(|backup| backup.label > label)
    }
}
