//! Checkpoints: what had been told of a process's counters by the end of a window, in a file each.
//!
//! Words of 8 bytes, little endian:
//!
//! ```text
//! magic, start of the last scan (ns, monotonic), next port of the canary | 1 << 16 if its process
//! went on without a gap, number of programs on interfaces
//! 32 counters: packets, bytes
//! for each program on an interface: index << 32 | id
//! for each occupancy of a slot: place, generation, packets out, bytes out, packets in, bytes in,
//!                               flags out | flags in << 8 | opener << 16
//! sum of the words before
//! ```
//!
//! The file's name is the id of the process's map of slots, which no other has until a reboot, a
//! number that counts up, and the end of the window, which is what the state file says once the window
//! is in the spool. So the next process knows which of them holds, whenever its predecessor was killed.
//! They belong to a folder that is emptied with the kernel's memory, at a reboot; nothing is synced.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use picket_abi::{Count, REASONS};

use super::ledger::{Ledger, Reported};

/// `PKTOLD` and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"PKTOLD\0\x01");

/// Words before the counters.
const HEADER: usize = 4;

/// Programs on interfaces at most: two on each of many more interfaces than a host has.
const PROGRAMS_MAX: u64 = 1 << 16;

/// Words of an occupancy.
const WORDS: usize = 7;

/// Occupancies read at most: those of the largest table and ring we make.
const OCCUPANCIES_MAX: u64 = 1 << 24;

/// Files kept at once: the one that is in the spool, and those on their way there.
const KEPT_MAX: usize = 4;

/// What had been told of a process's counters.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    /// Start of the last scan, nanoseconds of the monotonic clock.
    pub(super) scanned_ns: u64,
    /// Port of the canary that would have come next.
    pub(super) port: u16,
    /// Counters as they stood, of what was seen only what was accounted for.
    pub(super) counted: Vec<Count>,
    /// Whether its process had gone on from one before without a gap.
    pub(super) resumed: bool,
    /// Programs on interfaces: index and id.
    pub(super) programs: Vec<(u32, u32)>,
    /// Occupancies: place and what was reported.
    pub(super) reported: Vec<(usize, Reported)>,
}

/// What a process has told by now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    /// Port of the canary that comes next.
    pub(super) port: u16,
    /// Whether the process went on from one before without a gap.
    pub(super) resumed: bool,
    /// Counters, of what was seen only what was accounted for.
    pub(super) counted: &'a [Count],
    /// Programs on interfaces: index and id.
    pub(super) programs: &'a [(u32, u32)],
    /// What was reported of flows.
    pub(super) ledger: &'a Ledger,
}

/// The checkpoints of this process, and those of earlier ones.
#[derive(Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
    map: u32,
    /// Of this process, oldest first.
    ours: Vec<Name>,
    next: u64,
}

/// The name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// Id of the map of slots.
    map: u32,
    ordinal: u64,
    end_ns: u64,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let mut parts = path.file_name()?.to_str()?.splitn(3, '-');
        Some(Self {
            map: parts.next()?.parse().ok()?,
            ordinal: parts.next()?.parse().ok()?,
            end_ns: parts.next()?.parse().ok()?,
        })
    }

    fn path(self, folder: &Path) -> PathBuf {
        let Self {
            map,
            ordinal,
            end_ns,
        } = self;
        folder.join(format!("{map}-{ordinal}-{end_ns}"))
    }
}

/// What is known of what an earlier process told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Everything it counted.
    All,
    /// What a checkpoint says.
    Exactly,
    /// At most what a checkpoint says: windows that it covers were lost with the process.
    AtMost,
}

