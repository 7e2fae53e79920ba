//! What a store wants to know before it lets us in.
//!
//! Credentials are a set of names and values. The names are those of the environment variables that the stores' own
//! tools read, so a file of `NAME=value` lines, an environment and a vault command all say the same thing. Nobody here
//! reads an environment or a file: the caller hands over what it has.

use std::collections::BTreeMap;

use crate::secret::Secret;

/// The names that mean something, with what they are.
pub const CREDENTIAL_NAMES: [(&str, &str); 21] = [
    ("AWS_ACCESS_KEY_ID", "S3: the id of the access key"),
    ("AWS_SECRET_ACCESS_KEY", "S3: the access key"),
    ("AWS_SESSION_TOKEN", "S3: the token of a temporary key"),
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "S3: the file with the token of a web identity",
    ),
    ("AWS_ROLE_ARN", "S3: the role that a web identity takes"),
    (
        "AWS_ROLE_SESSION_NAME",
        "S3: the name of a web identity's session",
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "S3: where a container's keys are",
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "S3: where a container's keys are",
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "S3: the file with a container's token",
    ),
    (
        "AWS_SSE_CUSTOMER_KEY",
        "S3: the key (Base64) with which the store encrypts",
    ),
    ("AZURE_STORAGE_ACCOUNT_KEY", "Azure: the account's key"),
    (
        "AZURE_STORAGE_SAS_TOKEN",
        "Azure: a shared access signature",
    ),
    ("AZURE_CLIENT_ID", "Azure: the application's id"),
    ("AZURE_CLIENT_SECRET", "Azure: the application's secret"),
    ("AZURE_TENANT_ID", "Azure: the application's tenant"),
    (
        "AZURE_FEDERATED_TOKEN_FILE",
        "Azure: the file with a workload's token",
    ),
    (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GCS: the file with a service account",
    ),
    (
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GCS: a service account's key (JSON)",
    ),
    ("SFTP_PRIVATE_KEY_FILE", "SFTP: the file with our key"),
    ("SFTP_PRIVATE_KEY_PASSPHRASE", "SFTP: what opens that file"),
    ("SFTP_PASSWORD", "SFTP: a password, where keys are refused"),
];

/// Names and values, the values never printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<&'static str, Secret>);

/// A text is not a set of credentials. Says where, never what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCredentialsError {
    /// A line is not `NAME=value`.
    #[error("line {line} is not of the form NAME=value")]
    Form {
        /// Its number, from 1.
        line: usize,
    },
    /// A name means nothing to any store.
    #[error("line {line}: `{name}` is not a name of a credential")]
    Unknown {
        /// Its number, from 1.
        line: usize,
        /// The name.
        name: String,
    },
}

impl Credentials {
    /// None at all: the store's own ways (instance metadata, managed identity) are tried.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes those of `variables` that are credentials, such as a whole environment.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut found = Self::new();
        for (name, value) in variables {
            if !value.is_empty() {
                found.set(&name, Secret::new(value));
            }
        }
        found
    }

    /// Parses lines `NAME=value`; empty lines and those that begin with `#` are passed over, a value may stand in double
    /// quotes, and `export ` may stand before a name.
    pub fn parse(text: &str) -> Result<Self, ParseCredentialsError> {
        let mut found = Self::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let number = index + 1;
            let Some((name, value)) = line.split_once('=') else {
                return Err(ParseCredentialsError::Form { line: number });
            };
            let (name, value) = (name.trim(), value.trim());
            let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            if !found.set(name, Secret::new(quoted.unwrap_or(value))) {
                return Err(ParseCredentialsError::Unknown {
                    line: number,
                    name: name.chars().take(64).collect(),
                });
            }
        }
        Ok(found)
    }

    /// Sets one; false if the name is not one of [`CREDENTIAL_NAMES`].
    pub fn set(&mut self, name: &str, value: Secret) -> bool {
        match CREDENTIAL_NAMES.iter().find(|(known, _)| *known == name) {
            Some((known, _)) => {
                self.0.insert(known, value);
                true
            }
            None => false,
        }
    }

    /// The same, with those of `other` where this one has none.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names that have a value.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// The value of `name`.
    #[cfg(any(feature = "cloud", feature = "sftp"))]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_and_values() {
        let text = "# keys\n\nAWS_ACCESS_KEY_ID=AKIA\nexport AWS_SECRET_ACCESS_KEY=\"a=b c\"\n";
        let found = Credentials::parse(text).unwrap();
        assert_eq!(
            found.names().collect::<Vec<_>>(),
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        );
        assert_eq!(found.0["AWS_SECRET_ACCESS_KEY"].expose(), "a=b c");
    }

    #[test]
    fn errors_and_debug_output_never_tell_a_value() {
        let error = Credentials::parse("AWS_SECRET_ACCES_KEY=hunter2").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = Credentials::parse("hunter2").unwrap_err();
        assert_eq!(error, ParseCredentialsError::Form { line: 1 });
        let found = Credentials::parse("SFTP_PASSWORD=hunter2").unwrap();
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn of_an_environment_only_credentials_are_taken() {
        let environment = [
            ("PATH", "/bin"),
            ("AZURE_CLIENT_ID", "x"),
            ("AWS_ROLE_ARN", ""),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = Credentials::from_variables(environment);
        assert_eq!(found.names().collect::<Vec<_>>(), ["AZURE_CLIENT_ID"]);
    }
}
