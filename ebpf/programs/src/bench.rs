//! Entry points that `make bench` measures ours against, and that make packets differ. They are in
//! the object of the benches alone (feature `bench`), never in what the agent embeds.
//!
//! A test run repeats one packet. [`vary`] gives it another peer each time, [`vary_name`] another
//! question, and then jumps to the program under test; [`same`] jumps only, so that the jump can be told from what it leads to.
//! The `probe_…` programs draw addresses from a table that is too large for the caches, and do
//! with each what their name says; what they found is counted, so that the bench can see that
//! they did it.

use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, ProgramArray};
use aya_ebpf::programs::TcContext;
use picket_programs::kernel;

/// `TCX_NEXT`, as ours return.
const NEXT: i32 = -1;

/// Addresses to probe: a power of two.
const PROBES_MAX: u32 = 1 << 20;

/// What a `probe_…` program looks up, one after the other.
#[map]
static PROBES: Array<u32> = Array::with_max_entries(PROBES_MAX, 0);

/// Runs so far, addresses found, and after how many runs [`step`] begins again (0: never).
#[map]
static STEPS: Array<[u64; 3]> = Array::with_max_entries(1, 0);

/// Addresses as a trie holds them: what one would use without tables of one's own.
#[map]
static TRIE: LpmTrie<u32, u8> = LpmTrie::with_max_entries(1_100_000, 1);

/// Where [`vary`] and [`same`] jump to.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Does nothing: the price of being called.
#[classifier]
pub fn noop(_: TcContext) -> i32 {
    NEXT
}

/// Jumps to the program under test.
#[classifier]
pub fn same(context: TcContext) -> i32 {
    jump(&context)
}

/// Gives the packet (Ethernet, IPv4) another destination, then jumps to the program under test.
#[classifier]
pub fn vary(context: TcContext) -> i32 {
    /// Of the destination address.
    const AT: usize = 14 + 16;
    let step = step();
    let (data, end) = (context.data(), context.data_end());
    if data + AT + 4 <= end {
        // Odd, so that 2^32 steps give as many addresses; from the golden ratio.
        let address = (step as u32).wrapping_mul(0x9e37_79b9);
        let halves = (data + AT) as *mut u16;
        // SAFETY: the line above checked that four bytes are there; their place is even.
        unsafe {
            halves.write(address as u16);
            halves.add(1).write((address >> 16) as u16);
        }
    }
    jump(&context)
}

/// Gives the packet (Ethernet, IPv4, UDP, DNS), which asks for a name whose first three labels have
/// seven letters each, other letters in these, then jumps to the program under test. (The last label
/// stays: there are not so many of them that one would be met for the first time.)
#[classifier]
pub fn vary_name(context: TcContext) -> i32 {
    /// Of the name.
    const AT: usize = 14 + 20 + 8 + 12;
    const LABELS: usize = 3;
    let mut mixed = step();
    let (data, end) = (context.data(), context.data_end());
    if data + AT + LABELS * 8 <= end {
        let words = (data + AT) as *mut u64;
        let mut label = 0;
        while label < LABELS {
            // SplitMix64's increment and first multiplier.
            mixed = mixed
                .wrapping_add(0x9e37_79b9_7f4a_7c15)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^= mixed >> 31;
            let letters = (mixed & 0x0f0f_0f0f_0f0f_0f0f) + 0x6161_6161_6161_6161;
            // SAFETY: the condition above checked that four words are there; the target has no
            // alignment to keep.
            unsafe { words.add(label).write_volatile(letters << 8 | 7) };
            label += 1;
        }
    }
    jump(&context)
}

/// Draws an address and looks it up nowhere.
#[classifier]
pub fn probe_nothing(_: TcContext) -> i32 {
    // None is 0, which the compiler cannot know.
    probe(|address| address == 0)
}

/// Draws an address and looks it up in our tables.
#[classifier]
pub fn probe_tables(_: TcContext) -> i32 {
    probe(|address| kernel::is_listed(address))
}

/// Draws an address and looks it up in the trie.
#[classifier]
pub fn probe_trie(_: TcContext) -> i32 {
    probe(|address| TRIE.get(&Key::new(32, address.to_be())).is_some())
}

/// The number of this run.
#[inline(always)]
fn step() -> u64 {
    let Some(steps) = STEPS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live element of the array; only one thread runs benches.
    unsafe {
        let step = (*steps)[0] + 1;
        (*steps)[0] = if step == (*steps)[2] { 0 } else { step };
        step
    }
}

#[inline(always)]
fn jump(context: &TcContext) -> i32 {
    // SAFETY: `TARGET` holds a program of this type; a jump that fails goes on below.
    unsafe { TARGET.tail_call(context, 0) };
    0
}

#[inline(always)]
fn probe(finds: impl Fn(u32) -> bool) -> i32 {
    let Some(steps) = STEPS.get_ptr_mut(0) else {
        return NEXT;
    };
    // SAFETY: as in `vary`.
    let step = unsafe {
        (*steps)[0] += 1;
        (*steps)[0]
    };
    let Some(address) = PROBES.get(step as u32 & (PROBES_MAX - 1)) else {
        return NEXT;
    };
    let found = u64::from(finds(*address));
    // SAFETY: as above.
    unsafe { (*steps)[1] += found };
    NEXT
}
