//! Spool: envelopes that wait on disk until the collector has them.
//!
//! One file an envelope ([`files`]), numbered by an ordinal that counts up over restarts. It is
//! durable before the envelope is offered for shipping: after a crash or a power cut what was offered
//! is there. That costs two syncs an envelope, on a thread that does not capture.
//!
//! The spool is bounded in bytes and age. When it is full the oldest go, windows before hits, and
//! are counted; the collector sees the hole in the chain besides. When the disk takes nothing, up
//! to [`HELD_BYTES_MAX`] wait in memory instead.

mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use files::{Files, on_disk};
use picket_wire::{AgentId, BootId, Header, Sealed, Summary};
use serde::{Deserialize, Serialize};

use crate::command::BadConfig;
use crate::config::bad;
use crate::identity::Envelope;

/// Bytes of envelopes held in memory while the disk takes nothing.
pub const HELD_BYTES_MAX: u64 = 4 << 20;

/// Fewest bytes a spool may be told to take.
const BYTES_MAX_LEAST: u64 = 1 << 20;

/// Bounds of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Hours an envelope is kept.
    pub age_max_h: u64,
}

impl Default for SpoolConfig {
    /// 256 MiB: two days of a busy host at 15 KiB a window. A week: what is older helps no one.
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            age_max_h: 7 * 24,
        }
    }
}

impl SpoolConfig {
    /// Says which bound is out of bounds.
    ///
    /// # Errors
    /// The key.
    pub fn check(&self) -> Result<(), BadConfig> {
        if self.bytes_max < BYTES_MAX_LEAST {
            return Err(bad("spool.bytes_max", "at least 1048576"));
        }
        if self.age_max_h == 0 || self.age_max_h > 24 * 366 {
            return Err(bad("spool.age_max_h", "an hour to a year"));
        }
        Ok(())
    }
}

/// What an envelope carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Hits: shipped first, dropped last.
    Hit,
    /// A window.
    Window,
}

/// Where an envelope waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    kind: Kind,
    ordinal: u64,
}

/// An envelope that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub place: Place,
    /// Whose it says it is: ours, or that of a key that this host had before.
    pub agent: AgentId,
    /// Since when it waits.
    pub since: SystemTime,
    /// The envelope.
    pub envelope: Envelope,
}

/// What the spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Depth {
    /// Envelopes.
    pub envelopes: u64,
    /// Those with hits.
    pub hits: u64,
    /// Bytes of all.
    pub bytes: u64,
}

/// What did not reach the collector, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// To make room.
    pub full: u64,
    /// Too old.
    pub old: u64,
    /// Not an envelope any more: the disk has changed it.
    pub damaged: u64,
    /// Neither disk nor memory took it.
    pub unwritten: u64,
}

/// How many envelopes wait in a folder that nobody has open.
///
/// # Errors
/// It cannot be read.
pub fn count(folder: &Path) -> io::Result<u64> {
    files::count(folder)
}

struct Entry {
    bytes: u64,
    since: SystemTime,
    /// The envelope itself, when the disk did not take it.
    held: Option<Vec<u8>>,
}

/// The spool of one agent. Whoever opens it owns its folder.
pub struct Spool {
    files: Files,
    config: SpoolConfig,
    /// Hits before windows, each oldest first: the order of shipping.
    entries: BTreeMap<Place, Entry>,
    /// Those refused for now: they must not stand in the way of the rest.
    aside: BTreeSet<Place>,
    bytes: u64,
    held_bytes: u64,
    next: u64,
    dropped: Dropped,
}

/// Why an envelope cannot be read from the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// It is gone, or no envelope any more: lost for good.
    Damaged,
    /// The disk or the system refuses for now.
    NotNow,
}

