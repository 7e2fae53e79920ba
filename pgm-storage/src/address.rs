//! Where a repository is, as people write it.
//!
//! ```text
//! /backup                               a directory of this host; also file:///backup
//! s3://BUCKET/PREFIX?region=eu-west-1   S3, and everything that speaks its protocol (endpoint=https://…)
//! azure://ACCOUNT/CONTAINER/PREFIX      Azure Blob Storage
//! gs://BUCKET/PREFIX                    Google Cloud Storage
//! sftp://USER@HOST:PORT/PATH            a directory of a server with SSH
//! memory:                               this process's memory, for trials
//! ```
//!
//! An address never has a secret in it: one with a password is refused, and so the text of an address may stand in logs,
//! argument lists and files that everybody reads. What a store can be told is in [`PARAMETERS`]; an unknown parameter is
//! an error, not a surprise.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// The address of a store.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreAddress {
    kind: StoreKind,
    /// Bucket, container or host; empty for directories and memory.
    host: String,
    /// The account of Azure, the user of SFTP.
    account: Option<String>,
    port: Option<u16>,
    /// Without slashes at its ends, except for directories.
    path: String,
    parameters: BTreeMap<&'static str, String>,
}

/// What kind of store an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreKind {
    /// A directory of this host.
    Local,
    /// This process's memory.
    Memory,
    /// S3 or what speaks its protocol.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
    /// A directory of a server with SSH.
    Sftp,
}

/// What stands behind the `?` of an address: the stores that know it, its name, what it says.
pub const PARAMETERS: [(&[StoreKind], &str, &str); 13] = {
    use StoreKind::{Azure, Gcs, S3, Sftp};
    [
        (
            &[S3, Azure, Gcs],
            "endpoint",
            "the server's URL, if it is not the provider's own",
        ),
        (
            &[S3, Azure, Gcs],
            "ca_file",
            "a file of certificates (PEM) to trust besides the system's",
        ),
        (
            &[S3, Azure, Gcs],
            "allow_http",
            "`yes` to speak without TLS to an endpoint `http://…`",
        ),
        (
            &[S3, Azure, Gcs, Sftp],
            "timeout",
            "seconds until a request is given up and made again (60)",
        ),
        (
            &[S3, Azure, Gcs, Sftp],
            "retry_timeout",
            "seconds until an operation is given up (180)",
        ),
        (&[S3], "region", "the bucket's region (us-east-1)"),
        (
            &[S3],
            "path_style",
            "`no` to put the bucket into the host's name also at an endpoint of one's own",
        ),
        (
            &[S3, Azure, Gcs],
            "storage_class",
            "the class (Azure: access tier) that new objects get",
        ),
        (
            &[S3],
            "sse",
            "who encrypts: `AES256`, `aws:kms`, `aws:kms:dsse`, or `customer` with AWS_SSE_CUSTOMER_KEY",
        ),
        (&[S3], "sse_kms_key_id", "the key for `aws:kms`"),
        (
            &[S3],
            "checksum",
            "`sha256` to have the store check a checksum, which object lock asks for",
        ),
        (
            &[Sftp],
            "known_hosts_file",
            "the file that tells the server's key; needed",
        ),
        (
            &[Sftp],
            "private_key_file",
            "the file with our key, instead of SFTP_PRIVATE_KEY_FILE",
        ),
    ]
};

/// A text is not an address. Says why, and never repeats what might be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown} is not the address of a repository: {reason}")]
pub struct ParseAddressError {
    shown: String,
    reason: String,
}

