//! Indicator bundles: what a collector has its agents look for, signed, numbered, bounded in time.
//!
//! A bundle is a manifest and the chunks it names, one after the other:
//!
//! ```text
//! bundle   = manifest chunk*             lengths of the chunks stand in the manifest
//! manifest = COSE_Sign1, tagged 18       by the collector's key, RFC 9052 section 4.2
//!   protected = { 1: -8, 3: "application/vnd.picket.indicators+cbor+zstd" }
//!   payload   = { 0: version uint        grows with every bundle
//!                 1: issued  uint        milliseconds since the epoch
//!                 2: expires uint        from when on it counts as stale
//!                 3: set     uint        names the content that results
//!               ? 4: base    uint        the version it changes; without it the bundle is whole
//!                 5: lists  [ { 0: id, 1: name, 2: category, 3: direction, 4: confidence, 5: entries } ]
//!                 6: chunks [ { 0: bytes, 1: inflated bytes, 2: SHA-256 } ] }
//! chunk    = a zstd frame of sections    see [`chunk`]
//! ```
//!
//! The signature covers the manifest, and the manifest each chunk: nothing is inflated that was not
//! signed, and nobody needs a bundle in memory as a whole. Whether it is newer than the one before,
//! changes the one that is in use and is not over is for the caller to say, who knows those things
//! and has a clock. `docs/bundle.md` describes the format for someone who has none of this code.

pub mod chunk;
pub mod pack;

use minicbor::{Decode, Decoder, Encode};

use crate::envelope::{PublicKey, Signer};
use crate::id::Digest;
use crate::limits::{
    BUNDLE_BYTES_MAX, BUNDLE_CHUNKS_MAX, BUNDLE_ENTRIES_MAX, BUNDLE_LISTS_MAX, CHUNK_BYTES_MAX,
    CHUNK_FRAME_BYTES_MAX, LIST_NAME_BYTES_MAX, MANIFEST_BYTES_MAX,
};
use crate::sign1::{self, Parts};
use crate::stream::item_bytes;

pub use chunk::{Act, Entries, KEY_BYTES_MAX, Kind, Section, Sections, Value};
pub use pack::{Chunk, Packer};

/// Media type of the manifest's payload and what it names (protected header 3).
pub const CONTENT_TYPE: &str = "application/vnd.picket.indicators+cbor+zstd";

/// The most that a list can be sure of.
const CONFIDENCE_MAX: u8 = 100;

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    /// The manifest is larger than it may be.
    #[error("manifest of {bytes} bytes, {MANIFEST_BYTES_MAX} allowed")]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
    /// Not tag 18 over four parts of the right kinds, with our header.
    #[error("no manifest of indicators")]
    NotAManifest,
    /// The bytes end inside the bundle.
    #[error("bundle ends at byte {len}, {needed} more needed")]
    Truncated {
        /// Bytes there are.
        len: usize,
        /// Bytes that are missing.
        needed: usize,
    },
    /// The signature does not verify under the key given.
    #[error("signature does not verify")]
    Signature,
    /// The payload is not the manifest it should be.
    #[error("manifest at byte {at}: {why}")]
    Malformed {
        /// Where reading stopped.
        at: usize,
        /// The decoder's words.
        why: String,
    },
    /// A number in the manifest is beyond its bound.
    #[error("{what}: {value}, {max} allowed")]
    TooMuch {
        /// Which.
        what: &'static str,
        /// What it is.
        value: u64,
        /// The bound.
        max: u64,
    },
    /// Parts of the manifest contradict each other.
    #[error("manifest: {0}")]
    Contradiction(&'static str),
    /// A chunk is not the one that was signed.
    #[error("chunk {0} is not the one that was signed")]
    ForeignChunk(usize),
    /// A chunk does not inflate to what the manifest says.
    #[error("chunk {0} does not inflate to what was signed")]
    Inflate(usize),
    /// What a chunk inflates to is not made of sections.
    #[error("chunk at byte {at}: {why}")]
    Chunk {
        /// Where reading stopped.
        at: usize,
        /// What is wrong there.
        why: &'static str,
    },
}

/// What is in a bundle, and how it is to be understood.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Manifest {
    /// Grows with every bundle of a collector: an older one is never taken after a newer. Not 0.
    #[n(0)]
    pub version: u64,
    /// When it was issued, milliseconds since the epoch.
    #[n(1)]
    pub issued_ms: u64,
    /// From when on it counts as stale, milliseconds since the epoch.
    #[n(2)]
    pub expires_ms: u64,
    /// Names the content that results from it, as `IndicatorSet::version` does.
    #[n(3)]
    pub set: u64,
    /// The version that it changes; `None` if it is whole.
    #[n(4)]
    pub base: Option<u64>,
    /// Every list that results, by ascending id. What was on a list that is not here is dropped.
    #[n(5)]
    pub lists: Vec<ListHead>,
    /// The chunks that follow, in their order.
    #[n(6)]
    pub chunks: Vec<ChunkHead>,
}

/// A list, without its entries.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ListHead {
    /// Its number, by which sections name it; the same as in the bundle that is changed.
    #[n(0)]
    pub id: u32,
    /// Name, as a finding shows it.
    #[n(1)]
    pub name: String,
    /// What its entries are: `c2`, `mining` and so on.
    #[n(2)]
    pub category: String,
    /// Who has to open a conversation for an entry to count.
    #[n(3)]
    pub direction: Way,
    /// How sure it is of its entries, 0 to 100.
    #[n(4)]
    pub confidence: u8,
    /// How many entries it has in the end.
    #[n(5)]
    pub entries: u64,
}

