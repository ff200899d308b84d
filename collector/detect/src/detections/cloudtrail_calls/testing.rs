//! Calls for the tables of behaviours.

use picket_intel::IndicatorSet;

use crate::event::Event;
use crate::testing::{analyze, api};

pub(super) const ME: &str = "111122223333";

/// A call of a user `eve` with the command line, from `service`, with parameters and perhaps an error.
pub(super) fn event(service: &str, name: &str, parameters: &str, error: &str) -> Event {
    by(EVE, service, name, parameters, error)
}

pub(super) const EVE: &str = r#""type":"IAMUser","userName":"eve","accountId":"111122223333",
    "arn":"arn:aws:iam::111122223333:user/eve""#;

/// A role that a machine holds.
pub(super) const MACHINE: &str = r#""type":"AssumedRole","accountId":"111122223333",
    "arn":"arn:aws:sts::111122223333:assumed-role/deploy/run","principalId":"AROA:run","sessionContext":
    {"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::111122223333:role/deploy","userName":"deploy"}}"#;

pub(super) fn by(
    identity: &str,
    service: &str,
    name: &str,
    parameters: &str,
    error: &str,
) -> Event {
    let error = if error.is_empty() {
        String::new()
    } else {
        format!(r#""errorCode":"{error}","#)
    };
    Event::Api(api(&format!(
        r#"{{"eventID":"e-{name}","eventTime":"2023-11-14T22:13:20Z","eventSource":"{service}.amazonaws.com",
        "eventName":"{name}","awsRegion":"eu-west-1","recipientAccountId":"{ME}",{error}
        "sourceIPAddress":"192.0.2.1","userAgent":"aws-cli/2.1","userIdentity":{{{identity}}},
        "requestParameters":{parameters}}}"#
    )))
}

/// The behaviours that one call is, with their severities.
pub(super) fn found(events: Vec<Event>) -> Vec<(String, f64)> {
    let (findings, _) = analyze(IndicatorSet::default(), events);
    let mut all: Vec<(String, f64)> = findings
        .iter()
        .filter_map(|f| {
            let id = f.service.additional_info.get("behaviour")?;
            Some((id.clone(), f.severity))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// One call of eve's, carried out.
#[track_caller]
pub(super) fn check(service: &str, name: &str, parameters: &str, expected: &[(&str, f64)]) {
    check_all(vec![event(service, name, parameters, "")], expected);
}

#[track_caller]
pub(super) fn check_all(events: Vec<Event>, expected: &[(&str, f64)]) {
    let expected: Vec<(String, f64)> = expected
        .iter()
        .map(|(id, s)| ((*id).to_owned(), *s))
        .collect();
    assert_eq!(found(events), expected);
}
