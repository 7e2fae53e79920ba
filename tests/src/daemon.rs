//! A pgmd that a test owns, and the command line that drives it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Run, in_session, is_running, kill_all_in, run, send};
use crate::scratch::Scratch;
use crate::wait::{wait_for, wait_until};

/// A pgmd with a base directory of its own; killed and removed when dropped.
#[derive(Debug)]
pub struct Pgmd {
    scratch: Scratch,
    process: Option<Child>,
    /// Variables of its environment, and of the command line's.
    environment: Vec<(String, String)>,
}

impl Pgmd {
    /// Makes a base directory whose configuration protects `servers`: names and connection strings.
    pub fn configured(servers: &[(&str, &str)]) -> Self {
        let pgmd = Self {
            scratch: Scratch::new("d"),
            process: None,
            environment: Vec::new(),
        };
        let mut entries = String::new();
        for (name, conninfo) in servers {
            // Rust's way to write a text is RON's, too.
            let _ = writeln!(entries, "{name:?}: (conninfo: {conninfo:?}),");
        }
        fs::create_dir(pgmd.scratch.join("home")).expect("our own folder");
        pgmd.write_configuration(&format!("(\nservers: {{\n{entries}}},\n)\n"));
        pgmd
    }

    /// Sets a variable for the daemon's next start, and for the command line.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Replaces the configuration; the daemon sees it after a reload or restart.
    pub fn write_configuration(&self, text: &str) {
        let file = self.directory().join("pgmd.ron");
        fs::write(&file, text).expect("the configuration can be written");
        // Only its owner may read a configuration with passwords in it.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our own file");
    }