/// Who has to open a conversation with an entry for it to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Way {
    /// Either end.
    #[n(0)]
    Both,
    /// The watched host.
    #[n(1)]
    Outbound,
    /// The entry.
    #[n(2)]
    Inbound,
}

/// A chunk, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChunkHead {
    /// Bytes it takes as it travels.
    #[n(0)]
    pub bytes: u32,
    /// Bytes it inflates to.
    #[n(1)]
    pub inflated_bytes: u32,
    /// SHA-256 of it as it travels.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: [u8; 32],
}

impl Manifest {
    /// Signs the manifest.
    pub fn seal(&self, signer: &Signer) -> Vec<u8> {
        let payload = minicbor::to_vec(self).expect("writing CBOR to memory cannot fail");
        Self::seal_payload(&payload, signer)
    }

    /// Signs bytes as if they were a manifest, for tests of what reads them.
    #[doc(hidden)]
    pub fn seal_payload(payload: &[u8], signer: &Signer) -> Vec<u8> {
        sign1::seal(&sign1::protected(CONTENT_TYPE), payload, signer)
    }

    /// Says how many bytes the manifest at the beginning of `bytes` takes; `None` if it goes on past
    /// their end.
    ///
    /// # Errors
    /// [`BundleError::NotAManifest`], [`BundleError::TooLarge`].
    pub fn bytes(bytes: &[u8]) -> Result<Option<usize>, BundleError> {
        let len = item_bytes(bytes).map_err(|_| BundleError::NotAManifest)?;
        match len {
            Some(bytes) if bytes > MANIFEST_BYTES_MAX => Err(BundleError::TooLarge { bytes }),
            None if bytes.len() > MANIFEST_BYTES_MAX => {
                Err(BundleError::TooLarge { bytes: bytes.len() })
            }
            len => Ok(len),
        }
    }

    /// Verifies a manifest that fills `bytes` under `key`, and reads it.
    ///
    /// # Errors
    /// Every [`BundleError`] but those of chunks.
    pub fn open(bytes: &[u8], key: &PublicKey) -> Result<Self, BundleError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(BundleError::TooLarge { bytes: bytes.len() });
        }
        let parts = Parts::read(bytes).map_err(|_| BundleError::NotAManifest)?;
        if parts.protected != sign1::protected(CONTENT_TYPE) {
            return Err(BundleError::NotAManifest);
        }
        if !parts.verifies(key) {
            return Err(BundleError::Signature);
        }
        let mut decoder = Decoder::new(parts.payload);
        let manifest: Self = decoder.decode().map_err(|error| BundleError::Malformed {
            at: error.position().unwrap_or_else(|| decoder.position()),
            why: error.to_string(),
        })?;
        if decoder.position() != parts.payload.len() {
            return Err(BundleError::Malformed {
                at: decoder.position(),
                why: "other bytes follow".to_owned(),
            });
        }
        manifest.validate()?;
        Ok(manifest)
    }

    /// Bytes of all its chunks together.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum()
    }

    /// Entries on all its lists together, in the end.
    pub fn entries(&self) -> u64 {
        self.lists.iter().map(|list| list.entries).sum()
    }

    fn validate(&self) -> Result<(), BundleError> {
        bounded("lists", self.lists.len() as u64, BUNDLE_LISTS_MAX as u64)?;
        bounded("chunks", self.chunks.len() as u64, BUNDLE_CHUNKS_MAX as u64)?;
        let mut entries = 0u64;
        for list in &self.lists {
            let (name, category) = (list.name.len(), list.category.len());
            bounded("name of a list", name as u64, LIST_NAME_BYTES_MAX as u64)?;
            bounded("category", category as u64, LIST_NAME_BYTES_MAX as u64)?;
            bounded("confidence", list.confidence.into(), CONFIDENCE_MAX.into())?;
            entries = entries.saturating_add(list.entries);
        }
        bounded("entries", entries, BUNDLE_ENTRIES_MAX as u64)?;
        for chunk in &self.chunks {
            bounded("chunk", chunk.bytes.into(), CHUNK_FRAME_BYTES_MAX as u64)?;
            bounded(
                "inflated chunk",
                chunk.inflated_bytes.into(),
                CHUNK_BYTES_MAX as u64,
            )?;
        }
        bounded("all chunks", self.chunk_bytes(), BUNDLE_BYTES_MAX as u64)?;
        let wrong = |why| Err(BundleError::Contradiction(why));
        if self.version == 0 {
            return wrong("version 0");
        }
        if self.base.is_some_and(|base| base >= self.version) {
            return wrong("it changes a version that is not older");
        }
        if self.expires_ms < self.issued_ms {
            return wrong("it is over before it was issued");
        }
        if !self.lists.is_sorted_by(|one, next| one.id < next.id) {
            return wrong("its lists are not in the order of their numbers");
        }
        Ok(())
    }
}

impl ChunkHead {
    /// The head of a chunk.
    pub fn of(frame: &[u8], inflated_bytes: u32) -> Self {
        Self {
            // A frame has CHUNK_FRAME_BYTES_MAX at most.
            bytes: frame.len() as u32,
            inflated_bytes,
            digest: Digest::of(frame).0,
        }
    }
}

fn bounded(what: &'static str, value: u64, max: u64) -> Result<(), BundleError> {
    if value > max {
        return Err(BundleError::TooMuch { what, value, max });
    }
    Ok(())
}
