//! When others are told about a finding: when it opens, when it becomes something else, and
//! otherwise only now and then.

use crate::store::findings::Told;

/// Says whether to tell others about a finding in its state `now`, of which `told` was said before.
pub(crate) fn is_due(told: Option<&Told>, now: &Told, repeat_ms: u64) -> bool {
    let Some(told) = told else {
        return true;
    };
    let is_another =
        told.severity.total_cmp(&now.severity).is_ne() || told.incident != now.incident;
    // A clock that was set back does not silence alerts.
    is_another || now.at_ms.abs_diff(told.at_ms) >= repeat_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at_ms: u64, severity: f64, incident: Option<&str>) -> Told {
        Told {
            at_ms,
            severity,
            incident: incident.map(Into::into),
        }
    }

    #[track_caller]
    fn check(before: Option<&Told>, now: &Told, expected: bool) {
        assert_eq!(is_due(before, now, 900_000), expected);
    }

    #[test]
    fn opened_changed_or_long_ago() {
        let before = told(1_000, 8.0, None);
        let said = || Some(&before);
        check(None, &told(1_000, 8.0, None), true);
        check(said(), &told(2_000, 8.0, None), false);
        check(said(), &told(900_999, 8.0, None), false);
        check(said(), &told(901_000, 8.0, None), true);
        check(said(), &told(2_000, 9.0, None), true);
        check(said(), &told(2_000, 8.0, Some("i")), true);
        check(said(), &told(0, 8.0, None), false);
    }
}
