//! A far store on bad days, under load: faults in every tenth request; silence and refusal for a while.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgm_backup::Repository;
use pgm_proto::{Lsn, RepositoryName};
use pgm_storage::{ObjectPath, Storage};
use pgm_tests::{
    ChaosProxy, Cluster, Committers, Fault, Major, Pgmd, Port, Proxy, StoreKind, StoreServer, http,
    run_ok, wait_until,
};
use pgmd::place::RepositoryPlace;
use serde_json::Value;

/// A daemon that protects the server `main` in a repository at S3.
struct Protected {
    cluster: Cluster,
    pgmd: Pgmd,
    credentials: PathBuf,
}

impl Protected {
    /// `url` is the repository as the daemon sees it, `more` are further settings.
    fn start(store: &StoreServer, url: &str, more: &str) -> Self {
        let credentials = store.credentials_file();
        let file = credentials.to_str().unwrap();
        let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
        let mut pgmd = Pgmd::configured(&[]);
        pgmd.write_configuration(&format!(
            "(repository: (url: {url:?}, credentials_file: {file:?}), \
              servers: {{ \"main\": (conninfo: {:?}) }}, {more})",
            cluster.conninfo()
        ));
        pgmd.start();
        pgmd.wait_streaming("main");
        Self {
            cluster,
            pgmd,
            credentials,
        }
    }

    /// Ends the segment and gives its end, as a number.
    fn end_segment(&self) -> f64 {
        let end = self.cluster.value("select pg_switch_wal() - '0/0'::pg_lsn");
        end.parse().unwrap()
    }

    /// What the status says of the repository.
    fn repository(&self) -> Value {
        self.pgmd.status("main")["repositories"][0].clone()
    }

    /// Ends the segment, and waits until it is in the repository.
    fn archive_all(&self) {
        let written: Lsn = self
            .cluster
            .value("select pg_switch_wal()")
            .parse()
            .unwrap();
        wait_until("the wal is in the repository", || {
            let archived = self.pgmd.status("main")["archived_lsn"].clone();
            let archived = archived.as_str().and_then(|text| text.parse::<Lsn>().ok());
            archived.is_some_and(|archived| archived >= written)
        });
    }

    /// Restores from the repository at `url` alone, starts a server on it, and waits until it is through with its WAL.
    fn restored(&self, url: &str, backup: &str, more: &[&str]) -> Cluster {
        let credentials = self.credentials.to_str().unwrap();
        let mut restored = Cluster::made_by(Major::V17, |data| {
            let to = data.to_str().unwrap();
            let far = ["--repository", url, "--credentials", credentials];
            let arguments = [&["restore", "main", backup, to][..], &far, more].concat();
            run_ok(self.pgmd.cli_command().args(arguments));
        });
        restored.start();
        restored.wait_writable();
        restored
    }
}

/// How many rows there are, and which.
fn rows(cluster: &Cluster) -> String {
    cluster.value("select count(*) || ' rows, ' || coalesce(sum(hashint8(n)), 0) from t")
}

/// The objects of the backups in a repository: sizes by path below their folder, by label. Not the lists of frames that serve
/// a backup which goes on from this one: they are removed when it is whole.
fn objects(storage: &dyn Storage) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut found: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    let folder = ObjectPath::parse("main/backup").unwrap();
    let listed = storage.list(&folder, &mut |meta| {
        if let Some((label, rest)) = meta.path.below(&folder).unwrap().split_once('/')
            && !rest.starts_with("resume/")
        {
            found
                .entry(label.to_owned())
                .or_default()
                .insert(rest.to_owned(), meta.size);
        }
        ControlFlow::Continue(())
    });
    listed.unwrap();
    found
}

/// Looks at the repository over and over, on a way without faults.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Watched>,
}

/// What was seen.
#[derive(Default)]
struct Watched {
    /// The objects of each backup when its catalog entry, by which it is listed, was seen for the first time.
    listed: BTreeMap<String, BTreeMap<String, u64>>,
    /// Backups of which there was something before that.
    begun: BTreeSet<String>,
}

