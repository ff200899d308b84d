//! Arithmetic the compiler must not see through.
//!
//! LLVM proves a range and drops the mask or the comparison that shows it; the verifier, which
//! reasons less, then refuses the access. An instruction it does not understand stays put. (An
//! empty one would not do: it leaves duplicate line info, which the kernel refuses.)

use core::arch::asm;

/// `value & MASK`, kept as an instruction of its own.
#[inline(always)]
pub(super) fn mask<const MASK: i32>(mut value: u64) -> u64 {
    // SAFETY: one register, no memory, no stack.
    unsafe {
        asm!("{0} &= {1}", inout(reg) value, const MASK, options(nomem, nostack));
    }
    value
}
