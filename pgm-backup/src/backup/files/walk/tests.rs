//! What is found in directories that are made to look like those of servers, and worse.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::local::LocalDirectory;
use super::*;

const VERSION: &str = "PG_17_202406281";

type OnFile<'a> = Box<dyn FnMut(&str) + 'a>;

/// Notes what it is told; `on_file` is called before each file.
#[derive(Default)]
struct Seen<'a> {
    lines: Vec<String>,
    on_file: Option<OnFile<'a>>,
}

impl Visitor<LocalDirectory<'_>> for Seen<'_> {
    fn folder(&mut self, folder: DirectoryEntry) -> Result<()> {
        self.lines.push(format!("{}/", folder.path));
        Ok(())
    }

    fn tablespace(&mut self, link: TablespaceLink) -> Result<()> {
        self.lines.push(format!("link {}", link.oid));
        Ok(())
    }

    fn file(&mut self, _: At<'_, LocalDirectory<'_>>, path: FilePath, entry: &Entry) -> Result<()> {
        let path = path.to_string();
        if let Some(on_file) = &mut self.on_file {
            on_file(&path);
        }
        self.lines.push(format!("{path} {}", entry.size));
        Ok(())
    }

    fn left(&mut self, path: &FilePath, what: &'static str) -> Result<()> {
        self.lines.push(format!("left {path}: {what}"));
        Ok(())
    }
}

fn put(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
}

fn visit(root: &Path, major: u32, seen: &mut Seen<'_>) -> Result<()> {
    let folder = fs::File::open(root).unwrap();
    let directory = LocalDirectory::new(folder.as_fd(), None);
    let tree = Tree::new(&directory, major, 202_406_281)?;
    tree.visit(&Context::quiet(), seen)
}

fn lines(root: &Path, major: u32) -> Vec<String> {
    let mut seen = Seen::default();
    visit(root, major, &mut seen).unwrap();
    seen.lines
}

#[test]
fn what_belongs_to_a_running_server_or_is_forgotten_at_a_crash_stays_behind() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        &[
            "PG_VERSION",
            "postmaster.pid",
            "postmaster.opts",
            "backup_label",
            "postgresql.auto.conf.tmp",
            "base/5/1",
            "base/5/1_fsm",
            "base/5/1.1",
            "base/5/7",
            "base/5/7.1",
            "base/5/7_fsm",
            "base/5/7_init",
            "base/5/t3_99",
            "base/5/t3_99_vm.1",
            "base/5/pg_internal.init.55",
            "base/pgsql_tmp/pgsql_tmp55.0",
            "global/pg_control",
            "global/pg_internal.init",
            "global/1262",
            "log/7",
            "log/7_init",
            "log/t3_99",
            "pg_replslot/mine/state",
            "pg_stat_tmp/db_0.stat",
            "pg_subtrans/0000",
            "pg_wal/000000010000000000000001",
            "pg_wal/summaries/x.summary",
        ],
    );
    let expected = [
        "PG_VERSION 10",
        "base/",
        "base/5/",
        "base/5/1 8",
        "base/5/1.1 10",
        "base/5/1_fsm 12",
        "base/5/7_init 13",
        "global/",
        "global/1262 11",
        "log/",
        "log/7 5",
        "log/7_init 10",
        "log/t3_99 9",
        "pg_replslot/",
        "pg_stat_tmp/",
        "pg_subtrans/",
        "pg_wal/",
        "pg_wal/archive_status/",
        "pg_wal/summaries/",
    ];
    assert_eq!(lines(root.path(), 17), expected);
    assert_eq!(lines(root.path(), 16), expected[..18]);
}

