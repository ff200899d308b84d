//! Top: who talks most, what is asked for, and what was hit, over the last windows. The watching
//! thread shows each summary to a [`Board`]; whoever asks gets a [`Top`].

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

use picket_sense::decode::Protocol;
use picket_wire::{Conversation, Process, Question, Summary};
use serde::{Deserialize, Serialize};

/// Windows that are looked back on: a minute of ten seconds each.
const WINDOWS_KEPT: usize = 6;

/// Talkers and names kept of each window, and told. More than a screen shows. Chosen by hand.
const ENTRIES_MAX: usize = 100;

/// Hits kept, the youngest.
const HITS_MAX: usize = 50;

/// Characters kept of a name that a stranger chose.
const NAME_CHARS_MAX: usize = 128;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Top {
    /// The time looked back on, nanoseconds since the epoch; both 0 before the first window ends.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// By bytes both ways, most first.
    pub talkers: Vec<Talker>,
    /// By questions, most first.
    pub names: Vec<Name>,
    /// Youngest first.
    pub hits: Vec<Hit>,
}

/// A conversation, or several with the same ends, whatever the client's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talker {
    /// Who opened it.
    pub client: IpAddr,
    /// To whom.
    pub server: IpAddr,
    /// The server's port.
    pub port: u16,
    /// Name of the protocol.
    pub proto: String,
    /// The server's name, from TLS or the answer that led to it.
    pub name: Option<String>,
    /// Name of the process behind it.
    pub process: Option<String>,
    /// Flows in it; one that goes on counts in each window.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// Bytes from the client.
    pub bytes_out: u64,
    /// Bytes from the server.
    pub bytes_in: u64,
}

/// A name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The name.
    pub name: String,
    /// Questions for it.
    pub asked: u64,
    /// Answers that there is no such name.
    pub nxdomain: u64,
    /// Who asked first in the window.
    pub client: IpAddr,
    /// Name of the process that asked.
    pub process: Option<String>,
}

/// A hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// When the packet passed, nanoseconds since the epoch.
    pub time_ns: u64,
    /// What is listed.
    pub indicator: String,
    /// As what.
    pub category: String,
    /// Sender of the packet.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// Name of the process behind it.
    pub process: Option<String>,
}

/// What a window had most of.
#[derive(Debug)]
struct Kept {
    from_ns: u64,
    to_ns: u64,
    talkers: Vec<Talker>,
    names: Vec<Name>,
}

/// What the last windows had most of.
#[derive(Debug, Default)]
pub struct Board {
    windows: VecDeque<Kept>,
    hits: VecDeque<Hit>,
}

impl Board {
    /// Takes a summary that is on its way.
    pub fn take(&mut self, summary: &Summary) {
        for hit in &summary.hits {
            self.hits.push_front(Hit {
                time_ns: hit.time_ns,
                indicator: cut(&hit.indicator),
                category: hit.category.clone(),
                src: hit.src,
                dst: hit.dst,
                port: hit.dst_port,
                process: process(hit.process.as_ref()),
            });
        }
        self.hits.truncate(HITS_MAX);
        if summary.immediate {
            return;
        }
        self.keep(Kept {
            from_ns: summary.window.start_ns,
            to_ns: summary.window.end_ns,
            talkers: heaviest(&summary.conversations, same_ends, bytes, Talker::of),
            names: heaviest(
                &summary.questions,
                |one, other| one.name.cmp(&other.name),
                |one| one.asked.into(),
                Name::of,
            ),
        });
    }

    fn keep(&mut self, window: Kept) {
        self.windows.push_back(window);
        if self.windows.len() > WINDOWS_KEPT {
            self.windows.pop_front();
        }
    }

    /// What there is most of in all windows kept.
    #[must_use]
    pub fn top(&self) -> Top {
        let windows = || self.windows.iter();
        Top {
            from_ns: windows().map(|one| one.from_ns).min().unwrap_or(0),
            to_ns: windows().map(|one| one.to_ns).max().unwrap_or(0),
            talkers: most(merged(windows().flat_map(|one| &one.talkers).cloned())),
            names: most(merged(windows().flat_map(|one| &one.names).cloned())),
            hits: self.hits.iter().cloned().collect(),
        }
    }
}

impl Talker {
    fn of(one: &Conversation) -> Self {
        let name = one.tls_name.as_ref().or(one.dns_name.as_ref());
        Self {
            client: one.client,
            server: one.server,
            port: one.server_port,
            proto: Protocol(one.protocol).to_string(),
            name: name.map(|name| cut(name)),
            process: process(one.process.as_deref()),
            flows: one.flows.into(),
            packets: one.packets_out.saturating_add(one.packets_in),
            bytes_out: one.bytes_out,
            bytes_in: one.bytes_in,
        }
    }
}

impl Name {
    fn of(one: &Question) -> Self {
        Self {
            name: cut(&one.name),
            asked: one.asked.into(),
            nxdomain: one.nxdomain.into(),
            client: one.client,
            process: process(one.process.as_deref()),
        }
    }
}

fn same_ends(one: &Conversation, other: &Conversation) -> Ordering {
    let ends = |one: &Conversation| (one.client, one.server, one.server_port, one.protocol);
    ends(one).cmp(&ends(other))
}

const fn bytes(one: &Conversation) -> u64 {
    one.bytes_out.saturating_add(one.bytes_in)
}

