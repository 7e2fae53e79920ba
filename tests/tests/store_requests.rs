//! What S3 is asked, counted by a proxy and by pgm itself: for each segment of WAL, and for backups. `docs/stores.md` has the
//! numbers; whoever changes them changes the page.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pgm_backup::backup::{BackupRequest, BackupTarget, NoArchive, backup};
use pgm_backup::catalog::BackupWal;
use pgm_backup::{Context, Repository};
use pgm_proto::{Client, ConnInfo, ServerName, Session};
use pgm_storage::{
    Compression, Credentials, Meter, Operation, Storage, StoreAddress, StoreOptions, open,
};
use pgm_tests::{ChaosProxy, Cluster, Major, Requests, StoreKind, StoreServer};
use pgm_wal::archive::{Archive, Stored};
use pgm_wal::{SegmentName, SegmentSize};

/// A store whose requests are counted twice.
struct Counted {
    proxy: ChaosProxy,
    meter: Arc<Meter>,
    storage: Arc<dyn Storage>,
    _store: StoreServer,
}

impl Counted {
    fn start() -> Self {
        let store = StoreServer::start(StoreKind::S3);
        let proxy = ChaosProxy::to(store.port(), 0, 0);
        let options = StoreOptions {
            credentials: Credentials::parse(&store.credentials()).unwrap(),
            ..StoreOptions::default()
        };
        let meter = Arc::clone(&options.meter);
        let address = StoreAddress::parse(&store.address_through(proxy.port(), "counted")).unwrap();
        Self {
            proxy,
            meter,
            storage: open(&address, &options).unwrap(),
            _store: store,
        }
    }

    /// What `work` asks the store, after both have agreed on it.
    fn asked<T>(&self, work: impl FnOnce() -> T) -> (Requests, T) {
        let before = self.proxy.requests();
        let done = work();
        let all = self.proxy.requests();
        for count in self.meter.counts() {
            let name = count.operation.name();
            assert_eq!(count.requests, all.of(count.operation), "{name}: {all}");
        }
        (all.since(&before), done)
    }
}

/// The finished segments of a cluster, oldest first.
fn segments(cluster: &Cluster) -> Vec<SegmentName> {
    let current = cluster.value("select pg_walfile_name(pg_current_wal_lsn())");
    let entries = fs::read_dir(cluster.data().join("pg_wal")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut finished: Vec<_> = names
        .filter(|name| name.len() == 24 && *name < current)
        .collect();
    finished.sort();
    let parse = |name: &String| SegmentName::parse(name, SegmentSize::DEFAULT).unwrap();
    finished.iter().map(parse).collect()
}

fn file(cluster: &Cluster, name: SegmentName) -> std::path::PathBuf {
    cluster
        .data()
        .join("pg_wal")
        .join(name.file_name(SegmentSize::DEFAULT))
}

fn store(archive: &Archive, path: &Path, name: SegmentName) -> Stored {
    let size = SegmentSize::DEFAULT;
    archive
        .store_segment(path, name, size, Compression::ZSTD)
        .unwrap()
}

#[test]
fn a_segment_of_wal_takes_no_more_requests_than_the_page_says() {
    // Room, so that no segment is removed meanwhile.
    let cluster = Cluster::builder(Major::V17)
        .setting("min_wal_size", "256MB")
        .setting("max_wal_size", "1GB")
        .setting("wal_keep_size", "1GB")
        .setting("full_page_writes", "off")
        .start();
    let counted = Counted::start();
    let archive = Archive::new(Arc::clone(&counted.storage), "main".parse().unwrap());
    // Almost empty; full of what compresses as rows do; full of what does not compress at all.
    let fillings = [
        ("nearly empty", "select 1"),
        (
            "full of rows",
            "create table r as select n, md5((n % 5000)::text), n % 100 as k from generate_series(1, 300000) n",
        ),
        (
            "incompressible",
            "create table x as select sha512(n::text::bytea) a, sha512((-n)::text::bytea) b from generate_series(1, 200000) n",
        ),
    ];
    let limits = [3, 4, 13];
    for ((what, sql), limit) in fillings.into_iter().zip(limits) {
        cluster.sql("select pg_switch_wal()");
        let before = segments(&cluster).len();
        cluster.sql(sql);
        cluster.sql("create table if not exists one (n int); insert into one values (1)");
        cluster.sql("select pg_switch_wal()");
        cluster.sql("insert into one values (2)");
        let name = segments(&cluster)[before];
        let path = file(&cluster, name);
        let (asked, stored) = counted.asked(|| store(&archive, &path, name));
        let Stored::New(summary) = stored else {
            panic!("{what}: {stored:?}")
        };
        println!("{what} ({} KiB in the store): {asked}", summary.size >> 10);
        assert!(asked.total() <= limit, "{what}: {asked}");
    }
}

/// `PGM_TEST_ROWS=4300000` for a GiB of data that hardly compresses.
#[test]
fn a_backup_takes_no_more_requests_than_the_page_says() {
    let rows: u64 = std::env::var("PGM_TEST_ROWS").map_or(100_000, |rows| rows.parse().unwrap());
    let cluster = Cluster::builder(Major::V17).start();
    cluster.sql(&format!(
        "create table x as select sha512(n::text::bytea) a, sha512((-n)::text::bytea) b, sha512((2 * n)::text::bytea) c \
         from generate_series(1, {rows}) n"
    ));
    let counted = Counted::start();
    let server: ServerName = "main".parse().unwrap();
    let repository = Repository::create(Arc::clone(&counted.storage)).unwrap();
    let conninfo: ConnInfo = cluster.conninfo().parse().unwrap();
    let take = || {
        let mut client = Client::connect(&conninfo, Session::PhysicalReplication).unwrap();
        let request = BackupRequest {
            wal: BackupWal::Included,
            ..BackupRequest::default()
        };
        let targets = [BackupTarget {
            repository: &repository,
            compression: Compression::ZSTD,
            coverage: &NoArchive,
        }];
        backup(&Context::quiet(), &mut client, &server, &targets, &request).unwrap();
    };
    let (asked, ()) = counted.asked(take);
    let catalog = repository.catalog(&server).unwrap();
    let size = &catalog.newest().unwrap().size;
    let (parts, packs) = (asked.of(Operation::PutPart), u64::from(size.packs));
    println!(
        "{} MiB of files, {} MiB in {} packs: {asked}, {} in all",
        size.raw_bytes >> 20,
        size.stored_bytes >> 20,
        packs,
        asked.total()
    );
    assert!(parts <= size.stored_bytes / (8 << 20) + packs, "{asked}");
    assert!(asked.of(Operation::Multipart) <= 2 * packs, "{asked}");
    // Beside the parts: of each pack a look, and its list of frames, put and removed; locks and their renewals, the server, the
    // catalog, the manifests.
    let rest = asked.total() - parts - asked.of(Operation::Multipart);
    assert!(rest <= 30 + 3 * packs, "{rest} besides: {asked}");
}
