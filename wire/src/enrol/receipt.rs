//! What a collector gives an agent that it believes.

use minicbor::bytes::ByteVec;
use minicbor::{CborLen, Decode, Encode};

use super::{EnrolError, Level, NONCE_BYTES, bounded, small, whole};
use crate::envelope::{PublicKey, Signer};
use crate::id::AgentId;
use crate::limits::{
    AUTHORITIES_MAX, AUTHORITY_BYTES_MAX, ENROL_TEXT_BYTES_MAX, RECEIPT_BYTES_MAX,
};
use crate::sign1::{self, Parts};

/// Media type of the payload (protected header 3).
const CONTENT_TYPE: &str = "application/vnd.picket.receipt+cbor";

/// Whose word the collector takes, for which host, and by what the agent knows the collector again.
///
/// ```text
/// protected = { 1: -8, 3: "application/vnd.picket.receipt+cbor" }
/// payload   = { 0: nonce bstr .size 32     the request's
///               1: key   bstr .size 32     the agent's; its id is made of it
///               2: account, 3: region, 4: instance text
///               5: level text              token, ec2-document, ec2-sts, configured
///               6: issued uint             milliseconds since the epoch
///               7: collector bstr .size 32 the key this is signed with
///               8: authorities [ bstr ]    X.509 in DER: those that the collector's certificate
///                                          stems from, now or next }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The request's.
    pub nonce: [u8; NONCE_BYTES],
    /// The agent's key.
    pub key: PublicKey,
    /// The account of the host it may speak for.
    pub account: String,
    /// The region.
    pub region: String,
    /// The instance.
    pub instance: String,
    /// How sure the collector is of that.
    pub level: Level,
    /// When, milliseconds since the epoch.
    pub issued_ms: u64,
    /// The collector's key.
    pub collector: PublicKey,
    /// Certificates (DER) that the collector's own stems from, now or next.
    pub authorities: Vec<Vec<u8>>,
}

/// As it stands on the wire.
#[derive(Encode, Decode, CborLen)]
#[cbor(map)]
struct Payload {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; NONCE_BYTES],
    #[cbor(n(1), with = "minicbor::bytes")]
    key: [u8; 32],
    #[n(2)]
    account: String,
    #[n(3)]
    region: String,
    #[n(4)]
    instance: String,
    #[n(5)]
    level: String,
    #[n(6)]
    issued_ms: u64,
    #[cbor(n(7), with = "minicbor::bytes")]
    collector: [u8; 32],
    #[n(8)]
    authorities: Vec<ByteVec>,
}

impl Receipt {
    /// The agent it is for.
    pub fn agent(&self) -> AgentId {
        AgentId::of_key(&self.key.0)
    }

    /// Signs it. The key must be the one it names as the collector's, or nobody will take it.
    pub fn seal(&self, signer: &Signer) -> Vec<u8> {
        let authorities = self.authorities.iter().cloned().map(ByteVec::from);
        let payload = Payload {
            nonce: self.nonce,
            key: self.key.0,
            account: self.account.clone(),
            region: self.region.clone(),
            instance: self.instance.clone(),
            level: self.level.name().to_owned(),
            issued_ms: self.issued_ms,
            collector: self.collector.0,
            authorities: authorities.collect(),
        };
        let payload = minicbor::to_vec(payload).expect("writing CBOR to memory cannot fail");
        sign1::seal(&sign1::protected(CONTENT_TYPE), &payload, signer)
    }

    /// Reads a receipt that fills `bytes`, signed by `collector`.
    ///
    /// # Errors
    /// Every [`EnrolError`].
    pub fn open(bytes: &[u8], collector: &PublicKey) -> Result<Self, EnrolError> {
        small(bytes, RECEIPT_BYTES_MAX)?;
        let parts = Parts::read(bytes).map_err(|_| EnrolError::NotOurs)?;
        if parts.protected != sign1::protected(CONTENT_TYPE) {
            return Err(EnrolError::NotOurs);
        }
        if !parts.verifies(collector) {
            return Err(EnrolError::Signature);
        }
        let payload: Payload = whole(parts.payload)?;
        let malformed = |why: &str| EnrolError::Malformed {
            at: 0,
            why: why.to_owned(),
        };
        for (what, value) in [
            ("account", &payload.account),
            ("region", &payload.region),
            ("instance", &payload.instance),
        ] {
            bounded(what, value.len(), ENROL_TEXT_BYTES_MAX)?;
        }
        bounded("authorities", payload.authorities.len(), AUTHORITIES_MAX)?;
        for authority in &payload.authorities {
            bounded("authority", authority.len(), AUTHORITY_BYTES_MAX)?;
        }
        if payload.collector != collector.0 {
            return Err(malformed(
                "it names another collector than the one that signed",
            ));
        }
        Ok(Self {
            nonce: payload.nonce,
            key: PublicKey(payload.key),
            account: payload.account,
            region: payload.region,
            instance: payload.instance,
            level: payload
                .level
                .parse()
                .map_err(|_| malformed("unknown level"))?,
            issued_ms: payload.issued_ms,
            collector: *collector,
            authorities: payload.authorities.into_iter().map(Vec::from).collect(),
        })
    }
}
