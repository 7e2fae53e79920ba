//! Management from afar, with the real programs: psql and pgm-cli log in to pgmd over TCP, and those who should not do not.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pgm_tests::{Certificates, Major, Pgmd, Port, Run, run, wait_until};

const PASSWORD: &str = "correct horse battery";
/// A daemon that serves nobody but strangers stays below this.
const MEMORY_KIB_MAX: u64 = 96 << 10;

/// A daemon with an admin `ann` and a reader `rob`.
struct Served {
    pgmd: Pgmd,
    port: Port,
    certificates: Certificates,
}

impl Served {
    fn start(settings: &str) -> Self {
        let pgmd = Pgmd::configured(&[]);
        let served = Self {
            certificates: Certificates::write(&pgmd.directory().join("tls"), "ann"),
            port: Port::claim(),
            pgmd,
        };
        served.configure(settings);
        served.add_user("ann", "admin");
        served.add_user("rob", "read_only");
        let mut served = served;
        served.pgmd.start();
        served
    }

    fn configure(&self, settings: &str) {
        self.pgmd.write_configuration(&format!(
            r#"(
                management: (
                    host: "127.0.0.1", port: {}, {settings}
                    tls_cert_file: "tls/server.crt", tls_key_file: "tls/server.key",
                ),
                servers: {{}},
            )"#,
            self.port.number()
        ));
    }

    fn add_user(&self, name: &str, role: &str) {
        let added = run(self
            .pgmd
            .cli_command()
            .args(["admin", "user", "add", name, "--admin", "--role", role])
            .args(["--password-env", "PASSWORD"])
            .env("PASSWORD", PASSWORD));
        assert_eq!(added.status, 0, "{}", added.stderr);
    }

    /// `pgm-cli`, with everything checked that can be.
    fn cli(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = self.pgmd.cli_command();
        command
            .args([
                "-h",
                "localhost",
                "-U",
                user,
                "-p",
                &self.port.number().to_string(),
            ])
            .arg("--sslrootcert")
            .arg(&self.certificates.authority)
            .args(arguments)
            .env("PGM_PASSWORD", PASSWORD);
        command
    }

    fn psql(&self, settings: &str, password: &str) -> Run {
        let conninfo = format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=pgm {settings}",
            self.port.number()
        );
        let mut command = Major::V17.command("psql");
        command.args(["-X", "-w", "-d", &conninfo, "-c", "select 1"]);
        run(command.env("PGPASSWORD", password))
    }

    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port.number())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(2)))
            .unwrap();
        stream
    }

    /// The most memory that the daemon has had so far.
    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pgmd.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    fn pings(&self) -> bool {
        run(&mut self.cli("ann", &["ping"])).status == 0
    }
}

/// What a client was told that did not get in.
fn refused(run: &Run) -> String {
    assert_ne!(run.status, 0, "{}", run.stdout);
    run.stderr.clone()
}

fn bound_and_checked(served: &Served, user: &str) -> String {
    let root = served.certificates.authority.display();
    format!("user={user} sslmode=verify-full sslrootcert={root} channel_binding=require")
}

#[test]
fn psql_and_pgm_cli_log_in_over_tls_and_strangers_do_not() {
    let served = Served::start("");
    let ping = run(&mut served.cli("ann", &["ping"]));
    assert_eq!(ping.status, 0, "{}", ping.stderr);
    let status = run(&mut served.cli("rob", &["--format", "json", "status"]));
    assert_eq!(status.status, 0, "{}", status.stderr);
    // What psql hears then is the console's; that it hears anything means that it is in.
    served.psql(&bound_and_checked(&served, "ann"), PASSWORD);
    served.psql("user=ann sslmode=require sslnegotiation=direct", PASSWORD);
    let log = served.pgmd.log();
    assert!(log.contains("rob logged in from 127.0.0.1"), "{log}");
    assert!(log.contains("(SCRAM-SHA-256-PLUS, TLS)"), "{log}");
    assert!(log.contains("(SCRAM-SHA-256-PLUS, direct TLS)"), "{log}");

    let wrong = refused(&served.psql("user=ann sslmode=require", "wrong"));
    let unknown = refused(&served.psql("user=eve sslmode=require", PASSWORD));
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    assert_eq!(wrong.replace("\"ann\"", "\"eve\""), unknown);
    let plain = refused(&served.psql("user=ann sslmode=disable", PASSWORD));
    assert!(
        plain.contains("connections without TLS are refused"),
        "{plain}"
    );
    let replication = "user=ann sslmode=require replication=true";
    let replication = refused(&served.psql(replication, PASSWORD));
    assert!(
        replication.contains("replication is not offered"),
        "{replication}"
    );

    // A reader looks and changes nothing; what acts on the host's own files is for the host.
    let shutdown = refused(&run(&mut served.cli("rob", &["shutdown"])));
    assert!(shutdown.contains("read_only"), "{shutdown}");
    let reload = refused(&run(&mut served.cli("ann", &["conf", "reload"])));
    assert!(reload.contains("own host"), "{reload}");
    let relative = refused(&run(
        &mut served.cli("ann", &["restore", "s", "newest", "data"])
    ));
    assert!(relative.contains("no absolute path"), "{relative}");
    // The other authority has not signed the daemon's certificate.
    let mut stranger = served.cli("ann", &["ping"]);
    stranger
        .arg("--sslrootcert")
        .arg(&served.certificates.other_authority);
    let stranger = refused(&run(&mut stranger));
    assert!(!stranger.contains(PASSWORD), "{stranger}");
    assert!(!served.pgmd.log().contains(PASSWORD));
}

