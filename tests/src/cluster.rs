//! A real PostgreSQL server that a test owns: made by `initdb`, on a port and a socket of its own.
//!
//! ```no_run
//! use pgm_tests::{Cluster, Major, StopMode};
//!
//! let mut primary = Cluster::builder(Major::V17).setting("wal_level", "replica").start();
//! primary.sql("create table t as select generate_series(1, 1000) n");
//! assert_eq!(primary.value("select count(*) from t"), "1000");
//! primary.kill();
//! primary.start();
//! primary.stop(StopMode::Fast);
//! ```
//!
//! Servers run with `fsync = off`: what a test kills is a process, never the machine. Settings that belong to the place
//! (port, sockets, certificates) are given on the command line, so that a data directory means the same after a restore.
//! Dropping a cluster kills exactly its processes and removes its files.

mod builder;
mod sql;
mod standby;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;

pub use builder::{Auth, ClusterBuilder, Tls};

use crate::certificates::Certificates;
use crate::majors::Major;
use crate::port::Port;
use crate::process::{kill_all_in, send};
use crate::scratch::Scratch;
use crate::wait::{wait_for, wait_until};

/// The role with which clients of a test log in over TCP: `REPLICATION`, no superuser.
pub const ROLE: &str = "pgm";
/// The password of [`ROLE`]; it has characters that need quoting in connection strings.
pub const PASSWORD: &str = "pä ss'wo\\rd";

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Ends all sessions, writes a checkpoint, and sends the rest of the WAL to its receivers (SIGINT).
    Fast,
    /// Ends at once; the next start recovers (SIGQUIT).
    Immediate,
}

/// A PostgreSQL server that a test owns.
#[derive(Debug)]
pub struct Cluster {
    major: Major,
    data: PathBuf,
    port: Port,
    certificates: Option<Certificates>,
    auth: Auth,
    postmaster: Option<Child>,
    /// Sockets, the log, tablespaces, and the data directory unless it was given.
    scratch: Scratch,
}

impl Cluster {
    /// Begins to describe a server of this major version.
    pub fn builder(major: Major) -> ClusterBuilder {
        ClusterBuilder::new(major)
    }

    /// A server on an existing data directory, a restored one for example; it is not started yet.
    pub fn on(major: Major, data: &Path) -> Self {
        Self::builder(major).adopt(data)
    }

    /// A server whose data directory `make` makes at the path it is given, by a restore for example; not started yet.
    pub fn made_by(major: Major, make: impl FnOnce(&Path)) -> Self {
        let mut cluster = Self::builder(major).adopt(Path::new(""));
        cluster.data = cluster.scratch.join("data");
        make(&cluster.data);
        cluster
    }

