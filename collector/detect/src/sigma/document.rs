//! One document of a file of rules: a rule, a correlation of rules, or a filter of rules.

use picket_wire::Digest;

use super::condition::condition;
use super::fault::{At, Why};
use super::limits::{FIELD_NAMES_MAX, GROUP_EVENTS_MAX, TIMESPAN_MAX_NS};
use super::rule::{Level, Rule};
use super::search::{Expr, Placeholders, search};
use super::yaml::{Kind, Node};

/// A document.
#[derive(Debug)]
pub(super) enum Document {
    Rule(Rule, Expr),
    Correlation(Rule, Correlation),
    Filter(Filter),
}

/// A filter: what must hold besides for some rules.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) title: String,
    /// Ids or names of rules; empty for all.
    pub(super) rules: Vec<(String, usize)>,
    pub(super) expr: Expr,
}

/// A correlation, its rules not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Correlation {
    pub(super) line: usize,
    pub(super) kind: Kinds,
    pub(super) rules: Vec<(String, usize)>,
    pub(super) group_by: Vec<String>,
    pub(super) aliases: Vec<Alias>,
    pub(super) timespan_ns: u64,
    pub(super) bounds: Bounds,
    pub(super) generate: bool,
}

/// A name for a group's field, and which field that is in the events of which rule.
pub(super) type Alias = (String, Vec<(String, String)>);

/// What a correlation counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kinds {
    EventCount,
    /// Different values of these fields.
    ValueCount(Vec<String>),
    Temporal,
    TemporalOrdered,
}

/// What the count must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) not: Option<u64>,
}

impl Correlation {
    /// What it takes to come true, in words.
    pub(super) fn in_words(&self) -> String {
        let Bounds { min, max, not } = self.bounds;
        let but = not.map_or_else(String::new, |not| format!(" but {not}"));
        let count = match (min, max) {
            (min, u64::MAX) => format!("at least {min}{but}"),
            (min, max) if min == max => min.to_string(),
            (min, max) => format!("{min} to {max}{but}"),
        };
        let what = match &self.kind {
            Kinds::EventCount => format!("{count} matches"),
            Kinds::ValueCount(fields) => format!("{count} values of {}", fields.join(" and ")),
            Kinds::Temporal => format!("{count} of its rules"),
            Kinds::TemporalOrdered => "its rules in order".to_owned(),
        };
        let seconds = self.timespan_ns / 1_000_000_000;
        let by = if self.group_by.is_empty() {
            String::new()
        } else {
            format!(" by {}", self.group_by.join(" and "))
        };
        format!("{what} within {seconds} s{by}")
    }
}

impl Bounds {
    pub(super) fn hold(&self, count: u64) -> bool {
        (self.min..=self.max).contains(&count) && self.not != Some(count)
    }
}

/// Reads a document; with a fault, what it calls itself.
pub(super) fn document(
    node: &Node,
    file: &str,
    placeholders: &Placeholders,
) -> Result<Document, (Option<String>, At)> {
    let named = |at: At| {
        let name = node.member("id").or_else(|| node.member("title"));
        (name.and_then(Node::text).map(str::to_owned), at)
    };
    read(node, file, placeholders).map_err(named)
}

fn read(node: &Node, file: &str, placeholders: &Placeholders) -> Result<Document, At> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Err(At::wrong(node.line, "a document that is no map"));
    }
    if let Some(action) = node.member("action") {
        let word = action.text().unwrap_or_default();
        return Err(At::unsupported(
            action.line,
            format!("the old form of several rules in one (action: {word})"),
        ));
    }
    if let Some(body) = node.member("correlation") {
        let rule = head(node, file)?;
        let correlation = correlation(body, node)?;
        return Ok(Document::Correlation(rule, correlation));
    }
    if let Some(body) = node.member("filter") {
        log_source(node)?;
        let title = required(node, "title")?.to_owned();
        return Ok(Document::Filter(Filter {
            title,
            rules: match body.member("rules") {
                Some(rules) if rules.text() == Some("any") => Vec::new(),
                Some(rules) => texts(rules)?,
                None => return Err(At::wrong(body.line, "a filter that names no rules")),
            },
            expr: detection(body, placeholders, "rules")?,
        }));
    }
    let rule = head(node, file)?;
    log_source(node)?;
    let Some(body) = node.member("detection") else {
        return Err(At::wrong(
            node.line,
            "neither detection, correlation nor filter",
        ));
    };
    if let Some(frame) = body.member("timeframe") {
        return Err(At::unsupported(
            frame.line,
            "timeframe (a correlation says the same)",
        ));
    }
    let expr = detection(body, placeholders, "")?;
    Ok(Document::Rule(rule, expr))
}

