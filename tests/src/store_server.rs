//! Real servers of far stores: moto (S3), Azurite (Azure Blob Storage), OpenSSH (SFTP).
//!
//! Each test has its own, on a port of its own, with an empty bucket `pgm`; it ends when it is dropped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::port::Port;
use crate::process::{kill_all_in, run_ok, send};
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// Azurite's only account, which is public.
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// What a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// S3, by moto.
    S3,
    /// Azure Blob Storage, by Azurite.
    Azure,
    /// SFTP, by OpenSSH.
    Sftp,
}

/// A server of a far store; ended and its data removed when dropped.
#[derive(Debug)]
pub struct StoreServer {
    kind: StoreKind,
    port: Port,
    process: Child,
    scratch: Scratch,
}

impl StoreServer {
    /// Starts a server and makes its bucket.
    pub fn start(kind: StoreKind) -> Self {
        let scratch = Scratch::new("store");
        let port = Port::claim();
        let process = spawn(kind, port.number(), &scratch);
        let server = Self {
            kind,
            port,
            process,
            scratch,
        };
        server.wait_ready();
        server.make_bucket();
        server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address of a repository at this server, below `prefix`.
    pub fn address(&self, prefix: &str) -> String {
        self.address_through(self.port(), prefix)
    }

    /// The same through a proxy at `port`.
    pub fn address_through(&self, port: u16, prefix: &str) -> String {
        let scratch = self.scratch.path().display();
        match self.kind {
            StoreKind::S3 => {
                format!("s3://pgm/{prefix}?endpoint=http://127.0.0.1:{port}&allow_http=yes")
            }
            StoreKind::Azure => format!(
                "azure://devstoreaccount1/pgm/{prefix}?endpoint=http://127.0.0.1:{port}/devstoreaccount1&allow_http=yes"
            ),
            StoreKind::Sftp => {
                let user = user();
                format!(
                    "sftp://{user}@127.0.0.1:{port}{scratch}/data/{prefix}?known_hosts_file={scratch}/known_hosts"
                )
            }
        }
    }

    /// What lets a client in, as lines `NAME=value`.
    pub fn credentials(&self) -> String {
        match self.kind {
            StoreKind::S3 => {
                "AWS_ACCESS_KEY_ID=canary-id\nAWS_SECRET_ACCESS_KEY=canary-secret\n".to_owned()
            }
            StoreKind::Azure => format!("AZURE_STORAGE_ACCOUNT_KEY={AZURITE_KEY}\n"),
            StoreKind::Sftp => format!(
                "SFTP_PRIVATE_KEY_FILE={}\n",
                self.scratch.join("client").display()
            ),
        }
    }

    /// A file of these lines, as the setting `credentials_file` wants it.
    pub fn credentials_file(&self) -> PathBuf {
        let file = self.scratch.join("credentials");
        fs::write(&file, self.credentials()).expect("our own file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our own file");
        file
    }

    /// A folder of the server's own; with SFTP, the data is in its folder `data`.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Stops answering until [`Self::restart`]; what is stored stays if the server keeps it on disk (not moto).
    pub fn stop(&mut self) {
        // Each connection of sshd is served by a child in a session of its own.
        let children = descendants(self.process.id());
        let _ = self.process.kill();
        let _ = self.process.wait();
        for child in children {
            send(child, Signal::KILL);
        }
        kill_all_in(self.scratch.path());
    }

    /// Starts again what was stopped.
    pub fn restart(&mut self) {
        self.process = spawn(self.kind, self.port.number(), &self.scratch);
        self.wait_ready();
    }

    fn wait_ready(&self) {
        let number = self.port.number();
        wait_until("the store's server answers", || {
            if self.kind == StoreKind::Sftp {
                return banner(number).is_some_and(|banner| banner.starts_with(b"SSH-"));
            }
            http(number, "GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").starts_with("HTTP/")
        });
    }

    fn make_bucket(&self) {
        let port = self.port.number();
        match self.kind {
            StoreKind::S3 => {
                let request = format!(
                    "PUT /pgm HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: 0\r\n\
                     Authorization: AWS4-HMAC-SHA256 Credential=canary-id/20260101/us-east-1/s3/aws4_request, \
                     SignedHeaders=host, Signature=0\r\n\r\n"
                );
                let answer = http(port, &request);
                assert!(
                    answer.contains(" 200 "),
                    "the bucket was not made: {answer}"
                );
            }
            StoreKind::Azure => {
                run_ok(
                    Command::new(python())
                        .arg("-c")
                        .arg(MAKE_CONTAINER)
                        .args([&port.to_string(), AZURITE_KEY]),
                );
            }
            StoreKind::Sftp => {}
        }
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The processes that `pid` started, and those that they started.
fn descendants(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(file).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    children
        .flat_map(|child: u32| [vec![child], descendants(child)].concat())
        .collect()
}

/// The first bytes that a server sends by itself.
fn banner(port: u16) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Sends a whole request and returns the whole answer; empty if there was none.
fn http(port: u16, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Signs and sends the request that makes the container `pgm`.
const MAKE_CONTAINER: &str = r#"
import base64, email.utils, hashlib, hmac, sys, urllib.request
port, key = sys.argv[1:]
date = email.utils.formatdate(usegmt=True)
text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
text += "/devstoreaccount1/devstoreaccount1/pgm\nrestype:container"
sign = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
url = f"http://127.0.0.1:{port}/devstoreaccount1/pgm?restype=container"
head = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
        "Authorization": f"SharedKey devstoreaccount1:{sign}"}
urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=head))
"#;

/// Runs moto with one request at a time: it looks whether an object is there and makes it in two steps, and what stands for
/// S3 must not do that.
const ONE_AT_A_TIME: &str = r#"
import sys, threading
from werkzeug.serving import run_simple
from moto.server import DomainDispatcherApplication, create_backend_app
moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    with lock:
        return moto(environ, start_response)
run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
"#;

fn spawn(kind: StoreKind, port: u16, scratch: &Scratch) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(scratch.join("log"))
        .expect("our own file");
    let mut command = match kind {
        StoreKind::S3 => moto(port),
        StoreKind::Azure => azurite(port, scratch),
        StoreKind::Sftp => sshd(port, scratch),
    };
    command
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .process_group(0);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{kind:?}: {error}; tests/stores fetches the servers"))
}