impl Checkpoints {
    /// Those in `folder`, of the process whose map of slots has this id.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(folder: &Path, map: u32) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            map,
            ours: Vec::new(),
            next: 0,
        })
    }

    /// Writes down that everything counted up to now is in windows that end by `end_ns`.
    ///
    /// # Errors
    /// The file cannot be written; those before hold.
    pub(super) fn write(&mut self, end_ns: u64, told: Told<'_>) -> io::Result<()> {
        let name = Name {
            map: self.map,
            ordinal: self.next,
            end_ns,
        };
        let young = self.folder.join("new");
        let mut file = BufWriter::new(File::create(&young)?);
        let mut checked = 0;
        let mut put = |words: &[u64]| -> io::Result<()> {
            words.iter().try_for_each(|word| {
                checked = mixed(checked, *word);
                file.write_all(&word.to_le_bytes())
            })
        };
        let port = u64::from(told.port) | u64::from(told.resumed) << 16;
        let scanned_ns = told.ledger.scanned_ns();
        put(&[MAGIC, scanned_ns, port, told.programs.len() as u64])?;
        for sum in told.counted {
            put(&[sum.packets, sum.bytes])?;
        }
        for (index, id) in told.programs {
            put(&[u64::from(*index) << 32 | u64::from(*id)])?;
        }
        for (place, reported) in told.ledger.reported() {
            put(&words(place, reported))?;
        }
        file.write_all(&checked.to_le_bytes())?;
        file.flush()?;
        fs::rename(&young, name.path(&self.folder))?;
        self.next += 1;
        self.ours.push(name);
        // The first may be the one that holds.
        if self.ours.len() > KEPT_MAX {
            self.remove(self.ours[1]);
            self.ours.remove(1);
        }
        Ok(())
    }

    /// Notes that the window up to `end_ns` is in the spool; says whether a window of this process
    /// is by now.
    pub(super) fn kept(&mut self, end_ns: u64) -> bool {
        let held = self.ours.iter().rposition(|name| name.end_ns == end_ns);
        if let Some(held) = held {
            for old in self.ours.drain(..held).collect::<Vec<_>>() {
                self.remove(old);
            }
        }
        held.is_some() && self.ours.first().is_some_and(|name| name.ordinal > 0)
    }

    /// What an earlier process, by the id of its map of slots, had told when the last window in the
    /// spool ended at `kept_ns`; `None` if that is not known.
    pub(super) fn of(&self, map: u32, kept_ns: u64) -> Option<(Known, Checkpoint)> {
        let mut names = self.names();
        names.sort_unstable();
        let holds = |name: &&Name| name.end_ns == kept_ns;
        // Whoever has told a window of its own had told its predecessor's rest with it.
        let mut later = names.iter().filter(|name| name.map > map).filter(holds);
        let its = || names.iter().filter(|name| name.map == map);
        // So has a run of another kind, whose windows this process knew nothing of.
        let newest = its().map(|name| name.end_ns).max()?;
        if newest < kept_ns || later.any(|name| name.ordinal > 0) {
            return Some((Known::All, Checkpoint::default()));
        }
        let (known, name) = match its().rfind(holds) {
            Some(name) => (Known::Exactly, name),
            None => (Known::AtMost, its().next_back()?),
        };
        let path = name.path(&self.folder);
        match read(&path) {
            Ok(checkpoint) => Some((known, checkpoint)),
            Err(error) => {
                tracing::warn!(checkpoint = %path.display(), %error, "checkpoint not read");
                None
            }
        }
    }

    /// Removes those of earlier processes.
    pub(super) fn forget_before(&self) {
        let names = self.names().into_iter();
        names
            .filter(|name| !self.ours.contains(name))
            .for_each(|name| self.remove(name));
    }

    /// Removes those of this process.
    pub(super) fn forget_ours(&self) {
        self.ours.iter().for_each(|name| self.remove(*name));
    }

    fn names(&self) -> Vec<Name> {
        let found = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        found.filter_map(|entry| Name::of(&entry.path())).collect()
    }

    fn remove(&self, name: Name) {
        if let Err(error) = fs::remove_file(name.path(&self.folder)) {
            tracing::warn!(?name, %error, "checkpoint not removed");
        }
    }
}

fn words(place: usize, reported: &Reported) -> [u64; WORDS] {
    let flags = u64::from(reported.flags_out)
        | u64::from(reported.flags_in) << 8
        | u64::from(reported.opener) << 16;
    [
        place as u64,
        reported.generation,
        reported.packets_out,
        reported.bytes_out,
        reported.packets_in,
        reported.bytes_in,
        flags,
    ]
}

/// A sum that shows damage, not design: whoever may write here may do worse.
const fn mixed(sum: u64, word: u64) -> u64 {
    /// 2^64 over the golden ratio, as in Fibonacci hashing (Knuth, volume 3, 6.4).
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    (sum.rotate_left(5) ^ word).wrapping_mul(ODD)
}

fn read(path: &Path) -> io::Result<Checkpoint> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let file = File::open(path)?;
    let words_all = file.metadata()?.len() / 8;
    let mut words = Words {
        file: BufReader::new(file),
        sum: 0,
    };
    let [magic, scanned_ns, port, programs_count] = words.take()?;
    if magic != MAGIC {
        return Err(bad("another format"));
    }
    // The counters, and the sum at the end.
    let rest = words_all.checked_sub((HEADER + 2 * REASONS + 1) as u64);
    let rest = rest.and_then(|rest| rest.checked_sub(programs_count));
    let rest = rest.filter(|rest| rest.is_multiple_of(WORDS as u64));
    let occupancies = rest.ok_or_else(|| bad("it ends within an entry"))? / WORDS as u64;
    if programs_count > PROGRAMS_MAX || occupancies > OCCUPANCIES_MAX {
        return Err(bad("more than there can be"));
    }
    let mut checkpoint = Checkpoint {
        scanned_ns,
        port: (port & 0xffff) as u16,
        resumed: port >> 16 & 1 != 0,
        ..Checkpoint::default()
    };
    for _ in 0..REASONS {
        let [packets, bytes] = words.take()?;
        checkpoint.counted.push(Count { packets, bytes });
    }
    for _ in 0..programs_count {
        let [program] = words.take()?;
        let pair = ((program >> 32) as u32, (program & 0xffff_ffff) as u32);
        checkpoint.programs.push(pair);
    }
    for _ in 0..occupancies {
        let [
            place,
            generation,
            packets_out,
            bytes_out,
            packets_in,
            bytes_in,
            flags,
        ] = words.take()?;
        let place = usize::try_from(place).map_err(|_| bad("a place beyond all tables"))?;
        let [flags_out, flags_in, opener, ..] = flags.to_le_bytes();
        let one = Reported {
            generation,
            packets_out,
            bytes_out,
            packets_in,
            bytes_in,
            flags_out,
            flags_in,
            opener,
        };
        checkpoint.reported.push((place, one));
    }
    let sum = words.sum;
    if words.take()? != [sum] {
        return Err(bad("its sum is wrong"));
    }
    Ok(checkpoint)
}

