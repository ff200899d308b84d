//! Numbers as rules and events write them.

/// A finite number that can be compared and hashed: `-0` is `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Number(u64);

impl Number {
    /// `None` for what is not finite.
    pub(super) fn new(value: f64) -> Option<Self> {
        // Adding zero makes one zero of two.
        value.is_finite().then(|| Self((value + 0.0).to_bits()))
    }

    /// Reads a decimal number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let first = text.bytes().next()?;
        if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
            return None;
        }
        text.parse::<f64>().ok().and_then(Self::new)
    }

    pub(super) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// How numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

impl Compare {
    /// Says whether `value` stands so to `bound`.
    pub(super) fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::More => value > bound,
            Self::AtLeast => value >= bound,
            Self::Equal => value.total_cmp(&bound).is_eq(),
        }
    }
}

/// A part of a time that the time modifiers take out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TimePart {
    Minute,
    Hour,
    Day,
    /// ISO 8601.
    Week,
    Month,
    Year,
}

impl TimePart {
    /// Takes the part out of a time as RFC 3339 or ISO 8601 writes it, in the zone it is written in.
    pub(super) fn of(self, text: &str) -> Option<f64> {
        let pieces = jiff::fmt::temporal::DateTimeParser::new();
        let at = pieces
            .parse_datetime(text.trim_end_matches(['Z', 'z']))
            .ok()?;
        Some(f64::from(match self {
            Self::Minute => i16::from(at.minute()),
            Self::Hour => i16::from(at.hour()),
            Self::Day => i16::from(at.day()),
            Self::Week => i16::from(at.date().iso_week_date().week()),
            Self::Month => i16::from(at.month()),
            Self::Year => at.year(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_they_are_written() {
        let value = |text| Number::parse(text).map(Number::get);
        assert_eq!(value("42"), Some(42.0));
        assert_eq!(value(" -1.5e3 "), Some(-1500.0));
        for text in ["", "x", "nan", "inf", "-inf", "0x10", "1 2"] {
            assert_eq!(value(text), None, "{text}");
        }
        assert_eq!(Number::parse("-0"), Number::parse("0"));
    }

    #[test]
    fn parts_of_a_time() {
        let check = |part: TimePart, expected| {
            assert_eq!(part.of("2026-11-22T16:38:05Z"), expected, "{part:?}");
        };
        check(TimePart::Minute, Some(38.0));
        check(TimePart::Hour, Some(16.0));
        check(TimePart::Day, Some(22.0));
        check(TimePart::Week, Some(47.0));
        check(TimePart::Month, Some(11.0));
        check(TimePart::Year, Some(2026.0));
        assert_eq!(TimePart::Hour.of("2026-11-22T16:38:05+02:00"), Some(16.0));
        assert_eq!(TimePart::Hour.of("yesterday"), None);
        assert_eq!(TimePart::Hour.of(""), None);
    }
}
