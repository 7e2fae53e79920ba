//! The configuration that `pgm-cli init` writes: short, commented, and read back by a test.

use std::fmt::Write as _;

use pgm_proto::ServerName;

/// What a new configuration contains.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The servers: a name and a connection string each.
    pub servers: &'a [(ServerName, String)],
    /// The repository's path; relative ones start at the configuration's folder.
    pub repository: &'a str,
    /// The replication slot on each server.
    pub slot: &'a str,
}

/// A commented configuration for `servers`, with the defaults for everything else.
pub fn sample(servers: &[(ServerName, String)]) -> String {
    Sample {
        servers,
        repository: "repository",
        slot: "pgmd",
    }
    .text()
}

impl Sample<'_> {
    /// The text of the configuration.
    pub fn text(&self) -> String {
        let mut entries = String::new();
        for (name, conninfo) in self.servers {
            let _ = write!(
                entries,
                "        {name}: (\n            conninfo: {conninfo},\n            slot: {slot},\n            create_slot: true,\n        ),\n",
                name = quoted(name.as_str()),
                conninfo = quoted(conninfo),
                slot = quoted(self.slot),
            );
        }
        HEAD.replace("@REPOSITORY@", &quoted(self.repository)) + &entries + TAIL
    }
}

/// `text` as a RON string, with no more escapes than it needs.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

const HEAD: &str = "\
// pgmd's configuration (RON). Check it with: pgmd --check-config -c THIS_FILE
// After a change: kill -HUP pgmd. Relative paths start at the folder of this file.
(
    // error, warn, info, debug or trace
    log_level: \"info\",

    // The management socket (.s.pgmd) and the lock file (pgmd.pid) are here.
    unix_socket_dir: \"run\",

    // Where backups and archived WAL rest. compression: zstd:1 to zstd:19, lz4, gzip:1 to gzip:9, none
    repository: (
        path: @REPOSITORY@,
        compression: \"zstd:3\",
    ),

    // WAL becomes durable here before it is acknowledged, and is archived from here.
    spool: \"spool\",

    // How many backups and restores may run at the same time.
    jobs_max: 2,

    servers: {
        // conninfo: as libpq's, key=value or a URL. Passwords belong into ~/.pgpass of pgmd's user; one that is
        // written here is accepted when only the owner can read this file (chmod 600).
        // slot: the physical replication slot that keeps WAL for pgmd; made when missing if create_slot is true.
";

const TAIL: &str = "    },\n)\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text: String) {
            prop_assert_eq!(ron::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
