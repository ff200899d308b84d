//! Spamhaus DROP: nets taken over or let by criminals, as JSON lines or as text (`net ; SBL`). What
//! comes from there and what goes there counts; the nets are wide, so the confidence is less than
//! that of a single server.
//!
//! Credit: The Spamhaus Project, (c) as said in the feed's own last line, which stays with its file.

use serde::Deserialize;

use super::lines::each_row;
use super::{Format, Head, Usual, json};
use crate::category::Category;
use crate::clue;
use crate::list::Direction;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "spamhaus",
    usual: Some(Usual {
        category: Category::C2,
        direction: Some(Direction::Both),
        // Chosen by hand: the net is bad, but not every host in it a command server.
        confidence: Some(60),
    }),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    let json = head.first().starts_with('{');
    (json && head.has("\"cidr\"") && head.has("\"sblid\""))
        || (json && head.first().starts_with("{\"asn\":") && head.has("\"rir\""))
        || head.has("; Spamhaus") && head.has("DROP")
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(default, borrow)]
    cidr: Option<&'a str>,
    #[serde(default)]
    asn: Option<u64>,
    #[serde(default, borrow, rename = "type")]
    sort: Option<&'a str>,
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_row(bytes, sink, |sink, at, line| {
        if !line.starts_with('{') {
            return match line.split(';').next().unwrap_or_default().trim() {
                "" => Ok(()),
                net => sink.put(at, clue::addresses(net)),
            };
        }
        let Some(record) = json::record::<Record<'_>>(sink, at, line) else {
            return Ok(());
        };
        match record {
            Record {
                cidr: Some(net), ..
            } => sink.put(at, clue::addresses(net)),
            Record {
                sort: Some("metadata"),
                ..
            } => Ok(()),
            Record { asn: Some(asn), .. } => {
                sink.pass_over(at, || format!("AS{asn} names no net"));
                Ok(())
            }
            _ => {
                sink.refuse(at, "neither cidr nor metadata");
                Ok(())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn json_lines() {
        let text = "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"apnic\"}\n\
                    {\"cidr\":\"2001:db8::/32\",\"sblid\":\"SBL2\",\"rir\":\"ripencc\"}\n\
                    {\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL3\",\"rir\":\"apnic\"}\n\
                    {\"cidr\":\"192.0.2.0\n{\"cidr\":\"nonsense\"}\n{}\n\
                    {\"type\":\"metadata\",\"timestamp\":1,\"size\":2,\"records\":3,\"copyright\":\"(c)\"}\n";
        assert_eq!(recognised(text), Some("spamhaus"));
        check(
            "spamhaus",
            text,
            "192.0.2.0/24 2001:db8::/32",
            &[(Reason::Refused, 3)],
        );
    }

    #[test]
    fn text_and_networks_by_number() {
        let text = "; Spamhaus DROP List\n192.0.2.0/24 ; SBL1\n198.51.100.0/24\nnonsense ; SBL2\n";
        assert_eq!(recognised(text), Some("spamhaus"));
        check(
            "spamhaus",
            text,
            "192.0.2.0/24 198.51.100.0/24",
            &[(Reason::Refused, 1)],
        );
        let text = "{\"asn\":64496,\"rir\":\"arin\",\"domain\":\"x.example\",\"cc\":\"XA\",\"asname\":\"X\"}\n";
        assert_eq!(recognised(text), Some("spamhaus"));
        check("spamhaus", text, "", &[(Reason::OfNoUse, 1)]);
    }
}
