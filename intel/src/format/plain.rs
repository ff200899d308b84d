//! Plain lists: one indicator a line, `#` or `;` begins a comment. A line is an address, a net, a
//! range, address:port, a domain (which covers all names below), `*.domain` or a URL; a list named
//! `<category>-domains.txt` or `<category>-ips.txt` holds only those. GuardDuty's TXT lists, the
//! lists of Emerging Threats and Tor's bulk list are of this form.

use super::lines::each_line;
use super::{Format, Head, Kind};
use crate::clue::{self, Clue};
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "plain",
    usual: None,
    // Anything might be one; see `recognise` below.
    recognise: |_| false,
    read,
};

/// Whether its first lines all name hosts. A page of prose does not, and no other format either.
pub(super) fn recognise(head: &Head<'_>) -> bool {
    const LINES: usize = 20;
    // The last one may be cut.
    let whole = head
        .text
        .rsplit_once('\n')
        .map_or(&*head.text, |(whole, _)| whole);
    let mut texts = whole
        .lines()
        .map(text_of)
        .filter(|text| !text.is_empty())
        .peekable();
    texts.peek().is_some() && texts.take(LINES).all(|text| clue::any(text).is_ok())
}

/// A line without its comment.
fn text_of(line: &str) -> &str {
    let text = line.split(['#', ';']).next().unwrap_or_default();
    text.trim()
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let read = of_kind(sink.feed().kind);
    each_line(bytes, sink, |sink, at, line| match text_of(line) {
        "" => Ok(()),
        text => sink.put(at, read(text)),
    })
}

/// How a text that names something of this kind is read.
pub(super) fn of_kind(kind: Kind) -> fn(&str) -> Clue {
    match kind {
        Kind::Any => clue::any,
        Kind::Domains => clue::domain,
        Kind::Addresses => clue::addresses,
    }
}

#[cfg(test)]
mod tests {
    use crate::format::FormatError;
    use crate::format::testing::{check, read};
    use crate::report::{Place, Reason};
    use crate::set::SetBuilder;

    #[test]
    fn reads_what_is_sound_and_names_the_rest() {
        let mut builder = SetBuilder::default();
        let text =
            b"\xef\xbb\xbf# pools\r\nPool.Example. # why\r\n\r\npool.example\nnot a domain\n\xff\n";
        let report = builder.read_file("mining-domains.txt", text).unwrap();
        assert_eq!((report.taken, report.repeated, report.refused()), (1, 1, 2));
        assert_eq!(report.notes[0].at, Place::Line(5));
        assert_eq!(report.notes[0].why, "\"not a domain\" is no domain");
        assert_eq!(report.notes[1].why, "not UTF-8");
        let set = builder.build();
        assert_eq!(
            set.match_domain("x.pool.example")[0].list.name,
            "mining-domains"
        );
    }

    #[test]
    fn addresses_nets_and_endpoints() {
        let mut builder = SetBuilder::default();
        let report = builder.read_file("c2-ips.txt", b"192.0.2.1\n2001:db8::/32\n192.0.2.2:4444");
        assert_eq!(report.unwrap().taken, 3);
        let set = builder.build();
        assert_eq!(
            set.match_address("192.0.2.2".parse().unwrap(), 4444).len(),
            1
        );
        assert!(
            set.match_address("192.0.2.2".parse().unwrap(), 80)
                .is_empty()
        );
    }

    #[test]
    fn everything_that_names_a_host() {
        let text = "# GuardDuty's TXT\n192.0.2.1\n198.51.100.0/24\nevil.example\n*.worse.example\n\
                    192.0.2.8-192.0.2.11 ; range\nhxxp://bad[.]example/\n\
                    1.2.3\nnot a host\n192.0.2.1/40\n-\nhttp://shared.example/page\n";
        let expected =
            "192.0.2.1 192.0.2.8/30 198.51.100.0/24 bad.example evil.example worse.example";
        check(
            "plain",
            text,
            expected,
            &[(Reason::Refused, 4), (Reason::NotAHost, 1)],
        );
    }

    #[test]
    fn a_list_named_by_its_category_alone() {
        let report = read("tor-exit-nodes.lst", b"192.0.2.1\n192.0.2.2\n").unwrap();
        assert_eq!((report.taken, &*report.list.name), (2, "tor-exit-nodes"));
        let prose = read("tor-readme.txt", b"A list of relays.\n192.0.2.1\n");
        assert_eq!(prose, Err(FormatError::Unknown));
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let mut builder = SetBuilder::default();
        assert_eq!(
            builder.read_file("README.md", b""),
            Err(FormatError::Unknown)
        );
        let wrong = builder.read_file("bad-domains.txt", b"");
        assert_eq!(
            wrong,
            Err(FormatError::Category {
                file: "bad-domains.txt".into()
            })
        );
    }
}
