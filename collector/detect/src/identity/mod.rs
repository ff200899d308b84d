//! EC2's word about an instance: the instance identity document, as AWS signed it.
//!
//! What arrives is the `rsa2048` signature of the metadata service: PKCS #7 SignedData (RFC 2315,
//! RFC 5652 section 5) in BER with indefinite lengths, the document inside, no certificate. It is
//! verified offline against the certificate of its region, and **the document is taken from what was
//! verified**: one sent beside it says nothing.
//!
//! ```text
//! SignedData → one SignerInfo → certificate by issuer and serial number
//!   signed attributes: content type is data, digest is that of the document
//!   signature over the attributes → document → its region is the certificate's
//! ```

mod ber;
mod certificate;
mod document;
mod signed;

pub use ber::BerError;
pub use certificate::{Certificate, CertificateError};
pub use document::{Document, DocumentError, is_region};
pub use signed::SignedError;

/// Object identifiers, as their content bytes.
mod oid {
    /// 1.2.840.113549.1.1.1
    pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    /// 1.2.840.113549.1.1.11
    pub(super) const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    /// 2.16.840.1.101.3.4.2.1
    pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 2, 1];
    /// 1.2.840.113549.1.7.1
    pub(super) const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
    /// 1.2.840.113549.1.7.2
    pub(super) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    /// 1.2.840.113549.1.9.3
    pub(super) const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
    /// 1.2.840.113549.1.9.4
    pub(super) const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
}

/// Why an identity was not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The signature does not hold.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// What is signed is no identity document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The certificate is that of another region.
    #[error("the document is of {document}, signed with the certificate of {certificate}")]
    Region {
        /// Where the document says the instance is.
        document: String,
        /// Whose certificate it is.
        certificate: String,
    },
}

impl IdentityError {
    /// One stable word, for metrics and for the agent.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Signed(SignedError::UnknownSigner) => "identity_signer",
            Self::Signed(SignedError::Signature | SignedError::Digest) => "identity_signature",
            Self::Signed(_) => "identity_malformed",
            Self::Document(_) => "identity_document",
            Self::Region { .. } => "identity_region",
        }
    }
}

/// Verifies an identity (BER) against the certificates given and returns the document in it. Costs an
/// RSA signature check.
///
/// # Errors
/// Every [`IdentityError`].
pub fn verify(identity: &[u8], certificates: &[Certificate]) -> Result<Document, IdentityError> {
    let (content, certificate) = signed::open(identity, certificates)?;
    let document = Document::read(&content)?;
    if document.region != certificate.region {
        return Err(IdentityError::Region {
            document: document.region,
            certificate: certificate.region.clone(),
        });
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
