//! The next action for each error.

use super::Error;

pub(super) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::NoHost { attempts } => attempts.iter().find_map(hint),
        Error::Server(source) => source.hint.clone(),
        _ => None,
    }
}