/// The words of a file, one after the other.
struct Words<R> {
    file: R,
    sum: u64,
}

impl<R: Read> Words<R> {
    fn take<const N: usize>(&mut self) -> io::Result<[u64; N]> {
        let mut words = [0; N];
        for word in &mut words {
            let mut bytes = [0; 8];
            self.file.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
            self.sum = mixed(self.sum, *word);
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mirror::Tunnels;
    use super::*;

    fn reported(generation: u64, packets_out: u64) -> Reported {
        Reported {
            generation,
            packets_out,
            flags_in: 2,
            opener: 1,
            ..Reported::default()
        }
    }

    fn ledger(all: &[(usize, Reported)]) -> Ledger {
        Ledger::resumed(1000, Tunnels::default(), 77, all.iter().copied())
    }

    fn write(checkpoints: &mut Checkpoints, end_ns: u64, all: &[(usize, Reported)]) {
        let mut counted = vec![Count::default(); REASONS];
        counted[3].add(5, 600);
        let told = Told {
            port: 40_000,
            resumed: true,
            counted: &counted,
            programs: &[(2, 33), (2, 34)],
            ledger: &ledger(all),
        };
        checkpoints.write(end_ns, told).unwrap();
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut ours = Checkpoints::open(folder.path(), 4).unwrap();
        // Two occupancies of one slot: the record of the first still waits in the ring.
        let all = [
            (7, reported(4, 9)),
            (999, reported(2, 1)),
            (7, reported(2, 8)),
        ];
        write(&mut ours, 10, &all);
        let next = Checkpoints::open(folder.path(), 5).unwrap();
        let (known, checkpoint) = next.of(4, 10).unwrap();
        assert_eq!(known, Known::Exactly);
        assert_eq!((checkpoint.scanned_ns, checkpoint.port), (77, 40_000));
        assert_eq!(checkpoint.counted.len(), REASONS);
        assert_eq!(
            (checkpoint.counted[3].packets, checkpoint.resumed),
            (5, true)
        );
        assert_eq!(checkpoint.programs, [(2, 33), (2, 34)]);
        assert_eq!(checkpoint.reported, all);
    }

    #[test]
    fn the_window_in_the_spool_says_which_one_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut ours = Checkpoints::open(folder.path(), 0).unwrap();
        for end_ns in [0, 10, 20, 30] {
            let all = [(1, reported(2, end_ns))];
            write(&mut ours, end_ns, &all);
        }
        let told = |number, kept_ns| {
            let next = Checkpoints::open(folder.path(), 9).unwrap();
            let (known, checkpoint) = next.of(number, kept_ns)?;
            let packets = checkpoint.reported.first().map(|(_, one)| one.packets_out);
            Some((known, packets))
        };
        assert_eq!(told(0, 10), Some((Known::Exactly, Some(10))));
        assert_eq!(told(0, 15), Some((Known::AtMost, Some(30))));
        assert_eq!(told(3, 10), None, "another process");
        assert_eq!(
            told(0, 31),
            Some((Known::All, None)),
            "others have told since"
        );
        assert!(!ours.kept(0), "nothing of ours yet");
        assert!(!ours.kept(15), "not one of them");
        assert!(ours.kept(20));
        assert_eq!(told(0, 10), Some((Known::AtMost, Some(30))), "gone");
        assert_eq!(told(0, 20), Some((Known::Exactly, Some(20))));
        // One that holds stays, however many wait.
        for end_ns in [40, 50, 60, 70] {
            let all = [(1, reported(2, end_ns))];
            write(&mut ours, end_ns, &all);
        }
        assert_eq!(told(0, 20), Some((Known::Exactly, Some(20))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT_MAX);
        // Its successor has told a window: nothing of it is left to tell.
        let mut next = Checkpoints::open(folder.path(), 1).unwrap();
        write(&mut next, 20, &[]);
        assert_eq!(told(0, 20), Some((Known::Exactly, Some(20))));
        write(&mut next, 80, &[]);
        assert_eq!(told(0, 80), Some((Known::All, None)));
        assert_eq!(told(1, 80), Some((Known::Exactly, None)));
        next.forget_before();
        assert_eq!(told(0, 20), None);
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut ours = Checkpoints::open(folder.path(), 0).unwrap();
        let all = [(1, reported(2, 3)), (2, reported(2, 3))];
        write(&mut ours, 10, &all);
        let path = ours.ours[0].path(folder.path());
        let good = fs::read(&path).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(read(&path).is_err(), "{len}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "{at}");
        }
        fs::write(folder.path().join("0-x-y"), "").unwrap();
        assert_eq!(ours.names().len(), 1);
    }
}
