//! Rules compiled so that they share their work.
//!
//! - Tests that several rules make are made once per event.
//! - What is asked of one field's text, whole or in part, is answered for all rules by one look: a
//!   table of whole texts and one automaton for parts.
//! - A rule that can only match with certain values of a field at hand ([`Quick`]) is looked at for
//!   events that have one of them, and for no others.
//!
//! Everything takes time linear in the event, whatever the rules say.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use aho_corasick::AhoCorasick;
use foldhash::fast::FixedState;
use foldhash::quality::RandomState;
use regex::Regex;
use serde_json::Value;

use super::limits::{MET_BYTES_MAX, MET_MAX};
use super::number::{Compare, Number, TimePart};
use super::record::{Path, Quick, Record, leaves, text_of};
use super::search::Place;

/// Things by words of rules. The hash is the same in every process: whoever writes the rules may know it,
/// and whoever writes the events puts nothing into the table.
pub(super) type Words<T> = HashMap<Box<str>, T, FixedState>;

/// A rule's condition over the tests of all rules.
#[derive(Debug)]
pub(super) enum Node {
    Test(u32),
    And(Box<[Self]>),
    Or(Box<[Self]>),
    Not(Box<Self>),
}

/// Every rule's condition, compiled.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) fields: Vec<Field>,
    pub(super) tests: Vec<Compiled>,
    pub(super) rules: Vec<Node>,
    /// Which rules a value at hand calls for.
    pub(super) calls: BTreeMap<Quick, Words<Vec<u32>>>,
    /// Rules that every event must be shown to.
    pub(super) always: Vec<u32>,
}

/// A field that rules ask about; `None` for keywords.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) path: Option<Path>,
    pub(super) texts: Texts,
}

/// What is asked of one field's text.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// In lower case.
    pub(super) whole: Words<u32>,
    pub(super) whole_cased: Words<u32>,
    /// Tests that any text passes.
    pub(super) any: Option<u32>,
    pub(super) parts: Option<AhoCorasick>,
    /// What each of the automaton's words means, in its order.
    pub(super) words: Vec<Word>,
    /// How many of them mind upper and lower case.
    pub(super) words_cased: usize,
}

#[derive(Debug)]
pub(super) struct Word {
    pub(super) test: u32,
    pub(super) place: Place,
    /// The word as it must stand there, where that matters.
    pub(super) cased: Option<Box<str>>,
}

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) field: u32,
    pub(super) how: How,
}

#[derive(Debug)]
pub(super) enum How {
    /// Answered by the field's [`Texts`].
    Texts,
    Regex(Regex),
    Cidr {
        net: IpAddr,
        prefix: u8,
    },
    Number(Compare, f64),
    Time(TimePart, Compare, f64),
    Null,
    Exists,
    Field {
        other: Path,
        place: Place,
        cased: bool,
    },
}

/// What was found out about one event; made once, used for all.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Counts events, so that nothing needs to be cleared between them.
    event: u32,
    /// Event for which a test was last made, and for which it last held.
    made: Vec<u32>,
    held: Vec<u32>,
    /// Event for which a field's texts were last looked at.
    looked: Vec<u32>,
    /// By field, what is told of texts that were looked at before: programs, callers and places come again
    /// and again, and an automaton takes a step a letter.
    met: Vec<HashMap<Box<str>, Box<[u32]>, RandomState>>,
    /// Event for which a rule was last looked at.
    asked: Vec<u32>,
    candidates: Vec<u32>,
    lower: String,
    room: String,
}

impl Program {
    /// The rules that match an event, by number, in order.
    pub(super) fn run(&self, record: &dyn Record, scratch: &mut Scratch, out: &mut Vec<u32>) {
        out.clear();
        scratch.begin(self);
        let mut candidates = std::mem::take(&mut scratch.candidates);
        candidates.clear();
        for (quick, values) in &self.calls {
            let Some(text) = record.quick(*quick) else {
                continue;
            };
            lower_into(text, &mut scratch.lower);
            for &rule in values.get(&*scratch.lower).into_iter().flatten() {
                if let Some(asked) = scratch.asked.get_mut(rule as usize)
                    && *asked != scratch.event
                {
                    *asked = scratch.event;
                    candidates.push(rule);
                }
            }
        }
        for &rule in candidates.iter().chain(&self.always) {
            let node = self.rules.get(rule as usize);
            if node.is_some_and(|node| self.holds(node, record, scratch)) {
                out.push(rule);
            }
        }
        scratch.candidates = candidates;
        out.sort_unstable();
    }

    fn holds(&self, node: &Node, record: &dyn Record, scratch: &mut Scratch) -> bool {
        match node {
            Node::Test(test) => self.test(*test, record, scratch),
            Node::And(all) => all.iter().all(|node| self.holds(node, record, scratch)),
            Node::Or(any) => any.iter().any(|node| self.holds(node, record, scratch)),
            Node::Not(node) => !self.holds(node, record, scratch),
        }
    }

