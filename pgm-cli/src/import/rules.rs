//! What becomes of each key of pgmoneta: one row a key.

/// What becomes of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// It becomes this setting.
    To(&'static str, Conversion),
    /// It is part of something that is put together from several keys.
    Part,
    /// Nothing has to be said: pgm does it anyway, or it depends on nothing of the kind.
    NotNeeded(&'static str),
    /// pgm has nothing that corresponds.
    Gone(&'static str),
}

/// How a value becomes one of ours.
#[derive(Debug, Clone, Copy)]
pub(super) enum Conversion {
    /// As it is.
    Same,
    /// `on`, `yes`, `1`, `true` and their opposites.
    Switch,
    /// Seconds, or with the suffix s, m, h, d, w.
    Time,
    /// Bytes, or with the suffix B, K, M, G.
    Size,
    /// FATAL, ERROR, WARN, INFO, DEBUG1 to DEBUG5.
    Level,
    /// append or create.
    Mode,
    /// never, off, strict, minimal, verbose, full.
    Title,
}

use Conversion::{Level, Mode, Same, Size, Switch, Time, Title};
use Rule::{Gone, NotNeeded, Part, To};

const OBJECT_STORE: &str = "pgm keeps its repository on a file system so far: mount one there";
const RETENTION: &str = "pgm deletes nothing by itself so far: see pgm-cli delete";
const ITSELF: &str = "pgmd finds by itself how much runs at the same time";
const HOT_STANDBY: &str =
    "name each directory in `standbys`: docs/manual.md, «Standbys that are ready»";

/// The keys of the section `[pgmoneta]`.
pub(super) const MAIN: &[(&str, Rule)] = &[
    ("host", Part),
    ("unix_socket_dir", To("unix_socket_dir", Same)),
    ("base_dir", Part),
    ("metrics", Part),
    ("metrics_cache_max_age", To("metrics.cache_max_age", Time)),
    (
        "metrics_cache_max_size",
        NotNeeded("one page is kept, whatever its size"),
    ),
    ("metrics_cert_file", Part),
    ("metrics_key_file", Part),
    (
        "metrics_ca_file",
        Gone("whoever reads metrics is not asked for a certificate"),
    ),
    (
        "console",
        Gone("the overview page is on the port of the metrics"),
    ),
    (
        "nagios",
        Gone("pgm-cli status --format json tells what a check needs"),
    ),
    ("management", Part),
    ("compression", Part),
    ("compression_level", Part),
    ("workers", NotNeeded(ITSELF)),
    ("workspace", NotNeeded("nothing is staged")),
    ("storage_engine", Part),
    ("encryption", Part),
    ("create_slot", Part),
    ("ssh_hostname", Gone(OBJECT_STORE)),
    ("ssh_username", Gone(OBJECT_STORE)),
    ("ssh_base_dir", Gone(OBJECT_STORE)),
    ("ssh_port", Gone(OBJECT_STORE)),
    ("ssh_ciphers", Gone(OBJECT_STORE)),
    ("ssh_public_key_file", Gone(OBJECT_STORE)),
    ("ssh_private_key_file", Gone(OBJECT_STORE)),
    ("s3_bucket", Gone(OBJECT_STORE)),
    ("s3_region", Gone(OBJECT_STORE)),
    ("s3_access_key_id", Gone(OBJECT_STORE)),
    ("s3_secret_access_key", Gone(OBJECT_STORE)),
    ("s3_base_dir", Gone(OBJECT_STORE)),
    ("s3_endpoint", Gone(OBJECT_STORE)),
    ("s3_port", Gone(OBJECT_STORE)),
    ("s3_use_tls", Gone(OBJECT_STORE)),
    ("s3_storage_class", Gone(OBJECT_STORE)),
    ("azure_storage_account", Gone(OBJECT_STORE)),
    ("azure_container", Gone(OBJECT_STORE)),
    ("azure_shared_key", Gone(OBJECT_STORE)),
    ("azure_base_dir", Gone(OBJECT_STORE)),
    ("azure_endpoint", Gone(OBJECT_STORE)),
    ("azure_port", Gone(OBJECT_STORE)),
    ("azure_use_tls", Gone(OBJECT_STORE)),
    ("retention", Gone(RETENTION)),
    ("retention_interval", Gone(RETENTION)),
    (
        "verification",
        Gone("set verify.interval and verify.level: pgmd then verifies backups by itself"),
    ),
    ("log_type", To("log_type", Same)),
    ("log_level", To("log_level", Level)),
    ("log_path", To("log_path", Same)),
    ("log_mode", To("log_mode", Mode)),
    ("log_rotation_age", To("log_rotation_age", Time)),
    ("log_rotation_size", To("log_rotation_size", Size)),
    (
        "log_line_prefix",
        Gone("lines begin with the time in UTC, level and worker"),
    ),
    (
        "blocking_timeout",
        NotNeeded("every wait has its own limit"),
    ),
    (
        "authentication_timeout",
        To("management.authentication_timeout", Time),
    ),
    ("tls", Part),
    ("tls_cert_file", Part),
    ("tls_key_file", Part),
    ("tls_ca_file", Part),
    ("libev", NotNeeded("poll and epoll")),
    ("max_rate", Part),
    ("progress", NotNeeded("the progress is always known")),
    (
        "keep_alive",
        NotNeeded("always on; keepalives in a conninfo says otherwise"),
    ),
    ("nodelay", NotNeeded("always on")),
    ("non_blocking", NotNeeded("always on")),
    (
        "backlog",
        NotNeeded("management.max_connections is the limit that counts"),
    ),
    ("hugepage", NotNeeded("the shared memory is small")),
    (
        "direct_io",
        Gone("files are written through the page cache, and synced"),
    ),
    ("pidfile", To("pidfile", Same)),
    ("update_process_title", To("update_process_title", Title)),
    ("link", NotNeeded("a full backup stands alone")),
];

/// The keys of the section of a server.
pub(super) const SERVER: &[(&str, Rule)] = &[
    ("host", Part),
    ("port", Part),
    ("user", Part),
    ("wal_slot", To("slot", Same)),
    ("create_slot", To("create_slot", Switch)),
    (
        "follow",
        Gone("name all hosts in the conninfo: host=a,b target_session_attrs=primary"),
    ),
    ("retention", Gone(RETENTION)),
    ("wal_shipping", Gone("WAL has one repository; copy that")),
    ("workspace", NotNeeded("nothing is staged")),
    ("s3_bucket", Gone(OBJECT_STORE)),
    ("s3_region", Gone(OBJECT_STORE)),
    ("s3_access_key_id", Gone(OBJECT_STORE)),
    ("s3_secret_access_key", Gone(OBJECT_STORE)),
    ("s3_base_dir", Gone(OBJECT_STORE)),
    ("s3_endpoint", Gone(OBJECT_STORE)),
    ("s3_port", Gone(OBJECT_STORE)),
    ("s3_use_tls", Gone(OBJECT_STORE)),
    ("s3_storage_class", Gone(OBJECT_STORE)),
    ("hot_standby", Gone(HOT_STANDBY)),
    ("hot_standby_overrides", Gone(HOT_STANDBY)),
    ("hot_standby_tablespaces", Gone(HOT_STANDBY)),
    ("workers", NotNeeded(ITSELF)),
    ("max_rate", Part),
    ("progress", NotNeeded("the progress is always known")),
    ("tls_cert_file", Part),
    ("tls_key_file", Part),
    ("tls_ca_file", Part),
    ("extra", Gone("only PostgreSQL's own files are backed up")),
];

/// Keys whose values are not repeated anywhere.
pub(super) fn is_secret(key: &str) -> bool {
    let secret = [
        "secret",
        "shared_key",
        "access_key",
        "password",
        "passphrase",
    ];
    secret
        .iter()
        .any(|word| key.to_ascii_lowercase().contains(word))
}

impl Conversion {
    /// The value as it is typed after `conf set KEY`, or why it is none.
    pub(super) fn convert(self, value: &str) -> Result<String, String> {
        let lower = value.to_ascii_lowercase();
        match self {
            Same | Size => Ok(value.to_owned()),
            Switch => switch(&lower).map(|on| on.to_string()),
            Time => time(&lower),
            Level => level(&lower).map(str::to_owned),
            Mode => match lower.as_str() {
                "append" | "a" => Ok("append".to_owned()),
                "create" | "c" => Ok("truncate".to_owned()),
                _ => Err("it is neither append nor create".to_owned()),
            },
            Title => match lower.as_str() {
                "never" | "off" => Ok("false".to_owned()),
                "strict" | "minimal" | "verbose" | "full" => Ok("true".to_owned()),
                _ => Err("it is none of never, off, strict, minimal, verbose, full".to_owned()),
            },
        }
    }
}

/// A truth value of pgmoneta.
pub(super) fn switch(lower: &str) -> Result<bool, String> {
    match lower {
        "on" | "yes" | "1" | "true" => Ok(true),
        "off" | "no" | "0" | "false" => Ok(false),
        _ => Err("it is neither on nor off".to_owned()),
    }
}

/// `30s`, `5m`: m are minutes, and nothing means seconds.
fn time(lower: &str) -> Result<String, String> {
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match lower[digits.len()..].trim() {
        "" | "s" => "s",
        "m" => "min",
        unit @ ("h" | "d" | "w") => unit,
        other => return Err(format!("`{other}` is no unit of time")),
    };
    Ok(format!("{}{unit}", digits.trim()))
}

fn level(lower: &str) -> Result<&'static str, String> {
    match lower {
        "fatal" | "error" => Ok("error"),
        "warn" => Ok("warn"),
        "info" => Ok("info"),
        "debug" | "debug1" => Ok("debug"),
        "debug2" | "debug3" | "debug4" | "debug5" | "trace" => Ok("trace"),
        _ => Err("it is no level".to_owned()),
    }
}
