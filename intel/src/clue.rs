//! What a feed writes where it names a host, brought to one form: lower case, no final dot, no
//! brackets against clicking, names in ASCII, ranges as nets, URLs as the host they name.
//!
//! A URL names a host only where the whole host is meant: an empty path and no query. Behind a
//! longer one stands a page, and a page on a host shared by thousands must not condemn the host. A
//! URL that gives the address itself names the port on that address, whatever its path, since no
//! name chooses among hosts there.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::indicator::{Indicator, IndicatorError};
use crate::limits::{PREFIX_V4_MIN, PREFIX_V6_MIN, RANGE_NETS_MAX};
use crate::range::Range;

/// What one clue names, or why it names nothing.
pub(crate) type Clue = Result<Vec<Indicator>, IndicatorError>;

/// Reads an address, net, range, endpoint, domain (a port with it is dropped) or URL.
pub(crate) fn any(text: &str) -> Clue {
    let text = &*refang(text.trim());
    if text.contains("://") {
        return url(text);
    }
    match addresses(text) {
        Ok(found) => return Ok(found),
        Err(error @ IndicatorError::PortZero(_)) => return Err(error),
        Err(_) => {}
    }
    if let Some((host, rest)) = text.split_once('/') {
        let nets = host.parse::<IpAddr>().is_ok() && rest.bytes().all(|b| b.is_ascii_digit());
        return match rest {
            // A net that was refused above.
            _ if nets => addresses(text),
            "" => any(host),
            _ if host.is_empty() => Err(IndicatorError::NotAHost(text.to_owned())),
            _ => of_page(host, None, text),
        };
    }
    match port_of(text) {
        Some((host, _)) => domain(host),
        None => domain(text),
    }
}

/// Reads an address, net, range (`a-b`) or endpoint.
pub(crate) fn addresses(text: &str) -> Clue {
    let text = &*refang(text.trim());
    if let Some((from, to)) = text.split_once('-') {
        return between(from.trim(), to.trim());
    }
    Indicator::address(text).map(|one| vec![one])
}

/// Reads the range from one address to another.
pub(crate) fn between(from: &str, to: &str) -> Clue {
    let refuse = || IndicatorError::NotAnAddress(format!("{from}-{to}"));
    let parse = |text: &str| text.parse::<IpAddr>().map(|a| a.to_canonical());
    let (Ok(one), Ok(other)) = (parse(from), parse(to)) else {
        return Err(refuse());
    };
    let range = Range::between(one, other).ok_or_else(refuse)?;
    let widest = if one.is_ipv4() {
        32 - u32::from(PREFIX_V4_MIN)
    } else {
        128 - u32::from(PREFIX_V6_MIN)
    };
    let too_wide = || IndicatorError::TooWide(format!("{from}-{to}"));
    if (range.last - range.first) >> widest > 0 {
        return Err(too_wide());
    }
    range.nets(RANGE_NETS_MAX).ok_or_else(too_wide)
}

/// Reads a domain, in any script.
pub(crate) fn domain(text: &str) -> Clue {
    let text = &*refang(text.trim());
    if text.is_ascii() {
        return Indicator::domain(text).map(|one| vec![one]);
    }
    let bare = text.strip_prefix("*.").unwrap_or(text);
    let ascii = idna::domain_to_ascii(bare);
    let ascii = ascii.map_err(|_| IndicatorError::NotADomain(text.to_owned()))?;
    Indicator::domain(&ascii).map(|one| vec![one])
}

/// Reads a host: an address or a domain, without port or path.
pub(crate) fn host(text: &str) -> Clue {
    let text = &*refang(text.trim());
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Ok(vec![Indicator::Address(address.to_canonical())]);
    }
    domain(text)
}

/// Reads a host and a port: the endpoint, or the domain.
pub(crate) fn host_port(host_text: &str, port: u16) -> Clue {
    let mut found = host(host_text)?;
    if let [Indicator::Address(address)] = *found {
        if port == 0 {
            return Err(IndicatorError::PortZero(format!("{host_text}:0")));
        }
        found = vec![Indicator::Endpoint(SocketAddr::new(address, port))];
    }
    Ok(found)
}

