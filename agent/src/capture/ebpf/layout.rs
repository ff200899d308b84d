//! Where things are in the running kernel's structures, read from its type information (BTF,
//! Documentation/bpf/btf.rst; `struct btf_header` and `btf_type` of include/uapi/linux/btf.h).
//!
//! ```text
//! header: magic u16, version u8, flags u8, header length u32, then offset and length (u32 each)
//!         of the types and of the strings, both counted from the header's end
//! type:   name u32, info u32 (count in bits 0-15, kind in 24-28, flag in 31), size u32, and what
//!         its kind adds; a member of a structure: name u32, type u32, offset u32
//! ```
//!
//! A kernel without it runs the programs all the same; they then know less of a process.

use std::fs;

/// Where the kernel tells its types.
pub(super) const PLACE: &str = "/sys/kernel/btf/vmlinux";

/// Bytes of type information read at most: some 6 MiB are usual.
const BYTES_MAX: u64 = 64 << 20;

/// Structures inside structures that are followed.
const DEPTH_MAX: u32 = 4;

/// Kinds of a type.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
    pub(super) const LAST: u32 = 19;
}

/// Offsets in bytes of what the programs read, each with the name of the number that tells them;
/// 0 where it was not found.
pub(super) type Offsets = [(&'static str, u32); 6];

/// What is read: the programs' name for it, the structure and the member. The start of a task had
/// another name before Linux 5.5.
const WANTED: [(&str, &str, &str); 6] = [
    ("TASK_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_START", "task_struct", "start_boottime"),
    ("TASK_COMM", "task_struct", "comm"),
    ("BINPRM_FILENAME", "linux_binprm", "filename"),
];

/// The offsets of the running kernel.
///
/// # Errors
/// Why they are not known, or not all.
pub(super) fn of_kernel() -> (Offsets, Result<(), String>) {
    let none = WANTED.map(|(number, ..)| (number, 0));
    match fs::metadata(PLACE) {
        Err(error) => return (none, Err(format!("{PLACE}: {error}"))),
        Ok(metadata) if metadata.len() > BYTES_MAX => {
            return (none, Err(format!("{PLACE} is larger than 64 MiB")));
        }
        Ok(_) => {}
    }
    let offsets = match fs::read(PLACE) {
        Err(error) => return (none, Err(format!("{PLACE}: {error}"))),
        Ok(bytes) => offsets(&bytes),
    };
    let missing: Vec<&str> = WANTED
        .iter()
        .zip(&offsets)
        .filter(|(_, (_, at))| *at == 0)
        .map(|((_, _, member), _)| *member)
        .collect();
    if missing.is_empty() {
        (offsets, Ok(()))
    } else {
        (
            offsets,
            Err(format!("{PLACE} does not tell {}", missing.join(", "))),
        )
    }
}

fn offsets(bytes: &[u8]) -> Offsets {
    let types = Types::read(bytes).unwrap_or_default();
    WANTED.map(|(number, structure, member)| {
        let found = types
            .structure(structure)
            .and_then(|at| types.member(at, member, DEPTH_MAX));
        (number, found.unwrap_or(0))
    })
}

/// Type information, and where each type begins.
#[derive(Default)]
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// By the number of the type, less one.
    places: Vec<u32>,
}

impl<'a> Types<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        const MAGIC: u32 = 0xeb9f;
        if word(bytes, 0)? & 0xffff != MAGIC {
            return None;
        }
        let header_bytes = word(bytes, 4)? as usize;
        let part = |at: usize| -> Option<&'a [u8]> {
            let (from, len) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            bytes.get(header_bytes..)?.get(from..)?.get(..len)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut places = Vec::new();
        let mut at = 0;
        while at < types.len() {
            let (kind, count, _) = info(types, at)?;
            places.push(u32::try_from(at).ok()?);
            at += 12 + added_bytes(kind, count)?;
        }
        Some(Self {
            types,
            strings,
            places,
        })
    }

    /// Where the structure of a name begins.
    fn structure(&self, name: &str) -> Option<usize> {
        self.places.iter().map(|at| *at as usize).find(|at| {
            info(self.types, *at).is_some_and(|(kind, ..)| kind == kind::STRUCT)
                && word(self.types, *at).is_some_and(|place| self.is_named(place, name))
        })
    }

    /// Bytes from a structure's beginning to its member, looked for in nameless parts as well.
    fn member(&self, structure: usize, name: &str, depth: u32) -> Option<u32> {
        let (kind, count, flagged) = info(self.types, structure)?;
        if !matches!(kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..count as usize).find_map(|nth| {
            let at = structure + 12 + nth * 12;
            let own_name = word(self.types, at)?;
            let bits = word(self.types, at + 8)?;
            // With the flag, the width of a bit field stands above.
            let bytes = if flagged { bits & 0xff_ffff } else { bits } / 8;
            if self.is_named(own_name, name) {
                return Some(bytes);
            }
            let nameless = own_name == 0 && depth > 0;
            let inner = nameless.then(|| word(self.types, at + 4)).flatten()?;
            let place = self.places.get((inner as usize).checked_sub(1)?)?;
            let inside = self.member(*place as usize, name, depth - 1)?;
            bytes.checked_add(inside)
        })
    }

    fn is_named(&self, place: u32, name: &str) -> bool {
        self.strings
            .get(place as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Kind, count and flag of the type at a place.
fn info(types: &[u8], at: usize) -> Option<(u32, u32, bool)> {
    let info = word(types, at + 4)?;
    Some((info >> 24 & 0x1f, info & 0xffff, info >> 31 == 1))
}

/// Bytes that follow the twelve of every type.
fn added_bytes(kind: u32, count: u32) -> Option<usize> {
    let count = count as usize;
    Some(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 12,
        kind::ENUM | kind::FUNC_PROTO => count * 8,
        1..=kind::LAST => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    picket_abi::read(bytes.get(at..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type information: an int, a nameless structure with `tgid` behind 4 bytes, and
    /// `task_struct`, which has `comm` at 8 and the nameless one at 16.
    fn example() -> Vec<u8> {
        let strings = b"\0task_struct\0comm\0tgid\0pad\0";
        let (task, comm, tgid, pad) = (1, 13, 18, 23);
        let structure = |count: u32| kind::STRUCT << 24 | count;
        let types: Vec<u32> = [
            vec![pad, kind::INT << 24, 4, 0],
            [vec![0, structure(2), 8], vec![pad, 1, 0, tgid, 1, 4 * 8]].concat(),
            [
                vec![task, structure(2), 24],
                vec![comm, 1, 8 * 8, 0, 2, 16 * 8],
            ]
            .concat(),
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header = [
            0x0001_eb9f,
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ];
        let header = header.iter().flat_map(|word: &u32| word.to_ne_bytes());
        header.chain(types).chain(*strings).collect()
    }

    fn at(offsets: &Offsets, number: &str) -> u32 {
        offsets.iter().find(|(name, _)| *name == number).unwrap().1
    }

    #[test]
    fn members_are_found_also_in_nameless_parts() {
        let offsets = offsets(&example());
        assert_eq!(at(&offsets, "TASK_COMM"), 8);
        assert_eq!(at(&offsets, "TASK_TGID"), 20);
        assert_eq!(at(&offsets, "TASK_START"), 0, "not there");
    }

    #[test]
    fn damaged_information_is_survived() {
        let good = example();
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                offsets(&bad);
            }
            offsets(&good[..at]);
        }
    }

    #[test]
    fn the_running_kernel_tells_them_all() {
        if fs::metadata(PLACE).is_err() {
            println!("skipped, no {PLACE}");
            return;
        }
        let (offsets, outcome) = of_kernel();
        outcome.unwrap();
        let places: Vec<u32> = offsets.iter().map(|(_, at)| *at).collect();
        assert!(
            places.iter().all(|at| (1..65_536).contains(at)),
            "{places:?}"
        );
    }
}
