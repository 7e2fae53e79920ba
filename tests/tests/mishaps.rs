//! What goes wrong in daily life gives one clear message with what to do about it and the documented exit status, loses
//! nothing, and touches no other server.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgm_tests::{
    Auth, Cluster, Major, PASSWORD, Pgmd, Point, Scratch, built, refusal, refusal_in_json, run,
    run_ok, says, wait_until,
};

/// A server that streams into pgmd.
fn streaming() -> (Cluster, Pgmd) {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    (cluster, pgmd)
}

fn backup(pgmd: &Pgmd) -> String {
    let taken = pgmd.json(&["backup", "main"]);
    taken["label"].as_str().unwrap().to_owned()
}

fn end(cluster: &Cluster) -> String {
    cluster.value("select pg_current_wal_flush_lsn()")
}

/// Fails the test unless a new commit on the server becomes durable here.
fn goes_on(cluster: &Cluster, pgmd: &Pgmd, server: &str) {
    cluster.sql("create table if not exists going_on (n int); insert into going_on values (1)");
    pgmd.wait_durable(server, &end(cluster));
}

/// The rows of a restore to the end.
fn rows(pgmd: &Pgmd) -> Vec<u32> {
    let mut restored = Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    });
    restored.start();
    restored.wait_writable();
    Point::rows(&restored)
}

/// The only file of a backup whose name ends so.
fn file_of(pgmd: &Pgmd, label: &str, ending: &str) -> PathBuf {
    let folder = pgmd.repository().join("main/backup").join(label);
    let mut found: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| path.to_str().unwrap().ends_with(ending));
    found.sort();
    found.remove(0)
}

fn flip_a_bit_in_the_middle(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(file, content).unwrap();
}

/// What keeps pgmd from a server is said everywhere with what to do; what the hint says mends it, and meanwhile another
/// server is served as ever.
#[test]
fn a_server_that_cannot_be_reached_or_refuses_is_named_with_what_mends_it() {
    let cluster = Cluster::builder(Major::V17).auth(Auth::ScramSha256).start();
    let healthy = Cluster::builder(Major::V17).start();
    cluster.sql(
        "create role weak login password 'x'; create role outside login replication password 'x'",
    );
    let hba = cluster.data().join("pg_hba.conf");
    let rules = fs::read_to_string(&hba).unwrap();
    fs::write(
        &hba,
        rules.replace(" replication all 127", " replication pgm,weak 127"),
    )
    .unwrap();
    cluster.reload();
    let base = format!("host=127.0.0.1 port={} dbname=postgres", cluster.port());
    let outside = "host replication outside 127.0.0.1/32 scram-sha-256";
    let servers = [
        (
            "wrong_password",
            format!("{base} user=pgm password=wrong"),
            "password",
            "password",
        ),
        (
            "wrong_host",
            "host=no-such-host.invalid user=pgm".to_owned(),
            "no-such-host.invalid",
            "spelling",
        ),
        (
            "nobody_there",
            "host=127.0.0.1 port=1 user=pgm".to_owned(),
            "127.0.0.1",
            "listen_addresses",
        ),
        (
            "weak",
            format!("{base} user=weak password=x"),
            "replication",
            "ALTER ROLE weak REPLICATION;",
        ),
        (
            "outside",
            format!("{base} user=outside password=x"),
            "pg_hba.conf",
            outside,
        ),
    ];
    let healthy_conninfo = healthy.conninfo();
    let mut list: Vec<(&str, &str)> = servers
        .iter()
        .map(|(name, conninfo, ..)| (*name, conninfo.as_str()))
        .collect();
    list.push(("healthy", &healthy_conninfo));
    let mut pgmd = Pgmd::configured(&list);
    pgmd.start();
    for (name, _, word, hint) in &servers {
        wait_until("the trouble is said", || {
            pgmd.status(name)["last_error"].is_string()
        });
        let status = pgmd.status(name);
        assert!(
            says(status["last_error"].as_str().unwrap(), word),
            "{name}: {status}"
        );
        assert!(
            status["hint"].as_str().unwrap().contains(hint),
            "{name}: {status}"
        );
        let refused = pgmd.cli(&["backup", name]);
        refusal(&refused, 1, &[word, hint]);
        let check = pgmd.cli(&["check", name]);
        assert_eq!(check.status, 1, "{name}: {}{}", check.stdout, check.stderr);
        assert!(
            says(&check.stdout, word) && check.stdout.contains(hint),
            "{name}: {}",
            check.stdout
        );
    }
    goes_on(&healthy, &pgmd, "healthy");

    // As the hints say; each goes on by itself then.
    cluster.sql("alter role pgm password 'wrong'");
    cluster.sql("ALTER ROLE weak REPLICATION;");
    fs::write(&hba, format!("{outside}\n{rules}")).unwrap();
    cluster.sql("SELECT pg_reload_conf();");
    // One slot is for one receiver.
    for name in ["wrong_password", "weak", "outside"] {
        wait_until("streaming, or the slot is in use", || {
            let status = pgmd.status(name);
            status["state"] == "streaming"
                || says(
                    status["last_error"].as_str().unwrap_or_default(),
                    "is active",
                )
        });
    }
    let log = pgmd.log();
    assert!(
        !log.contains("=wrong") && !log.contains(PASSWORD),
        "no password is ever logged"
    );
    assert_eq!(pgmd.stop(), 0);
}

