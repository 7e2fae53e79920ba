//! `docs/management.md` names everything that can be said over a management connection.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn source(file: &str) -> String {
    fs::read_to_string(root().join("pgm-mgmt/src").join(file)).unwrap()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/management.md")).unwrap()
}

/// The variants of `pub enum NAME` in a source file that is formatted as rustfmt does it.
fn variants(file: &str, name: &str) -> Vec<String> {
    let source = source(file);
    let begin = format!("pub enum {name} {{\n");
    let (_, body) = source.split_once(&begin).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let variants: Vec<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .map(|line| {
            let end = line.find(|letter: char| !letter.is_alphanumeric());
            line[..end.unwrap_or(line.len())].to_owned()
        })
        .collect();
    assert!(variants.len() > 1, "{name} was not found in {file}");
    variants
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Whether `name` begins a piece of code on the page.
fn is_named(page: &str, name: &str) -> bool {
    page.match_indices(&format!("`{name}")).any(|(at, found)| {
        let next = page[at + found.len()..].chars().next();
        next.is_some_and(|letter| !letter.is_alphanumeric() && letter != '_')
    })
}

fn missing(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let page = page();
    names
        .into_iter()
        .filter(|name| !is_named(&page, name))
        .collect()
}

#[test]
fn every_request_response_and_event_is_on_the_page() {
    for (file, name) in [
        ("request.rs", "Request"),
        ("response.rs", "Response"),
        ("event.rs", "Event"),
    ] {
        let missing = missing(variants(file, name));
        assert!(
            missing.is_empty(),
            "docs/management.md does not name these of {name}: {missing:?}"
        );
    }
}

#[test]
fn every_error_code_and_state_is_on_the_page() {
    for (file, name) in [
        ("error_code.rs", "ErrorCode"),
        ("jobs.rs", "JobState"),
        ("response.rs", "ServerState"),
        ("role.rs", "Role"),
    ] {
        let names = variants(file, name);
        let missing = missing(names.iter().map(|name| snake_case(name)));
        assert!(
            missing.is_empty(),
            "docs/management.md does not name these of {name}: {missing:?}"
        );
    }
}

#[test]
fn a_name_that_is_a_part_of_another_does_not_count() {
    assert!(is_named("| `Job(job)` |", "Job"));
    assert!(is_named("`cancelled`", "cancelled"));
    assert!(!is_named("`Jobs((jobs))`", "Job"));
    assert!(!is_named("Job `x`", "Job"));
}
