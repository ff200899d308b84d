//! TCP reassembly, as far as the decoders of [`super::STREAM_PROTOCOLS`] need it: the first bytes
//! of each direction until a protocol claims it, then until that protocol has seen enough.
//!
//! Segments may come twice, overlapping and out of order; what came first counts. Where bytes are
//! missing for good (the capture cut them, the receiver has acknowledged them, or they did not
//! come for long) the message they belong to is told as far as it goes, and the direction is
//! watched anew: a protocol finds its place again at the start of a later segment. Everything is
//! bounded, and what a bound cost is counted in [`StreamLosses`].

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::packet::{Endpoint, Packet, Tcp, tcp_flag};
use super::{Decoded, STREAM_PROTOCOLS};
use crate::flow::FlowKey;
use crate::limits::{
    STREAM_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX, STREAM_PENDING_BYTES_MAX,
    STREAM_PENDING_SEGMENTS_MAX, STREAM_WAIT_NS, STREAM_WATCH_BYTES, STREAMS_MAX,
};

/// The bytes of one direction that are in order and not yet taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamView<'a> {
    pub(crate) src: Endpoint,
    pub(crate) dst: Endpoint,
    pub(crate) bytes: &'a [u8],
    /// Whether they are the first that were seen of this direction, or of a protocol that another
    /// one has handed over to.
    pub(crate) first: bool,
    /// Messages taken from this direction so far.
    pub(crate) messages: u32,
    /// Messages told of these bytes already, at an earlier look: of what was not taken since.
    pub(crate) told: u32,
}

/// A protocol's answer to the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Not ours, at least not here.
    No,
    /// Too few bytes to tell.
    Unsure,
    /// Ours from here on.
    Yes,
    /// Known to hold nothing for anybody from here on.
    Over,
}

/// What a protocol did with the bytes it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is done with this many bytes. They may be more than were shown: those still to come are
    /// passed over.
    Took(usize),
    /// It is done with this many bytes, and what follows belongs to a protocol of its own.
    Hand(usize),
    /// It needs more of them.
    Wait,
    /// It wants no more of this direction.
    Leave,
}

/// A decoder of messages inside TCP.
pub(crate) trait StreamProtocol: Sync {
    /// Says whether the bytes from the start of a segment are the protocol's.
    fn claims(&self, view: &StreamView<'_>) -> Claim;

    /// Takes a message from the front of the bytes.
    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step;

    /// Tells what can be read of a message whose rest is missing for good.
    fn cut(&self, _view: &StreamView<'_>, _out: &mut dyn FnMut(Decoded)) {}
}

/// What reassembly could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamLosses {
    /// Conversations forgotten to make room for others, finished ones included.
    pub forgotten: u64,
    /// Places where a segment never came while others waited for it, or was cut.
    pub gaps: u64,
    /// Messages of which a gap took a part.
    pub cut: u64,
    /// Directions in which a protocol found its place again behind a gap.
    pub found_again: u64,
    /// Messages given up because they were longer than allowed.
    pub overlong: u64,
}

/// TCP conversations under reassembly.
///
/// Two generations bound the memory: when the young one is full, it becomes the old one, and what
/// nobody asked for since the last time is forgotten.
#[derive(Debug)]
pub(crate) struct Streams {
    young: Generation,
    old: Generation,
    conversations_max: usize,
    losses: StreamLosses,
}

impl Default for Streams {
    fn default() -> Self {
        Self::of(STREAMS_MAX)
    }
}

#[derive(Debug, Default)]
struct Generation {
    conversations: HashMap<FlowKey, Conversation, RandomState>,
    held_bytes: usize,
    /// Segments that came too early.
    waiting: usize,
}

#[derive(Debug, Default)]
struct Conversation {
    halves: [Half; 2],
}

impl Conversation {
    fn held_bytes(&self) -> usize {
        self.halves.iter().map(Half::held_bytes).sum()
    }

    fn waiting(&self) -> usize {
        let held = self.halves.iter().filter_map(|half| half.held.as_ref());
        held.map(|held| held.pending.len()).sum()
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    state: State,
    /// Sequence number of the SYN, to tell a repeated one from a new connection.
    opened_at: Option<u32>,
    /// The next byte wanted.
    next: Option<u32>,
    /// In a box, since most directions hold nothing most of the time.
    held: Option<Box<Held>>,
    /// Bytes to come that nobody wants.
    pass_over: usize,
    /// Bytes that nobody claimed.
    watched_bytes: u32,
    /// Something was let go since this direction, or the protocol within it, began.
    underway: bool,
    /// The protocol that a gap interrupted.
    lost_by: Option<u8>,
    messages: u32,
    /// Messages told of bytes that are still in the buffer.
    told: u32,
}

/// Bytes of a direction that wait for others.
#[derive(Debug, Default)]
struct Held {
    /// In order, not yet taken.
    buffer: Vec<u8>,
    /// Came too early.
    pending: Vec<Segment>,
    /// When the first of them came.
    waits_since_ns: u64,
}

impl Held {
    fn bytes(&self) -> usize {
        let pending = self.pending.iter().map(|segment| segment.bytes.len());
        self.buffer.capacity() + pending.sum::<usize>()
    }

