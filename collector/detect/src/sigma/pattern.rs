//! Text with Sigma's wildcards: `*` for any characters, `?` for one, `\` before either for itself.

use regex::{Regex, RegexBuilder};

use super::limits::REGEX_BYTES_MAX;

/// A pattern for a whole text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Pattern {
    pub(super) parts: Vec<Part>,
    /// Whether upper and lower case differ; if not, its text is in lower case.
    pub(super) cased: bool,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Text(String),
    /// One character.
    One,
    /// Any number of characters.
    Many,
    /// Any of [`DASHES`].
    Dash,
}

/// What introduces an option on Windows: the `windash` modifier takes one for the other.
pub(super) const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// What a pattern comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// Any text at all.
    Any,
    Exact(&'a str),
    Contains(&'a str),
    StartsWith(&'a str),
    EndsWith(&'a str),
    /// Something else, for a regular expression.
    Mixed,
}

impl Pattern {
    /// Reads text with wildcards.
    pub(super) fn parse(text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '*' => parts.push(Part::Many),
                '?' => parts.push(Part::One),
                '\\' => match chars.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                    Some(escaped) => push_char(&mut parts, escaped),
                    None => push_char(&mut parts, '\\'),
                },
                other => push_char(&mut parts, other),
            }
        }
        parts
    }

    /// Makes a pattern of its parts.
    pub(super) fn new(parts: Vec<Part>, cased: bool) -> Self {
        let mut out: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            match (out.last_mut(), part) {
                (Some(Part::Many), Part::Many) => {}
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                (_, Part::Text(text)) if text.is_empty() => {}
                (_, part) => out.push(part),
            }
        }
        if !cased {
            for part in &mut out {
                if let Part::Text(text) = part {
                    *text = text.to_lowercase();
                }
            }
        }
        Self { parts: out, cased }
    }

    /// What it comes down to.
    pub(super) fn shape(&self) -> Shape<'_> {
        match &*self.parts {
            [] => Shape::Exact(""),
            [Part::Many] => Shape::Any,
            [Part::Text(text)] => Shape::Exact(text),
            [Part::Many, Part::Text(text), Part::Many] => Shape::Contains(text),
            [Part::Text(text), Part::Many] => Shape::StartsWith(text),
            [Part::Many, Part::Text(text)] => Shape::EndsWith(text),
            _ => Shape::Mixed,
        }
    }

    /// The regular expression that says the same.
    pub(super) fn regex(&self) -> Result<Regex, regex::Error> {
        let mut text = r"\A".to_owned();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(&regex::escape(literal)),
                Part::One => text.push('.'),
                Part::Many => text.push_str(".*"),
                Part::Dash => text.push_str(r"[-/\x{2013}\x{2014}\x{2015}]"),
            }
        }
        text.push_str(r"\z");
        bounded(&text)
            .dot_matches_new_line(true)
            .case_insensitive(!self.cased)
            .build()
    }

    /// Says whether `text` fits, without anything prepared: for what is compared rarely.
    #[cfg(test)]
    pub(super) fn fits(&self, text: &str) -> bool {
        let lower = if self.cased {
            text.to_owned()
        } else {
            text.to_lowercase()
        };
        match self.shape() {
            Shape::Any => true,
            Shape::Exact(literal) => lower == literal,
            Shape::Contains(literal) => lower.contains(literal),
            Shape::StartsWith(literal) => lower.starts_with(literal),
            Shape::EndsWith(literal) => lower.ends_with(literal),
            Shape::Mixed => self.regex().is_ok_and(|regex| regex.is_match(text)),
        }
    }
}

/// A regular expression that takes linear time and no more memory than a rule may have.
pub(super) fn bounded(text: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(text);
    builder
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX);
    builder
}

fn push_char(parts: &mut Vec<Part>, char: char) {
    if let Some(Part::Text(text)) = parts.last_mut() {
        text.push(char);
    } else {
        parts.push(Part::Text(char.to_string()));
    }
}

