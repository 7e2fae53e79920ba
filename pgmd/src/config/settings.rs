//! Every setting of pgm, declared once. What follows from a declaration is in [`registry`](super::registry).
//!
//! The sentence of a setting is its help in `conf ls`, in the sample file and on the reference page. The class after the
//! default says when a change takes effect, and whoever uses the setting has to make that true: `Live` settings are
//! looked up in the configuration in force each time, `Restart` ones when the daemon starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pgm_backup::retention::RetentionPolicy;
use pgm_proto::{ConnInfo, Defaults, RepositoryName, ServerCompression, ServerName, SlotName};
use pgm_storage::{Compression, StoreAddress};

use super::ConfigError;
use super::entry::Entry;
use super::registry::{Group, Setting, settings};
use super::section::Section;
use super::value::{
    BackupSource, ByteSize, ConninfoText, HookCommand, JobPriority, LogLevel, LogMode, LogType,
    MasterKeySource, PathTemplate, ProgramFolders, ServerMode, Statements, TablespacePlaces,
    VerifyDepth,
};

settings! {
    /// A configuration file, read and checked.
    #[derive(Debug, Clone)]
    pub struct Config in "" {
        /// The folder of the management socket (.s.pgmd) and of the process id file.
        unix_socket_dir: PathBuf = Is("run"), Restart;
        /// The group whose members may use the management socket, too.
        unix_socket_group: Option<String> = Unset("only pgmd's own user"), Restart;
        /// The file with the process id of the daemon that runs; it is locked, too.
        pidfile: Option<PathBuf> = Unset("pgmd.pid in unix_socket_dir"), Restart;
        /// Where WAL becomes durable before it is acknowledged, and is archived from; a folder for each server.
        spool: PathBuf = Is("spool"), Restart;
        /// The file with the passwords of PostgreSQL's users, as libpq's.
        passfile: Option<PathBuf> = Unset("~/.pgpass of pgmd's user"), NewWorkers;
        /// How many jobs (backups, restores …) may run at the same time, over all servers.
        jobs_max: usize = Is("2"), Live, limits("1", "64");
        /// How jobs share disk and processor with others on the host: normal; low, behind others; idle, only what nobody else wants. The disk's part takes
        /// a scheduler that knows priorities (bfq, mq-deadline). Restores, and receiving WAL, are always normal.
        job_priority: JobPriority = Is("normal"), Live;
        /// How many finished jobs are remembered.
        jobs_history: usize = Is("1000"), Live, limits("0", "1000000");
        /// Which backups are kept, such as `last 3, window 14d, days 7, weeks 4, months 12, years 3`; the rest expires.
        retention: RetentionPolicy = Is("everything"), Live;
        /// How often what has expired is removed; 0: only on command.
        retention_interval: Duration = Is("1h"), Live, limits("0", "30d");
        /// How long a stopping daemon waits for its workers before it ends them by force.
        shutdown_timeout: Duration = Is("10s"), Live, limits("1s", "10min");
        /// Whether pgmd's processes say in the list of processes what they do.
        update_process_title: bool = Is("true"), Restart;
        /// Where the master key comes from: a file, `command: …` (its output) or `env: NAME`.
        master_key: MasterKeySource = Is("master.key"), Live;
        /// The file with the PostgreSQL passwords that are sealed with the master key.
        vault: PathBuf = Is("vault.ron"), Live;
        /// The file with the users of remote management and their roles.
        admins: PathBuf = Is("admins.ron"), Live;
        /// The file in which every management action is recorded.
        audit_log: PathBuf = Is("audit.log"), Restart;
        /// Whether the audit log has requests that only read, too.
        audit_reads: bool = Is("false"), Live;
        /// How much is logged.
        log_level: LogLevel = Is("info"), Live;
    }
    groups {
        /// Where the log goes.
        logging: LoggingConfig;
        /// Where backups and WAL rest.
        repository: RepositoryConfig;
        /// How backups are verified.
        verify: VerifyConfig;
        /// Management over TCP; none without a port.
        management: Option<ManagementConfig>;
        /// The overview page and the metrics; none without a port.
        metrics: Option<MetricsConfig>;
        /// Commands before and after operations.
        hooks: HooksConfig;
    }
    beside {
        /// The file itself, absolute.
        file: PathBuf;
        /// What completes the servers' connection strings.
        connection_defaults: Defaults;
        /// The repositories beside the one named `default`.
        repositories: BTreeMap<RepositoryName, FurtherRepositoryConfig>;
        /// The directories that are kept ready to be started as standbys.
        standbys: BTreeMap<String, StandbyConfig>;
        /// The servers to protect.
        servers: BTreeMap<ServerName, ServerConfig>;
        /// Every setting with its value and where that comes from, in the order of the reference page.
        entries: Vec<Entry>;
    }
}

