//! Where packets come from. A capture backend is one file or folder here and one line below; one
//! that watches a live host has its line in the [`ladder`] too.

pub mod addresses;
pub(crate) mod changes;
pub mod choice;
pub mod ebpf;
pub mod heap;
pub(crate) mod kernfs;
pub mod ladder;
mod links;
pub mod live;
mod netlink;
pub mod packet;
pub mod pcap;
pub(crate) mod permission;
