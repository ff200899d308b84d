//! Proofpoint's ET CSV, one of GuardDuty's six: `ip` or `domain`, `category, score, first_seen,
//! last_seen, ports (|)`. The score, 0 to 127, is the confidence; ports are those seen and no
//! condition, as in GuardDuty.

use super::lines::{each_row, field, fields};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::set::SetError;
use crate::sink::{Entry, Sink};
use crate::{clue, date};

pub(super) const FORMAT: Format = Format {
    name: "proofpoint",
    usual: Usual::of(Category::Custom),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    is_header(head.first())
}

fn is_header(line: &str) -> bool {
    let line = line.to_ascii_lowercase().replace(['"', ' '], "");
    line.starts_with("ip,category,score") || line.starts_with("domain,category,score")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_row(bytes, sink, |sink, at, line| {
        if is_header(line) || line.starts_with('#') {
            return Ok(());
        }
        let row = fields(line, ',').unwrap_or_default();
        let Some(host) = field(&row, Some(0)).filter(|_| row.len() > 2) else {
            sink.refuse(at, format!("{line:?} has no host with a score"));
            return Ok(());
        };
        let score: Option<u8> = field(&row, Some(2)).and_then(|score| score.parse().ok());
        let entry = Entry::from(clue::any(host))
            .sure(score.map(|score| score.min(100)))
            .seen(field(&row, Some(4)).and_then(date::read_ms));
        sink.put(at, entry)
    })
}

#[cfg(test)]
mod tests {
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    const TEXT: &str = "ip, category, score, first_seen, last_seen, ports (|)\n\
                        192.0.2.1, 1, 100, 2000-01-01, 2025-12-30,\n\
                        evil.example, 1, 127, 2000-01-01, 2025-12-30, 80|443\n\
                        192.0.2.2, 1, 20, 2000-01-01, 2000-01-01, 80\n\
                        192.0.2.3\nno host, 1, 2\n, 1, 2, 3\n";

    #[test]
    fn hosts_with_their_score() {
        assert_eq!(recognised(TEXT), Some("proofpoint"));
        assert_eq!(
            recognised("domain, category, score, x\n"),
            Some("proofpoint")
        );
        let expected = "192.0.2.1 192.0.2.2 evil.example";
        check("proofpoint", TEXT, expected, &[(Reason::Refused, 3)]);
    }

    #[test]
    fn doubtful_and_old_ones() {
        let sure = Feed {
            confidence_min: 50,
            ..feed("proofpoint")
        };
        let left_out = [(Reason::Refused, 3), (Reason::BelowConfidence, 1)];
        check_feed(&sure, TEXT, "192.0.2.1 evil.example", &left_out);
        let fresh = Feed {
            expires_days: Some(30),
            ..feed("proofpoint")
        };
        let left_out = [(Reason::Refused, 3), (Reason::Expired, 1)];
        check_feed(&fresh, TEXT, "192.0.2.1 evil.example", &left_out);
    }
}
