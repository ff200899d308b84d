//! A credential that is known for long comes from an address where it never was, but where another one is
//! known: whoever holds the other has this one too.
//! Reads: CloudTrail calls; who called from each public address; from which networks each principal called.
//! Fires: once for each principal and address, where the principal has been known for a week and never
//! called from that network, and others were met there before. Addresses of more than eight principals are
//! offices and gateways, and say nothing; so do calls through endpoints.
//! Evidence: the call. Severity: low; medium where the other is a host, a function or a task (its address
//! is nobody's desk), or where both were never there and the address itself is new.
//! Innocent look-alikes: people who meet, a new office, people who work on a host by its terminal.
//! ATT&CK T1078.004, T1552.
//! First look: whether keys of the one lie on the other; what else came from the address.
//! Actor key: the address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::look::Look;
use super::principal::principal;
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::agent_words::Says;
use crate::logs::cloudtrail::ApiCall;

/// Settings of `shared_address`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity where another person or machine is known at the address: 3.0, low, since people meet.
    pub severity: f64,
    /// Severity where a host, function or task is, or where two who never were there come from an address
    /// that is new: 5.0, medium.
    pub worse_severity: f64,
    /// Hours for which an address counts as new: 24. Chosen by hand.
    pub new_h: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            severity: 3.0,
            worse_severity: 5.0,
            new_h: 24,
        }
    }
}

const SHARED: FindingType = FindingType::picket("UnauthorizedAccess:IAMUser/AddressOfAnother", 3.0);

/// Addresses shared by credentials that do not belong together.
pub(crate) struct SharedAddress;

impl Detection for SharedAddress {
    fn id(&self) -> &'static str {
        "shared_address"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&SHARED]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        let address = call.source_address.filter(|address| !is_private(*address));
        let Some(address) = address else {
            return;
        };
        if call.identity.actor().is_none()
            || call.vpc_endpoint_id.is_some()
            || call.is_by_service()
            || context.history.neighbours.is_known(call, address)
        {
            return;
        }
        let look = Look {
            call,
            history: context.history,
            accounts: &context.settings.accounts,
        };
        let settings = &context.settings.detections.shared_address;
        let is_workload = look.is_instance() || call.agent_words().has(Says::Runtime);
        let is_elsewhere = look.is_elsewhere();
        if is_elsewhere
            && let Some(others) = look.history.neighbours.others(call, address)
            && let Some(other) = others.before.iter().max_by_key(|one| one.is_workload)
        {
            let age_ns = call.event_time_ns.saturating_sub(others.first_ns);
            let is_new = age_ns <= settings.new_h.saturating_mul(3_600 * 1_000_000_000);
            let both_strange = is_new && others.before.iter().any(|one| one.was_elsewhere);
            let severity = if other.is_workload || both_strange {
                settings.worse_severity
            } else {
                settings.severity
            };
            let count = others.before.len();
            out.push(occurrence(call, address, &other.actor, count, severity));
        }
        let neighbours = &mut context.history.neighbours;
        neighbours.note(call, address, is_workload, is_elsewhere);
    }
}

/// Says whether an address is one that many networks have.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn occurrence(
    call: &ApiCall,
    address: IpAddr,
    other: &str,
    others: usize,
    severity: f64,
) -> Occurrence {
    let who = principal(call);
    let name = quote(&who.name);
    let other = quote(other.rsplit('/').next().unwrap_or(other));
    let title = format!("{name} was used from {address}, where it never was, but {other} was");
    Occurrence {
        kind: &SHARED,
        rule: SharedAddress.id(),
        severity,
        confidence: 0.4,
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: address.to_string(),
        resource: who.resource,
        role: Role::Target,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::from([("other".to_owned(), other.clone())]),
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1078.004", "T1552"],
        description: format!(
            "{title}. Innocent look-alikes: people who meet, a new office, people who work on a host by its \
             terminal."
        ),
        why: format!(
            "{} came from {address}, a network that is new to {name}; {others} other principals were met \
             there before, {other} among them",
            call.event_name
        ),
        title,
        first_look: &[
            "Whether keys of the one lie on the other.",
            "What else came from the address.",
            "Whether the owner of the credential was there.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, analyze, api};
    use picket_intel::IndicatorSet;

    const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
    const NEW: &str = "203.0.113.9";

    fn call(identity: &str, address: &str, day: u64, second: u64) -> Event {
        let mut call = api(&format!(
            r#"{{"eventName":"GetX","eventSource":"sts.amazonaws.com","recipientAccountId":"111122223333",
            "sourceIPAddress":"{address}","userAgent":"aws-cli/2","userIdentity":{{{identity}}}}}"#
        ));
        call.event_time_ns = START + day * DAY_NS + second * 1_000_000_000;
        Event::Api(call)
    }

    fn user(name: &str) -> String {
        format!(
            r#""type":"IAMUser","userName":"{name}","arn":"arn:aws:iam::111122223333:user/{name}""#
        )
    }

    const HOST: &str = r#""type":"AssumedRole","principalId":"AROA:i-0abc",
        "arn":"arn:aws:sts::111122223333:assumed-role/web/i-0abc""#;

    /// Ten days of each of these at home, and then what follows.
    fn known(users: &[&str], last: Vec<Event>) -> Vec<Event> {
        let mut all = Vec::new();
        for day in 0..10 {
            for (n, name) in users.iter().enumerate() {
                let home = format!("192.{n}.2.1");
                all.extend((0..20).map(|second| call(&user(name), &home, day, second)));
            }
        }
        all.extend(last);
        all
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[f64]) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = findings
            .iter()
            .filter(|f| f.picket.rule == SharedAddress.id());
        let found: Vec<f64> = own.map(|f| f.severity).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn credentials_that_do_not_belong_together() {
        let at = |identity: &str, second| call(identity, NEW, 10, second);
        let of = |name: &str, second| at(&user(name), second);
        // Somebody new at an address is nothing; one who is known and comes after somebody else is.
        check(known(&["ann"], vec![of("ann", 1)]), &[]);
        check(known(&["ann"], vec![of("new", 1), of("ann", 2)]), &[3.0]);
        let both = || vec![of("bob", 1), of("ann", 2)];
        check(known(&["ann", "bob"], both()), &[5.0]);
        check(known(&["ann"], vec![at(HOST, 1), of("ann", 2)]), &[5.0]);
        check(known(&["ann"], vec![of("ann", 1), at(HOST, 2)]), &[]);
        // Told once.
        let again = vec![of("new", 1), of("ann", 2), of("ann", 3)];
        check(known(&["ann"], again), &[3.0]);
        // Nobody is known yet.
        check(vec![of("new", 1), of("ann", 2)], &[]);
    }

    #[test]
    fn offices_and_private_addresses_say_nothing() {
        let mut office: Vec<Event> = (0..9)
            .map(|n| call(&user(&format!("u{n}")), NEW, 10, n))
            .collect();
        office.push(call(&user("ann"), NEW, 10, 20));
        check(known(&["ann"], office), &[]);
        let inner = |name: &str| call(&user(name), "10.0.0.1", 10, 1);
        check(known(&["ann"], vec![inner("new"), inner("ann")]), &[]);
        let home = vec![call(&user("new"), "192.0.2.1", 9, 50)];
        check(known(&["ann"], home), &[]);
    }
}
