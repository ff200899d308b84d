//! Cuts a stream of bytes into single CloudTrail events, whatever they are wrapped in.
//!
//! What is found in the wild, all of it also indented, with CRLF, behind a byte order mark and one
//! after the other in one file:
//!
//! ```text
//! {"Records":[E, E]}                        files as CloudTrail delivers them
//! E ⏎ E                                     JSON lines
//! E     [E, E]     E E                      single, in a list, run together
//! {"Events":[{"CloudTrailEvent":"E"}]}      aws cloudtrail lookup-events
//! {"QueryResultRows":[[{"eventJson":"E"}]]} CloudTrail Lake, get-query-results
//! {"detail-type":…,"detail":E}              EventBridge
//! {"logEvents":[{"message":"E"}]}           CloudWatch Logs subscription; "events" on export
//! {"hits":{"hits":[{"_source":E}]}}         search engines
//! {"Records":[{"body":"{\"Message\":…}"}]}  queues and notifications, texts within texts
//! ```
//!
//! Bytes are pushed in, pieces are polled out; nothing needs the whole file. An object is held until
//! it ends, or until a member shows that it is a wrapper: then its own bytes are let go and its
//! content is taken piece by piece. Only strings and brackets are understood here: whether a piece
//! is an event, and sound, its typed parse says ([`super::ApiCall`]).
//!
//! After a fault it resumes at the next line that begins with `{`, or at the next object whose first
//! member is one of an event's, whichever comes first; what was found before the fault stays good.

mod names;
mod object;

use names::{Role, opens_event};
use object::{Keep, Object, Scan, string_length};

use super::event_time;
use super::limits::{
    EVENT_BYTES_MAX, EVENT_DEPTH_MAX, FOLDS_MAX, REREAD_BYTES_FREE, REREAD_FACTOR, WRAPPERS_MAX,
};

/// A place in the stream, after inflation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Bytes before it.
    pub byte: u64,
    /// Line, from 1.
    pub line: u64,
}

/// Why a stretch of the stream holds no event that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The stream ended inside an event or a list of them.
    #[error("ends in the middle")]
    Cut,
    /// An object larger than an event may be.
    #[error("event larger than {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    /// Nested deeper than an event may be.
    #[error("nested deeper than {EVENT_DEPTH_MAX} levels")]
    TooDeep,
    /// A list closed as an object, or the other way round.
    #[error("closing bracket does not match, at byte {byte}")]
    Mismatch {
        /// Where the bracket stands.
        byte: u64,
    },
    /// A line ends, or another control character stands, inside a string.
    #[error("control character in a string, at byte {byte}")]
    Control {
        /// Where it stands.
        byte: u64,
    },
    /// A string or a bracket follows something that asks for none: a quote or a comma is lost.
    #[error("string or bracket out of place, at byte {byte}")]
    Misplaced {
        /// Where it stands.
        byte: u64,
    },
    /// Something other than an object, a list or a string.
    #[error("not JSON")]
    NotJson,
    /// Two bytes a character.
    #[error("UTF-16 text; convert it to UTF-8")]
    Utf16,
    /// An event inside a text that is no proper JSON string, or folded too often.
    #[error("text does not unfold to an event")]
    Fold,
}

/// One finding of the splitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Something that has at least one member of an event.
    Event(RawEvent<'a>),
    /// A whole object or text that is no event and no wrapper: digests and other logs.
    Foreign(Place),
    /// A stretch that could not be read. It starts at the place.
    Fault(Place, SplitError),
}

/// One event as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// The object, from brace to brace.
    pub json: &'a [u8],
    /// Its `eventTime`, if it has a readable one.
    pub time_ns: Option<u64>,
    /// Where it starts; for one unfolded from a text, where that text's object starts.
    pub place: Place,
}

/// The splitter: see the [module](self).
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Place of `buffer[0]`; its line is that of `at`.
    base: u64,
    at: usize,
    line: u64,
    wrappers: Vec<Wrapper>,
    object: Option<Object>,
    inner: Option<Box<Self>>,
    /// Where the object stands that `inner` was unfolded from.
    inner_place: Place,
    folds: u8,
    /// Looking for the next event after a fault.
    lost: bool,
    ended: bool,
    reread: u64,
}

/// A container whose content is taken piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    List,
    /// An object; whether its next container, or text, is to be taken.
    Object(Role),
}

