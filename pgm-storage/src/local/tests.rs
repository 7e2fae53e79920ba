//! The local engine: durability, races, full disks, leftovers of the dead.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::{env, thread};

use tempfile::TempDir;

use super::*;

fn storage() -> (TempDir, LocalStorage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(directory.path().join("root")).unwrap();
    (directory, storage)
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

/// Every file below a directory, hidden ones too.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn the_local_engine_keeps_the_contract() {
    let (_directory, storage) = storage();
    crate::conformance::check(&storage);
    let left = files(storage.directory());
    assert!(
        left.iter()
            .all(|file| !file.to_string_lossy().contains(".pgm-")),
        "{left:?}"
    );
}

#[test]
fn a_root_behind_a_symbolic_link_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("real")).unwrap();
    symlink("real", directory.path().join("link")).unwrap();
    crate::conformance::check(&LocalStorage::open(directory.path().join("link")).unwrap());
}

#[test]
fn two_handles_on_one_directory_are_one_storage() {
    let (_directory, first) = storage();
    let second = LocalStorage::open(first.directory()).unwrap();
    let mut writer = first.create(&path("a/object")).unwrap();
    writer.write_all(b"first").unwrap();
    second
        .put(&path("a/object"), b"second", PutMode::Create)
        .unwrap();
    assert!(writer.finish().unwrap_err().is_already_exists());
    assert_eq!(first.get(&path("a/object"), 10).unwrap(), b"second");
}

#[test]
fn folders_and_files_are_private() {
    let (directory, storage) = storage();
    storage
        .put(&path("a/b/object"), b"x", PutMode::Create)
        .unwrap();
    let mode = |text: &str| {
        fs::metadata(directory.path().join(text))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!([mode("root"), mode("root/a"), mode("root/a/b")], [0o700; 3]);
    assert_eq!(mode("root/a/b/object"), 0o600);
}

#[test]
fn a_missing_or_wrong_root_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = LocalStorage::open(&missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} does not exist", missing.display())
    );
    fs::write(&missing, b"now a file").unwrap();
    for error in [LocalStorage::open(&missing), LocalStorage::create(&missing)] {
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is a file, not a folder", missing.display())
        );
    }
}

#[test]
fn folders_vanish_with_their_last_object_and_the_root_stays() {
    let (_directory, storage) = storage();
    storage
        .put(&path("a/b/c/object"), b"x", PutMode::Create)
        .unwrap();
    storage
        .put(&path("a/object"), b"x", PutMode::Create)
        .unwrap();
    storage.delete(&path("a/b/c/object")).unwrap();
    assert!(!storage.directory().join("a/b").exists());
    storage.delete(&path("a/object")).unwrap();
    assert_eq!(fs::read_dir(storage.directory()).unwrap().count(), 0);
    drop(storage.create(&path("x/y/object")).unwrap());
    assert_eq!(fs::read_dir(storage.directory()).unwrap().count(), 0);
}

#[test]
fn puts_and_deletes_of_neighbours_do_not_disturb_each_other() {
    let (_directory, storage) = storage();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (storage, name) = (&storage, path(&format!("a/b/{thread}")));
            scope.spawn(move || {
                for _ in 0..100 {
                    storage.put(&name, b"x", PutMode::Create).unwrap();
                    storage.delete(&name).unwrap();
                }
            });
        }
    });
}

#[test]
fn symbolic_links_are_never_followed() {
    let (directory, storage) = storage();
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("object"), b"secret").unwrap();
    fs::create_dir(storage.directory().join("a")).unwrap();
    symlink(&outside, storage.directory().join("a/folder")).unwrap();
    symlink(outside.join("object"), storage.directory().join("a/link")).unwrap();

    let refused = |error: StorageError| {
        let link = matches!(
            error,
            StorageError::Misplaced {
                found: "a symbolic link",
                ..
            }
        );
        assert!(link && error.hint().is_some(), "{error}");
    };
    for name in ["a/folder/object", "a/link"] {
        let name = path(name);
        refused(storage.open(&name).err().unwrap());
        refused(storage.get(&name, 100).unwrap_err());
        refused(storage.head(&name).unwrap_err());
        refused(storage.create(&name).err().unwrap());
        refused(storage.put(&name, b"x", PutMode::Replace).unwrap_err());
    }
    refused(storage.delete(&path("a/folder/object")).unwrap_err());
    refused(
        storage
            .list(&path(""), &mut |_| ControlFlow::Continue(()))
            .unwrap_err(),
    );
    refused(
        storage
            .list(&path("a/folder"), &mut |_| ControlFlow::Continue(()))
            .unwrap_err(),
    );
    assert_eq!(storage.sweep(&path("")).unwrap(), 0);
    assert_eq!(fs::read(outside.join("object")).unwrap(), b"secret");
    assert_eq!(files(&outside).len(), 1);
}

