//! Ship: envelopes to the collector.

pub mod collector;

pub use collector::{Collector, PostError, Status, Verdict};
