//! IPsum: addresses, each with the number of lists that it stands on (`address<TAB>number`). One
//! list in five makes a fifth of the confidence; the levels of one column say it by their name.

use super::lines::each_line;
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "ipsum",
    usual: Usual::of(Category::Scanner),
    recognise,
    read,
};

/// Confidence that each list adds: five lists that agree are as sure as it gets. Chosen by hand.
const PER_LIST: u8 = 20;

fn recognise(head: &Head<'_>) -> bool {
    let counted = head
        .first()
        .split_once('\t')
        .is_some_and(|(address, count)| {
            let count = count.parse::<u8>();
            address.parse::<std::net::IpAddr>().is_ok() && count.is_ok()
        });
    counted || head.has("# IPsum")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, |sink, at, line| {
        if line.starts_with('#') {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let address = words.next().unwrap_or_default();
        let lists: Option<u8> = words.next().and_then(|count| count.parse().ok());
        let sure = lists.map(|lists| lists.saturating_mul(PER_LIST).min(100));
        sink.put(at, Entry::from(clue::addresses(address)).sure(sure))
    })
}

#[cfg(test)]
mod tests {
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, read, recognised};
    use crate::list::Direction;
    use crate::report::Reason;

    const TEXT: &str = "# IPsum Threat Intelligence Feed\n#\n192.0.2.1\t8\n192.0.2.2\t1\n\
                        192.0.2.300\t3\nnonsense\n";

    #[test]
    fn addresses_with_their_lists() {
        assert_eq!(recognised(TEXT), Some("ipsum"));
        assert_eq!(recognised("192.0.2.1\t3\n"), Some("ipsum"));
        check(
            "ipsum",
            TEXT,
            "192.0.2.1 192.0.2.2",
            &[(Reason::Refused, 2)],
        );
        let sure = Feed {
            confidence_min: 60,
            ..feed("ipsum")
        };
        let left_out = [(Reason::Refused, 2), (Reason::BelowConfidence, 1)];
        check_feed(&sure, TEXT, "192.0.2.1", &left_out);
    }

    #[test]
    fn they_attack_and_are_not_called() {
        let list = read("ipsum.txt", TEXT.as_bytes()).unwrap().list;
        assert_eq!(list.direction, Direction::Inbound);
    }
}
