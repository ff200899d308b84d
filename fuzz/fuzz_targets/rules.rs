//! Rules: any text as a file of rules, shown an event if any of it is in force.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_detect::sigma::{Placeholders, RuleSet};
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let loaded = RuleSet::load([("rules.yml", &*text)], &Placeholders::new());
    let event = json!({
        "eventName": "CreateUser", "eventSource": "iam.amazonaws.com", "errorCode": null,
        "userIdentity": {"type": "IAMUser"}, "requestParameters": {"a": [{"b": "c"}, 1]},
    });
    assert!(loaded.rules.matches(&event).len() <= loaded.rules.rules().len());
});
