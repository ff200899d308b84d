//! Checkpoints: what had been told of a process's counters by the end of a window, in a file each.
//!
//! Words of 8 bytes, little endian:
//!
//! ```text
//! magic, start of the last scan (ns, monotonic), next port of the canary,
//! 32 counters: packets, bytes
//! for each occupancy of a slot: place, generation, packets out, bytes out, packets in, bytes in,
//!                               flags out | flags in << 8 | opener << 16
//! ```
//!
//! The file's name is the number of the process's pins, a number that counts up, and the end of the
//! window, which is what the state file says once the window is in the spool. So the next process
//! knows which of them holds, whenever its predecessor was killed. They belong to a folder that is
//! emptied with the kernel's memory, at a reboot; nothing is synced.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use picket_abi::REASONS;

use super::ledger::{Ledger, Reported, Sum};

/// `PKTOLD` and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"PKTOLD\0\x01");

/// Words of an occupancy.
const WORDS: usize = 7;

/// Occupancies read at most: those of the largest table and ring we make.
const OCCUPANCIES_MAX: usize = 1 << 24;

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
    pub(super) counted: Vec<Sum>,
    /// Occupancies: place and what was reported.
    pub(super) reported: Vec<(usize, Reported)>,
}

/// The checkpoints of this process, and those of earlier ones.
#[derive(Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
    number: u32,
    /// Of this process, oldest first.
    ours: Vec<Name>,
    next: u64,
}

