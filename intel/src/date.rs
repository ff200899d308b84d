//! Dates as feeds write them. Where no zone is given it is UTC, as all of them say.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Milliseconds of one day.
pub(crate) const DAY_MS: u64 = 86_400_000;

/// Milliseconds since the Unix epoch of `2026-01-31 10:20:30[ UTC]`, RFC 3339, `2026-01-31`, or
/// seconds since the epoch. `None` for anything else and for what was before 1970.
pub(crate) fn read_ms(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches('"');
    if (5..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1_000);
    }
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let time = if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else {
        let civil = text.parse::<DateTime>();
        let civil = civil.or_else(|_| text.parse::<Date>().map(DateTime::from));
        civil.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()
    };
    u64::try_from(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_one_moment() {
        for text in [
            "2021-03-04 05:06:07",
            "2021-03-04 05:06:07 UTC",
            "2021-03-04T05:06:07Z",
            "2021-03-04T05:06:07.000Z",
            "2021-03-04T06:06:07+01:00",
            "\"2021-03-04 05:06:07\"",
            "1614834367",
        ] {
            assert_eq!(read_ms(text), Some(1_614_834_367_000), "{text}");
        }
        assert_eq!(read_ms("2021-03-04"), Some(1_614_816_000_000));
    }

    #[test]
    fn what_is_no_date() {
        for text in ["", "never", "2021-13-01", "1914-01-01", "12", "99999999999"] {
            assert_eq!(read_ms(text), None, "{text}");
        }
    }
}
