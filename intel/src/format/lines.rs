//! Lines of text, each with its number, and rows of separated fields.

use std::borrow::Cow;

use crate::limits::{LINE_BYTES_MAX, ROW_BYTES_MAX};
use crate::report::Place;
use crate::set::SetError;
use crate::sink::Sink;

/// Gives each line that holds something to `each`, trimmed. Lines too long or not UTF-8 are refused.
pub(super) fn each_line(
    bytes: &[u8],
    sink: &mut Sink<'_>,
    each: impl FnMut(&mut Sink<'_>, Place, &str) -> Result<(), SetError>,
) -> Result<(), SetError> {
    read(bytes, LINE_BYTES_MAX, sink, each)
}

/// As [`each_line`], for rows of tables and JSON lines, which may be longer.
pub(super) fn each_row(
    bytes: &[u8],
    sink: &mut Sink<'_>,
    each: impl FnMut(&mut Sink<'_>, Place, &str) -> Result<(), SetError>,
) -> Result<(), SetError> {
    read(bytes, ROW_BYTES_MAX, sink, each)
}

fn read(
    bytes: &[u8],
    most: usize,
    sink: &mut Sink<'_>,
    mut each: impl FnMut(&mut Sink<'_>, Place, &str) -> Result<(), SetError>,
) -> Result<(), SetError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let place = Place::Line(at + 1);
        if line.len() > most {
            sink.refuse(place, format!("{} bytes, {most} allowed", line.len()));
            continue;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            sink.refuse(place, "not UTF-8");
            continue;
        };
        let line = line.trim();
        if !line.is_empty() {
            each(sink, place, line)?;
        }
    }
    Ok(())
}

/// The fields of a row, trimmed, without their quotes (RFC 4180, but spaces may stand round a
/// quoted field and no field goes over the end of a line). `None` for a quote that is not closed.
pub(super) fn fields(line: &str, delimiter: char) -> Option<Vec<Cow<'_, str>>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.trim_start_matches(|c: char| c.is_whitespace() && c != delimiter);
        let (field, behind) = match start.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = start.find(delimiter).unwrap_or(start.len());
                let (field, behind) = start.split_at(end);
                (Cow::Borrowed(field.trim()), behind)
            }
        };
        fields.push(field);
        let behind = behind.trim_start_matches(|c: char| c.is_whitespace() && c != delimiter);
        match behind.strip_prefix(delimiter) {
            Some(next) => rest = next,
            None if behind.is_empty() => return Some(fields),
            // Something stands between the closing quote and the delimiter.
            None => return None,
        }
    }
}

/// What stands before the closing quote, and what behind it.
fn unquote(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut from = 0;
    loop {
        let end = from + quoted.get(from..)?.find('"')?;
        match quoted.get(end + 1..)?.strip_prefix('"') {
            Some(_) => from = end + 2,
            None => {
                let field = quoted.get(..end)?;
                let field = match field.contains("\"\"") {
                    true => Cow::Owned(field.replace("\"\"", "\"")),
                    false => Cow::Borrowed(field),
                };
                return Some((field, quoted.get(end + 1..)?));
            }
        }
    }
}

/// Columns of a table by their names, which are compared without case, spaces and quotes.
pub(super) struct Columns(Vec<String>);

impl Columns {
    /// Reads the header line.
    pub(super) fn of(line: &str, delimiter: char) -> Option<Self> {
        let fields = fields(line, delimiter)?;
        let names = fields.iter().map(|name| name.trim().to_ascii_lowercase());
        Some(Self(names.collect()))
    }

    /// The place of the first column with one of these names.
    pub(super) fn find(&self, names: &[&str]) -> Option<usize> {
        let mut found = names.iter().filter_map(|name| {
            let is = |have: &String| have == name;
            self.0.iter().position(is)
        });
        found.next()
    }
}

/// The field of a row, `None` where it is missing or empty.
pub(super) fn field<'a>(row: &'a [Cow<'_, str>], column: Option<usize>) -> Option<&'a str> {
    let text = row.get(column?)?.trim();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&[&str]>) {
        let got = fields(line, ',');
        let got: Option<Vec<&str>> = got.as_ref().map(|f| f.iter().map(AsRef::as_ref).collect());
        assert_eq!(got.as_deref(), expected, "{line}");
    }

    #[test]
    fn rows_come_apart() {
        check("a,b", Some(&["a", "b"]));
        check(" a , b ,", Some(&["a", "b", ""]));
        check(r#""a,1", "b ""x""" ,c"#, Some(&["a,1", "b \"x\"", "c"]));
        check("", Some(&[""]));
        check(r#""a"#, None);
        check(r#""a"x,b"#, None);
        check(r#""""""#, Some(&["\""]));
        check(r#"""""#, None);
        check(r#"a"b,c"#, Some(&["a\"b", "c"]));
        assert_eq!(fields("a\t\tb", '\t').unwrap(), ["a", "", "b"]);
    }

    #[test]
    fn columns_are_found_by_name() {
        let columns = Columns::of(r#""First_Seen", "dst_ip" ,port"#, ',').unwrap();
        assert_eq!(columns.find(&["ip", "dst_ip"]), Some(1));
        assert_eq!(columns.find(&["first_seen"]), Some(0));
        assert_eq!(columns.find(&["none"]), None);
    }
}