    fn keep(&mut self, sequence: u32, bytes: &[u8], missing: u32) {
        let known = self
            .pending
            .iter()
            .any(|segment| segment.sequence == sequence && segment.bytes.len() >= bytes.len());
        if !known {
            if self.pending.is_empty() {
                // Mostly it stays at one, and room for the usual four is 72 bytes more.
                self.pending.reserve_exact(1);
            }
            self.pending.push(Segment {
                sequence,
                missing,
                bytes: bytes.into(),
            });
        }
    }
}

#[derive(Debug)]
struct Segment {
    sequence: u32,
    /// Bytes cut off its end by the capture.
    missing: u32,
    bytes: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nobody's yet.
    #[default]
    Watched,
    /// The protocol with this place in the list.
    Owned(u8),
    /// Of no more interest.
    Over,
}

impl Streams {
    /// Holds at most so many conversations.
    pub(crate) fn of(conversations_max: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            conversations_max,
            losses: StreamLosses::default(),
        }
    }

    /// Conversations held, and how many at most.
    pub(crate) fn held(&self) -> (usize, usize) {
        let held = self.young.conversations.len() + self.old.conversations.len();
        (held, self.conversations_max)
    }

    pub(crate) const fn losses(&self) -> StreamLosses {
        self.losses
    }

    /// Bytes held, of both generations.
    #[cfg(test)]
    pub(super) const fn held_bytes(&self) -> usize {
        self.young.held_bytes + self.old.held_bytes
    }

    /// Adds a segment; messages that it completes go to `out`.
    pub(crate) fn segment(&mut self, packet: &Packet<'_>, tcp: Tcp, out: &mut dyn FnMut(Decoded)) {
        let syn = tcp.flags & tcp_flag::SYN != 0;
        let silent = packet.payload_bytes == 0 || tcp.flags & tcp_flag::RST != 0;
        // What only acknowledges matters where something is missing.
        if !syn && silent && self.young.waiting + self.old.waiting == 0 {
            return;
        }
        let (key, sender) = FlowKey::of(packet);
        let young_full = self.young.conversations.len() >= self.conversations_max / 2
            || self.young.held_bytes >= STREAM_BYTES_MAX / 2;
        if young_full {
            self.losses.forgotten += self.old.conversations.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        let known = |generation: &Generation| generation.conversations.contains_key(&key);
        if !syn && silent && !known(&self.young) && !known(old) {
            return;
        }
        let (mut moved_bytes, mut moved) = (0, 0);
        let conversation = self.young.conversations.entry(key).or_insert_with(|| {
            let conversation = old.conversations.remove(&key).unwrap_or_default();
            (moved_bytes, moved) = (conversation.held_bytes(), conversation.waiting());
            old.held_bytes -= moved_bytes;
            old.waiting -= moved;
            conversation
        });
        let held_before = conversation.held_bytes() - moved_bytes;
        let waiting_before = conversation.waiting() - moved;
        if syn {
            let opened_at = Some(tcp.sequence);
            if conversation.halves[sender.index()].opened_at != opened_at {
                if tcp.flags & tcp_flag::ACK == 0 {
                    // A new connection on old ports.
                    *conversation = Conversation::default();
                }
                conversation.halves[sender.index()] = Half {
                    opened_at,
                    next: Some(tcp.sequence.wrapping_add(1)),
                    ..Half::default()
                };
            }
        }
        let mut work = Work {
            ts_ns: packet.ts_ns,
            src: packet.src,
            dst: packet.dst,
            losses: &mut self.losses,
            out,
        };
        if tcp.flags & tcp_flag::ACK != 0 {
            let other = &mut conversation.halves[sender.other().index()];
            other.acknowledged(tcp.acknowledges, &mut work.back());
        }
        let half = &mut conversation.halves[sender.index()];
        if !silent && half.state != State::Over {
            let missing = packet
                .payload_bytes
                .saturating_sub(packet.payload.len() as u32);
            let sequence = tcp.sequence.wrapping_add(u32::from(syn));
            half.place(sequence, packet.payload, missing, &mut work);
        }
        self.young.held_bytes += conversation.held_bytes();
        self.young.held_bytes -= held_before;
        self.young.waiting += conversation.waiting();
        self.young.waiting -= waiting_before;
    }
}

/// What a half needs besides itself: who speaks to whom, and where to tell.
struct Work<'w> {
    ts_ns: u64,
    src: Endpoint,
    dst: Endpoint,
    losses: &'w mut StreamLosses,
    out: &'w mut dyn FnMut(Decoded),
}

impl Work<'_> {
    /// The same for the other direction.
    fn back(&mut self) -> Work<'_> {
        Work {
            ts_ns: self.ts_ns,
            src: self.dst,
            dst: self.src,
            losses: self.losses,
            out: self.out,
        }
    }
}

