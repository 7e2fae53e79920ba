//! What the store's library reports, sorted by what can be done about it.
//!
//! The stores' codes are looked for in the text of the answers, because that is where the library leaves them.

use object_store::client::{HttpError, HttpErrorKind};

use crate::error::StorageError;
use crate::remote_problem::{RemoteMessage, RemoteProblem};

/// Codes in an answer's body or text, and what they mean; the first that occurs counts.
const CODES: [(&str, RemoteProblem); 28] = {
    use RemoteProblem as P;
    [
        ("RequestTimeTooSkewed", P::ClockSkew),
        ("Request date header too old", P::ClockSkew),
        ("NoSuchBucket", P::BucketMissing),
        ("ContainerNotFound", P::BucketMissing),
        ("The specified bucket does not exist", P::BucketMissing),
        ("PermanentRedirect", P::WrongRegion),
        ("AuthorizationHeaderMalformed", P::WrongRegion),
        ("IllegalLocationConstraint", P::WrongRegion),
        ("Received redirect without LOCATION", P::WrongRegion),
        ("SignatureDoesNotMatch", P::Unauthenticated),
        ("InvalidAccessKeyId", P::Unauthenticated),
        ("AuthenticationFailed", P::Unauthenticated),
        ("Server failed to authenticate", P::Unauthenticated),
        ("ExpiredToken", P::Unauthenticated),
        ("InvalidToken", P::Unauthenticated),
        ("AccessDenied", P::Denied),
        ("AuthorizationPermissionMismatch", P::Denied),
        ("UnknownIssuer", P::Certificate),
        ("invalid peer certificate", P::Certificate),
        ("certificate", P::Certificate),
        ("NotImplemented", P::Unsupported),
        ("SlowDown", P::Unavailable),
        ("InternalError", P::Unavailable),
        ("ServerBusy", P::Unavailable),
        ("dns error", P::Unreachable),
        ("Connection refused", P::Unreachable),
        ("169.254.169.254", P::Unauthenticated),
        ("status code: 5", P::Unavailable),
    ]
};

/// Makes the store's error one of ours.
pub(super) fn sort(
    operation: &'static str,
    place: String,
    error: &object_store::Error,
) -> StorageError {
    use object_store::Error as E;
    let source = RemoteMessage::of(error);
    let known = known(&source);
    let problem = match error {
        E::NotFound { .. } if known != Some(RemoteProblem::BucketMissing) => {
            return StorageError::NotFound { path: place };
        }
        E::AlreadyExists { .. } => return StorageError::AlreadyExists { path: place },
        E::Precondition { .. } | E::NotModified { .. } => RemoteProblem::Changed,
        E::PermissionDenied { .. } => known.unwrap_or(RemoteProblem::Denied),
        E::Unauthenticated { .. } => known.unwrap_or(RemoteProblem::Unauthenticated),
        E::NotSupported { .. } | E::NotImplemented { .. } => RemoteProblem::Unsupported,
        E::UnknownConfigurationKey { .. } | E::InvalidPath { .. } => RemoteProblem::Settings,
        _ => known
            .or_else(|| of_the_network(error))
            .unwrap_or(RemoteProblem::Other),
    };
    StorageError::Remote {
        operation,
        path: place,
        problem,
        source,
    }
}

fn known(message: &RemoteMessage) -> Option<RemoteProblem> {
    CODES
        .iter()
        .find(|(code, _)| message.as_str().contains(code))
        .map(|(_, problem)| *problem)
}

/// What the HTTP client says, if it is in the chain of causes.
fn of_the_network(error: &object_store::Error) -> Option<RemoteProblem> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(match http.kind() {
                HttpErrorKind::Connect => RemoteProblem::Unreachable,
                HttpErrorKind::Timeout => RemoteProblem::TimedOut,
                _ => RemoteProblem::Unavailable,
            });
        }
        cause = error.source();
    }
    None
}

/// Whether the request may have been carried out although it failed.
pub(super) fn is_ambiguous(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::Remote {
            problem: RemoteProblem::TimedOut
                | RemoteProblem::Unavailable
                | RemoteProblem::Unreachable
                | RemoteProblem::Changed
                | RemoteProblem::Other,
            ..
        }
    )
}

/// Whether the store may be well again in a moment. What cannot be reached at all was tried long enough already.
pub(super) fn may_pass(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::Remote {
            problem: RemoteProblem::TimedOut | RemoteProblem::Unavailable,
            ..
        }
    )
}

/// Whether a range was asked of an object that has not that much; some stores answer as if nothing was asked.
pub(super) fn is_out_of_range(error: &StorageError) -> bool {
    let StorageError::Remote { source, .. } = error else {
        return false;
    };
    [
        "InvalidRange",
        "416",
        "Range Not Satisfiable",
        "non-partial response",
    ]
    .iter()
    .any(|mark| source.as_str().contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &'static str) -> StorageError {
        let error = object_store::Error::PermissionDenied {
            path: "x".into(),
            source: text.into(),
        };
        sort("read", "s3://b/x".into(), &error)
    }

    #[test]
    fn codes_become_problems_with_a_hint() {
        for (text, expected) in [
            (
                "<Code>RequestTimeTooSkewed</Code>",
                RemoteProblem::ClockSkew,
            ),
            (
                "<Code>SignatureDoesNotMatch</Code>",
                RemoteProblem::Unauthenticated,
            ),
            ("<Code>AccessDenied</Code>", RemoteProblem::Denied),
            ("<Code>Whatever</Code>", RemoteProblem::Denied),
        ] {
            let error = sorted(text);
            assert!(
                matches!(&error, StorageError::Remote { problem, .. } if *problem == expected),
                "{error}"
            );
            assert!(error.hint().is_some() && error.to_string().contains("s3://b/x"));
        }
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        let not_found = |text: &'static str| {
            let (path, source) = ("x".to_owned(), text.into());
            let error = object_store::Error::NotFound { path, source };
            sort("read", "s3://b/x".into(), &error).is_not_found()
        };
        assert!(not_found("<Code>NoSuchKey</Code>"));
        assert!(!not_found("<Code>NoSuchBucket</Code>"));
        assert!(!not_found("<Code>ContainerNotFound</Code>"));
    }
}
