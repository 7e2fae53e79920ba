//! Certificates and keys from files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::verify::Trusted;
use crate::TlsError;
use crate::conninfo::RootCertificates;

/// More than any system's list of authorities.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Where systems keep the list of authorities they trust.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch, Gentoo, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Red Hat, Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem", // SUSE
    "/etc/ssl/cert.pem",      // BSD, macOS
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Reads the authorities to trust.
pub(crate) fn trusted(roots: &RootCertificates) -> Result<Trusted, TlsError> {
    match roots {
        RootCertificates::File(path) => trusted_file(path),
        RootCertificates::System => {
            let bundle = SYSTEM_BUNDLES
                .iter()
                .map(Path::new)
                .find(|path| path.exists());
            trusted_file(bundle.ok_or(TlsError::NoSystemRoots)?)
        }
    }
}

fn trusted_file(path: &Path) -> Result<Trusted, TlsError> {
    let pinned = certificates(path, "root certificate file")?;
    let mut authorities = RootCertStore::empty();
    let (usable, unusable) = authorities.add_parsable_certificates(pinned.iter().cloned());
    if usable == 0 {
        let problem = format!("has no usable certificate among {}", usable + unusable);
        return Err(unusable_file("root certificate file", path, problem));
    }
    Ok(Trusted {
        authorities,
        pinned,
    })
}

/// Reads the certificates of a PEM file, at least one.
pub(crate) fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = File::open(path).and_then(|file| read(&file));
    let pem = pem.map_err(|error| unusable_file(what, path, format!("cannot be read: {error}")))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable_file(
            what,
            path,
            "has no certificate in PEM form".to_owned(),
        )),
        Err(error) => Err(unusable_file(
            what,
            path,
            format!("is no PEM file: {error}"),
        )),
    }
}

/// Who may own a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Anybody who lets us read it, as with libpq.
    Any,
    /// We ourselves or root, as with PostgreSQL's server.
    OursOrRoot,
}

/// Reads the key of a client, which nobody but its owner may be able to read.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    key(path, Owner::Any)
}

/// Reads the key of a server, which besides must be our own or root's.
pub(crate) fn server_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    key(path, Owner::OursOrRoot)
}

fn key(path: &Path, owner: Owner) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |problem| unusable_file("private key", path, problem);
    let cannot = |error: io::Error| failed(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(failed("is not a regular file".to_owned()));
    }
    let owners = [0, rustix::process::geteuid().as_raw()];
    if owner == Owner::OursOrRoot && !owners.contains(&metadata.uid()) {
        return Err(failed(format!(
            "belongs to user {}: it must be our own or root's",
            metadata.uid()
        )));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(failed(format!(
            "may be read by others (mode {:04o}): it must be 0600, or 0640 if it belongs to root",
            metadata.mode() & 0o7777
        )));
    }
    let pem = read(&file).map_err(cannot)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| failed("has no private key in PEM form without a passphrase".to_owned()))
}

fn read(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        let text = format!("longer than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(content)
}

fn unusable_file(what: &'static str, path: &Path, problem: String) -> TlsError {
    TlsError::File {
        what,
        path: path.to_owned(),
        problem,
    }
}
