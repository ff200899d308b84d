//! Reading JSON that may hold anything in any place.
//!
//! Log records come from exporters of every kind: numbers stand where text should, text where an
//! object should, keys appear twice. A member of the wrong type is taken as absent or as its text,
//! never as a reason to refuse the record, since a refused record is one nobody analyses.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A part of a record that is kept as text and parsed when somebody first looks at it.
///
/// Most records pass every detection on their name alone; their parameters are never asked for.
/// Dereferences to the parsed [`Value`]: `call.request_parameters["name"].as_str()`.
#[derive(Default, Clone)]
pub struct Lazy {
    /// JSON text; empty for null and for what was absent.
    raw: String,
    value: OnceLock<Value>,
}

impl Lazy {
    /// Keeps `raw`, which must be JSON: anything else reads as null.
    pub fn new(raw: &str) -> Self {
        Self::in_room(raw, String::new())
    }

    /// As [`Lazy::new`], in the place of another text that nobody wants any more.
    pub(crate) fn in_room(raw: &str, mut room: String) -> Self {
        room.clear();
        if raw != "null" {
            room.push_str(raw);
        }
        Self {
            raw: room,
            value: OnceLock::new(),
        }
    }

    /// The room that its text takes.
    pub(crate) fn into_room(self) -> String {
        self.raw
    }

    /// Says whether it was null or absent. Parses nothing.
    pub fn is_absent(&self) -> bool {
        self.raw.is_empty()
    }

    /// The JSON text as it arrived, empty if null or absent. Parses nothing: good for a quick
    /// `contains` before asking for the value.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The text of member `key`, if this is an object and the member is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        if self.raw.is_empty() {
            return None;
        }
        self.get(key)?.as_str()
    }
}

impl Deref for Lazy {
    type Target = Value;

    /// Parses on first use. An object written as JSON inside a text is unfolded once.
    fn deref(&self) -> &Value {
        self.value.get_or_init(|| {
            let value = serde_json::from_str(&self.raw).unwrap_or(Value::Null);
            match &value {
                Value::String(text) if text.starts_with(['{', '[']) => {
                    serde_json::from_str(text).unwrap_or(value)
                }
                _ => value,
            }
        })
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.raw.is_empty() {
            "null"
        } else {
            &self.raw
        })
    }
}

impl PartialEq for Lazy {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<'de> Deserialize<'de> for Lazy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(from).map(|raw| Self::new(raw.get()))
    }
}

/// Text, or what stands in its place: numbers and booleans as written, the first of a list, else
/// nothing. Empty text is nothing.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) Option<Box<str>>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text((!text.is_empty()).then(|| text.into())))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
                Ok(Text(Some(if value { "true" } else { "false" }.into())))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
                Ok(Text(Some(value.to_string().into())))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
                Ok(Text(Some(value.to_string().into())))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Text, E> {
                Ok(Text(Some(value.to_string().into())))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                let first: Option<Text> = list.next_element()?;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first.unwrap_or_default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }

        from.deserialize_any(Any)
    }
}

impl Text {
    /// Reads a flag however it is written.
    pub(crate) fn flag(&self) -> Option<bool> {
        let text = self.0.as_deref()?;
        if text.eq_ignore_ascii_case("true") {
            Some(true)
        } else if text.eq_ignore_ascii_case("false") {
            Some(false)
        } else {
            None
        }
    }
}

/// Something filled member by member from a JSON object.
pub(crate) trait Members<'de>: Default {
    /// The names it knows, and one for all others.
    type Field: Deserialize<'de>;

    /// Takes the value of `field` off `map`. A name that comes twice overwrites.
    fn member<A: MapAccess<'de>>(
        &mut self,
        field: Self::Field,
        map: &mut A,
    ) -> Result<(), A::Error>;
}

/// A `T` from an object, from an object written as JSON inside a text, from the first object of a
/// list; the default from anything else.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: for<'any> Members<'any>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: for<'any> Members<'any>> Visitor<'de> for Any<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Object<T>, E> {
                let folded = text.starts_with('{');
                let read = folded.then(|| serde_json::from_str(text).ok()).flatten();
                Ok(read.unwrap_or_default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Object<T>, E> {
                Ok(Object::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Object<T>, E> {
                Ok(Object::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Object<T>, E> {
                Ok(Object::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Object<T>, E> {
                Ok(Object::default())
            }

            fn visit_unit<E>(self) -> Result<Object<T>, E> {
                Ok(Object::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Object<T>, A::Error> {
                let first: Option<Object<T>> = list.next_element()?;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first.unwrap_or_default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
                let mut out = T::default();
                while let Some(field) = map.next_key()? {
                    out.member(field, &mut map)?;
                }
                Ok(Object(out))
            }
        }

        from.deserialize_any(Any(PhantomData))
    }
}

/// Every `T` of a list; one alone counts as a list of one, anything else as none.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: for<'any> Members<'any>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: for<'any> Members<'any>> Visitor<'de> for Any<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, _: &str) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_u64<E>(self, _: u64) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_f64<E>(self, _: f64) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_unit<E>(self) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
                let mut out = Vec::new();
                while let Some(Object(item)) = list.next_element()? {
                    out.push(item);
                }
                Ok(List(out))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<T>, A::Error> {
                let mut one = T::default();
                while let Some(field) = map.next_key()? {
                    one.member(field, &mut map)?;
                }
                Ok(List(vec![one]))
            }
        }

        from.deserialize_any(Any(PhantomData))
    }
}

/// Writes `value` the one way: members sorted by name, no white space.
pub(crate) fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                canonical(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (at, (name, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                scalar(&Value::String(name.clone()), out);
                out.push(b':');
                canonical(item, out);
            }
            out.push(b'}');
        }
        other => scalar(other, out),
    }
}

fn scalar(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing JSON to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_takes_what_stands_in_its_place() {
        for (json, expected) in [
            ("\"a\"", Some("a")),
            ("\"\"", None),
            ("12", Some("12")),
            ("-1", Some("-1")),
            ("1.5", Some("1.5")),
            ("true", Some("true")),
            ("null", None),
            ("[\"x\",\"y\"]", Some("x")),
            ("[]", None),
            ("{\"a\":[1]}", None),
            ("\"\\u0041\\n\"", Some("A\n")),
        ] {
            let text: Text = serde_json::from_str(json).unwrap();
            assert_eq!(text.0.as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn a_lazy_part_unfolds_once() {
        let folded = Lazy::new(r#""{\"a\":\"b\"}""#);
        assert_eq!(folded.text("a"), Some("b"));
        assert_eq!(Lazy::new("null"), Lazy::default());
        assert!(Lazy::default().is_null());
        assert_eq!(Lazy::new(r#"{"a":{"b":[1]}}"#)["a"]["b"][0], 1);
        assert_eq!(Lazy::new("[1").text("a"), None);
    }

    #[test]
    fn canonical_text_is_one() {
        let write = |json| {
            let mut out = Vec::new();
            canonical(&serde_json::from_str(json).unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let one = write(r#"{ "b": [1, {"z":null,"a":"\u0041"}], "a": true }"#);
        assert_eq!(one, r#"{"a":true,"b":[1,{"a":"A","z":null}]}"#);
        assert_eq!(one, write(r#"{"a":true,"b":[1,{"a":"A","z":null}]}"#));
    }
}
