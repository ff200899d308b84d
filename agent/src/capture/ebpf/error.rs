//! Why capture could not start or go on.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use super::tables::SetError;

/// Why capture could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The object or its maps were refused.
    #[error("load the kernel object")]
    Load(#[source] Box<EbpfError>),
    /// A program was refused.
    #[error("load kernel program {name}")]
    Program {
        /// Its name.
        name: String,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map was refused, or does not behave.
    #[error("use kernel map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// A map cannot be mapped into our memory.
    #[error("map kernel array {name} into memory")]
    Memory {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An interface that was asked for by name cannot be watched.
    #[error("interface {name}: {reason}")]
    Interface {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// No interface is left to watch.
    #[error("no interface to watch: none was named, and none has a default route")]
    NoInterface,
    /// The system would not tell something.
    #[error("{asked}")]
    System {
        /// What we wanted.
        asked: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The embedded object is not the one this program was written for.
    #[error("the embedded kernel object does not fit: {0}")]
    Object(&'static str),
    /// Too many tunnels are listed whose places in the kernel's table are the same.
    #[error("no room for VNI {vni} in the table of tunnels")]
    Tunnel {
        /// The one without a place.
        vni: u32,
    },
    /// A mirror whose tunnels are not listed, where the kernel cannot take places for them.
    #[error("this kernel looks into tunnels that are listed alone; name them in mirror_vnis")]
    OpenMirror,
    /// A set of addresses cannot be loaded. The one in force stays.
    #[error("load a set of addresses")]
    Set(#[from] SetError),
    /// Filters on clsact have one place for all agents of a network namespace.
    #[error("another agent runs, and its filters on clsact would be taken off by ours")]
    Second,
    /// This rung only looks.
    #[error("this rung of the capture ladder cannot block")]
    CannotBlock,
}
