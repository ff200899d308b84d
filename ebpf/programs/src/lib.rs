//! picket's kernel side: every packet on an interface is counted in a flow, once per flow its
//! addresses are looked up among the listed ones, and what is worth decoding is copied up.
//!
//! Pure parts, built and tested on the host as well: [`parse`] (headers to a key and sizes),
//! [`slots`] (which slot a flow has), [`listed`] (is an address in the tables), [`names`] (is a
//! question's name), [`stratum`] (does a payload begin like a miner's), [`wake`] (does a record wake
//! the agent). Around them, for
//! the kernel alone: [`kernel`], which reads socket buffers, maps and clocks. `main.rs` holds the
//! entry points and nothing else.
//!
//! The programs only look: they always let the packet go on to the next program. They need
//! Linux 5.12 (atomic exchange; the coarse clock came with 5.11). Everything they lose, they
//! count; see [`picket_abi::counter`] for the equation.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "atomic exchange has no other name on this target"
    )
)]

#[cfg(test)]
mod golden;
#[cfg(target_arch = "bpf")]
pub mod kernel;
pub mod listed;
pub mod names;
pub mod parse;
pub mod slots;
pub mod stratum;
pub mod tunnel;
pub mod wake;
