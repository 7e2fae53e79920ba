//! The management socket: answers, hostile clients, limits.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream as Blocking;
use std::thread::JoinHandle;
use std::time::Instant;

use pgm_mgmt::{Client, ClientError, Deadlines, Request, Response};
use tokio::sync::oneshot;

use super::*;
use crate::config::{Config, LogLevel};
use crate::log::LevelHandle;

/// A daemon without servers that answers on its socket, on a thread of its own, until dropped.
struct Served {
    folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&folder.path().join("pgmd.ron"), "(servers: {})").unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        crate::repository::open_or_create(&config.repository.place()).unwrap();
        let log: LevelHandle = crate::log::start(LogLevel::Error, "");
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = Listener::bind(&config.socket(), None).unwrap();
                let daemon = Arc::new(Daemon::idle(config, log).unwrap());
                ready.send(()).unwrap();
                tokio::select! {
                    () = serve(listener, daemon) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/.s.pgmd")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket(), Deadlines::default()).unwrap()
    }

    fn raw(&self) -> Blocking {
        let stream = Blocking::connect(self.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// What the daemon says to `bytes` before it hangs up.
    fn answer_to(&self, bytes: &[u8]) -> String {
        let mut stream = self.raw();
        // The daemon may hang up while we still speak.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let served = Served::start();
    let mut client = served.client();
    let Response::Pong(pong) = client.call(&Request::Ping).unwrap() else {
        panic!()
    };
    assert_eq!(pong.pid, std::process::id());
    let Response::Status(status) = client.call(&Request::Status { server: None }).unwrap() else {
        panic!()
    };
    assert!(status.servers.is_empty() && status.jobs.is_empty());
    let Response::Jobs(jobs) = client.call(&Request::Progress).unwrap() else {
        panic!()
    };
    assert!(jobs.jobs.is_empty());
}

#[test]
fn an_unknown_server_is_an_error_and_the_conversation_goes_on() {
    let served = Served::start();
    let mut client = served.client();
    let request = Request::Status {
        server: "nobody".parse().ok(),
    };
    let Err(ClientError::Refused(error)) = client.call(&request) else {
        panic!()
    };
    assert_eq!(error.code, ErrorCode::UnknownServer);
    assert!(matches!(client.call(&Request::Ping), Ok(Response::Pong(_))));
}

#[test]
fn a_payload_that_is_no_request_is_an_error_and_the_conversation_goes_on() {
    let served = Served::start();
    let mut stream = served.raw();
    for payload in [&b"Nonsense"[..], b"\xff\xfe", b"", b"Status("] {
        let frame = Frame {
            id: MessageId::Request,
            payload: payload.to_vec(),
        };
        frame.write_to(&mut stream).unwrap();
        let answer = Frame::read_from(&mut stream).unwrap();
        let error: Error = answer.message().unwrap();
        assert_eq!(error.code, ErrorCode::BadRequest);
    }
    Frame::new(MessageId::Request, &Request::Ping)
        .unwrap()
        .write_to(&mut stream)
        .unwrap();
    assert_eq!(
        Frame::read_from(&mut stream).unwrap().id,
        MessageId::Response
    );
}

#[test]
fn garbage_is_told_so_and_dropped() {
    let served = Served::start();
    for garbage in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"Q\0\0\0\x05\0",
        b"\x80\xff\xff\xff\xff",
        b"\x81\0\0\0\0",
        &[0; 64],
    ] {
        let answer = served.answer_to(garbage);
        assert!(answer.contains("bad_request"), "{garbage:?}: {answer}");
    }
}

#[test]
fn clients_that_say_half_a_message_disturb_nobody() {
    let served = Served::start();
    let half: Vec<_> = (0..20)
        .map(|length| {
            let mut stream = served.raw();
            let message = b"\x80\0\0\0\x04Pin";
            stream
                .write_all(&message[..length % message.len()])
                .unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert!(matches!(
        served.client().call(&Request::Ping),
        Ok(Response::Pong(_))
    ));
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(half);
}

#[test]
fn one_client_too_many_is_told_so_and_a_place_comes_free_again() {
    let served = Served::start();
    let mut clients: Vec<_> = (0..CLIENTS_MAX).map(|_| served.client()).collect();
    for client in &mut clients {
        client.call(&Request::Ping).unwrap();
    }
    let refused = served.client().call(&Request::Ping);
    match refused {
        Err(ClientError::Refused(error)) => assert_eq!(error.code, ErrorCode::TooBusy),
        // The refusal may have been sent, and the connection closed, before we spoke.
        Err(ClientError::Connection { .. }) => {}
        other => panic!("{other:?}"),
    }
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(30);
    while served.client().call(&Request::Ping).is_err() {
        assert!(Instant::now() < deadline, "no place came free");
        std::thread::yield_now();
    }
}

#[test]
fn the_socket_is_the_owners_and_goes_with_the_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".s.pgmd");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let listener = Listener::bind(&path, None).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    // What a dead daemon left is no obstacle.
    let second = Listener::bind(&path, None).unwrap();
    drop(listener);
    drop(second);
    assert!(!path.exists());
    std::fs::write(&path, "not a socket").unwrap();
    assert!(Listener::bind(&path, None).is_err());
    assert!(path.exists());
}

#[test]
fn with_a_group_the_socket_and_the_way_to_it_are_the_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/.s.pgmd");
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let owner_only = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.path().join("run"), owner_only).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    // Our own group is one that everybody may give a file to.
    let ours = rustix::process::getegid().as_raw();
    let group = SocketGroup::named(&ours.to_string()).unwrap();
    let _listener = Listener::bind(&path, Some(group)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o710));
    assert_eq!(std::fs::metadata(&path).unwrap().gid(), ours);
}

#[test]
fn a_path_that_is_too_long_for_a_socket_says_what_to_do() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let error = Listener::bind(&folder.path().join("x".repeat(120)), None).unwrap_err();
    assert!(error.hint().unwrap().contains("unix_socket_dir"), "{error}");
}
