//! The channel binding `tls-server-end-point` (RFC 5929, section 4): a hash of the server's certificate.
//!
//! The hash is that of the certificate's signature, with SHA-256 in place of MD5 and SHA-1. Signatures without a hash
//! of their own (Ed25519) have no binding, in PostgreSQL neither.

use aws_lc_rs::digest::{self, SHA224, SHA256, SHA384, SHA512};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The binding for a connection whose server showed this certificate (DER), if there is any.
pub(crate) fn end_point_binding(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = hash_of(&parsed.signature_algorithm)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(signature: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    match signature.oid.to_string().as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(&SHA256),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Some(&SHA224),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&SHA384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&SHA512),
        "1.2.840.113549.1.1.10" => pss_hash(signature),
        _ => None,
    }
}

/// RSASSA-PSS names its hash in its parameters: an optional field `[0]`, SHA-1 when it is absent (RFC 4055).
fn pss_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    let fields = signature.parameters.as_ref()?.value();
    let [0xA0, length, rest @ ..] = fields else {
        return Some(&SHA256);
    };
    let hash = rest.get(..usize::from(*length))?;
    // SEQUENCE { OBJECT IDENTIFIER 2.16.840.1.101.3.4.2.x, … }
    match hash {
        [
            0x30,
            _,
            0x06,
            0x09,
            0x60,
            0x86,
            0x48,
            0x01,
            0x65,
            0x03,
            0x04,
            0x02,
            which,
            ..,
        ] => match which {
            1 => Some(&SHA256),
            2 => Some(&SHA384),
            3 => Some(&SHA512),
            4 => Some(&SHA224),
            _ => None,
        },
        _ => Some(&SHA256),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn binding_bytes(algorithm: &'static SignatureAlgorithm) -> Option<usize> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        end_point_binding(certificate.der()).map(|hash| hash.len())
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        assert_eq!(binding_bytes(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
        assert_eq!(binding_bytes(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
        assert_eq!(binding_bytes(&rcgen::PKCS_ED25519), None);
        assert_eq!(end_point_binding(b"no certificate"), None);
    }

    #[test]
    fn pss_signatures_name_their_hash_in_parameters() {
        let mut sha384 =
            b"\x30\x1e\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x11\xa0\x0f\x30\x0d\
            \x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00"
                .to_vec();
        let hash = |der: &[u8]| hash_of(&AlgorithmIdentifierOwned::from_der(der).unwrap());
        assert_eq!(hash(&sha384), Some(&SHA384));
        *sha384.iter_mut().rev().nth(2).unwrap() = 1;
        assert_eq!(hash(&sha384), Some(&SHA256));
        // No parameters: SHA-1, for which SHA-256 stands in.
        let plain = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00";
        assert_eq!(hash(plain), Some(&SHA256));
    }
}
