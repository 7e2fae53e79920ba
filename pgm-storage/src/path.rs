//! Where an object rests inside a storage.
//!
//! An [`ObjectPath`] is relative and made of checked components, so no path that reaches an engine can climb out of its
//! root, name a hidden or temporary file, or mean different objects to different engines. The empty path is the root:
//! a place to list, never an object.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A checked relative path such as `main/wal/00000001/000000010000000000000004`.
///
/// Components are 1 to 200 characters out of `A-Z a-z 0-9 . _ -` and never begin with a dot; the whole is at most 1000.
/// Paths sort as their text does, which is the order in which every engine lists them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectPath(String);

/// The text is not a path of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an object path: {reason}")]
pub struct ParsePathError {
    text: String,
    reason: &'static str,
}

impl ObjectPath {
    /// The longest component.
    pub const COMPONENT_BYTES_MAX: usize = 200;
    /// The longest path.
    pub const PATH_BYTES_MAX: usize = 1000;

    /// The root: everything is below it, and it is not an object itself.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Checks `text`; `""` is the root.
    pub fn parse(text: &str) -> Result<Self, ParsePathError> {
        let refuse = |reason| ParsePathError {
            text: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Ok(Self::root());
        }
        if text.len() > Self::PATH_BYTES_MAX {
            return Err(refuse("it is longer than 1000 characters"));
        }
        for component in text.split('/') {
            check(component).map_err(refuse)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The path of `text` (one component, or several with slashes) below this one.
    pub fn join(&self, text: &str) -> Result<Self, ParsePathError> {
        if self.is_root() || text.is_empty() {
            let joined = Self::parse(text)?;
            return Ok(if text.is_empty() {
                self.clone()
            } else {
                joined
            });
        }
        Self::parse(&format!("{self}/{text}"))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text; `""` for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// The last component; `""` for the root.
    pub fn name(&self) -> &str {
        self.0
            .rsplit_once('/')
            .map_or(self.as_str(), |(_, name)| name)
    }

    /// The folder that this path is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(
            self.0
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent)
                .to_owned(),
        ))
    }

    /// What is left of this path below `folder`: `None` when it is not below it, `""` when it is `folder` itself.
    pub fn below(&self, folder: &Self) -> Option<&str> {
        let rest = self.0.strip_prefix(folder.as_str())?;
        match (folder.is_root() || rest.is_empty(), rest.strip_prefix('/')) {
            (true, _) => Some(rest),
            (false, rest) => rest,
        }
    }
}

fn check(component: &str) -> Result<(), &'static str> {
    if component.is_empty() {
        return Err("it has an empty component");
    }
    if component.len() > ObjectPath::COMPONENT_BYTES_MAX {
        return Err("it has a component longer than 200 characters");
    }
    if component.starts_with('.') {
        return Err("it has a component that begins with a dot");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !component.bytes().all(allowed) {
        return Err("it has a character that is not one of A-Z a-z 0-9 . _ -");
    }
    Ok(())
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ObjectPath {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for ObjectPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_root_or_hide_are_refused() {
        for text in [
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/.b",
            ".pgm-1.tmp",
            "a b",
            "a\0",
            "a\\b",
            "ä",
        ] {
            assert!(ObjectPath::parse(text).is_err(), "{text:?}");
        }
        assert!(ObjectPath::parse(&"a".repeat(201)).is_err());
        assert!(ObjectPath::parse(&["a"; 501].join("/")).is_err());
    }

    #[test]
    fn parts_of_a_path_are_found() {
        let path = ObjectPath::parse("main/wal/00000001/x.history").unwrap();
        assert_eq!(path.name(), "x.history");
        assert_eq!(path.parent().unwrap().as_str(), "main/wal/00000001");
        assert_eq!(path.components().count(), 4);
        assert_eq!(
            ObjectPath::parse("a").unwrap().parent(),
            Some(ObjectPath::root())
        );
        assert_eq!(ObjectPath::root().parent(), None);
        assert_eq!(ObjectPath::root().components().count(), 0);
        assert_eq!(ObjectPath::root().join("a/b").unwrap().as_str(), "a/b");
        assert_eq!(path.join("y").unwrap().name(), "y");
        assert!(path.join("..").is_err());
    }

    #[test]
    fn below_counts_whole_components() {
        let path = ObjectPath::parse("main/wal/1").unwrap();
        let below = |folder| path.below(&ObjectPath::parse(folder).unwrap());
        assert_eq!(below("main"), Some("wal/1"));
        assert_eq!(below(""), Some("main/wal/1"));
        assert_eq!(below("main/wal/1"), Some(""));
        assert_eq!(below("main/wa"), None);
    }
}
