//! Where packets come from. A capture backend is one file or folder here and one line below; one
//! that watches a live host has its line in the [`ladder`] too.

pub mod addresses;
pub(crate) mod changes;
pub mod ebpf;
pub mod ladder;
pub mod live;
pub mod packet;
pub mod pcap;