settings! {
    /// Where the log goes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LoggingConfig in "" {
        /// Where the log goes.
        destination as "log_type": LogType = Is("console"), Restart;
        /// The log file, when log_type is file; `%Y-%m-%d` and the like become the time at which it is opened.
        path as "log_path": PathTemplate = Is("pgmd.log"), Restart;
        /// After this time the log file is opened anew; 0: never.
        rotation_age as "log_rotation_age": Duration = Is("0"), Restart;
        /// When the log file is this large it is opened anew; 0: never.
        rotation_size as "log_rotation_size": ByteSize = Is("0"), Restart;
        /// Whether a log file that exists already is continued or emptied.
        mode as "log_mode": LogMode = Is("append"), Restart;
    }
}

settings! {
    /// Where backups and WAL rest, and how they are packed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RepositoryConfig in "repository" {
        /// The folder of backups and archived WAL.
        path: PathBuf = Is("repository"), Restart;
        /// The address of a far repository, instead of path: s3://…, azure://…, gs://…, sftp://… (docs/stores.md).
        url: Option<StoreAddress> = Unset("the repository is in path"), Restart;
        /// The file with the credentials for url, lines NAME=value; only pgmd's user (and group) may be able to read it.
        credentials_file: Option<PathBuf> = Unset("the environment has them, or the host's own identity does"), Restart;
        /// How new backups and WAL are compressed: zstd:1 to zstd:22, zstd:-1 to zstd:-100 (ever faster), lz4, gzip:1 to gzip:9, none.
        /// In backups, level 1 stands in for levels 2 to 9 where it makes at most a sixty-fourth more bytes.
        compression: Compression = Is("zstd:3"), NewWorkers;
        /// The master key with which everything there is sealed (encrypted and authenticated), like master_key: a file,
        /// command:… or env:NAME. A repository is made sealed or plain and stays so.
        seal: Option<MasterKeySource> = Unset("nothing is sealed"), Restart;
    }
}

settings! {
    /// How backups are verified.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct VerifyConfig in "verify" {
        /// After which time each backup is verified again without being asked; 0: only on command.
        interval: Duration = Is("0"), Live, limits("0", "365d");
        /// How far that goes.
        level: VerifyDepth = Is("wal"), Live;
        /// How many bytes of the repository that may read a day, over all servers; 0: no limit.
        budget: ByteSize = Is("0"), Live;
        /// The folder in which backups are restored to be tried; what is made there is removed again.
        scratch: PathBuf = Is("scratch"), Live;
        /// Where PostgreSQL's programs are looked for before PATH and the places of distributions: folders that hold the
        /// programs, or folders such as 17/bin.
        postgres_bin: Option<ProgramFolders> = Unset("PATH and the usual places"), Live;
    }
}

settings! {
    /// A further repository.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FurtherRepositoryConfig in "repositories.NAME" {
        /// Its folder; relative ones start at the configuration's folder.
        path: Option<PathBuf> = Unset("it is at url"), NewWorkers;
        /// Its address, when it is far: s3://…, azure://…, gs://…, sftp://… (docs/stores.md).
        url: Option<StoreAddress> = Unset("it is in path"), NewWorkers;
        /// The file with the credentials for url, lines NAME=value; only pgmd's user (and group) may be able to read it.
        credentials_file: Option<PathBuf> = Unset("the environment has them, or the host's own identity does"), NewWorkers;
        /// How backups and WAL are compressed there, with the same choice.
        compression: Compression = Is("zstd:3"), NewWorkers;
        /// The master key with which everything there is sealed (encrypted and authenticated), like master_key: a file,
        /// command:… or env:NAME. A repository is made sealed or plain and stays so.
        seal: Option<MasterKeySource> = Unset("nothing is sealed"), NewWorkers;
        /// Which backups are kept there, when not as everywhere.
        retention: Option<RetentionPolicy> = Unset("as for the server, or for all servers"), Live;
    }
}

