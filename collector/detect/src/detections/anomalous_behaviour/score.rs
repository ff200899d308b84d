//! How unusual a call is: small points, each with its reason.

use crate::history::{Dimension, Frequency, Usual, compared_by};
use crate::logs::cloudtrail::ApiCall;

/// What is unusual about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusual {
    pub(super) what: What,
    /// The value itself, such as the network; empty for hours and counts.
    pub(super) value: String,
    /// Whether it is unusual for the whole account, and not for this principal alone.
    pub(super) in_account: bool,
    pub(super) points: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Value(Dimension),
    /// No call of its kind by any of its peers.
    Peers,
    Hour,
    Volume,
    Denial,
}

impl What {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Value(Dimension::Api) => "call",
            Self::Value(Dimension::Service) => "service",
            Self::Value(Dimension::Region) => "region",
            Self::Value(Dimension::Network) => "network",
            Self::Value(Dimension::Agent) => "program",
            Self::Peers => "call for its peers",
            Self::Hour => "hour",
            Self::Volume => "number of calls",
            Self::Denial => "denial",
        }
    }
}

/// Everything unusual about a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    pub(super) unusual: Vec<Unusual>,
}

impl Verdict {
    /// The sum of all points.
    pub(super) fn points(&self) -> u32 {
        self.unusual.iter().map(|one| one.points).sum()
    }

    pub(super) fn has(&self, dimension: Dimension) -> bool {
        self.unusual
            .iter()
            .any(|one| one.what == What::Value(dimension))
    }
}

/// Points of a value that is new to the principal, and how many more if it is new to the account. A new
/// network weighs most: thieves work from elsewhere. Chosen by hand.
const POINTS: [(Dimension, u32, u32); 5] = [
    (Dimension::Api, 1, 1),
    (Dimension::Service, 1, 0),
    (Dimension::Region, 1, 1),
    (Dimension::Network, 2, 1),
    (Dimension::Agent, 1, 1),
];

/// Compares a call with what is usual.
pub(super) fn judge(call: &ApiCall, usual: &Usual<'_>) -> Verdict {
    let now_ns = call.event_time_ns;
    let mut unusual = Vec::new();
    for value in compared_by(call).into_iter().flatten() {
        let dimension = value.dimension;
        let new_to =
            |one: &crate::history::Baseline| one.frequency(&value, now_ns) == Frequency::Unknown;
        if !new_to(usual.principal) {
            continue;
        }
        let Some((_, own, more)) = POINTS.iter().find(|(of, ..)| *of == dimension) else {
            continue;
        };
        let in_account = new_to(usual.account);
        if dimension == Dimension::Api && !in_account && new_to(usual.peers) {
            unusual.push(Unusual {
                what: What::Peers,
                value: String::new(),
                in_account: false,
                points: 1,
            });
        }
        unusual.push(Unusual {
            what: What::Value(dimension),
            value: value.text.into_owned(),
            in_account,
            points: own + if in_account { *more } else { 0 },
        });
    }
    let denied = call
        .error_code
        .as_deref()
        .is_some_and(|code| code.contains("Denied") || code.contains("Unauthorized"));
    let circumstances = [
        (What::Hour, usual.principal.is_odd_hour(now_ns)),
        (What::Volume, usual.principal.is_loud(now_ns)),
        (What::Denial, denied && usual.principal.is_seldom_denied()),
    ];
    for (what, is_so) in circumstances {
        if is_so {
            unusual.push(Unusual {
                what,
                value: String::new(),
                in_account: false,
                points: 1,
            });
        }
    }
    Verdict { unusual }
}