#[test]
fn names_that_no_object_can_have_are_passed_over() {
    let (_directory, storage) = storage();
    fs::create_dir(storage.directory().join("lost+found")).unwrap();
    fs::write(storage.directory().join("lost+found/x"), b"x").unwrap();
    fs::write(storage.directory().join(".hidden"), b"x").unwrap();
    storage.put(&path("object"), b"x", PutMode::Create).unwrap();
    let mut seen = Vec::new();
    let visit = &mut |meta: ObjectMeta| {
        seen.push(meta.path.to_string());
        ControlFlow::Continue(())
    };
    storage.list(&ObjectPath::root(), visit).unwrap();
    assert_eq!(seen, ["object"]);
    assert!(storage.folders(&ObjectPath::root()).unwrap().is_empty());
}

#[test]
fn a_full_disk_is_no_space_and_leaves_nothing() {
    let (_directory, storage) = storage();
    let mut writer = storage.writer(&path("a/object"), PutMode::Create).unwrap();
    writer.write_all(b"fits").unwrap();
    writer.file = File::options().write(true).open("/dev/full").unwrap();
    let error = writer.write_all(b"does not fit").unwrap_err();
    let error = StorageError::from_io("write", "elsewhere", error);
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    assert!(
        error.path().ends_with("root/a/object") && error.hint().unwrap().contains("free space")
    );

    writer.file = File::options().write(true).open("/dev/null").unwrap();
    let error = writer.publish().unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Io {
                operation: "finish",
                ..
            }
        ),
        "it is spent: {error}"
    );
    assert_eq!(fs::read_dir(storage.directory()).unwrap().count(), 0);
}

#[test]
fn a_failed_sync_means_that_the_object_is_not_written() {
    let (_directory, storage) = storage();
    storage
        .put(&path("a/object"), b"old", PutMode::Create)
        .unwrap();
    let mut writer = storage.writer(&path("a/object"), PutMode::Replace).unwrap();
    // Takes every byte and cannot be synced.
    writer.file = File::options().write(true).open("/dev/null").unwrap();
    writer.write_all(b"new").unwrap();
    let error = writer.publish().unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Io {
                operation: "sync",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(storage.get(&path("a/object"), 10).unwrap(), b"old");
    assert_eq!(files(storage.directory()).len(), 1);
}

/// On a real full file system, where this user may make one; the checks above hold everywhere.
#[test]
fn on_a_full_file_system_objects_stay_readable_and_can_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$1" && exec "$2" --ignored --exact local::tests::fills_its_file_system"#;
    let test = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(env::current_exe().unwrap())
        .env("PGM_TEST_ROOT", directory.path())
        .output();
    match test {
        Ok(test) if !String::from_utf8_lossy(&test.stdout).contains("running 1 test") => {
            eprintln!(
                "no file system of our own here: {}",
                String::from_utf8_lossy(&test.stderr)
            );
        }
        Ok(test) => assert!(
            test.status.success(),
            "{}",
            String::from_utf8_lossy(&test.stdout)
        ),
        Err(error) => eprintln!("no file system of our own here: {error}"),
    }
}

