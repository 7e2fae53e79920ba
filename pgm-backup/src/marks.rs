//! What people say about a backup: that it shall be kept, and notes.
//!
//! A backup never changes, so its marks rest beside it, in the folder `marks` of numbered records; the highest number
//! counts ([`crate::repository`]'s `numbered`). If that one cannot be read, the newest readable one gives the notes, and
//! the backup counts as retained: what is in doubt is not deleted.

use jiff::Timestamp;
use pgm_storage::{ObjectPath, Storage};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::repository::numbered;

/// How many superseded and current records are kept.
const KEEP: usize = 2;

/// The marks of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Format version of the record.
    pub format: u32,
    /// Whether the backup may be deleted.
    pub retention: Retention,
    /// Notes, sorted by their keys.
    pub annotations: Vec<Annotation>,
    /// When the marks were changed last.
    pub changed: Timestamp,
}

/// Whether a backup may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retention {
    /// By retention rules and on command.
    Normal,
    /// By nobody, until it is expunged.
    Retained,
}

/// A note of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// What it is called.
    pub key: AnnotationKey,
    /// What it says.
    pub text: String,
    /// When it was written.
    pub changed: Timestamp,
}

/// The name of a note: 1 to 64 bytes of printable text without spaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnnotationKey(String);

/// A text that cannot be a note, or the name of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// Not a key.
    #[error(
        "`{0}` cannot name an annotation: a key has 1 to 64 bytes, without spaces and control characters"
    )]
    Key(String),
    /// Too long.
    #[error("the text of annotation `{key}` has {bytes} bytes, and at most {max} are kept", max = Annotation::TEXT_BYTES_MAX)]
    TooLong {
        /// Its key.
        key: AnnotationKey,
        /// Its bytes.
        bytes: usize,
    },
    /// Not printable.
    #[error("the text of annotation `{0}` has control characters other than tabs and line feeds")]
    Control(AnnotationKey),
    /// Too many.
    #[error("a backup has at most {max} annotations", max = Marks::ANNOTATIONS_MAX)]
    TooMany,
    /// It is there.
    #[error("there is an annotation `{0}` already")]
    Exists(AnnotationKey),
    /// It is not there.
    #[error("there is no annotation `{0}`")]
    Unknown(AnnotationKey),
}

impl AnnotationError {
    /// The next thing to do, for a person.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(_) => Some("change it with `update`".to_owned()),
            Self::Unknown(_) => Some("`pgm-cli info` lists them; `add` makes one".to_owned()),
            Self::TooMany => Some("remove one first".to_owned()),
            Self::Key(_) => Some("such as `reason` or `ticket-4711`".to_owned()),
            Self::TooLong { .. } => Some("keep it elsewhere, and note where".to_owned()),
            Self::Control(_) => Some("write plain text".to_owned()),
        }
    }
}

/// A change of marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkChange {
    /// The backup shall be kept until it is expunged.
    Retain,
    /// The backup may be deleted again.
    Expunge,
    /// A new note.
    Add(AnnotationKey, String),
    /// Another text for a note.
    Update(AnnotationKey, String),
    /// A note goes.
    Remove(AnnotationKey),
}

/// Marks as they were found.
#[derive(Debug)]
pub struct FoundMarks {
    /// What counts.
    pub marks: Marks,
    /// Why the newest record could not be read, when it could not.
    pub damage: Option<Error>,
}

impl Marks {
    /// The newest format version that this code knows.
    pub const FORMAT: u32 = 1;
    /// The most notes of one backup.
    pub const ANNOTATIONS_MAX: usize = 64;

    /// The marks of a backup that was never marked.
    fn none() -> Self {
        Self {
            format: Self::FORMAT,
            retention: Retention::Normal,
            annotations: Vec::new(),
            changed: Timestamp::UNIX_EPOCH,
        }
    }

    /// Applies `change`.
    fn apply(&mut self, change: &MarkChange, now: Timestamp) -> Result<(), AnnotationError> {
        let place =
            |key: &AnnotationKey| self.annotations.binary_search_by(|note| note.key.cmp(key));
        match change {
            MarkChange::Retain => self.retention = Retention::Retained,
            MarkChange::Expunge => self.retention = Retention::Normal,
            MarkChange::Add(key, text) => {
                let note = Annotation::new(key, text, now)?;
                let Err(at) = place(key) else {
                    return Err(AnnotationError::Exists(key.clone()));
                };
                if self.annotations.len() >= Self::ANNOTATIONS_MAX {
                    return Err(AnnotationError::TooMany);
                }
                self.annotations.insert(at, note);
            }
            MarkChange::Update(key, text) => {
                let note = Annotation::new(key, text, now)?;
                let at = place(key).map_err(|_| AnnotationError::Unknown(key.clone()))?;
                self.annotations[at] = note;
            }
            MarkChange::Remove(key) => {
                let at = place(key).map_err(|_| AnnotationError::Unknown(key.clone()))?;
                self.annotations.remove(at);
            }
        }
        self.changed = now;
        Ok(())
    }
}

impl Annotation {
    /// The longest text, in bytes.
    pub const TEXT_BYTES_MAX: usize = 4096;

    fn new(key: &AnnotationKey, text: &str, changed: Timestamp) -> Result<Self, AnnotationError> {
        let bytes = text.len();
        if bytes > Self::TEXT_BYTES_MAX {
            let key = key.clone();
            return Err(AnnotationError::TooLong { key, bytes });
        }
        if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            return Err(AnnotationError::Control(key.clone()));
        }
        Ok(Self {
            key: key.clone(),
            text: text.to_owned(),
            changed,
        })
    }
}