impl Watch {
    fn start(place: RepositoryPlace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut watched = Watched::default();
            while !told.load(Ordering::Acquire) {
                watched.look(&place);
                // Others need the store, too.
                thread::sleep(Duration::from_millis(20));
            }
            watched
        });
        Self { stop, thread }
    }

    fn end(self) -> Watched {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

impl Watched {
    fn look(&mut self, place: &RepositoryPlace) {
        let storage = place.open().unwrap();
        // Nothing is there before the daemon has made it.
        let Ok(repository) = Repository::open(Arc::clone(&storage)) else {
            return;
        };
        let catalog = repository.catalog(&"main".parse().unwrap()).unwrap();
        assert!(catalog.damaged().is_empty(), "{:?}", catalog.damaged());
        let named: BTreeSet<String> = catalog
            .backups()
            .iter()
            .map(|entry| entry.label.to_string())
            .collect();
        // One listing is of one moment.
        for (label, objects) in objects(&*storage) {
            if objects.contains_key("backup.ron") {
                self.listed.entry(label).or_insert(objects);
            } else {
                assert!(!named.contains(&label), "{label} is listed: {objects:?}");
                self.begun.insert(label);
            }
        }
    }
}

/// A number from the environment: by hand one may want more than is affordable each time.
fn asked(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable);
    value.map_or(default, |text| text.parse().expect("a number"))
}

/// Of the requests between pgm and S3 one in ten fails in one of seven ways. `PGM_TEST_BACKUPS=50` for more than a few.
#[test]
fn with_faults_in_a_tenth_of_all_requests_every_backup_that_is_listed_restores() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = asked("PGM_TEST_SEED", clock.as_secs());
    let count = asked("PGM_TEST_BACKUPS", 4);
    let store = StoreServer::start(StoreKind::S3);
    let chaos = ChaosProxy::to(store.port(), 100, seed);
    let bad_way = store.address_through(chaos.port(), "bad") + "&timeout=2&retry_timeout=60";
    let good_way = store.address("bad");
    let protected = Protected::start(&store, &bad_way, "");
    let (cluster, pgmd) = (&protected.cluster, &protected.pgmd);
    let place = RepositoryPlace {
        name: RepositoryName::default(),
        address: good_way.parse().unwrap(),
        credentials: Some(protected.credentials.clone()),
        key: None,
    };
    let watch = Watch::start(place.clone());
    cluster.sql("create table t (n bigint)");
    let mut labels = BTreeSet::new();
    for number in 0..count {
        cluster.sql(&format!(
            "insert into t select {number} * 1000 + n from generate_series(1, 1000) n"
        ));
        cluster.value("select pg_switch_wal()");
        let backup = pgmd.json(&["backup", "main"]);
        labels.insert(backup["label"].as_str().unwrap().to_owned());
    }
    cluster.sql("insert into t values (-1)");
    let between = cluster.value("select pg_current_wal_insert_lsn()");
    let at_between = rows(cluster);
    cluster.sql("insert into t values (-2)");
    protected.archive_all();

    let watched = watch.end();
    assert_eq!(
        watched.listed.keys().collect::<BTreeSet<_>>(),
        labels.iter().collect()
    );
    assert!(
        !watched.begun.is_empty(),
        "nothing was seen on its way: too seldom looked"
    );
    let at_the_end = objects(&*place.open().unwrap());
    assert!(
        watched.listed == at_the_end,
        "a backup was listed before it was whole"
    );

    let truth = rows(cluster);
    for label in &labels {
        let restored = protected.restored(&bad_way, label, &[]);
        assert_eq!(rows(&restored), truth, "backup {label}");
    }
    let restored = protected.restored(&bad_way, "newest", &["--target-lsn", &between]);
    assert_eq!(rows(&restored), at_between);
    let (requests, faults) = chaos.counts();
    println!("{count} backups, {requests} requests, {faults} faults, seed {seed}");
    assert!(faults > count * 2, "the day was not bad");
}

/// The numbers of the segments among objects that were written.
fn segments(written: &[String]) -> Vec<u64> {
    let names = written.iter().filter_map(|path| {
        let (folder, name) = path.rsplit_once('/')?;
        (folder.ends_with("/main/wal/00000001") && name.len() == 24).then_some(name)
    });
    // Segments of 1 MiB: 4096 of them have the same middle.
    let number = |name: &str| {
        let part = |range| u64::from_str_radix(&name[range], 16).unwrap();
        part(8..16) * 4096 + part(16..24)
    };
    names.map(number).collect()
}