/// Reads a URL by the rule above.
pub(crate) fn url(text: &str) -> Clue {
    let text = &*refang(text.trim());
    let not_a_host = || IndicatorError::NotAHost(text.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(not_a_host)?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host_text = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let usual_port = match &*scheme.to_ascii_lowercase() {
        "http" => Some(80),
        "https" => Some(443),
        "ftp" => Some(21),
        _ => None,
    };
    if !matches!(path, "" | "/") {
        return of_page(host_text, usual_port, text);
    }
    match port_of(host_text) {
        Some((host_text, port)) => host_port(host_text, port),
        None => host(host_text),
    }
}

/// What a page names: the port on its host if that is an address, else no host.
fn of_page(host_text: &str, usual_port: Option<u16>, whole: &str) -> Clue {
    let (host_text, port) = match port_of(host_text) {
        Some((host_text, port)) => (host_text, Some(port)),
        None => (host_text, usual_port),
    };
    let bare = host_text.trim_start_matches('[').trim_end_matches(']');
    match (bare.parse::<IpAddr>(), port) {
        (Ok(address), Some(port)) => Ok(vec![Indicator::Endpoint(SocketAddr::new(
            address.to_canonical(),
            port,
        ))]),
        _ => Err(IndicatorError::NotAHost(whole.to_owned())),
    }
}

/// `host:port`, `[v6]:port`; `None` without a port.
fn port_of(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let one = !host.contains(':') || host.ends_with(']');
    let port = port.parse().ok().filter(|_| digits && one)?;
    Some((host, port))
}

/// Undoes what keeps readers from clicking: `hxxp`, `[.]`, `(dot)` and their like.
fn refang(text: &str) -> Cow<'_, str> {
    let marks = |byte| matches!(byte, b'[' | b'(' | b'{');
    let head = text.as_bytes().get(..4).unwrap_or_default();
    let hx = head.eq_ignore_ascii_case(b"hxxp") || head.eq_ignore_ascii_case(b"hxtp");
    if !hx && !text.bytes().any(marks) {
        return Cow::Borrowed(text);
    }
    let mut plain = text.to_owned();
    if hx {
        plain.replace_range(..4, "http");
    }
    const FANGS: [(&str, &str); 10] = [
        ("[.]", "."),
        ("(.)", "."),
        ("{.}", "."),
        ("[dot]", "."),
        ("(dot)", "."),
        ("{dot}", "."),
        ("[:]", ":"),
        ("[://]", "://"),
        ("[/]", "/"),
        ("[.", "."),
    ];
    for (fang, bare) in FANGS {
        if plain.contains(fang) {
            plain = plain.replace(fang, bare);
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match any(text) {
            Ok(found) => found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(IndicatorError::NotAHost(_)) => "not a host".to_owned(),
            Err(_) => "refused".to_owned(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn what_names_a_host() {
        check("192.0.2.1", "192.0.2.1");
        check(" 192.0.2.77/24 ", "192.0.2.0/24");
        check("192.0.2.0-192.0.2.255", "192.0.2.0/24");
        check("192.0.2.1:4444", "192.0.2.1:4444");
        check("::FFFF:192.0.2.1", "192.0.2.1");
        check("[2001:db8::1]:443", "[2001:db8::1]:443");
        check("Evil.Example.", "evil.example");
        check("*.evil.example", "evil.example");
        check("evil.example:8080", "evil.example");
        check("evil[.]example", "evil.example");
        check("evil(dot)example", "evil.example");
        check("192.0.2[.]1", "192.0.2.1");
        check("bücher.example", "xn--bcher-kva.example");
        check("пример.example", "xn--e1afmkfd.example");
        check("hxxp://evil[.]example/", "evil.example");
        check("https://user:word@Evil.example:8443", "evil.example");
        check("http://192.0.2.1", "192.0.2.1");
        check("http://192.0.2.1:81/", "192.0.2.1:81");
        check("http://192.0.2.1/mozi.m", "192.0.2.1:80");
        check("https://[2001:db8::1]/x", "[2001:db8::1]:443");
        check("evil.example/", "evil.example");
    }

    #[test]
    fn what_names_none() {
        check("http://shared.example/page", "not a host");
        check("https://shared.example/?q=1", "not a host");
        check("shared.example/page", "not a host");
        check("192.0.2.1/page.php", "not a host");
        check("/xmrig/", "not a host");
        check("tcp://192.0.2.1/x", "not a host");
        check("http:///", "refused");
        check("http://", "refused");
        check("192.0.2.1/33", "refused");
        check("0.0.0.0/0", "refused");
        check("0.0.0.0-255.255.255.255", "refused");
        check("192.0.2.1-2001:db8::1", "refused");
        check("1.2.3", "refused");
        check("com", "refused");
        check("", "refused");
        check("two words.example", "refused");
        check("evil.example:", "refused");
        check("evil.example:99999", "refused");
        check("\u{202e}evil.example", "refused");
        check("-", "refused");
        check("/", "refused");
    }
}