impl AnnotationKey {
    /// The longest key, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, AnnotationError> {
        let text = text.into();
        let strange = |c: char| c.is_control() || c.is_whitespace();
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.contains(strange) {
            let shown = text.chars().take(80).collect::<String>();
            return Err(AnnotationError::Key(shown.escape_debug().to_string()));
        }
        Ok(Self(text))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for AnnotationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for AnnotationKey {
    type Error = AnnotationError;

    fn try_from(text: String) -> Result<Self, AnnotationError> {
        Self::new(text)
    }
}

impl From<AnnotationKey> for String {
    fn from(key: AnnotationKey) -> Self {
        key.0
    }
}

/// The marks in `folder`.
pub(crate) fn read(storage: &dyn Storage, folder: &ObjectPath) -> Result<FoundMarks> {
    let mut damage = None;
    for number in numbered::numbers(storage, folder)?.into_iter().rev() {
        match numbered::read::<Marks>(storage, folder, number, Marks::FORMAT) {
            Ok(Some(mut marks)) => {
                if damage.is_some() {
                    marks.retention = Retention::Retained;
                }
                return Ok(FoundMarks { marks, damage });
            }
            Ok(None) => {}
            Err(error @ (Error::Damaged { .. } | Error::UnknownFormat { .. })) => {
                damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    let mut marks = Marks::none();
    if damage.is_some() {
        marks.retention = Retention::Retained;
    }
    Ok(FoundMarks { marks, damage })
}

/// Carries `change` out on the marks in `folder`. The caller holds the lock of the server and has checked it.
pub(crate) fn change(
    storage: &dyn Storage,
    folder: &ObjectPath,
    change: &MarkChange,
) -> Result<Marks> {
    let FoundMarks { mut marks, damage } = read(storage, folder)?;
    if let Some(error @ Error::UnknownFormat { .. }) = damage {
        return Err(error);
    }
    marks.apply(change, Timestamp::now())?;
    numbered::put_next(storage, folder, &marks, KEEP)?;
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use pgm_storage::{MemoryStorage, PutMode};

    use super::*;

    fn folder() -> ObjectPath {
        ObjectPath::parse("main/backup/20261122T023456Z/marks").unwrap()
    }

    fn key(text: &str) -> AnnotationKey {
        AnnotationKey::new(text).unwrap()
    }

    fn add(name: &str, text: &str) -> MarkChange {
        MarkChange::Add(key(name), text.to_owned())
    }

    #[test]
    fn marks_change_one_at_a_time_and_the_others_stay() {
        let storage = MemoryStorage::new();
        let apply = |what: MarkChange| change(&storage, &folder(), &what);
        apply(add("why", "before the upgrade\nto 18")).unwrap();
        apply(add("by", "ann")).unwrap();
        apply(MarkChange::Retain).unwrap();
        apply(MarkChange::Update(key("by"), "bob".into())).unwrap();
        let found = read(&storage, &folder()).unwrap();
        assert!(found.damage.is_none());
        assert_eq!(found.marks.retention, Retention::Retained);
        let notes = found.marks.annotations.iter();
        let notes: Vec<_> = notes
            .map(|note| (note.key.as_str(), note.text.as_str()))
            .collect();
        assert_eq!(notes, [("by", "bob"), ("why", "before the upgrade\nto 18")]);
        apply(MarkChange::Remove(key("why"))).unwrap();
        let marks = apply(MarkChange::Expunge).unwrap();
        assert_eq!(
            (marks.retention, marks.annotations.len()),
            (Retention::Normal, 1)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let storage = MemoryStorage::new();
        let apply = |what: MarkChange| change(&storage, &folder(), &what);
        for number in 0..Marks::ANNOTATIONS_MAX {
            apply(add(&format!("k{number}"), "")).unwrap();
        }
        let long = "x".repeat(Annotation::TEXT_BYTES_MAX + 1);
        for refused in [
            add("one-more", ""),
            add("k0", ""),
            MarkChange::Update(key("nothing"), String::new()),
            MarkChange::Remove(key("nothing")),
            MarkChange::Update(key("k0"), long),
            MarkChange::Update(key("k0"), "\u{1b}[31m".into()),
        ] {
            let error = apply(refused.clone()).unwrap_err();
            assert!(
                matches!(error, Error::Annotation(_)),
                "{refused:?}: {error}"
            );
        }
        assert!(
            read(&storage, &folder())
                .unwrap()
                .marks
                .annotations
                .iter()
                .all(|note| note.text.is_empty())
        );
        for text in ["", "a b", "a\n", &"k".repeat(65)] {
            assert!(AnnotationKey::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn damaged_marks_count_as_retained_and_can_be_put_right() {
        let storage = MemoryStorage::new();
        change(&storage, &folder(), &add("why", "test")).unwrap();
        change(&storage, &folder(), &MarkChange::Expunge).unwrap();
        let newest = numbered::object(&folder(), 2).unwrap();
        storage.put(&newest, b"garbage", PutMode::Replace).unwrap();
        let found = read(&storage, &folder()).unwrap();
        assert!(found.damage.is_some());
        assert_eq!(found.marks.retention, Retention::Retained);
        assert_eq!(found.marks.annotations.len(), 1);
        change(&storage, &folder(), &MarkChange::Expunge).unwrap();
        let found = read(&storage, &folder()).unwrap();
        assert!(found.damage.is_none() && found.marks.retention == Retention::Normal);
    }
}
