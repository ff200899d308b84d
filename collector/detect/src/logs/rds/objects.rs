//! Cuts a stream of bytes into the JSON objects that stand in it one after the other, with or without
//! commas, line feeds or a list round them.
//!
//! Nothing is parsed here: strings and braces are followed, the rest is for who reads the object.

use super::super::Place;
use super::super::limits::EXPORT_BYTES_MAX;

/// One object, or why it is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// Its bytes.
    Object(&'a [u8]),
    /// It was longer than any may be, and was passed over.
    Long,
    /// Something else stands between the objects, up to the next one.
    Other,
    /// The stream ends in it.
    Unfinished,
}

/// Cuts.
#[derive(Debug)]
pub struct Objects {
    held: Vec<u8>,
    depth: u32,
    in_text: bool,
    escaped: bool,
    is_long: bool,
    /// Something else was told since the last object.
    is_other: bool,
    begin: Place,
    here: Place,
}

impl Default for Objects {
    /// Begins at the beginning of a stream.
    fn default() -> Self {
        let first = Place { byte: 0, line: 1 };
        Self {
            held: Vec::new(),
            depth: 0,
            in_text: false,
            escaped: false,
            is_long: false,
            is_other: false,
            begin: first,
            here: first,
        }
    }
}

impl Objects {
    /// Where the next byte stands.
    pub fn here(&self) -> Place {
        self.here
    }

    /// Takes bytes in and calls `each` with every object that ends in them.
    ///
    /// # Errors
    /// Those of `each`, which end it.
    pub fn push<E>(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(Place, Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            if self.depth == 0 {
                self.between(byte, each)?;
            } else {
                self.within(byte, each)?;
            }
            self.here.byte += 1;
            self.here.line += u64::from(byte == b'\n');
        }
        Ok(())
    }

    /// Says that the stream ends.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn finish<E>(
        &mut self,
        each: &mut dyn FnMut(Place, Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if std::mem::take(&mut self.depth) > 0 {
            each(self.begin, Cut::Unfinished)?;
        }
        self.held.clear();
        Ok(())
    }

    fn between<E>(
        &mut self,
        byte: u8,
        each: &mut dyn FnMut(Place, Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match byte {
            b'{' => {
                self.begin = self.here;
                self.depth = 1;
                self.in_text = false;
                self.escaped = false;
                self.is_long = false;
                self.is_other = false;
                self.held.clear();
                self.held.push(byte);
            }
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[' | b']' => {}
            _ if self.is_other => {}
            _ => {
                self.is_other = true;
                each(self.here, Cut::Other)?;
            }
        }
        Ok(())
    }

    fn within<E>(
        &mut self,
        byte: u8,
        each: &mut dyn FnMut(Place, Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.held.len() >= EXPORT_BYTES_MAX {
            self.is_long = true;
            self.held = Vec::new();
        }
        if !self.is_long {
            self.held.push(byte);
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            b'{' if !self.in_text => self.depth = self.depth.saturating_add(1),
            b'}' if !self.in_text => self.depth -= 1,
            _ => {}
        }
        if self.depth > 0 {
            return Ok(());
        }
        let cut = if self.is_long {
            Cut::Long
        } else {
            Cut::Object(&self.held)
        };
        each(self.begin, cut)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What is cut out of a text that comes in parts of so many bytes: objects, and words for the rest.
    fn cut(text: &[u8], part: usize) -> Vec<(u64, String)> {
        let mut told = Vec::new();
        let mut objects = Objects::default();
        let mut each = |place: Place, cut: Cut<'_>| -> Result<(), Infallible> {
            let text = match cut {
                Cut::Object(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                other => format!("{other:?}"),
            };
            told.push((place.line, text));
            Ok(())
        };
        for part in text.chunks(part) {
            objects.push(part, &mut each).unwrap();
        }
        objects.finish(&mut each).unwrap();
        told
    }

    #[track_caller]
    fn check(text: &str, expected: &[(u64, &str)]) {
        for part in [1, 3, 4_096] {
            let told = cut(text.as_bytes(), part);
            let told: Vec<(u64, &str)> = told.iter().map(|(line, text)| (*line, &**text)).collect();
            assert_eq!(told, expected, "in parts of {part}");
        }
    }

    #[test]
    fn objects_stand_in_any_row() {
        check(
            r#"{"a":1}{"b":{}}"#,
            &[(1, r#"{"a":1}"#), (1, r#"{"b":{}}"#)],
        );
        check("[{},\n {}]\n", &[(1, "{}"), (2, "{}")]);
        check(r#"{"a":"}\"{"}"#, &[(1, r#"{"a":"}\"{"}"#)]);
        check("{\n}\n{\n}", &[(1, "{\n}"), (3, "{\n}")]);
        check("", &[]);
    }

    #[test]
    fn what_is_no_object_is_told_once() {
        check("words {} more", &[(1, "Other"), (1, "{}"), (1, "Other")]);
        check("{}\n}}}\n{}", &[(1, "{}"), (2, "Other"), (3, "{}")]);
        check("{\"a\":", &[(1, "Unfinished")]);
        check("{\"a\":\"}", &[(1, "Unfinished")]);
    }

    #[test]
    fn a_long_one_is_passed_over_and_the_next_is_read() {
        let text = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(EXPORT_BYTES_MAX));
        let told = cut(text.as_bytes(), 1 << 16);
        assert_eq!(told, [(1, "Long".to_owned()), (2, "{}".to_owned())]);
    }
}