    fn test(&self, number: u32, record: &dyn Record, scratch: &mut Scratch) -> bool {
        let at = number as usize;
        let event = scratch.event;
        let Some(test) = self.tests.get(at) else {
            return false;
        };
        let Some(field) = self.fields.get(test.field as usize) else {
            return false;
        };
        if matches!(test.how, How::Texts) {
            if scratch.looked[test.field as usize] != event {
                scratch.looked[test.field as usize] = event;
                self.look(test.field as usize, record, scratch);
            }
        } else if scratch.made[at] != event {
            scratch.made[at] = event;
            let mut room = std::mem::take(&mut scratch.room);
            if test.how.holds(field.path.as_ref(), record, &mut room) {
                scratch.held[at] = event;
            }
            scratch.room = room;
        }
        scratch.held[at] == event
    }

    /// The fields by which a rule that matches does so, with a value each: tests that hold and are
    /// not negated.
    pub(super) fn reasons(
        &self,
        rule: u32,
        record: &dyn Record,
        scratch: &mut Scratch,
        take: &mut dyn FnMut(&str, &str),
    ) {
        let mut fields = Vec::new();
        if let Some(node) = self.rules.get(rule as usize) {
            self.positive(node, record, scratch, &mut fields);
        }
        let mut shown = Vec::new();
        for number in fields {
            let Some(test) = self.tests.get(number as usize) else {
                continue;
            };
            if shown.contains(&test.field) {
                continue;
            }
            shown.push(test.field);
            match self
                .fields
                .get(test.field as usize)
                .map(|field| &field.path)
            {
                Some(Some(path)) => {
                    if let Some(text) = path.quick.and_then(|quick| record.quick(quick)) {
                        take(&path.text, text);
                        continue;
                    }
                    let mut text = String::new();
                    path.values(record, &mut |value| {
                        let mut room = String::new();
                        text = text_of(value, &mut room).unwrap_or("null").to_owned();
                        true
                    });
                    take(&path.text, &text);
                }
                _ => take("", ""),
            }
        }
    }

    fn positive(
        &self,
        node: &Node,
        record: &dyn Record,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        match node {
            Node::Test(test) => {
                if self.test(*test, record, scratch) {
                    out.push(*test);
                }
            }
            Node::And(nodes) | Node::Or(nodes) => {
                for node in nodes {
                    if self.holds(node, record, scratch) {
                        self.positive(node, record, scratch, out);
                    }
                }
            }
            Node::Not(_) => {}
        }
    }

    /// How many rules are shown every event.
    #[cfg(test)]
    pub(super) fn always(&self) -> usize {
        self.always.len()
    }

    /// How many different tests there are.
    #[cfg(test)]
    pub(super) fn tests(&self) -> usize {
        self.tests.len()
    }
}

impl Scratch {
    fn begin(&mut self, program: &Program) {
        self.made.resize(program.tests.len(), 0);
        self.held.resize(program.tests.len(), 0);
        self.looked.resize(program.fields.len(), 0);
        self.met.resize_with(program.fields.len(), HashMap::default);
        self.asked.resize(program.rules.len(), 0);
        self.event = self.event.wrapping_add(1);
        if self.event == 0 {
            for table in [
                &mut self.made,
                &mut self.held,
                &mut self.looked,
                &mut self.asked,
            ] {
                table.fill(0);
            }
            self.event = 1;
        }
    }
}

impl Program {
    /// Answers everything that is asked of a field's texts.
    fn look(&self, field: usize, record: &dyn Record, scratch: &mut Scratch) {
        let Some(Field { path, texts }) = self.fields.get(field) else {
            return;
        };
        let mut lower = std::mem::take(&mut scratch.lower);
        let mut room = std::mem::take(&mut scratch.room);
        let (held, event) = (&mut scratch.held, scratch.event);
        let mut hold = |test: u32| {
            if let Some(held) = held.get_mut(test as usize) {
                *held = event;
            }
        };
        match path {
            Some(path) => match path.quick.and_then(|quick| record.quick(quick)) {
                Some(text) if texts.parts.is_some() && text.len() <= MET_BYTES_MAX => {
                    let met = &mut scratch.met[field];
                    if let Some(tests) = met.get(text) {
                        tests.iter().copied().for_each(hold);
                    } else {
                        let mut tests = Vec::new();
                        texts.look(text, &mut lower, &mut |test| tests.push(test));
                        tests.sort_unstable();
                        tests.dedup();
                        tests.iter().copied().for_each(hold);
                        if met.len() >= MET_MAX {
                            met.clear();
                        }
                        met.insert(text.into(), tests.into());
                    }
                }
                Some(text) => texts.look(text, &mut lower, &mut hold),
                None => {
                    path.values(record, &mut |value| {
                        if let Some(text) = text_of(value, &mut room) {
                            texts.look(text, &mut lower, &mut hold);
                        }
                        false
                    });
                }
            },
            None => {
                leaves(record.whole(), &mut |value| {
                    if let Some(text) = text_of(value, &mut room) {
                        texts.look(text, &mut lower, &mut hold);
                    }
                    false
                });
            }
        }
        (scratch.lower, scratch.room) = (lower, room);
    }
}

