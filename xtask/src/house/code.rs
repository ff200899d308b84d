//! Rust source as a row of tokens, so that a rule can ask what code names.
//!
//! Comments are gone, strings are one token each, and items under `#[cfg(test)]` are left out. Paths
//! inside macros are seen like any others. What this does not see: a name made by a macro.

use std::str::FromStr;

use anyhow::anyhow;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The tokens of one file that are built outside tests.
pub(super) struct Code {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Mark(char),
    Literal,
}

/// A path such as `std::fs::read`, and the line it starts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Line, from 1.
    pub(super) line: usize,
    /// Its segments; a glob import ends with `*`, a macro's name with `!`.
    pub(super) segments: Vec<String>,
}

impl Code {
    /// Reads a file; fails when it does not consist of Rust tokens.
    pub(super) fn outside_tests(text: &str) -> anyhow::Result<Self> {
        Self::read(text, Tests::LeftOut)
    }

    /// Reads a file with its tests.
    pub(super) fn with_tests(text: &str) -> anyhow::Result<Self> {
        Self::read(text, Tests::Kept)
    }

    fn read(text: &str, tests: Tests) -> anyhow::Result<Self> {
        let stream = TokenStream::from_str(text).map_err(|error| anyhow!("{error}"))?;
        let mut tokens = Vec::new();
        flatten(stream, tests, &mut tokens);
        Ok(Self { tokens })
    }

    /// Lines on which a word stands by itself.
    pub(super) fn lines_with_word(&self, word: &str) -> Vec<usize> {
        let hits = self
            .tokens
            .iter()
            .filter(|token| matches!(&token.kind, Kind::Word(w) if w == word));
        hits.map(|token| token.line).collect()
    }

    /// Whether the file forbids unsafe code for its whole crate.
    pub(super) fn forbids_unsafe(&self) -> bool {
        let wanted = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
        self.tokens.windows(wanted.len()).any(|window| {
            window
                .iter()
                .zip(wanted)
                .all(|(token, text)| match &token.kind {
                    Kind::Word(word) => word == text,
                    Kind::Mark(mark) => text.len() == 1 && text.starts_with(*mark),
                    Kind::Literal => false,
                })
        })
    }

    /// Every path that the code names, `use` declarations spelled out.
    pub(super) fn named(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.word(at) == Some("use") {
                at = self.use_tree(at + 1, &[], &mut found);
            } else if self.word(at).is_some() {
                at = self.path(at, &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    fn word(&self, at: usize) -> Option<&str> {
        match self.tokens.get(at).map(|token| &token.kind) {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn mark(&self, at: usize, wanted: char) -> bool {
        matches!(self.tokens.get(at), Some(Token { kind: Kind::Mark(mark), .. }) if *mark == wanted)
    }

    fn separator(&self, at: usize) -> bool {
        self.mark(at, ':') && self.mark(at + 1, ':')
    }

    /// Reads `a::b::c` from its first word; returns where it ends.
    fn path(&self, start: usize, found: &mut Vec<Named>) -> usize {
        let mut segments = Vec::new();
        let mut at = start;
        while let Some(word) = self.word(at) {
            segments.push(word.to_owned());
            at += 1;
            if !self.separator(at) || self.word(at + 2).is_none() {
                break;
            }
            at += 2;
        }
        // `a != b` is no macro.
        if self.mark(at, '!')
            && !self.mark(at + 1, '=')
            && let Some(last) = segments.last_mut()
        {
            last.push('!');
        }
        found.push(Named {
            line: self.tokens[start].line,
            segments,
        });
        at
    }

    /// Reads one tree of a `use` declaration; returns where it ends.
    fn use_tree(&self, start: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
        let mut segments = prefix.to_vec();
        let mut at = start;
        loop {
            if self.separator(at) {
                at += 2;
            } else if self.mark(at, '*') {
                segments.push("*".to_owned());
                at += 1;
            } else if self.mark(at, '{') {
                at += 1;
                while at < self.tokens.len() && !self.mark(at, '}') {
                    at = self.use_tree(at, &segments, found);
                    if self.mark(at, ',') {
                        at += 1;
                    } else if !self.mark(at, '}') {
                        // Not a use tree, as in `impl Trait + use<'a>`; move on.
                        at += 1;
                    }
                }
                return at + 1;
            } else if self.word(at) == Some("as") {
                at += 2;
            } else if let Some(word) = self.word(at) {
                if word != "self" || segments.is_empty() {
                    segments.push(word.to_owned());
                }
                at += 1;
            } else {
                break;
            }
        }
        if !segments.is_empty() {
            let line = self.tokens.get(start).map_or(0, |token| token.line);
            found.push(Named { line, segments });
        }
        at
    }
}

/// What to do with items under `#[cfg(test)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tests {
    Kept,
    LeftOut,
}

fn flatten(stream: TokenStream, tests: Tests, tokens: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        if tests == Tests::LeftOut {
            if is_mark(trees.get(at), '#') && is_cfg_test(trees.get(at + 1)) {
                at = item_end(&trees, at + 2);
                continue;
            }
            if is_mark(trees.get(at), '#')
                && is_mark(trees.get(at + 1), '!')
                && is_cfg_test(trees.get(at + 2))
            {
                return;
            }
        }
        let tree = &trees[at];
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => tokens.push(Token {
                line,
                kind: Kind::Word(word.to_string()),
            }),
            TokenTree::Punct(mark) => tokens.push(Token {
                line,
                kind: Kind::Mark(mark.as_char()),
            }),
            TokenTree::Literal(_) => tokens.push(Token {
                line,
                kind: Kind::Literal,
            }),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => (Some('{'), Some('}')),
                    Delimiter::Bracket => (Some('['), Some(']')),
                    Delimiter::Parenthesis => (Some('('), Some(')')),
                    Delimiter::None => (None, None),
                };
                let close_line = group.span_close().start().line;
                tokens.extend(open.map(|mark| Token {
                    line,
                    kind: Kind::Mark(mark),
                }));
                flatten(group.stream(), tests, tokens);
                tokens.extend(close.map(|mark| Token {
                    line: close_line,
                    kind: Kind::Mark(mark),
                }));
            }
        }
        at += 1;
    }
}

