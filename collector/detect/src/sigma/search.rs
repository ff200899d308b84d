//! What one search of a rule asks for: maps, lists, keywords and their values with modifiers, as a
//! tree of tests.
//!
//! Sigma rules specification 2.1, "Detection", and its appendix of modifiers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::encoding::{Step, encoded};
use super::fault::At;
use super::limits::{EXPANSIONS_MAX, FIELD_NAMES_MAX};
use super::number::{Compare, Number, TimePart};
use super::pattern::{Part, Pattern, bounded, literal, windash};
use super::yaml::{Kind, Node};

/// What placeholders stand for: the values of `%name%` under the `expand` modifier.
pub type Placeholders = BTreeMap<String, Vec<String>>;

/// Tests and how they are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// One test of one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Test {
    /// Path of the field; `None` for a keyword, which may stand anywhere in the event.
    pub(super) field: Option<String>,
    pub(super) check: Check,
}

/// What is asked of a field. Of a list any element may answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Check {
    Text(Pattern),
    Regex {
        source: String,
        flags: Flags,
    },
    Cidr {
        net: IpAddr,
        prefix: u8,
    },
    Number(Compare, Number),
    Time(TimePart, Compare, Number),
    /// Absent, or null.
    Null,
    /// There, whatever it holds.
    Exists,
    /// Compared with another field.
    Field {
        other: String,
        place: Place,
        cased: bool,
    },
}

/// Flags of a regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Flags {
    pub(super) ignore_case: bool,
    pub(super) multi_line: bool,
    pub(super) dot_all: bool,
}

/// Where in the field a value is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Whole,
    Anywhere,
    Start,
    End,
}

impl Expr {
    /// How many tests it holds.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().map(Self::len).sum::<usize>().max(1),
            Self::Not(inner) => inner.len(),
            Self::Test(_) => 1,
        }
    }
}

/// Reads a search.
pub(super) fn search(node: &Node, placeholders: &Placeholders) -> Result<Expr, At> {
    match &node.kind {
        Kind::Map(members) => {
            if members.is_empty() {
                return Err(At::wrong(node.line, "a search without any field"));
            }
            let tests = members
                .iter()
                .map(|(key, value)| member(&key.text, key.line, value, placeholders));
            all_of(tests)
        }
        Kind::List(items) => {
            if items.is_empty() {
                return Err(At::wrong(node.line, "an empty list"));
            }
            let searches = items.iter().map(|item| match &item.kind {
                Kind::Scalar { .. } => member("", item.line, item, placeholders),
                Kind::Map(_) => search(item, placeholders),
                Kind::List(_) => Err(At::wrong(item.line, "a list within a list")),
            });
            let searches = searches.collect::<Result<_, _>>()?;
            Ok(joined(searches, Expr::Or))
        }
        Kind::Scalar { .. } => member("", node.line, node, placeholders),
    }
}

fn all_of(tests: impl Iterator<Item = Result<Expr, At>>) -> Result<Expr, At> {
    Ok(joined(tests.collect::<Result<_, _>>()?, Expr::And))
}

fn joined(mut all: Vec<Expr>, how: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.len() {
        1 => all.swap_remove(0),
        _ => how(all),
    }
}

/// How values are turned into tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Text,
    Regex,
    Cidr,
    Number(Compare),
    Exists,
    Field,
}

/// The modifiers behind a field.
#[derive(Debug, Clone)]
struct Modifiers {
    reading: Reading,
    place: Place,
    steps: Vec<Step>,
    time: Option<TimePart>,
    flags: Flags,
    all: bool,
    cased: bool,
    unequal: bool,
    expand: bool,
}

