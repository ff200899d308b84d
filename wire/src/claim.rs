//! Claims: an agent's word, good for a moment, that a request is its own.
//!
//! Whatever an agent asks for besides handing in envelopes carries one, signed with the key of its
//! envelopes: there is no session and no secret that the collector would have to keep. COSE_Sign1
//! (RFC 9052 section 4.2), tagged 18:
//!
//! ```text
//! protected = { 1: -8                                   EdDSA, Ed25519 keys only
//!               3: "application/vnd.picket.claim+cbor" }
//! payload   = { 0: agent   bstr .size 16
//!               1: purpose uint                          0 indicators, 1 orders, 2 rotation
//!               2: issued  uint                          milliseconds since the epoch
//!               3: once    bstr .size 16                 random, never used twice
//!             ? 4: body    bstr .size 32 }               SHA-256 of the request's body, if it has one
//! ```
//!
//! It travels as `Authorization: Picket <base64url without padding, RFC 4648 section 5>`. Both maps
//! are in the deterministic encoding of RFC 8949 section 4.2: there is one way to write a claim.
//! Whose key it is, whether the time fits and whether the random bytes were seen before is for the
//! collector to say, which knows agents and has a clock.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decoder, Encoder};

use crate::envelope::{PublicKey, Signer};
use crate::id::{AgentId, Digest};
use crate::limits::CLAIM_BYTES_MAX;
use crate::sign1::{self, Parts};

/// Media type of the payload (protected header 3).
pub const CONTENT_TYPE: &str = "application/vnd.picket.claim+cbor";

/// The scheme of the header's value.
pub const SCHEME: &str = "Picket";

/// Why a claim was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimError {
    /// The header's value is not our scheme and base64url behind it.
    #[error("no claim in the header")]
    Header,
    /// Larger than a claim may be.
    #[error("claim of {bytes} bytes, {CLAIM_BYTES_MAX} allowed")]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
    /// Not tag 18 over four parts of the right kinds, with our header.
    #[error("no claim")]
    NotAClaim,
    /// The payload is not a claim, or not in its one encoding.
    #[error("claim: {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
    /// The signature does not verify under the key given.
    #[error("signature does not verify")]
    Signature,
}

/// What a claim is good for; a claim for one thing is worth nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To be given indicators.
    Indicators,
    /// To be given orders.
    Orders,
    /// To put another key in place of its own.
    Rotation,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Indicators, Self::Orders, Self::Rotation];

    /// Its number on the wire.
    fn number(self) -> u64 {
        match self {
            Self::Indicators => 0,
            Self::Orders => 1,
            Self::Rotation => 2,
        }
    }
}

/// Who asks for what, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Who asks.
    pub agent: AgentId,
    /// For what.
    pub purpose: Purpose,
    /// When it was signed, milliseconds since the epoch.
    pub issued_ms: u64,
    /// Random bytes by which the collector knows a claim again.
    pub once: [u8; 16],
    /// SHA-256 of the body of the request, if it has one.
    pub body: Option<Digest>,
}

