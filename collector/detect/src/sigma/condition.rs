//! Conditions: `selection and not 1 of filter_*`, over the searches of a rule.
//!
//! `not` binds tighter than `and`, `and` tighter than `or`. `1 of`, `any of` and `all of` take a
//! name, a pattern with `*`, or `them`: every search whose name does not begin with `_`.

use super::fault::At;
use super::limits::{CONDITION_DEPTH_MAX, RULE_TESTS_MAX};
use super::search::Expr;

/// Searches by name.
pub(super) type Searches = [(String, Expr)];

/// Reads a condition and puts the searches it names in their places.
pub(super) fn condition(text: &str, line: usize, searches: &Searches) -> Result<Expr, At> {
    let mut reader = Reader {
        words: words(text),
        at: 0,
        line,
        searches,
        tests: 0,
    };
    let expr = reader.any(0)?;
    match reader.next() {
        None => Ok(expr),
        Some("|") => Err(At::unsupported(
            line,
            "an aggregation behind the condition (a correlation says the same)",
        )),
        Some(word) => Err(At::wrong(
            line,
            format!("{word:?} where the condition should end"),
        )),
    }
}

/// Cuts a text at white space, parentheses and bars.
fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for chunk in text.split_whitespace() {
        let mut rest = chunk;
        while let Some(at) = rest.find(['(', ')', '|']) {
            if at > 0 {
                out.push(&rest[..at]);
            }
            out.push(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            out.push(rest);
        }
    }
    out
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    line: usize,
    searches: &'a Searches,
    tests: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn next_is(&mut self, word: &str) -> bool {
        let is_it = self
            .peek()
            .is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(is_it);
        is_it
    }

    /// `a or b`.
    fn any(&mut self, depth: usize) -> Result<Expr, At> {
        let first = self.all(depth)?;
        let mut any = vec![first];
        while self.next_is("or") {
            any.push(self.all(depth)?);
        }
        Ok(joined(any, Expr::Or))
    }

    /// `a and b`.
    fn all(&mut self, depth: usize) -> Result<Expr, At> {
        let mut all = vec![self.one(depth)?];
        while self.next_is("and") {
            all.push(self.one(depth)?);
        }
        Ok(joined(all, Expr::And))
    }

    /// `not a`, `(a)`, `1 of a*`, `a`.
    fn one(&mut self, depth: usize) -> Result<Expr, At> {
        if depth > CONDITION_DEPTH_MAX {
            let max = CONDITION_DEPTH_MAX;
            return Err(At::large(self.line, "levels of a condition", max));
        }
        let Some(word) = self.next() else {
            return Err(At::wrong(self.line, "the condition ends too early"));
        };
        if word.eq_ignore_ascii_case("not") {
            return Ok(Expr::Not(self.one(depth + 1)?.into()));
        }
        if word == "(" {
            let inner = self.any(depth + 1)?;
            return match self.next() {
                Some(")") => Ok(inner),
                _ => Err(At::wrong(self.line, "a parenthesis that is not closed")),
            };
        }
        if self.next_is("of") {
            return self.of(word);
        }
        let found = self.searches.iter().find(|(name, _)| name == word);
        let Some((_, search)) = found else {
            return Err(At::wrong(self.line, format!("no search is named {word:?}")));
        };
        self.take(search)
    }

    /// What follows `1 of`.
    fn of(&mut self, how_many: &str) -> Result<Expr, At> {
        let how = match how_many.to_ascii_lowercase().as_str() {
            "1" | "any" => Expr::Or,
            "all" => Expr::And,
            _ => {
                let what = format!("\"{how_many} of\" in a condition");
                return Err(At::unsupported(self.line, what));
            }
        };
        let Some(names) = self.next() else {
            return Err(At::wrong(self.line, "nothing behind \"of\""));
        };
        let searches = self.searches;
        let is_meant = |name: &str| match names {
            "them" => !name.starts_with('_'),
            pattern => fits(pattern, name),
        };
        let meant: Result<Vec<Expr>, At> = searches
            .iter()
            .filter(|(name, _)| is_meant(name))
            .map(|(_, search)| self.take(search))
            .collect();
        let meant = meant?;
        if meant.is_empty() {
            return Err(At::wrong(
                self.line,
                format!("no search is named {names:?}"),
            ));
        }
        Ok(joined(meant, how))
    }

    fn take(&mut self, search: &Expr) -> Result<Expr, At> {
        self.tests = self.tests.saturating_add(search.len());
        if self.tests > RULE_TESTS_MAX {
            return Err(At::large(self.line, "tests in a rule", RULE_TESTS_MAX));
        }
        Ok(search.clone())
    }
}