/// What was found, without a borrow of where.
#[derive(Debug, Clone, Copy)]
enum Step {
    Event {
        /// How many splitters further in.
        level: u8,
        from: usize,
        to: usize,
        time_ns: Option<u64>,
        place: Place,
    },
    Foreign(Place),
    Fault(Place, SplitError),
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Splitter {
    fn new(folds: u8) -> Self {
        Self {
            buffer: Vec::new(),
            base: 0,
            at: 0,
            line: 1,
            wrappers: Vec::new(),
            object: None,
            inner: None,
            inner_place: Place { byte: 0, line: 1 },
            folds,
            lost: false,
            ended: false,
            reread: 0,
        }
    }

    /// Takes the next bytes of the stream. Poll [`Splitter::next_piece`] until it has no more before
    /// the next call, and memory stays at the size of `bytes` and one event.
    pub fn push(&mut self, bytes: &[u8]) {
        let held = self.object.as_ref().map_or(self.at, |object| object.start);
        // One byte is kept to see whether a line begins.
        let gone = held.saturating_sub(1);
        self.buffer.drain(..gone);
        self.base += gone as u64;
        self.at -= gone;
        if let Some(object) = &mut self.object {
            object.start -= gone;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Says that the stream has ended: what is open now was cut.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// How far it has come.
    pub fn here(&self) -> Place {
        self.place(self.at)
    }

    /// The next piece, if the bytes pushed so far hold one.
    pub fn next_piece(&mut self) -> Option<Piece<'_>> {
        Some(match self.step()? {
            Step::Foreign(place) => Piece::Foreign(place),
            Step::Fault(place, why) => Piece::Fault(place, why),
            Step::Event {
                level,
                from,
                to,
                time_ns,
                place,
            } => {
                let mut holder = &*self;
                for _ in 0..level {
                    holder = holder.inner.as_deref()?;
                }
                Piece::Event(RawEvent {
                    json: holder.buffer.get(from..to)?,
                    time_ns,
                    place,
                })
            }
        })
    }

    fn step(&mut self) -> Option<Step> {
        loop {
            if let Some(inner) = &mut self.inner {
                let place = self.inner_place;
                match inner.step() {
                    Some(Step::Event {
                        level,
                        from,
                        to,
                        time_ns,
                        ..
                    }) => {
                        return Some(Step::Event {
                            level: level + 1,
                            from,
                            to,
                            time_ns,
                            place,
                        });
                    }
                    Some(Step::Foreign(_)) => return Some(Step::Foreign(place)),
                    Some(Step::Fault(_, why)) => return Some(Step::Fault(place, why)),
                    None => self.inner = None,
                }
            }
            let turn = if self.object.is_some() {
                self.within()
            } else if self.lost {
                self.find_next()
            } else {
                self.between()
            };
            match turn {
                Turn::Go => {}
                Turn::Wait => return None,
                Turn::Found(step) => return Some(step),
            }
        }
    }

    fn place(&self, at: usize) -> Place {
        Place {
            byte: self.base + at as u64,
            line: self.line,
        }
    }

    /// Between objects: white space, separators and the brackets of wrappers.
    fn between(&mut self) -> Turn {
        let Some(&byte) = self.buffer.get(self.at) else {
            return self.out_of_bytes();
        };
        let inside = self.wrappers.last().copied();
        match (byte, inside) {
            (b'\n', _) => self.line += 1,
            (b' ' | b'\t' | b'\r', _) => {}
            (b',', _) => self.named(Role::Name),
            (b':', Some(Wrapper::Object(_))) => {}
            (b'{', Some(Wrapper::Object(Role::Wrapper)) | Some(Wrapper::List) | None) => {
                self.named(Role::Name);
                self.open(Keep::Object);
                return Turn::Go;
            }
            (b'[', Some(Wrapper::Object(Role::Wrapper)) | Some(Wrapper::List) | None) => {
                self.named(Role::Name);
                self.wrap(Wrapper::List);
            }
            (b'{' | b'[', Some(Wrapper::Object(_))) => {
                self.named(Role::Name);
                self.open(Keep::Nothing);
                return Turn::Go;
            }
            (b'}', Some(Wrapper::Object(_))) | (b']', Some(Wrapper::List)) => {
                self.wrappers.pop();
            }
            (b'"', _) => return self.text_between(inside),
            // Numbers, true, false, null beside the list that was wanted.
            (
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.',
                Some(Wrapper::Object(_)),
            ) => {}
            (0xef, _) if self.buffer[self.at..].starts_with(b"\xef\xbb\xbf") => self.at += 2,
            (0xef, _) if self.buffer.len() - self.at < 3 && !self.ended => return Turn::Wait,
            (0xff | 0xfe, None) if self.base == 0 && self.at == 0 => {
                if self.buffer.len() < 2 && !self.ended {
                    return Turn::Wait;
                }
                if matches!(self.buffer[..], [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
                    // Every other byte would be a fault: this one says it all.
                    self.lost = true;
                    return Turn::Found(Step::Fault(self.place(0), SplitError::Utf16));
                }
                return self.not_json();
            }
            _ => return self.not_json(),
        }
        self.at += 1;
        Turn::Go
    }

    fn not_json(&mut self) -> Turn {
        self.lost = true;
        Turn::Found(Step::Fault(self.place(self.at), SplitError::NotJson))
    }

    /// Sets what the innermost object's next value is.
    fn named(&mut self, role: Role) {
        if let Some(Wrapper::Object(next)) = self.wrappers.last_mut() {
            *next = role;
        }
    }

    fn wrap(&mut self, wrapper: Wrapper) {
        if self.wrappers.len() == WRAPPERS_MAX {
            // Left open by faults: nothing around an event matters to it.
            self.wrappers.clear();
        }
        self.wrappers.push(wrapper);
    }

    fn open(&mut self, keep: Keep) {
        self.object = Some(Object::new(self.at, self.place(self.at), keep));
    }

    /// A string between objects: a name in a wrapper, or a text that is an item of a list.
    fn text_between(&mut self, inside: Option<Wrapper>) -> Turn {
        let from = self.at + 1;
        let length = match string_length(&self.buffer[from..]) {
            Ok(Some(length)) => length,
            Ok(None) if self.buffer.len() - from > EVENT_BYTES_MAX => {
                self.lost = true;
                return Turn::Found(Step::Fault(self.place(self.at), SplitError::TooLarge));
            }
            Ok(None) => return self.out_of_bytes(),
            Err(at) => {
                self.lost = true;
                let byte = self.base + (from + at) as u64;
                let fault = Step::Fault(self.place(self.at), SplitError::Control { byte });
                return Turn::Found(fault);
            }
        };
        let (place, to) = (self.place(self.at), from + length);
        self.at = to + 1;
        match inside {
            Some(Wrapper::Object(Role::Name)) => {
                let role = Role::of(&self.buffer[from..to]);
                self.named(role);
                Turn::Go
            }
            Some(Wrapper::Object(_)) => {
                self.named(Role::Name);
                Turn::Go
            }
            Some(Wrapper::List) | None => self.unfold(from - 1, to + 1, place),
        }
    }

    /// Takes the string at `from..to`, quotes included, as a stream of its own.
    fn unfold(&mut self, from: usize, to: usize, place: Place) -> Turn {
        let quoted = &self.buffer[from..to];
        if !names::folds(quoted) {
            return Turn::Found(Step::Foreign(place));
        }
        let text = String::from_utf8_lossy(quoted);
        match serde_json::from_str::<String>(&text) {
            Ok(text) if self.folds < FOLDS_MAX => {
                let mut inner = Self::new(self.folds + 1);
                inner.push(text.as_bytes());
                inner.end();
                self.inner = Some(Box::new(inner));
                self.inner_place = place;
                Turn::Go
            }
            _ => Turn::Found(Step::Fault(place, SplitError::Fold)),
        }
    }

    /// All bytes are used up: waits for more, or says what was cut.
    fn out_of_bytes(&mut self) -> Turn {
        let open = self.at < self.buffer.len() || !self.wrappers.is_empty();
        if !self.ended || !open {
            return Turn::Wait;
        }
        let place = self.place(self.at);
        self.at = self.buffer.len();
        self.wrappers.clear();
        Turn::Found(Step::Fault(place, SplitError::Cut))
    }

    /// Inside an object.
    fn within(&mut self) -> Turn {
        let Some(object) = &mut self.object else {
            return Turn::Go;
        };
        let end = match object.keep {
            Keep::Object => self.buffer.len().min(object.start + EVENT_BYTES_MAX),
            Keep::Nothing => self.buffer.len(),
        };
        let scanned = object.scan(&self.buffer[..end], &mut self.at, &mut self.line);
        let place = object.place;
        match scanned {
            Scan::Wrapper => {
                self.object = None;
                // `between` sees the bracket again and takes it for what the name said.
                self.wrap(Wrapper::Object(Role::Wrapper));
                Turn::Go
            }
            Scan::End => {
                let Some(object) = self.object.take() else {
                    return Turn::Go;
                };
                // Queue records carry a few of an event's members beside the folded one.
                let fold = object.fold.map(|(from, to)| {
                    let start = object.start;
                    (start + from - 1, start + to + 1)
                });
                let fold = fold.filter(|&(from, to)| names::folds(&self.buffer[from..to]));
                match (object.keep, fold, object.event) {
                    (Keep::Nothing, ..) => Turn::Go,
                    (Keep::Object, Some((from, to)), _) => self.unfold(from, to, place),
                    (Keep::Object, None, false) => Turn::Found(Step::Foreign(place)),
                    (Keep::Object, None, true) => {
                        let time = object.time.and_then(|(from, to)| {
                            self.buffer.get(object.start + from..object.start + to)
                        });
                        let time = time.and_then(|time| std::str::from_utf8(time).ok());
                        Turn::Found(Step::Event {
                            level: 0,
                            from: object.start,
                            to: self.at,
                            time_ns: time.and_then(event_time::parse),
                            place,
                        })
                    }
                }
            }
            Scan::More if end < self.buffer.len() => self.fault(place, SplitError::TooLarge),
            Scan::More if self.ended => self.fault(place, SplitError::Cut),
            Scan::More => {
                if object.keep == Keep::Nothing {
                    object.start = self.at;
                }
                Turn::Wait
            }
            Scan::TooDeep => self.fault(place, SplitError::TooDeep),
            Scan::Mismatch => {
                let byte = self.base + self.at as u64;
                self.fault(place, SplitError::Mismatch { byte })
            }
            Scan::Misplaced => {
                let byte = self.base + self.at as u64;
                self.fault(place, SplitError::Misplaced { byte })
            }
            Scan::Control => {
                let byte = self.base + self.at as u64;
                self.fault(place, SplitError::Control { byte })
            }
        }
    }

    /// Gives the open object up and goes back to behind its brace, to look for an event that it
    /// swallowed.
    fn fault(&mut self, place: Place, why: SplitError) -> Turn {
        self.lost = true;
        if let Some(object) = self.object.take()
            && object.keep == Keep::Object
        {
            let fed = self.base + self.buffer.len() as u64;
            let back = (self.at - object.start) as u64;
            if self.reread + back <= REREAD_BYTES_FREE + REREAD_FACTOR * fed {
                self.reread += back;
                self.at = object.start + 1;
                self.line = object.place.line;
            }
        }
        Turn::Found(Step::Fault(place, why))
    }

    /// After a fault: goes to the next brace that may open an event.
    fn find_next(&mut self) -> Turn {
        let mut at = self.at;
        let found = loop {
            let Some(next) = self.buffer[at..].iter().position(|&byte| byte == b'{') else {
                break None;
            };
            at += next;
            let line_begins = at > 0 && self.buffer[at - 1] == b'\n';
            match line_begins
                .then_some(true)
                .or_else(|| opens_event(&self.buffer[at..]))
            {
                Some(true) => break Some(at),
                Some(false) => at += 1,
                None if self.ended => at += 1,
                None => {
                    self.skip_to(at);
                    return Turn::Wait;
                }
            }
        };
        match found {
            Some(at) => {
                self.skip_to(at);
                self.lost = false;
                self.open(Keep::Object);
                Turn::Go
            }
            None => {
                self.skip_to(self.buffer.len());
                Turn::Wait
            }
        }
    }

    fn skip_to(&mut self, at: usize) {
        let lines = self.buffer[self.at..at]
            .iter()
            .filter(|&&byte| byte == b'\n');
        self.line += lines.count() as u64;
        self.at = at;
    }
}

/// What one turn of the machine came to.
enum Turn {
    Go,
    Wait,
    Found(Step),
}

#[cfg(test)]
mod tests;
