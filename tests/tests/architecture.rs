//! What ARCHITECTURE.md and the house style say about the source, as far as it can be checked.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 5] = [
    "pgm-proto",
    "pgm-storage",
    "pgm-wal",
    "pgm-backup",
    "pgm-mgmt",
];
const PROGRAMS: [&str; 2] = ["pgmd", "pgm-cli"];
/// Lines of a file without its tests: a noun that needs more is two.
const LINES_MAX: usize = 550;

struct Source {
    path: PathBuf,
    /// Without the tests at the end.
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources(members: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for member in members {
        collect(&root().join(member).join("src"), &mut found);
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            let text = fs::read_to_string(&path).unwrap();
            let tests = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
            found.push(Source {
                text: text[..tests].to_owned(),
                path,
            });
        }
    }
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    name.ends_with("tests") || path.components().any(|part| part.as_os_str() == "tests")
}

/// Fails with every line of `sources` that holds one of `words`, comments aside.
fn nobody_says(sources: &[Source], words: &[&str], allowed: impl Fn(&Path) -> bool) {
    let mut sinners = Vec::new();
    for Source { path, text } in sources {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if words.iter().any(|word| code.contains(word)) && !allowed(path) {
                sinners.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(sinners.is_empty(), "{}", sinners.join("\n"));
}

#[test]
fn libraries_read_no_environment_and_print_nothing() {
    let words = [
        "std::env::",
        "env::var",
        "println!",
        "eprintln!",
        "is_terminal",
        "home_dir",
    ];
    nobody_says(&sources(&LIBRARIES), &words, |_| false);
}

#[test]
fn only_few_start_processes() {
    let everything: Vec<&str> = LIBRARIES.iter().chain(&PROGRAMS).copied().collect();
    nobody_says(
        &sources(&everything),
        &["Command::new", "process::Command"],
        |path| {
            let path = path.to_string_lossy();
            // A trial's server belongs to whoever tries the backup: the job's worker, or pgm-cli without a daemon.
            path.contains("pgmd/src/supervisor/")
                || path.contains("pgmd/src/trial/")
                // What is fetched ahead is fetched while PostgreSQL replays, which it does only when the call has ended.
                || path.ends_with("pgm-cli/src/command/wal_get/reader.rs")
        },
    );
}

#[test]
fn unsafe_code_is_at_shared_memory_checksum_instructions_and_one_system_call() {
    let everything: Vec<&str> = LIBRARIES.iter().chain(&PROGRAMS).copied().collect();
    nobody_says(
        &sources(&everything),
        &["unsafe {", "unsafe fn", "unsafe impl"],
        |path| {
            path.ends_with("pgmd/src/shared_state.rs")
                || path.ends_with("pgm-wal/src/record/checksum.rs")
                || path.ends_with("pgm-backup/src/backup/page/checksum.rs")
                || path.ends_with("pgmd/src/worker/courtesy.rs")
        },
    );
}

#[test]
fn storage_knows_nothing_of_postgresql_and_libraries_need_no_runtime() {
    nobody_says(
        &sources(&["pgm-storage", "pgm-mgmt"]),
        &["pgm_wal", "pgm_backup"],
        |_| false,
    );
    // The libraries that speak HTTP and SSH have one, on a thread of their own that nobody sees.
    nobody_says(&sources(&LIBRARIES), &["tokio"], |path| {
        let path = path.to_string_lossy();
        ["src/cloud/", "src/sftp/", "src/runtime.rs"]
            .iter()
            .any(|part| path.contains(&format!("pgm-storage/{part}")))
    });
    let manifest = fs::read_to_string(root().join("pgm-storage/Cargo.toml")).unwrap();
    assert!(
        !manifest.contains("pgm-proto"),
        "pgm-storage stands below pgm-proto"
    );
}

#[test]
fn every_file_says_what_it_is_for_and_is_short_enough_to_read() {
    let everything: Vec<&str> = LIBRARIES.iter().chain(&PROGRAMS).copied().collect();
    for Source { path, text } in sources(&everything) {
        assert!(
            text.starts_with("//!"),
            "{} does not open with what it is for",
            path.display()
        );
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["util", "utils", "common", "helpers", "misc"].contains(&name.as_str()),
            "{name}"
        );
    }
}