impl Spool {
    /// Opens the spool in `folder`, making it if there is none. What an earlier run left is there;
    /// what it left half-written is removed.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, config: SpoolConfig) -> anyhow::Result<Self> {
        let (files, left) = Files::open(folder)?;
        let mut spool = Self {
            files,
            config,
            entries: BTreeMap::new(),
            aside: BTreeSet::new(),
            bytes: 0,
            held_bytes: 0,
            next: 0,
            dropped: Dropped::default(),
        };
        for file in left {
            spool.next = spool.next.max(file.place.ordinal.saturating_add(1));
            spool.bytes += file.bytes;
            let entry = Entry {
                bytes: file.bytes,
                since: file.since,
                held: None,
            };
            spool.entries.insert(file.place, entry);
        }
        spool.make_room();
        Ok(spool)
    }

    /// Keeps an envelope until it is removed; it is durable when this returns `Ok`.
    ///
    /// # Errors
    /// The disk did not take it. It then waits in memory, if there is room.
    pub fn push(&mut self, envelope: &Envelope, kind: Kind, now: SystemTime) -> io::Result<()> {
        let place = Place {
            kind,
            ordinal: self.next,
        };
        self.next += 1;
        self.drop_old(now);
        let written = self.files.write(place, &envelope.bytes);
        let size = envelope.bytes.len() as u64;
        let (bytes, held) = match &written {
            Ok(()) => (on_disk(size), None),
            Err(_) if self.held_bytes + size <= HELD_BYTES_MAX => {
                self.held_bytes += size;
                (0, Some(envelope.bytes.clone()))
            }
            Err(_) => {
                self.dropped.unwritten += 1;
                return written;
            }
        };
        self.bytes += bytes;
        let entry = Entry {
            bytes,
            since: now,
            held,
        };
        self.entries.insert(place, entry);
        self.make_room();
        written
    }

    /// What to ship next: hits before windows, each oldest first, all of one run, as the answer
    /// names envelopes by their number in it. Those set aside come again once nothing else waits.
    /// What the disk has damaged is dropped and counted.
    pub fn batch(&mut self, envelopes_max: usize, bytes_max: usize) -> Vec<Waiting> {
        if self.aside.len() >= self.entries.len() {
            self.aside.clear();
        }
        let mut batch: Vec<Waiting> = Vec::new();
        let (mut run, mut bytes) = (None, 0);
        let (mut damaged, mut not_now) = (Vec::new(), Vec::new());
        let in_turn = self.entries.iter();
        for (place, entry) in in_turn.filter(|(place, _)| !self.aside.contains(place)) {
            if batch.len() >= envelopes_max || bytes >= bytes_max {
                break;
            }
            let (claims, envelope) = match self.read(*place, entry) {
                Ok(read) => read,
                Err(Unread::Damaged) => {
                    damaged.push(*place);
                    continue;
                }
                Err(Unread::NotNow) => {
                    not_now.push(*place);
                    continue;
                }
            };
            if *run.get_or_insert(claims.boot) != claims.boot {
                break;
            }
            bytes += envelope.bytes.len();
            batch.push(Waiting {
                place: *place,
                agent: claims.agent,
                since: entry.since,
                envelope,
            });
        }
        self.dropped.damaged += damaged.len() as u64;
        damaged.into_iter().for_each(|place| self.remove(place));
        self.aside.extend(not_now);
        batch
    }

    fn read(&self, place: Place, entry: &Entry) -> Result<(Header, Envelope), Unread> {
        let bytes = match &entry.held {
            Some(bytes) => bytes.clone(),
            None => self.files.read(place).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Unread::Damaged,
                _ => Unread::NotNow,
            })?,
        };
        let claims = *Sealed::parse(&bytes).map_err(|_| Unread::Damaged)?.claims();
        let sequence = claims.sequence;
        Ok((claims, Envelope { sequence, bytes }))
    }

    /// End of the newest window that waits, as its summary says it: nanoseconds since the epoch, with
    /// the run it is of.
    pub fn newest_window(&self) -> Option<(BootId, u64)> {
        let (claims, summary) = self.newest()?;
        Some((claims.boot, summary.window.end_ns))
    }

    /// The instance that the newest window is of, as its summary says it, with the agent that signed.
    pub fn newest_instance(&self) -> Option<(AgentId, String)> {
        let (claims, summary) = self.newest()?;
        Some((claims.agent, summary.host.instance))
    }

    fn newest(&self) -> Option<(Header, Summary)> {
        let (place, entry) = self.of_kind(Kind::Window).next_back()?;
        let (claims, envelope) = self.read(place, entry).ok()?;
        let summary = Sealed::parse(&envelope.bytes).ok()?;
        let summary = summary.verify_as_claimed().ok()?.open().ok()?;
        Some((claims, summary))
    }

    /// Drops everything that waits; says how many that were.
    pub fn clear(&mut self) -> u64 {
        let places: Vec<Place> = self.entries.keys().copied().collect();
        places.iter().for_each(|place| self.remove(*place));
        places.len() as u64
    }

    /// Lets the others go first: the collector does not take this envelope now but may later.
    pub fn set_aside(&mut self, place: Place) {
        if self.entries.contains_key(&place) {
            self.aside.insert(place);
        }
    }

    /// Lets an envelope go: the collector has it, or will never take it.
    pub fn remove(&mut self, place: Place) {
        self.aside.remove(&place);
        let Some(entry) = self.entries.remove(&place) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        match entry.held {
            Some(bytes) => {
                self.held_bytes = self.held_bytes.saturating_sub(bytes.len() as u64);
            }
            None => self.files.remove(place),
        }
    }

    fn drop_old(&mut self, now: SystemTime) {
        let age_max = Duration::from_secs(self.config.age_max_h * 3600);
        let mut old = Vec::new();
        for (place, entry) in &mut self.entries {
            match now.duration_since(entry.since) {
                Ok(age) if age > age_max => old.push(*place),
                Ok(_) => {}
                // Written when the clock was ahead: at least as old as this moment. It is dated anew
                // on disk as well, so that it does not become young again with the next start.
                Err(_) => {
                    entry.since = now;
                    if entry.held.is_none() {
                        self.files.date(*place, now);
                    }
                }
            }
        }
        self.dropped.old += old.len() as u64;
        old.into_iter().for_each(|place| self.remove(place));
    }

    /// Envelopes of a kind, oldest first.
    fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = (Place, &Entry)> {
        let first = Place { kind, ordinal: 0 };
        let last = Place {
            kind,
            ordinal: u64::MAX,
        };
        self.entries
            .range(first..=last)
            .map(|(place, entry)| (*place, entry))
    }

    fn make_room(&mut self) {
        while self.bytes > self.config.bytes_max {
            let on_disk = |kind| self.of_kind(kind).find(|(_, entry)| entry.held.is_none());
            let oldest = on_disk(Kind::Window).or_else(|| on_disk(Kind::Hit));
            let Some((place, _)) = oldest else { return };
            self.dropped.full += 1;
            self.remove(place);
        }
    }

    /// What waits.
    pub fn depth(&self) -> Depth {
        Depth {
            envelopes: self.entries.len() as u64,
            hits: self.of_kind(Kind::Hit).count() as u64,
            bytes: self.bytes + self.held_bytes,
        }
    }

    /// What was dropped since the start.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}
