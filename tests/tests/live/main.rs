//! The whole product on real packets: real agent, real kernel program, real collector, each test in
//! namespaces of its own. Needs root; every test says so and skips where it cannot run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod equal;
mod outage;
mod refusals;
mod scenarios;
