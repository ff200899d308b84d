//! Sign-ins: many failures of one user, of many users from one place, one user in several places at once.

use super::{Callers, Calls, Counts, FindingType, HOUR, Rule, SIGNED_IN, SPRAY, one};
use crate::detections::look::Look;
use crate::history::network;

const GUESSED: FindingType =
    FindingType::picket("InitialAccess:IAMUser/ConsoleLoginBruteForce", 5.0);

const PLACES: FindingType =
    FindingType::guardduty("UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B", 5.0);

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
    Rule {
        id: SIGNED_IN,
        kind: &PLACES,
        window_s: HOUR,
        // Two are an office and a telephone.
        steps: &[(2, 3.0), (3, 5.0)],
        calls: Calls::Named(&[("signin", &["ConsoleLogin"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| {
            let answer = look.call.response_elements.text("ConsoleLogin");
            let address = look.call.source_address;
            let place = address.filter(|_| answer == Some("Success")).map(network);
            place.into_iter().collect()
        },
        noun: "signed in to the console from different networks",
        mitre: &["T1078.004"],
        look_alikes: "people on the move, who change from one network to the next",
        first_look: &[
            "Whether the person was in these places.",
            "What was done in each of the sessions.",
        ],
    },
];

/// Says whether a sign-in failed.
fn failed(look: &Look<'_>) -> bool {
    look.call.response_elements.text("ConsoleLogin") == Some("Failure")
}
