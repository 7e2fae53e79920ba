//! What each kind of value reads, refuses, and prints.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Zoned;
use pgm_storage::Compression;
use proptest::prelude::*;

use super::*;

fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/ann".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn surroundings() -> Surroundings<'static> {
    Surroundings {
        folder: Path::new("/base"),
        environment,
    }
}

fn typed<T: Value>(text: &str) -> Result<T, Wrong> {
    T::read(&T::KIND.form.literal(text), &surroundings())
}

/// The error as a person sees it after the setting's name.
fn complaint<T: Value + std::fmt::Debug>(text: &str) -> String {
    typed::<T>(text).unwrap_err().text
}

#[test]
fn durations_have_units() {
    for (text, milliseconds, canonical) in [
        ("10", 10_000, "10s"),
        ("10s", 10_000, "10s"),
        ("500ms", 500, "500ms"),
        ("5min", 300_000, "5min"),
        ("5 m", 300_000, "5min"),
        ("2h", 7_200_000, "2h"),
        ("1d", 86_400_000, "1d"),
        ("2w", 14 * 86_400_000, "14d"),
        ("1h 30min", 5_400_000, "90min"),
        ("0", 0, "0"),
        ("0s", 0, "0"),
    ] {
        let duration = typed::<Duration>(text).unwrap();
        assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
        assert_eq!(duration.text(), canonical);
    }
    for text in ["", " ", "s", "10x", "-1s", "1.5h", "10 10s", "5 minutes"] {
        let complaint = complaint::<Duration>(text);
        assert!(
            complaint.starts_with(" is a duration such as"),
            "{text}: {complaint}"
        );
    }
    assert!(complaint::<Duration>("99999999999999999d").contains("too long"));
    assert!(complaint::<Duration>("18446744073709551615").contains("too long"));
}

#[test]
fn sizes_have_units_of_1024() {
    for (text, bytes, canonical) in [
        ("512", 512, "512"),
        ("512k", 512 << 10, "512KiB"),
        ("16MiB", 16 << 20, "16MiB"),
        ("1GB", 1 << 30, "1GiB"),
        ("2 tib", 2 << 40, "2TiB"),
        ("1024kb", 1 << 20, "1MiB"),
        ("7b", 7, "7"),
        ("0", 0, "0"),
    ] {
        let size = typed::<ByteSize>(text).unwrap();
        assert_eq!(size, ByteSize::new(bytes), "{text}");
        assert_eq!(size.text(), canonical);
    }
    for text in ["", "MiB", "1 XB", "1.5G", "-1", "1GiBs"] {
        let complaint = complaint::<ByteSize>(text);
        assert!(
            complaint.starts_with(" is a size such as"),
            "{text}: {complaint}"
        );
    }
    assert!(complaint::<ByteSize>("16384PiB").contains("too large"));
}

#[test]
fn paths_start_at_the_base_directory_and_hold_variables() {
    for (text, path) in [
        ("spool", "/base/spool"),
        ("/mnt/spool", "/mnt/spool"),
        ("$HOME/spool", "/home/ann/spool"),
        ("${HOME}spool", "/home/annspool"),
        ("a$$b", "/base/a$b"),
    ] {
        let read = typed::<PathBuf>(text).unwrap();
        assert_eq!(read, Path::new(path), "{text}");
        assert_eq!(typed::<PathBuf>(&read.text()).unwrap(), read);
    }
    for (text, expected) in [
        (
            "$NOWHERE/x",
            ": the environment variable NOWHERE is not set",
        ),
        ("$EMPTY/x", ": the environment variable EMPTY is not set"),
        ("$/x", ": no variable's name follows `$` in $/x"),
        ("${HOME/x", ": no variable's name follows `$` in ${HOME/x"),
        ("$1", ": no variable's name follows `$` in $1"),
        ("~/x", ": `~` is not expanded in ~/x"),
        ("", ": it is empty"),
    ] {
        assert_eq!(complaint::<PathBuf>(text), expected, "{text}");
    }
}

#[test]
fn a_path_can_hold_a_time() {
    let path = typed::<PathTemplate>("log/pgmd-%Y%m%d.log").unwrap();
    let time: Zoned = "2026-11-22T02:34:56[UTC]".parse().unwrap();
    assert_eq!(path.at(&time), Path::new("/base/log/pgmd-20261122.log"));
    assert!(typed::<PathTemplate>("pgmd-%!.log").is_err());
}

