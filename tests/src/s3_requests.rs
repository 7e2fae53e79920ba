//! Requests to S3, counted by what they ask for: as a bill would, from the requests alone.

use std::collections::BTreeMap;
use std::fmt;

use pgm_storage::Operation;

/// Numbers of requests by [`Operation::name`]; kinds that never came are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<&'static str, u64>);

impl Requests {
    /// Counts a request by its method and the path with the query.
    pub(crate) fn count(&mut self, method: &str, target: &str) {
        let operation = operation(method, target);
        *self.0.entry(operation.name()).or_default() += 1;
    }

    /// The requests of one kind.
    pub fn of(&self, operation: Operation) -> u64 {
        self.0.get(operation.name()).copied().unwrap_or(0)
    }

    /// The requests of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let more = self.0.iter().map(|(name, count)| {
            let before = earlier.0.get(name).copied().unwrap_or(0);
            (*name, count - before)
        });
        Self(more.filter(|(_, count)| *count > 0).collect())
    }
}

/// Such as `3 get, 1 put`.
impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self
            .0
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        f.write_str(&kinds.join(", "))
    }
}

fn operation(method: &str, target: &str) -> Operation {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let asks = |name: &str| {
        let mut names = query.split('&').map(|pair| pair.split('=').next());
        names.any(|asked| asked == Some(name))
    };
    match method {
        "PUT" if asks("partNumber") => Operation::PutPart,
        "PUT" => Operation::Put,
        "POST" | "DELETE" if asks("uploadId") || asks("uploads") => Operation::Multipart,
        "POST" if asks("delete") => Operation::Delete,
        "DELETE" => Operation::Delete,
        "GET" if asks("list-type") => Operation::List,
        "GET" => Operation::Get,
        "HEAD" => Operation::Head,
        _ => Operation::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_method_and_query() {
        let mut seen = Requests::default();
        for (method, target) in [
            ("PUT", "/pgm/a/b"),
            ("PUT", "/pgm/a/b?partNumber=1&uploadId=x"),
            ("POST", "/pgm/a/b?uploads"),
            ("POST", "/pgm/a/b?uploadId=x"),
            ("DELETE", "/pgm/a/b?uploadId=x"),
            ("DELETE", "/pgm/a/b"),
            ("GET", "/pgm/a/b"),
            ("GET", "/pgm?list-type=2&prefix=a%2F"),
            ("HEAD", "/pgm/a/b"),
        ] {
            seen.count(method, target);
        }
        let text = "1 delete, 1 get, 1 head, 1 list, 3 multipart, 1 put, 1 put_part";
        assert_eq!(seen.to_string(), text);
        assert_eq!(seen.total(), 9);
        assert_eq!(seen.since(&seen).total(), 0);
    }
}
