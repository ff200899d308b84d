//! FireEye iSIGHT's CSV, one of GuardDuty's six: of its 47 columns `ip`, `cidr` and `domain` name
//! hosts, `url` where it stands for the whole host. Rows about files and mails name none. Ports are
//! not taken: GuardDuty matches the address, and a list must not lose by moving.

use super::lines::{Columns, each_row, field, fields};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::set::SetError;
use crate::sink::{Entry, Sink};
use crate::{clue, date};

pub(super) const FORMAT: Format = Format {
    name: "fireeye",
    usual: Usual::of(Category::Custom),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    let first = head.first().to_ascii_lowercase();
    first.starts_with("reportid") && first.contains("networkidentifier")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let mut header: Option<Columns> = None;
    each_row(bytes, sink, |sink, at, line| {
        let Some(columns) = &header else {
            header = Columns::of(line, ',');
            return Ok(());
        };
        let Some(row) = fields(line, ',') else {
            sink.refuse(at, "a quote is not closed");
            return Ok(());
        };
        let find = |name: &str| field(&row, columns.find(&[name]));
        let seen = find("observationtime").and_then(date::read_ms);
        let clues = [
            find("ip").map(clue::host),
            find("cidr").map(clue::addresses),
            find("domain").map(clue::domain),
            // A page is named by its domain's column, if its host is meant.
            find("url")
                .map(clue::url)
                .filter(|_| find("domain").is_none()),
        ];
        let mut named = false;
        for clue in clues.into_iter().flatten() {
            named = true;
            sink.put(at, Entry::from(clue).seen(seen))?;
        }
        if !named {
            sink.pass_over(at, || "no ip, cidr, domain or url".to_owned());
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    /// A row of all columns with these filled in.
    fn row(header: &str, values: &[(&str, &str)]) -> String {
        let value = |column: &str| {
            let found = values.iter().find(|(name, _)| *name == column.trim());
            found.map_or("", |(_, value)| *value)
        };
        let row: Vec<&str> = header.split(',').map(value).collect();
        row.join(", ")
    }

    #[test]
    fn rows_that_name_hosts() {
        let header = "reportId, title, intelligenceType, sha256, asn, cidr, domain, \
                      networkIdentifier, ip, port, protocol, url, observationTime";
        let rows = [
            row(header, &[("cidr", "192.0.2.0/24"), ("title", "\"a, b\"")]),
            row(header, &[("ip", "198.51.100.1"), ("port", "8080")]),
            row(
                header,
                &[("domain", "evil.example"), ("url", "http://evil.example/x")],
            ),
            row(header, &[("url", "https://bad.example/")]),
            row(header, &[("sha256", "00ff")]),
            row(header, &[("url", "http://shared.example/page")]),
            row(header, &[("ip", "198.51.100.300")]),
            "01-2, \"open".to_owned(),
        ];
        let text = format!("{header}\n\n{}\n", rows.join("\n\n"));
        assert_eq!(recognised(&text), Some("fireeye"));
        let expected = "192.0.2.0/24 198.51.100.1 bad.example evil.example";
        let left_out = [
            (Reason::OfNoUse, 1),
            (Reason::NotAHost, 1),
            (Reason::Refused, 2),
        ];
        check("fireeye", &text, expected, &left_out);
    }
}
