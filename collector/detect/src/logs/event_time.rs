//! Event times as logs write them, into nanoseconds since the Unix epoch.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Largest count of seconds taken for such; above it, milliseconds. The year 5138 in seconds,
/// 1973 in milliseconds (chosen by hand: no log is that old or that new).
const SECONDS_MAX: f64 = 1e11;

/// Reads `2023-07-10T11:42:18Z` and its relatives: fractions, offsets, a space for the `T`, no
/// zone (taken as UTC), and counts of seconds or milliseconds since the epoch.
///
/// `None` for anything else and for times before the epoch.
pub fn parse(text: &str) -> Option<u64> {
    if let Some(time_ns) = plain(text.as_bytes()) {
        return Some(time_ns);
    }
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return u64::try_from(time.as_nanosecond()).ok();
    }
    if let Ok(count) = text.parse::<f64>() {
        return number(count);
    }
    let time = text.parse::<DateTime>().ok()?;
    let time = TimeZone::UTC.to_timestamp(time).ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

fn number(count: f64) -> Option<u64> {
    if !(0.0..SECONDS_MAX * 1e3).contains(&count) {
        return None;
    }
    // Whole milliseconds first: a fraction of a second in binary is never exact to the nanosecond.
    let ms = if count < SECONDS_MAX {
        count * 1e3
    } else {
        count
    };
    (ms.round() as u64).checked_mul(1_000_000)
}

/// The one form that CloudTrail itself writes, `YYYY-MM-DDThh:mm:ssZ`, without a detour.
fn plain(text: &[u8]) -> Option<u64> {
    let &[
        a,
        b,
        c,
        d,
        b'-',
        e,
        f,
        b'-',
        g,
        h,
        b'T',
        i,
        j,
        b':',
        k,
        l,
        b':',
        m,
        n,
        b'Z',
    ] = text
    else {
        return None;
    };
    let two = |tens: u8, ones: u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let year = two(a, b)? * 100 + two(c, d)?;
    let (month, day) = (two(e, f)?, two(g, h)?);
    let (hour, minute, second) = (two(i, j)?, two(k, l)?, two(m, n)?);
    // Days up to 28 exist in every month; the rest, and leap seconds, take the long way.
    let simple = (1970..=2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=28).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !simple {
        return None;
    }
    // Days since 1970-03-01 by the era-free part of Hinnant's `days_from_civil`
    // (howardhinnant.github.io/date_algorithms.html), valid for the years above.
    let shifted = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = shifted / 4 - shifted / 100 + shifted / 400;
    let days = shifted * 365 + leap_days + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        let expected = Some(1_688_989_338_000_000_000);
        for text in [
            "2023-07-10T11:42:18Z",
            "2023-07-10T11:42:18.000Z",
            "2023-07-10T13:42:18+02:00",
            "2023-07-10 11:42:18",
            "2023-07-10T11:42:18",
            " 2023-07-10T11:42:18Z\n",
            "1688989338",
            "1688989338.0",
            "1688989338000",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(
            parse("2023-07-10T11:42:18.25Z"),
            expected.map(|t| t + 250_000_000)
        );
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "...",
            "eventTime",
            "2023-13-10T11:42:18Z",
            "2023-02-30T11:42:18Z",
            "1969-12-31T23:59:59Z",
            "-5",
            "NaN",
            "inf",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_long_one() {
        let mut time = Timestamp::from_second(0).unwrap();
        let step = jiff::SignedDuration::from_secs(86_400 * 13 + 3_671);
        for _ in 0..6_000 {
            let text = time.to_string();
            let long = u64::try_from(time.as_nanosecond()).unwrap();
            assert_eq!(parse(&text), Some(long), "{text}");
            time += step;
        }
    }
}
