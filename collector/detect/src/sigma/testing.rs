//! Rules for the tests of this folder.

use serde_json::Value;

use super::{Loaded, Placeholders, Rule, RuleSet};

/// A rule with this detection, as text.
pub(super) fn rule(title: &str, detection: &str) -> String {
    format!(
        "title: {title}\nname: {title}\nlogsource:\n  product: aws\n  service: cloudtrail\n\
         detection:\n  {}\n",
        detection.trim()
    )
}

pub(super) fn load(text: &str) -> Loaded {
    RuleSet::load([("test.yml", text)], &Placeholders::new())
}

/// Rules that must all be in force.
#[track_caller]
pub(super) fn good(text: &str) -> RuleSet {
    let loaded = load(text);
    assert_eq!(loaded.faults, []);
    loaded.rules
}

/// The one rule with this detection.
#[track_caller]
pub(super) fn one(detection: &str) -> Rule {
    good(&rule("t", detection)).rules[0].clone()
}

#[track_caller]
pub(super) fn matches(rules: &RuleSet, event: &Value) -> Vec<String> {
    let matched = rules.matches(event);
    matched.iter().map(|rule| rule.title.clone()).collect()
}