impl Claim {
    /// Signs the claim: the value of the header.
    pub fn header(&self, signer: &Signer) -> String {
        let sealed = self.seal(signer);
        format!("{SCHEME} {}", URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Signs the claim.
    pub fn seal(&self, signer: &Signer) -> Vec<u8> {
        sign1::seal(&protected(), &self.payload(), signer)
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        let mut e = Encoder::new(&mut out);
        let written: Result<(), minicbor::encode::Error<_>> = (|| {
            e.map(if self.body.is_some() { 5 } else { 4 })?;
            e.u8(0)?.bytes(&self.agent.0)?;
            e.u8(1)?.u64(self.purpose.number())?;
            e.u8(2)?.u64(self.issued_ms)?;
            e.u8(3)?.bytes(&self.once)?;
            if let Some(body) = &self.body {
                e.u8(4)?.bytes(&body.0)?;
            }
            Ok(())
        })();
        written.expect("writing CBOR to memory cannot fail");
        out
    }

    /// Reads the values; whether they were encoded the one way is checked by encoding them again.
    fn read(payload: &[u8]) -> Option<Self> {
        let mut d = Decoder::new(payload);
        let entries = d.map().ok()??;
        let key = |wanted: u8, d: &mut Decoder<'_>| d.u8().ok().filter(|key| *key == wanted);
        key(0, &mut d)?;
        let agent = AgentId(d.bytes().ok()?.try_into().ok()?);
        key(1, &mut d)?;
        let number = d.u64().ok()?;
        let purpose = Purpose::ALL
            .into_iter()
            .find(|one| one.number() == number)?;
        key(2, &mut d)?;
        let issued_ms = d.u64().ok()?;
        key(3, &mut d)?;
        let once = d.bytes().ok()?.try_into().ok()?;
        let body = if entries == 5 {
            key(4, &mut d)?;
            Some(Digest(d.bytes().ok()?.try_into().ok()?))
        } else {
            None
        };
        Some(Self {
            agent,
            purpose,
            issued_ms,
            once,
            body,
        })
    }
}

/// A claim whose shape is sound and whose signature nobody has looked at yet.
#[derive(Debug, Clone)]
pub struct SealedClaim {
    claim: Claim,
    bytes: Vec<u8>,
}

impl SealedClaim {
    /// Takes the claim out of a header's value.
    ///
    /// # Errors
    /// Every [`ClaimError`] but `Signature`.
    pub fn from_header(value: &str) -> Result<Self, ClaimError> {
        let text = value
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(ClaimError::Header)?;
        let most = CLAIM_BYTES_MAX.div_ceil(3) * 4;
        if text.len() > most {
            let bytes = text.len() / 4 * 3;
            return Err(ClaimError::TooLarge { bytes });
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| ClaimError::Header)?;
        Self::parse(bytes)
    }

    /// Reads the shape of a claim that fills `bytes`.
    ///
    /// # Errors
    /// Every [`ClaimError`] but `Header` and `Signature`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ClaimError> {
        if bytes.len() > CLAIM_BYTES_MAX {
            return Err(ClaimError::TooLarge { bytes: bytes.len() });
        }
        let parts = Parts::read(&bytes).map_err(|_| ClaimError::NotAClaim)?;
        if parts.protected != protected() {
            return Err(ClaimError::NotAClaim);
        }
        let malformed = |why| ClaimError::Malformed { why };
        let claim = Claim::read(parts.payload).ok_or(malformed("its payload is not one"))?;
        if claim.payload() != parts.payload {
            return Err(malformed("not in its deterministic encoding"));
        }
        Ok(Self { claim, bytes })
    }

    /// What it claims. Not to be believed before [`SealedClaim::verify`].
    pub fn claims(&self) -> &Claim {
        &self.claim
    }

    /// Checks that `key`, which the caller knows to be the agent's, signed it.
    ///
    /// # Errors
    /// [`ClaimError::Signature`].
    pub fn verify(&self, key: &PublicKey) -> Result<Claim, ClaimError> {
        let parts = Parts::read(&self.bytes).map_err(|_| ClaimError::NotAClaim)?;
        if !parts.verifies(key) {
            return Err(ClaimError::Signature);
        }
        Ok(self.claim)
    }
}

fn protected() -> Vec<u8> {
    sign1::protected(CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::from_seed(&[3; 32])
    }

    fn claim() -> Claim {
        Claim {
            agent: AgentId([1; 16]),
            purpose: Purpose::Indicators,
            issued_ms: 1_700_000_000_000,
            once: [9; 16],
            body: None,
        }
    }

    #[test]
    fn a_claim_comes_back_as_it_was() {
        let mut claim = claim();
        for body in [None, Some(Digest([7; 32]))] {
            claim.body = body;
            let sealed = SealedClaim::from_header(&claim.header(&signer())).unwrap();
            assert_eq!(sealed.verify(&signer().public_key()), Ok(claim));
        }
    }

    #[test]
    fn no_byte_of_a_claim_may_change() {
        let bytes = claim().seal(&signer());
        assert!(bytes.len() <= CLAIM_BYTES_MAX);
        let key = signer().public_key();
        let opens = |bytes: Vec<u8>| SealedClaim::parse(bytes).and_then(|claim| claim.verify(&key));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(opens(changed).is_err(), "byte {at} bit {bit}");
            }
            assert!(opens(bytes[..at].to_vec()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_claim_says_so() {
        let header = claim().header(&signer());
        let check = |value: &str, expected: ClaimError| {
            assert_eq!(SealedClaim::from_header(value).unwrap_err(), expected);
        };
        check("Bearer abc", ClaimError::Header);
        check("Picket", ClaimError::Header);
        check("Picket !!", ClaimError::Header);
        check("Picket ", ClaimError::NotAClaim);
        check(&format!("{header}="), ClaimError::Header);
        check(
            &format!("Picket {}", "A".repeat(4_000)),
            ClaimError::TooLarge { bytes: 3_000 },
        );
        let orders = crate::Orders::default().seal(&signer());
        assert_eq!(
            SealedClaim::parse(orders).unwrap_err(),
            ClaimError::NotAClaim,
            "signed, but for something else"
        );
        let loose = sign1::seal(&protected(), &[0xbf, 0xff], &signer());
        assert!(matches!(
            SealedClaim::parse(loose),
            Err(ClaimError::Malformed { .. })
        ));
        let sealed = SealedClaim::parse(claim().seal(&signer())).unwrap();
        let other = Signer::from_seed(&[4; 32]).public_key();
        assert_eq!(sealed.verify(&other), Err(ClaimError::Signature));
    }
}