/// The searches and the condition of a rule or filter.
fn detection(body: &Node, placeholders: &Placeholders, also: &str) -> Result<Expr, At> {
    let Kind::Map(members) = &body.kind else {
        return Err(At::wrong(body.line, "a detection that is no map"));
    };
    let Some(text) = body.member("condition") else {
        return Err(At::wrong(body.line, "no condition"));
    };
    // Read only what some condition names: the rest changes nothing.
    let mut searches = Vec::new();
    for (key, node) in members {
        if key.text != "condition" && key.text != also {
            searches.push((key.text.clone(), search(node, placeholders)?));
        }
    }
    let conditions = text.each().iter().map(|one| {
        let words = one
            .text()
            .ok_or_else(|| At::wrong(one.line, "a condition that is no text"))?;
        condition(words, one.line, &searches)
    });
    let mut conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    match conditions.len() {
        0 => Err(At::wrong(text.line, "no condition")),
        1 => Ok(conditions.swap_remove(0)),
        _ => Ok(Expr::Or(conditions)),
    }
}

/// What a rule says of itself.
fn head(node: &Node, file: &str) -> Result<Rule, At> {
    let title = required(node, "title")?.to_owned();
    let text = |name: &str| node.member(name).and_then(Node::text).map(str::to_owned);
    let many = |name: &str| match node.member(name) {
        Some(list) => texts(list).map(|texts| texts.into_iter().map(|(text, _)| text).collect()),
        None => Ok(Vec::new()),
    };
    let level = match node.member("level") {
        Some(level) => {
            let word = level.text().unwrap_or_default();
            Level::of(word).ok_or_else(|| At::wrong(level.line, format!("{word:?} is no level")))?
        }
        None => Level::Medium,
    };
    let digest = digest(node);
    // What has no id is named by what it says, so that it stays the same while that does.
    let id = text("id").unwrap_or_else(|| digest.chars().take(32).collect());
    Ok(Rule {
        id,
        name: text("name"),
        author: text("author"),
        license: text("license"),
        status: text("status"),
        description: text("description"),
        level,
        tags: many("tags")?,
        false_positives: many("falsepositives")?,
        references: many("references")?,
        file: file.to_owned(),
        line: node.line,
        digest,
        threshold: "each match".to_owned(),
        is_correlation: false,
        is_silent: false,
        title,
    })
}

/// SHA-256 over the document as it is read: comments and white space do not change it.
fn digest(node: &Node) -> String {
    fn write(node: &Node, out: &mut Vec<u8>) {
        match &node.kind {
            Kind::Scalar { text, plain } => {
                out.push(if *plain { b'p' } else { b'q' });
                out.extend((text.len() as u64).to_be_bytes());
                out.extend(text.as_bytes());
            }
            Kind::List(items) => {
                out.push(b'[');
                items.iter().for_each(|item| write(item, out));
                out.push(b']');
            }
            Kind::Map(members) => {
                out.push(b'{');
                for (key, member) in members {
                    out.extend((key.text.len() as u64).to_be_bytes());
                    out.extend(key.text.as_bytes());
                    write(member, out);
                }
                out.push(b'}');
            }
        }
    }
    let mut bytes = Vec::new();
    write(node, &mut bytes);
    Digest::of(&bytes).to_string()
}

