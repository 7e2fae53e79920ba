//! The users of remote management: roles, and SCRAM verifiers instead of passwords.
//!
//! ```text
//! (format: 1, admins: [
//!     (name: "ann", role: admin, changed: "2026-11-25T01:02:03Z", verifier: "SCRAM-SHA-256$4096:…"),
//! ])
//! ```
//!
//! No password is in it, nor can one be had from it; still it is for its owner alone, because guesses can be tried on it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use pgm_mgmt::Role;
use pgm_proto::{ScramVerifier, Secret};
use serde::{Deserialize, Serialize};

use super::error::SecretsError;
use super::private_file;
use super::user_name::UserName;
use crate::repository::second;

const FORMAT: u32 = 1;
const COMMENT: &str =
    "pgm's users of remote management: written by `pgm-cli admin user`, not by hand";
const KIND: &str = "admin";

/// The admins, by name.
#[derive(Debug, Clone, Default)]
pub struct Admins(BTreeMap<UserName, Admin>);

/// One of them.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What they may do.
    pub role: Role,
    /// What their password is checked with.
    pub verifier: ScramVerifier,
    /// When it was changed last.
    pub changed: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    admins: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: UserName,
    role: Role,
    changed: String,
    verifier: Written,
}

/// A verifier's text on its way to or from the file.
struct Written(Secret);

impl Serialize for Written {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl Admins {
    /// Reads the admins in `path`; none when there is no file.
    pub fn load(path: &Path) -> Result<Self, SecretsError> {
        let Some(document) = private_file::read_ron::<Document>(path)? else {
            return Ok(Self::default());
        };
        if document.format != FORMAT {
            let reason = format!("its format is {}, not {FORMAT}", document.format);
            return Err(SecretsError::unusable(path, reason));
        }
        let mut admins = BTreeMap::new();
        for entry in document.admins {
            let name = entry.name;
            let wrong = |reason: &dyn fmt::Display| {
                SecretsError::unusable(path, format!("the entry of {name}: {reason}"))
            };
            let verifier = entry.verifier.0.expose().parse();
            let admin = Admin {
                role: entry.role,
                verifier: verifier.map_err(|error: pgm_proto::ParseVerifierError| wrong(&error))?,
                changed: entry.changed,
            };
            if admins.contains_key(&name) {
                return Err(wrong(&"it is there twice"));
            }
            admins.insert(name, admin);
        }
        Ok(Self(admins))
    }

    /// Reads the admins, lets `edit` change them, and writes them if that succeeds. Editors take turns.
    pub fn edit<T>(
        path: &Path,
        edit: impl FnOnce(&mut Self) -> Result<T, SecretsError>,
    ) -> Result<T, SecretsError> {
        let _turn = private_file::lock(path)?;
        let mut admins = Self::load(path)?;
        let done = edit(&mut admins)?;
        let entry = |(name, admin): (UserName, Admin)| Entry {
            name,
            role: admin.role,
            changed: admin.changed,
            verifier: Written(admin.verifier.to_text()),
        };
        let document = Document {
            format: FORMAT,
            admins: admins.0.into_iter().map(entry).collect(),
        };
        private_file::write_ron(path, COMMENT, &document)?;
        Ok(done)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&UserName, &Admin)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one with this name.
    pub fn find(&self, name: &str) -> Option<&Admin> {
        self.0.get(&name.parse().ok()?)
    }

    /// Adds one who is not there yet.
    pub fn add(
        &mut self,
        name: &UserName,
        role: Role,
        verifier: ScramVerifier,
    ) -> Result<(), SecretsError> {
        if self.0.contains_key(name) {
            return Err(SecretsError::UserExists {
                kind: KIND,
                name: name.to_string(),
            });
        }
        let admin = Admin {
            role,
            verifier,
            changed: now(),
        };
        self.0.insert(name.clone(), admin);
        Ok(())
    }

    /// The entry of one who must be there, to be changed; the moment is noted.
    pub fn change(&mut self, name: &UserName) -> Result<&mut Admin, SecretsError> {
        let unknown = self.unknown(name);
        let admin = self.0.get_mut(name).ok_or(unknown)?;
        admin.changed = now();
        Ok(admin)
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &UserName) -> Result<(), SecretsError> {
        let unknown = self.unknown(name);
        self.0.remove(name).map(|_| ()).ok_or(unknown)
    }

    fn unknown(&self, name: &UserName) -> SecretsError {
        SecretsError::UnknownUser {
            kind: KIND,
            name: name.to_string(),
            known: self.0.keys().map(ToString::to_string).collect(),
        }
    }
}

fn now() -> String {
    second(jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use pgm_proto::ScramIterations;

    use super::*;

    fn verifier(password: &str) -> ScramVerifier {
        ScramVerifier::from_password(&Secret::new(password), ScramIterations::default())
    }

    #[test]
    fn admins_are_read_back_and_their_passwords_are_not_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admins.ron");
        assert_eq!(Admins::load(&path).unwrap().count(), 0);
        let ann: UserName = "ann".parse().unwrap();
        let made = verifier("hunter2");
        Admins::edit(&path, |admins| {
            admins.add(&ann, Role::ReadOnly, made.clone())
        })
        .unwrap();
        let admins = Admins::load(&path).unwrap();
        let admin = admins.find("ann").unwrap();
        assert!(admin.role == Role::ReadOnly && admin.verifier == made);
        assert!(admins.find("Ann").is_none() && admins.find("").is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("hunter2") && text.contains("read_only"),
            "{text}"
        );
        assert!(
            !format!("{admins:?}").contains("4096"),
            "not even the verifier is printed"
        );
    }

    #[test]
    fn adding_twice_and_changing_nobody_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admins.ron");
        let ann: UserName = "ann".parse().unwrap();
        let add = |admins: &mut Admins| admins.add(&ann, Role::Admin, verifier("a"));
        Admins::edit(&path, add).unwrap();
        assert!(Admins::edit(&path, add).is_err());
        Admins::edit(&path, |admins| {
            admins.change(&ann)?.role = Role::ReadOnly;
            Ok(())
        })
        .unwrap();
        assert_eq!(
            Admins::load(&path).unwrap().find("ann").unwrap().role,
            Role::ReadOnly
        );
        Admins::edit(&path, |admins| admins.remove(&ann)).unwrap();
        assert!(Admins::edit(&path, |admins| admins.remove(&ann)).is_err());
        assert_eq!(Admins::load(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_verifier_names_its_user_and_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admins.ron");
        let text = r#"(format: 1, admins: [(name: "ann", role: admin, changed: "", verifier: "hunter2")])"#;
        private_file::write(&path, text, private_file::Write::New).unwrap();
        let error = Admins::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("ann") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
