//! What a collector asks to be signed.

use minicbor::{CborLen, Decode, Encode};

use super::{EnrolError, NONCE_BYTES, small, whole};
use crate::envelope::PublicKey;
use crate::limits::CHALLENGE_BYTES_MAX;

/// A number that is good for one request, and whose it is.
///
/// ```text
/// { 0: nonce bstr .size 32, 1: key bstr .size 32, 2: expires uint }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Challenge {
    /// Random, used once.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub nonce: [u8; NONCE_BYTES],
    /// The key that the collector signs its receipts with.
    #[cbor(n(1), with = "minicbor::bytes")]
    key: [u8; 32],
    /// When the nonce ends, milliseconds since the epoch by the collector's clock.
    #[n(2)]
    pub expires_ms: u64,
}

impl Challenge {
    /// A challenge of the collector with this key.
    pub fn new(nonce: [u8; NONCE_BYTES], key: PublicKey, expires_ms: u64) -> Self {
        Self {
            nonce,
            key: key.0,
            expires_ms,
        }
    }

    /// The key that the collector signs its receipts with.
    pub fn key(&self) -> PublicKey {
        PublicKey(self.key)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing CBOR to memory cannot fail")
    }

    /// Reads one that fills `bytes`.
    ///
    /// # Errors
    /// It is too large or not one.
    pub fn read(bytes: &[u8]) -> Result<Self, EnrolError> {
        small(bytes, CHALLENGE_BYTES_MAX)?;
        whole(bytes)
    }
}