impl Texts {
    /// Tells `hold` of every test that `text` passes, some more than once.
    fn look(&self, text: &str, lower: &mut String, hold: &mut dyn FnMut(u32)) {
        if let Some(test) = self.any {
            hold(test);
        }
        if !self.whole_cased.is_empty()
            && let Some(&test) = self.whole_cased.get(text)
        {
            hold(test);
        }
        let is_ascii = text.is_ascii();
        if !self.whole.is_empty() || !is_ascii {
            lower_into(text, lower);
        }
        if let Some(&test) = self.whole.get(&**lower) {
            hold(test);
        }
        let Some(parts) = &self.parts else {
            return;
        };
        // The automaton takes ASCII letters of either case for each other; other letters are told
        // in lower case.
        let told = if is_ascii { text } else { &**lower };
        for found in parts.find_overlapping_iter(told) {
            let Some(word) = self.words.get(found.pattern().as_usize()) else {
                continue;
            };
            let is_placed = match word.place {
                Place::Anywhere => true,
                Place::Start => found.start() == 0,
                Place::End => found.end() == told.len(),
                Place::Whole => found.start() == 0 && found.end() == told.len(),
            };
            let is_so = match &word.cased {
                None => true,
                Some(cased) => is_ascii && text[found.range()] == **cased,
            };
            if is_placed && is_so {
                hold(word.test);
            }
        }
        if !is_ascii && self.words_cased > 0 {
            for word in &self.words {
                if let Some(cased) = &word.cased
                    && is_placed(text, cased, word.place)
                {
                    hold(word.test);
                }
            }
        }
    }
}

impl How {
    fn holds(&self, path: Option<&Path>, record: &dyn Record, room: &mut String) -> bool {
        let mut any_text = |fits: &dyn Fn(&str) -> bool| {
            let mut take = |value: &Value| text_of(value, room).is_some_and(fits);
            match path {
                Some(path) => match path.quick.and_then(|quick| record.quick(quick)) {
                    Some(text) => fits(text),
                    None => path.values(record, &mut take),
                },
                None => leaves(record.whole(), &mut take),
            }
        };
        match self {
            Self::Texts => false,
            Self::Regex(regex) => any_text(&|text| regex.is_match(text)),
            Self::Cidr { net, prefix } => any_text(&|text| is_in(text, *net, *prefix)),
            Self::Number(compare, bound) => any_text(&|text| {
                let number = Number::parse(text);
                number.is_some_and(|number| compare.holds(number.get(), *bound))
            }),
            Self::Time(part, compare, bound) => any_text(&|text| {
                let value = part.of(text);
                value.is_some_and(|value| compare.holds(value, *bound))
            }),
            Self::Null => {
                path.is_some_and(|path| !path.values(record, &mut |value| !value.is_null()))
            }
            Self::Exists => path.is_some_and(|path| path.is_there(record)),
            Self::Field {
                other,
                place,
                cased,
            } => {
                let mut words = Vec::new();
                other.values(record, &mut |value| {
                    let mut room = String::new();
                    if let Some(text) = text_of(value, &mut room) {
                        words.push(if *cased {
                            text.to_owned()
                        } else {
                            text.to_lowercase()
                        });
                    }
                    false
                });
                any_text(&|text| {
                    let lower;
                    let text = if *cased {
                        text
                    } else {
                        lower = text.to_lowercase();
                        &lower
                    };
                    words.iter().any(|word| is_placed(text, word, *place))
                })
            }
        }
    }

    /// How much it costs, for the order in which tests are made.
    pub(super) fn cost(&self, path: Option<&Path>) -> u32 {
        let way = match path {
            Some(path) if path.quick.is_some() => 1,
            Some(_) => 20,
            None => 200,
        };
        let what = match self {
            Self::Texts => 1,
            Self::Null | Self::Number(..) | Self::Cidr { .. } | Self::Time(..) => 2,
            Self::Regex(_) => 5,
            Self::Exists | Self::Field { .. } => 30,
        };
        way + what
    }
}

fn is_placed(text: &str, word: &str, place: Place) -> bool {
    match place {
        Place::Whole => text == word,
        Place::Anywhere => text.contains(word),
        Place::Start => text.starts_with(word),
        Place::End => text.ends_with(word),
    }
}

fn is_in(text: &str, net: IpAddr, prefix: u8) -> bool {
    let Ok(address) = text.trim().parse::<IpAddr>() else {
        return false;
    };
    let shared = |bits: u32, differing: u128| {
        let kept = bits.saturating_sub(u32::from(prefix));
        differing.checked_shr(kept).unwrap_or_default() == 0
    };
    match (address.to_canonical(), net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => {
            shared(32, u128::from(address.to_bits() ^ net.to_bits()))
        }
        (IpAddr::V6(address), IpAddr::V6(net)) => shared(128, address.to_bits() ^ net.to_bits()),
        _ => false,
    }
}

fn lower_into(text: &str, out: &mut String) {
    out.clear();
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
    } else {
        out.push_str(&text.to_lowercase());
    }
}
