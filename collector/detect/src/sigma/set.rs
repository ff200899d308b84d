//! The rules in force, compiled together.

use std::collections::{BTreeSet, HashMap};

use super::build::Builder;
use super::correlate::{Member, Plan};
use super::document::{Correlation, Document, Filter, Kinds, document, is_called};
use super::fault::{At, Fault};
use super::limits::RULES_MAX;
use super::program::Program;
use super::record::Path;
use super::rule::Rule;
use super::search::{Expr, Placeholders};
use super::yaml;

/// The rules in force. Matching needs a [`Sigma`](super::Sigma) round it.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Rules that look at events first, as [`Program`] numbers them; then correlations, each behind
    /// what it correlates.
    pub(super) rules: Vec<Rule>,
    pub(super) program: Program,
    pub(super) plans: Vec<Plan>,
    /// By rule, the plans that it is a member of.
    pub(super) members: Vec<Vec<u32>>,
}

/// What came of loading.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What is in force.
    pub rules: RuleSet,
    /// What is not, and why.
    pub faults: Vec<Fault>,
    /// Filters in force.
    pub filters: usize,
}

impl RuleSet {
    /// Loads rules from the texts of files, each with its name. A rule that cannot be in force is
    /// told and does not stop the others.
    pub fn load<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        placeholders: &Placeholders,
    ) -> Loaded {
        let mut loader = Loader::default();
        for (file, text) in files {
            loader.read(file, text, placeholders);
        }
        loader.finish()
    }

    /// Every rule, those that look at events first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

#[derive(Default)]
struct Loader {
    events: Vec<(Rule, Expr)>,
    correlations: Vec<(Rule, Correlation)>,
    filters: Vec<(String, Filter)>,
    ids: BTreeSet<String>,
    faults: Vec<Fault>,
}

impl Loader {
    fn read(&mut self, file: &str, text: &str, placeholders: &Placeholders) {
        let (nodes, fault) = yaml::documents(text);
        for node in &nodes {
            // What stands between two `---` and holds nothing.
            if node.is_null() {
                continue;
            }
            match document(node, file, placeholders) {
                Ok(Document::Rule(rule, expr)) => {
                    if self.may_take(&rule) {
                        self.events.push((rule, expr));
                    }
                }
                Ok(Document::Correlation(rule, correlation)) => {
                    if self.may_take(&rule) {
                        self.correlations.push((rule, correlation));
                    }
                }
                Ok(Document::Filter(filter)) => self.filters.push((file.to_owned(), filter)),
                Err((rule, at)) => self.fault(file, rule, at),
            }
        }
        if let Some(at) = fault {
            self.fault(file, None, at);
        }
    }

    fn may_take(&mut self, rule: &Rule) -> bool {
        let at = if self.ids.len() >= RULES_MAX {
            At::large(rule.line, "rules", RULES_MAX)
        } else if !self.ids.insert(rule.id.clone()) {
            At::wrong(rule.line, "another rule has this id")
        } else {
            return true;
        };
        self.fault(&rule.file, Some(rule.id.clone()), at);
        false
    }

    fn fault(&mut self, file: &str, rule: Option<String>, at: At) {
        let (file, line, why) = (file.to_owned(), at.line, at.why);
        self.faults.push(Fault {
            file,
            line,
            rule,
            why,
        });
    }

    fn finish(mut self) -> Loaded {
        self.filter();
        let mut builder = Builder::default();
        let mut rules = Vec::new();
        for (rule, expr) in std::mem::take(&mut self.events) {
            match builder.add(&expr) {
                Ok(_) => rules.push(rule),
                Err(error) => {
                    let at = At::unsupported(rule.line, format!("so large a pattern ({error})"));
                    self.fault(&rule.file, Some(rule.id), at);
                }
            }
        }
        let filters = self.filters.len();
        let program = match builder.build() {
            Ok(program) => program,
            Err(error) => {
                let at = At::wrong(
                    1,
                    format!("the rules are too many for one automaton: {error}"),
                );
                self.fault("all rules", None, at);
                rules.clear();
                Program::default()
            }
        };
        let mut set = RuleSet {
            members: vec![Vec::new(); rules.len()],
            rules,
            program,
            plans: Vec::new(),
        };
        self.correlate(&mut set);
        Loaded {
            rules: set,
            faults: self.faults,
            filters,
        }
    }

