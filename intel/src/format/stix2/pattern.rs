//! STIX patterns, the part of them that names hosts (STIX 2.1 section 9).
//!
//! ```text
//! pattern     = observation *( "OR" observation )
//! observation = "[" any "]" / "(" pattern ")"
//! any         = all *( "OR" all )
//! all         = test *( "AND" test )
//! test        = path ( "=" / "ISSUBSET" ) string / path "IN" "(" string *( "," string ) ")" / "(" any ")"
//! ```
//!
//! Values that are joined by OR are each an indicator. AND narrows, which a set cannot express but
//! for an address with its port: a pattern that asks for more is refused rather than widened.
//! Tests for other things than hosts (`file:hashes`) are of no use.

use crate::clue::{self, Clue};
use crate::indicator::{Indicator, IndicatorError};

/// Levels of brackets; patterns in use have two.
const DEPTH_MAX: usize = 8;

/// What a pattern names.
pub(super) fn read(text: &str) -> Result<Vec<Clue>, &'static str> {
    let mut parser = Parser { rest: text };
    let clues = parser.pattern(0)?;
    match parser.next()? {
        None => Ok(clues),
        Some(_) => Err("more than values joined by OR"),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text(String),
    Mark(char),
}

struct Parser<'a> {
    rest: &'a str,
}

/// What one test of an observation asks for.
enum Test {
    /// One of these.
    Hosts(Vec<Clue>),
    Port(u16),
    /// Nothing that narrows, such as the type of a reference.
    Idle,
}

impl<'a> Parser<'a> {
    fn pattern(&mut self, depth: usize) -> Result<Vec<Clue>, &'static str> {
        if depth > DEPTH_MAX {
            return Err("too many brackets");
        }
        let mut clues = Vec::new();
        loop {
            match self.next()? {
                Some(Token::Mark('[')) => {
                    clues.extend(self.any(depth)?);
                    self.expect(']')?;
                }
                Some(Token::Mark('(')) => {
                    clues.extend(self.pattern(depth + 1)?);
                    self.expect(')')?;
                }
                _ => return Err("an observation must begin with [ or ("),
            }
            if !self.take_word("OR") {
                return Ok(clues);
            }
        }
    }

    fn any(&mut self, depth: usize) -> Result<Vec<Clue>, &'static str> {
        if depth > DEPTH_MAX {
            return Err("too many brackets");
        }
        let mut clues = self.all(depth)?;
        while self.take_word("OR") {
            clues.extend(self.all(depth)?);
        }
        Ok(clues)
    }

    fn all(&mut self, depth: usize) -> Result<Vec<Clue>, &'static str> {
        let (mut hosts, mut port): (Option<Vec<Clue>>, _) = (None, None);
        loop {
            match self.test(depth)? {
                Test::Hosts(clues) if hosts.is_none() => hosts = Some(clues),
                Test::Port(one) if port.is_none() => port = Some(one),
                Test::Hosts(_) | Test::Port(_) => return Err("AND of two values"),
                Test::Idle => {}
            }
            if !self.take_word("AND") {
                break;
            }
        }
        let hosts = hosts.ok_or("no host")?;
        let Some(port) = port else { return Ok(hosts) };
        hosts.into_iter().map(|clue| at_port(clue, port)).collect()
    }

    fn test(&mut self, depth: usize) -> Result<Test, &'static str> {
        let path = match self.next()? {
            Some(Token::Mark('(')) => {
                let clues = self.any(depth + 1)?;
                self.expect(')')?;
                return Ok(Test::Hosts(clues));
            }
            Some(Token::Word(path)) => path,
            _ => return Err("a path is missing"),
        };
        let values = match self.next()? {
            Some(Token::Mark('=')) => vec![self.value()?],
            Some(Token::Word("ISSUBSET")) => vec![self.value()?],
            Some(Token::Word("IN")) => {
                self.expect('(')?;
                let mut values = vec![self.value()?];
                while self.take_mark(',') {
                    values.push(self.value()?);
                }
                self.expect(')')?;
                values
            }
            _ => return Err("only =, IN and ISSUBSET are read"),
        };
        let read: fn(&str) -> Clue = match path {
            "ipv4-addr:value" | "ipv6-addr:value" => clue::addresses,
            "network-traffic:dst_ref.value" | "network-traffic:src_ref.value" => clue::host,
            "domain-name:value" => clue::domain,
            "url:value" => clue::any,
            "network-traffic:dst_port" => {
                let port = values.first().and_then(|port| port.parse().ok());
                return port.map(Test::Port).ok_or("no port");
            }
            _ if path.ends_with("_ref.type") => return Ok(Test::Idle),
            _ => |text| Err(IndicatorError::OfNoUse(text.to_owned())),
        };
        Ok(Test::Hosts(values.iter().map(|text| read(text)).collect()))
    }

    fn value(&mut self) -> Result<String, &'static str> {
        match self.next()? {
            Some(Token::Text(text)) => Ok(text),
            Some(Token::Word(number)) => Ok(number.to_owned()),
            _ => Err("a value is missing"),
        }
    }

    fn expect(&mut self, mark: char) -> Result<(), &'static str> {
        match self.next()? {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            _ => Err("more than values joined by OR"),
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let ahead = self.rest;
        let taken = self.next() == Ok(Some(Token::Word(word)));
        if !taken {
            self.rest = ahead;
        }
        taken
    }

    fn take_mark(&mut self, mark: char) -> bool {
        let ahead = self.rest;
        let taken = self.next() == Ok(Some(Token::Mark(mark)));
        if !taken {
            self.rest = ahead;
        }
        taken
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, &'static str> {
        let rest = self.rest.trim_start();
        let Some(first) = rest.chars().next() else {
            self.rest = rest;
            return Ok(None);
        };
        let is_word = |c: char| !c.is_whitespace() && !"[](),='".contains(c);
        if first == '\'' {
            let mut text = String::new();
            let mut chars = rest.char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                match c {
                    '\'' => {
                        self.rest = rest.get(at + 1..).unwrap_or_default();
                        return Ok(Some(Token::Text(text)));
                    }
                    '\\' => text.extend(chars.next().map(|(_, c)| c)),
                    c => text.push(c),
                }
            }
            return Err("a quote is not closed");
        }
        if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            // A path may hold a quoted part, as in file:hashes.'SHA-256'.
            if let Some(quoted) = behind.strip_prefix('\'').filter(|_| word.ends_with('.')) {
                let (_, behind) = quoted.split_once('\'').ok_or("a quote is not closed")?;
                self.rest = behind;
                return Ok(Some(Token::Word(word)));
            }
            self.rest = behind;
            return Ok(Some(Token::Word(word)));
        }
        self.rest = rest.get(first.len_utf8()..).unwrap_or_default();
        Ok(Some(Token::Mark(first)))
    }
}