fn is_mark(tree: Option<&TokenTree>, wanted: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(mark)) if mark.as_char() == wanted)
}

fn is_cfg_test(tree: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = tree else {
        return false;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    group.delimiter() == Delimiter::Bracket && text == "cfg(test)"
}

/// The index after the item that starts at `at`: after its braces or its semicolon.
fn item_end(trees: &[TokenTree], at: usize) -> usize {
    let end = trees[at..].iter().position(|tree| match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    });
    end.map_or(trees.len(), |end| at + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let code = Code::outside_tests(text).unwrap();
        let named: Vec<String> = code.named().iter().map(|n| n.segments.join("::")).collect();
        let seen: Vec<&str> = expected
            .iter()
            .copied()
            .filter(|path| named.iter().any(|n| n == path))
            .collect();
        assert_eq!(seen, expected, "in {named:?}");
    }

    #[track_caller]
    fn check_absent(text: &str, word: &str) {
        let code = Code::outside_tests(text).unwrap();
        assert!(
            !code
                .named()
                .iter()
                .any(|n| n.segments.iter().any(|s| s == word)),
            "{word} in {text}"
        );
    }

    #[test]
    fn paths_are_spelled_out() {
        check("fn f() { std::fs::read(p); }", &["std::fs::read"]);
        check(
            "use std::{fs, io::{self, Read as _}, net::*};",
            &["std::fs", "std::io", "std::io::Read", "std::net::*"],
        );
        check(
            "use ::std::time::Instant as Clock; fn g() {}",
            &["std::time::Instant", "g"],
        );
        check(
            "fn f() { println!(\"{}\", Instant::now()); }",
            &["println!", "Instant::now"],
        );
        check(
            "fn f() { if a != b { Instant::now(); } }",
            &["a", "Instant::now"],
        );
        check(
            "fn f() -> impl Trait + use<'a> { env::var(x) }",
            &["env::var"],
        );
    }

    #[test]
    fn what_is_not_code_is_not_named() {
        check_absent(
            "/// See [`std::fs`].\n// std::fs\nfn f() { g(\"std::fs\"); }",
            "fs",
        );
        check_absent("#[cfg(test)]\nmod tests { use std::fs; }", "fs");
        check_absent("#[cfg(test)]\n#[allow(x)]\nuse std::fs;\nfn f() {}", "fs");
        check_absent("#![cfg(test)]\nuse std::fs;", "fs");
    }

    #[test]
    fn what_follows_a_test_item_is_code_again() {
        check("#[cfg(test)] mod tests;\nuse std::fs;", &["std::fs"]);
        check("#[cfg(not(test))]\nuse std::fs;", &["std::fs"]);
        check(
            "#[cfg(test)] mod tests { fn a() {} }\nfn f() { fs::read(p) }",
            &["fs::read"],
        );
    }

    #[test]
    fn lines_and_words() {
        let code = Code::with_tests("fn f() {}\n// unsafe\n#[cfg(test)]\nfn g() {\n unsafe { h() } }\n#![deny(unsafe_code)]").unwrap();
        assert_eq!(code.lines_with_word("unsafe"), [5]);
        assert!(!code.forbids_unsafe());
        assert!(
            Code::with_tests("//! Doc.\n#![forbid(unsafe_code)]\nmod a;")
                .unwrap()
                .forbids_unsafe()
        );
    }
}
