//! Orders: what a collector tells its agents to block, signed, numbered and bounded in time.
//!
//! COSE_Sign1 (RFC 9052 section 4.2), tagged 18, like an [`envelope`](crate::envelope) but the
//! other way round:
//!
//! ```text
//! protected = { 1: -8                                     EdDSA, Ed25519 keys only
//!               3: "application/vnd.picket.orders+cbor" }
//! payload   = { 0: version   uint     grows with every bundle
//!               1: issued    uint     milliseconds since the epoch
//!               2: expires   uint     after which the whole bundle counts for nothing
//!               3: orders  [ { 0: id uint, 1: net, ? 2: port uint, 3: expires uint, 4: reason text } ]
//!             ? 4: agent   bstr .size 16 }            for this agent and no other
//! ```
//!
//! A bundle holds all orders in force: what an agent does not find in it any more is lifted. One that a
//! collector gives names the agent it is for; one that is laid into a file may leave that out.

use minicbor::{CborLen, Decode, Decoder, Encode};

use crate::envelope::{PublicKey, Signer};
use crate::id::AgentId;
use crate::limits::{ORDER_ID_MAX, ORDER_REASON_BYTES_MAX, ORDERS_BYTES_MAX, ORDERS_MAX};
use crate::sign1::{self, Parts};
use crate::summary::Net;

/// Media type of the payload (protected header 3).
pub const CONTENT_TYPE: &str = "application/vnd.picket.orders+cbor";

/// Why a bundle of orders was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrdersError {
    /// Larger than a bundle may be.
    #[error("bundle of {bytes} bytes, {ORDERS_BYTES_MAX} allowed")]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
    /// Not tag 18 over four parts of the right kinds, with our header.
    #[error("no bundle of orders")]
    NotOrders,
    /// The signature does not verify under the key given.
    #[error("signature does not verify")]
    Signature,
    /// The payload is not the orders it should be.
    #[error("orders at byte {at}: {why}")]
    Malformed {
        /// Where reading stopped.
        at: usize,
        /// The decoder's words.
        why: String,
    },
    /// A list or text longer than allowed.
    #[error("{what}: {len}, {max} allowed")]
    TooMany {
        /// Which.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A network with more bits of prefix than its address has.
    #[error("order {id}: no such network")]
    Network {
        /// The order.
        id: u64,
    },
    /// A number that no order can have.
    #[error("order {id}: no such number")]
    Number {
        /// The number.
        id: u64,
    },
}

/// Everything that is to be blocked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Orders {
    /// Grows with every bundle: an older one is never taken after a newer.
    #[n(0)]
    pub version: u64,
    /// When it was issued, milliseconds since the epoch.
    #[n(1)]
    pub issued_ms: u64,
    /// When it ends as a whole, milliseconds since the epoch.
    #[n(2)]
    pub expires_ms: u64,
    /// The orders, at most [`ORDERS_MAX`].
    #[n(3)]
    pub orders: Vec<Order>,
    /// The agent it is for; `None` if it is for whoever takes the key's word.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub agent: Option<[u8; 16]>,
}

/// One thing to block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Order {
    /// Its number, unique at the collector; 1 to [`ORDER_ID_MAX`].
    #[n(0)]
    pub id: u64,
    /// The network. With a port it must be one address.
    #[n(1)]
    pub net: Net,
    /// One port of the address; without it all of them, and every protocol.
    #[n(2)]
    pub port: Option<u16>,
    /// When it ends, milliseconds since the epoch.
    #[n(3)]
    pub expires_ms: u64,
    /// Why, for people: the finding, who ordered it.
    #[n(4)]
    pub reason: String,
}

impl Orders {
    /// Whether `agent` may take it: it is for that one, or for nobody in particular.
    pub fn is_for(&self, agent: AgentId) -> bool {
        self.agent.is_none_or(|one| one == agent.0)
    }

    /// Signs the bundle.
    pub fn seal(&self, signer: &Signer) -> Vec<u8> {
        let payload = minicbor::to_vec(self).expect("writing CBOR to memory cannot fail");
        Self::seal_payload(&payload, signer)
    }

    /// Signs bytes as if they were a bundle, for tests of what reads them.
    #[doc(hidden)]
    pub fn seal_payload(payload: &[u8], signer: &Signer) -> Vec<u8> {
        sign1::seal(&protected(), payload, signer)
    }

    /// Verifies a bundle that fills `bytes` under `key`, and reads it. Whether it is newer than
    /// the one before, and not over, is for the caller to say, who has a clock.
    ///
    /// # Errors
    /// Every [`OrdersError`].
    pub fn open(bytes: &[u8], key: &PublicKey) -> Result<Self, OrdersError> {
        if bytes.len() > ORDERS_BYTES_MAX {
            return Err(OrdersError::TooLarge { bytes: bytes.len() });
        }
        let parts = Parts::read(bytes).map_err(|_| OrdersError::NotOrders)?;
        if parts.protected != protected() {
            return Err(OrdersError::NotOrders);
        }
        if !parts.verifies(key) {
            return Err(OrdersError::Signature);
        }
        let mut decoder = Decoder::new(parts.payload);
        let orders: Self = decoder.decode().map_err(|error| OrdersError::Malformed {
            at: error.position().unwrap_or_else(|| decoder.position()),
            why: error.to_string(),
        })?;
        if decoder.position() != parts.payload.len() {
            return Err(OrdersError::Malformed {
                at: decoder.position(),
                why: "other bytes follow".to_owned(),
            });
        }
        orders.validate()?;
        Ok(orders)
    }

    fn validate(&self) -> Result<(), OrdersError> {
        bounded("orders", self.orders.len(), ORDERS_MAX)?;
        for order in &self.orders {
            bounded("reason", order.reason.len(), ORDER_REASON_BYTES_MAX)?;
            let bits = if order.net.address.is_ipv4() { 32 } else { 128 };
            let whole = order.net.prefix == bits;
            if !(1..=ORDER_ID_MAX).contains(&order.id) {
                return Err(OrdersError::Number { id: order.id });
            }
            if order.net.prefix > bits || (order.port.is_some() && !whole) {
                return Err(OrdersError::Network { id: order.id });
            }
        }
        Ok(())
    }
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), OrdersError> {
    if len > max {
        return Err(OrdersError::TooMany { what, len, max });
    }
    Ok(())
}

fn protected() -> Vec<u8> {
    sign1::protected(CONTENT_TYPE)
}
