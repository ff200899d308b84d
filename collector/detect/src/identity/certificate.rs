//! The certificates whose keys AWS signs identity documents with, one per region.
//!
//! They are pinned, not chained: what counts is the key, and by which issuer and serial number a
//! signature names it. Their dates are not looked at (those of AWS run for more than a century).

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::ber::{BIT_STRING, BerError, INTEGER, OBJECT, SEQUENCE, Walk, context};
use super::oid;

/// Why a certificate cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not one.
    #[error("no certificate: {0}")]
    Ber(#[from] BerError),
    /// Its key is not an RSA key of at least 2,048 bits.
    #[error("its key is no RSA key of 2048 bits or more")]
    Key,
}

/// What of a region's certificate is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The region whose documents it is good for.
    pub region: String,
    pub(super) issuer: Vec<u8>,
    pub(super) serial: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// Takes the certificate (DER) of a region.
    ///
    /// # Errors
    /// It is none, or its key is not one that AWS would use.
    pub fn read(region: &str, der: &[u8]) -> Result<Self, CertificateError> {
        let mut outer = Walk::new(der);
        let certificate = outer.expect(SEQUENCE)?;
        outer.end()?;
        let mut fields = certificate.walk().expect(SEQUENCE)?.walk();
        fields.take_if(context(0))?;
        let serial = fields.expect(INTEGER)?.content.to_vec();
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.whole.to_vec();
        // Validity and subject.
        fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut key = fields.expect(SEQUENCE)?.walk();
        let algorithm = key.expect(SEQUENCE)?.walk().expect(OBJECT)?;
        if algorithm.content != oid::RSA {
            return Err(CertificateError::Key);
        }
        let bits = key.expect(BIT_STRING)?.content;
        let key = match bits {
            [0, key @ ..] => key.to_vec(),
            _ => return Err(CertificateError::Key),
        };
        if modulus_bits(&key)? < 2_048 {
            return Err(CertificateError::Key);
        }
        Ok(Self {
            region: region.to_owned(),
            issuer,
            serial,
            key,
        })
    }

    /// Whether the certificate's key made this signature (PKCS #1 v1.5, SHA-256).
    pub(super) fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.key)
            .verify(bytes, signature)
            .is_ok()
    }

    /// Whether a certificate (DER) is signed by the key in it, as those of AWS are.
    pub fn is_self_signed(&self, der: &[u8]) -> bool {
        let read = || -> Result<bool, BerError> {
            let mut parts = Walk::new(der).expect(SEQUENCE)?.walk();
            let signed = parts.expect(SEQUENCE)?.whole;
            parts.expect(SEQUENCE)?;
            let signature = parts.expect(BIT_STRING)?.content;
            Ok(matches!(signature, [0, signature @ ..] if self.signed(signed, signature)))
        };
        read().unwrap_or(false)
    }
}

/// Bits of the modulus of an RSAPublicKey (RFC 8017 appendix A.1.1).
fn modulus_bits(key: &[u8]) -> Result<usize, BerError> {
    let modulus = Walk::new(key).expect(SEQUENCE)?.walk().expect(INTEGER)?;
    let digits = modulus.content;
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let rest = digits.get(zeros..).unwrap_or_default();
    let top = rest
        .first()
        .map_or(0, |digit| digit.leading_zeros() as usize);
    Ok(rest.len() * 8 - top)
}
