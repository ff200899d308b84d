//! The kernel object in the words of an older kernel.
//!
//! Linux 5.10 (Amazon Linux 2, Debian 11) has all that the programs are built on but three things, and
//! refuses a program for any of them even where it would never be reached. So the object is rewritten in
//! older words before it is loaded, for whatever the kernel turns out to lack when asked:
//!
//! - the coarse clock (5.11) becomes the fine one: the same clock, some nanoseconds dearer;
//! - the atomic exchange (5.12), used for a full barrier and never for what was there before, becomes
//!   a store. On x86-64 stores are seen in the order in which they were made, which is all that the
//!   barrier is for. Elsewhere nothing of that age does it, and the kernel's refusal stands;
//! - compare and exchange, by which `mirror_in` takes a place in the table of tunnels, becomes what it
//!   answers when somebody else was first. So a mirror sees the tunnels that are listed, which have
//!   their places already, and one that lists none is refused ([`CaptureError::OpenMirror`]).

use std::borrow::Cow;
use std::ops::Range;

use ::object::{Object as _, ObjectSection as _, SectionKind};

use super::CaptureError;
use super::probe::{Kind, load_program};

/// Bytes of an instruction (`struct bpf_insn`).
const INSTRUCTION: usize = 8;

/// `BPF_LD | BPF_IMM | BPF_DW`, which takes the place of two instructions.
const LOAD_WIDE: u8 = 0x18;

/// `BPF_STX | BPF_ATOMIC | BPF_DW` and, as its immediate value, `BPF_XCHG` or `BPF_CMPXCHG`, which
/// compares with r0 and leaves there what it found.
const ATOMIC: u8 = 0xdb;
const EXCHANGE: u32 = 0xe1;
const COMPARE_AND_EXCHANGE: u32 = 0xf1;

/// `r0 = -1`: no tunnel of ours, so somebody else's.
const TAKEN: [u8; INSTRUCTION] = [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// `BPF_STX | BPF_MEM | BPF_DW`.
const STORE: u8 = 0x7b;

/// `BPF_JMP | BPF_CALL`; the helper's number is its immediate value.
const CALL: u8 = 0x85;

/// `bpf_ktime_get_coarse_ns` and `bpf_ktime_get_ns`.
const COARSE_CLOCK: u32 = 160;
const CLOCK: u32 = 5;

/// What a kernel does not know of what the programs are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lacks {
    /// Atomic exchange, compared first or not, where a store will do instead.
    pub(super) exchange: bool,
    /// The coarse clock.
    pub(super) coarse_clock: bool,
}

impl Lacks {
    /// Asks the kernel. What it refuses for another reason than that it does not know it (`EINVAL`), it
    /// does not lack: loading will say why. So too with one that refuses every program.
    pub(super) fn of_kernel() -> Self {
        /// `r0 = -1` and `exit`: all goes on.
        const END: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
        let knows = |first: &[u64]| {
            let program = [first, &END].concat();
            let refused = load_program(Kind::Classifier, &program).err();
            refused.and_then(|error| error.raw_os_error()) != Some(libc::EINVAL)
        };
        if !knows(&[]) {
            return Self::default();
        }
        Self {
            // r1 = 0; *(u64 *)(r10 - 8) = r1; r1 = exchange(r10 - 8, r1)
            exchange: cfg!(target_arch = "x86_64")
                && !knows(&[0x01b7, 0xfff8_1a7b, 0x00e1_fff8_1adb]),
            coarse_clock: !knows(&[u64::from(COARSE_CLOCK) << 32 | u64::from(CALL)]),
        }
    }
}

/// The object as a kernel that lacks this can be given it. Where it lacks nothing, the object itself.
///
/// # Errors
///
/// [`CaptureError::Object`] when the object's sections cannot be read.
pub(super) fn worded(object: &[u8], lacks: Lacks) -> Result<Cow<'_, [u8]>, CaptureError> {
    if lacks == Lacks::default() {
        return Ok(Cow::Borrowed(object));
    }
    let mut worded = object.to_vec();
    for place in programs(object)? {
        let text = worded
            .get_mut(place)
            .ok_or(CaptureError::Object("a section ends behind it"))?;
        reword(text, lacks);
    }
    Ok(Cow::Owned(worded))
}

