//! Zeek's intelligence files: columns apart by tabs, named by the line that begins with `#fields`.

use super::lines::{Columns, each_row, field, fields};
use super::{Format, Head};
use crate::clue;
use crate::indicator::IndicatorError;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "zeek",
    usual: None,
    recognise: |head: &Head<'_>| head.has("#fields\tindicator"),
    read,
};

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let mut header: Option<Columns> = None;
    each_row(bytes, sink, |sink, at, line| {
        if let Some(names) = line.strip_prefix("#fields\t") {
            header = Columns::of(names, '\t');
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        let row = fields(line, '\t').unwrap_or_default();
        let find = |name| field(&row, header.as_ref()?.find(&[name]));
        let (Some(text), Some(sort)) = (find("indicator"), find("indicator_type")) else {
            sink.refuse(
                at,
                "no indicator with its type, or no #fields line before it",
            );
            return Ok(());
        };
        let clue = match sort {
            "Intel::ADDR" | "Intel::SUBNET" => clue::addresses(text),
            "Intel::DOMAIN" => clue::domain(text),
            "Intel::URL" => clue::any(text),
            _ => Err(IndicatorError::OfNoUse(text.to_owned())),
        };
        sink.put(at, clue)
    })
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn rows_by_their_type() {
        let text = "#fields\tindicator\tindicator_type\tmeta.source\tmeta.do_notice\n\
                    192.0.2.1\tIntel::ADDR\tx\tT\n198.51.100.0/24\tIntel::SUBNET\tx\tF\n\
                    evil.example\tIntel::DOMAIN\tx\t-\nbad.example/\tIntel::URL\tx\tT\n\
                    shared.example/page\tIntel::URL\tx\tT\n00ff\tIntel::FILE_HASH\tx\tT\n\
                    192.0.2.300\tIntel::ADDR\tx\tT\nonly.example\n";
        assert_eq!(recognised(text), Some("zeek"));
        let expected = "192.0.2.1 198.51.100.0/24 bad.example evil.example";
        let left_out = [
            (Reason::NotAHost, 1),
            (Reason::OfNoUse, 1),
            (Reason::Refused, 2),
        ];
        check("zeek", text, expected, &left_out);
    }

    #[test]
    fn without_its_columns_nothing_is_read() {
        check(
            "zeek",
            "192.0.2.1\tIntel::ADDR\tx\n",
            "",
            &[(Reason::Refused, 1)],
        );
    }
}