    /// The server's major version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder of this server's own, beside its data directory.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The folder of its unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Its TCP port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The certificates, if the server speaks TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates
            .as_ref()
            .expect("the cluster was built with Tls::On")
    }

    /// A connection string for [`ROLE`] over TCP, with its password where the server asks for one.
    pub fn conninfo(&self) -> String {
        let password = match self.auth {
            Auth::Trust => String::new(),
            _ => format!(
                " password='{}'",
                PASSWORD.replace('\\', "\\\\").replace('\'', "\\'")
            ),
        };
        format!(
            "host=127.0.0.1 port={} user={ROLE} dbname=postgres{password}",
            self.port()
        )
    }

    /// A connection string for the superuser `postgres` over the unix socket, which never needs a password.
    pub fn conninfo_superuser(&self) -> String {
        format!(
            "host={} port={} user=postgres dbname=postgres",
            self.socket_folder().display(),
            self.port()
        )
    }

    /// A command that runs one of this major's programs.
    pub fn command(&self, program: &str) -> Command {
        self.major.command(program)
    }

    /// The file that the server's messages go to.
    pub fn log_path(&self) -> PathBuf {
        self.scratch.join("log")
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The process id of the postmaster, if the server was started.
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Child::id)
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&mut self) {
        self.launch();
        let started = wait_for("the server starts", || match self.exited() {
            Some(status) => Some(Err(status)),
            None => self.accepts_connections().then_some(Ok(())),
        });
        if let Err(status) = started {
            self.postmaster = None;
            panic!(
                "PostgreSQL {} did not start ({status}):\n{}",
                self.major,
                tail(&self.log())
            );
        }
    }

    /// Waits until recovery is over and the server accepts writes.
    pub fn wait_writable(&mut self) {
        wait_until("recovery ends", || {
            if let Some(status) = self.exited() {
                panic!(
                    "the server ended during recovery ({status}):\n{}",
                    tail(&self.log())
                );
            }
            self.value("select pg_is_in_recovery()") == "f"
        });
    }

    /// Starts a server without waiting until it lets anybody in.
    pub fn start_recovering(&mut self) {
        self.launch();
    }

    /// Starts a server that is expected to end by itself, and returns how it ended.
    pub fn start_expecting_exit(&mut self) -> ExitStatus {
        self.launch();
        let status = wait_for("the server ends by itself", || self.exited());
        self.postmaster = None;
        status
    }

    /// Stops the server and waits until all its processes are gone.
    pub fn stop(&mut self, mode: StopMode) {
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        if let Some(pid) = self.pid() {
            send(pid, signal);
            wait_until("the server stops", || self.exited().is_some());
        }
        self.kill();
    }

    /// Stops the server in order and starts it again on the same port.
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start();
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        if let Some(pid) = self.pid() {
            send(pid, Signal::HUP);
        }
    }

    /// Ends every process of the server with SIGKILL, as if the machine had lost its power.
    pub fn kill(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = postmaster.kill();
            let _ = postmaster.wait();
        }
        if self.data.exists() {
            // The backends work in the data directory; nothing else does.
            kill_all_in(&self.data);
            self.remove_shared_memory();
        }
    }

    /// The disaster: kills the server and deletes its data directory and tablespaces.
    pub fn destroy(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.data).expect("the data directory can be deleted");
        let _ = fs::remove_dir_all(self.scratch.join("tablespaces"));
    }

    /// Adds a line to `postgresql.conf`; the server sees it after a reload or restart.
    pub fn configure(&self, name: &str, value: &str) {
        use std::io::Write;
        let mut file = File::options()
            .append(true)
            .open(self.data.join("postgresql.conf"))
            .expect("the configuration can be opened");
        writeln!(file, "{name} = '{}'", value.replace('\'', "''"))
            .expect("the configuration can be written");
    }

    fn launch(&mut self) {
        assert!(self.postmaster.is_none(), "the server was started already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be opened");
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data);
        for (name, value) in self.settings_of_place() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let postmaster = command
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres can be started");
        self.postmaster = Some(postmaster);
    }

    fn settings_of_place(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("port", self.port().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            (
                "unix_socket_directories",
                self.socket_folder().display().to_string(),
            ),
        ];
        match &self.certificates {
            Some(files) => settings.extend([
                ("ssl", "on".to_owned()),
                ("ssl_ca_file", files.authority.display().to_string()),
                ("ssl_cert_file", files.server.display().to_string()),
                ("ssl_key_file", files.server_key.display().to_string()),
            ]),
            None => settings.push(("ssl", "off".to_owned())),
        }
        settings
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.postmaster.as_mut()?.try_wait().expect("our own child")
    }

    /// The eighth line of `postmaster.pid` says so, also for a hot standby.
    fn accepts_connections(&self) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let ours = text.lines().next().and_then(|pid| pid.trim().parse().ok()) == self.pid();
        ours && text
            .lines()
            .nth(7)
            .is_some_and(|state| state.trim() == "ready")
    }

    /// A killed postmaster leaves one small System V segment, which would stay until the machine's next start.
    fn remove_shared_memory(&self) {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let id = text
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        if let Some(id) = id.filter(|id| id.parse::<u32>().is_ok()) {
            let _ = Command::new("ipcrm")
                .args(["-m", id])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "last messages of PostgreSQL {}:\n{}",
                self.major,
                tail(&self.log())
            );
        }
        self.kill();
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