/// The text of parts that hold no wildcards.
pub(super) fn literal(parts: &[Part]) -> Option<String> {
    match parts {
        [] => Some(String::new()),
        [Part::Text(text)] => Some(text.clone()),
        _ => None,
    }
}

/// Takes every dash that introduces an option for any of [`DASHES`]: one behind something that is
/// no word, or at the beginning, and before a word.
pub(super) fn windash(parts: Vec<Part>) -> Vec<Part> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut out = Vec::new();
    for part in parts {
        let Part::Text(text) = part else {
            out.push(part);
            continue;
        };
        let mut before = None;
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let follows = chars.peek().is_some_and(|&next| is_word(next));
            if DASHES.contains(&char) && follows && !before.is_some_and(is_word) {
                out.push(Part::Dash);
            } else {
                push_char(&mut out, char);
            }
            before = Some(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(Pattern::parse(text), false)
    }

    #[track_caller]
    fn check(text: &str, fits: &[&str], others: &[&str]) {
        let pattern = pattern(text);
        for text in fits {
            assert!(pattern.fits(text), "{text:?}");
        }
        for text in others {
            assert!(!pattern.fits(text), "{text:?}");
        }
    }

    #[test]
    fn wildcards() {
        check("", &[""], &["a"]);
        check("Abc", &["abc", "ABC"], &["abcd", "ab", ""]);
        check("a*", &["a", "Abc", "a\nb"], &["ba", ""]);
        check("*a", &["a", "ba"], &["ab"]);
        check("*a*", &["a", "bab"], &["b", ""]);
        check("*", &["", "anything"], &[]);
        check("a?c", &["abc", "aéc", "a\nc"], &["ac", "abbc"]);
        check("a*b*c", &["abc", "a-b-c", "aXbXbc"], &["acb", "abcd"]);
        check("?*", &["a", "ab"], &[""]);
        check("ÄB*", &["äbc", "Äb"], &["ab"]);
        check("a.c+", &["A.C+"], &["abc"]);
    }

    #[test]
    fn escapes() {
        check(r"a\*", &["a*"], &["ab", r"a\*"]);
        check(r"a\?b", &["a?b"], &["axb"]);
        check(r"a\\b", &[r"a\b"], &[r"a\\b"]);
        check(r"a\b", &[r"a\b"], &["ab"]);
        check(r"a\\*", &[r"a\", r"a\bc"], &["a*", "ab"]);
        check(r"a\\\*", &[r"a\*"], &[r"a\b"]);
        check(r"a\", &[r"a\"], &["a"]);
        check(r"\\\\server", &[r"\\server"], &[r"\server"]);
    }

    #[test]
    fn shapes() {
        assert_eq!(pattern("Ab").shape(), Shape::Exact("ab"));
        assert_eq!(pattern("a**").shape(), Shape::StartsWith("a"));
        assert_eq!(pattern("*A").shape(), Shape::EndsWith("a"));
        assert_eq!(pattern("**a*").shape(), Shape::Contains("a"));
        assert_eq!(pattern("***").shape(), Shape::Any);
        assert_eq!(pattern("").shape(), Shape::Exact(""));
        assert_eq!(pattern("a*b").shape(), Shape::Mixed);
    }

    #[test]
    fn dashes_that_introduce_an_option() {
        let dashed = |text| Pattern::new(windash(Pattern::parse(text)), false);
        for text in ["-run", "/run", "–run", "—run", "―run"] {
            assert!(dashed("-run").fits(text), "{text}");
            assert!(dashed("/RUN").fits(text), "{text}");
        }
        assert!(dashed("a -b -c").fits("a /b –c"));
        assert!(dashed("-well-known").fits("/well-known"));
        assert!(!dashed("-well-known").fits("-well/known"));
        assert!(!dashed("a - b").fits("a / b"));
        assert!(!dashed("-run").fits("+run"));
    }
}
