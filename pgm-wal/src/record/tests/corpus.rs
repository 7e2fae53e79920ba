//! Every record of real servers' WAL, as `pg_waldump` prints it.

use super::describe::write_line;
use super::*;

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
        let (mut described, mut page) = (String::new(), [0; BLOCK_BYTES]);
        while let Some(record) = reader.next().unwrap() {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("{}: too many records", stem.display()));
            described.clear();
            write_line(&record, &mut described);
            assert_eq!(described, line, "{}", stem.display());
            for block in record.blocks() {
                if let Some(image) = block.image {
                    image.restore(&mut page).unwrap();
                    // `pd_pagesize_version`: 8192 bytes, version 4.
                    assert_eq!(page[18..20], [4, 0x20], "{} {block:?}", record.lsn);
                }
            }
        }
        assert_eq!(lines.next(), None, "{}: {:?}", stem.display(), reader.end());
    }
}