#[test]
#[ignore = "a part of on_a_full_file_system_objects_stay_readable_and_can_be_deleted"]
fn fills_its_file_system() {
    let Ok(root) = env::var("PGM_TEST_ROOT") else {
        return;
    };
    let storage = LocalStorage::open(root).unwrap();
    storage
        .put(&path("a/first"), &vec![1; 100_000], PutMode::Create)
        .unwrap();
    let space = storage.space().unwrap().unwrap();
    assert!(
        space.total == 1 << 20 && space.free < space.total,
        "{space:?}"
    );
    for mode in [PutMode::Create, PutMode::Replace] {
        let error = storage
            .put(&path("b/too-large"), &vec![2; 2 << 20], mode)
            .unwrap_err();
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    }
    assert_eq!(
        files(storage.directory()).len(),
        1,
        "the failed ones left nothing"
    );
    // No byte and no folder more fits, and deleting still works.
    let mut writer = storage.create(&path("a/filler")).unwrap();
    while writer.write_all(&[3; 4096]).is_ok() {}
    storage.delete(&path("a/first")).unwrap();
    drop(writer);
    storage
        .put(&path("a/again"), &vec![4; 100_000], PutMode::Create)
        .unwrap();
}

#[test]
fn a_read_only_folder_is_denied_with_a_hint() {
    if rustix::process::geteuid().is_root() {
        return; // Permissions do not bind root.
    }
    let (_directory, storage) = storage();
    storage
        .put(&path("a/object"), b"x", PutMode::Create)
        .unwrap();
    let folder = storage.directory().join("a");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    for error in [
        storage
            .put(&path("a/other"), b"x", PutMode::Create)
            .unwrap_err(),
        storage.create(&path("a/other")).err().unwrap(),
        storage.create(&path("a/new/other")).err().unwrap(),
        storage.delete(&path("a/object")).unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::Denied { .. }), "{error}");
        assert!(error.hint().unwrap().contains("permission"), "{error}");
    }
    assert_eq!(storage.get(&path("a/object"), 1).unwrap(), b"x");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_sweep_removes_what_a_process_that_ended_left() {
    let (_directory, storage) = storage();
    let mut left = storage.directory().join("a/b");
    fs::create_dir_all(&left).unwrap();
    // A process id above the kernel's maximum; and one that runs, but did not start then.
    for name in [
        ".pgm-4194999-77-0123456789abcdef.tmp",
        ".pgm-1-1-0123456789abcdef.tmp",
    ] {
        left.push(name);
        fs::write(&left, b"half").unwrap();
        left.pop();
    }
    fs::write(left.join(".pgm-foreign"), b"not ours").unwrap();
    assert_eq!(storage.sweep(&path("elsewhere")).unwrap(), 0);
    assert_eq!(storage.sweep(&path("a")).unwrap(), 2);
    assert_eq!(files(storage.directory()), [left.join(".pgm-foreign")]);
    fs::remove_file(left.join(".pgm-foreign")).unwrap();
    assert_eq!(storage.sweep(&ObjectPath::root()).unwrap(), 0);
    assert_eq!(
        fs::read_dir(storage.directory()).unwrap().count(),
        0,
        "empty folders went too"
    );
}

#[test]
fn a_sweep_keeps_a_live_process_and_removes_a_killed_one() {
    let (_directory, storage) = storage();
    let mut writer = Command::new(env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "local::tests::writes_until_it_is_killed",
        ])
        .env("PGM_TEST_ROOT", storage.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().contains("half written")));

    assert_eq!(storage.sweep(&ObjectPath::root()).unwrap(), 0);
    let left = files(storage.directory());
    assert_eq!(left.len(), 1);
    assert_eq!(fs::metadata(&left[0]).unwrap().size(), 100_000);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(storage.head(&path("a/object")).unwrap_err().is_not_found());
    assert_eq!(storage.sweep(&ObjectPath::root()).unwrap(), 1);
    assert_eq!(fs::read_dir(storage.directory()).unwrap().count(), 0);
}

#[test]
#[ignore = "the other process of a_sweep_keeps_a_live_process_and_removes_a_killed_one"]
fn writes_until_it_is_killed() {
    let Ok(root) = env::var("PGM_TEST_ROOT") else {
        return;
    };
    let storage = LocalStorage::open(root).unwrap();
    let mut writer = storage.create(&path("a/object")).unwrap();
    writer.write_all(&vec![7; 100_000]).unwrap();
    println!("half written");
    // Ends at the latest with the process that started this one.
    let _ = io::stdin().read_line(&mut String::new());
    drop(writer);
}