/// What of a summary weighs most, what is alike added up, and as much of it as is kept. The summary
/// is as large as the memory we may take, so of the rest nothing is copied.
fn heaviest<T, R: Ranked>(
    all: &[T],
    alike: impl Fn(&T, &T) -> Ordering,
    weight: impl Fn(&T) -> u64,
    of: impl Fn(&T) -> R,
) -> Vec<R> {
    let mut all: Vec<&T> = all.iter().collect();
    all.sort_by(|one, other| alike(one, other));
    let groups = all.chunk_by(|one, other| alike(one, other).is_eq());
    let mut groups: Vec<(Reverse<u64>, &[&T])> = groups
        .map(|group| {
            let weights = group.iter().map(|one| weight(one));
            (Reverse(weights.fold(0, u64::saturating_add)), group)
        })
        .collect();
    groups.sort_by_key(|(weight, _)| *weight);
    groups.truncate(ENTRIES_MAX);
    let told = groups.into_iter().filter_map(|(_, group)| {
        let mut told = group.iter().map(|one| of(one));
        let first = told.next()?;
        Some(told.fold(first, |mut sum, one| {
            sum.add(one);
            sum
        }))
    });
    // Not in the place of the groups, which was large.
    let mut kept = Vec::with_capacity(ENTRIES_MAX);
    kept.extend(told);
    kept
}

/// Something of which there may be more or less.
trait Ranked {
    type Key: Hash + Eq;
    fn key(&self) -> Self::Key;
    fn add(&mut self, other: Self);
    /// The more, the earlier; then what keeps equals in one order.
    fn rank(&self) -> (Reverse<u64>, String);
}

impl Ranked for Talker {
    type Key = (IpAddr, IpAddr, u16, String);

    fn key(&self) -> Self::Key {
        (self.client, self.server, self.port, self.proto.clone())
    }

    fn add(&mut self, other: Self) {
        self.name = self.name.take().or(other.name);
        self.process = self.process.take().or(other.process);
        self.flows = self.flows.saturating_add(other.flows);
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
    }

    fn rank(&self) -> (Reverse<u64>, String) {
        let bytes = self.bytes_out.saturating_add(self.bytes_in);
        (Reverse(bytes), format!("{:?}", self.key()))
    }
}

impl Ranked for Name {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn add(&mut self, other: Self) {
        self.asked = self.asked.saturating_add(other.asked);
        self.nxdomain = self.nxdomain.saturating_add(other.nxdomain);
        self.process = self.process.take().or(other.process);
    }

    fn rank(&self) -> (Reverse<u64>, String) {
        (Reverse(self.asked), self.name.clone())
    }
}

/// Adds up what has the same key.
fn merged<T: Ranked>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut sums: HashMap<T::Key, T> = HashMap::new();
    for one in all {
        match sums.get_mut(&one.key()) {
            Some(sum) => sum.add(one),
            None => drop(sums.insert(one.key(), one)),
        }
    }
    sums.into_values().collect()
}

fn most<T: Ranked>(mut all: Vec<T>) -> Vec<T> {
    all.sort_by_cached_key(Ranked::rank);
    all.truncate(ENTRIES_MAX);
    all
}

fn process(process: Option<&Process>) -> Option<String> {
    process.map(|one| cut(&one.name))
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talker(port: u16, bytes: u64) -> Talker {
        Talker {
            client: [10, 0, 0, 1].into(),
            server: [192, 0, 2, 1].into(),
            port,
            proto: "tcp".to_owned(),
            name: None,
            process: None,
            flows: 1,
            packets: 2,
            bytes_out: bytes,
            bytes_in: 1,
        }
    }

    #[test]
    fn the_same_talkers_add_up_and_the_most_come_first() {
        let all = [talker(80, 10), talker(443, 15), talker(80, 10)];
        let top = most(merged(all.into_iter()));
        let told: Vec<_> = top
            .iter()
            .map(|one| (one.port, one.bytes_out, one.flows))
            .collect();
        assert_eq!(told, [(80, 20, 2), (443, 15, 1)]);
        let many = (0..1_000).map(|port| talker(port, port.into()));
        let top = most(merged(many));
        assert_eq!((top.len(), top[0].port), (ENTRIES_MAX, 999));
    }

    #[test]
    fn what_weighs_most_in_a_summary_is_kept_and_no_more() {
        let mut all: Vec<Talker> = (0..5_000)
            .map(|port| talker(port, 4_000 - u64::from(port / 2)))
            .collect();
        all.push(talker(7, 9_000));
        let kept = heaviest(
            &all,
            |one, other| one.port.cmp(&other.port),
            |one| one.bytes_out,
            Talker::clone,
        );
        let told = |at: usize| (kept[at].port, kept[at].bytes_out, kept[at].flows);
        assert_eq!(
            [told(0), told(1), told(2)],
            [(7, 12_997, 2), (0, 4_000, 1), (1, 4_000, 1)]
        );
        assert_eq!((kept.len(), kept.capacity()), (ENTRIES_MAX, ENTRIES_MAX));
    }

    #[test]
    fn old_windows_are_forgotten() {
        let mut board = Board::default();
        assert_eq!(board.top(), Top::default());
        for at in 0..20 {
            board.keep(Kept {
                from_ns: at,
                to_ns: at + 1,
                talkers: vec![talker(80, 1)],
                names: Vec::new(),
            });
        }
        let top = board.top();
        assert_eq!((top.from_ns, top.to_ns), (14, 20));
        assert_eq!(top.talkers[0].flows, WINDOWS_KEPT as u64);
    }
}