/// Where in the object its programs stand.
fn programs(object: &[u8]) -> Result<Vec<Range<usize>>, CaptureError> {
    let file =
        ::object::File::parse(object).map_err(|_| CaptureError::Object("it is no object file"))?;
    let text = file
        .sections()
        .filter(|one| one.kind() == SectionKind::Text);
    text.filter_map(|section| section.file_range())
        .map(|(at, bytes)| {
            let start = usize::try_from(at).ok()?;
            Some(start..start.checked_add(usize::try_from(bytes).ok()?)?)
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(CaptureError::Object("a section ends behind it"))
}

/// Rewrites what is lacked in one section of programs.
fn reword(text: &mut [u8], lacks: Lacks) {
    let mut is_second_half = false;
    for instruction in text.chunks_exact_mut(INSTRUCTION) {
        if std::mem::take(&mut is_second_half) {
            continue;
        }
        let Ok([code, registers, _, _, value @ ..]) = <[u8; INSTRUCTION]>::try_from(&*instruction)
        else {
            continue;
        };
        match (code, u32::from_le_bytes(value)) {
            (LOAD_WIDE, _) => is_second_half = true,
            (ATOMIC, EXCHANGE) if lacks.exchange => {
                instruction[0] = STORE;
                instruction[4..].fill(0);
            }
            (ATOMIC, COMPARE_AND_EXCHANGE) if lacks.exchange => {
                instruction.copy_from_slice(&TAKEN);
            }
            // A source register would make it a call of something else than a helper.
            (CALL, COARSE_CLOCK) if lacks.coarse_clock && registers >> 4 == 0 => {
                instruction[4..].copy_from_slice(&CLOCK.to_le_bytes());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::ebpf::object::OBJECT;

    const EVERYTHING: Lacks = Lacks {
        exchange: true,
        coarse_clock: true,
    };

    /// How often a code with this immediate value stands in the object's programs.
    fn count(object: &[u8], code: u8, number: u32) -> usize {
        let text = programs(object).unwrap().into_iter();
        text.flat_map(|place| object[place].chunks_exact(INSTRUCTION))
            .filter(|one| one[0] == code && one[4..] == number.to_le_bytes())
            .count()
    }

    #[test]
    fn what_is_lacked_is_said_in_older_words_and_nothing_else_changes() {
        let exchanges =
            count(OBJECT, ATOMIC, EXCHANGE) + count(OBJECT, ATOMIC, COMPARE_AND_EXCHANGE);
        let clocks = count(OBJECT, CALL, COARSE_CLOCK);
        assert!(exchanges > 0 && clocks > 0, "{exchanges} {clocks}");
        let older = worded(OBJECT, EVERYTHING).unwrap();
        assert_eq!(count(&older, ATOMIC, EXCHANGE), 0);
        assert_eq!(count(&older, ATOMIC, COMPARE_AND_EXCHANGE), 0);
        assert_eq!(count(&older, CALL, COARSE_CLOCK), 0);
        let fine = count(OBJECT, CALL, CLOCK);
        assert_eq!(count(&older, CALL, CLOCK), fine + clocks);
        let pairs = OBJECT.chunks(INSTRUCTION).zip(older.chunks(INSTRUCTION));
        let changed = pairs.filter(|(before, after)| before != after).count();
        assert!(changed <= exchanges + clocks, "{changed}");
    }

    #[test]
    fn a_kernel_that_lacks_nothing_is_given_the_object_itself() {
        let same = worded(OBJECT, Lacks::default()).unwrap();
        assert!(matches!(same, Cow::Borrowed(_)));
        assert!(worded(b"no object", EVERYTHING).is_err());
    }

    #[test]
    fn the_halves_of_a_wide_load_are_left_alone() {
        // The second half of a wide load has no code; one that looks like a call is still data.
        let wide = [0x18, 1, 0, 0, 7, 0, 0, 0];
        let call = [CALL, 0, 0, 0, 160, 0, 0, 0];
        let mut text = [wide, call, call].concat();
        reword(&mut text, EVERYTHING);
        assert_eq!(text, [wide, call, [CALL, 0, 0, 0, 5, 0, 0, 0]].concat());
        // A call of a function of ours, by its place.
        let mut ours = [CALL, 0x10, 0, 0, 160, 0, 0, 0];
        reword(&mut ours, EVERYTHING);
        assert_eq!(ours[4], 160);
    }
}
