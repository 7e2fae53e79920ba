//! The `restore_command` of restored servers.
//!
//! It names program, repository and spool outright, so that a restored server recovers without pgmd and without its
//! configuration.

use std::path::{Path, PathBuf};

use pgm_proto::ServerName;

/// The name of the command line's program.
const PROGRAM: &str = "pgm-cli";

/// A `restore_command` that runs `program`.
pub fn restore_command(
    program: &Path,
    repository: &Path,
    spool: &Path,
    server: &ServerName,
) -> String {
    format!(
        "{} wal get --repository {} --spool {} {server} %f \"%p\"",
        quoted(program),
        quoted(repository),
        quoted(spool),
    )
}

/// The `pgm-cli` beside the program that runs, else the one that `PATH` finds.
pub fn program_beside() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .map(|program| program.with_file_name(PROGRAM));
    beside
        .filter(|program| program.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}

/// A path as one word for the shell, safe from PostgreSQL's placeholders.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_each_whatever_is_in_them() {
        let command = restore_command(
            Path::new("/usr/bin/pgm-cli"),
            Path::new("/srv/50% of it's"),
            Path::new("/spool/prod"),
            &"prod".parse().unwrap(),
        );
        assert_eq!(
            command,
            r#"/usr/bin/pgm-cli wal get --repository '/srv/50%% of it'\''s' --spool /spool/prod prod %f "%p""#
        );
    }
}