#[test]
fn a_key_comes_from_a_file_a_command_or_the_environment() {
    for (text, source) in [
        (
            "master.key",
            MasterKeySource::File("/base/master.key".into()),
        ),
        (
            "command: pass show pgm",
            MasterKeySource::Command("pass show pgm".to_owned()),
        ),
        (
            "env:PGM_KEY",
            MasterKeySource::Environment("PGM_KEY".to_owned()),
        ),
    ] {
        let read = typed::<MasterKeySource>(text).unwrap();
        assert_eq!(read, source);
        assert_eq!(typed::<MasterKeySource>(&read.text()).unwrap(), read);
    }
    assert!(typed::<MasterKeySource>("command: ").is_err());
    assert!(typed::<MasterKeySource>("env: A=B").is_err());
}

#[test]
fn a_command_is_words_or_a_line_for_the_shell() {
    let words = typed::<HookCommand>(r#"["/usr/bin/logger", "a \"b\""]"#).unwrap();
    let expected = ["/usr/bin/logger", "a \"b\""].map(str::to_owned).to_vec();
    assert_eq!(words, HookCommand::Words(expected));
    assert_eq!(typed::<HookCommand>(&words.text()).unwrap(), words);
    let line = typed::<HookCommand>("[ -e /x ] && logger x").unwrap();
    assert_eq!(line, HookCommand::Shell("[ -e /x ] && logger x".to_owned()));
    assert!(typed::<HookCommand>("[]").is_err());
    assert!(typed::<HookCommand>("  ").is_err());
}

#[test]
fn no_value_is_none() {
    assert_eq!(typed::<Option<HookCommand>>("none").unwrap(), None);
    assert_eq!(typed::<Option<PathBuf>>("None").unwrap(), None);
    assert_eq!(typed::<Compression>("none").unwrap().text(), "none");
}

#[test]
fn a_password_is_not_shown() {
    let conninfo = typed::<ConninfoText>("postgresql://u:geheim@h/db").unwrap();
    let shown = conninfo.shown().unwrap();
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(shown.contains("password=***"), "{shown}");
    assert!(!format!("{conninfo:?}").contains("geheim"));
    assert_eq!(conninfo.expose(), "postgresql://u:geheim@h/db");
}

/// What is read has a text that reads back to the same.
fn reads_back<T: Value + std::fmt::Debug>(text: &str) -> Result<(), TestCaseError> {
    if let Ok(value) = typed::<T>(text) {
        prop_assert_eq!(typed::<T>(&value.text()), Ok(value));
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_text_is_read_or_refused_and_reads_back(text in "\\PC{0,12}|[0-9]{1,22} ?[a-zA-Z]{0,3}") {
        reads_back::<Duration>(&text)?;
        reads_back::<ByteSize>(&text)?;
        reads_back::<PathBuf>(&text)?;
        reads_back::<PathTemplate>(&text)?;
        reads_back::<MasterKeySource>(&text)?;
        reads_back::<Option<HookCommand>>(&text)?;
        reads_back::<usize>(&text)?;
        reads_back::<u16>(&text)?;
        reads_back::<LogLevel>(&text)?;
        reads_back::<ConninfoText>(&text)?;
    }

    #[test]
    fn durations_and_sizes_print_what_they_are(number: u32, words in proptest::collection::vec("[^\\x00]{0,6}", 1..4)) {
        let duration = Duration::from_millis(number.into());
        prop_assert_eq!(typed::<Duration>(&duration.text()), Ok(duration));
        let size = ByteSize::new(u64::from(number) << (number % 30));
        prop_assert_eq!(typed::<ByteSize>(&size.text()), Ok(size));
        let command = HookCommand::Words(words);
        if let Ok(read) = typed::<HookCommand>(&command.text()) {
            prop_assert_eq!(read, command);
        }
    }
}

#[test]
fn sources_read_back() {
    for text in ["/etc/pgm/key", "env:PGM_KEY", "command:pass show pgm"] {
        assert_eq!(text.parse::<MasterKeySource>().unwrap().to_string(), text);
    }
    for bad in ["", "env:", "env:A B", "command: "] {
        assert!(bad.parse::<MasterKeySource>().is_err(), "{bad}");
    }
}
