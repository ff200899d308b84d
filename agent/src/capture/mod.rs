//! Where packets come from. A capture backend is one file or folder here and one line below.

pub mod addresses;
pub mod ebpf;
pub mod pcap;
