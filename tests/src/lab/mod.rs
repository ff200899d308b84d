//! The ground: namespaces, wires, a DNS server, an internet that answers, a webhook receiver.

pub mod internet;
pub mod namespace;
pub mod process;
pub mod resolver;
pub mod tap;
pub mod topology;
pub mod wait;
pub mod webhook;

pub use namespace::Namespace;
pub use process::Process;
pub use topology::{Lab, Wire};
pub use wait::wait_until;