impl Modifiers {
    fn parse<'a>(names: impl Iterator<Item = &'a str>, line: usize) -> Result<Self, At> {
        let mut out = Self {
            reading: Reading::Text,
            place: Place::Whole,
            steps: Vec::new(),
            time: None,
            flags: Flags::default(),
            all: false,
            cased: false,
            unequal: false,
            expand: false,
        };
        for name in names {
            let reading = match name {
                "re" => Some(Reading::Regex),
                "cidr" => Some(Reading::Cidr),
                "lt" => Some(Reading::Number(Compare::Less)),
                "lte" => Some(Reading::Number(Compare::AtMost)),
                "gt" => Some(Reading::Number(Compare::More)),
                "gte" => Some(Reading::Number(Compare::AtLeast)),
                "exists" => Some(Reading::Exists),
                "fieldref" => Some(Reading::Field),
                _ => None,
            };
            if let Some(reading) = reading {
                if out.reading != Reading::Text {
                    let why = format!("modifier {name} beside one that reads the value otherwise");
                    return Err(At::wrong(line, why));
                }
                out.reading = reading;
                continue;
            }
            match name {
                "contains" => out.set_place(Place::Anywhere, line)?,
                "startswith" => out.set_place(Place::Start, line)?,
                "endswith" => out.set_place(Place::End, line)?,
                "windash" => out.steps.push(Step::Windash),
                "wide" | "utf16le" => out.steps.push(Step::Utf16Le),
                "utf16be" => out.steps.push(Step::Utf16Be),
                "utf16" => out.steps.push(Step::Utf16),
                "base64" => out.steps.push(Step::Base64),
                "base64offset" => out.steps.push(Step::Base64Offset),
                "minute" => out.time = Some(TimePart::Minute),
                "hour" => out.time = Some(TimePart::Hour),
                "day" => out.time = Some(TimePart::Day),
                "week" => out.time = Some(TimePart::Week),
                "month" => out.time = Some(TimePart::Month),
                "year" => out.time = Some(TimePart::Year),
                "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" => {
                    if out.reading != Reading::Regex {
                        let why = format!("modifier {name} without re before it");
                        return Err(At::wrong(line, why));
                    }
                    match name {
                        "i" | "ignorecase" => out.flags.ignore_case = true,
                        "m" | "multiline" => out.flags.multi_line = true,
                        _ => out.flags.dot_all = true,
                    }
                }
                "all" => out.all = true,
                "cased" => out.cased = true,
                "neq" => out.unequal = true,
                "expand" => out.expand = true,
                other => return Err(At::unsupported(line, format!("modifier {other:?}"))),
            }
        }
        out.check(line)?;
        Ok(out)
    }

    fn set_place(&mut self, place: Place, line: usize) -> Result<(), At> {
        if self.place != Place::Whole {
            return Err(At::wrong(line, "two of contains, startswith, endswith"));
        }
        self.place = place;
        Ok(())
    }

    fn check(&self, line: usize) -> Result<(), At> {
        let takes_place = matches!(self.reading, Reading::Text | Reading::Field);
        if self.place != Place::Whole && !takes_place {
            let why = "contains, startswith or endswith of what is no text";
            return Err(At::wrong(line, why));
        }
        if !self.steps.is_empty() && self.reading != Reading::Text {
            return Err(At::wrong(line, "an encoding of what is no text"));
        }
        let is_number = matches!(self.reading, Reading::Text | Reading::Number(_));
        let is_bare = self.place == Place::Whole && self.steps.is_empty();
        if self.time.is_some() && !(is_number && is_bare) {
            return Err(At::wrong(
                line,
                "a part of a time that is not compared as a number",
            ));
        }
        if self.reading == Reading::Exists && (self.all || self.unequal || self.expand) {
            return Err(At::wrong(line, "another modifier beside exists"));
        }
        Ok(())
    }
}

