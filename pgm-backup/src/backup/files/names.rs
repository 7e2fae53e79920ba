//! Which files of a data directory are not backed up, by their names.
//!
//! As `basebackup.c` has it (`excludeDirContents`, `excludeFiles`, `sendDir`): what a server makes anew at its start, what belongs to
//! its process, and relations that do not outlive a crash. Names are bytes.

/// Pages in a file of a relation (`RELSEG_SIZE`).
const SEGMENT_PAGES: u32 = 131_072;
/// Folders whose contents stay behind; the folder itself is needed at the start.
const EMPTY_FOLDERS: [&[u8]; 7] = [
    b"pg_stat_tmp",
    b"pg_replslot",
    b"pg_dynshmem",
    b"pg_notify",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_subtrans",
];
/// Files that stay behind, wherever they are.
const LEFT_FILES: [&[u8]; 8] = [
    b"postgresql.auto.conf.tmp",
    b"current_logfiles.tmp",
    b"backup_label",
    b"tablespace_map",
    b"backup_manifest",
    b"postmaster.pid",
    b"postmaster.opts",
    b".DS_Store",
];
/// What the names of others begin with.
const LEFT_PREFIXES: [&[u8]; 2] = [b"pg_internal.init", b"pgsql_tmp"];

/// Whether something with this name stays behind, in any folder.
pub(super) fn is_left(name: &[u8]) -> bool {
    LEFT_FILES.contains(&name) || LEFT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the contents of the folder with this path stay behind.
pub(super) fn is_emptied(path: &[u8]) -> bool {
    EMPTY_FOLDERS.contains(&path)
}

/// Whether the folder with this path is that of a database.
pub(super) fn is_of_database(path: &[u8]) -> bool {
    let words: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    match words[..] {
        [b"base", database] => is_number(database),
        [b"pg_tblspc", oid, version, database] => {
            is_number(oid) && version.starts_with(b"PG_") && is_number(database)
        }
        _ => false,
    }
}

/// Whether a file with this name in the folder of a database is of a temporary relation: `t3_16384`, `t3_16384_fsm.1`.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else {
        return false;
    };
    let (backend, rest) = digits(rest);
    let Some(rest) = rest.strip_prefix(b"_").filter(|_| !backend.is_empty()) else {
        return false;
    };
    relation(rest).is_some()
}

/// The first block within its relation of the file with this path, if it is one of a relation.
pub(super) fn first_block(path: &[u8]) -> Option<u32> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let (folder, name) = (&path[..slash], &path[slash + 1..]);
    if folder != b"global" && !is_of_database(folder) {
        return None;
    }
    relation(name)?;
    let segment = match name.iter().rposition(|byte| *byte == b'.') {
        None => 0,
        Some(dot) => std::str::from_utf8(&name[dot + 1..]).ok()?.parse().ok()?,
    };
    SEGMENT_PAGES.checked_mul(segment)
}

/// The number of a relation and its fork's name, of a file's name: `16384`, `16384_fsm`, `16384_vm.1`.
pub(super) fn relation(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let (number, rest) = digits(name);
    if number.is_empty() || number.len() > 10 {
        return None;
    }
    let (fork, rest) = match rest.strip_prefix(b"_") {
        None => (&rest[..0], rest),
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b'.');
            let (fork, rest) = rest.split_at(end.unwrap_or(rest.len()));
            if ![&b"fsm"[..], b"vm", b"init"].contains(&fork) {
                return None;
            }
            (fork, rest)
        }
    };
    let is_file = match rest.strip_prefix(b".") {
        None => rest.is_empty(),
        Some(segment) => is_number(segment),
    };
    is_file.then_some((number, fork))
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_relations_are_told_from_others() {
        let of = |name: &'static str| relation(name.as_bytes());
        assert_eq!(of("16384"), Some((&b"16384"[..], &b""[..])));
        assert_eq!(of("16384.12"), Some((&b"16384"[..], &b""[..])));
        assert_eq!(of("16384_vm.1"), Some((&b"16384"[..], &b"vm"[..])));
        assert_eq!(of("16384_init"), Some((&b"16384"[..], &b"init"[..])));
        for other in [
            "PG_VERSION",
            "",
            "_vm",
            "16384_",
            "16384_x",
            "16384.",
            "16384.x",
            "16384_vm.",
            "16384x",
            "12345678901",
            "t3_16384",
            "pg_filenode.map",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn files_of_relations_have_blocks() {
        let of = |path: &str| first_block(path.as_bytes());
        assert_eq!(of("base/5/16384"), Some(0));
        assert_eq!(of("base/5/16384_vm.2"), Some(262_144));
        assert_eq!(of("global/1262_fsm"), Some(0));
        assert_eq!(of("pg_tblspc/9/PG_17_1/5/7.1"), Some(131_072));
        for other in [
            "pg_xact/0000",
            "global/pg_control",
            "1",
            "base/1",
            "base/5/1.99999999",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn temporary_relations_are_told_from_others() {
        for name in ["t3_16384", "t30_16384.1", "t3_16384_fsm", "t3_1_vm.2"] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for other in [
            "t", "t_1", "t3", "t3_", "t3_x", "x3_1", "t3_1_x", "3_1", "tt3_1",
        ] {
            assert!(!is_temporary(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_a_server_makes_anew_stays_behind() {
        for name in [
            "postmaster.pid",
            "pg_internal.init",
            "pg_internal.init.77",
            "pgsql_tmp",
            "pgsql_tmp33.0",
            "backup_label",
        ] {
            assert!(is_left(name.as_bytes()), "{name}");
        }
        for name in [
            "backup_label.old",
            "postgresql.auto.conf",
            "postmaster.pid2",
            "pg_wal",
        ] {
            assert!(!is_left(name.as_bytes()), "{name}");
        }
        assert!(is_emptied(b"pg_replslot") && !is_emptied(b"mine/pg_replslot"));
    }

    #[test]
    fn folders_of_databases_are_told_from_others() {
        for path in ["base/5", "pg_tblspc/16385/PG_17_202406281/5"] {
            assert!(is_of_database(path.as_bytes()), "{path}");
        }
        for path in [
            "base",
            "global",
            "base/x",
            "base/5/6",
            "pg_tblspc/1/x/5",
            "mine/5",
        ] {
            assert!(!is_of_database(path.as_bytes()), "{path}");
        }
    }
}