settings! {
    /// Management over TCP: for `pgm-cli -h HOST` and the admin console.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ManagementConfig in "management" {
        /// The address to listen on: a name, an address, or `*` for all.
        host: String = Is("localhost"), Restart;
        /// The port to listen on; 0: no management over TCP.
        port: u16 = Is("0"), Restart;
        /// The certificate for TLS (PEM).
        tls_cert_file: Option<PathBuf> = Unset("no TLS"), Live;
        /// The key of the certificate (PEM); only pgmd's user may be able to read it.
        tls_key_file: Option<PathBuf> = Unset("no TLS"), Live;
        /// The certificates (PEM) of which one must have signed a client's certificate.
        tls_ca_file: Option<PathBuf> = Unset("clients need no certificate"), Live;
        /// Whether clients may do without TLS: everybody on the network sees what they do.
        allow_plaintext: bool = Is("false"), Live;
        /// How long a client may take to show who it is.
        authentication_timeout: Duration = Is("10s"), Live, limits("1s", "10min");
        /// How many clients may be logged in at the same time, and as many more may be about to.
        max_connections: usize = Is("64"), Live, limits("1", "10000");
        /// How many clients of one address may be about to log in; the next one cuts off the oldest.
        max_connections_per_address: usize = Is("16"), Live, limits("1", "10000");
        /// A client that sends nothing for this long is disconnected, unless it waits for an answer.
        idle_timeout: Duration = Is("5min"), Live, limits("1s", "1d");
        /// The iteration count of SCRAM-SHA-256 for new passwords.
        scram_iterations: u32 = Is("4096"), Live, limits("4096", "100000");
    }
}

settings! {
    /// The overview page and the metrics for Prometheus.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MetricsConfig in "metrics" {
        /// The address to listen on: a name, an address, or `*` for all.
        host: String = Is("localhost"), Restart;
        /// The port to listen on; 0: no metrics.
        port: u16 = Is("0"), Restart;
        /// The certificate for TLS (PEM).
        tls_cert_file: Option<PathBuf> = Unset("no TLS"), Restart;
        /// The key of the certificate (PEM); only pgmd's user may be able to read it.
        tls_key_file: Option<PathBuf> = Unset("no TLS"), Restart;
        /// How many clients may be connected at the same time.
        max_connections: usize = Is("32"), Restart, limits("1", "10000");
        /// How long a client may take to ask and to read the answer.
        timeout: Duration = Is("10s"), Restart, limits("1s", "10min");
        /// A page that is not older than this is served again.
        cache_max_age: Duration = Is("1s"), Restart, limits("0", "1h");
    }
}

settings! {
    /// Commands before and after operations.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HooksConfig in "hooks" {
        /// Runs before a backup; its failure prevents the backup.
        before_backup: Option<HookCommand> = Unset(""), Live;
        /// Runs after a backup, also after one that failed.
        after_backup: Option<HookCommand> = Unset(""), Live;
        /// Runs before a restore; its failure prevents the restore.
        before_restore: Option<HookCommand> = Unset(""), Live;
        /// Runs after a restore, also after one that failed.
        after_restore: Option<HookCommand> = Unset(""), Live;
        /// Runs before a backup is put into an archive file; its failure prevents that.
        before_archive: Option<HookCommand> = Unset(""), Live;
        /// Runs after a backup was put into an archive file, also when that failed.
        after_archive: Option<HookCommand> = Unset(""), Live;
        /// Runs before a backup is deleted; its failure prevents that.
        before_delete: Option<HookCommand> = Unset(""), Live;
        /// Runs after a backup was deleted, also when that failed.
        after_delete: Option<HookCommand> = Unset(""), Live;
        /// Runs before a standby's directory is brought up to date; its failure prevents that.
        before_standby: Option<HookCommand> = Unset(""), Live;
        /// Runs after a standby's directory was brought up to date, also when that failed.
        after_standby: Option<HookCommand> = Unset(""), Live;
        /// A hook that runs longer is ended and has failed.
        timeout: Duration = Is("5min"), Live, limits("1s", "1d");
    }
}

settings! {
    /// A directory that is kept ready to be started as a standby.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StandbyConfig in "standbys.NAME" {
        /// The server whose backups it gets, after each one.
        server: ServerName = Required, Live;
        /// Its data directory; pgmd makes it, and owns what is in it until it is promoted.
        directory: PathBuf = Required, Live;
        /// A folder whose files take the place of the backup's, such as postgresql.conf and pg_hba.conf.
        overrides: Option<PathBuf> = Unset("it has the server's own settings"), Live;
        /// Where its tablespaces are: `FROM=TO`, absolute folders, FROM as on the server.
        tablespaces: Option<TablespacePlaces> = Unset("where the server has them"), Live;
        /// Where it streams from once it runs. It holds no password: that belongs into a passfile.
        primary_conninfo: Option<ConninfoText> = Unset("it has what restore_command gives"), Live;
    }
}

