//! Which label of a name its owner chose: the one left of the public suffix, private ones included, so
//! that it is the customer's part under a provider of free names.
//!
//! Leaves to others what the label looks like.

use std::borrow::Cow;

/// Why the letters of a name are not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unjudged {
    /// There is nothing before the final dot.
    #[error("no name")]
    Empty,
    /// It is longer than a name can be (RFC 1035 2.3.4).
    #[error("longer than a name can be")]
    TooLong,
    /// A zone that turns addresses into names, or that only the local network knows.
    #[error("a zone for machines, not for owners: {0}")]
    Technical(&'static str),
    /// A provider chose the label, by a program.
    #[error("its labels are given out by a provider: {0}")]
    Provider(&'static str),
    /// It is written in letters that the model does not know.
    #[error("written in another script: its letters are not judged")]
    Script,
}

/// Longest text of a name: 255 octets on the wire, each of which may be escaped in four characters.
const NAME_BYTES_MAX: usize = 1_020;

/// Zones in which nobody registers anything: reverse lookups, mDNS (RFC 6762), names of private networks
/// (RFC 6761, RFC 8375, ICANN's `internal`), services found by DNS.
const TECHNICAL: &[&str] = &[
    "arpa",
    "home.arpa",
    "internal",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "test",
];

/// Domains under which a program of the provider gives out labels: networks of copies, balancers,
/// functions, machines; and blocklists, under which the asker's question is the label.
const PROVIDERS: &[&str] = &[
    "1e100.net",
    "akadns.net",
    "akamai.net",
    "akamaiedge.net",
    "akamaihd.net",
    "akamaized.net",
    "amazonaws.com",
    "amazonaws.com.cn",
    "aws.dev",
    "awsapprunner.com",
    "awsglobalaccelerator.com",
    "azure.com",
    "azureedge.net",
    "azurefd.net",
    "barracudacentral.org",
    "cdn77.org",
    "cdn.cloudflare.net",
    "cloudfront.net",
    "dnswl.org",
    "edgekey.net",
    "edgesuite.net",
    "fastly.net",
    "fastlylb.net",
    "googleusercontent.com",
    "googlevideo.com",
    "gvt1.com",
    "mailspike.net",
    "on.aws",
    "sorbs.net",
    "spamcop.net",
    "spamhaus.net",
    "spamhaus.org",
    "surbl.org",
    "trafficmanager.net",
    "uribl.com",
    "windows.net",
];

/// Providers of free names that the public suffix list does not have; well known.
const FREE_NAMES: &[&str] = &[
    "chickenkiller.com",
    "dynserv.com",
    "dyndns.info",
    "mooo.com",
    "strangled.net",
    "us.to",
    "yi.org",
];

/// The label of `name` that its owner chose, in lower case.
///
/// # Errors
///
/// When there is none, or when its letters say nothing about who chose it.
pub fn chosen(name: &str) -> Result<Cow<'_, str>, Unjudged> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(Unjudged::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Unjudged::TooLong);
    }
    let lowered = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    if let Some(zone) = below(&lowered, TECHNICAL) {
        return Err(Unjudged::Technical(zone));
    }
    if let Some(provider) = below(&lowered, PROVIDERS) {
        return Err(Unjudged::Provider(provider));
    }
    let label = match lowered {
        Cow::Borrowed(name) => Cow::Borrowed(label_of(name)),
        Cow::Owned(name) => Cow::Owned(label_of(&name).to_owned()),
    };
    if label.starts_with("xn--") && is_foreign(&label) || !label.is_ascii() {
        return Err(Unjudged::Script);
    }
    Ok(label)
}

/// A name that somebody registered, within one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registered<'a> {
    /// The label and the suffix.
    pub(crate) name: &'a str,
    /// What the owner chose.
    pub(crate) label: &'a str,
    /// The public suffix; empty where the name has one label.
    pub(crate) suffix: &'a str,
}

/// The registered part of a name in lower case without a final dot, if its letters can be judged.
pub(crate) fn registered(name: &str) -> Option<Registered<'_>> {
    chosen(name).ok()?;
    (!name.ends_with('.')).then(|| split(name))
}

/// The label left of the public suffix.
fn label_of(name: &str) -> &str {
    split(name).label
}

/// Cuts before the public suffix, and before the label left of it; a name that is a suffix from end to
/// end is cut after its first label.
fn split(name: &str) -> Registered<'_> {
    let suffix_bytes = match below(name, FREE_NAMES) {
        Some(parent) if parent.len() < name.len() => parent.len(),
        _ => psl::suffix(name.as_bytes()).map_or(0, |suffix| suffix.as_bytes().len()),
    };
    let left = name.len().checked_sub(suffix_bytes + 1);
    match left.and_then(|bytes| Some((name.get(..bytes)?, name.get(bytes + 1..)?))) {
        Some((left, suffix)) if !left.is_empty() => {
            let start = left.rfind('.').map_or(0, |dot| dot + 1);
            Registered {
                name: &name[start..],
                label: &left[start..],
                suffix,
            }
        }
        _ => {
            let (label, suffix) = name.split_once('.').unwrap_or((name, ""));
            Registered {
                name,
                label,
                suffix,
            }
        }
    }
}

/// Says whether a label that begins like an internationalised one is one.
fn is_foreign(label: &str) -> bool {
    let (text, result) = idna::domain_to_unicode(label);
    result.is_ok() && !text.is_ascii()
}

/// The first of `zones` that `name` is or lies below.
fn below(name: &str, zones: &[&'static str]) -> Option<&'static str> {
    zones.iter().copied().find(|zone| {
        name.strip_suffix(zone)
            .is_some_and(|left| left.is_empty() || left.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(chosen(name).as_deref(), Ok(expected), "{name}");
    }

    #[test]
    fn the_label_left_of_the_public_suffix() {
        check("www.example.com", "example");
        check("WWW.Example.COM.", "example");
        check("a.b.example.co.uk", "example");
        check("example.unheard-of", "example");
        check("example", "example");
        check("co.uk", "co");
        // Free names are chosen by whoever takes them.
        check("me.github.io", "me");
        check("deep.me.ddns.net", "me");
        check("kcxpqwuz.dynserv.com", "kcxpqwuz");
        check("dynserv.com", "dynserv");
        check(r"a\032b.example.org", "example");
    }

    #[test]
    fn what_nobody_chose_is_not_judged() {
        let check = |name: &str, expected| assert_eq!(chosen(name), Err(expected), "{name}");
        check("", Unjudged::Empty);
        check(".", Unjudged::Empty);
        check("1.2.0.192.in-addr.arpa", Unjudged::Technical("arpa"));
        check("_dns-sd._udp.local", Unjudged::Technical("local"));
        check("ip-10-0-0-1.ec2.internal", Unjudged::Technical("internal"));
        check(
            "d1a2b3c4.cloudfront.net",
            Unjudged::Provider("cloudfront.net"),
        );
        check("x.zen.spamhaus.org", Unjudged::Provider("spamhaus.org"));
        check("xn--80ak6aa92e.com", Unjudged::Script);
        check(&"a.".repeat(600), Unjudged::TooLong);
        // Near misses.
        assert!(chosen("notlocal.com").is_ok());
        assert!(chosen("mycloudfront.net").is_ok());
        assert!(chosen("xn--.com").is_ok());
    }

    #[test]
    fn odd_text_is_taken_as_it_is() {
        for odd in [
            "..",
            "a..b",
            ".com",
            "..com",
            "-",
            r"\000",
            "ä",
            "ä.example",
            "x.ä",
            "\u{0}",
        ] {
            let _ = chosen(odd);
        }
    }
}