/// Reads one member of a search: a field with its modifiers, and its value or values.
fn member(key: &str, line: usize, value: &Node, placeholders: &Placeholders) -> Result<Expr, At> {
    let mut names = key.split('|');
    let field = names.next().unwrap_or_default();
    if field.split('.').count() > FIELD_NAMES_MAX {
        return Err(At::large(line, "names in a field", FIELD_NAMES_MAX));
    }
    let modifiers = Modifiers::parse(names, line)?;
    let field = (!field.is_empty()).then(|| field.to_owned());
    if field.is_none() && !matches!(modifiers.reading, Reading::Text | Reading::Regex) {
        return Err(At::wrong(line, "a keyword that is neither text nor re"));
    }
    let values = value.each();
    if values.is_empty() {
        return Err(At::wrong(value.line, "an empty list of values"));
    }
    let mut tests = Vec::new();
    for value in values {
        let checks = checks(value, &modifiers, field.is_none(), placeholders)?;
        let of_value = checks.into_iter().map(|check| {
            let field = field.clone();
            Expr::Test(Test { field, check })
        });
        let of_value = joined(of_value.collect(), Expr::Or);
        // `exists: false` is the one value that asks for the opposite.
        let is_absent = modifiers.reading == Reading::Exists && truth(value) == Some(false);
        tests.push(if is_absent {
            Expr::Not(of_value.into())
        } else {
            of_value
        });
    }
    let how = if modifiers.all { Expr::And } else { Expr::Or };
    let tests = joined(tests, how);
    Ok(if modifiers.unequal {
        Expr::Not(tests.into())
    } else {
        tests
    })
}

/// The tests that one value stands for, any of which will do.
fn checks(
    value: &Node,
    modifiers: &Modifiers,
    is_keyword: bool,
    placeholders: &Placeholders,
) -> Result<Vec<Check>, At> {
    let line = value.line;
    let Kind::Scalar { text, plain } = &value.kind else {
        return Err(At::wrong(line, "a map or list where a value is expected"));
    };
    if value.is_null() {
        let is_bare = modifiers.reading == Reading::Text
            && modifiers.place == Place::Whole
            && modifiers.steps.is_empty();
        return match (is_bare, is_keyword) {
            (true, false) => Ok(vec![Check::Null]),
            _ => Err(At::wrong(line, "null where a value is expected")),
        };
    }
    let texts = if modifiers.expand {
        expanded(text, line, placeholders)?
    } else {
        vec![text.clone()]
    };
    let mut out = Vec::new();
    for text in texts {
        match modifiers.reading {
            Reading::Text => match modifiers.time {
                Some(part) => {
                    let number = number(&text, line)?;
                    out.push(Check::Time(part, Compare::Equal, number));
                }
                None => out.extend(patterns(&text, *plain, line, modifiers, is_keyword)?),
            },
            Reading::Number(compare) => {
                let number = number(&text, line)?;
                out.push(match modifiers.time {
                    Some(part) => Check::Time(part, compare, number),
                    None => Check::Number(compare, number),
                });
            }
            Reading::Regex => {
                let flags = modifiers.flags;
                regex(&text, flags).map_err(|error| {
                    // The last line of the parser's drawing says what is the matter.
                    let words = error.to_string();
                    let why = words.lines().last().unwrap_or_default().trim();
                    let why = why.trim_start_matches("error: ");
                    At::unsupported(line, format!("regular expression {text:?} ({why})"))
                })?;
                let source = text;
                out.push(Check::Regex { source, flags });
            }
            Reading::Cidr => {
                let (net, prefix) = cidr(&text)
                    .ok_or_else(|| At::wrong(line, format!("{text:?} is no network")))?;
                out.push(Check::Cidr { net, prefix });
            }
            Reading::Exists => {
                truth(value).ok_or_else(|| At::wrong(line, "exists takes true or false"))?;
                out.push(Check::Exists);
            }
            Reading::Field => {
                if text.split('.').count() > FIELD_NAMES_MAX {
                    return Err(At::large(line, "names in a field", FIELD_NAMES_MAX));
                }
                let (place, cased) = (modifiers.place, modifiers.cased);
                let other = text;
                out.push(Check::Field {
                    other,
                    place,
                    cased,
                });
            }
        }
    }
    Ok(out)
}

