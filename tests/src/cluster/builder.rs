//! How a test says what server it needs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Cluster, PASSWORD, ROLE};
use crate::certificates::Certificates;
use crate::majors::Major;
use crate::port::Port;
use crate::process::run_ok;
use crate::scratch::Scratch;

/// How clients prove over TCP who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    Trust,
    /// SCRAM-SHA-256, with channel binding over TLS.
    ScramSha256,
    /// The old challenge with MD5.
    Md5,
    /// The password as it is.
    Password,
    /// A client certificate (needs [`Tls::On`]).
    Certificate,
}

/// Whether the server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It does not.
    Off,
    /// It accepts connections with and without.
    On,
    /// It accepts no TCP connection without.
    Required,
}

/// Describes a server; [`ClusterBuilder::start`] makes it.
#[derive(Debug)]
pub struct ClusterBuilder {
    major: Major,
    settings: Vec<(String, String)>,
    segment_mib: u32,
    checksums: &'static [&'static str],
    auth: Auth,
    tls: Tls,
    tablespaces: Vec<String>,
}

impl ClusterBuilder {
    pub(super) fn new(major: Major) -> Self {
        Self {
            major,
            settings: Vec::new(),
            segment_mib: 16,
            checksums: &["--data-checksums"],
            auth: Auth::Trust,
            tls: Tls::Off,
            tablespaces: Vec::new(),
        }
    }

    /// Adds a line to `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The size of a WAL segment in MiB: a power of two from 1 to 1024, 16 if not said.
    #[must_use]
    pub fn segment_mib(mut self, mib: u32) -> Self {
        self.segment_mib = mib;
        self
    }

    /// Without page checksums (which are on if not said).
    #[must_use]
    pub fn without_checksums(mut self) -> Self {
        self.checksums = if self.major >= Major::V18 {
            &["--no-data-checksums"]
        } else {
            &[]
        };
        self
    }

    /// How clients log in over TCP; no proof is asked for if not said.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Whether the server speaks TLS; it does not if not said.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Adds a tablespace of this name, in a folder of the same name below [`Cluster::folder`]`/tablespaces`.
    #[must_use]
    pub fn tablespace(mut self, name: &str) -> Self {
        self.tablespaces.push(name.to_owned());
        self
    }

    /// Makes the server with `initdb` and starts it.
    pub fn start(self) -> Cluster {
        let scratch = Scratch::new("c");
        let data = scratch.join("data");
        let mut initdb = self.major.command("initdb");
        initdb.arg("-D").arg(&data).args(self.checksums);
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        run_ok(initdb.arg(format!("--wal-segsize={}", self.segment_mib)));
        fs::write(data.join("pg_hba.conf"), self.host_based_authentication())
            .expect("pg_hba.conf can be written");

        let (settings, tablespaces) = (self.settings.clone(), self.tablespaces.clone());
        let mut cluster = self.cluster(data, scratch);
        for (name, value) in DEFAULTS {
            cluster.configure(name, value);
        }
        for (name, value) in &settings {
            cluster.configure(name, value);
        }
        cluster.start();
        cluster.make_role();
        for name in &tablespaces {
            let folder = cluster.folder().join("tablespaces").join(name);
            fs::create_dir_all(&folder).expect("the folder of a tablespace can be made");
            cluster.sql(&format!(
                "create tablespace \"{name}\" location '{}'",
                folder.display()
            ));
        }
        cluster
    }

    /// The server of an existing data directory, not started yet; its settings are in the directory already.
    pub fn adopt(self, data: &Path) -> Cluster {
        self.cluster(data.to_owned(), Scratch::new("c"))
    }

    fn cluster(self, data: PathBuf, scratch: Scratch) -> Cluster {
        let certificates = match self.tls {
            Tls::Off => None,
            Tls::On | Tls::Required => Some(Certificates::write(&scratch.join("tls"), ROLE)),
        };
        Cluster {
            major: self.major,
            data,
            port: Port::claim(),
            certificates,
            auth: self.auth,
            postmaster: None,
            scratch,
        }
    }

    fn host_based_authentication(&self) -> String {
        let method = match self.auth {
            Auth::Trust => "trust",
            Auth::ScramSha256 => "scram-sha-256",
            Auth::Md5 => "md5",
            Auth::Password => "password",
            Auth::Certificate => "cert",
        };
        let line = match self.tls {
            Tls::Required => "hostssl",
            Tls::Off | Tls::On if self.auth == Auth::Certificate => "hostssl",
            Tls::Off | Tls::On => "host",
        };
        let mut text = String::new();
        for database in ["all", "replication"] {
            // The kit itself comes over the socket, and standbys with it.
            let _ = writeln!(text, "local {database} all trust");
            let _ = writeln!(text, "{line} {database} all 127.0.0.1/32 {method}");
        }
        text
    }
}

impl Cluster {
    fn make_role(&self) {
        let encryption = if self.auth == Auth::Md5 {
            "md5"
        } else {
            "scram-sha-256"
        };
        self.sql(&format!(
            "set password_encryption = '{encryption}'; \
             create role {ROLE} login replication password '{}'; \
             grant pg_monitor to {ROLE}",
            PASSWORD.replace('\'', "''")
        ));
    }
}

/// Small, quick, and leaving nothing behind outside the data directory.
const DEFAULTS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "40"),
    ("dynamic_shared_memory_type", "mmap"),
    ("log_line_prefix", "%m [%p] %a "),
    ("log_replication_commands", "on"),
    ("timezone", "UTC"),
    ("wal_sender_timeout", "20s"),
];
