//! What a scenario must lead to, and whether it did.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// Severities from here up count as an alarm: GuardDuty's medium and above.
const ALARM_SEVERITY: f64 = 4.0;

/// A severity band, by its lower bound (GuardDuty: low 1, medium 4, high 7, critical 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// 1.0 to 3.9.
    Low,
    /// 4.0 to 6.9.
    Medium,
    /// 7.0 to 8.9.
    High,
    /// 9.0 to 10.0.
    Critical,
}

impl Severity {
    /// The band that a number falls into.
    pub fn of(number: f64) -> Self {
        match number {
            n if n >= 9.0 => Self::Critical,
            n if n >= 7.0 => Self::High,
            n if n >= ALARM_SEVERITY => Self::Medium,
            _ => Self::Low,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// A finding that must come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its severity band.
    pub severity: Severity,
    /// Values that must stand somewhere in it: the resource, the peer, the name, the event.
    pub mentions: Vec<String>,
}

/// The incident that must come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Values that must stand somewhere in it.
    pub mentions: Vec<String>,
    /// How many stages it has at least.
    pub stages_min: usize,
}

/// What must come, and with it what must not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Every finding that must come. One of another type with severity 4 or more must not.
    pub findings: Vec<Finding>,
    /// The incident, if the scenario makes one.
    #[serde(default)]
    pub incident: Option<Incident>,
}

impl Finding {
    /// Says whether `found`, a finding as the collector writes it, is this one.
    pub fn is(&self, found: &Value) -> bool {
        found["type"] == self.kind.as_str()
            && found["severity"].as_f64().map(Severity::of) == Some(self.severity)
            && mentions_all(found, &self.mentions)
    }
}

impl Incident {
    /// Says whether `found`, an incident as the collector writes it, is this one.
    pub fn is(&self, found: &Value) -> bool {
        let stages = found["stages"].as_array().map_or(0, Vec::len);
        stages >= self.stages_min && mentions_all(found, &self.mentions)
    }
}

impl Expected {
    /// Adds what another scenario expects.
    pub fn join(&mut self, other: &Self) {
        for finding in &other.findings {
            if !self.findings.contains(finding) {
                self.findings.push(finding.clone());
            }
        }
        if let Some(theirs) = &other.incident {
            match &mut self.incident {
                Some(ours) => {
                    ours.mentions.extend(theirs.mentions.iter().cloned());
                    ours.stages_min = ours.stages_min.max(theirs.stages_min);
                }
                None => self.incident = Some(theirs.clone()),
            }
        }
    }

    /// The findings that are not among `found`.
    pub fn missing<'a>(&'a self, found: &[Value]) -> Vec<&'a Finding> {
        let absent = |finding: &&Finding| !found.iter().any(|one| finding.is(one));
        self.findings.iter().filter(absent).collect()
    }

    /// Types of findings in `found` that are alarming and that nobody expected.
    pub fn surplus(&self, found: &[Value]) -> BTreeSet<String> {
        let alarming = |one: &&Value| one["severity"].as_f64().unwrap_or(10.0) >= ALARM_SEVERITY;
        let kinds = found.iter().filter(alarming).map(|one| &one["type"]);
        kinds
            .map(|kind| kind.as_str().unwrap_or("(no type)").to_owned())
            .filter(|kind| self.findings.iter().all(|finding| finding.kind != *kind))
            .collect()
    }
}

fn mentions_all(found: &Value, values: &[String]) -> bool {
    values.iter().all(|value| mentions(found, value))
}

fn mentions(found: &Value, value: &str) -> bool {
    match found {
        Value::String(text) => text.contains(value),
        Value::Array(all) => all.iter().any(|one| mentions(one, value)),
        Value::Object(all) => all.values().any(|one| mentions(one, value)),
        Value::Number(number) => number.to_string() == value,
        Value::Null | Value::Bool(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expected() -> Expected {
        let text = json!({"findings": [
            {"type": "A:EC2/B", "severity": "high", "mentions": ["pool.example", "3333"]}
        ]});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_is_missing_and_what_is_too_much() {
        let right = json!({"type": "A:EC2/B", "severity": 8.0,
            "service": {"name": "pool.example", "port": 3333}});
        let table = [
            ("right", right, true, 0),
            ("nothing", json!({}), false, 1),
            (
                "another type",
                json!({"type": "A:EC2/C", "severity": 5.0}),
                false,
                1,
            ),
            (
                "another type, low",
                json!({"type": "A:EC2/C", "severity": 2.0}),
                false,
                0,
            ),
            (
                "too low",
                json!({"type": "A:EC2/B", "severity": 5.0, "x": ["pool.example", 3333]}),
                false,
                0,
            ),
            (
                "of another name",
                json!({"type": "A:EC2/B", "severity": 8.0, "x": ["pond.example", 3333]}),
                false,
                0,
            ),
        ];
        for (point, found, complete, surplus) in table {
            let found = [found];
            assert_eq!(expected().missing(&found).is_empty(), complete, "{point}");
            assert_eq!(expected().surplus(&found).len(), surplus, "{point}");
        }
    }
}