settings! {
    /// One server.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ServerConfig in "servers.NAME" {
        /// How to reach it, as libpq's connection strings: key=value or a URL. Passwords belong into ~/.pgpass of
        /// pgmd's user or into the vault; one that is written here is accepted when only the owner can read the file.
        conninfo_text as "conninfo": ConninfoText = Required, NewWorkers;
        /// The physical replication slot that keeps its WAL for pgmd.
        slot: SlotName = Is("pgmd"), NewWorkers;
        /// Whether the slot is made when it is missing.
        create_slot: bool = Is("true"), NewWorkers;
        /// Backups transfer at most this much a second.
        backup_max_rate: Option<ByteSize> = Unset("as fast as it goes"), Live, limits("32KiB", "1GiB");
        /// How many threads compress a backup; with several repositories they share no more than 8.
        backup_workers: Option<u16> = Unset("one for each core of the host, at most 8"), Live, limits("1", "8");
        /// The older form of backup_max_rate, in KiB a second.
        backup_max_rate_kib: Option<u32> = Unset(""), Live, limits("32", "1048576");
        /// How the server (PostgreSQL 15 or newer) compresses what it sends for a backup, where the network is slow: zstd:-100 to zstd:19,
        /// lz4, gzip:1 to gzip:9. It is stored as the repositories say all the same.
        server_compression: ServerCompression = Is("none"), Live;
        /// How the server's data is read: local, its files where they are, on this host, by several threads and without the server; native, incremental
        /// backups from changed pages that the server sends (PostgreSQL 17 or newer, with summarize_wal); blocks, the server reads its files for
        /// several ordinary sessions, of an incremental backup the changed pages only; stream, everything is sent by the server; auto, the first of
        /// these that is possible, but blocks for incremental backups only.
        backup_source: BackupSource = Is("auto"), Live;
        /// Of an old pack of which an incremental backup needs at most so many percent, it stores these again, so that the pack
        /// can go; 0: never.
        compact_below: u8 = Is("25"), Live, limits("0", "100");
        /// Which of its backups are kept, when not as for all servers.
        retention: Option<RetentionPolicy> = Unset("as for all servers"), Live;
        /// How far scheduled verifications of its backups go, when not as for all servers.
        verify_level: Option<VerifyDepth> = Unset("as for all servers"), Live;
        /// SQL that must succeed on a server that was started on a restored backup; what gives one column of type boolean
        /// must give true.
        verify_sql: Option<Statements> = Unset(""), Live;
        /// The database in which verify_sql runs.
        verify_database: Option<String> = Unset("postgres"), Live;
        /// Whether pgmd works for it from the start (online), or leaves it alone until told otherwise (offline).
        mode: ServerMode = Is("online"), NewWorkers;
    }
    beside {
        /// How to reach it, completed with the defaults of the daemon's user.
        conninfo: ConnInfo;
    }
}

impl ServerConfig {
    /// What backups may transfer, in KiB a second.
    pub fn rate_kib(&self) -> Option<u32> {
        let kib = |size: ByteSize| u32::try_from(size.bytes() / 1024).unwrap_or(u32::MAX);
        self.backup_max_rate.map(kib).or(self.backup_max_rate_kib)
    }
}

/// A group that is only there when its port is set.
macro_rules! switched_by_port {
    ($($group:ty),+) => {$(
        impl Group for Option<$group> {
            fn settings() -> Vec<&'static Setting> {
                <$group>::settings()
            }

            fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
                let group = <$group>::read(section)?;
                Ok((group.port != 0).then_some(group))
            }
        }
    )+};
}

switched_by_port!(ManagementConfig, MetricsConfig);

/// Every setting there is, in the order of the reference page; those of a server once, as `servers.NAME.…`, and those of a
/// further repository as `repositories.NAME.…`, and those of a standby as `standbys.NAME.…`.
pub fn all() -> Vec<&'static Setting> {
    let mut settings = Config::settings();
    settings.extend(FurtherRepositoryConfig::settings());
    settings.extend(ServerConfig::settings());
    settings.extend(StandbyConfig::settings());
    settings
}
