//! A backup of very many files: listing it, verifying its catalog and planning a restore take bounded memory and seconds.
//!
//! The backup is a real one whose manifest is written anew with so many more files. `PGM_MANY_FILES` says how many; a
//! million is tried by hand, and restored then, too.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use pgm_backup::manifest::{FileEntry, FilePath, ManifestEntry, ManifestHeader, ManifestWriter};
use pgm_backup::repository::layout;
use pgm_backup::{BackupEntry, Repository};
use pgm_storage::{Compression, LocalStorage, PutMode, Storage, crc32c};
use pgm_tests::{Cluster, Major, Pgmd, Scratch};

/// What every command may take, in KiB (`VmHWM` of `proc(5)`).
const RESIDENT_KIB_MAX: u64 = 256 << 10;
const FILES: u64 = 150_000;
const MILLION: u64 = 1_000_000;

/// Gives the backup `more` files with the content of `PG_VERSION`, in a thousand directories' worth of names.
fn inflate(pgmd: &Pgmd, more: u64) {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(pgmd.repository()).unwrap());
    let repository = Repository::open(Arc::clone(&storage)).unwrap();
    let server = "main".parse().unwrap();
    let entry = repository.catalog(&server).unwrap().backups()[0].clone();
    let reader = repository.manifest(&entry).unwrap();
    let packs = reader.packs().to_vec();
    let lines: Vec<ManifestEntry> = reader.map(Result::unwrap).collect();
    let version = lines.iter().find_map(|line| match line {
        ManifestEntry::File(file) if file.path.as_bytes() == b"PG_VERSION" => Some(file.clone()),
        _ => None,
    });
    let version = version.unwrap();
    let path = layout::manifest(&server, entry.label);
    storage.delete(&path).unwrap();
    let header = ManifestHeader {
        format: 1,
        server: server.clone(),
        label: entry.label,
    };
    let object = storage.create(&path).unwrap();
    let mut writer = ManifestWriter::new(object, &header, Compression::ZSTD).unwrap();
    for line in &lines {
        writer.entry(line).unwrap();
    }
    for number in 0..more {
        let path = FilePath::new(format!("base/1/{}", 1_000_000 + number).as_bytes()).unwrap();
        let file = FileEntry {
            path,
            ..version.clone()
        };
        writer.entry(&ManifestEntry::File(file)).unwrap();
    }
    let (manifest, totals) = writer.finish(&packs).unwrap();
    let mut inflated = entry.clone();
    inflated.size.files = totals.files;
    inflated.size.raw_bytes = totals.raw_bytes;
    inflated.size.stored_bytes = entry.size.stored_bytes - entry.manifest.size + manifest.size;
    inflated.manifest = manifest;
    rewrite(&*storage, &entry, &inflated);
}

/// Puts `new` in the place of `old`, as `docs/on-disk.md` describes a record.
fn rewrite(storage: &dyn Storage, old: &BackupEntry, new: &BackupEntry) {
    let path = layout::entry(&old.server, old.label);
    let bytes = storage.get(&path, 1 << 20).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (body, _) = text.rsplit_once("// crc32c ").unwrap();
    let mut body = body.to_owned();
    for (name, before, after) in [
        ("files", old.size.files, new.size.files),
        ("raw_bytes", old.size.raw_bytes, new.size.raw_bytes),
        ("stored_bytes", old.size.stored_bytes, new.size.stored_bytes),
        ("size", old.manifest.size, new.manifest.size),
        (
            "crc32c",
            old.manifest.crc32c.into(),
            new.manifest.crc32c.into(),
        ),
    ] {
        let before = format!("{name}: {before},");
        assert_eq!(body.matches(&before).count(), 1, "{before} in {body}");
        body = body.replace(&before, &format!("{name}: {after},"));
    }
    let sealed = format!("{body}// crc32c {:08x}\n", crc32c(body.as_bytes()));
    storage
        .put(&path, sealed.as_bytes(), PutMode::Replace)
        .unwrap();
}

/// Runs a command and gives the most memory that it had resident, in KiB, and its output.
fn measured(mut command: Command) -> (u64, String) {
    let began = Instant::now();
    let name = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let output = Scratch::new("o");
    let file = fs::File::create(output.join("out")).unwrap();
    command
        .stdout(Stdio::from(file.try_clone().unwrap()))
        .stderr(Stdio::from(file));
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
        most = most.max(kib.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
    };
    let text = fs::read_to_string(output.join("out")).unwrap();
    assert!(ended.success(), "{name}: {text}");
    println!(
        "{name}: {} MiB resident at most, {:?}",
        most >> 10,
        began.elapsed()
    );
    (most, text)
}

#[test]
fn commands_on_a_backup_of_very_many_files_stay_small() {
    let asked = std::env::var("PGM_MANY_FILES").ok();
    let more: u64 = asked.map_or(FILES, |asked| asked.parse().unwrap());
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.json(&["backup", "main"]);
    pgmd.stop();
    inflate(&pgmd, more);
    let repository = pgmd.repository();
    let scratch = Scratch::new("r");
    let target = scratch.join("data");
    let target = target.to_str().unwrap();
    let mut most = 0;
    for arguments in [
        &["list-backup"][..],
        &["info", "main", "newest"],
        &["verify", "main", "newest", "--level", "catalog"],
        &["restore", "main", "newest", target, "--plan"],
        &["retention", "main", "--policy", "last 1", "--dry-run"],
    ] {
        let mut command = Command::new(pgm_tests::built("pgm-cli"));
        command.arg("--repository").arg(&repository).args(arguments);
        let (kib, text) = measured(command);
        assert!(!text.is_empty());
        assert!(
            kib > 0 && kib < RESIDENT_KIB_MAX,
            "{arguments:?}: {kib} KiB"
        );
        most = most.max(kib);
    }
    println!("{more} files more: {most} KiB at most");
    if more >= MILLION {
        let mut command = pgmd.cli_command();
        command.args(["restore", "main", "newest", target]);
        let (kib, _) = measured(command);
        assert!(kib < RESIDENT_KIB_MAX, "restore: {kib} KiB");
        let folder = scratch.join("data/base/1");
        assert!(fs::read_dir(folder).unwrap().count() as u64 > more);
    }
}
