//! Enrolment with both binaries over real TLS, a metadata service that behaves like the real one, and an
//! STS that computes signatures again. Needs no root, but for the one test that captures.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "enrolment/attacks.rs"]
mod attacks;
#[path = "enrolment/cloned.rs"]
mod cloned;
#[path = "enrolment/ec2.rs"]
mod ec2;
#[path = "enrolment/house.rs"]
mod house;
#[path = "enrolment/proxied.rs"]
mod proxied;
#[path = "enrolment/renewal.rs"]
mod renewal;
#[path = "enrolment/tokens.rs"]
mod tokens;
