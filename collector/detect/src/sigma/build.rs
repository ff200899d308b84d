//! Rules into a [`Program`]: every test once, every word in its field's automaton, every rule under
//! the values it needs.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::pattern::{Pattern, Shape};
use super::program::{Compiled, Field, How, Node, Program, Texts, Word, Words};
use super::record::{Path, Quick};
use super::search::{self, Check, Expr, Place, Test};

/// Compiles rules one after the other.
#[derive(Debug, Default)]
pub(super) struct Builder {
    fields: Vec<Draft>,
    field_numbers: HashMap<Option<String>, u32>,
    tests: Vec<Compiled>,
    test_numbers: HashMap<Test, u32>,
    rules: Vec<Node>,
    calls: BTreeMap<Quick, Words<Vec<u32>>>,
    always: Vec<u32>,
}

#[derive(Debug, Default)]
struct Draft {
    path: Option<Path>,
    texts: Texts,
    words: Vec<String>,
}

impl Builder {
    /// Takes a rule in; its number is that of rules before it. Fails where a pattern takes more
    /// room than a rule may have.
    pub(super) fn add(&mut self, expr: &Expr) -> Result<u32, regex::Error> {
        // Nothing of a rule that fails is called for.
        let mut node = self.node(expr)?;
        self.sort(&mut node);
        let number = self.rules.len() as u32;
        match needed(expr) {
            Some(values) => {
                for (quick, value) in values {
                    let rules = self.calls.entry(quick).or_default();
                    let rules = rules.entry(value.into()).or_default();
                    if rules.last() != Some(&number) {
                        rules.push(number);
                    }
                }
            }
            None => self.always.push(number),
        }
        self.rules.push(node);
        Ok(number)
    }

    fn node(&mut self, expr: &Expr) -> Result<Node, regex::Error> {
        let mut nodes = |exprs: &[Expr]| {
            let nodes = exprs.iter().map(|expr| self.node(expr));
            nodes.collect::<Result<Box<[Node]>, _>>()
        };
        Ok(match expr {
            Expr::And(all) => Node::And(nodes(all)?),
            Expr::Or(any) => Node::Or(nodes(any)?),
            Expr::Not(inner) => Node::Not(self.node(inner)?.into()),
            Expr::Test(test) => Node::Test(self.test(test)?),
        })
    }

    fn test(&mut self, test: &Test) -> Result<u32, regex::Error> {
        if let Some(&number) = self.test_numbers.get(test) {
            return Ok(number);
        }
        let how = match &test.check {
            Check::Text(pattern) if pattern.shape() == Shape::Mixed => How::Regex(pattern.regex()?),
            Check::Text(_) => How::Texts,
            Check::Regex { source, flags } => How::Regex(search::regex(source, *flags)?),
            Check::Cidr { net, prefix } => How::Cidr {
                net: *net,
                prefix: *prefix,
            },
            Check::Number(compare, bound) => How::Number(*compare, bound.get()),
            Check::Time(part, compare, bound) => How::Time(*part, *compare, bound.get()),
            Check::Null => How::Null,
            Check::Exists => How::Exists,
            Check::Field {
                other,
                place,
                cased,
            } => How::Field {
                other: Path::new(other),
                place: *place,
                cased: *cased,
            },
        };
        let field = self.field(test.field.as_deref());
        let number = self.tests.len() as u32;
        if let (How::Texts, Check::Text(pattern)) = (&how, &test.check)
            && let Some(draft) = self.fields.get_mut(field as usize)
        {
            draft.take(pattern, number);
        }
        self.tests.push(Compiled { field, how });
        self.test_numbers.insert(test.clone(), number);
        Ok(number)
    }

    fn field(&mut self, path: Option<&str>) -> u32 {
        let key = path.map(str::to_owned);
        let next = self.fields.len() as u32;
        let number = *self.field_numbers.entry(key).or_insert(next);
        if number == next {
            self.fields.push(Draft {
                path: path.map(Path::new),
                ..Draft::default()
            });
        }
        number
    }

