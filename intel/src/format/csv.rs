//! Any table with a column of indicators, as `feeds.toml` describes it.

use serde::{Deserialize, Serialize};

use super::lines::{Columns, each_row, field, fields};
use super::{Format, plain};
use crate::date;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "csv",
    usual: None,
    // Which of its columns counts has to be said.
    recognise: |_| false,
    read,
};

/// How a table is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Csv {
    /// What stands between two fields: `,`.
    pub delimiter: char,
    /// The column with the indicators: the first.
    pub column: Column,
    /// Whether the first line that is no comment names the columns; it does if `column` is a name.
    pub header: bool,
    /// What begins a comment, at the start of a line: `#`. Empty for none.
    pub comment: String,
    /// The column with the port of an address, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Column>,
    /// The column with the confidence (0 to 100), if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Column>,
    /// The column with the date on which it was last seen, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Column>,
    /// The column with the date on which it ends, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Column>,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            delimiter: ',',
            column: Column::Number(1),
            header: false,
            comment: "#".to_owned(),
            port: None,
            confidence: None,
            seen: None,
            expires: None,
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// By its place, from 1.
    Number(u16),
    /// By its name in the header.
    Name(String),
}

impl Column {
    fn place(&self, header: Option<&Columns>) -> Option<usize> {
        match self {
            Self::Number(number) => usize::from(*number).checked_sub(1),
            Self::Name(name) => header?.find(&[&name.to_ascii_lowercase()]),
        }
    }
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let (csv, read) = (&sink.feed().csv, plain::of_kind(sink.feed().kind));
    let columns = [
        Some(&csv.column),
        csv.port.as_ref(),
        csv.confidence.as_ref(),
    ];
    let columns = columns
        .into_iter()
        .chain([csv.seen.as_ref(), csv.expires.as_ref()]);
    let named = |column: Option<&Column>| matches!(column, Some(Column::Name(_)));
    let mut expect_header = csv.header || columns.clone().any(named);
    let mut header = None;
    let mut missing = false;
    each_row(bytes, sink, |sink, at, line| {
        if missing || (!csv.comment.is_empty() && line.starts_with(&csv.comment)) {
            return Ok(());
        }
        if std::mem::take(&mut expect_header) {
            header = Columns::of(line, csv.delimiter);
            let lost = columns
                .clone()
                .flatten()
                .find(|c| c.place(header.as_ref()).is_none());
            if let Some(lost) = lost {
                sink.broke_off(at, format!("the header has no column {lost:?}"));
                missing = true;
            }
            return Ok(());
        }
        let Some(row) = fields(line, csv.delimiter) else {
            sink.refuse(at, "a quote is not closed");
            return Ok(());
        };
        let find = |column: &Column| field(&row, column.place(header.as_ref()));
        let Some(text) = find(&csv.column) else {
            sink.refuse(at, format!("nothing in column {:?}", csv.column));
            return Ok(());
        };
        let in_column = |column: &Option<Column>| column.as_ref().and_then(find);
        let port = in_column(&csv.port).and_then(|port| port.parse().ok());
        let clue = match port {
            Some(port) => crate::clue::host_port(text, port),
            None => read(text),
        };
        let entry = Entry::from(clue)
            .sure(in_column(&csv.confidence).and_then(|sure| sure.parse().ok()))
            .seen(in_column(&csv.seen).and_then(date::read_ms))
            .until(in_column(&csv.expires).and_then(date::read_ms));
        sink.put(at, entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Feed;
    use crate::format::testing::{check_feed, feed};
    use crate::report::Reason;

    fn table(csv: Csv) -> Feed {
        Feed { csv, ..feed("csv") }
    }

    #[test]
    fn by_number() {
        let by_number = table(Csv {
            delimiter: ';',
            column: Column::Number(2),
            ..Csv::default()
        });
        let text =
            "# comment\n1;192.0.2.1;x\n2; \"evil.example\" ;y\n3;\n4;\"broken\n5;no host;z\n";
        check_feed(
            &by_number,
            text,
            "192.0.2.1 evil.example",
            &[(Reason::Refused, 3)],
        );
    }

    #[test]
    fn by_name_with_dates_and_ports() {
        let name = |name: &str| Column::Name(name.to_owned());
        let mut by_name = table(Csv {
            column: name("IP"),
            port: Some(name("port")),
            confidence: Some(name("sure")),
            seen: Some(name("seen")),
            expires: Some(name("until")),
            ..Csv::default()
        });
        by_name.confidence_min = 50;
        by_name.expires_days = Some(30);
        let text = "id,ip,Port,Sure,Seen,Until\n\
                    1,192.0.2.1,443,90,2025-12-30,\n\
                    2,192.0.2.2,,,,2026-02-01\n\
                    3,192.0.2.3,80,40,2025-12-30,\n\
                    4,192.0.2.4,80,90,2025-11-30,\n\
                    5,192.0.2.5,80,90,2025-12-30,2025-12-31\n";
        let left_out = [(Reason::BelowConfidence, 1), (Reason::Expired, 2)];
        check_feed(&by_name, text, "192.0.2.1:443 192.0.2.2", &left_out);
    }

    #[test]
    fn a_table_without_its_column_is_not_read() {
        let lost = table(Csv {
            column: Column::Name("ip".to_owned()),
            ..Csv::default()
        });
        let mut builder = crate::SetBuilder::default();
        let report = builder.read_feed(&lost, "file", b"id,address\n1,192.0.2.1\n");
        let report = report.unwrap();
        assert_eq!(report.taken, 0);
        assert!(report.broken.unwrap().1.contains("no column"));
    }
}