fn joined(mut all: Vec<Expr>, how: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.len() {
        1 => all.swap_remove(0),
        _ => how(all),
    }
}

/// Says whether a name fits a pattern with `*` for any characters.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigma::search::{Check, Test};

    /// Searches that are true if their name is in the list.
    fn searches(names: &[&str]) -> Vec<(String, Expr)> {
        let of_name = |name: &&str| {
            let field = Some((*name).to_owned());
            let check = Check::Exists;
            ((*name).to_owned(), Expr::Test(Test { field, check }))
        };
        names.iter().map(of_name).collect()
    }

    fn holds(expr: &Expr, true_ones: &[&str]) -> bool {
        match expr {
            Expr::And(all) => all.iter().all(|one| holds(one, true_ones)),
            Expr::Or(any) => any.iter().any(|one| holds(one, true_ones)),
            Expr::Not(one) => !holds(one, true_ones),
            Expr::Test(test) => true_ones.contains(&test.field.as_deref().unwrap()),
        }
    }

    const NAMES: &[&str] = &["sel", "sel_a", "sel_b", "filter_x", "filter_y", "_hidden"];

    #[track_caller]
    fn check(text: &str, true_for: &[&[&str]], false_for: &[&[&str]]) {
        let expr = condition(text, 1, &searches(NAMES)).unwrap();
        for names in true_for {
            assert!(holds(&expr, names), "{names:?}");
        }
        for names in false_for {
            assert!(!holds(&expr, names), "{names:?}");
        }
    }

    #[test]
    fn precedence_and_parentheses() {
        check("sel", &[&["sel"]], &[&[]]);
        check("not sel", &[&[]], &[&["sel"]]);
        check("not not sel", &[&["sel"]], &[&[]]);
        check(
            "sel or sel_a and sel_b",
            &[&["sel"], &["sel_a", "sel_b"]],
            &[&["sel_a"], &["sel_b"]],
        );
        check(
            "(sel or sel_a) and sel_b",
            &[&["sel", "sel_b"], &["sel_a", "sel_b"]],
            &[&["sel"], &["sel_b"]],
        );
        check(
            "not sel and sel_a",
            &[&["sel_a"]],
            &[&["sel", "sel_a"], &[]],
        );
        check(
            "not (sel and sel_a)",
            &[&["sel"], &[]],
            &[&["sel", "sel_a"]],
        );
        check("sel AND NOT sel_a", &[&["sel"]], &[&["sel", "sel_a"]]);
        check("(sel)and(sel_a)", &[&["sel", "sel_a"]], &[&["sel"]]);
    }

    #[test]
    fn some_of_many() {
        check("1 of sel_*", &[&["sel_a"], &["sel_b"]], &[&["sel"], &[]]);
        check("any of sel_*", &[&["sel_b"]], &[&["sel"]]);
        check("all of sel_*", &[&["sel_a", "sel_b"]], &[&["sel_a"]]);
        check("1 of them", &[&["filter_y"]], &[&["_hidden"]]);
        check(
            "all of them",
            &[&["sel", "sel_a", "sel_b", "filter_x", "filter_y"]],
            &[&["sel", "sel_a", "sel_b", "filter_x", "_hidden"]],
        );
        check(
            "sel and not 1 of filter_*",
            &[&["sel"]],
            &[&["sel", "filter_x"], &["filter_y"]],
        );
        check("1 of *_a", &[&["sel_a"]], &[&["sel_b"]]);
        check("1 of sel", &[&["sel"]], &[&["sel_a"]]);
    }

    #[track_caller]
    fn check_fault(text: &str, word: &str) {
        let fault = condition(text, 9, &searches(NAMES)).unwrap_err();
        assert!(fault.why.to_string().contains(word), "{fault:?}");
        assert_eq!(fault.line, 9);
    }

    #[test]
    fn what_is_no_condition() {
        check_fault("", "too early");
        check_fault("sel and", "too early");
        check_fault("other", "\"other\"");
        check_fault("1 of other_*", "other_*");
        check_fault("(sel", "not closed");
        check_fault("sel)", "should end");
        check_fault("sel sel_a", "should end");
        check_fault("1 of", "behind");
        check_fault("2 of sel_*", "not supported");
        check_fault("sel | count() by x > 5", "not supported");
        check_fault(&"(".repeat(100), "levels");
        check_fault(&"not ".repeat(100), "levels");
    }

    #[test]
    fn patterns_of_names() {
        for (pattern, name) in [("a*", "a"), ("*", "x"), ("a*c", "abc"), ("*b*", "abc")] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*", "ba"), ("a*c", "ab"), ("a", "ab"), ("ab*ba", "aba")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
