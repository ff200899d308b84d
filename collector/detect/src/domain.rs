//! Whose a DNS name is: the part that somebody registered, and what stands below it.
//!
//! By Mozilla's public suffix list (publicsuffix.org), which the `psl` crate carries. Names are in
//! presentation form, lower case, without the final dot.

/// What a name stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ground {
    /// Registered below a registry's suffix: `example.co.uk`.
    Registry,
    /// Given by a company to a customer: `someone.github.io`.
    Private,
    /// Below a top that no registry has: a network's own names, or those kept for documents. Its last
    /// two labels are taken for the registered part.
    Unlisted,
    /// Below nothing that could be a top: its last label is not of letters.
    Nowhere,
}

/// A name, cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned<'a> {
    /// What stands below the registered part; empty if the name is that part itself.
    pub(crate) below: &'a str,
    /// The registered part; empty where there is none ([`Ground::Nowhere`]).
    pub(crate) domain: &'a str,
    pub(crate) ground: Ground,
}

/// Cuts a name in two. `None` for the root, a single label and a public suffix.
pub(crate) fn owned(name: &str) -> Option<Owned<'_>> {
    let (_, top) = name.rsplit_once('.')?;
    let is_top =
        !top.is_empty() && (top.bytes().all(|b| b.is_ascii_lowercase()) || top.starts_with("xn--"));
    if !is_top {
        return Some(Owned {
            below: name,
            domain: "",
            ground: Ground::Nowhere,
        });
    }
    let found = psl::domain(name.as_bytes())?;
    let at = name.len().checked_sub(found.as_bytes().len())?;
    let (below, domain) = name.split_at_checked(at)?;
    let ground = match found.suffix().typ() {
        Some(psl::Type::Icann) => Ground::Registry,
        Some(psl::Type::Private) => Ground::Private,
        None => Ground::Unlisted,
    };
    Some(Owned {
        below: below.strip_suffix('.').unwrap_or(below),
        domain,
        ground,
    })
}

/// Says whether `name` is `zone` or stands below it.
pub(crate) fn is_in(name: &str, zone: &str) -> bool {
    let rest = name.strip_suffix(zone);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Tops that a network uses for itself and nobody can register: RFC 6761, RFC 6762 (and its appendix G),
/// RFC 8375, and `internal`, which ICANN has set aside (resolution 2024.07.29.06).
const INTERNAL: &[&str] = &[
    "arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "private",
    "test",
];

/// Says whether a name can only be a network's own: a single label, or below such a top.
pub(crate) fn is_internal(name: &str) -> bool {
    match name.rsplit_once('.') {
        None => true,
        Some((_, top)) => INTERNAL.contains(&top),
    }
}

/// Says whether a text looks like data: bytes that no host name has, many digits, or long runs without a
/// vowel. Chosen by hand: base32 has a fifth of digits, hexadecimal more than half, names of machines a
/// twentieth.
pub(crate) fn is_dense(text: &str) -> bool {
    const DIGITS_SHARE_MIN: f64 = 0.12;
    const CONSONANTS_MIN: usize = 6;
    if text.contains('\\') {
        return true;
    }
    let count = text.bytes().filter(|b| *b != b'.').count();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let runs = text.split(|c: char| !c.is_ascii_alphabetic() || "aeiouy".contains(c));
    digits as f64 >= DIGITS_SHARE_MIN * count as f64
        || runs.map(str::len).max().unwrap_or(0) >= CONSONANTS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_words() {
        for data in [
            "010801f500bd5d94",
            "mzxw6ytboi3w2zlt",
            r"12ebv82\202",
            "xkqjzwvbnt",
        ] {
            assert!(is_dense(data), "{data}");
        }
        for words in [
            "images.static-eu-west",
            "login.customer-portal",
            "analytics.collector",
        ] {
            assert!(!is_dense(words), "{words}");
        }
    }

    #[test]
    fn names_are_cut_where_somebody_registered() {
        let check = |name: &str, expected: Option<(&str, &str, Ground)>| {
            let got = owned(name).map(|one| (one.below, one.domain, one.ground));
            assert_eq!(got, expected, "{name}");
        };
        check(
            "a.b.example.com",
            Some(("a.b", "example.com", Ground::Registry)),
        );
        check("example.com", Some(("", "example.com", Ground::Registry)));
        check(
            "a.example.co.uk",
            Some(("a", "example.co.uk", Ground::Registry)),
        );
        check(
            "a.me.duckdns.org",
            Some(("a", "me.duckdns.org", Ground::Private)),
        );
        check("t.pirate.sea", Some(("t", "pirate.sea", Ground::Unlisted)));
        let bare = "tun.010801f500bd5d9465";
        check(bare, Some((bare, "", Ground::Nowhere)));
        check(r"a\200.b\201", Some((r"a\200.b\201", "", Ground::Nowhere)));
        check("co.uk", None);
        check("host", None);
        check("", None);
        check("a.", Some(("a.", "", Ground::Nowhere)));
    }

    #[test]
    fn zones_hold_what_stands_below_them() {
        assert!(is_in("a.example.com", "example.com") && is_in("example.com", "example.com"));
        assert!(!is_in("anexample.com", "example.com") && !is_in("com", "example.com"));
    }

    #[test]
    fn a_networks_own_names_are_known() {
        for own in [
            "host",
            "ip-10-0-0-1.ec2.internal",
            "a.local",
            "1.0.0.10.in-addr.arpa",
        ] {
            assert!(is_internal(own), "{own}");
        }
        for public in ["example.com", "internal.example.com", "a.example"] {
            assert!(!is_internal(public), "{public}");
        }
    }
}
