//! The collector's mind: admits envelopes, remembers what it needs, detects, and joins findings to
//! stories. No IO and no clock: the caller passes bytes and events that carry their own time, and
//! polls for what came of them.
//!
//! ```text
//! bytes ─ admit::Admission ─┐
//! logs  ─ logs::…          ─┴→ Event → Analyzer → history → detections → ledger → correlations → Output
//! ```
//!
//! The same events in the same order give the same bytes, on every machine.
#![forbid(unsafe_code)]

pub mod admit;
pub mod analyzer;
mod call_tactic;
mod conversation;
mod correlations;
mod dated;
mod detections;
pub mod dga;
mod domain;
pub mod event;
pub mod finding;
mod forwarding;
mod history;
pub mod identity;
pub mod incident;
mod ledger;
pub mod limits;
pub mod logs;
mod ordinary;
mod policy;
mod reach;
mod resolvers;
mod sending;
mod server;
pub mod settings;
pub mod sigma;
#[cfg(test)]
mod testing;
pub mod time;

pub use admit::{Admission, Admitted, Gap, Gaps, KnownAgent, Link, Refusal, Standing};
pub use analyzer::{Analyzer, Output, Totals};
pub use detections::{SENSOR_CLOCK, SENSOR_SILENT};
pub use event::{
    Event, FeedEvent, FeedWord, SensorEvent, SensorWindow, SensorWord, SourceKind, TrailEvent,
    TrailWord,
};
pub use finding::Finding;
pub use history::{
    Baseline, Dimension, Learned, LearnedError, Met, Peaks, Sent, Traffic, TrafficOf, Values, Whose,
};
pub use incident::Incident;
pub use settings::Settings;
pub use time::Time;
