//! Files for `/etc/hosts` that send names nowhere: `0.0.0.0 host …`. What counts is the names; the
//! names that every such file gives to the host itself do not.

use super::lines::each_line;
use super::{Format, Head};
use crate::clue;
use crate::report::Place;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "hosts",
    usual: None,
    recognise,
    read,
};

/// Names that stand for this host or its links (hosts(5), and Debian's and Apple's default files).
const OWN: [&str; 12] = [
    "0.0.0.0",
    "broadcasthost",
    "ip6-allhosts",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-localhost",
    "ip6-localnet",
    "ip6-loopback",
    "ip6-mcastprefix",
    "local",
    "localhost",
    "localhost.localdomain",
];

fn recognise(head: &Head<'_>) -> bool {
    is_hosts(head) && !head.has("URLhaus")
}

/// Whether the first entry sends a name nowhere.
pub(super) fn is_hosts(head: &Head<'_>) -> bool {
    let mut words = head.first().split_whitespace();
    let nowhere = words
        .next()
        .is_some_and(|a| matches!(a, "127.0.0.1" | "0.0.0.0" | "::1" | "::"));
    nowhere && words.next().is_some_and(|name| !name.starts_with('#'))
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, entry)
}

/// Takes the names of one line.
pub(super) fn entry(sink: &mut Sink<'_>, at: Place, line: &str) -> Result<(), SetError> {
    let text = line.split('#').next().unwrap_or_default();
    let mut words = text.split_whitespace();
    let Some(address) = words.next() else {
        return Ok(());
    };
    let mut names = words.peekable();
    if address.parse::<std::net::IpAddr>().is_err() || names.peek().is_none() {
        // Fe80::1%lo0 is an address to hosts(5).
        if !address.contains('%') {
            sink.refuse(at, format!("{line:?} is no address with names"));
        }
        return Ok(());
    }
    for name in names.filter(|name| !OWN.contains(name)) {
        sink.put(at, clue::domain(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn names_that_are_sent_nowhere() {
        let text = "# bad hosts\n127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n\
                    0.0.0.0 Evil.example worse.example # both\n127.0.0.1\tbad.example\n\
                    0.0.0.0\nevil.example\n0.0.0.0 nonsense\n";
        assert_eq!(recognised(text), Some("hosts"));
        let expected = "bad.example evil.example worse.example";
        check("hosts", text, expected, &[(Reason::Refused, 3)]);
    }
}