/// The value of a series of a metric; 0 while it is not there.
fn metric(port: &Port, series: &str) -> f64 {
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let answer = http(address, "GET /metrics HTTP/1.0\r\n\r\n");
    let mut values = answer
        .body
        .lines()
        .filter_map(|line| line.strip_prefix(series));
    values
        .next()
        .map_or(0.0, |value| value.trim().parse().unwrap())
}

/// Of the segments behind `last_before` none came before one with a lower number, and none is missing.
fn came_in_order(watched: &ChaosProxy, last_before: u64) {
    let came = segments(&watched.written()).into_iter();
    let came: Vec<_> = came.filter(|number| *number > last_before).collect();
    let end = last_before + 1 + came.len() as u64;
    assert_eq!(came, (last_before + 1..end).collect::<Vec<_>>());
}

/// `PGM_TEST_OUTAGE=120` for two minutes.
#[test]
fn a_store_that_is_away_costs_no_row_and_gets_what_waited_in_order() {
    let outage = asked("PGM_TEST_OUTAGE", 8) as f64;
    let store = StoreServer::start(StoreKind::S3);
    let watched = ChaosProxy::to(store.port(), 0, 0);
    let proxy = Proxy::to(watched.port());
    let url = store.address_through(proxy.port(), "away") + "&timeout=2&retry_timeout=4";
    let port = Port::claim();
    let metrics = format!(
        "metrics: (host: \"127.0.0.1\", port: {}, cache_max_age: \"0\")",
        port.number()
    );
    let mut protected = Protected::start(&store, &url, &metrics);
    let workload = Committers::start(&protected.cluster, 1);
    workload.wait_for_more(100);
    protected.pgmd.cli_ok(&["backup", "main"]);
    protected.archive_all();

    // First it says nothing, then it is not even there. The metrics ask it nothing.
    proxy.set(Fault::SilenceAfter(0));
    proxy.cut();
    let files = || {
        metric(
            &port,
            "pgm_repo_backlog_files{server=\"main\",repo=\"default\"} ",
        )
    };
    let age = || {
        metric(
            &port,
            "pgm_repo_backlog_seconds{server=\"main\",repo=\"default\"} ",
        )
    };
    let safe = || metric(&port, "pgm_wal_flushed_lsn_bytes{server=\"main\"} ");
    for more in 1..4 {
        workload.wait_for_more(50);
        let written = protected.end_segment();
        wait_until("wal is safe here", || safe() >= written);
        wait_until("it waits", || files() >= f64::from(more));
    }
    wait_until("it waits for long", || age() >= outage / 2.0);
    let seen = protected.repository();
    assert!(seen["backlog_files"].as_u64().unwrap() >= 3, "{seen}");
    assert!(
        seen["backlog_seconds"].as_f64().unwrap() >= (outage / 2.0).floor(),
        "{seen}"
    );
    let text = protected.pgmd.cli_ok(&["status"]);
    assert!(text.contains("files of the spool wait, for "), "{text}");

    proxy.set(Fault::Refuse);
    proxy.cut();
    // What is in the spool is safe there, whatever becomes of the daemon.
    let before = files();
    protected.pgmd.kill();
    protected.pgmd.start();
    workload.wait_for_more(50);
    let written = protected.end_segment();
    wait_until("wal is safe here", || safe() >= written);
    wait_until("all of it waits", || files() > before && age() >= outage);
    wait_until("the reason is told", || {
        protected.repository()["error"].is_string()
    });
    let last_before = *segments(&watched.written()).last().unwrap();
    let waited = files();
    let rows = workload.count();

    proxy.set(Fault::None);
    proxy.cut();
    wait_until("what waited is there", || {
        let since = segments(&watched.written()).into_iter();
        since.filter(|number| *number > last_before).count() as f64 >= waited
    });
    let acknowledged = workload.stop();
    assert!(acknowledged.len() > rows, "work went on all the time");
    protected.archive_all();
    wait_until("nothing waits", || files() == 0.0 && age() == 0.0);
    wait_until("nothing is wrong", || {
        protected.repository()["error"].is_null()
    });
    came_in_order(&watched, last_before);

    protected.pgmd.kill();
    protected.cluster.destroy();
    std::fs::remove_dir_all(protected.pgmd.directory().join("spool")).unwrap();
    let restored = protected.restored(&store.address("away"), "newest", &[]);
    let missing = acknowledged.missing_in(&restored);
    assert!(missing.is_empty(), "{} rows are missing", missing.len());
    println!("{waited} files waited, {} rows", acknowledged.len());
}
