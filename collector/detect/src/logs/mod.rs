//! Logs that others write: one file per source, each turning bytes into typed events.
//!
//! A source comes in two halves that are used apart: something that cuts a stream of bytes into
//! single records ([`Splitter`]), and the typed parse of one record ([`ApiCall`]). So a caller can
//! sort and spill records while they are still text and pay for parsing once.

pub(crate) mod agent_words;
mod call_draft;
pub mod cloudtrail;
pub mod event_time;
mod flow_flags;
pub mod gather;
pub mod guardduty;
pub mod identity;
mod json;
pub mod limits;
pub mod rds;
pub mod resolver_query;
pub mod seen;
pub mod splitter;
pub mod vpc_flow;

pub use cloudtrail::{ApiCall, ApiCallError, Resource, Tls};
pub use gather::Gather;
pub use guardduty::{Reported, ReportedError};
pub use identity::{Identity, IdentityKind, SessionIssuer};
pub use json::Lazy;
pub use rds::{Database, Login, LoginLog, LoginOutcome, LoginReader, RdsLogError};
pub use resolver_query::{Query, QueryLogError};
pub use seen::{EventKey, Seen};
pub use splitter::{Piece, Place, RawEvent, SplitError, Splitter};
pub use vpc_flow::{Columns, FlowLine, FlowLogError, FlowRecord};
