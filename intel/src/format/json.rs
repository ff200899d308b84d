//! Records of a JSON document, one at a time, so that neither the document nor a broken record
//! stands in the way of the others.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::report::Place;
use crate::set::SetError;
use crate::sink::Sink;

/// Where the records of a document are.
pub(super) struct Shape {
    /// Keys below which to look on; `"*"` stands for every key.
    pub(super) inside: &'static [&'static str],
    /// Keys whose value is an array of records; `"*"` stands for every key.
    pub(super) records: &'static [&'static str],
    /// Whether the document itself may be an array of records.
    pub(super) bare: bool,
}

/// Reads a record.
type Each<'e> = dyn FnMut(&mut Sink<'_>, Place, &str) -> Result<(), SetError> + 'e;

/// Gives each record to `each` with its place. Where the document breaks off, what stood before
/// it has been given.
pub(super) fn each_record(
    bytes: &[u8],
    shape: &Shape,
    sink: &mut Sink<'_>,
    each: &mut Each<'_>,
) -> Result<(), SetError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            sink.broke_off(Place::Byte(at), "not UTF-8");
            // What stands before it is read all the same.
            str::from_utf8(bytes.get(..at).unwrap_or_default()).unwrap_or_default()
        }
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut full = None;
    let walk = Walk {
        shape,
        level: if shape.bare {
            Level::Records
        } else {
            Level::Inside
        },
        text,
        sink: &mut *sink,
        each,
        full: &mut full,
    };
    let ended = walk.deserialize(&mut reader).and_then(|()| reader.end());
    if let Some(full) = full {
        return Err(full);
    }
    if let Err(error) = ended {
        let at = Place::Line(error.line());
        sink.broke_off(at, error.to_string());
    }
    Ok(())
}

/// Reads a record as a value of known shape; if it is none, says so and gives `None`.
pub(super) fn record<'t, T: serde::Deserialize<'t>>(
    sink: &mut Sink<'_>,
    at: Place,
    text: &'t str,
) -> Option<T> {
    match serde_json::from_str(text) {
        Ok(record) => Some(record),
        Err(error) => {
            sink.refuse(at, error.to_string());
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Something to look into.
    Inside,
    /// An array of records.
    Records,
}

struct Walk<'w, 't, 's, 'e> {
    shape: &'w Shape,
    level: Level,
    text: &'t str,
    sink: &'w mut Sink<'s>,
    each: &'w mut Each<'e>,
    full: &'w mut Option<SetError>,
}

impl<'s, 'e> Walk<'_, '_, 's, 'e> {
    fn below(&mut self, level: Level) -> Walk<'_, '_, 's, 'e> {
        Walk {
            shape: self.shape,
            level,
            text: self.text,
            sink: &mut *self.sink,
            each: &mut *self.each,
            full: &mut *self.full,
        }
    }

    fn give(&mut self, raw: &RawValue) -> bool {
        let begin = self.text.as_ptr().addr();
        let at = raw.get().as_ptr().addr().saturating_sub(begin);
        match (self.each)(self.sink, Place::Byte(at), raw.get()) {
            Ok(()) => true,
            Err(error) => {
                *self.full = Some(error);
                false
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let is = |keys: &[&str], key: &str| keys.iter().any(|known| *known == key || *known == "*");
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if is(self.shape.records, &key) {
                map.next_value_seed(self.below(Level::Records))?;
            } else if is(self.shape.inside, &key) {
                map.next_value_seed(self.below(Level::Inside))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        if self.level == Level::Inside {
            while array
                .next_element_seed(self.below(Level::Inside))?
                .is_some()
            {}
            return Ok(());
        }
        while let Some(raw) = array.next_element::<&'de RawValue>()? {
            if !self.give(raw) {
                return Err(serde::de::Error::custom("the set is full"));
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
