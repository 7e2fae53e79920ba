//! Making a connection: the server proves its key, we prove ours, SFTP begins.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::known_hosts::{check_known_hosts_path, known_host_keys_path};
use russh::keys::{
    Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyBase64, PublicKeyOrCertificate,
    load_secret_key,
};
use russh::{Disconnect, Preferred};
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::rawsession::Limits;

use super::trouble::Trouble;
use crate::address::StoreAddress;
use crate::error::{Result, StorageError};
use crate::open::StoreOptions;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::secret::Secret;

/// What OpenSSH's server takes at once if it does not say.
const WRITE_BYTES: u64 = 32 << 10;
/// More than this at once is not worth its memory.
const TRANSFER_BYTES_MAX: u64 = 255 << 10;

/// What is needed to connect, again and again.
#[derive(Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    user: String,
    known_hosts: PathBuf,
    key: Option<Arc<PrivateKey>>,
    password: Option<Secret>,
    timeout: Duration,
}

/// A connection over which SFTP is spoken.
pub(super) struct Connection {
    pub(super) sftp: RawSftpSession,
    pub(super) extensions: Extensions,
    /// Keeps the connection open.
    ssh: Handle<HostKey>,
}

/// What the server can do besides SFTP version 3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extensions {
    pub(super) fsync: bool,
    pub(super) posix_rename: bool,
    pub(super) statvfs: bool,
    /// Bytes of one read or write.
    pub(super) read_bytes: u32,
    pub(super) write_bytes: u32,
}

impl Target {
    pub(super) fn new(
        address: &StoreAddress,
        options: &StoreOptions,
        timeout: Duration,
    ) -> Result<Self> {
        let refuse = |text: &str| StorageError::Remote {
            operation: "open",
            path: address.to_string(),
            problem: RemoteProblem::Settings,
            source: RemoteMessage::new(text),
        };
        let Some(known_hosts) = address.parameter("known_hosts_file") else {
            return Err(refuse(
                "the address does not name the file with the server's key: known_hosts_file=FILE",
            ));
        };
        let credentials = &options.credentials;
        let key_file = address
            .parameter("private_key_file")
            .or_else(|| credentials.get("SFTP_PRIVATE_KEY_FILE"));
        let key = match key_file {
            None => None,
            Some(file) => {
                check_private(Path::new(file)).map_err(|text| refuse(&text))?;
                let phrase = credentials.get("SFTP_PRIVATE_KEY_PASSPHRASE");
                let key = load_secret_key(file, phrase);
                Some(Arc::new(key.map_err(|error| {
                    refuse(&format!("the key in {file} cannot be used: {error}"))
                })?))
            }
        };
        let password = credentials.get("SFTP_PASSWORD").map(Secret::new);
        if key.is_none() && password.is_none() {
            return Err(refuse(
                "there is neither SFTP_PRIVATE_KEY_FILE nor SFTP_PASSWORD among the credentials",
            ));
        }
        // Read once now, so that a wrong name is told at once and not as an unknown key.
        std::fs::read(known_hosts)
            .map_err(|error| StorageError::from_io("read", known_hosts, error))?;
        Ok(Self {
            host: address.host().trim_matches(['[', ']']).to_owned(),
            port: address.port().unwrap_or(22),
            user: address.account().to_owned(),
            known_hosts: known_hosts.into(),
            key,
            password,
            timeout,
        })
    }

    /// Connects; nothing of it takes longer than the timeout.
    pub(super) async fn connect(&self) -> std::result::Result<Connection, Trouble> {
        match tokio::time::timeout(self.timeout, self.begin()).await {
            Ok(connected) => connected,
            Err(_) => Err(Trouble::Lost(
                RemoteProblem::TimedOut,
                format!("no connection to {}:{} in time", self.host, self.port),
            )),
        }
    }

