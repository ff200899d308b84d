//! Flows: packets of one unordered five-tuple, counted both ways.
//!
//! A table is bounded and counts what it turns away. Flows come out in the order in which they
//! were first seen, so that the same packets give the same output.

mod key;
mod table;

pub use key::{FlowKey, Side};
pub use table::{Count, Direction, Flow, FlowTable, OwnerRef, TableFull};
