//! The management socket: who may speak, how many, and how fast they must be.
//!
//! The socket has mode 0600, and the kernel's word on who is at the other end is asked for besides: the daemon's own user
//! or root. With a group (`unix_socket_group`) the mode is 0660, and its members may speak, too. Clients that send garbage, or half a message, or do not read, are dropped without anybody else noticing.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pgm_mgmt::{Error, ErrorCode, Frame, MessageId, Role};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::caller::{Caller, Origin};
use super::conversation;
use super::socket_group::SocketGroup;
use crate::config::OsUser;
use crate::supervisor::{Daemon, StartError};

/// How many clients may be connected at once.
const CLIENTS_MAX: usize = 64;
/// The pause after a failed accept (no descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that is refused may take to hear it.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// The listening socket; its file goes when the value does.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    group: Option<SocketGroup>,
}

impl Listener {
    /// Listens at `path`, also for members of `group`. The caller holds the lock of the folder, so a file that is there belongs to a dead daemon.
    pub fn bind(path: &Path, group: Option<SocketGroup>) -> Result<Self, StartError> {
        let failed = |error| StartError::io("listen on", path, error);
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => {
                return Err(failed(io::Error::other(
                    "there is a file that is no socket",
                )));
            }
            Err(_) => {}
        }
        let socket = UnixListener::bind(path).map_err(failed)?;
        let listener = Self {
            socket,
            path: path.to_owned(),
            group,
        };
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, owner_only).map_err(failed)?;
        if let Some(group) = group {
            let failed = |error| StartError::io("open to its group", path, error);
            group.open(path).map_err(failed)?;
        }
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A file that is left behind is removed by the next daemon.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves clients until it is aborted.
pub async fn serve(listener: Listener, daemon: Arc<Daemon>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let stream = match listener.socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("cannot accept a management client: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let admitted = admit(&stream, listener.group);
        let place = Arc::clone(&places).try_acquire_owned();
        let daemon = Arc::clone(&daemon);
        tokio::spawn(async move {
            match (admitted, place) {
                (Err(error), _) => refuse(stream, &error).await,
                (Ok(_), Err(_)) => {
                    let text = format!("{CLIENTS_MAX} clients are connected already");
                    refuse(stream, &Error::new(ErrorCode::TooBusy, text)).await;
                }
                (Ok(caller), Ok(place)) => {
                    let (reader, writer) = stream.into_split();
                    conversation::converse(reader, writer, &caller, &daemon, conversation::IDLE)
                        .await;
                    drop(place);
                }
            }
        });
    }
}

/// Who is at the other end, if they may use us.
fn admit(stream: &UnixStream, group: Option<SocketGroup>) -> Result<Caller, Error> {
    let ours = rustix::process::geteuid().as_raw();
    let credentials = stream.peer_cred().map_err(|error| {
        Error::new(
            ErrorCode::NotAllowed,
            format!("cannot tell who you are: {error}"),
        )
    })?;
    let uid = credentials.uid();
    let is_member = || group.is_some_and(|group| group.has(&credentials));
    if uid != ours && uid != 0 && !is_member() {
        warn!("a management client of user {uid} was refused");
        let text = format!("user {uid} may not manage this pgmd");
        let hint = format!("run the command as user {ours}, as whom pgmd runs");
        return Err(Error::new(ErrorCode::NotAllowed, text).with_hint(hint));
    }
    Ok(Caller {
        user: OsUser::name_of(uid),
        role: Role::Admin,
        origin: Origin::Local {
            pid: credentials.pid(),
        },
    })
}

async fn refuse(mut stream: UnixStream, error: &Error) {
    let Ok(frame) = Frame::new(MessageId::Error, error) else {
        return;
    };
    let said = tokio::time::timeout(REFUSAL_PATIENCE, stream.write_all(&frame.to_bytes())).await;
    if said.is_err() {
        debug!("a refused management client did not listen");
    }
}

#[cfg(test)]
#[path = "management_tests.rs"]
mod tests;