    /// The base directory.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.scratch.join("repository")
    }

    /// The spool of a server.
    pub fn spool(&self, server: &str) -> PathBuf {
        self.scratch.join("spool").join(server)
    }

    /// What the daemon and its workers have logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.join("log")).unwrap_or_default())
            .into_owned()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("pgmd was started").id()
    }

    /// A command that runs pgmd on the base directory.
    pub fn pgmd_command(&self) -> Command {
        self.command(&built("pgmd"))
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.start_program(&built("pgmd"));
    }

    /// Starts this copy of the daemon's program and waits until it answers.
    pub fn start_program(&mut self, program: &Path) {
        assert!(self.process.is_none(), "pgmd was started already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.scratch.join("log"))
            .expect("our own file");
        let mut command = in_own_session(&self.command(program));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        self.process = Some(command.spawn().expect("pgmd can be started"));
        wait_until("pgmd answers", || {
            let process = self.process.as_mut().expect("just started");
            let ended = process.try_wait().expect("our own child");
            assert!(
                ended.is_none(),
                "pgmd ended by itself ({ended:?}):\n{}",
                self.log()
            );
            self.cli(&["ping"]).status == 0
        });
    }

    /// Stops the daemon in order (SIGTERM) and returns its exit status.
    pub fn stop(&mut self) -> i32 {
        send(self.pid(), Signal::TERM);
        self.wait_stopped()
    }

    /// Waits until a daemon that was told to stop has stopped, and returns its exit status; none of its processes is
    /// left then.
    pub fn wait_stopped(&mut self) -> i32 {
        let mut process = self.process.take().expect("pgmd was started");
        let status = wait_for("pgmd stops", || process.try_wait().expect("our own child"));
        let left = in_session(process.id());
        assert!(left.is_empty(), "processes are left: {left:?}");
        status.code().unwrap_or(-1)
    }

    /// Ends the daemon and all its workers with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let workers = in_session(process.id());
            let _ = process.kill();
            let _ = process.wait();
            for pid in &workers {
                send(*pid, Signal::KILL);
            }
            wait_until("workers end", || {
                !workers.iter().any(|pid| is_running(*pid))
            });
        }
        kill_all_in(self.directory());
    }

    /// Ends only the supervisor with SIGKILL, and waits until its workers have noticed and are gone.
    pub fn kill_supervisor(&mut self) {
        let mut process = self.process.take().expect("pgmd was started");
        let workers = workers_of(process.id());
        let _ = process.kill();
        let _ = process.wait();
        wait_until("orphaned workers end by themselves", || {
            !workers.iter().any(|pid| is_running(*pid))
        });
    }

    /// Makes the daemon read its configuration again.
    pub fn reload(&self) {
        send(self.pid(), Signal::HUP);
    }

    /// Runs `pgm-cli` on the base directory.
    pub fn cli(&self, arguments: &[&str]) -> Run {
        run(self.cli_command().args(arguments))
    }

    /// Runs `pgm-cli` and returns what it printed; fails the test unless it exits with 0.
    pub fn cli_ok(&self, arguments: &[&str]) -> String {
        let run = self.cli(arguments);
        assert!(
            run.status == 0,
            "pgm-cli {} exited with {}\n{}{}\nlog of pgmd:\n{}",
            arguments.join(" "),
            run.status,
            run.stdout,
            run.stderr,
            self.log()
        );
        run.stdout
    }

    /// Runs `pgm-cli --format json` and returns its document; fails the test unless it exits with 0.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(arguments);
        let text = self.cli_ok(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }

    /// A command that runs `pgm-cli` on the base directory.
    pub fn cli_command(&self) -> Command {
        self.command(&built("pgm-cli"))
    }

    /// How the daemon sees a server.
    pub fn status(&self, server: &str) -> Value {
        let status = self.json(&["status"]);
        let servers = status["servers"].as_array().expect("a list of servers");
        servers
            .iter()
            .find(|entry| entry["server"] == server)
            .expect("the server is configured")
            .clone()
    }

    /// Waits until the WAL of `server` streams.
    pub fn wait_streaming(&self, server: &str) {
        wait_until("WAL streams", || {
            self.status(server)["state"] == "streaming"
        });
    }

    /// Waits until everything up to `lsn` of `server` is durable here.
    pub fn wait_durable(&self, server: &str, lsn: &str) {
        let wanted: pgm_proto::Lsn = lsn.parse().expect("an LSN");
        wait_until("WAL becomes durable", || {
            let durable = self.status(server)["durable_lsn"]
                .as_str()
                .and_then(|text| text.parse().ok());
            durable.is_some_and(|lsn: pgm_proto::Lsn| lsn >= wanted)
        });
    }

    /// The process of a server's receive worker, if it runs.
    pub fn receive_worker(&self, server: &str) -> Option<u32> {
        self.workers(&["receive", server]).first().copied()
    }

    /// The processes of running jobs.
    pub fn job_workers(&self) -> Vec<u32> {
        self.workers(&["job"])
    }

    fn workers(&self, arguments: &[&str]) -> Vec<u32> {
        let Some(process) = &self.process else {
            return Vec::new();
        };
        let all = workers_of(process.id()).into_iter();
        all.filter(|pid| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
            let from = words
                .iter()
                .position(|word| *word == b"worker")
                .map_or(words.len(), |at| at + 1);
            let mut words = words[from..].iter();
            arguments
                .iter()
                .all(|wanted| words.any(|word| *word == wanted.as_bytes()))
        })
        .collect()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-D")
            .arg(self.directory())
            .current_dir(self.directory());
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command.env("HOME", self.scratch.join("home"));
        let variables = self.environment.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Pgmd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "last messages of pgmd:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        self.kill();
    }
}

/// Ends the process `pid` of a worker with SIGKILL.
pub fn kill_worker(pid: u32) {
    send(pid, Signal::KILL);
}

/// The path of one of pgm's own programs, built beside this test program.
pub fn built(program: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let folders = this.ancestors().skip(1).take(3);
    let found = folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{program} is not built beside {}\nHINT: run the tests through tests/run",
            this.display()
        )
    })
}

/// The processes of a pgmd that the kit started: the supervisor, its workers, and hooks.
pub fn processes_of(supervisor: u32) -> Vec<u32> {
    in_session(supervisor)
}

/// The same command in a session of its own, by which everything that it starts is found: where a process works cannot be
/// asked, because pgmd's let nobody look into them.
fn in_own_session(inner: &Command) -> Command {
    let mut command = Command::new("setsid");
    command.arg(inner.get_program()).args(inner.get_args());
    if let Some(folder) = inner.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn workers_of(supervisor: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain anything; the state and the parent follow it.
        stat.rsplit_once(") ")?
            .1
            .split(' ')
            .nth(1)?
            .parse::<u32>()
            .ok()
    };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(supervisor) && is_running(*pid))
        .collect()
}
