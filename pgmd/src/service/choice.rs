//! Which of several repositories a request is about.

use pgm_mgmt::{Error, ErrorCode};
use pgm_proto::RepositoryName;

use crate::config::Config;
use crate::place::RepositoryTarget;

/// The repository that a request names, if it names one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a>(pub(super) Option<&'a RepositoryName>);

impl Wanted<'_> {
    /// The one that is named, else all, the one named `default` first.
    pub(super) fn all(self, config: &Config) -> Result<Vec<RepositoryTarget>, Error> {
        match self.0 {
            Some(name) => Ok(vec![named(config, name)?]),
            None => Ok(config.targets()),
        }
    }

    /// The one that is named; without a name, the only one.
    pub(super) fn one(self, config: &Config) -> Result<RepositoryTarget, Error> {
        if let Some(name) = self.0 {
            return named(config, name);
        }
        let mut all = config.targets();
        if all.len() == 1 {
            return Ok(all.remove(0));
        }
        let names: Vec<&str> = all
            .iter()
            .map(|target| target.place.name.as_str())
            .collect();
        let text = "there are several repositories, and this changes or verifies what is in one";
        let hint = format!("say which with --repo: {}", names.join(", "));
        Err(Error::new(ErrorCode::BadValue, text.to_owned()).with_hint(hint))
    }
}

fn named(config: &Config, name: &RepositoryName) -> Result<RepositoryTarget, Error> {
    config.target(name).map_err(|error| Error {
        code: ErrorCode::BadValue,
        text: error.to_string(),
        hint: error.hint(),
    })
}
