//! What an agent that wants to be believed sends.

use minicbor::{CborLen, Decode, Encode};

use super::{EnrolError, NONCE_BYTES, bounded, small, whole};
use crate::envelope::{PublicKey, Signer};
use crate::id::{AgentId, Digest};
use crate::limits::{
    ENROL_REQUEST_BYTES_MAX, ENROL_TEXT_BYTES_MAX, IDENTITY_BYTES_MAX, STS_TEXT_BYTES_MAX,
};
use crate::sign1::{self, Parts};

/// Media type of the payload (protected header 3).
const CONTENT_TYPE: &str = "application/vnd.picket.enrol+cbor";

/// A request to be believed, signed by the key it is about.
///
/// ```text
/// protected = { 1: -8, 3: "application/vnd.picket.enrol+cbor" }
/// payload   = { 0: nonce bstr .size 32, 1: key bstr .size 32, 2: server bstr .size 32, 3: proof }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Request {
    /// The challenge's.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub nonce: [u8; NONCE_BYTES],
    #[cbor(n(1), with = "minicbor::bytes")]
    key: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    server: [u8; 32],
    /// Why the key should be believed.
    #[n(3)]
    pub proof: Proof,
}

/// Why a key should be believed, as an array of a number and a list of values.
///
/// ```text
/// [0, [token, account, region, instance]]          a join token, and the host that is meant
/// [1, [identity bstr, ? sts]]                      sts = [authorization, date, ? token]
/// [2, [claim bstr]]                                the old key's word for the new one
/// [3, []]                                          the key is believed already
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Proof {
    /// A join token, with the host that the agent says it is.
    #[n(0)]
    Token {
        /// The token as it was printed.
        #[n(0)]
        token: String,
        /// The account, twelve digits.
        #[n(1)]
        account: String,
        /// The region.
        #[n(2)]
        region: String,
        /// The instance.
        #[n(3)]
        instance: String,
    },
    /// What EC2 says of the instance, and what its role signed.
    #[n(1)]
    Ec2 {
        /// The `rsa2048` signature of the instance identity document, which holds the document:
        /// PKCS #7 SignedData in BER.
        #[cbor(n(0), with = "minicbor::bytes")]
        identity: Vec<u8>,
        /// A request to STS, signed by the instance's role; an instance may have none.
        #[n(1)]
        sts: Option<Sts>,
    },
    /// The key follows another that the collector believes: the bytes of a claim of purpose
    /// rotation, signed by that one, whose body is [`succession`](super::succession).
    #[n(2)]
    Successor {
        /// The claim.
        #[cbor(n(0), with = "minicbor::bytes")]
        claim: Vec<u8>,
    },
    /// The collector believes the key already, and is asked for a new receipt.
    #[n(3)]
    Known,
}

/// What of a signed `sts:GetCallerIdentity` request the collector cannot make itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Sts {
    /// The header `Authorization`.
    #[n(0)]
    pub authorization: String,
    /// The header `X-Amz-Date`.
    #[n(1)]
    pub date: String,
    /// The header `X-Amz-Security-Token`.
    #[n(2)]
    pub token: Option<String>,
}

impl Request {
    /// A request under a challenge's nonce.
    pub fn new(nonce: [u8; NONCE_BYTES], server: Digest, key: PublicKey, proof: Proof) -> Self {
        Self {
            nonce,
            key: key.0,
            server: server.0,
            proof,
        }
    }

    /// The key it is about.
    pub fn key(&self) -> PublicKey {
        PublicKey(self.key)
    }

    /// The agent that the key names.
    pub fn agent(&self) -> AgentId {
        AgentId::of_key(&self.key)
    }

    /// The collector it is meant for.
    pub fn server(&self) -> Digest {
        Digest(self.server)
    }

    /// Signs it. The key must be the one it is about, or nobody will take it.
    pub fn seal(&self, signer: &Signer) -> Vec<u8> {
        let payload = minicbor::to_vec(self).expect("writing CBOR to memory cannot fail");
        sign1::seal(&sign1::protected(CONTENT_TYPE), &payload, signer)
    }

    /// Reads a request that fills `bytes` and verifies that the key it is about signed it. Costs a
    /// signature check.
    ///
    /// # Errors
    /// Every [`EnrolError`].
    pub fn open(bytes: &[u8]) -> Result<Self, EnrolError> {
        small(bytes, ENROL_REQUEST_BYTES_MAX)?;
        let parts = Parts::read(bytes).map_err(|_| EnrolError::NotOurs)?;
        if parts.protected != sign1::protected(CONTENT_TYPE) {
            return Err(EnrolError::NotOurs);
        }
        // The key stands in what it signs, so that has to be read first; it is small and bounded.
        let request: Self = whole(parts.payload)?;
        if !parts.verifies(&request.key()) {
            return Err(EnrolError::Signature);
        }
        request.proof.check()?;
        Ok(request)
    }
}

impl Proof {
    /// Its name, for people and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Ec2 { .. } => "ec2",
            Self::Successor { .. } => "successor",
            Self::Known => "known",
        }
    }

    fn check(&self) -> Result<(), EnrolError> {
        let text = |what, text: &str, max| bounded(what, text.len(), max);
        match self {
            Self::Token {
                token,
                account,
                region,
                instance,
            } => {
                for (what, value) in [
                    ("token", token),
                    ("account", account),
                    ("region", region),
                    ("instance", instance),
                ] {
                    text(what, value, ENROL_TEXT_BYTES_MAX)?;
                }
            }
            Self::Ec2 { identity, sts } => {
                bounded("identity", identity.len(), IDENTITY_BYTES_MAX)?;
                if let Some(sts) = sts {
                    text("authorization", &sts.authorization, STS_TEXT_BYTES_MAX)?;
                    text("date", &sts.date, ENROL_TEXT_BYTES_MAX)?;
                    let token = sts.token.as_deref().unwrap_or_default();
                    text("security token", token, STS_TEXT_BYTES_MAX)?;
                }
            }
            Self::Successor { claim } => {
                bounded("claim", claim.len(), crate::limits::CLAIM_BYTES_MAX)?;
            }
            Self::Known => {}
        }
        Ok(())
    }
}
