//! What became of a call.

use crate::finding::Band;
use crate::logs::cloudtrail::ApiCall;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was carried out.
    Done,
    /// It was denied, or stopped by a limit: the intent is as plain as if it had been carried out.
    Denied,
    /// Malformed, throttled, of something that is not there: it changed nothing and shows little.
    Failed,
}

/// Words in error codes that mean "not allowed to".
const DENIALS: [&str; 5] = [
    "AccessDenied",
    "Unauthorized",
    "NotAuthorized",
    "Forbidden",
    "OptInRequired",
];

/// Words in error codes that mean "not that many".
const LIMITS: [&str; 3] = [
    "LimitExceeded",
    "QuotaExceeded",
    "InsufficientInstanceCapacity",
];

impl Outcome {
    /// What became of `call`.
    pub(crate) fn of(call: &ApiCall) -> Self {
        let Some(code) = call.error_code.as_deref() else {
            return Self::Done;
        };
        let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
        // `RequestLimitExceeded` is throttling.
        if has(&DENIALS) || (has(&LIMITS) && !code.contains("RequestLimit")) {
            Self::Denied
        } else {
            Self::Failed
        }
    }

    /// The severity of a call that would be `severity` if it was carried out: an attempt is one band
    /// lower.
    pub(crate) fn lower(self, severity: f64) -> f64 {
        match (self, Band::of(severity)) {
            (Self::Done, _) => severity,
            (_, Band::Critical) => 8.0,
            (_, Band::High) => 5.0,
            (_, Band::Medium) => 2.0,
            (_, Band::Low) => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api;

    #[test]
    fn codes_tell_intent() {
        let check = |code: &str, expected| {
            let json = format!(r#"{{"eventName":"A","errorCode":"{code}"}}"#);
            assert_eq!(Outcome::of(&api(&json)), expected, "{code}");
        };
        check("", Outcome::Done);
        check("AccessDenied", Outcome::Denied);
        check("Client.UnauthorizedOperation", Outcome::Denied);
        check("AccessDeniedException", Outcome::Denied);
        check("Client.VcpuLimitExceeded", Outcome::Denied);
        check("Client.RequestLimitExceeded", Outcome::Failed);
        check("ThrottlingException", Outcome::Failed);
        check("NoSuchEntityException", Outcome::Failed);
        check("BucketNotEmpty", Outcome::Failed);
    }

    #[test]
    fn attempts_are_one_band_lower() {
        for severity in [2.0, 5.0, 8.0, 9.0] {
            assert_eq!(Outcome::Done.lower(severity), severity);
            assert!(Outcome::Denied.lower(severity) < severity);
        }
    }
}