#[test]
fn of_a_tablespace_comes_the_folder_of_this_server_and_then_the_link() {
    let root = tempfile::tempdir().unwrap();
    let space = tempfile::tempdir().unwrap();
    put(
        root.path(),
        &[
            "PG_VERSION",
            "pg_tblspc/777/PG_17_202406281/5/2",
            "inside/PG_17_202406281/5/3",
        ],
    );
    put(
        space.path(),
        &[
            "PG_17_202406281/5/1",
            "PG_17_202406281/5/9",
            "PG_17_202406281/5/9_init",
            "PG_16_1/5/1",
        ],
    );
    symlink(space.path(), root.path().join("pg_tblspc/16385")).unwrap();
    // One that is in the data directory, and one whose folder is gone.
    symlink(
        root.path().join("inside"),
        root.path().join("pg_tblspc/20000"),
    )
    .unwrap();
    symlink("/no/such/folder", root.path().join("pg_tblspc/30000")).unwrap();
    assert_eq!(
        lines(root.path(), 17),
        [
            &format!("pg_tblspc/16385/{VERSION}/"),
            &format!("pg_tblspc/16385/{VERSION}/5/"),
            &format!("pg_tblspc/16385/{VERSION}/5/1 19"),
            &format!("pg_tblspc/16385/{VERSION}/5/9_init 24"),
            &format!("pg_tblspc/20000/{VERSION}/"),
            &format!("pg_tblspc/20000/{VERSION}/5/"),
            &format!("pg_tblspc/20000/{VERSION}/5/3 26"),
            "PG_VERSION 10",
            "inside/",
            "pg_tblspc/",
            "link 16385",
            "link 20000",
            "link 30000",
            "pg_tblspc/777/",
            &format!("pg_tblspc/777/{VERSION}/"),
            &format!("pg_tblspc/777/{VERSION}/5/"),
            &format!("pg_tblspc/777/{VERSION}/5/2 33"),
        ]
    );
}

#[test]
fn links_are_not_followed_and_what_is_no_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    put(outside.path(), &["secret", "pg_wal/1", "5/1"]);
    put(root.path(), &["base/1/1", "pg_tblspc/x"]);
    symlink(outside.path().join("secret"), root.path().join("a")).unwrap();
    symlink(outside.path().join("5"), root.path().join("base/5")).unwrap();
    symlink(outside.path().join("pg_wal"), root.path().join("pg_wal")).unwrap();
    symlink(outside.path(), root.path().join("pg_replslot")).unwrap();
    symlink("relative", root.path().join("pg_tblspc/5")).unwrap();
    symlink(outside.path(), root.path().join("pg_tblspc/six")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    assert_eq!(
        lines(root.path(), 14),
        [
            "left a: a symbolic link",
            "base/",
            "base/1/",
            "base/1/1 8",
            "left base/5: a symbolic link",
            "pg_replslot/",
            "pg_tblspc/",
            "left pg_tblspc/5: a symbolic link",
            "left pg_tblspc/six: a symbolic link",
            "pg_tblspc/x 11",
            "pg_wal/",
            "pg_wal/archive_status/",
            "left socket: no regular file",
        ]
    );
}

#[test]
fn what_goes_while_others_are_visited_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        &["base/1/1", "base/1/2", "base/2/1", "base/3/1", "base/3/2"],
    );
    let path = root.path().to_owned();
    let mut seen = Seen {
        on_file: Some(Box::new(|file| match file {
            "base/1/1" => {
                fs::remove_file(path.join("base/1/2")).unwrap();
                fs::remove_dir_all(path.join("base/2")).unwrap();
            }
            "base/3/1" => fs::remove_dir_all(path.join("base/3")).unwrap(),
            _ => {}
        })),
        ..Seen::default()
    };
    visit(root.path(), 17, &mut seen).unwrap();
    assert_eq!(
        seen.lines,
        ["base/", "base/1/", "base/1/1 8", "base/3/", "base/3/1 8"]
    );
}

#[test]
fn folders_without_end_are_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/".repeat(200))).unwrap();
    let error = visit(root.path(), 17, &mut Seen::default()).unwrap_err();
    assert!(error.to_string().contains("a/a/a"), "{error}");
}
