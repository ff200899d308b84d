//! COSE_Sign1 (RFC 9052 section 4.2): the shell that everything signed travels in, Ed25519 alone,
//! nothing unprotected.

use minicbor::{Decoder, Encoder};
use ring::signature;

use crate::envelope::{PublicKey, Signer};

const TAG: u64 = 18;

/// EdDSA (RFC 9053 section 2.2).
pub(crate) const ALG_EDDSA: i64 = -8;

/// Signs a payload under a protected header: the tagged message. Costs one signature.
pub(crate) fn seal(protected: &[u8], payload: &[u8], signer: &Signer) -> Vec<u8> {
    let signature = signer.sign(&signed_bytes(protected, payload));
    let mut out = Vec::with_capacity(payload.len() + protected.len() + 96);
    let mut e = Encoder::new(&mut out);
    let written: Result<(), minicbor::encode::Error<_>> = (|| {
        e.tag(minicbor::data::Tag::new(TAG))?.array(4)?;
        e.bytes(protected)?
            .map(0)?
            .bytes(payload)?
            .bytes(signature.as_ref())?;
        Ok(())
    })();
    written.expect("writing CBOR to memory cannot fail");
    out
}

/// The protected header of what needs no other: algorithm and content type.
pub(crate) fn protected(content_type: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut e = Encoder::new(&mut out);
    let written: Result<(), minicbor::encode::Error<_>> = (|| {
        e.map(2)?
            .i64(1)?
            .i64(ALG_EDDSA)?
            .i64(3)?
            .str(content_type)?;
        Ok(())
    })();
    written.expect("writing CBOR to memory cannot fail");
    out
}

/// What is signed: the Sig_structure of section 4.4 with an empty external_aad.
fn signed_bytes(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + protected.len() + 32);
    let mut e = Encoder::new(&mut out);
    let written: Result<(), minicbor::encode::Error<_>> = (|| {
        e.array(4)?
            .str("Signature1")?
            .bytes(protected)?
            .bytes(&[])?
            .bytes(payload)?;
        Ok(())
    })();
    written.expect("writing CBOR to memory cannot fail");
    out
}

/// A message taken apart, whose signature nobody has looked at yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) protected: &'a [u8],
    pub(crate) payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes a message apart that fills `bytes`.
    ///
    /// # Errors
    /// The place where it stops looking like one.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, usize> {
        let mut d = Decoder::new(bytes);
        if !d.tag().is_ok_and(|tag| tag.as_u64() == TAG) {
            return Err(0);
        }
        if !matches!(d.array(), Ok(Some(4))) {
            return Err(1);
        }
        let protected = d.bytes().map_err(|_| 2usize)?;
        let nothing = d.position();
        if !matches!(d.map(), Ok(Some(0))) {
            return Err(nothing);
        }
        let at = d.position();
        let payload = d.bytes().map_err(|_| at)?;
        let at = d.position();
        let signature = d.bytes().map_err(|_| at)?;
        if d.position() != bytes.len() {
            return Err(d.position());
        }
        Ok(Self {
            protected,
            payload,
            signature,
        })
    }

    /// Whether the signature verifies under `key`.
    pub(crate) fn verifies(&self, key: &PublicKey) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, key.0)
            .verify(&signed_bytes(self.protected, self.payload), self.signature)
            .is_ok()
    }
}
