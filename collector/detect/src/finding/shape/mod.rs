//! Shapes that others read findings in: GuardDuty's, which is ours, inside EventBridge's envelope, as ASFF for Security Hub
//! CSPM, and as OCSF for Security Hub and data lakes.
//!
//! Pure functions of a finding: no clock, so the same finding is the same text.

mod asff;
mod eventbridge;
mod ocsf;

use serde_json::Value;

use super::Finding;

pub use eventbridge::Envelope;

/// A shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// GuardDuty's, with the object `picket` beside.
    GuardDuty,
    /// The same inside the envelope that EventBridge puts round it.
    EventBridge,
    /// AWS Security Finding Format, 2018-10-08.
    Asff,
    /// Open Cybersecurity Schema Framework 1.6.0, class 2004 (Detection Finding), profile `cloud`.
    Ocsf,
}

impl Shape {
    /// A finding in this shape.
    pub fn of(self, finding: &Finding) -> Value {
        match self {
            Self::GuardDuty => json(finding),
            Self::EventBridge => json(&Envelope::of(finding)),
            Self::Asff => asff::of(finding),
            Self::Ocsf => ocsf::of(finding),
        }
    }
}

/// What our own types write cannot fail: their keys are texts.
fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// An object of the members that there are: what is null, empty text, an empty list or an empty object is left out, as every
/// one of these formats asks.
fn lean(value: Value) -> Value {
    let is_there = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, lean(value)));
            Value::Object(members.filter(|(_, value)| is_there(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(lean).filter(is_there).collect()),
        other => other,
    }
}

/// The beginning of a text, `max` characters at most, the last of them `…` where it was cut.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_is_left_out() {
        let value = json!({"a": null, "b": "", "c": [], "d": {"e": {}}, "f": 0, "g": false, "h": [null, 1]});
        assert_eq!(lean(value), json!({"f": 0, "g": false, "h": [1]}));
    }

    #[test]
    fn texts_are_cut_by_characters() {
        assert_eq!(cut("größe", 5), "größe");
        assert_eq!(cut("größer", 5), "größ…");
    }
}
