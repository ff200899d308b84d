//! The ground: namespaces, wires, a DNS server, an internet that answers, a webhook receiver; and what
//! tests put their subjects through: load, disks that fill, clocks that jump, limits.

pub mod clock;
pub mod disk;
pub mod group;
pub mod internet;
pub mod load;
pub mod namespace;
pub mod process;
pub mod resolver;
pub mod tap;
pub mod topology;
pub mod wait;
pub mod webhook;

pub use clock::Clock;
pub use disk::SmallDisk;
pub use group::{Group, Limits};
pub use load::Load;
pub use namespace::Namespace;
pub use process::Process;
pub use topology::{Lab, Wire};
pub use wait::wait_until;
