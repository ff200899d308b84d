//! Passwords guessed: many of one user, many users from one place.

use super::{Callers, Calls, Counts, FindingType, HOUR, Rule, SPRAY, one};
use crate::detections::look::Look;

const GUESSED: FindingType =
    FindingType::picket("InitialAccess:IAMUser/ConsoleLoginBruteForce", 5.0);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "password_guessed",
        kind: &GUESSED,
        window_s: HOUR,
        steps: &[(5, 5.0), (50, 8.0)],
        calls: Calls::Named(&[("signin", &["ConsoleLogin"])]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| one(look.call.event_id.as_deref().filter(|_| failed(look))),
        noun: "failed to sign in",
        mitre: &["T1110.001"],
        look_alikes: "somebody who forgot a password",
        first_look: &["Whether a sign-in succeeded at last, and from where."],
    },
    Rule {
        id: SPRAY,
        kind: &GUESSED,
        window_s: HOUR,
        steps: &[(5, 5.0), (20, 8.0)],
        calls: Calls::Named(&[("signin", &["ConsoleLogin"])]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| {
            let identity = &look.call.identity;
            let user = identity
                .user_name
                .as_deref()
                .or(identity.principal_id.as_deref());
            one(user.filter(|_| failed(look)))
        },
        noun: "and others failed to sign in from one place, as different users",
        mitre: &["T1110.003"],
        look_alikes: "an office on a bad morning",
        first_look: &["Whether any sign-in from there succeeded."],
    },
];

/// Says whether a sign-in failed.
fn failed(look: &Look<'_>) -> bool {
    look.call.response_elements.text("ConsoleLogin") == Some("Failure")
}