impl StoreAddress {
    /// Parses the text of an address. A text without a scheme is a directory.
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        match text.split_once(':') {
            Some((scheme, _)) if is_scheme(scheme) => Self::parse_url(text, scheme),
            _ if text.is_empty() => Err(refuse("the text", "it is empty")),
            _ => Ok(Self::local(text)),
        }
    }

    /// The address of a directory of this host.
    pub fn local(directory: impl Into<PathBuf>) -> Self {
        Self {
            path: directory.into().to_string_lossy().into_owned(),
            ..Self::bare(StoreKind::Local)
        }
    }

    fn bare(kind: StoreKind) -> Self {
        Self {
            kind,
            host: String::new(),
            account: None,
            port: None,
            path: String::new(),
            parameters: BTreeMap::new(),
        }
    }

    fn parse_url(text: &str, scheme: &str) -> Result<Self, ParseAddressError> {
        let shown = format!("an address that begins with {scheme}:");
        let kind = match scheme {
            "file" => StoreKind::Local,
            "memory" => StoreKind::Memory,
            "s3" => StoreKind::S3,
            "azure" | "az" => StoreKind::Azure,
            "gs" | "gcs" => StoreKind::Gcs,
            "sftp" => StoreKind::Sftp,
            _ => {
                return Err(refuse(
                    &shown,
                    "the schemes are file, s3, azure, gs, sftp and memory",
                ));
            }
        };
        if kind == StoreKind::Memory {
            return Ok(Self::bare(kind));
        }
        let url = Url::parse(text).map_err(|error| refuse(&shown, error.to_string()))?;
        if url.password().is_some() || (kind != StoreKind::Sftp && !url.username().is_empty()) {
            return Err(refuse(
                &shown,
                "a user or password in it would be seen by everybody; secrets belong into the credentials",
            ));
        }
        if url.fragment().is_some() {
            return Err(refuse(&shown, "it has a fragment (#…)"));
        }
        let mut address = Self::bare(kind);
        address.parameters = parameters(&url, kind, &shown)?;
        url.host_str()
            .unwrap_or_default()
            .clone_into(&mut address.host);
        address.port = url.port();
        address.path = decode(url.path(), &shown)?;
        if !url.username().is_empty() {
            address.account = Some(decode(url.username(), &shown)?);
        }
        address.checked(&shown)
    }

    /// Takes the URL's parts apart as this kind of store needs them.
    fn checked(mut self, shown: &str) -> Result<Self, ParseAddressError> {
        match self.kind {
            StoreKind::Local => {
                if !self.host.is_empty() && self.host != "localhost" {
                    return Err(refuse(shown, "a file is on this host: write file:///PATH"));
                }
                self.host.clear();
                return Ok(self);
            }
            StoreKind::Sftp => {
                if self.account.is_none() || self.host.is_empty() {
                    return Err(refuse(
                        shown,
                        "it needs a user and a host: sftp://USER@HOST/PATH",
                    ));
                }
                return Ok(self);
            }
            StoreKind::Memory | StoreKind::S3 | StoreKind::Azure | StoreKind::Gcs => {}
        }
        if self.port.is_some() {
            return Err(refuse(
                shown,
                "a bucket has no port; a server of one's own is a parameter: ?endpoint=https://HOST:PORT",
            ));
        }
        self.path = String::from(self.path.trim_matches('/'));
        if self.kind == StoreKind::Azure {
            let (container, prefix) = match self.path.split_once('/') {
                Some((container, prefix)) => (container.to_owned(), prefix.to_owned()),
                None => (self.path.clone(), String::new()),
            };
            self.account = Some(std::mem::replace(&mut self.host, container));
            self.path = prefix;
        }
        if self.host.is_empty() || self.account.as_deref() == Some("") {
            let form = match self.kind {
                StoreKind::Azure => "azure://ACCOUNT/CONTAINER/PREFIX",
                StoreKind::Gcs => "gs://BUCKET/PREFIX",
                _ => "s3://BUCKET/PREFIX",
            };
            return Err(refuse(shown, format!("it is not of the form {form}")));
        }
        if self.path.split('/').any(|part| matches!(part, "." | ".."))
            || (!self.path.is_empty() && self.path.split('/').any(str::is_empty))
        {
            return Err(refuse(shown, "its prefix has an empty part, `.` or `..`"));
        }
        Ok(self)
    }

    /// What kind of store it is.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The directory of a local address.
    pub fn directory(&self) -> Option<PathBuf> {
        (self.kind == StoreKind::Local).then(|| PathBuf::from(&self.path))
    }

    #[cfg_attr(
        not(any(feature = "cloud", feature = "sftp")),
        allow(dead_code, reason = "only far stores have one")
    )]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    #[cfg_attr(
        not(any(feature = "cloud", feature = "sftp")),
        allow(dead_code, reason = "only far stores have one")
    )]
    pub(crate) fn account(&self) -> &str {
        self.account.as_deref().unwrap_or_default()
    }

    #[cfg_attr(not(feature = "sftp"), allow(dead_code, reason = "only SFTP has one"))]
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    #[cfg_attr(
        not(any(feature = "cloud", feature = "sftp")),
        allow(dead_code, reason = "only far stores have one")
    )]
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    #[cfg_attr(
        not(any(feature = "cloud", feature = "sftp")),
        allow(dead_code, reason = "only far stores have any")
    )]
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn refuse(shown: &str, reason: impl Into<String>) -> ParseAddressError {
    ParseAddressError {
        shown: shown.to_owned(),
        reason: reason.into(),
    }
}

fn decode(text: &str, shown: &str) -> Result<String, ParseAddressError> {
    // `form_urlencoded` would take a plus for a space, so it is kept from seeing one.
    let text = text.replace('+', "%2B");
    let decoded = url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default();
    if decoded.contains('\u{fffd}') || decoded.chars().any(char::is_control) {
        return Err(refuse(shown, "it has bytes that are not text"));
    }
    Ok(decoded)
}