/// Refuses what is written for other logs.
fn log_source(node: &Node) -> Result<(), At> {
    let Some(source) = node.member("logsource") else {
        return Err(At::wrong(node.line, "no logsource"));
    };
    let is = |name: &str, word: &str| {
        let text = source.member(name).and_then(Node::text);
        text.is_none_or(|text| text.eq_ignore_ascii_case(word))
    };
    let names_any = ["product", "service"]
        .iter()
        .any(|name| source.member(name).is_some());
    let has_category = source.member("category").is_some();
    if names_any && !has_category && is("product", "aws") && is("service", "cloudtrail") {
        return Ok(());
    }
    let words: Vec<&str> = ["product", "service", "category"]
        .iter()
        .filter_map(|name| source.member(name)?.text())
        .collect();
    let why = Why::Foreign(format!("{:?}", words.join(" ")));
    Err(At {
        line: source.line,
        why,
    })
}

fn correlation(body: &Node, node: &Node) -> Result<Correlation, At> {
    let kind = required(body, "type")?;
    let condition = body.member("condition");
    let rules = match body.member("rules") {
        Some(rules) => texts(rules)?,
        None => return Err(At::wrong(body.line, "a correlation that names no rules")),
    };
    let distinct = {
        let mut names: Vec<&str> = rules.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.dedup();
        names.len() as u64
    };
    let (kind, bounds) = match kind {
        "event_count" => (Kinds::EventCount, bounds(condition, body.line)?),
        "value_count" => {
            let field = condition.and_then(|condition| condition.member("field"));
            let fields = field.map(texts).transpose()?.unwrap_or_default();
            if fields.is_empty() {
                return Err(At::wrong(body.line, "value_count without a field"));
            }
            let fields = fields.into_iter().map(|(field, _)| field).collect();
            (Kinds::ValueCount(fields), bounds(condition, body.line)?)
        }
        "temporal" | "temporal_ordered" => {
            let kind = if kind == "temporal" {
                Kinds::Temporal
            } else {
                Kinds::TemporalOrdered
            };
            let all = Bounds {
                min: distinct,
                max: u64::MAX,
                not: None,
            };
            let bounds = match (condition, &kind) {
                (None, _) => all,
                (Some(condition), Kinds::Temporal) if condition.text().is_none() => {
                    bounds(Some(condition), body.line)?
                }
                (Some(condition), _) => {
                    let what = "such a condition of a temporal correlation";
                    return Err(At::unsupported(condition.line, what));
                }
            };
            (kind, bounds)
        }
        other => {
            let line = body.member("type").map_or(body.line, |kind| kind.line);
            return Err(At::unsupported(line, format!("correlation type {other:?}")));
        }
    };
    let group_by = match body.member("group-by") {
        Some(list) => texts(list)?.into_iter().map(|(field, _)| field).collect(),
        None => Vec::new(),
    };
    let Some(timespan) = body.member("timespan").or_else(|| body.member("timeframe")) else {
        return Err(At::wrong(body.line, "no timespan"));
    };
    let correlation = Correlation {
        line: body.line,
        kind,
        rules,
        group_by,
        aliases: aliases(body)?,
        timespan_ns: span(timespan)?,
        bounds,
        generate: [body, node].iter().any(|node| {
            let word = node.member("generate").and_then(Node::text);
            word.is_some_and(|word| word.eq_ignore_ascii_case("true"))
        }),
    };
    let fields = correlation.group_by.iter();
    let aliased = correlation
        .aliases
        .iter()
        .flat_map(|(_, of)| of)
        .map(|(_, field)| field);
    for field in fields.chain(aliased) {
        if field.split('.').count() > FIELD_NAMES_MAX {
            return Err(At::large(body.line, "names in a field", FIELD_NAMES_MAX));
        }
    }
    Ok(correlation)
}

