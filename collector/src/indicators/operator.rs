//! What an operator enters: one indicator of a category, refused if no list may name it.

use picket_intel::{Category, Indicator, IndicatorError, SetBuilder};

use crate::source::intel::public_suffix;

/// Reads an indicator of any kind.
pub(super) fn parse(value: &str) -> Result<Indicator, IndicatorError> {
    match Indicator::address(value) {
        // A CIDR is no domain either, and the better reason is that of the net.
        Err(IndicatorError::NotAnAddress(_)) if !value.contains('/') => Indicator::domain(value),
        read => read,
    }
}

/// How an indicator is written, whichever way it was entered; `None` if it is none.
pub(crate) fn written(value: &str) -> Option<String> {
    parse(value.trim())
        .ok()
        .map(|indicator| indicator.to_string())
}

/// Checks an indicator as it would be checked on a list of the category; returns the way it is
/// written.
///
/// # Errors
/// Why it cannot be entered, in words.
pub(crate) fn judge(category: Category, value: &str) -> Result<String, String> {
    let indicator = parse(value.trim()).map_err(|error| error.to_string())?;
    let written = indicator.to_string();
    let kind = match indicator {
        Indicator::Domain(_) => "domains",
        _ => "ips",
    };
    let file = format!("{category}-{kind}.txt");
    let mut builder = SetBuilder::default();
    builder.know_suffixes(public_suffix);
    let report = builder
        .read_file(&file, written.as_bytes())
        .map_err(|error| error.to_string())?;
    match report.notes.first() {
        Some(note) => Err(note.why.clone()),
        None => Ok(written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_entered_is_written_the_one_way() {
        let check = |value: &str, expected: Result<&str, &str>| {
            let judged = judge(Category::C2, value);
            let judged = judged.as_deref().map_err(String::as_str);
            match (judged, expected) {
                (Ok(written), Ok(expected)) => assert_eq!(written, expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{value}: {why}"),
                (judged, _) => assert_eq!(judged, expected, "{value}"),
            }
        };
        check("198.51.100.7", Ok("198.51.100.7"));
        check(" ::ffff:198.51.100.7 ", Ok("198.51.100.7"));
        check("198.51.100.7/24", Ok("198.51.100.0/24"));
        check("198.51.100.7:443", Ok("198.51.100.7:443"));
        check("*.Evil.Example.", Ok("evil.example"));
        check("169.254.169.254", Err("the instance metadata service"));
        check("169.254.169.254:80", Err("the instance metadata service"));
        check("fd00:ec2::253", Err("the VPC's resolver"));
        check("127.0.0.1", Err("loopback"));
        check("8.8.8.8", Err("public resolver"));
        check("not a thing", Err("no domain"));
        check("0.0.0.0/0", Err("too wide"));
        check("198.51.100.7/99", Err("no address"));
    }
}