#[test]
fn a_client_certificate_is_demanded_where_it_is_configured() {
    let served = Served::start(r#"tls_ca_file: "tls/authority.crt","#);
    let bare = refused(&run(&mut served.cli("ann", &["ping"])));
    assert!(!bare.contains("28P01"), "{bare}");
    let certificates = &served.certificates;
    let mut command = served.cli("ann", &["ping"]);
    command.arg("--sslcert").arg(&certificates.client);
    command.arg("--sslkey").arg(&certificates.client_key);
    let shown = run(&mut command);
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    // With the certificate alone nobody gets in.
    let settings = format!(
        "user=ann sslmode=require sslcert={} sslkey={}",
        certificates.client.display(),
        certificates.client_key.display()
    );
    let wrong = refused(&served.psql(&settings, "wrong"));
    assert!(wrong.contains("password authentication failed"), "{wrong}");
}

#[test]
fn a_certificate_is_replaced_without_a_restart_and_a_bad_one_is_not_taken() {
    let mut served = Served::start("");
    assert!(served.pings());
    let expired = served.pgmd.directory().join("tls-expired");
    Certificates::write_expired(&expired, &served.certificates);
    replace(&expired, &served.certificates);
    served.pgmd.reload();
    wait_until("the expired certificate is shown", || {
        let run = run(&mut served.cli("ann", &["ping"]));
        run.stderr.contains("expired")
    });
    // A key that does not fit: everything stays as it was.
    let key = fs::read(&served.certificates.server_key).unwrap();
    fs::copy(
        &served.certificates.client_key,
        &served.certificates.server_key,
    )
    .unwrap();
    served.pgmd.reload();
    wait_until("the reload is refused", || {
        served
            .pgmd
            .log()
            .contains("the configuration was not reloaded")
    });
    fs::write(&served.certificates.server_key, key).unwrap();
    served.certificates = Certificates::write(&served.pgmd.directory().join("tls"), "ann");
    served.pgmd.reload();
    wait_until("the new certificate is shown", || served.pings());
}

fn replace(from: &Path, certificates: &Certificates) {
    fs::copy(from.join("server.crt"), &certificates.server).unwrap();
    fs::copy(from.join("server.key"), &certificates.server_key).unwrap();
    let owner_only = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&certificates.server_key, owner_only).unwrap();
}

#[test]
fn a_thousand_clients_that_say_nothing_or_nonsense_disturb_nobody() {
    let served = Served::start(r#"authentication_timeout: "2s","#);
    assert!(served.pings());
    let huge = [&b"\x7F\xFF\xFF\xFF"[..], &[0x55; 8192]].concat();
    let mut tls = vec![0x16, 3, 1, 0x3F, 0xFF];
    tls.resize(8192, 1);
    let said: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: pgm\r\n\r\n",
        b"\0\0\0\x08\x04\xD2",
        &huge,
        &tls,
        b"\x80\0\x10\0\0Status(",
    ];
    let mut strangers = Vec::new();
    for number in 0..1000_usize {
        let mut stream = served.raw();
        let _ = stream.write_all(said[number % said.len()]);
        strangers.push(stream);
        if number % 250 == 0 {
            assert!(
                served.pings(),
                "after {number} strangers: {}",
                served.pgmd.log()
            );
        }
    }
    assert!(served.pings(), "{}", served.pgmd.log());
    let memory = served.memory_kib();
    assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
    // Nobody is kept for longer than authentication_timeout.
    for mut stream in strangers {
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let is_over =
            read.is_ok() || read.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
        assert!(is_over, "still connected");
        assert!(answer.len() < 1024);
    }
    // Not even one who is let in and then announces too much.
    let refused = refused(&served.psql("user=ann sslmode=require dbname=postgres", PASSWORD));
    assert!(refused.contains("does not exist"), "{refused}");
}