fn moto(port: u16) -> Command {
    let mut command = Command::new(python());
    command
        .env("PYTHONPATH", directory().join("moto"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-c", ONE_AT_A_TIME])
        .arg(port.to_string());
    command
}

fn azurite(port: u16, scratch: &Scratch) -> Command {
    let mut command = Command::new(directory().join("azurite/node_modules/.bin/azurite-blob"));
    command
        .args(["--blobHost", "127.0.0.1", "--blobPort"])
        .arg(port.to_string())
        .arg("--location")
        .arg(scratch.path())
        .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent"]);
    command
}

/// OpenSSH's server with keys of its own, for the user who runs the tests.
fn sshd(port: u16, scratch: &Scratch) -> Command {
    let openssh = directory().join("openssh");
    let libraries = format!(
        "{0}/usr/lib/{1}:{0}/lib/{1}",
        openssh.display(),
        "x86_64-linux-gnu"
    );
    if !scratch.join("host").exists() {
        for name in ["host", "client"] {
            run_ok(
                Command::new(openssh.join("usr/bin/ssh-keygen"))
                    .env("LD_LIBRARY_PATH", &libraries)
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(scratch.join(name)),
            );
        }
        fs::create_dir(scratch.join("data")).expect("our own folder");
        fs::copy(scratch.join("client.pub"), scratch.join("authorized_keys")).expect("our own");
        let host = fs::read_to_string(scratch.join("host.pub")).expect("just made");
        let known = format!("[127.0.0.1]:{port} {host}");
        fs::write(scratch.join("known_hosts"), known).expect("our own file");
        let folder = scratch.path().display();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n\
             AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
        );
        fs::write(scratch.join("sshd_config"), configuration).expect("our own file");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(scratch.join("host"), private).expect("our own file");
    }
    // Without the privilege to read that tests/as-user leaves us: an sshd that can read the shadow file refuses accounts
    // without a password.
    let mut command = Command::new("setpriv");
    command
        .args(["--inh-caps=-all", "--ambient-caps=-all"])
        .arg(openssh.join("usr/sbin/sshd"))
        .env("LD_LIBRARY_PATH", libraries)
        .args(["-D", "-e", "-f"])
        .arg(scratch.join("sshd_config"));
    command
}

fn user() -> String {
    run_ok(Command::new("id").arg("-un")).trim().to_owned()
}

fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() {
        "/usr/bin/python3"
    } else {
        "python3"
    }
}

/// Where `tests/stores` put the servers.
fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("PGM_STORES_DIR") {
        return PathBuf::from(directory);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stores");
    PathBuf::from(run_ok(Command::new(script).arg("--directory")).trim())
}