fn aliases(body: &Node) -> Result<Vec<Alias>, At> {
    let Some(aliases) = body.member("aliases") else {
        return Ok(Vec::new());
    };
    let wrong = || At::wrong(aliases.line, "aliases that are no map of maps of fields");
    let Kind::Map(members) = &aliases.kind else {
        return Err(wrong());
    };
    let each = members.iter().map(|(alias, node)| {
        let Kind::Map(of) = &node.kind else {
            return Err(wrong());
        };
        let of = of.iter().map(|(rule, field)| {
            let field = field.text().ok_or_else(wrong)?;
            Ok((rule.text.clone(), field.to_owned()))
        });
        Ok((alias.text.clone(), of.collect::<Result<_, _>>()?))
    });
    each.collect()
}

/// The bounds of a count. What has none from below would have to wait for what does not come.
fn bounds(condition: Option<&Node>, line: usize) -> Result<Bounds, At> {
    let Some(condition) = condition else {
        return Err(At::wrong(line, "a correlation without a condition"));
    };
    let Kind::Map(members) = &condition.kind else {
        let what = "a condition of a correlation that is no map";
        return Err(At::unsupported(condition.line, what));
    };
    let mut out = Bounds {
        min: 0,
        max: u64::MAX,
        not: None,
    };
    for (key, node) in members {
        if key.text == "field" {
            continue;
        }
        let number = node.text().and_then(|text| text.parse::<u64>().ok());
        let number = number
            .ok_or_else(|| At::wrong(node.line, format!("{} takes a whole number", key.text)))?;
        match &*key.text {
            "gt" => out.min = out.min.max(number.saturating_add(1)),
            "gte" => out.min = out.min.max(number),
            "lt" => out.max = out.max.min(number.saturating_sub(1)),
            "lte" => out.max = out.max.min(number),
            "eq" => {
                out.min = out.min.max(number);
                out.max = out.max.min(number);
            }
            "neq" => out.not = Some(number),
            other => {
                let what = format!("{other:?} in the condition of a correlation");
                return Err(At::unsupported(key.line, what));
            }
        }
    }
    if out.min == 0 {
        let what = "a correlation that counts what does not happen (no gt, gte or eq above 0)";
        return Err(At::unsupported(condition.line, what));
    }
    if out.min > out.max {
        return Err(At::wrong(condition.line, "a count that no number has"));
    }
    if out.min > GROUP_EVENTS_MAX as u64 {
        return Err(At::large(
            condition.line,
            "events to count",
            GROUP_EVENTS_MAX,
        ));
    }
    Ok(out)
}

fn span(node: &Node) -> Result<u64, At> {
    const SECOND: u64 = 1_000_000_000;
    let text = node.text().unwrap_or_default();
    let wrong = || At::wrong(node.line, format!("{text:?} is no timespan, such as 90m"));
    let unit = match text.chars().last() {
        Some('s') => SECOND,
        Some('m') => 60 * SECOND,
        Some('h') => 3_600 * SECOND,
        Some('d') => 86_400 * SECOND,
        Some('w') => 7 * 86_400 * SECOND,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number.checked_mul(unit) {
        Some(0) => Err(wrong()),
        Some(span) if span <= TIMESPAN_MAX_NS => Ok(span),
        _ => Err(At::unsupported(
            node.line,
            "a timespan of more than 31 days",
        )),
    }
}

fn required<'a>(node: &'a Node, name: &str) -> Result<&'a str, At> {
    let text = node.member(name).and_then(Node::text);
    text.ok_or_else(|| At::wrong(node.line, format!("no {name}")))
}

/// The texts of a list, or of a text alone, with their lines.
fn texts(node: &Node) -> Result<Vec<(String, usize)>, At> {
    let each = node.each().iter().filter(|item| !item.is_null());
    let texts = each.map(|item| match item.text() {
        Some(text) => Ok((text.to_owned(), item.line)),
        None => Err(At::wrong(item.line, "something other than text in a list")),
    });
    texts.collect()
}

/// Says whether a rule is called `name`: by its id or its name.
pub(super) fn is_called(rule: &Rule, name: &str) -> bool {
    rule.id == name || rule.name.as_deref() == Some(name)
}
