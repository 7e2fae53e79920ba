//! What the reader takes, and what it refuses.

use proptest::prelude::*;

use super::*;
use crate::backup::script::{directory, end, file, header, link, seal};

/// Everything that is in `archive`, read in pieces that end at `cuts`.
fn read(archive: &[u8], cuts: &[usize]) -> Result<Vec<(TarEntry, Vec<u8>)>, TarError> {
    let mut tar = TarReader::new();
    let mut found: Vec<(TarEntry, Vec<u8>)> = Vec::new();
    let mut begin = 0;
    for &cut in cuts.iter().chain([&archive.len()]) {
        let mut piece = &archive[begin..cut.max(begin)];
        begin = cut.max(begin);
        while let Some(item) = tar.next(&mut piece)? {
            match item {
                TarItem::Entry(entry) => found.push((entry, Vec::new())),
                TarItem::Content(run) => {
                    assert!(!run.is_empty());
                    found.last_mut().unwrap().1.extend_from_slice(run);
                }
            }
        }
        assert!(piece.is_empty());
    }
    tar.finish()?;
    Ok(found)
}

fn sample() -> Vec<u8> {
    [
        file("backup_label", b"START"),
        directory("base"),
        directory("pg_notify"),
        file("base/5/1259", &[7; 8192]),
        file("base/5/empty", b""),
        file("odd name \u{fc}", &[1; 513]),
        link("pg_tblspc/16385", "/mnt/ts"),
        file("global/pg_control", &[9; 512]),
        end(),
    ]
    .concat()
}

#[test]
fn archive_is_read_the_same_wherever_it_is_cut() {
    let archive = sample();
    let whole = read(&archive, &[]).unwrap();
    assert_eq!(whole.len(), 8);
    for cut in 0..archive.len() {
        assert_eq!(read(&archive, &[cut]).unwrap(), whole, "cut at {cut}");
    }
    let every_byte: Vec<usize> = (1..archive.len()).collect();
    assert_eq!(read(&archive, &every_byte).unwrap(), whole);
}

#[test]
fn headers_of_postgresql_are_understood() {
    let entries = read(&sample(), &[]).unwrap();
    let (label, content) = &entries[0];
    assert_eq!(
        (label.name.as_slice(), content.as_slice()),
        (&b"backup_label"[..], &b"START"[..])
    );
    assert_eq!((label.mode, label.mtime), (0o600, 1_700_000_000));
    assert_eq!(label.kind, TarKind::File { size: 5 });
    assert_eq!(
        (entries[1].0.name.as_slice(), &entries[1].0.kind),
        (&b"base"[..], &TarKind::Directory)
    );
    let target = b"/mnt/ts".to_vec();
    assert_eq!(
        (entries[6].0.name.as_slice(), &entries[6].0.kind),
        (&b"pg_tblspc/16385"[..], &TarKind::Symlink { target })
    );
}

#[test]
fn archive_without_blocks_of_zeros_is_whole_as_postgresql_14_sends_it() {
    let archive = sample();
    let bare = &archive[..archive.len() - 1024];
    assert_eq!(read(bare, &[]).unwrap(), read(&archive, &[]).unwrap());
    assert_eq!(read(&[], &[]).unwrap(), []);
}

#[test]
fn sizes_beyond_eight_gib_are_read_in_base_256() {
    let size = (1 << 33) + 5;
    let big = header(b"big", b'0', size, b"");
    let mut tar = TarReader::new();
    let Ok(Some(TarItem::Entry(entry))) = tar.next(&mut &big[..]) else {
        panic!("no entry")
    };
    assert_eq!(entry.kind, TarKind::File { size });
    assert_eq!(tar.finish(), Err(TarError::Truncated));
    let mut endless = header(b"big", b'0', 1 << 40, b"");
    endless[124..136].fill(0xFF);
    seal(&mut endless);
    assert_eq!(read(&endless, &[]), Err(TarError::Number("size")));
}

#[test]
fn name_may_have_a_prefix() {
    let mut long = header(b"last", b'0', 0, b"");
    long[345..350].copy_from_slice(b"first");
    seal(&mut long);
    assert_eq!(read(&long, &[]).unwrap()[0].0.name, b"first/last");
}

#[test]
fn archives_cut_short_are_noticed() {
    let archive = [file("a", &[1; 700]), end()].concat();
    for length in [1, 511, 512, 513, 1211, 1212, 1535] {
        assert_eq!(
            read(&archive[..length], &[]),
            Err(TarError::Truncated),
            "{length} bytes"
        );
    }
    for length in [0, 1536, 2048, 2049, 2560] {
        assert!(read(&archive[..length], &[]).is_ok(), "{length} bytes");
    }
}

#[test]
fn what_postgresql_never_sends_is_refused() {
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = header(b"name", b'0', 0, b"");
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut changed);
        read(&changed, &[]).unwrap_err()
    };
    for kind in *b"134567xgLKSVMDN" {
        let header = header(b"name", kind, 0, b"");
        if kind != b'5' {
            assert!(
                matches!(read(&header, &[]), Err(TarError::Kind { .. })),
                "{kind}"
            );
        }
    }
    assert_eq!(changed(124, b"x"), TarError::Number("size"));
    assert_eq!(changed(124, b"           "), TarError::Number("size"));
    assert_eq!(changed(124, b"0000 1"), TarError::Number("size"));
    assert_eq!(changed(136, b"99999999999"), TarError::Number("mtime"));
    assert_eq!(changed(100, b"-1"), TarError::Number("mode"));
    assert_eq!(changed(257, b"USTAR"), TarError::Magic);
    assert!(matches!(changed(0, b"na\0me"), TarError::ZeroByte { .. }));
    let full = header(b"dir/", b'5', 1, b"");
    assert!(matches!(
        read(&full, &[]),
        Err(TarError::UnexpectedContent { .. })
    ));
    let mut target = header(b"link", b'2', 0, b"/a");
    target[162] = b'x';
    seal(&mut target);
    assert!(matches!(read(&target, &[]), Err(TarError::ZeroByte { .. })));
    let after = [end(), file("a", b"x")].concat();
    assert_eq!(read(&after, &[]), Err(TarError::AfterEnd));
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let good = header(b"base/5/1259", b'0', 0, b"");
    let expected = read(&good, &[]).unwrap();
    for bit in 0..512 * 8 {
        let mut flipped = good;
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The checksum's own padding may be a space or a zero byte.
        if let Ok(found) = read(&flipped, &[]) {
            assert!(
                CHECKSUM.contains(&(bit / 8)) && found == expected,
                "bit {bit}"
            );
        }
    }
}

proptest! {
    #[test]
    fn files_come_back_from_any_pieces(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 0..8),
        mut cuts in prop::collection::vec(0_usize..12_000, 0..20),
    ) {
        let mut archive: Vec<u8> = contents
            .iter()
            .enumerate()
            .flat_map(|(number, content)| file(&format!("f{number}"), content))
            .collect();
        archive.extend(end());
        cuts.sort_unstable();
        cuts.retain(|&cut| cut <= archive.len());
        let found = read(&archive, &cuts).unwrap();
        prop_assert_eq!(found.into_iter().map(|(_, content)| content).collect::<Vec<_>>(), contents);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000), seal_it: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_chunk_mut::<512>().filter(|_| seal_it) {
            first[257..262].copy_from_slice(b"ustar");
            seal(first);
        }
        let _ = read(&bytes, &[]);
    }
}
