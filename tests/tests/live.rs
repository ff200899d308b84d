//! The whole product on real packets: real agent, real kernel program, real collector, each test in
//! namespaces of its own. Needs root; every test says so and skips where it cannot run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "live/alerts.rs"]
mod alerts;
#[path = "live/clock.rs"]
mod clock;
#[path = "live/equal.rs"]
mod equal;
#[path = "live/indicators.rs"]
mod indicators;
#[path = "live/leftovers.rs"]
mod leftovers;
#[path = "live/orders.rs"]
mod orders;
#[path = "live/outage.rs"]
mod outage;
#[path = "live/refusals.rs"]
mod refusals;
#[path = "live/scenarios.rs"]
mod scenarios;
#[path = "live/sensor.rs"]
mod sensor;
#[path = "live/standalone.rs"]
mod standalone;
