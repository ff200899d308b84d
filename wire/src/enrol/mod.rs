//! Enrolment: how a host's key becomes one that a collector believes.
//!
//! ```text
//! agent                                          collector
//!   POST /v1/enrol/challenge          ─────────→
//!                                     ←─────────   challenge: nonce, the collector's key
//!   POST /v1/enrol  request, signed   ─────────→   verify: nonce, signature, proof, first key
//!                   by the new key    ←─────────   receipt, signed by the collector's key
//! ```
//!
//! A [`Challenge`] is plain CBOR; a [`Request`] and a [`Receipt`] are COSE_Sign1 like an
//! [`envelope`](crate::envelope). What proves whose key it is says [`Proof`]; how sure that makes the
//! collector says [`Level`]. `docs/enrolment.md` describes all of it for someone who has none of this
//! code.

mod challenge;
mod level;
mod receipt;
mod request;
pub mod sts;

use minicbor::Decoder;

use crate::envelope::PublicKey;
use crate::id::Digest;

pub use challenge::Challenge;
pub use level::{Level, UnknownLevel};
pub use receipt::Receipt;
pub use request::{Proof, Request, Sts};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// Why a message of an enrolment was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnrolError {
    /// Larger than it may be.
    #[error("message of {bytes} bytes, {max} allowed")]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Not tag 18 over four parts of the right kinds, with the header it should have.
    #[error("no such message")]
    NotOurs,
    /// The payload is not what it should be.
    #[error("message at byte {at}: {why}")]
    Malformed {
        /// Where reading stopped.
        at: usize,
        /// The decoder's words.
        why: String,
    },
    /// A list or text longer than allowed.
    #[error("{what}: {len}, {max} allowed")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The signature does not verify.
    #[error("signature does not verify")]
    Signature,
}

/// The name by which a collector's key goes in what agents sign: SHA-256 of the key, so that what
/// was signed for one collector is worth nothing to another.
pub fn server_of(key: &PublicKey) -> Digest {
    Digest::of(&key.0)
}

/// What the holder of an agent's key signs to put `next` in its place: the digest that a
/// [`Claim`](crate::Claim) of purpose rotation carries as its body.
pub fn succession(nonce: &[u8; NONCE_BYTES], next: &PublicKey) -> Digest {
    Digest::of(&[nonce.as_slice(), &next.0].concat())
}

/// Reads a value that fills `bytes`.
fn whole<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, EnrolError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.decode().map_err(|error| EnrolError::Malformed {
        at: error.position().unwrap_or_else(|| decoder.position()),
        why: error.to_string(),
    })?;
    if decoder.position() != bytes.len() {
        return Err(EnrolError::Malformed {
            at: decoder.position(),
            why: "other bytes follow".to_owned(),
        });
    }
    Ok(value)
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), EnrolError> {
    if len > max {
        return Err(EnrolError::TooLong { what, len, max });
    }
    Ok(())
}

fn small(bytes: &[u8], max: usize) -> Result<(), EnrolError> {
    if bytes.len() > max {
        let bytes = bytes.len();
        return Err(EnrolError::TooLarge { bytes, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
