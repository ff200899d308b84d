//! The collector as a process: real sockets, real TLS, a real database, killed for real.
//!
//! Each test runs a collector of its own on ports and folders of its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking, in its helpers too"
)]

mod admission;
mod alerts;
mod api;
mod attacks;
mod authority;
mod baselines;
mod buckets;
mod cloud;
mod configuration;
mod database_logs;
mod digests;
mod durability;
mod enrolment;
mod feeds;
mod gaps;
mod health;
mod indicators;
mod logs;
mod operator;
mod orders;
mod overload;
mod receiver;
mod rig;
mod room;
mod rules;
mod source;
