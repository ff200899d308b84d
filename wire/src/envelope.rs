//! The envelope: one summary, signed, numbered and chained to the one before it.
//!
//! COSE_Sign1 (RFC 9052 section 4.2), tagged 18:
//!
//! ```text
//! 18([ protected: bstr, unprotected: {}, payload: bstr, signature: bstr .size 64 ])
//!
//! protected = {  1: -8                        EdDSA, Ed25519 keys only
//!                2: [-70001, … -70005]        all of ours are critical
//!                3: "application/vnd.picket.summary+cbor+zstd"
//!                4: kid       bstr .size 32   the signer's raw public key
//!           -70001: agent id  bstr .size 16   made of that key
//!           -70002: boot id   bstr .size 16
//!           -70003: sequence  uint            from 0 at each boot, without holes
//!           -70004: previous  bstr .size 32   SHA-256 of the envelope before, zeros for the first
//!           -70005: signed at uint }          milliseconds since the epoch, by the signer's clock
//! ```
//!
//! The payload is a zstd frame holding one [`Summary`]. The header must be in the deterministic
//! encoding of RFC 8949 section 4.2, byte for byte: there is one way to write it.
//!
//! As the key travels along and the agent id is made of it, anybody can tell whether an envelope is
//! what the holder of its key said. Who that holder is and whom he may speak for is another
//! question, for those who were told keys by other ways: the key in a header is a claim.

use std::cell::RefCell;
use std::fmt;

use minicbor::{Decoder, Encoder};
use ring::signature::{Ed25519KeyPair, KeyPair, Signature};
use zstd::bulk::Decompressor;

use crate::id::{AgentId, BootId, Digest};
use crate::limits::{ENVELOPE_BYTES_MAX, PROTECTED_BYTES_MAX, SUMMARY_BYTES_MAX, ZSTD_LEVEL};
use crate::sign1::{self, ALG_EDDSA, Parts};
use crate::stream::item_bytes;
use crate::summary::{Summary, SummaryError};

/// Media type of the payload (protected header 3).
pub const CONTENT_TYPE: &str = "application/vnd.picket.summary+cbor+zstd";

const LABELS: [i64; 5] = [-70001, -70002, -70003, -70004, -70005];
const ENTRIES: u64 = 9;
const DEVELOPMENT_SEED: &[u8; 32] = b"picket: the public test key (32)";

/// Why an envelope was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The bytes are not tag 18 over four parts of the right kinds.
    #[error("no COSE_Sign1 at byte {at}")]
    NotAnEnvelope {
        /// Where it stopped looking like one.
        at: usize,
    },
    /// Larger than an envelope may be.
    #[error("envelope of {bytes} bytes, {ENVELOPE_BYTES_MAX} allowed")]
    TooLarge {
        /// What it takes or says it takes.
        bytes: usize,
    },
    /// The bytes end inside the envelope, or go on after it.
    #[error("envelope is cut or followed by other bytes")]
    Length,
    /// The protected header is not the one encoding of a header we know.
    #[error("protected header: {why}")]
    Header {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key is not the one that the agent is named after, or not the one expected of it.
    #[error("agent {agent} signs with the key {key}, which is not its own")]
    WrongKey {
        /// Who it says it is.
        agent: AgentId,
        /// The key it names.
        key: PublicKey,
    },
    /// The signature does not verify under the key.
    #[error("signature does not verify")]
    Signature,
    /// It is not the envelope that was verified before.
    #[error("not the bytes that were verified")]
    Altered,
    /// The payload does not inflate, or to more than a summary may take.
    #[error("payload does not inflate within {SUMMARY_BYTES_MAX} bytes")]
    Inflate,
    /// The payload inflates to something that is not a valid summary.
    #[error("summary: {0}")]
    Summary(#[from] SummaryError),
}

/// What the protected header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The key it is signed with.
    pub key: PublicKey,
    /// Who speaks.
    pub agent: AgentId,
    /// In which run.
    pub boot: BootId,
    /// The how-manyeth envelope of this run, from 0.
    pub sequence: u64,
    /// SHA-256 of the envelope before, zeros at sequence 0.
    pub previous: Digest,
    /// When it was signed, milliseconds since the epoch, by the signer's clock.
    pub signed_at_ms: u64,
}

impl Header {
    /// Says whether the agent is named after the key. Under the development key everybody may take
    /// any name, since it proves nothing about anyone.
    pub fn is_of_its_key(&self) -> bool {
        self.key.is_development() || self.agent == AgentId::of_key(&self.key.0)
    }