#[test]
fn a_slot_that_is_missing_is_not_made_unless_allowed() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(servers: {{ \"main\": (conninfo: {:?}, slot: \"absent\", create_slot: false) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    wait_until("the trouble is said", || {
        pgmd.status("main")["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("absent"))
    });
    let hint = pgmd.status("main")["hint"].as_str().unwrap().to_owned();
    assert!(
        hint.contains("pg_create_physical_replication_slot('absent'"),
        "{hint}"
    );
    assert_eq!(
        cluster.value("select count(*) from pg_replication_slots"),
        "0"
    );
    cluster.sql("select pg_create_physical_replication_slot('absent', true)");
    pgmd.wait_streaming("main");
    assert!(
        pgmd.status("main")["last_error"].is_null(),
        "what is over is not told any more"
    );
}

#[test]
fn an_unwritable_repository_keeps_nothing_from_being_received() {
    let (cluster, mut pgmd) = streaming();
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let folders = ["main/wal/00000001", "main/wal", "main/backup", "main", ""];
    let allow = |pgmd: &Pgmd, mode| {
        for folder in folders {
            let path = pgmd.repository().join(folder);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(&pgmd, 0o500);
    Point::commit(&cluster, 2);
    pgmd.wait_durable("main", &cluster.value("select pg_switch_wal()"));
    goes_on(&cluster, &pgmd, "main");
    wait_until("the trouble is said", || {
        let status = pgmd.status("main");
        let told = status["repository_error"]
            .as_str()
            .or(status["last_error"].as_str());
        told.is_some_and(|text| says(text, "permission")) && status["hint"].is_string()
    });
    assert_eq!(pgmd.status("main")["state"], "streaming");
    refusal(
        &pgmd.cli(&["backup", "main"]),
        1,
        &["permission", pgmd.repository().to_str().unwrap()],
    );
    goes_on(&cluster, &pgmd, "main");
    // What is readable can be restored all the same, the spool included.
    assert_eq!(rows(&pgmd), [1, 2]);
    allow(&pgmd, 0o700);
    wait_until("the archive catches up", || {
        let status = pgmd.status("main");
        status["repository_error"].is_null() && status["last_error"].is_null()
    });
    backup(&pgmd);
    assert_eq!(pgmd.stop(), 0);

    let locked = pgmd.directory().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    pgmd.write_configuration(&format!(
        "(repository: (path: \"locked/repository\"), servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    let accept = pgmd.cli(&["repository", "accept"]);
    refusal(&accept, 1, &["locked", "permission"]);
    // As a host that has seen no repository yet.
    fs::remove_file(pgmd.directory().join("spool/repository.known")).unwrap();
    refusal(&run(&mut pgmd.pgmd_command()), 2, &["locked", "permission"]);
    let check = pgmd.cli(&["check"]);
    assert_eq!(check.status, 1, "{}", check.stdout);
    assert!(
        check
            .stdout
            .contains(&format!("chown $(id -un) {}", locked.display())),
        "{}",
        check.stdout
    );
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let (cluster, pgmd) = streaming();
    let second = run(&mut pgmd.pgmd_command());
    refusal(
        &second,
        2,
        &[&pgmd.pid().to_string(), pgmd.directory().to_str().unwrap()],
    );
    pgmd.cli_ok(&["ping"]);
    goes_on(&cluster, &pgmd, "main");
}

/// The lock of the base directory does not see a daemon with another one; the spool has a lock of its own.
#[test]
fn a_daemon_elsewhere_on_the_same_spool_is_kept_from_it() {
    let (cluster, pgmd) = streaming();
    let mut other = Pgmd::configured(&[]);
    other.write_configuration(&format!(
        "(spool: {:?}, repository: (path: {:?}), servers: {{ \"main\": (conninfo: {:?}) }})",
        pgmd.directory().join("spool"),
        pgmd.repository(),
        cluster.conninfo()
    ));
    other.start();
    wait_until("the trouble is said", || {
        let status = other.status("main");
        let error = status["last_error"].as_str().unwrap_or_default();
        error.contains(pgmd.spool("main").to_str().unwrap()) && status["hint"].is_string()
    });
    goes_on(&cluster, &pgmd, "main");
    assert_eq!(other.stop(), 0);
    goes_on(&cluster, &pgmd, "main");
}

/// A program that runs pgmd with a file system of its own, which soon is full, in `folder` of its base directory.
fn with_small_file_system(pgmd: &Pgmd, folder: &str, mib: u32) -> PathBuf {
    let id = |what: &str| run_ok(Command::new("id").arg(what)).trim().to_owned();
    let place = pgmd.directory().join(folder);
    fs::create_dir(&place).unwrap();
    let script = format!(
        "#!/bin/sh\n\
         # In namespaces of its own an ordinary user may mount; then it is itself again, since pgmd refuses root.\n\
         exec unshare --user --map-root-user --mount sh -ec '\n\
         mount -t tmpfs -o size={mib}m,mode=0700 tmpfs \"{place}\"\n\
         exec unshare --user --map-user={user} --map-group={group} \"$0\" \"$@\"' \"{pgmd}\" \"$@\"\n",
        place = place.display(),
        user = id("-u"),
        group = id("-g"),
        pgmd = built("pgmd").display(),
    );
    let allowed =
        run(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]));
    assert_eq!(
        allowed.status, 0,
        "no file system can be made full here: {}\nHINT: allow namespaces for users (sysctl user.max_user_namespaces, \
         kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        allowed.stderr
    );
    let program = pgmd.directory().join("pgmd-on-a-small-disk");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

/// The repository is away, so the spool grows until its disk is full. Nothing that was acknowledged is lost, the server
/// keeps what was not, and everything goes on by itself when there is room again.
#[test]
fn a_full_spool_stops_acknowledging_and_goes_on_by_itself_when_there_is_room() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    let program = with_small_file_system(&pgmd, "spool", 8);
    pgmd.start_program(&program);
    pgmd.wait_streaming("main");
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let allow = |pgmd: &Pgmd, mode| {
        for folder in ["main/wal/00000001", "main/wal"] {
            let path = pgmd.repository().join(folder);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(&pgmd, 0o500);
    cluster.sql("create table filler as select repeat('x', 1000) from generate_series(1, 20000)");
    Point::commit(&cluster, 2);
    wait_until("the spool is full", || {
        let status = pgmd.status("main");
        says(
            status["last_error"].as_str().unwrap_or_default(),
            "no space left",
        ) && status["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("room"))
    });
    let flushed = cluster.value("select coalesce(max(flush_lsn), '0/0') from pg_stat_replication");
    let durable = pgmd.status("main")["durable_lsn"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        cluster.value(&format!(
            "select '{flushed}'::pg_lsn <= '{durable}'::pg_lsn"
        )),
        "t"
    );
    let held = "select restart_lsn from pg_replication_slots where slot_name = 'pgmd'";
    let held = cluster.value(held);
    assert_eq!(
        cluster.value(&format!("select '{held}'::pg_lsn <= '{durable}'::pg_lsn")),
        "t"
    );
    allow(&pgmd, 0o700);
    pgmd.wait_durable("main", &end(&cluster));
    pgmd.wait_streaming("main");
    wait_until("nothing is wrong any more", || {
        pgmd.status("main")["last_error"].is_null()
    });
    let list = pgmd.json(&["list-backup", "main"]);
    assert_eq!(
        list["servers"][0]["gaps"].as_array().unwrap().len(),
        0,
        "{list}"
    );
    // The restored server cannot look into the daemon's namespace: everything has to be in the repository.
    pgmd.stop();
    assert_eq!(rows(&pgmd), [1, 2]);
}

#[test]
fn a_backup_onto_a_full_disk_fails_in_order_and_receiving_goes_on() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    cluster.sql("create table t as select md5(n::text) from generate_series(1, 200000) n");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    let program = with_small_file_system(&pgmd, "repository", 4);
    pgmd.start_program(&program);
    pgmd.wait_streaming("main");
    for _ in 0..2 {
        refusal(&pgmd.cli(&["backup", "main"]), 1, &["space", "repository"]);
        let list = pgmd.json(&["list-backup", "main"]);
        assert_eq!(
            list["servers"][0]["backups"].as_array().unwrap().len(),
            0,
            "{list}"
        );
        goes_on(&cluster, &pgmd, "main");
    }
}

#[test]
fn a_restore_onto_a_disk_that_is_too_small_is_refused() {
    let (_cluster, pgmd) = streaming();
    backup(&pgmd);
    let scratch = Scratch::new("n");
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs \"{}\"; \"$0\" \"$@\" || status=$?; ls -A \"{0}\"; exit $status",
        scratch.path().display()
    );
    let data = scratch.join("data");
    let restored = run(Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(built("pgm-cli"))
        .arg("-D")
        .arg(pgmd.directory())
        .args([
            "restore",
            "main",
            "newest",
            data.to_str().unwrap(),
            "--offline",
        ]));
    refusal(&restored, 1, &["bytes free", "larger file system"]);
    assert_eq!(restored.stdout, "", "nothing was written");
}

#[test]
fn damage_in_one_backup_is_found_named_and_leaves_the_others_alone() {
    let (cluster, pgmd) = streaming();
    Point::commit(&cluster, 1);
    let good = backup(&pgmd);
    let bad = backup(&pgmd);
    Point::commit(&cluster, 2);
    pgmd.wait_durable("main", &end(&cluster));
    let scratch = Scratch::new("n");
    for (number, ending) in [".pack", "/manifest", "/pg_manifest", "/backup.ron"]
        .into_iter()
        .enumerate()
    {
        let file = file_of(&pgmd, &bad, ending);
        let content = fs::read(&file).unwrap();
        flip_a_bit_in_the_middle(&file);
        let name = file
            .strip_prefix(pgmd.repository())
            .unwrap()
            .to_str()
            .unwrap();
        for way in [&[][..], &["--offline"]] {
            let data = scratch.join(format!("data{number}{}", way.len()));
            let restore = ["restore", "main", &bad, data.to_str().unwrap()];
            refusal(&pgmd.cli(&[&restore, way].concat()), 1, &[name]);
            let json = [&["--format", "json"], &restore[..], way].concat();
            assert!(
                refusal_in_json(&pgmd.cli(&json), 1).contains(name),
                "{ending}"
            );
            let postgres = Major::V17
                .command("postgres")
                .arg("-D")
                .arg(&data)
                .stderr(Stdio::null())
                .output();
            assert!(
                !postgres.unwrap().status.success(),
                "no server starts on what a failed restore left"
            );
        }
        let list = pgmd.json(&["list-backup", "main"]);
        let statuses: Vec<&str> = list["servers"][0]["backups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|backup| backup["status"].as_str().unwrap())
            .collect();
        let listed = if ending == "/backup.ron" {
            "damaged"
        } else {
            "valid"
        };
        assert_eq!(statuses, ["valid", listed], "{ending}");
        // The other backup, and the newest that is sound, restore.
        let data = scratch.join(format!("good{number}"));
        pgmd.cli_ok(&["restore", "main", &good, data.to_str().unwrap()]);
        fs::write(&file, content).unwrap();
        // What was left is cleared by the next attempt.
        let data = scratch.join(format!("data{number}0"));
        pgmd.cli_ok(&["restore", "main", &bad, data.to_str().unwrap()]);
        run_ok(Major::V17.command("pg_verifybackup").arg(&data));
    }
    let file = file_of(&pgmd, &bad, "/backup.ron");
    flip_a_bit_in_the_middle(&file);
    assert_eq!(
        rows(&pgmd),
        [1, 2],
        "newest means the newest that can be restored"
    );
    let info = pgmd.cli(&["info", "main", &bad]);
    refusal(&info, 1, &["backup.ron", &bad]);
    goes_on(&cluster, &pgmd, "main");
    assert!(
        !pgmd.json(&["backup", "main"])["label"].is_null(),
        "the next backup is none the worse"
    );
}

/// Nothing in a pack is damaged, and yet it is not the one that was written there: another backup's, a shorter one, none.
#[test]
fn a_pack_that_is_not_the_right_one_is_noticed() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    cluster.sql("create table t as select 1 as round, n from generate_series(1, 1000) n");
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(repository: (path: \"repository\", compression: \"none\"), servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    let older = backup(&pgmd);
    cluster.sql("update t set round = 2 where n = 7");
    let newer = backup(&pgmd);
    let packs = |label: &str| {
        let folder = pgmd.repository().join("main/backup").join(label);
        let all = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut packs: Vec<PathBuf> = all
            .filter(|path| path.extension().is_some_and(|it| it == "pack"))
            .collect();
        packs.sort();
        packs
    };
    let scratch = Scratch::new("n");
    let refuse = |name: &str, words: &[&str]| {
        let data = scratch.join(name);
        let restore = ["restore", "main", &newer, data.to_str().unwrap()];
        refusal(&pgmd.cli(&restore), 1, words);
        assert!(!data.join("global/pg_control").exists(), "no server");
    };
    let (theirs, ours) = (packs(&older), packs(&newer));
    let kept: Vec<Vec<u8>> = ours.iter().map(|pack| fs::read(pack).unwrap()).collect();
    for (from, to) in theirs.iter().zip(&ours) {
        fs::copy(from, to).unwrap();
    }
    refuse("other", &[&newer]);
    for (pack, content) in ours.iter().zip(&kept) {
        fs::write(pack, content).unwrap();
    }
    let name = ours[0]
        .strip_prefix(pgmd.repository())
        .unwrap()
        .to_str()
        .unwrap();
    fs::write(&ours[0], &kept[0][..kept[0].len() / 2]).unwrap();
    refuse("shorter", &[name]);
    fs::remove_file(&ours[0]).unwrap();
    refuse("none", &[name, "does not exist"]);
    fs::write(&ours[0], &kept[0]).unwrap();
    pgmd.cli_ok(&[
        "restore",
        "main",
        &newer,
        scratch.join("good").to_str().unwrap(),
    ]);
}

#[test]
fn a_typing_error_in_the_configuration_is_shown_with_its_place_and_the_nearest_name() {
    let pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(
        "(\n    servers: {\n        \"main\": (conninfo: \"host=h\", slto: \"x\"),\n    },\n)\n",
    );
    let place = format!("{}:3:", pgmd.directory().join("pgmd.ron").display());
    for run in [
        run(&mut pgmd.pgmd_command()),
        run(pgmd.pgmd_command().arg("--check-config")),
        pgmd.cli(&["status"]),
        pgmd.cli(&["check"]),
        pgmd.cli(&["restore", "main", "newest", "/nowhere"]),
    ] {
        refusal(&run, 2, &[&place, "slto", "did you mean `slot`"]);
    }
    let json = pgmd.cli(&["--format", "json", "status"]);
    assert!(refusal_in_json(&json, 2).starts_with(&place));
}

#[test]
fn without_a_daemon_its_commands_end_with_3_and_the_others_work() {
    let (cluster, mut pgmd) = streaming();
    backup(&pgmd);
    pgmd.kill();
    for command in [
        &["ping"][..],
        &["status"],
        &["backup", "main"],
        &["progress"],
        &["shutdown"],
    ] {
        refusal(
            &pgmd.cli(command),
            3,
            &["no pgmd answers", "run/.s.pgmd", "start it"],
        );
    }
    pgmd.cli_ok(&["list-backup", "main"]);
    pgmd.cli_ok(&["info", "main"]);
    let scratch = Scratch::new("n");
    pgmd.cli_ok(&[
        "restore",
        "main",
        "newest",
        scratch.join("data").to_str().unwrap(),
    ]);
    // A socket that a killed daemon left is no obstacle.
    pgmd.start();
    goes_on(&cluster, &pgmd, "main");
}

#[test]
fn servers_and_backups_that_are_not_there_end_with_4_with_and_without_a_daemon() {
    let (_cluster, mut pgmd) = streaming();
    backup(&pgmd);
    for daemon in ["with", "without"] {
        if daemon == "without" {
            pgmd.stop();
        }
        for command in [
            &["check", "mian"][..],
            &["list-backup", "mian"],
            &["info", "mian"],
            &["restore", "mian", "newest", "/nowhere/data"],
            &["restore", "mian", "newest", "/nowhere/data", "--offline"],
        ] {
            refusal(&pgmd.cli(command), 4, &["mian", "`main`"]);
        }
        if daemon == "with" {
            refusal(&pgmd.cli(&["backup", "mian"]), 4, &["mian", "`main`"]);
            refusal(&pgmd.cli(&["status", "mian"]), 4, &["mian", "`main`"]);
        }
        for label in ["20010101T000000Z", "yesterday"] {
            for command in [
                &["info", "main", label][..],
                &["restore", "main", label, "/nowhere/data"],
                &["restore", "main", label, "/nowhere/data", "--offline"],
            ] {
                refusal(&pgmd.cli(command), 4, &[label, "list-backup"]);
            }
        }
    }
}

#[test]
fn a_server_without_a_backup_says_so() {
    let (_cluster, pgmd) = streaming();
    for way in [&[][..], &["--offline"]] {
        let restore = ["restore", "main", "newest", "/nowhere/data"];
        refusal(
            &pgmd.cli(&[&restore, way].concat()),
            4,
            &["`main`", "no backup", "pgm-cli backup main"],
        );
    }
    refusal(&pgmd.cli(&["info", "main"]), 4, &["main"]);
}

#[test]
fn a_directory_in_use_is_never_written_to() {
    let (cluster, pgmd) = streaming();
    backup(&pgmd);
    let scratch = Scratch::new("n");
    fs::write(scratch.join("precious"), "precious").unwrap();
    let file = scratch.join("precious");
    for way in [&[][..], &["--offline"], &["--plan"]] {
        for (place, word) in [
            (cluster.data(), "empty"),
            (scratch.path(), "empty"),
            (&file, "not a directory"),
        ] {
            let restore = ["restore", "main", "newest", place.to_str().unwrap()];
            refusal(
                &pgmd.cli(&[&restore, way].concat()),
                2,
                &[place.to_str().unwrap(), word],
            );
        }
        let unwritable = ["restore", "main", "newest", "/proc/no/such"];
        refusal(&pgmd.cli(&[&unwritable, way].concat()), 1, &["/proc"]);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert_eq!(cluster.value("select 1"), "1");
}

#[test]
fn garbage_on_the_management_socket_disturbs_nobody() {
    let (cluster, pgmd) = streaming();
    let socket = pgmd.directory().join("run/.s.pgmd");
    let request = |payload: &[u8]| {
        let mut frame = vec![b'Q'];
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut held = Vec::new();
    for garbage in [
        vec![],
        vec![0],
        vec![0xff; 1 << 16],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        [&[b'Q'][..], &u32::MAX.to_be_bytes()].concat(),
        request(b"(((((((((((((((((((((((((("),
        request(&[0xff, 0xfe, 0]),
        request(b"Status(server:None)garbage"),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(&garbage);
        if garbage.len() > 5 {
            let mut answer = Vec::new();
            // Refused with an answer or by hanging up, never left waiting.
            stream
                .set_read_timeout(Some(std::time::Duration::from_secs(20)))
                .unwrap();
            let mut some = [0; 4096];
            let count = stream.read(&mut some).unwrap_or_default();
            answer.extend(&some[..count]);
            assert!(!String::from_utf8_lossy(&answer).contains("panicked"));
        }
        held.push(stream);
        pgmd.cli_ok(&["ping"]);
    }
    goes_on(&cluster, &pgmd, "main");
    assert!(!pgmd.log().contains("panicked"), "{}", pgmd.log());
}

/// Two servers under one name would overwrite each other's WAL.
#[test]
fn another_server_under_the_same_name_is_refused_and_the_first_one_kept() {
    let (first, mut pgmd) = streaming();
    Point::commit(&first, 1);
    backup(&pgmd);
    Point::commit(&first, 2);
    pgmd.wait_durable("main", &end(&first));
    let second = Cluster::builder(Major::V17).segment_mib(1).start();
    pgmd.write_configuration(&format!(
        "(servers: {{ \"main\": (conninfo: {:?}) }})",
        second.conninfo()
    ));
    pgmd.reload();
    wait_until("the trouble is said", || {
        let status = pgmd.status("main");
        let error = status["last_error"].as_str().unwrap_or_default();
        says(error, "system identifier") && status["hint"].is_string()
    });
    refusal(
        &pgmd.cli(&["backup", "main"]),
        1,
        &["system", "another name"],
    );
    // An empty spool does not make it another archive.
    pgmd.stop();
    fs::rename(pgmd.spool("main"), pgmd.directory().join("aside")).unwrap();
    pgmd.start();
    wait_until("the trouble is said", || {
        let status = pgmd.status("main");
        let error = status["last_error"].as_str().unwrap_or_default();
        says(error, "system") && status["hint"].is_string()
    });
    let check = pgmd.cli(&["check", "main"]);
    assert_eq!(check.status, 1);
    assert!(
        check.stdout.contains("repository identity"),
        "{}",
        check.stdout
    );
    pgmd.stop();
    let _ = fs::remove_dir_all(pgmd.spool("main"));
    fs::rename(pgmd.directory().join("aside"), pgmd.spool("main")).unwrap();
    assert_eq!(rows(&pgmd), [1, 2]);
}
