//! A certificate authority of a test's own, with certificates for a server and a client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The paths of PEM files below one folder; keys are readable for their owner only.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate, which signed the others.
    pub authority: PathBuf,
    /// The server's certificate, for `localhost` and 127.0.0.1.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client's certificate, for the user that [`Certificates::write`] was told.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
    /// The certificate of an authority that signed none of these.
    pub other_authority: PathBuf,
}

impl Certificates {
    /// Makes new keys and certificates in `folder`; the client's common name is `user`.
    pub fn write(folder: &Path, user: &str) -> Self {
        fs::create_dir_all(folder).expect("the folder of certificates can be made");
        let (authority_pem, authority) = authority("pgm tests");
        fs::write(
            folder.join("authority.key"),
            authority.key().serialize_pem(),
        )
        .expect("the authority's key can be written");
        let (other_pem, _) = self::authority("not pgm tests");
        let (server, server_key) = signed(&authority, &server_params());
        let (client, client_key) = signed(&authority, &named(user, Vec::new()));
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            fs::write(&path, content).expect("a certificate can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
            path
        };
        Self {
            authority: write("authority.crt", &authority_pem),
            server: write("server.crt", &server),
            server_key: write("server.key", &server_key),
            client: write("client.crt", &client),
            client_key: write("client.key", &client_key),
            other_authority: write("other.crt", &other_pem),
        }
    }

    /// Makes a certificate for the server in `folder` that `like`'s authority has signed, and that has expired.
    pub fn write_expired(folder: &Path, like: &Self) {
        let key = fs::read_to_string(like.authority.with_extension("key"))
            .expect("the authority's key is beside its certificate");
        let key = KeyPair::from_pem(&key).expect("a key that was written before");
        let authority = Issuer::new(authority_params("pgm tests"), key);
        let mut params = server_params();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let (certificate, key) = signed(&authority, &params);
        fs::create_dir_all(folder).expect("the folder of certificates can be made");
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            fs::write(folder.join(name), content).expect("a certificate can be written");
        }
    }
}

fn server_params() -> CertificateParams {
    named(
        "localhost",
        vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    )
}

fn named(name: &str, alternatives: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(alternatives).expect("plain host names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("keys can be made");
    let params = authority_params(name);
    let pem = params
        .self_signed(&key)
        .expect("an authority signs itself")
        .pem();
    (pem, Issuer::new(params, key))
}

fn signed(authority: &Issuer<'static, KeyPair>, params: &CertificateParams) -> (String, String) {
    let key = KeyPair::generate().expect("keys can be made");
    let pem = params
        .signed_by(&key, authority)
        .expect("the authority signs")
        .pem();
    (pem, key.serialize_pem())
}
