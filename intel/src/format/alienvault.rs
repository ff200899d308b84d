//! AlienVault's reputation list, one of GuardDuty's six: `address#reliability#risk#type#CC#city#
//! latitude,longitude#n`. Reliability is 1 to 10; ten times that is the confidence.

use super::lines::each_line;
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "alienvault",
    usual: Usual::of(Category::Custom),
    recognise,
    read,
};

const COLUMNS: usize = 8;

fn recognise(head: &Head<'_>) -> bool {
    head.first().split('#').count() == COLUMNS
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, |sink, at, line| {
        if line.starts_with('#') {
            return Ok(());
        }
        let mut columns = line.split('#');
        let (Some(host), Some(reliability)) = (columns.next(), columns.next()) else {
            sink.refuse(at, format!("{line:?} has no reliability"));
            return Ok(());
        };
        let reliability: Option<u8> = reliability.trim().parse().ok();
        let sure = reliability.filter(|sure| *sure <= 10).map(|sure| sure * 10);
        sink.put(at, Entry::from(clue::any(host)).sure(sure))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    const TEXT: &str = "# reputation\n192.0.2.1#4#2#Malicious Host#XA##1.5,2.5#3\n\
                        evil.example#9#2#Scanning Host#XA#Town#1.5,2.5#3\n\
                        nonsense here#4#2#x#XA##1,2#3\n192.0.2.300\n";

    #[test]
    fn addresses_and_names() {
        assert_eq!(recognised(TEXT), Some("alienvault"));
        check(
            "alienvault",
            TEXT,
            "192.0.2.1 evil.example",
            &[(Reason::Refused, 2)],
        );
    }

    #[test]
    fn reliability_is_confidence() {
        let sure = super::super::Feed {
            confidence_min: 50,
            ..feed("alienvault")
        };
        let left_out = [(Reason::Refused, 2), (Reason::BelowConfidence, 1)];
        check_feed(&sure, TEXT, "evil.example", &left_out);
    }
}