    async fn begin(&self) -> std::result::Result<Connection, Trouble> {
        let config = client::Config {
            preferred: self.preferred(),
            keepalive_interval: Some(Duration::from_secs(15)),
            nodelay: true,
            ..client::Config::default()
        };
        let host_key = HostKey {
            host: self.host.clone(),
            port: self.port,
            known_hosts: self.known_hosts.clone(),
        };
        let address = (self.host.as_str(), self.port);
        let mut ssh = client::connect(Arc::new(config), address, host_key).await?;
        self.authenticate(&mut ssh).await?;
        let channel = ssh.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        let config = russh_sftp::client::Config {
            request_timeout_secs: self.timeout.as_secs().max(1),
            max_packet_len: 1 << 20,
            ..russh_sftp::client::Config::default()
        };
        let mut sftp = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version = sftp.init().await?;
        let has = |name: &str, value: &str| {
            let found = version.extensions.get(name);
            found.is_some_and(|found| found == value)
        };
        let mut extensions = Extensions {
            fsync: has("fsync@openssh.com", "1"),
            posix_rename: has("posix-rename@openssh.com", "1"),
            statvfs: has("statvfs@openssh.com", "2"),
            read_bytes: WRITE_BYTES as u32,
            write_bytes: WRITE_BYTES as u32,
        };
        if has("limits@openssh.com", "1") {
            let limits = Limits::from(sftp.limits().await?);
            let bounded = |limit: Option<u64>| {
                limit.unwrap_or(WRITE_BYTES).clamp(4096, TRANSFER_BYTES_MAX) as u32
            };
            extensions.read_bytes = bounded(limits.read_len);
            extensions.write_bytes = bounded(limits.write_len);
            sftp.set_limits(limits);
        }
        Ok(Connection {
            sftp,
            extensions,
            ssh,
        })
    }

    async fn authenticate(&self, ssh: &mut Handle<HostKey>) -> std::result::Result<(), Trouble> {
        if let Some(key) = &self.key {
            let hash = ssh.best_supported_rsa_hash().await?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
            if ssh.authenticate_publickey(&self.user, key).await?.success() {
                return Ok(());
            }
        }
        if let Some(password) = &self.password {
            let (user, password) = (self.user.clone(), password.expose().to_owned());
            if ssh.authenticate_password(user, password).await?.success() {
                return Ok(());
            }
        }
        Err(Trouble::Final(
            RemoteProblem::Unauthenticated,
            format!("{} does not let {} in with this key", self.host, self.user),
        ))
    }

    /// Algorithms with those first of which a key of the server is known, so that it shows one that can be checked.
    fn preferred(&self) -> Preferred {
        let known = known_host_keys_path(&self.host, self.port, &self.known_hosts);
        let known: Vec<Algorithm> = known
            .unwrap_or_default()
            .iter()
            .map(|(_, key)| key.algorithm())
            .collect();
        let mut preferred = Preferred::default();
        let is_known = |algorithm: &Algorithm| {
            known.iter().any(|known| match (known, algorithm) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (known, algorithm) => known == algorithm,
            })
        };
        let mut key = preferred.key.to_vec();
        key.sort_by_key(|algorithm| !is_known(algorithm));
        preferred.key = key.into();
        preferred
    }
}

impl Connection {
    /// Says goodbye, as far as the other side still listens.
    pub(super) async fn close(&self) {
        let _ = self.ssh.disconnect(Disconnect::ByApplication, "", "").await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ssh.is_closed()
    }
}

/// A key that others can read is no secret.
fn check_private(file: &Path) -> std::result::Result<(), String> {
    let shown = file.display();
    let meta = std::fs::metadata(file).map_err(|error| format!("{shown}: {error}"))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "the key in {shown} can be read by others (mode {mode:04o}): chmod 600 {shown}"
        ));
    }
    Ok(())
}

/// Checks the key that the server shows.
pub(super) struct HostKey {
    host: String,
    port: u16,
    known_hosts: PathBuf,
}

impl client::Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> std::result::Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let known = check_known_hosts_path(&self.host, self.port, key, &self.known_hosts);
        let text = std::fs::read_to_string(&self.known_hosts).unwrap_or_default();
        let key = key.public_key_base64();
        let revoked = text
            .lines()
            .any(|line| line.starts_with("@revoked") && line.contains(&key));
        // A changed key is an error there; here it is a key that is not the known one.
        Ok(known.unwrap_or(false) && !revoked)
    }
}