/// The patterns that a text becomes.
fn patterns(
    text: &str,
    plain: bool,
    line: usize,
    modifiers: &Modifiers,
    is_keyword: bool,
) -> Result<Vec<Check>, At> {
    let mut all = vec![Pattern::parse(text)];
    let mut steps = &*modifiers.steps;
    if steps.first() == Some(&Step::Windash) {
        all = all.into_iter().map(windash).collect();
        steps = &steps[1..];
    }
    if !steps.is_empty() {
        let text = all.pop().as_deref().and_then(literal);
        let text = text.ok_or_else(|| {
            At::unsupported(line, "an encoding of a text with wildcards or dashes")
        })?;
        all = encoded(text, steps, line)?
            .into_iter()
            .map(|text| vec![Part::Text(text)])
            .collect();
    }
    // What is written without quotes may be True, and events say true.
    let is_truth = plain && matches!(text, "True" | "TRUE" | "False" | "FALSE");
    let cased = modifiers.cased && !is_truth;
    // A keyword stands anywhere in a text.
    let place = match (modifiers.place, is_keyword) {
        (Place::Whole, true) => Place::Anywhere,
        (place, _) => place,
    };
    let wrapped = all.into_iter().map(|mut parts| {
        if matches!(place, Place::Anywhere | Place::End) {
            parts.insert(0, Part::Many);
        }
        if matches!(place, Place::Anywhere | Place::Start) {
            parts.push(Part::Many);
        }
        Check::Text(Pattern::new(parts, cased))
    });
    Ok(wrapped.collect())
}

/// The texts that a text with placeholders becomes.
fn expanded(text: &str, line: usize, placeholders: &Placeholders) -> Result<Vec<String>, At> {
    let mut all = vec![String::new()];
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        let (name, after) = match behind.split_once('%') {
            Some((name, after)) if is_name(name) => (name, after),
            _ => {
                for text in &mut all {
                    text.push_str(before);
                    text.push('%');
                }
                rest = behind;
                continue;
            }
        };
        let values = placeholders
            .get(name)
            .ok_or_else(|| At::unsupported(line, format!("placeholder %{name}% without values")))?;
        if all.len().saturating_mul(values.len()) > EXPANSIONS_MAX {
            return Err(At::large(line, "values of placeholders", EXPANSIONS_MAX));
        }
        all = all
            .iter()
            .flat_map(|text| {
                values
                    .iter()
                    .map(move |value| format!("{text}{before}{value}"))
            })
            .collect();
        rest = after;
    }
    for text in &mut all {
        text.push_str(rest);
    }
    if all.is_empty() {
        return Err(At::wrong(line, "a placeholder with no values"));
    }
    Ok(all)
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.bytes().all(is_part)
}

fn number(text: &str, line: usize) -> Result<Number, At> {
    Number::parse(text).ok_or_else(|| At::wrong(line, format!("{text:?} is no number")))
}

fn truth(node: &Node) -> Option<bool> {
    match node.text()? {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A network as `address/prefix`, or an address alone.
fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.trim().parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(bits);
    (prefix <= bits).then_some((address, prefix))
}

/// A rule's own regular expression.
pub(super) fn regex(source: &str, flags: Flags) -> Result<regex::Regex, regex::Error> {
    bounded(source)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_their_values() {
        let mut values = Placeholders::new();
        values.insert("a".into(), vec!["1".into(), "2".into()]);
        values.insert("b".into(), vec!["x".into(), "y".into()]);
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(expanded(text, 1, &values).unwrap(), expected, "{text}");
        };
        check("plain", &["plain"]);
        check("-%a%-", &["-1-", "-2-"]);
        check("%a%%b%", &["1x", "1y", "2x", "2y"]);
        check("100%", &["100%"]);
        check("5% of %a%", &["5% of 1", "5% of 2"]);
        let error = expanded("%admins%", 7, &values).unwrap_err();
        assert_eq!(error.line, 7);
        assert!(error.why.to_string().contains("%admins%"));
        values.insert("many".into(), vec!["v".into(); 40]);
        assert!(expanded("%many%%many%", 1, &values).is_err());
    }

    #[test]
    fn networks() {
        assert_eq!(cidr("10.0.0.0/8").unwrap().1, 8);
        assert_eq!(cidr("2001:db8::/32").unwrap().1, 32);
        assert_eq!(cidr("192.0.2.1").unwrap().1, 32);
        for text in ["10.0.0.0/33", "10.0.0/8", "x/8", "::/129", ""] {
            assert_eq!(cidr(text), None, "{text}");
        }
    }
}
