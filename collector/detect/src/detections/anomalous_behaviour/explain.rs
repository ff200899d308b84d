//! What is unusual and what is usual, side by side, as GuardDuty's `additionalInfo` has it.
//!
//! GuardDuty tells networks by their owner (`ASNs`); here they are address ranges (`Networks`).

use serde_json::{Map, Value, json};

use super::score::{Verdict, What};
use crate::detections::evidence_of::quote;
use crate::history::{Baseline, DIMENSIONS, Dimension, Frequency, Usual};
use crate::logs::cloudtrail::ApiCall;

/// Values named of each kind.
const NAMED_MAX: usize = 10;

/// The text of `additionalInfo.value`.
pub(super) fn explain(call: &ApiCall, verdict: &Verdict, usual: &Usual<'_>) -> String {
    let now_ns = call.event_time_ns;
    let outcome = call.error_code.as_deref().unwrap_or("success");
    let mut profiled = Map::new();
    let mut unusual = Map::new();
    for (whose, baseline) in [
        ("UserIdentity", usual.principal),
        ("Account", usual.account),
    ] {
        for dimension in DIMENSIONS {
            let noun = noun(dimension);
            for (word, frequency) in [
                ("rare", Frequency::Rare),
                ("infrequent", Frequency::Infrequent),
                ("frequent", Frequency::Frequent),
            ] {
                let values = listed(baseline, dimension, frequency, now_ns);
                profiled.insert(
                    format!("{word}Profiled{noun}{whose}Profiling"),
                    values.into(),
                );
            }
            let of_account = whose == "Account";
            let new = verdict.unusual.iter().filter(|one| {
                one.what == What::Value(dimension) && (one.in_account || !of_account)
            });
            let values: Vec<String> = new.map(|one| quote(&one.value)).collect();
            unusual.insert(
                format!("unusual{noun}{whose}Profiling"),
                values.join(", ").into(),
            );
        }
    }
    let others = verdict
        .unusual
        .iter()
        .filter(|one| !matches!(one.what, What::Value(_)));
    let others: Vec<&str> = others.map(|one| one.what.words()).collect();
    unusual.insert("unusualCircumstances".to_owned(), others.join(", ").into());
    let value: Value = json!({
        "userAgent": {
            "fullUserAgent": quote(call.user_agent.as_deref().unwrap_or_default()),
            "userAgentCategory": crate::history::program(call),
        },
        "anomalies": {
            "anomalousAPIs": format!("{}:[{}:{}]", call.event_source, call.event_name, outcome),
        },
        "profiledBehavior": profiled,
        "unusualBehavior": unusual,
    });
    value.to_string()
}

fn noun(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Api => "APIs",
        Dimension::Service => "Services",
        Dimension::Region => "Regions",
        Dimension::Network => "Networks",
        Dimension::Agent => "UserAgents",
    }
}

fn listed(baseline: &Baseline, dimension: Dimension, frequency: Frequency, now_ns: u64) -> String {
    let values = baseline.usual(dimension, frequency, now_ns, NAMED_MAX);
    let quoted: Vec<String> = values.into_iter().map(quote).collect();
    quoted.join(", ")
}
