//! The Tor project's `exit-addresses`: blocks of `ExitNode`, `Published`, `LastStatus` and
//! `ExitAddress <address> <date> <time>`. Its bulk list, one address a line, is read too.

use super::lines::each_line;
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::set::SetError;
use crate::sink::{Entry, Sink};
use crate::{clue, date};

pub(super) const FORMAT: Format = Format {
    name: "tor",
    usual: Usual::of(Category::Tor),
    recognise: |head: &Head<'_>| head.first().starts_with("ExitNode "),
    read,
};

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, |sink, at, line| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ExitNode" | "Published" | "LastStatus" => Ok(()),
            "ExitAddress" => {
                let (address, seen) = rest.split_once(' ').unwrap_or((rest, ""));
                let entry = Entry::from(clue::addresses(address));
                sink.put(at, entry.seen(date::read_ms(seen)))
            }
            _ if line.starts_with('#') => Ok(()),
            _ => sink.put(at, clue::addresses(line)),
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    const TEXT: &str = "ExitNode 00AA\nPublished 2025-12-30 01:02:03\nLastStatus 2025-12-30 02:00:00\n\
                        ExitAddress 192.0.2.1 2025-12-30 02:03:04\nExitAddress 192.0.2.2 2025-01-01 00:00:00\n\
                        ExitNode 00BB\nExitAddress nonsense 2025-12-30 02:03:04\n";

    #[test]
    fn exits_with_their_dates() {
        assert_eq!(recognised(TEXT), Some("tor"));
        check("tor", TEXT, "192.0.2.1 192.0.2.2", &[(Reason::Refused, 1)]);
        let fresh = Feed {
            expires_days: Some(7),
            ..feed("tor")
        };
        let left_out = [(Reason::Refused, 1), (Reason::Expired, 1)];
        check_feed(&fresh, TEXT, "192.0.2.1", &left_out);
    }

    #[test]
    fn the_bulk_list() {
        check(
            "tor",
            "192.0.2.1\n2001:db8::1\nx y\n",
            "192.0.2.1 2001:db8::1",
            &[(Reason::Refused, 1)],
        );
    }
}