    /// Adds to rules what filters ask besides.
    fn filter(&mut self) {
        for (file, filter) in std::mem::take(&mut self.filters) {
            let is_all = filter.rules.is_empty();
            for (_, expr) in self.events.iter_mut().filter(|_| is_all) {
                add(expr, &filter.expr);
            }
            for (name, line) in &filter.rules {
                let mut is_any = false;
                for (rule, expr) in &mut self.events {
                    if is_called(rule, name) {
                        add(expr, &filter.expr);
                        is_any = true;
                    }
                }
                if !is_any {
                    let at = At::wrong(*line, format!("no rule is called {name:?}"));
                    self.fault(&file, Some(filter.title.clone()), at);
                }
            }
            self.filters.push((file, filter));
        }
    }

    /// Looks up what correlations name, in an order in which each comes behind what it names.
    fn correlate(&mut self, set: &mut RuleSet) {
        let mut waiting = std::mem::take(&mut self.correlations);
        loop {
            let before = waiting.len();
            let mut later = Vec::new();
            for (mut rule, correlation) in waiting {
                let names: Vec<String> = correlation
                    .rules
                    .iter()
                    .map(|(name, _)| name.clone())
                    .collect();
                let found: Option<Vec<u32>> = names
                    .iter()
                    .map(|name| {
                        let number = set.rules.iter().position(|rule| is_called(rule, name));
                        number.map(|number| number as u32)
                    })
                    .collect();
                let Some(found) = found else {
                    later.push((rule, correlation));
                    continue;
                };
                rule.threshold = correlation.in_words();
                let plan_number = set.plans.len() as u32;
                let number = set.rules.len() as u32;
                for &member in &found {
                    let plans = &mut set.members[member as usize];
                    if plans.last() != Some(&plan_number) {
                        plans.push(plan_number);
                    }
                    if !correlation.generate {
                        set.rules[member as usize].is_silent = true;
                    }
                }
                set.plans
                    .push(plan(number, &found, &set.rules, correlation));
                rule.is_correlation = true;
                set.rules.push(rule);
                set.members.push(Vec::new());
            }
            waiting = later;
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for (rule, correlation) in waiting {
            let missing = correlation
                .rules
                .iter()
                .find(|(name, _)| !set.rules.iter().any(|rule| is_called(rule, name)));
            let (name, line) = match missing {
                Some((name, line)) => (name.as_str(), *line),
                None => ("?", correlation.line),
            };
            let why = format!("no rule in force is called {name:?}, or they correlate each other");
            self.fault(&rule.file, Some(rule.id), At::wrong(line, why));
        }
        // Where one correlation asks for the findings of its rules, another cannot forbid them.
        let generated: BTreeSet<u32> = set
            .plans
            .iter()
            .filter(|plan| plan.generate)
            .flat_map(|plan| plan.members.iter().map(|member| member.rule))
            .collect();
        for number in generated {
            set.rules[number as usize].is_silent = false;
        }
    }
}

fn add(expr: &mut Expr, also: &Expr) {
    let own = std::mem::replace(expr, Expr::Or(Vec::new()));
    *expr = Expr::And(vec![own, also.clone()]);
}

fn plan(number: u32, found: &[u32], rules: &[Rule], correlation: Correlation) -> Plan {
    let aliases: HashMap<&str, &Vec<(String, String)>> = correlation
        .aliases
        .iter()
        .map(|(alias, of)| (&**alias, of))
        .collect();
    let members = found.iter().map(|&member| {
        let rule = &rules[member as usize];
        let paths = correlation.group_by.iter().map(|field| {
            let of = aliases
                .get(&**field)
                .and_then(|of| of.iter().find(|(name, _)| is_called(rule, name)));
            Path::new(of.map_or(&**field, |(_, field)| field))
        });
        Member {
            rule: member,
            group_by: paths.collect(),
        }
    });
    let members = members.collect();
    Plan {
        rule: number,
        members,
        group_names: correlation.group_by,
        values: match &correlation.kind {
            Kinds::ValueCount(fields) => fields.iter().map(|field| Path::new(field)).collect(),
            _ => Vec::new(),
        },
        kind: correlation.kind,
        timespan_ns: correlation.timespan_ns,
        bounds: correlation.bounds,
        generate: correlation.generate,
    }
}
