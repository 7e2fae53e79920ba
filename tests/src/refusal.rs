//! What a refusal looks like: the right exit status, one clear message, one hint.

use serde_json::Value;

use crate::process::Run;

/// Fails the test unless the command ended with `status`, said all of `words` (in whatever letters) in one message, and
/// gave one hint; returns the message.
pub fn refusal(run: &Run, status: i32, words: &[&str]) -> String {
    let said = format!("exit status {}\n{}{}", run.status, run.stdout, run.stderr);
    assert_eq!(run.status, status, "{said}");
    for word in words {
        assert!(says(&run.stderr, word), "{word:?} is not in: {said}");
    }
    let (hints, others): (Vec<&str>, Vec<&str>) = run
        .stderr
        .lines()
        .partition(|line| line.starts_with("HINT: "));
    assert!(
        hints.len() == 1 && others.len() == 1,
        "not one message and one hint: {said}"
    );
    assert!(hints[0].len() > "HINT: x".len(), "{said}");
    let message = others[0].trim_start_matches("pgmd: ");
    message.trim_start_matches("pgm-cli: error: ").to_owned()
}

/// Fails the test unless a command with `--format json` ended with `status` and printed a document with an error and a
/// hint; returns the error's text.
pub fn refusal_in_json(run: &Run, status: i32) -> String {
    let said = format!("exit status {}\n{}{}", run.status, run.stdout, run.stderr);
    assert_eq!(run.status, status, "{said}");
    let document: Value = serde_json::from_str(&run.stdout)
        .unwrap_or_else(|error| panic!("no JSON ({error}): {said}"));
    let error = &document["error"];
    assert!(error["hint"].is_string(), "{said}");
    let text = error["text"].as_str();
    text.unwrap_or_else(|| panic!("no text: {said}")).to_owned()
}

/// Whether `text` has `word` in it, in whatever letters.
pub fn says(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(&word.to_lowercase())
}
