//! What can be wrong with a store across the network, by what a person can do about it.

use std::fmt;
use std::io;

/// The kind of trouble with a store across the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteProblem {
    /// It does not know who we are.
    Unauthenticated,
    /// It knows us and does not let us.
    Denied,
    /// Its clock and ours differ too much for a signature to hold.
    ClockSkew,
    /// There is no such bucket or container.
    BucketMissing,
    /// The bucket is in another region.
    WrongRegion,
    /// Its name is unknown, or nobody answers there.
    Unreachable,
    /// Its certificate is not one that we trust.
    Certificate,
    /// Its SSH key is not the known one.
    HostKey,
    /// It did not answer in time.
    TimedOut,
    /// It is overloaded or broken, and said so again and again.
    Unavailable,
    /// The object was replaced or removed while it was read.
    Changed,
    /// It does not know how to do what we ask.
    Unsupported,
    /// The address or the credentials are not complete or not understood.
    Settings,
    /// Something else.
    Other,
}

/// What a store or the network said: one line, bounded, without signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteMessage(String);

/// The longest message that is kept.
const MESSAGE_CHARS_MAX: usize = 800;

/// Parts of URLs and headers behind which a secret stands.
const SECRET_MARKS: [&str; 8] = [
    "sig=",
    "X-Amz-Signature=",
    "X-Amz-Credential=",
    "X-Amz-Security-Token=",
    "X-Goog-Signature=",
    "Bearer ",
    "SharedKey ",
    "Signature=",
];

impl RemoteMessage {
    /// The messages of `error` and its causes, each once.
    #[cfg(any(feature = "cloud", feature = "sftp"))]
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        Self::new(&text)
    }

    /// Makes `text` one line that may be shown.
    pub fn new(text: &str) -> Self {
        let mut clean = String::new();
        let mut rest = text;
        while let Some((at, mark)) = next_secret(rest) {
            clean.push_str(&rest[..at + mark.len()]);
            clean.push_str("***");
            rest = &rest[at + mark.len()..];
            let end = rest
                .find(|c: char| c == '&' || c == ',' || c == '"' || c.is_whitespace())
                .unwrap_or(rest.len());
            rest = &rest[end..];
        }
        clean.push_str(rest);
        let line: String = clean
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MESSAGE_CHARS_MAX)
            .collect();
        Self(line)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn next_secret(text: &str) -> Option<(usize, &'static str)> {
    SECRET_MARKS
        .iter()
        .filter_map(|mark| text.find(mark).map(|at| (at, *mark)))
        .min_by_key(|(at, _)| *at)
}

impl RemoteProblem {
    /// The next thing to do, for a person.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Unauthenticated => {
                "give pgm valid credentials for this store (key and secret, token, private key), or renew those that ran out"
            }
            Self::Denied => {
                "let these credentials read, write, list and delete in the bucket below the prefix (S3: s3:GetObject, \
                 s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket)"
            }
            Self::ClockSkew => {
                "set this host's clock (NTP): the store refuses signatures that are minutes off"
            }
            Self::BucketMissing => {
                "make the bucket or container, or correct its name in the repository's address; pgm makes none by itself"
            }
            Self::WrongRegion => {
                "name the bucket's region in the repository's address: s3://BUCKET/PREFIX?region=REGION"
            }
            Self::Unreachable => {
                "check the endpoint or host in the repository's address, name resolution, proxies and firewalls between \
                 here and the store"
            }
            Self::Certificate => {
                "if the store has a certificate of your own authority, name that authority's file in the address \
                 (ca_file=…); verification is never switched off"
            }
            Self::HostKey => {
                "compare the server's key with what its administrator says (ssh-keyscan HOST), then put it into the \
                 known_hosts file that the address names"
            }
            Self::TimedOut => {
                "the store or the network is slow: the operation can be repeated; a larger timeout=SECONDS in the \
                 address gives slow lines more time"
            }
            Self::Unavailable => {
                "the store has trouble of its own: the operation can be repeated later"
            }
            Self::Changed => {
                "somebody else changed the repository meanwhile (a backup that was deleted?): repeat the operation"
            }
            Self::Unsupported => {
                "this store lacks something that pgm needs to write safely, such as conditional requests"
            }
            Self::Settings => {
                "correct the repository's address or credentials; the manual lists what each store needs"
            }
            Self::Other => {
                "the operation can be repeated; if it fails again, look at what the store logged"
            }
        }
    }

    pub(crate) fn kind(self) -> io::ErrorKind {
        match self {
            Self::Unauthenticated | Self::Denied => io::ErrorKind::PermissionDenied,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::Unreachable => io::ErrorKind::NotConnected,
            Self::Settings => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for RemoteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unauthenticated => "the store does not accept the credentials",
            Self::Denied => "the store denies access",
            Self::ClockSkew => "the store's clock and this host's differ too much",
            Self::BucketMissing => "the bucket does not exist",
            Self::WrongRegion => "the bucket is in another region",
            Self::Unreachable => "the store cannot be reached",
            Self::Certificate => "the store's certificate is not trusted",
            Self::HostKey => "the server's key is not the known one",
            Self::TimedOut => "the store did not answer in time",
            Self::Unavailable => "the store is unavailable",
            Self::Changed => "the object changed meanwhile",
            Self::Unsupported => "the store cannot do that",
            Self::Settings => "the settings are not sufficient",
            Self::Other => "the store reports an error",
        })
    }
}

impl fmt::Display for RemoteMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::error::Error for RemoteMessage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_short_line_without_signatures() {
        let text = "GET https://a.blob/x?comp=list&sig=s%2Fecret&se=1\n\u{1b}[31m Authorization: SharedKey a:topsecret, x";
        let message = RemoteMessage::new(text).to_string();
        assert!(
            !message.contains("ecret") && !message.contains('\n'),
            "{message}"
        );
        assert!(message.contains("sig=***&se=1"), "{message}");
        assert!(RemoteMessage::new(&"x".repeat(5000)).as_str().len() <= MESSAGE_CHARS_MAX);
    }
}