    fn wrong_key(&self) -> EnvelopeError {
        EnvelopeError::WrongKey {
            agent: self.agent,
            key: self.key,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(224);
        let mut e = Encoder::new(&mut out);
        // Writing to a Vec cannot fail, and the calls below are balanced by construction.
        let written: Result<(), minicbor::encode::Error<_>> = (|| {
            e.map(ENTRIES)?.i64(1)?.i64(ALG_EDDSA)?;
            e.i64(2)?.array(LABELS.len() as u64)?;
            for label in LABELS {
                e.i64(label)?;
            }
            e.i64(3)?.str(CONTENT_TYPE)?;
            e.i64(4)?.bytes(&self.key.0)?;
            e.i64(LABELS[0])?.bytes(&self.agent.0)?;
            e.i64(LABELS[1])?.bytes(&self.boot.0)?;
            e.i64(LABELS[2])?.u64(self.sequence)?;
            e.i64(LABELS[3])?.bytes(&self.previous.0)?;
            e.i64(LABELS[4])?.u64(self.signed_at_ms)?;
            Ok(())
        })();
        written.expect("writing CBOR to memory cannot fail");
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let header = Self::read(bytes).map_err(|why| EnvelopeError::Header { why })?;
        if header.encode() != bytes {
            return Err(EnvelopeError::Header {
                why: "not in its deterministic encoding",
            });
        }
        Ok(header)
    }

    /// Reads the values; whether they were encoded the one way is checked by encoding them again.
    fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut d = Decoder::new(bytes);
        let entries = d.map().ok().flatten().ok_or("not a map of known length")?;
        let mut header = Self {
            key: PublicKey([0; 32]),
            agent: AgentId::default(),
            boot: BootId::default(),
            sequence: 0,
            previous: Digest::default(),
            signed_at_ms: 0,
        };
        if entries != ENTRIES {
            return Err("not our nine entries");
        }
        for _ in 0..entries {
            match d.i64().map_err(|_| "a label is no integer")? {
                1 if d.i64().is_ok_and(|alg| alg == ALG_EDDSA) => {}
                1 => return Err("algorithm is not EdDSA"),
                2 | 3 => d.skip().map_err(|_| "a value is damaged")?,
                4 => header.key = PublicKey(sized(&mut d)?),
                -70001 => header.agent = AgentId(sized(&mut d)?),
                -70002 => header.boot = BootId(sized(&mut d)?),
                -70003 => header.sequence = d.u64().map_err(|_| "sequence is no u64")?,
                -70004 => header.previous = Digest(sized(&mut d)?),
                -70005 => header.signed_at_ms = d.u64().map_err(|_| "signing time is no u64")?,
                _ => return Err("unknown label"),
            }
        }
        Ok(header)
    }
}

fn sized<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], &'static str> {
    d.bytes()
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("a byte string has the wrong size")
}

/// An agent's Ed25519 key.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// Takes the 32-byte seed of an Ed25519 private key (RFC 8032 section 5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed"))
    }

    /// The key that `replay` signs with unless told otherwise. It is public on purpose: it proves
    /// nothing, and a collector that serves refuses it.
    pub fn development() -> Self {
        Self::from_seed(DEVELOPMENT_SEED)
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Signature {
        self.0.sign(bytes)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }
}

/// The public half of an agent's key: 32 raw bytes (RFC 8032).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The public half of [`Signer::development`], which a test compares with it.
    pub const DEVELOPMENT: Self = Self([
        0xc3, 0xdd, 0x60, 0x3e, 0xdc, 0xfe, 0x06, 0x55, 0x21, 0xfd, 0x1e, 0xa7, 0x76, 0x3d, 0x2f,
        0xe3, 0x0f, 0x1f, 0x10, 0x10, 0x0f, 0xf4, 0x0f, 0xef, 0x4e, 0x59, 0x6a, 0x79, 0x97, 0x6f,
        0x11, 0x87,
    ]);

    /// Says whether this is the development key.
    pub fn is_development(&self) -> bool {
        *self == Self::DEVELOPMENT
    }
}

impl fmt::Display for PublicKey {
    /// 64 hex digits, as keys stand in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Digest(self.0), f)
    }
}

/// The sender's end of a chain: who speaks and what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Who speaks.
    pub agent: AgentId,
    /// In which run.
    pub boot: BootId,
    /// Number of the next envelope.
    pub sequence: u64,
    /// Digest of the last envelope sealed.
    pub previous: Digest,
}

impl Chain {
    /// Starts a chain at sequence 0.
    pub fn new(agent: AgentId, boot: BootId) -> Self {
        Self {
            agent,
            boot,
            sequence: 0,
            previous: Digest::default(),
        }
    }

