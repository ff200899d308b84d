//! Going from host to host, and from place to place with one key.

use super::{Callers, Calls, Counts, FindingType, HOUR, Rule, TEN_MINUTES, one};
use crate::detections::look::Look;
use crate::history::network;
use crate::logs::IdentityKind;

const HALF_AN_HOUR: u64 = 1_800;

const ENTERED: FindingType = FindingType::guardduty("LateralMovement:EC2/RemoteServices", 5.0);
const SESSIONS: FindingType = FindingType::picket("LateralMovement:EC2/RemoteSessions", 5.0);
const PLACES: FindingType = FindingType::picket("UnauthorizedAccess:IAMUser/KeyInManyPlaces", 5.0);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "host_keys_pushed",
        kind: &ENTERED,
        window_s: HOUR,
        steps: &[(1, 3.0), (2, 5.0), (5, 8.0)],
        calls: Calls::Named(&[("ec2-instance-connect", &["SendSSHPublicKey"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| unusual(look, || one(look.asked("instanceId"))),
        noun: "pushed an SSH key to different hosts",
        mitre: &["T1021.008", "T1098.004"],
        look_alikes: "administrators at work that they did not do before",
        first_look: &["Who was on these hosts, and what ran."],
    },
    Rule {
        id: "host_sessions_opened",
        kind: &SESSIONS,
        window_s: TEN_MINUTES,
        steps: &[(3, 5.0), (10, 8.0)],
        calls: Calls::Named(&[("ssm", &["ResumeSession", "StartSession"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| unusual(look, || one(look.asked_any(&["target", "sessionId"]))),
        noun: "opened sessions on different hosts",
        mitre: &["T1021.007"],
        look_alikes: "administrators at work that they did not do before",
        first_look: &["What was typed: the session log has it, where there is one."],
    },
    Rule {
        id: "hosts_commanded",
        kind: &SESSIONS,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0), (20, 8.0)],
        calls: Calls::Named(&[("ssm", &["SendCommand"])]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| unusual(look, || look.all("instanceIds")),
        noun: "sent commands to different hosts",
        mitre: &["T1021.007", "T1651"],
        look_alikes: "administrators at work that they did not do before",
        first_look: &["What the commands were: Systems Manager keeps them for a month."],
    },
    Rule {
        id: "key_in_many_places",
        kind: &PLACES,
        window_s: HALF_AN_HOUR,
        steps: &[(3, 5.0), (6, 8.0)],
        calls: Calls::All,
        by: Callers::All,
        counts: Counts::Attempts,
        things: place_of_key,
        noun: "used one key from different networks",
        mitre: &["T1078.004"],
        look_alikes: "a key that several hosts of several providers share",
        first_look: &[
            "Who holds the key.",
            "What was called from the network that is not known.",
        ],
    },
];

/// What a call is about, unless the caller is known to make it, and from there: patches go to every host each
/// week.
fn unusual(look: &Look<'_>, things: impl FnOnce() -> Vec<String>) -> Vec<String> {
    if look.is_usual() && !look.is_elsewhere() {
        Vec::new()
    } else {
        things()
    }
}

/// The network that a user's own key was used from. Sessions have homes of their own.
fn place_of_key(look: &Look<'_>) -> Vec<String> {
    let identity = &look.call.identity;
    let is_key = identity.kind == IdentityKind::IamUser
        && (identity.access_key_id.as_deref()).is_some_and(|key| key.starts_with("AKIA"))
        && look.call.vpc_endpoint_id.is_none();
    let address = look
        .call
        .source_address
        .filter(|_| is_key && !look.is_console());
    address.map(network).into_iter().collect()
}
