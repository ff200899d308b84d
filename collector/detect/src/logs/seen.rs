//! Telling repeats: CloudTrail delivers at least once, and the same event reaches us by several
//! ways (folder, subscription, another account's export).

use std::collections::{HashSet, VecDeque};

use picket_wire::Digest;
use serde_json::Value;

use super::json::canonical;

/// Names one event: its account and event id where both are proper, else its content.
///
/// 24 bytes: account number and id, or the first 24 of SHA-256 over the canonical JSON. That the
/// two kinds could meet would take a chosen 192-bit value of the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey([u8; 24]);

impl EventKey {
    /// The key of an event by (recipientAccountId, eventID). `None` unless the account is a number
    /// and the id a UUID: placeholders such as `...` or `1` would make different events one.
    pub fn named(account: Option<&str>, event_id: Option<&str>) -> Option<Self> {
        let (account, id) = (account?, uuid(event_id?)?);
        let digits =
            (1..=12).contains(&account.len()) && account.bytes().all(|b| b.is_ascii_digit());
        let account: u64 = digits.then(|| account.parse().ok()).flatten()?;
        let mut key = [0; 24];
        key[..8].copy_from_slice(&account.to_be_bytes());
        key[8..].copy_from_slice(&id);
        Some(Self(key))
    }

    /// The key as it is stored.
    pub fn to_bytes(self) -> [u8; 24] {
        self.0
    }

    /// The key of an event by its content: equal however its members are ordered and spaced.
    pub fn of_content(json: &str) -> Self {
        let text = match serde_json::from_str::<Value>(json) {
            Ok(value) => {
                let mut out = Vec::with_capacity(json.len());
                canonical(&value, &mut out);
                out
            }
            // Nested deeper than a value may be: the text as it stands still names it.
            Err(_) => json.as_bytes().to_vec(),
        };
        let mut key = [0; 24];
        key.copy_from_slice(&Digest::of(&text).0[..24]);
        Self(key)
    }
}

/// The 16 bytes of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn uuid(text: &str) -> Option<[u8; 16]> {
    /// Where the two digits of each byte begin.
    const PAIRS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if [8, 13, 18, 23].iter().any(|&at| text[at] != b'-') {
        return None;
    }
    let mut seen = 0;
    let bytes = PAIRS.map(|at| {
        let (high, low) = (
            DIGITS[usize::from(text[at])],
            DIGITS[usize::from(text[at + 1])],
        );
        seen |= high | low;
        high << 4 | low
    });
    (seen != NO_DIGIT).then_some(bytes)
}

/// What is no hex digit, whatever it is joined with.
const NO_DIGIT: u8 = 0xff;

/// The value of each hex digit.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value];
        digits[digit as usize] = value as u8;
        digits[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The last events seen, up to a bound: the oldest is forgotten first, and counted.
#[derive(Debug)]
pub struct Seen {
    keys: HashSet<EventKey>,
    order: VecDeque<EventKey>,
    events_max: usize,
    forgotten: u64,
}

impl Seen {
    /// Remembers up to `events_max` events (at least one), about 60 bytes each.
    pub fn new(events_max: usize) -> Self {
        Self {
            keys: HashSet::new(),
            order: VecDeque::new(),
            events_max: events_max.max(1),
            forgotten: 0,
        }
    }

    /// Notes an event; false if it is remembered already.
    pub fn insert(&mut self, key: EventKey) -> bool {
        if !self.keys.insert(key) {
            return false;
        }
        if self.order.len() == self.events_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
            self.forgotten += 1;
        }
        self.order.push_back(key);
        true
    }

    /// Events forgotten because of the bound: repeats of those would pass as new.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "875240ac-e821-4fc6-a311-8c352a1d20f5";

    #[test]
    fn only_proper_ids_name_an_event() {
        fn named(account: &str, id: &str) -> Option<EventKey> {
            EventKey::named(Some(account), Some(id))
        }
        assert!(named("123456789012", ID).is_some());
        assert_eq!(
            named("123456789012", ID),
            named("123456789012", &ID.to_uppercase())
        );
        assert_ne!(named("123456789012", ID), named("123456789013", ID));
        for (account, id) in [
            ("...", ID),
            ("", ID),
            ("1234567890123", ID),
            ("+23", ID),
            ("123456789012", "..."),
            ("123456789012", "1"),
            ("123456789012", &ID[1..]),
            ("123456789012", &ID.replace('-', "0")),
            ("123456789012", &ID.replace('a', "g")),
        ] {
            assert_eq!(named(account, id), None, "{account} {id}");
        }
        assert_eq!(EventKey::named(None, Some(ID)), None);
        assert_eq!(EventKey::named(Some("1"), None), None);
    }

    #[test]
    fn content_ignores_order_and_space() {
        let one = EventKey::of_content(r#"{"a":1,"b":{"c":[1,2]}}"#);
        assert_eq!(one, EventKey::of_content(r#"{ "b": {"c":[1, 2]}, "a":1 }"#));
        assert_ne!(one, EventKey::of_content(r#"{"a":1,"b":{"c":[2,1]}}"#));
    }

    #[test]
    fn forgets_the_oldest_and_counts_it() {
        let key = |n: u8| EventKey([n; 24]);
        let mut seen = Seen::new(2);
        assert!(seen.insert(key(1)));
        assert!(!seen.insert(key(1)));
        assert!(seen.insert(key(2)));
        assert!(seen.insert(key(3)));
        assert_eq!(seen.forgotten(), 1);
        assert!(!seen.insert(key(2)));
        assert!(seen.insert(key(1)));
    }
}
