//! Which files hold a text: for secrets that must rest nowhere.

use std::fs;
use std::path::Path;

/// Every file below `folder` that holds `text`. The folder must be there: nothing is in one that is not.
pub fn holders(folder: &Path, text: &str) -> Vec<String> {
    assert!(folder.is_dir(), "{} is no folder", folder.display());
    below(folder, text)
}

fn below(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path, text));
        } else if fs::read(&path).is_ok_and(|bytes| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        }) {
            found.push(path.display().to_string());
        }
    }
    found
}
