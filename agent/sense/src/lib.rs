//! The agent's mind: decodes packets, counts flows, summarises. It does no IO and reads no clock;
//! the caller feeds bytes and event time, so an hour of traffic replays in milliseconds and twice
//! the same way.
//!
//! # From frames to records
//!
//! [`decode::Decoder`] takes frames ([`input::Frame`]) or packets that the kernel has already
//! counted ([`input::PacketCopy`]) and tells a closure what it found:
//!
//! ```
//! use picket_sense::decode::{Decoder, Event};
//! use picket_sense::flow::FlowTable;
//! use picket_sense::input::{Frame, LinkType};
//!
//! let mut decoder = Decoder::new();
//! let mut flows = FlowTable::new(picket_sense::limits::FLOWS_MAX);
//! let frame = Frame { ts_ns: 0, link: LinkType::RAW_IP, wire_bytes: 3, data: &[0x45, 0, 0] };
//! decoder.on_frame(&frame, &mut |event| match event {
//!     // The packet belongs to a flow; `packet.tunnel` says whether inside a tunnel.
//!     Event::Packet(packet) => drop(flows.record(packet)),
//!     // ARP, ICMP errors, later fragments, …: counted by class.
//!     Event::NotFlow { class, .. } => println!("{}", class.name()),
//!     // What could not be read: counted by reason.
//!     Event::Lost { reason, .. } => println!("{}", reason.name()),
//!     // A message: DNS, ClientHello, …
//!     Event::Record(record) => println!("{} → {}", record.src, record.dst),
//! });
//! ```
//!
//! - Each frame yields exactly one `Packet`, `NotFlow` or `Lost` with `tunnel: None`, and one more
//!   for each packet it carries inside a tunnel. A copy yields records only.
//! - [`flow::FlowTable`] is bounded. [`flow::FlowTable::record`] adds a packet,
//!   [`flow::FlowTable::add_delta`] adds what the kernel counted, [`flow::FlowTable::close_window`]
//!   hands out what was counted since the last window and keeps who opened each flow.
//! - [`inspect::Inspector`] is the path of `picket-agent inspect`: frames in, records and totals out.
//! - [`sensor::Sensor`] is the path of `run` and `replay`: frames or kernel records in, summaries out.

#![forbid(unsafe_code)]

pub mod decode;
pub mod flow;
pub mod input;
pub mod inspect;
pub mod limits;
pub mod sensor;
pub mod summarise;
#[cfg(test)]
mod testkit;

pub use sensor::{Clock, Inside, Sensor, SensorConfig};
