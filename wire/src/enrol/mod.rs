//! Enrolment: how a host's key becomes one that a collector believes.

mod level;

pub use level::{Level, UnknownLevel};