    /// Puts what costs least first; says what a node costs.
    fn sort(&self, node: &mut Node) -> u32 {
        match node {
            Node::Test(number) => {
                let test = self.tests.get(*number as usize);
                test.map_or(0, |test| {
                    let field = self.fields.get(test.field as usize);
                    test.how.cost(field.and_then(|field| field.path.as_ref()))
                })
            }
            Node::Not(inner) => self.sort(inner),
            Node::And(nodes) | Node::Or(nodes) => {
                let mut costs: Vec<(u32, Node)> = std::mem::take(nodes)
                    .into_iter()
                    .map(|mut node| (self.sort(&mut node), node))
                    .collect();
                costs.sort_by_key(|(cost, _)| *cost);
                let sum = costs
                    .iter()
                    .fold(0, |sum: u32, (cost, _)| sum.saturating_add(*cost));
                *nodes = costs.into_iter().map(|(_, node)| node).collect();
                sum
            }
        }
    }

    /// Finishes. Fails where the words of one field are too many for an automaton.
    pub(super) fn build(self) -> Result<Program, aho_corasick::BuildError> {
        let fields = self.fields.into_iter().map(Draft::build);
        Ok(Program {
            fields: fields.collect::<Result<_, _>>()?,
            tests: self.tests,
            rules: self.rules,
            calls: self.calls,
            always: self.always,
        })
    }
}

impl Draft {
    fn take(&mut self, pattern: &Pattern, test: u32) {
        let mut word = |text: &str, place| {
            self.words.push(text.to_lowercase());
            self.texts.words_cased += usize::from(pattern.cased);
            self.texts.words.push(Word {
                test,
                place,
                cased: pattern.cased.then(|| text.into()),
            });
        };
        match pattern.shape() {
            Shape::Any => self.texts.any = Some(test),
            Shape::Exact(text) if pattern.cased => {
                self.texts.whole_cased.insert(text.into(), test);
            }
            Shape::Exact(text) => {
                self.texts.whole.insert(text.into(), test);
            }
            Shape::Contains(text) => word(text, Place::Anywhere),
            Shape::StartsWith(text) => word(text, Place::Start),
            Shape::EndsWith(text) => word(text, Place::End),
            Shape::Mixed => {}
        }
    }

    fn build(self) -> Result<Field, aho_corasick::BuildError> {
        let mut texts = self.texts;
        if !self.words.is_empty() {
            let parts = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(&self.words)?;
            texts.parts = Some(parts);
        }
        let path = self.path;
        Ok(Field { path, texts })
    }
}

/// Values at hand of which an event must have one for the condition to hold; `None` if it may hold
/// without.
fn needed(expr: &Expr) -> Option<Vec<(Quick, String)>> {
    match expr {
        Expr::Test(test) => {
            let quick = Quick::of(test.field.as_deref()?)?;
            let Check::Text(pattern) = &test.check else {
                return None;
            };
            let Shape::Exact(text) = pattern.shape() else {
                return None;
            };
            // What is empty is not at hand, nor is a kind of identity that is not known.
            let is_at_hand = !text.is_empty() && !text.eq_ignore_ascii_case("unknown");
            (Quick::KEYS.contains(&quick) && is_at_hand).then(|| vec![(quick, text.to_lowercase())])
        }
        Expr::And(all) => {
            let rank = |values: &Vec<(Quick, String)>| {
                let worst = values.iter().map(|(quick, _)| *quick).max();
                (worst, values.len())
            };
            all.iter().filter_map(needed).min_by_key(rank)
        }
        Expr::Or(any) => {
            let each: Option<Vec<_>> = any.iter().map(needed).collect();
            Some(each?.into_iter().flatten().collect())
        }
        Expr::Not(_) => None,
    }
}
