//! Metrics: one table of families, and everything else derived from it.
//!
//! A family is declared once, in the file of its subject: name, type, help, labels, and how its samples come out of the
//! [`Facts`]. The text for Prometheus, the reference in `docs/metrics.md` and the tests of the rules follow from that.
//!
//! The rules: base units (seconds, bytes, ratios from 0 to 1), counters end in `_total`, truth is 0 or 1, moments are
//! timestamps and never ages, and what is not known is absent. No label has unbounded values: no position, label of a
//! backup, process id or text of an error is one.

mod backup;
mod family;
mod job;
mod own;
mod repository;
mod server;
mod standby;
mod text;
mod wal;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(super) use text::Format;

use family::Family;

use super::facts::Facts;

/// The repository that the catalog's facts are of, as its label says.
const REPOSITORY: &str = "default";

/// The subjects, in the order of the text.
const SUBJECTS: [Subject; 7] = [
    Subject {
        title: "Servers",
        families: server::FAMILIES,
    },
    Subject {
        title: "WAL",
        families: wal::FAMILIES,
    },
    Subject {
        title: "Backups and recovery",
        families: backup::FAMILIES,
    },
    Subject {
        title: "Repository and spool",
        families: repository::FAMILIES,
    },
    Subject {
        title: "Jobs",
        families: job::FAMILIES,
    },
    Subject {
        title: "Standbys",
        families: standby::FAMILIES,
    },
    Subject {
        title: "pgmd itself",
        families: own::FAMILIES,
    },
];

/// Families that belong together.
struct Subject {
    #[cfg_attr(not(test), expect(dead_code, reason = "a heading of the reference"))]
    title: &'static str,
    families: &'static [Family],
}

/// Metrics as text, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    facts: std::sync::Arc<Facts>,
    format: Format,
    /// The next family; past the last one comes the end.
    next: usize,
}

impl Pieces {
    /// The metrics of `facts`.
    pub(super) fn new(facts: std::sync::Arc<Facts>, format: Format) -> Self {
        Self {
            facts,
            format,
            next: 0,
        }
    }

    /// The next piece, of about `bytes` or the rest; `None` behind the last.
    pub(super) fn next(&mut self, bytes: usize) -> Option<String> {
        let mut families = SUBJECTS
            .iter()
            .flat_map(|subject| subject.families)
            .skip(self.next);
        let mut text = String::new();
        while text.len() < bytes {
            match families.next() {
                Some(family) => self.format.write(family, &self.facts, &mut text),
                None if self.next <= family_count() => text.push_str(self.format.end()),
                None => break,
            }
            self.next += 1;
        }
        (!text.is_empty()).then_some(text)
    }
}

fn family_count() -> usize {
    SUBJECTS.iter().map(|subject| subject.families.len()).sum()
}
