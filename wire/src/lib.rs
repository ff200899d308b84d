//! What agents tell collectors: the summary of a window, and the signed envelope it travels in.
//!
//! Both sides of the wire build from this crate and meet nowhere else. It does no IO and reads no
//! clock: the caller passes bytes, keys and the signing time. Bytes that arrive go one way,
//! each step bounded before it allocates:
//!
//! ```text
//! bytes → Sealed::parse → Sealed::verify(key) → Verified::open (inflate, decode, validate) → Summary
//! ```
//!
//! `docs/envelope.md` describes the format for someone who has none of this code.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod claim;
pub mod enrol;
pub mod envelope;
pub mod id;
pub mod limits;
pub mod orders;
pub mod protected;
mod sign1;
pub mod stream;
pub mod summary;

pub use bundle::{BundleError, Manifest};
pub use claim::{Claim, ClaimError, Purpose, SealedClaim};
pub use envelope::{Chain, EnvelopeError, Header, PublicKey, Sealed, Signer, Verified};
pub use id::{AgentId, BootId, Digest, IdError};
pub use orders::{Order, Orders, OrdersError};
pub use stream::item_bytes;
pub use summary::{
    Answer, App, Balance, BlockAct, BlockEvent, BlockedFlow, Canary, Content, Conversation,
    Counter, Cut, Detached, Filtered, Gap, Health, Hit, HitKind, Host, Http, Imbalance, ImdsClass,
    ImdsRequest, Latency, Listing, Logins, Net, Opened, Parent, Process, Question, Side, Smtp,
    Socks, Ssh, Stratum, Summary, Transport, TunnelKind, Via, Watched, Window,
};