    /// Seals `summary` as the next envelope of the chain. Costs one compression and one signature.
    pub fn seal(&mut self, summary: &Summary, signed_at_ms: u64, signer: &Signer) -> Vec<u8> {
        let plain = summary.to_bytes();
        let payload = zstd::bulk::compress(&plain, ZSTD_LEVEL)
            .expect("compressing memory to memory fails only without memory");
        let header = Header {
            key: signer.public_key(),
            agent: self.agent,
            boot: self.boot,
            sequence: self.sequence,
            previous: self.previous,
            signed_at_ms,
        };
        let protected = header.encode();
        let out = sign1::seal(&protected, &payload, signer);
        self.sequence += 1;
        self.previous = Digest::of(&out);
        out
    }
}

/// An envelope whose shape and header are sound and whose signature nobody has looked at yet.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    header: Header,
    parts: Parts<'a>,
    bytes: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Reads the shape of an envelope that fills `bytes`. Allocates nothing but its header.
    ///
    /// # Errors
    /// Every [`EnvelopeError`] but `Signature`, `Inflate` and `Summary`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { bytes: bytes.len() });
        }
        if item_bytes(bytes)? != Some(bytes.len()) {
            return Err(EnvelopeError::Length);
        }
        let parts = Parts::read(bytes).map_err(|at| EnvelopeError::NotAnEnvelope { at })?;
        if parts.protected.len() > PROTECTED_BYTES_MAX {
            return Err(EnvelopeError::Header {
                why: "larger than a header may be",
            });
        }
        Ok(Self {
            header: Header::decode(parts.protected)?,
            parts,
            bytes,
        })
    }

    /// What the header claims. Not to be believed before [`Sealed::verify`].
    pub fn claims(&self) -> &Header {
        &self.header
    }

    /// SHA-256 over the whole envelope: its name, and `previous` of the next one.
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes)
    }

    /// Checks that it is signed with `key`, which the caller knows to be the agent's.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongKey`] if it says itself that it is not, [`EnvelopeError::Signature`].
    pub fn verify(self, key: &PublicKey) -> Result<Verified<'a>, EnvelopeError> {
        if self.header.key != *key {
            return Err(self.header.wrong_key());
        }
        self.verify_as_claimed()
    }

    /// Checks that whoever holds the key of the header signed it, and that the agent is named after
    /// that key. Says nothing about whose key it is: that is for the caller to know.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongKey`], [`EnvelopeError::Signature`].
    pub fn verify_as_claimed(self) -> Result<Verified<'a>, EnvelopeError> {
        if !self.header.is_of_its_key() {
            return Err(self.header.wrong_key());
        }
        if !self.parts.verifies(&self.header.key) {
            return Err(EnvelopeError::Signature);
        }
        Ok(Verified(self))
    }

    /// Takes it for verified if its digest is `verified`, that of an envelope which was: for one who
    /// reads back what it has checked and kept itself. Costs a hash instead of a signature check.
    ///
    /// # Errors
    /// [`EnvelopeError::Altered`].
    pub fn recognise(self, verified: &Digest) -> Result<Verified<'a>, EnvelopeError> {
        if self.digest() != *verified {
            return Err(EnvelopeError::Altered);
        }
        Ok(Verified(self))
    }
}

/// An envelope whose signature verified.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a>(Sealed<'a>);

/// Inflates a frame to at most `bytes_max` bytes.
fn inflate(frame: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    thread_local! {
        /// What inflating needs takes as long to set up as a small summary to inflate (measured: 7 %
        /// of what taking an envelope in costs), so each thread keeps its own. Nothing of a frame
        /// stays in it.
        static INFLATER: RefCell<Option<Decompressor<'static>>> =
            RefCell::new(Decompressor::new().ok());
    }
    INFLATER.with_borrow_mut(|inflater| inflater.as_mut()?.decompress(frame, bytes_max).ok())
}

impl Verified<'_> {
    /// The header, now known to be the key holder's word.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// SHA-256 over the whole envelope.
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// Inflates and decodes the summary, within bounds.
    ///
    /// # Errors
    /// [`EnvelopeError::Inflate`] or [`EnvelopeError::Summary`].
    pub fn open(&self) -> Result<Summary, EnvelopeError> {
        // The frame header's promise bounds the allocation; a frame that promises nothing, or too
        // much, is refused before any of it is inflated.
        let promised = zstd::zstd_safe::get_frame_content_size(self.0.parts.payload)
            .ok()
            .flatten()
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|&bytes| bytes <= SUMMARY_BYTES_MAX)
            .ok_or(EnvelopeError::Inflate)?;
        let plain = inflate(self.0.parts.payload, promised).ok_or(EnvelopeError::Inflate)?;
        Ok(Summary::from_bytes(&plain)?)
    }
}