/// A host narrowed to a port.
fn at_port(clue: Clue, port: u16) -> Result<Clue, &'static str> {
    match clue.as_deref() {
        Ok([Indicator::Address(address)]) => {
            Ok(Ok(vec![Indicator::Endpoint((*address, port).into())]))
        }
        Ok(_) => Err("a port with something else than an address"),
        Err(_) => Ok(clue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &str) {
        let clues = match read(pattern) {
            Ok(clues) => clues,
            Err(why) => {
                assert_eq!(expected, "refused", "{pattern}: {why}");
                return;
            }
        };
        let word = |clue: Clue| match clue {
            Ok(found) => found[0].to_string(),
            Err(IndicatorError::OfNoUse(_)) => "useless".to_owned(),
            Err(IndicatorError::NotAHost(_)) => "page".to_owned(),
            Err(_) => "bad".to_owned(),
        };
        let words: Vec<String> = clues.into_iter().map(word).collect();
        assert_eq!(words.join(" "), expected, "{pattern}");
    }

    #[test]
    fn what_names_hosts() {
        check("[ipv4-addr:value = '192.0.2.1']", "192.0.2.1");
        check("[ipv4-addr:value='192.0.2.0/24']", "192.0.2.0/24");
        check("[ipv4-addr:value ISSUBSET '192.0.2.0/24']", "192.0.2.0/24");
        check(
            "[domain-name:value IN ('a.example', 'b.example')]",
            "a.example b.example",
        );
        check(
            "[ipv4-addr:value = '192.0.2.1' OR domain-name:value = 'a.example'] OR [url:value = 'http://b.example/']",
            "192.0.2.1 a.example b.example",
        );
        check("([ipv4-addr:value = '192.0.2.1'])", "192.0.2.1");
        check(
            "[(ipv4-addr:value = '192.0.2.1' OR ipv4-addr:value = '192.0.2.2')]",
            "192.0.2.1 192.0.2.2",
        );
        check(
            "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '192.0.2.1' \
             AND network-traffic:dst_port = 443]",
            "192.0.2.1:443",
        );
        check("[url:value = 'http://b.example/x']", "page");
        check(
            "[file:hashes.'SHA-256' = 'ff' OR domain-name:value = 'a.example']",
            "useless a.example",
        );
        check(r"[domain-name:value = 'it\'s']", "bad");
    }

    #[test]
    fn what_asks_for_more() {
        for pattern in [
            "[domain-name:value = 'a.example' AND ipv4-addr:value = '192.0.2.1']",
            "[ipv4-addr:value = '192.0.2.1'] AND [domain-name:value = 'a.example']",
            "[ipv4-addr:value = '192.0.2.1'] FOLLOWEDBY [domain-name:value = 'a.example']",
            "[ipv4-addr:value = '192.0.2.1'] WITHIN 5 SECONDS",
            "[domain-name:value LIKE '%.example']",
            "[domain-name:value MATCHES '.*']",
            "[domain-name:value != 'a.example']",
            "[NOT domain-name:value = 'a.example']",
            "[domain-name:value NOT = 'a.example']",
            "[domain-name:value = 'a.example' AND network-traffic:dst_port = 80]",
            "[network-traffic:dst_port = 80]",
            "[domain-name:value = 'a.example",
            "[domain-name:value = 'a.example'",
            "domain-name:value = 'a.example'",
            "[]",
            "",
            "[domain-name:value = ]",
        ] {
            check(pattern, "refused");
        }
        check(&"(".repeat(10_000), "refused");
        check(&format!("[{}", "(".repeat(10_000)), "refused");
    }
}
