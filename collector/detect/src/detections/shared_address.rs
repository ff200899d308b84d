//! A credential that is known for long comes from an address where it never was, but where another one is
//! known: whoever holds the other has this one too.
//! Reads: CloudTrail calls; who called from each public address; from which networks each principal called;
//! who takes which roles.
//! Fires: once for each principal and address, where the principal has been known for a week and never
//! called from that network, and others were met there before. A person's user, the roles it takes and the
//! sessions that are called as it is are no others. Addresses of more than eight principals are offices and
//! gateways, and say nothing; so do calls through endpoints.
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
use crate::history::{Neighbour, called};
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
            && let strangers = strangers(&look, others.before)
            && let Some(other) = strangers.iter().max_by_key(|one| one.is_workload)
        {
            let age_ns = call.event_time_ns.saturating_sub(others.first_ns);
            let is_new = age_ns <= settings.new_h.saturating_mul(3_600 * 1_000_000_000);
            let both_strange = is_new && strangers.iter().any(|one| one.was_elsewhere);
            let severity = if other.is_workload || both_strange {
                settings.worse_severity
            } else {
                settings.severity
            };
            let count = strangers.len();
            out.push(occurrence(call, address, &other.actor, count, severity));
        }
        let neighbours = &mut context.history.neighbours;
        neighbours.note(call, address, is_workload, is_elsewhere);
    }
}

/// Those who were at an address before and are not the caller by another name: neither took the other as a
/// role, nor is it called the same, nor are both somebody's who is there.
fn strangers<'a>(look: &Look<'_>, before: &'a [Neighbour]) -> Vec<&'a Neighbour> {
    let takers = &look.history.takers;
    let actor = look.call.identity.actor().unwrap_or_default();
    let name = called(look.call);
    let mut own: Vec<&Neighbour> = Vec::new();
    let mut rest: Vec<&Neighbour> = before.iter().collect();
    loop {
        let is_own = |one: &Neighbour| {
            takers.is_pair(actor, &one.actor)
                || is_same(name, &one.name)
                || (own.iter()).any(|mine| {
                    takers.is_pair(&mine.actor, &one.actor) || is_same(&mine.name, &one.name)
                })
        };
        let (more, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|one| is_own(one));
        if more.is_empty() {
            return others;
        }
        own.extend(more);
        rest = others;
    }
}

/// Says whether two names are one person's: the same, or one the mail address that begins with the other.
fn is_same(one: &str, other: &str) -> bool {
    let begins = |name: &str| {
        name.split('@')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let are_addresses = one.contains('@') && other.contains('@');
    !one.is_empty()
        && if are_addresses {
            one.eq_ignore_ascii_case(other)
        } else {
            begins(one) == begins(other)
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
        let users: Vec<String> = users.iter().map(|name| user(name)).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        of_many(&users, last)
    }

    fn of_many(identities: &[&str], last: Vec<Event>) -> Vec<Event> {
        let mut all = Vec::new();
        for day in 0..10 {
            for (n, identity) in identities.iter().enumerate() {
                let home = format!("192.{n}.2.1");
                all.extend((0..20).map(|second| call(identity, &home, day, second)));
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
    fn one_persons_credentials_belong_together() {
        let role = |role: &str, session: &str| {
            format!(
                r#""type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/{role}/{session}",
                "sessionContext":{{"sessionIssuer":{{"type":"Role","userName":"{role}",
                "arn":"arn:aws:iam::111122223333:role/{role}"}}}}"#
            )
        };
        let takes = |who: &str, role: &str| {
            let mut event = call(who, "10.0.0.1", 9, 60);
            if let Event::Api(call) = &mut event {
                call.event_name = "AssumeRole".into();
                let asked = format!(r#"{{"roleArn":"arn:aws:iam::111122223333:role/{role}"}}"#);
                call.request_parameters = serde_json::from_str(&asked).unwrap();
            }
            event
        };
        let ann = user("ann");
        // Two at home for long, who meet at a new network; before that, somebody may have taken a role.
        let meet = |one: &str, other: &str, before: Vec<Event>| {
            let mut last = before;
            last.extend([call(one, NEW, 10, 1), call(other, NEW, 10, 2)]);
            of_many(&[one, other], last)
        };
        let ops = role("ops", "work");
        check(meet(&ann, &ops, vec![]), &[5.0]);
        check(meet(&ann, &ops, vec![takes(&ann, "ops")]), &[]);
        check(meet(&ops, &ann, vec![takes(&ann, "ops")]), &[]);
        check(meet(&ann, &ops, vec![takes(&user("bob"), "ops")]), &[5.0]);
        check(meet(&ann, &ops, vec![takes(&ann, "other")]), &[5.0]);
        // Called the same.
        check(meet(&ann, &role("ops", "ann"), vec![]), &[]);
        check(meet(&ann, &role("ops", "Ann@example.com"), vec![]), &[]);
        check(meet(&ann, &role("ops", "anna"), vec![]), &[5.0]);
        let set = |set: &str, who: &str| role(&format!("AWSReservedSSO_{set}_1"), who);
        let (admin, reader) = (
            set("Admin", "ann@example.com"),
            set("Read", "ann@example.com"),
        );
        check(meet(&admin, &reader, vec![]), &[]);
        check(
            meet(&admin, &set("Read", "bob@example.com"), vec![]),
            &[5.0],
        );
        // Two roles of one who is there too, and somebody else's beside them.
        let dev = role("dev", "other");
        let all = [&*ann, &*ops, &*dev];
        let meet_all = |takers: &[(&str, &str)]| {
            let mut last: Vec<Event> = takers.iter().map(|(who, role)| takes(who, role)).collect();
            last.extend((1..).zip(all).map(|(n, who)| call(who, NEW, 10, n)));
            of_many(&all, last)
        };
        check(meet_all(&[(&*ann, "ops"), (&*ann, "dev")]), &[]);
        check(meet_all(&[(&*ann, "ops")]), &[5.0]);
    }

    #[test]
    fn nobody_is_no_principal() {
        let nobody = r#""type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL""#;
        let last = vec![call(&user("new"), NEW, 10, 1), call(nobody, NEW, 10, 2)];
        check(of_many(&[nobody], last), &[]);
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
