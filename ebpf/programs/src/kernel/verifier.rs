//! Arithmetic the compiler must not see through.
//!
//! LLVM proves a range and drops the mask or the comparison that shows it; the verifier, which
//! reasons less, then refuses the access. An instruction it does not understand stays put. (An
//! empty one would not do: it leaves duplicate line info, which the kernel refuses.)

use core::arch::asm;

use aya_ebpf::maps::lpm_trie::Key;

/// `value & MASK`, kept as an instruction of its own.
#[inline(always)]
pub(super) fn mask<const MASK: i32>(mut value: u64) -> u64 {
    // SAFETY: one register, no memory, no stack.
    unsafe {
        asm!("{0} &= {1}", inout(reg) value, const MASK, options(nomem, nostack));
    }
    value
}

/// Makes the verifier refuse the program if the condition holds, which it knows when it is one on
/// a [`aya_ebpf::Global`]; else it never looks here. So tests meet a kernel that refuses a stage.
#[inline(always)]
pub(super) fn refuse_if(condition: bool) {
    if condition {
        let nothing = core::ptr::without_provenance::<u64>(8);
        // SAFETY: never runs, as the verifier refuses a load from what is no pointer.
        let _ = unsafe { nothing.read_volatile() };
    }
}

/// A word of a map, through which values go that the verifier shall forget.
///
/// It follows what is known of registers and stack, not of maps: after the detour all ways that
/// lead here look the same to it, and it goes on with one of them.
#[derive(Clone, Copy)]
pub(super) struct Detour(pub(super) *mut u64);

impl Detour {
    /// The same value, of which nothing is known afterwards.
    #[inline(always)]
    pub(super) fn forget(self, value: u64) -> u64 {
        // SAFETY: a live word of this CPU's counters, used by no one else while we run. Volatile,
        // so that the detour is made.
        unsafe {
            self.0.write_volatile(value);
            self.0.read_volatile()
        }
    }

    /// The same value, of which nothing but `MASK` is known afterwards.
    #[inline(always)]
    pub(super) fn forget_but<const MASK: i32>(self, value: u32) -> u32 {
        mask::<MASK>(self.forget(u64::from(value))) as u32
    }

    /// The key of an address in a trie of networks. It is put together in the map as well: on the
    /// stack, which the verifier knows byte by byte, no two ways past it would look the same.
    #[inline(always)]
    pub(super) fn trie_key(self, address: [u64; 2]) -> &'static Key<[u8; 16]> {
        // SAFETY: the second to fourth of this CPU's eight words, used by no one else while we run:
        // the length in the upper half of the second, and behind it the address. A packed key has no
        // alignment to keep.
        unsafe {
            let length = self.0.cast::<u32>().add(3);
            length.write_volatile(128);
            self.0.add(2).write_volatile(address[0]);
            self.0.add(3).write_volatile(address[1]);
            &*length.cast::<Key<[u8; 16]>>()
        }
    }
}
