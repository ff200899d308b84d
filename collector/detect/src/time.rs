//! An instant of event time, written as RFC 3339 in UTC, and the day it falls on.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nanoseconds since the Unix epoch, of an event and never of our own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The day it falls on.
    pub fn day(self) -> Day {
        // 64 bits of nanoseconds are 213,503 days.
        Day((self.0 / DAY_NS) as u32)
    }
}

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// A day in UTC, written `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Time(u64::from(self.0) * DAY_NS).to_string();
        f.write_str(text.get(.."YYYY-MM-DD".len()).unwrap_or(&text))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let date = String::deserialize(deserializer)?;
        let time: Timestamp = format!("{date}T00:00:00Z")
            .parse()
            .map_err(de::Error::custom)?;
        u64::try_from(time.as_nanosecond())
            .map(|ns| Time(ns).day())
            .map_err(|_| de::Error::custom("a day outside 1970 to 2554"))
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
    }

    #[test]
    fn a_day_reads_back() {
        let check = |ns, expected: &str| {
            let day = Time(ns).day();
            assert_eq!(day.to_string(), expected);
            let json = serde_json::to_string(&day).unwrap();
            assert_eq!(serde_json::from_str::<Day>(&json).unwrap(), day);
        };
        check(0, "1970-01-01");
        check(DAY_NS - 1, "1970-01-01");
        check(1_700_000_000_123_000_000, "2023-11-14");
        check(u64::MAX, "2554-07-21");
        for text in ["\"1969-12-31\"", "\"2023-11\"", "\"\"", "3"] {
            assert!(serde_json::from_str::<Day>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["\"yesterday\"", "\"1969-12-31T23:59:59Z\"", "17"] {
            assert!(serde_json::from_str::<Time>(text).is_err(), "{text}");
        }
    }
}