/// The name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    number: u32,
    ordinal: u64,
    end_ns: u64,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let mut parts = path.file_name()?.to_str()?.splitn(3, '-');
        Some(Self {
            number: parts.next()?.parse().ok()?,
            ordinal: parts.next()?.parse().ok()?,
            end_ns: parts.next()?.parse().ok()?,
        })
    }

    fn path(self, folder: &Path) -> PathBuf {
        let Self {
            number,
            ordinal,
            end_ns,
        } = self;
        folder.join(format!("{number}-{ordinal}-{end_ns}"))
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
    /// Those in `folder`, of the process whose pins have this number.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(folder: &Path, number: u32) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            number,
            ours: Vec::new(),
            next: 0,
        })
    }

    /// Writes down that everything counted up to now is in windows that end by `end_ns`.
    ///
    /// # Errors
    /// The file cannot be written; those before hold.
    pub(super) fn write(
        &mut self,
        end_ns: u64,
        port: u16,
        counted: &[Sum],
        ledger: &Ledger,
    ) -> io::Result<()> {
        let name = Name {
            number: self.number,
            ordinal: self.next,
            end_ns,
        };
        let young = self.folder.join("new");
        let mut file = BufWriter::new(File::create(&young)?);
        let mut put = |words: &[u64]| -> io::Result<()> {
            words
                .iter()
                .try_for_each(|word| file.write_all(&word.to_le_bytes()))
        };
        put(&[MAGIC, ledger.scanned_ns(), u64::from(port)])?;
        for sum in counted {
            put(&[sum.packets, sum.bytes])?;
        }
        for (place, reported) in ledger.reported() {
            put(&words(place, reported))?;
        }
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

    /// What an earlier process had told when the last window in the spool ended at `kept_ns`; `None`
    /// if nothing is known.
    pub(super) fn of(&self, number: u32, kept_ns: u64) -> Option<(Known, Checkpoint)> {
        let mut names = self.names();
        names.sort_unstable();
        let holds = |name: &&Name| name.end_ns == kept_ns;
        // Whoever has told a window of its own had told its predecessor's rest with it.
        let later = names.iter().filter(|name| name.number > number);
        if later.filter(holds).any(|name| name.ordinal > 0) {
            return Some((Known::All, Checkpoint::default()));
        }
        let its = || names.iter().filter(|name| name.number == number);
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

fn read(path: &Path) -> io::Result<Checkpoint> {
    const HEADER_BYTES: u64 = (3 + 2 * REASONS as u64) * 8;
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let file = File::open(path)?;
    let rest = file.metadata()?.len().checked_sub(HEADER_BYTES);
    if !rest.is_some_and(|bytes| bytes.is_multiple_of(8 * WORDS as u64)) {
        return Err(bad("it ends within an entry"));
    }
    let mut file = BufReader::new(file);
    let [magic, scanned_ns, port] = take(&mut file)?.ok_or_else(|| bad("no header"))?;
    if magic != MAGIC {
        return Err(bad("another format"));
    }
    let mut counted = Vec::with_capacity(REASONS);
    for _ in 0..REASONS {
        let [packets, bytes] = take(&mut file)?.ok_or_else(|| bad("no counters"))?;
        counted.push(Sum { packets, bytes });
    }
    let mut reported = Vec::new();
    while let Some(words) = take::<WORDS>(&mut file)? {
        if reported.len() >= OCCUPANCIES_MAX {
            return Err(bad("more occupancies than there can be"));
        }
        let [
            place,
            generation,
            packets_out,
            bytes_out,
            packets_in,
            bytes_in,
            flags,
        ] = words;
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
        reported.push((place, one));
    }
    Ok(Checkpoint {
        scanned_ns,
        port: (port & 0xffff) as u16,
        counted,
        reported,
    })
}

/// The next words; `None` at the end of the file.
fn take<const N: usize>(file: &mut impl Read) -> io::Result<Option<[u64; N]>> {
    let mut words = [0; N];
    for (at, word) in words.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        match file.read_exact(&mut bytes) {
            Ok(()) => *word = u64::from_le_bytes(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && at == 0 => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(words))
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

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut counted = vec![Sum::default(); REASONS];
        counted[3].add(5, 600);
        let mut ours = Checkpoints::open(folder.path(), 4).unwrap();
        // Two occupancies of one slot: the record of the first still waits in the ring.
        let all = [
            (7, reported(4, 9)),
            (999, reported(2, 1)),
            (7, reported(2, 8)),
        ];
        ours.write(10, 40_000, &counted, &ledger(&all)).unwrap();
        let next = Checkpoints::open(folder.path(), 5).unwrap();
        let (known, checkpoint) = next.of(4, 10).unwrap();
        assert_eq!(known, Known::Exactly);
        assert_eq!((checkpoint.scanned_ns, checkpoint.port), (77, 40_000));
        assert_eq!(checkpoint.counted, counted);
        assert_eq!(checkpoint.reported, all);
    }

    #[test]
    fn the_window_in_the_spool_says_which_one_holds() {
        let folder = tempfile::tempdir().unwrap();
        let counted = vec![Sum::default(); REASONS];
        let mut ours = Checkpoints::open(folder.path(), 0).unwrap();
        for end_ns in [0, 10, 20, 30] {
            let all = [(1, reported(2, end_ns))];
            ours.write(end_ns, 1, &counted, &ledger(&all)).unwrap();
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
        assert!(!ours.kept(0), "nothing of ours yet");
        assert!(!ours.kept(15), "not one of them");
        assert!(ours.kept(20));
        assert_eq!(told(0, 10), Some((Known::AtMost, Some(30))), "gone");
        assert_eq!(told(0, 20), Some((Known::Exactly, Some(20))));
        // One that holds stays, however many wait.
        for end_ns in [40, 50, 60, 70] {
            let all = [(1, reported(2, end_ns))];
            ours.write(end_ns, 1, &counted, &ledger(&all)).unwrap();
        }
        assert_eq!(told(0, 20), Some((Known::Exactly, Some(20))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT_MAX);
        // Its successor has told a window: nothing of it is left to tell.
        let mut next = Checkpoints::open(folder.path(), 1).unwrap();
        next.write(20, 1, &counted, &ledger(&[])).unwrap();
        assert_eq!(told(0, 20), Some((Known::Exactly, Some(20))));
        next.write(80, 1, &counted, &ledger(&[])).unwrap();
        assert_eq!(told(0, 80), Some((Known::All, None)));
        assert_eq!(told(1, 80), Some((Known::Exactly, None)));
        next.forget_before();
        assert_eq!(told(0, 20), None);
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let counted = vec![Sum::default(); REASONS];
        let mut ours = Checkpoints::open(folder.path(), 0).unwrap();
        let all = [(1, reported(2, 3)), (2, reported(2, 3))];
        ours.write(10, 1, &counted, &ledger(&all)).unwrap();
        let path = ours.ours[0].path(folder.path());
        let good = fs::read(&path).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            let rest = len.checked_sub((3 + 2 * REASONS) * 8);
            let whole = rest.is_some_and(|bytes| bytes.is_multiple_of(8 * WORDS));
            assert_eq!(read(&path).is_ok(), whole, "{len}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            fs::write(&path, &bad).unwrap();
            assert_eq!(read(&path).is_ok(), at >= 8, "{at}");
        }
        fs::write(folder.path().join("0-x-y"), "").unwrap();
        assert_eq!(ours.names().len(), 1);
    }
}
