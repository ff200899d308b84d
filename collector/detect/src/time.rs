//! An instant of event time, written as RFC 3339 in UTC.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nanoseconds since the Unix epoch, of an event and never of our own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The day it falls on, `YYYY-MM-DD` in UTC.
    pub fn day(self) -> String {
        let mut text = self.to_string();
        text.truncate("YYYY-MM-DD".len());
        text
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = Timestamp::from_nanosecond(i128::from(self.0))
            .expect("64 bits of nanoseconds end in 2554, and a timestamp reaches to 9999");
        write!(f, "{timestamp}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: Timestamp = text.parse().map_err(de::Error::custom)?;
        u64::try_from(timestamp.as_nanosecond())
            .map(Self)
            .map_err(|_| de::Error::custom("a time outside 1970 to 2554"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_in_utc_with_as_many_digits_as_it_has() {
        let check = |ns, expected: &str| {
            assert_eq!(Time(ns).to_string(), expected);
            let json = serde_json::to_string(&Time(ns)).unwrap();
            assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), Time(ns));
        };
        check(0, "1970-01-01T00:00:00Z");
        check(1_700_000_000_123_000_000, "2023-11-14T22:13:20.123Z");
        check(1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
        assert_eq!(Time(1_700_000_000_123_000_000).day(), "2023-11-14");
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["\"yesterday\"", "\"1969-12-31T23:59:59Z\"", "17"] {
            assert!(serde_json::from_str::<Time>(text).is_err(), "{text}");
        }
    }
}