impl Half {
    fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes())
    }

    /// Puts a segment in its place and feeds what is in order.
    fn place(&mut self, sequence: u32, bytes: &[u8], missing: u32, work: &mut Work<'_>) {
        let next = *self.next.get_or_insert(sequence);
        if distance(next, sequence) > 0 {
            let held = self.held.get_or_insert_default();
            if held.pending.is_empty() {
                held.waits_since_ns = work.ts_ns;
            }
            held.keep(sequence, bytes, missing);
            let overdue = work.ts_ns.saturating_sub(held.waits_since_ns) > STREAM_WAIT_NS;
            if overdue
                || held.pending.len() > STREAM_PENDING_SEGMENTS_MAX
                || held.bytes() > STREAM_PENDING_BYTES_MAX
            {
                self.jump(work);
            }
        } else {
            self.accept(sequence, bytes, missing, work);
        }
        self.catch_up(work);
    }

    /// The other side has everything before `number`: what we still wait for there, we missed.
    fn acknowledged(&mut self, number: u32, work: &mut Work<'_>) {
        let Some(next) = self.next else { return };
        let waits = self
            .held
            .as_ref()
            .is_some_and(|held| !held.pending.is_empty());
        if waits && distance(next, number) > 0 {
            self.jump(work);
            self.catch_up(work);
        }
    }

    /// Gives up what is missing, and goes on with the earliest segment that came.
    fn jump(&mut self, work: &mut Work<'_>) {
        let (Some(next), Some(held)) = (self.next, &mut self.held) else {
            return;
        };
        let waiting = held.pending.iter().map(|segment| segment.sequence);
        let Some(earliest) = waiting.min_by_key(|sequence| distance(next, *sequence)) else {
            return;
        };
        let missing = distance(next, earliest).max(0) as usize;
        self.next = Some(earliest);
        held.waits_since_ns = work.ts_ns;
        self.miss(missing, work);
    }

    /// Takes the segments whose turn has come.
    fn catch_up(&mut self, work: &mut Work<'_>) {
        while let Some(segment) = self.due() {
            self.accept(segment.sequence, &segment.bytes, segment.missing, work);
        }
        let held = self.held.as_ref();
        let nothing = held.is_none_or(|held| held.buffer.is_empty() && held.pending.is_empty());
        if nothing || self.state == State::Over {
            self.held = None;
        }
    }

    /// Takes out a pending segment whose turn has come.
    fn due(&mut self) -> Option<Segment> {
        let (next, held) = (self.next?, self.held.as_mut()?);
        let at = held
            .pending
            .iter()
            .position(|segment| distance(next, segment.sequence) <= 0)?;
        Some(held.pending.swap_remove(at))
    }

    /// Takes the part of a segment that is new.
    fn accept(&mut self, sequence: u32, bytes: &[u8], missing: u32, work: &mut Work<'_>) {
        let Some(next) = self.next else { return };
        let end = sequence
            .wrapping_add(bytes.len() as u32)
            .wrapping_add(missing);
        if distance(next, end) <= 0 {
            return;
        }
        self.next = Some(end);
        let seen_already = distance(sequence, next).max(0) as usize;
        self.feed(bytes.get(seen_already..).unwrap_or_default(), work);
        if missing > 0 {
            self.miss(missing as usize, work);
        }
    }

    /// So many bytes are missing here for good.
    fn miss(&mut self, missing: usize, work: &mut Work<'_>) {
        if self.pass_over >= missing {
            // Nobody wanted them.
            self.pass_over -= missing;
            return;
        }
        self.pass_over = 0;
        work.losses.gaps += 1;
        let left = self.take_buffer();
        if let State::Owned(at) = self.state {
            if let Some(protocol) = STREAM_PROTOCOLS
                .get(usize::from(at))
                .filter(|_| !left.is_empty())
            {
                work.losses.cut += 1;
                protocol.cut(&self.view(work, &left), work.out);
            }
            self.told = 0;
            self.state = State::Watched;
            self.lost_by = Some(at);
        }
        self.underway = true;
    }

    const fn view<'b>(&self, work: &Work<'_>, bytes: &'b [u8]) -> StreamView<'b> {
        StreamView {
            src: work.src,
            dst: work.dst,
            bytes,
            first: !self.underway,
            messages: self.messages,
            told: self.told,
        }
    }

    /// Shows new bytes, and those left over, to the protocols.
    fn feed(&mut self, bytes: &[u8], work: &mut Work<'_>) {
        let passed_over = self.pass_over.min(bytes.len());
        self.pass_over -= passed_over;
        let bytes = bytes.get(passed_over..).unwrap_or_default();
        if bytes.is_empty() || self.state == State::Over {
            return;
        }
        let mut buffer = self.take_buffer();
        let whole = if buffer.is_empty() {
            bytes
        } else {
            buffer.extend_from_slice(bytes);
            &buffer
        };
        let left = self.advance(whole, work);
        // What is left is the tail of what was shown.
        if left > 0 {
            if buffer.is_empty() {
                buffer.extend_from_slice(bytes.get(bytes.len() - left..).unwrap_or_default());
            } else {
                buffer.drain(..buffer.len() - left);
            }
            self.held.get_or_insert_default().buffer = buffer;
        }
    }

    /// Takes out what is in order and not yet taken.
    fn take_buffer(&mut self) -> Vec<u8> {
        let held = self.held.as_mut();
        held.map(|held| std::mem::take(&mut held.buffer))
            .unwrap_or_default()
    }

    /// Returns how many bytes at the end have to be kept.
    fn advance(&mut self, mut bytes: &[u8], work: &mut Work<'_>) -> usize {
        while !bytes.is_empty() {
            let step = match self.state {
                State::Over => return 0,
                State::Watched => match self.watch(bytes, work) {
                    Some(left) => return left,
                    None => continue,
                },
                State::Owned(at) => {
                    let Some(protocol) = STREAM_PROTOCOLS.get(usize::from(at)) else {
                        return 0;
                    };
                    let mut told = 0;
                    let step = protocol.advance(&self.view(work, bytes), &mut |message| {
                        told += 1;
                        (work.out)(message);
                    });
                    self.messages = self.messages.saturating_add(told);
                    self.told = self.told.saturating_add(told);
                    step
                }
            };
            if !matches!(step, Step::Wait | Step::Took(0)) {
                self.told = 0;
            }
            match step {
                Step::Took(count) if count > 0 => {
                    self.pass_over = count.saturating_sub(bytes.len());
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.underway = true;
                }
                Step::Hand(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.state = State::Watched;
                    self.underway = false;
                }
                Step::Took(_) | Step::Wait => {
                    if bytes.len() < STREAM_MESSAGE_BYTES_MAX {
                        return bytes.len();
                    }
                    work.losses.overlong += 1;
                    self.state = State::Over;
                }
                Step::Leave => self.state = State::Over,
            }
        }
        0
    }

    /// Asks whose the bytes are. Returns how many to keep for the next time, or `None` once they
    /// have an owner.
    fn watch(&mut self, bytes: &[u8], work: &mut Work<'_>) -> Option<usize> {
        let view = self.view(work, bytes);
        let mut unsure = false;
        for (at, protocol) in (0..).zip(STREAM_PROTOCOLS) {
            match protocol.claims(&view) {
                Claim::No => {}
                // Who has the bytes must not depend on where they were cut.
                Claim::Unsure => {
                    unsure = true;
                    break;
                }
                Claim::Yes => {
                    self.state = State::Owned(at);
                    work.losses.found_again += u64::from(self.lost_by.take() == Some(at));
                    return None;
                }
                Claim::Over => {
                    self.state = State::Over;
                    return Some(0);
                }
            }
        }
        if unsure && bytes.len() < STREAM_MESSAGE_BYTES_MAX {
            return Some(bytes.len());
        }
        self.underway = true;
        self.watched_bytes = self.watched_bytes.saturating_add(bytes.len() as u32);
        if self.watched_bytes >= STREAM_WATCH_BYTES {
            self.state = State::Over;
        }
        Some(0)
    }
}

/// How far `to` is ahead of `from` in sequence space (RFC 9293 3.4); negative behind it.
const fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}
