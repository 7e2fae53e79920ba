//! Which server certificates are believed.
//!
//! rustls and webpki check chains and names. Habits of PostgreSQL's world are added, since libpq accepts them and the
//! manual's own recipe (19.9.5) produces them: a server certificate that is itself listed as a root, a certificate without
//! alternative names, whose common name then counts as the host's name, and, where nobody checks its chain, a
//! certificate of version 1. A chain that ends in a version 1 certificate is not believed.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What is checked of a server's certificate.
#[derive(Debug)]
pub(super) enum Check {
    Nothing,
    Chain(Trusted),
    ChainAndName(Trusted),
}

/// The certificates that vouch for servers.
#[derive(Debug)]
pub(crate) struct Trusted {
    /// As authorities.
    pub(crate) authorities: RootCertStore,
    /// As they are, when a server shows one of them.
    pub(crate) pinned: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(check: Check, provider: &Arc<CryptoProvider>) -> Self {
        Self {
            check,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn verify_chain(
        &self,
        trusted: &Trusted,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if trusted
            .pinned
            .iter()
            .any(|pinned| pinned.as_ref() == certificate.as_ref())
        {
            return verify_time(certificate, now);
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &trusted.authorities,
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Chain(trusted) => self.verify_chain(trusted, end_entity, intermediates, now)?,
            Check::ChainAndName(trusted) => {
                self.verify_chain(trusted, end_entity, intermediates, now)?;
                verify_name(end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if ParsedCertificate::try_from(certificate).is_ok() {
            return verify_tls13_signature(message, certificate, signature, &self.algorithms);
        }
        let key = public_key(certificate)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate);
    let verified = parsed.and_then(|parsed| verify_server_name(&parsed, name));
    let common_name = || lone_common_name(&Certificate::from_der(certificate).ok()?);
    match verified {
        Err(error) => match common_name() {
            Some(common_name) if matches_name(&common_name, &name.to_str()) => Ok(()),
            _ => Err(error),
        },
        verified => verified,
    }
}

/// The key of a certificate that webpki does not read, one of version 1 for example.
fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    Some(
        parsed
            .tbs_certificate
            .subject_public_key_info
            .to_der()
            .ok()?
            .into(),
    )
}

/// The common name of a certificate that has no alternative names of hosts.
fn lone_common_name(certificate: &Certificate) -> Option<String> {
    let tbs = &certificate.tbs_certificate;
    let has_names = match tbs.get::<SubjectAltName>() {
        Ok(None) => false,
        Ok(Some((_, names))) => names
            .0
            .iter()
            .any(|name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_))),
        Err(_) => true,
    };
    if has_names {
        return None;
    }
    let attributes = tbs.subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = attributes.filter(|attribute| attribute.oid.to_string() == "2.5.4.3");
    let value = &names.next_back()?.value;
    let utf8 = Utf8StringRef::try_from(value).map(|text| text.as_str().to_owned());
    let printable = || PrintableStringRef::try_from(value).map(|text| text.as_str().to_owned());
    let teletex = || TeletexStringRef::try_from(value).map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| teletex()).ok()
}

/// As libpq compares: without regard to case, and a leading `*.` stands for exactly one label.
fn matches_name(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(domain), Some((_, rest))) if !is_address => domain.eq_ignore_ascii_case(rest),
        _ => false,
    }
}

fn verify_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |error| Error::InvalidCertificate(error);
    let parsed =
        Certificate::from_der(certificate).map_err(|_| bad(CertificateError::BadEncoding))?;
    let validity = parsed.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(bad(CertificateError::NotValidYet));
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(bad(CertificateError::Expired));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label_and_never_for_an_address() {
        assert!(matches_name("*.example.org", "DB.example.ORG"));
        assert!(matches_name("db", "DB"));
        assert!(!matches_name("*.example.org", "a.b.example.org"));
        assert!(!matches_name("*.example.org", "example.org"));
        assert!(!matches_name("*.0.0.1", "127.0.0.1"));
    }
}
