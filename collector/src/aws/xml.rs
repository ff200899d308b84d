//! The texts of an XML answer, by the path of their element.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::AwsError;
use super::limits::XML_DEPTH_MAX;

/// Calls `each` with every element that ends: its path (`ListBucketResult/Contents/Key`) and its own
/// text.
///
/// # Errors
/// It is no XML, or nested deeper than an answer is.
pub(super) fn for_each(body: &[u8], each: &mut dyn FnMut(&str, String)) -> Result<(), AwsError> {
    let bad = |why: &str| AwsError::Answer(format!("no XML that is understood: {why}"));
    let text = std::str::from_utf8(body).map_err(|_| bad("not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let (mut path, mut ends, mut value) = (String::new(), Vec::new(), String::new());
    loop {
        match reader
            .read_event()
            .map_err(|error| bad(&error.to_string()))?
        {
            Event::Start(element) => {
                if ends.len() == XML_DEPTH_MAX {
                    return Err(bad("nested too deep"));
                }
                ends.push(path.len());
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(element.local_name().as_ref());
                value.clear();
            }
            Event::End(_) => {
                each(&path, std::mem::take(&mut value));
                path.truncate(ends.pop().unwrap_or(0));
            }
            Event::Text(part) => value.push_str(&part),
            Event::CData(part) => value.push_str(&part),
            Event::GeneralRef(reference) => value.push_str(match &*reference {
                "amp" => "&",
                "lt" => "<",
                "gt" => ">",
                "apos" => "'",
                "quot" => "\"",
                _ => "\u{fffd}",
            }),
            Event::Eof => {
                return if ends.is_empty() {
                    Ok(())
                } else {
                    Err(bad("ends in the middle"))
                };
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, AwsError> {
        let mut out = Vec::new();
        for_each(text.as_bytes(), &mut |path, value| {
            out.push((path.to_owned(), value));
        })?;
        Ok(out)
    }

    #[test]
    fn texts_come_with_their_paths() {
        let read =
            read("<?xml version=\"1.0\"?><a xmlns=\"x\"><b>1 &amp; 2</b><b><c>3</c></b><d/></a>");
        let expected = [("a/b", "1 & 2"), ("a/b/c", "3"), ("a/b", ""), ("a", "")];
        let expected = expected.map(|(path, value)| (path.to_owned(), value.to_owned()));
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["<a><b>", "<a></b>", &"<a>".repeat(100)] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(for_each(b"\xff", &mut |_, _| {}).is_err());
    }
}
