//! SignedData of one signer, verified.
//!
//! ```text
//! SEQUENCE { OID signedData, [0] SEQUENCE {
//!   INTEGER version
//!   SET OF digest algorithm
//!   SEQUENCE { OID data, [0] OCTET STRING document }
//!   [0] certificates, [1] CRLs             optional, never looked at
//!   SET { SEQUENCE {                       one signer
//!     INTEGER version
//!     SEQUENCE { Name issuer, INTEGER serial }
//!     SEQUENCE { OID sha256 … }
//!     [0] { SEQUENCE { OID, SET { value } } … }      signed attributes
//!     SEQUENCE { OID rsaEncryption … }
//!     OCTET STRING signature } } } } }
//! ```

use picket_wire::Digest;

use super::ber::{BerError, INTEGER, OBJECT, OCTET_STRING, SEQUENCE, SET, Walk, context};
use super::certificate::Certificate;
use super::oid;

/// A constructed octet string.
const OCTET_STRINGS: u8 = OCTET_STRING | 0x20;

/// Why SignedData was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// It is not SignedData, or not of the one shape that is taken.
    #[error("no signed data: {0}")]
    Ber(#[from] BerError),
    /// It uses something other than RSA with SHA-256 over data.
    #[error("signed data of another {what}")]
    Kind {
        /// What is another.
        what: &'static str,
    },
    /// It has no signer, or several.
    #[error("signed data has not one signer")]
    Signers,
    /// An attribute is missing, there twice, or not written the one way that can be signed.
    #[error("signed attributes are not as they should be")]
    Attributes,
    /// No certificate of ours has the signer's issuer and serial number.
    #[error("signed by nobody whose certificate is known")]
    UnknownSigner,
    /// The digest in the signed attributes is not that of the content.
    #[error("the content is not the one that was signed")]
    Digest,
    /// The signature is not that of the certificate's key.
    #[error("signature does not verify")]
    Signature,
}

/// The content, and whose certificate it was verified with.
pub(super) fn open<'c>(
    bytes: &[u8],
    certificates: &'c [Certificate],
) -> Result<(Vec<u8>, &'c Certificate), SignedError> {
    let mut outer = Walk::new(bytes);
    let mut message = outer.expect(SEQUENCE)?.walk();
    outer.end()?;
    is(message.expect(OBJECT)?.content, oid::SIGNED_DATA, "kind")?;
    let mut signed = message.expect(context(0))?.walk().expect(SEQUENCE)?.walk();
    signed.expect(INTEGER)?;
    signed.expect(SET)?;
    let mut inner = signed.expect(SEQUENCE)?.walk();
    is(inner.expect(OBJECT)?.content, oid::DATA, "content")?;
    let mut holder = inner.expect(context(0))?.walk();
    let content = match holder.take_if(OCTET_STRING)? {
        Some(content) => content,
        None => holder.expect(OCTET_STRINGS)?,
    };
    let content = content.octets()?;
    signed.take_if(context(0))?;
    signed.take_if(context(1))?;
    let mut signers = signed.expect(SET)?.walk();
    let signer = signers.next()?.ok_or(SignedError::Signers)?;
    if signer.tag != SEQUENCE || signers.next()?.is_some() {
        return Err(SignedError::Signers);
    }
    let certificate = check_signer(signer.walk(), &content, certificates)?;
    Ok((content, certificate))
}

fn check_signer<'c>(
    mut signer: Walk<'_>,
    content: &[u8],
    certificates: &'c [Certificate],
) -> Result<&'c Certificate, SignedError> {
    signer.expect(INTEGER)?;
    let mut name = signer.expect(SEQUENCE)?.walk();
    let issuer = name.expect(SEQUENCE)?.whole;
    let serial = name.expect(INTEGER)?.content;
    let digest = signer.expect(SEQUENCE)?.walk().expect(OBJECT)?;
    is(digest.content, oid::SHA256, "digest")?;
    let attributes = signer.expect(context(0))?;
    let algorithm = signer.expect(SEQUENCE)?.walk().expect(OBJECT)?.content;
    if algorithm != oid::RSA && algorithm != oid::RSA_SHA256 {
        return Err(SignedError::Kind { what: "signature" });
    }
    let signature = signer.expect(OCTET_STRING)?.content;
    let certificate = certificates
        .iter()
        .find(|certificate| certificate.issuer == issuer && certificate.serial == serial)
        .ok_or(SignedError::UnknownSigner)?;
    let told = attribute_digest(attributes.walk())?;
    if told != Digest::of(content).0 {
        return Err(SignedError::Digest);
    }
    // What is signed is the SET of the attributes (RFC 5652 section 5.4), which stands here under
    // another tag. Only DER can be taken over as it stands.
    if !attributes.is_definite {
        return Err(SignedError::Attributes);
    }
    let mut set = attributes.whole.to_vec();
    if let Some(tag) = set.first_mut() {
        *tag = SET;
    }
    if certificate.signed(&set, signature) {
        Ok(certificate)
    } else {
        Err(SignedError::Signature)
    }
}

/// The digest in the signed attributes, which must also say that the content is data.
fn attribute_digest(mut attributes: Walk<'_>) -> Result<[u8; 32], SignedError> {
    let (mut has_type, mut digest) = (false, None);
    while let Some(attribute) = attributes.next()? {
        let mut parts = attribute.walk();
        let kind = parts.expect(OBJECT)?.content;
        let mut values = parts.expect(SET)?.walk();
        match kind {
            oid::CONTENT_TYPE => {
                let value = values.expect(OBJECT)?.content;
                if has_type || values.end().is_err() || value != oid::DATA {
                    return Err(SignedError::Attributes);
                }
                has_type = true;
            }
            oid::MESSAGE_DIGEST => {
                let value = values.expect(OCTET_STRING)?.content;
                if digest.is_some() || values.end().is_err() {
                    return Err(SignedError::Attributes);
                }
                digest = Some(value.try_into().map_err(|_| SignedError::Attributes)?);
            }
            _ => {}
        }
    }
    digest.filter(|_| has_type).ok_or(SignedError::Attributes)
}

fn is(found: &[u8], expected: &[u8], what: &'static str) -> Result<(), SignedError> {
    if found == expected {
        Ok(())
    } else {
        Err(SignedError::Kind { what })
    }
}
