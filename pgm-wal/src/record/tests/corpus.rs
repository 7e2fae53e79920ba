//! Every record of real servers' WAL, as `pg_waldump` prints it.

use super::*;

const MANAGERS: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// What must agree, in `pg_waldump`'s own form, and what of the description is read.
fn describe(record: &Record<'_>) -> String {
    let manager = MANAGERS[usize::from(record.resource_manager)];
    let mut line = format!(
        "{manager} {}/{} tx {} lsn {} prev {}",
        record.total_len - record.images_len,
        record.total_len,
        record.xid,
        record.lsn,
        record.previous
    );
    match Event::of(record) {
        Some(Event::TransactionEnd(end)) => {
            let prepared = if record.info & 0x70 >= 0x30 {
                "_PREPARED"
            } else {
                ""
            };
            let kind = match end.kind {
                TransactionKind::Commit => "COMMIT",
                TransactionKind::Abort => "ABORT",
            };
            write!(
                line,
                " {kind}{prepared} {} {}",
                end.xid,
                end.time.strftime("%F %T%.6f")
            )
            .unwrap();
        }
        Some(Event::RestorePoint(point)) => write!(line, " RESTORE_POINT {}", point.name).unwrap(),
        None => {}
    }
    line
}

fn field<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split_once(after)
        .map_or(rest, |(field, _)| field)
        .trim()
}

/// The same, from a line that `pg_waldump` printed.
fn expected(line: &str) -> String {
    let lsn: Lsn = field(line, "lsn: ", ",").parse().unwrap();
    let previous: Lsn = field(line, "prev ", ",").parse().unwrap();
    let (record, total) = field(line, "(rec/tot):", ",").split_once('/').unwrap();
    let xid = field(line, "tx:", ",");
    let manager = field(line, "rmgr:", "len");
    let mut expected = format!(
        "{manager} {}/{} tx {xid} lsn {lsn} prev {previous}",
        record.trim(),
        total.trim()
    );
    let description = field(line, "desc: ", "\n");
    let (operation, rest) = description.split_once(' ').unwrap_or((description, ""));
    let time = |text: &str| text.split_once(" UTC").unwrap().0.to_owned();
    match (manager, operation.trim_end_matches("+INIT")) {
        ("Transaction", "COMMIT" | "ABORT") => {
            write!(expected, " {operation} {xid} {}", time(rest)).unwrap();
        }
        ("Transaction", "COMMIT_PREPARED" | "ABORT_PREPARED") => {
            let (xid, rest) = rest.split_once(": ").unwrap();
            write!(expected, " {operation} {xid} {}", time(rest)).unwrap();
        }
        ("XLOG", "RESTORE_POINT") => write!(expected, " RESTORE_POINT {rest}").unwrap(),
        _ => {}
    }
    expected
}

fn unpack(path: &Path) -> Vec<u8> {
    zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()
}

/// Every `NAME.zst` below `folder` that has a `NAME.waldump.txt.zst`.
fn cases(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cases(&path, found);
        } else if let Some(stem) = path.to_str().unwrap().strip_suffix(".waldump.txt.zst") {
            found.push(PathBuf::from(stem));
        }
    }
}

#[test]
fn every_record_agrees_with_pg_waldump() {
    let mut found = Vec::new();
    cases(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/wal"),
        &mut found,
    );
    assert!(found.len() >= 6);
    if let Some(more) = std::env::var_os("PGM_WAL_CORPUS") {
        cases(Path::new(&more), &mut found);
    }
    for stem in found {
        let name = stem.file_name().unwrap().to_str().unwrap();
        let name = SegmentName::parse(name, SIZE).unwrap();
        let text =
            String::from_utf8_lossy(&unpack(&stem.with_extension("waldump.txt.zst"))).into_owned();
        let bytes = unpack(&stem.with_extension("zst"));
        let size = SegmentSize::new(bytes.len() as u64).unwrap();
        let folder = folder();
        std::fs::write(folder.path().join(name.file_name(size)), &bytes).unwrap();
        let history = History::root(name.timeline);
        let source = DirectorySource::new(folder.path(), size);
        let mut reader = RecordReader::seek(source, history, name.start(size)).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with("rmgr:"));
        while let Some(record) = reader.next().unwrap() {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("{}: too many records", stem.display()));
            assert_eq!(describe(&record), expected(line), "{}", stem.display());
        }
        assert_eq!(lines.next(), None, "{}: {:?}", stem.display(), reader.end());
    }
}
