//! What an operator enters: one indicator of a category, refused if no list may name it.

use std::net::IpAddr;

use picket_intel::{Category, Indicator, IndicatorError, SetBuilder};

use crate::source::intel::public_suffix;

/// Reads an indicator of any kind, as it is stored.
pub(super) fn parse(value: &str) -> Result<Indicator, String> {
    let value = value.trim();
    // A name may hold a `-` too.
    if let Some((from, to)) = value.split_once('-')
        && let (Ok(from), Ok(to)) = (from.trim().parse::<IpAddr>(), to.trim().parse::<IpAddr>())
        && from.to_canonical() > to.to_canonical()
    {
        return Err(format!("the range {value} runs backwards"));
    }
    let found = Indicator::read(value).map_err(|error| match error {
        IndicatorError::NotADomain(_) => {
            format!("{value:?} is no domain, address, net, range or address:port")
        }
        IndicatorError::NotAHost(_) => format!(
            "{value:?} names a page, and a page is not looked for: enter its host if all of it is meant"
        ),
        other => other.to_string(),
    })?;
    let count = found.len();
    let mut found = found.into_iter();
    match (found.next(), count) {
        (Some(one), 1) => Ok(one),
        _ => Err(format!(
            "the range {value} is {count} nets: enter each, or put it into a list of intel_dir"
        )),
    }
}

/// How an indicator is written, whichever way it was entered; `None` if it is none.
pub(crate) fn written(value: &str) -> Option<String> {
    parse(value).ok().map(|indicator| indicator.to_string())
}

/// Checks an indicator as it would be checked on a list of the category; returns the way it is
/// written.
///
/// # Errors
/// Why it cannot be entered, in words.
pub(crate) fn judge(category: Category, value: &str) -> Result<String, String> {
    let indicator = parse(value)?;
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
        check("198.51.100.0-198.51.100.255", Ok("198.51.100.0/24"));
        check("198.51.100.0-198.51.100.9", Err("is 2 nets"));
        check("198.51.100.9 - 198.51.100.0", Err("runs backwards"));
        check("198.51.100.7:0", Err("port 0"));
        check("evil[.]example", Ok("evil.example"));
        check("hxxp://evil[.]example/", Ok("evil.example"));
        check("hxxps://198.51.100[.]7:8443/x", Ok("198.51.100.7:8443"));
        check("http://evil.example/page", Err("names a page"));
        check("b\u{fc}cher.example", Ok("xn--bcher-kva.example"));
        check("c2-host.evil-site.example", Ok("c2-host.evil-site.example"));
        check("evil.example:443", Ok("evil.example"));
        check("pool.ntp.org", Err("time service"));
        check("", Err("no domain"));
    }
}
