//! An object whose end has not been seen yet: strings, brackets, and the names on its first level.

use super::Place;
use super::names::{Role, is_of_event};
use crate::logs::limits::EVENT_DEPTH_MAX;

/// Whether the bytes of an object are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// It may be an event.
    Object,
    /// It stands beside what is wanted.
    Nothing,
}

/// An object whose end has not been seen. Offsets within it count from its start.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) keep: Keep,
    /// Where its brace stands in the buffer.
    pub(super) start: usize,
    /// The same in the stream.
    pub(super) place: Place,
    depth: u32,
    /// One bit a level, the innermost lowest: set for an object, clear for a list.
    kinds: u128,
    /// Where the open string's text starts.
    string: Option<usize>,
    /// The byte before was a backslash within a string.
    escaped: bool,
    /// What comes next on the first level.
    next: Role,
    /// Where the value on the first level starts, after its colon.
    value: usize,
    /// It has a member of an event.
    pub(super) event: bool,
    pub(super) time: Option<(usize, usize)>,
    pub(super) fold: Option<(usize, usize)>,
}

/// Why a scan of an object stopped.
pub(super) enum Scan {
    /// Behind its last brace.
    End,
    /// At the bracket of a member that wraps events.
    Wrapper,
    /// The bytes ran out.
    More,
    TooDeep,
    Mismatch,
    Control,
    Misplaced,
}

impl Object {
    pub(super) fn new(start: usize, place: Place, keep: Keep) -> Self {
        Self {
            keep,
            start,
            place,
            depth: 0,
            kinds: 0,
            string: None,
            escaped: false,
            next: Role::Name,
            value: 0,
            event: false,
            time: None,
            fold: None,
        }
    }

    /// Goes on from `at` to the end of the object or of `buffer`.
    pub(super) fn scan(&mut self, buffer: &[u8], at: &mut usize, line: &mut u64) -> Scan {
        loop {
            if let Some(from) = self.string {
                if self.escaped {
                    if *at >= buffer.len() {
                        return Scan::More;
                    }
                    self.escaped = false;
                    *at += 1;
                }
                *at += plain_length(&buffer[*at..]);
                match buffer.get(*at) {
                    None => return Scan::More,
                    Some(b'"') => {
                        self.string = None;
                        if self.depth == 1 && self.keep == Keep::Object {
                            self.string_ended(buffer, from, *at - self.start);
                        }
                        *at += 1;
                    }
                    Some(b'\\') => {
                        self.escaped = true;
                        *at += 1;
                    }
                    Some(_) => return Scan::Control,
                }
                continue;
            }
            let Some(&byte) = buffer.get(*at) else {
                return Scan::More;
            };
            match byte {
                b'"' => {
                    if !self.may_begin(buffer, *at) {
                        return Scan::Misplaced;
                    }
                    self.string = Some(*at + 1 - self.start);
                }
                b'\n' => *line += 1,
                b'{' | b'[' => {
                    if self.depth == 1 && self.next == Role::Wrapper && !self.event {
                        return Scan::Wrapper;
                    }
                    if self.depth == EVENT_DEPTH_MAX {
                        return Scan::TooDeep;
                    }
                    if self.depth > 0 && !self.may_begin(buffer, *at) {
                        return Scan::Misplaced;
                    }
                    self.depth += 1;
                    self.kinds = self.kinds << 1 | u128::from(byte == b'{');
                }
                b'}' | b']' => {
                    if self.kinds & 1 != u128::from(byte == b'}') {
                        return Scan::Mismatch;
                    }
                    if self.depth == 1 {
                        self.value_ended(*at - self.start);
                    }
                    self.depth -= 1;
                    self.kinds >>= 1;
                    if self.depth == 0 {
                        *at += 1;
                        return Scan::End;
                    }
                }
                b',' if self.depth == 1 => {
                    self.value_ended(*at - self.start);
                    self.next = Role::Name;
                }
                b':' if self.depth == 1 => self.value = *at + 1 - self.start,
                _ => {}
            }
            *at += 1;
        }
    }

    /// Says whether a string or bracket may stand at `at`, going by what is shown before it. Catches
    /// a lost quote or comma where it stands, before the next event is taken for a part of this one.
    fn may_begin(&self, buffer: &[u8], at: usize) -> bool {
        // The bytes of what is not kept may be gone.
        self.keep == Keep::Nothing
            || buffer[self.start..at]
                .iter()
                .rfind(|byte| !byte.is_ascii_whitespace())
                .is_some_and(|byte| matches!(byte, b'{' | b'[' | b',' | b':'))
    }

    /// A string on the first level has ended: a name, or a value.
    fn string_ended(&mut self, buffer: &[u8], from: usize, to: usize) {
        match self.next {
            Role::Name => {
                let name = &buffer[self.start + from..self.start + to];
                if !self.event {
                    self.event = is_of_event(name);
                }
                self.next = if name == b"eventTime" {
                    Role::Time
                } else {
                    Role::of(name)
                };
            }
            Role::Time => {
                self.time = Some((from, to));
                self.next = Role::Plain;
            }
            Role::Fold => {
                self.fold = Some((from, to));
                self.next = Role::Plain;
            }
            Role::Plain | Role::Wrapper => {}
        }
    }

    /// A value on the first level has ended; only a time that is a number has not been seen yet.
    fn value_ended(&mut self, to: usize) {
        if self.next == Role::Time {
            self.time = Some((self.value, to));
            self.next = Role::Plain;
        }
    }
}

/// Bytes up to the closing quote of a string, `None` if it is not there, or the place of a control
/// character.
pub(super) fn string_length(bytes: &[u8]) -> Result<Option<usize>, usize> {
    let mut at = 0;
    loop {
        at += plain_length(&bytes[at..]);
        match bytes.get(at) {
            None => return Ok(None),
            Some(b'"') => return Ok(Some(at)),
            Some(b'\\') if at + 1 < bytes.len() => at += 2,
            Some(b'\\') => return Ok(None),
            Some(_) => return Err(at),
        }
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Bytes before the first quote, backslash or control character, or all of them.
///
/// Eight at a time: `(x - 1s) & !x & 0x80s` has a bit for each zero byte of `x`, and
/// `(x - n·1s) & !x & 0x80s` for each byte below `n` (Bit Twiddling Hacks, "Determine if a word has
/// a byte less than n"). A borrow can only set false bits above a true one, so the lowest holds.
fn plain_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let special = special & HIGHS;
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let whole = bytes.len() - rest.len();
    let special = rest
        .iter()
        .position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    whole + special.unwrap_or(rest.len())
}