fn parameters(
    url: &Url,
    kind: StoreKind,
    shown: &str,
) -> Result<BTreeMap<&'static str, String>, ParseAddressError> {
    let mut found = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        let known = PARAMETERS
            .iter()
            .find(|(kinds, known, _)| kinds.contains(&kind) && *known == name);
        let Some((_, known, _)) = known else {
            let names: Vec<_> = PARAMETERS
                .iter()
                .filter(|(kinds, ..)| kinds.contains(&kind))
                .map(|(_, name, _)| *name)
                .collect();
            let name: String = name.chars().take(40).filter(|c| !c.is_control()).collect();
            return Err(refuse(
                shown,
                format!("`{name}` is none of its parameters ({})", names.join(", ")),
            ));
        };
        if found.insert(*known, value.into_owned()).is_some() {
            return Err(refuse(shown, format!("`{known}` is given twice")));
        }
    }
    Ok(found)
}

impl FromStr for StoreAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The address as it can be parsed again.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text: &str| -> String {
            let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            encoded
                .replace('+', "%20")
                .replace("%2F", "/")
                .replace("%3A", ":")
        };
        match self.kind {
            StoreKind::Local => return f.write_str(&self.path),
            StoreKind::Memory => return f.write_str("memory:"),
            StoreKind::S3 => write!(f, "s3://{}", self.host)?,
            StoreKind::Gcs => write!(f, "gs://{}", self.host)?,
            StoreKind::Azure => write!(f, "azure://{}/{}", self.account(), self.host)?,
            StoreKind::Sftp => write!(f, "sftp://{}@{}", encode(self.account()), self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if !self.path.is_empty() {
            let slash = if self.path.starts_with('/') { "" } else { "/" };
            write!(f, "{slash}{}", encode(&self.path))?;
        }
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            write!(
                f,
                "{}{name}={}",
                if index == 0 { '?' } else { '&' },
                encode(value)
            )?;
        }
        Ok(())
    }
}

impl Serialize for StoreAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let s3 = StoreAddress::parse("s3://b/a/c?region=eu-west-1&endpoint=http://h:1").unwrap();
        assert_eq!(
            (s3.kind(), s3.host(), s3.path()),
            (StoreKind::S3, "b", "a/c")
        );
        assert_eq!(s3.parameter("endpoint"), Some("http://h:1"));
        let azure = StoreAddress::parse("azure://account/container/x/y").unwrap();
        assert_eq!(
            (azure.account(), azure.host(), azure.path()),
            ("account", "container", "x/y")
        );
        let sftp = StoreAddress::parse("sftp://me@host:2222/srv/pgm%20x").unwrap();
        assert_eq!(
            (sftp.account(), sftp.host(), sftp.port(), sftp.path()),
            ("me", "host", Some(2222), "/srv/pgm x")
        );
        for text in ["/backup", "./backup", "backup", "file:///backup"] {
            let local = StoreAddress::parse(text).unwrap();
            assert!(local.directory().unwrap().ends_with("backup"), "{text}");
        }
        assert_eq!(
            StoreAddress::parse("memory:").unwrap().kind(),
            StoreKind::Memory
        );
    }

    #[test]
    fn an_address_is_shown_as_it_can_be_parsed_again() {
        for text in [
            "/back up",
            "s3://b",
            "s3://b/p/q?endpoint=https://h:9000/x&region=r",
            "azure://account/container/p",
            "gs://b/p",
            "sftp://me@host:22/srv/pg%20m?known_hosts_file=/etc/k",
            "memory:",
        ] {
            let address = StoreAddress::parse(text).unwrap();
            assert_eq!(
                StoreAddress::parse(&address.to_string()).unwrap(),
                address,
                "{text} is shown as {address}"
            );
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hunter2@bucket/x",
            "sftp://me:hunter2@host/x",
            "s3://bucket/x?secret_access_key=hunter2",
            "gopher:hunter2",
        ] {
            let error = StoreAddress::parse(text).unwrap_err().to_string();
            assert!(
                !error.contains("hunter2") && !error.contains("AKIA"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, word) in [
            ("s3://", "s3://BUCKET"),
            ("azure://account", "CONTAINER"),
            ("sftp://host/x", "USER@HOST"),
            ("s3://bucket:9000/x", "endpoint"),
            ("s3://bucket/x?regoin=a", "region"),
            ("file://elsewhere/x", "this host"),
            ("s3://bucket/a/../b", "prefix"),
            ("", "empty"),
        ] {
            match StoreAddress::parse(text) {
                Err(error) => assert!(error.to_string().contains(word), "{text}: {error}"),
                // `..` may be resolved by the parser of URLs: then it is gone.
                Ok(address) => assert!(!address.to_string().contains(".."), "{address}"),
            }
        }
    }
}
