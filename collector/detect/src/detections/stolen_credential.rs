//! A credential that AWS made for a host, a function or a task is used somewhere else.
//! Reads: CloudTrail calls; from which network, and by which programs, each temporary credential was used.
//! Fires: when a credential that has a home is used from another network. The first place it is used from
//! is its home, which is forgotten after a day of silence; no list of addresses is needed. Through an
//! endpoint of an account that is not ours it fires at once.
//! Evidence: the call. Severity: high if the program is new too, low if only the network is: hosts change
//! theirs.
//! Innocent look-alikes: hosts behind several gateways, which keep their programs. ATT&CK T1552.005, T1078.004.
//! First look: which process on the host fetched the credential; what was called with it since from there.
//! Actor key: the network or the endpoint's account.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::look::Look;
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{network, program};
use crate::logs::IdentityKind;
use crate::logs::agent_words::Says;
use crate::logs::cloudtrail::ApiCall;

/// Settings of `stolen_credential`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity when network and program are new to the credential: 8.0, high, as GuardDuty has it.
    pub severity: f64,
    /// Severity when the network alone is: 3.0, low, since gateways change.
    pub moved_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            severity: 8.0,
            moved_severity: 3.0,
        }
    }
}

const HOST_OUT: FindingType = FindingType::guardduty(
    "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
    8.0,
);
const HOST_IN: FindingType = FindingType::guardduty(
    "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS",
    8.0,
);
const OTHER_OUT: FindingType = FindingType::guardduty(
    "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS",
    8.0,
);
const OTHER_IN: FindingType = FindingType::guardduty(
    "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.InsideAWS",
    8.0,
);

/// Stolen credentials of hosts, functions and tasks.
pub(crate) struct StolenCredential;

impl Detection for StolenCredential {
    fn id(&self) -> &'static str {
        "stolen_credential"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&HOST_IN, &HOST_OUT, &OTHER_IN, &OTHER_OUT]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        if call.identity.kind != IdentityKind::AssumedRole || call.is_by_service() {
            return;
        }
        let look = Look {
            call,
            history: context.history,
            accounts: &context.settings.accounts,
        };
        let is_host = look.is_instance();
        // What the runtime of a function or task says of itself, in every AWS SDK.
        let in_runtime = call.agent_words().has(Says::Runtime);
        let settings = &context.settings.detections.stolen_credential;
        let identity = &call.identity;
        // A host has several credentials of one session; a function's session has many hosts.
        let of_session = identity.principal_id.as_deref().filter(|_| is_host);
        let key = of_session.or(identity.access_key_id.as_deref());
        let (Some(key), Some(address)) = (key, call.source_address) else {
            return;
        };
        if let Some(account) = call.vpc_endpoint_account.as_deref() {
            if (is_host || in_runtime) && look.is_foreign(account) {
                let kind = if is_host { &HOST_IN } else { &OTHER_IN };
                let how = format!("through an endpoint of account {account}, which is not ours");
                out.push(occurrence(call, kind, settings.severity, account, &how));
            }
            return;
        }
        // An endpoint shows the private address: it tells nothing of the network outside.
        if call.vpc_endpoint_id.is_some() {
            return;
        }
        let (network, program) = (network(address), program(call));
        let homes = &mut context.history.homes;
        let Some(home) = homes.of(key) else {
            if (is_host || in_runtime) && !is_private(address) {
                homes.note(key, &network, program, call.event_time_ns);
            }
            return;
        };
        let is_v4 = |network: &str| !network.contains(':');
        let same_family = home
            .networks
            .iter()
            .any(|one| is_v4(one) == is_v4(&network));
        let at_home = home.networks.contains(&network) || !same_family;
        if at_home || in_runtime {
            homes.note(key, &network, program, call.event_time_ns);
            return;
        }
        let new_program = !home.agents.iter().any(|one| one == program);
        if is_private(address) && !new_program {
            return;
        }
        let severity = if new_program {
            settings.severity
        } else {
            settings.moved_severity
        };
        let kind = if is_host { &HOST_OUT } else { &OTHER_OUT };
        let how = format!(
            "from {network} by {}; it was used from {} by {} before",
            quote(program),
            home.networks.join(", "),
            quote(&home.agents.join(", "))
        );
        out.push(occurrence(call, kind, severity, &network, &how));
    }
}

/// Says whether an address is one of a private network: where a log has it without an endpoint, it tells
/// nothing of the network outside.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
    }
}

fn occurrence(
    call: &ApiCall,
    kind: &'static FindingType,
    severity: f64,
    actor: &str,
    how: &str,
) -> Occurrence {
    let who = principal(call);
    let session = quote(call.identity.session_name().unwrap_or_default());
    let title = format!("The credential of {session} is used elsewhere");
    Occurrence {
        kind,
        rule: StolenCredential.id(),
        severity,
        confidence: if severity >= 7.0 { 0.8 } else { 0.4 },
        account: who.account,
        region: who.region,
        subject: call
            .identity
            .principal_id
            .as_deref()
            .unwrap_or(&who.subject)
            .to_owned(),
        actor: actor.to_owned(),
        resource: who.resource,
        role: Role::Target,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::new(),
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1552.005", "T1078.004"],
        description: format!(
            "{title}: AWS made it for role {} there, and nothing else should hold it.",
            quote(&who.name)
        ),
        why: format!(
            "{} was called from {} with a credential of {session}: {how}",
            call.event_name,
            quote(origin(call))
        ),
        title,
        first_look: &[
            "Which process fetched the credential, and who could make it do so.",
            "What was called with it from there.",
            "Whether the host's own address changed: then its programs are the same.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, api};
    use picket_intel::IndicatorSet;

    fn call(session: &str, address: &str, agent: &str, rest: &str) -> Event {
        Event::Api(api(&format!(
            r#"{{"eventName":"GetX","eventSource":"sts.amazonaws.com","sourceIPAddress":"{address}",
            "recipientAccountId":"111122223333","userAgent":"{agent}"{rest},"userIdentity":{{"type":"AssumedRole",
            "accountId":"111122223333","accessKeyId":"ASIA1","principalId":"AROA:{session}",
            "arn":"arn:aws:sts::111122223333:assumed-role/web/{session}"}}}}"#
        )))
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[(&str, f64)]) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = findings
            .iter()
            .filter(|f| f.picket.rule == StolenCredential.id());
        let found: Vec<(&str, f64)> = own
            .map(|f| (f.type_name().rsplit('/').next().unwrap(), f.severity))
            .collect();
        assert_eq!(found, expected);
    }

    const AGENT: &str = "aws-sdk-go/1.41 amazon-ssm-agent/";

    #[test]
    fn hosts() {
        let home = || call("i-0abc", "198.51.100.7", AGENT, "");
        let outside = "InstanceCredentialExfiltration.OutsideAWS";
        check(
            vec![home(), call("i-0abc", "203.0.113.9", "aws-cli/2", "")],
            &[(outside, 8.0)],
        );
        check(
            vec![home(), call("i-0abc", "203.0.113.9", AGENT, "")],
            &[(outside, 3.0)],
        );
        check(
            vec![home(), call("i-0abc", "198.51.100.8", "aws-cli/2", "")],
            &[],
        );
        check(
            vec![home(), call("i-0abc", "2001:db8::1", "aws-cli/2", "")],
            &[],
        );
        check(vec![call("i-0abc", "203.0.113.9", "aws-cli/2", "")], &[]);
        let endpoint = r#","vpcEndpointId":"vpce-1","vpcEndpointAccountId":"111122223333""#;
        check(
            vec![home(), call("i-0abc", "10.0.0.1", "aws-cli/2", endpoint)],
            &[],
        );
        let foreign = endpoint.replace("111122223333", "999988887777");
        let inside = "InstanceCredentialExfiltration.InsideAWS";
        check(
            vec![call("i-0abc", "10.0.0.1", AGENT, &foreign)],
            &[(inside, 8.0)],
        );
        check(vec![home(), call("i-0abc", "10.0.0.1", AGENT, "")], &[]);
        check(
            vec![home(), call("i-0abc", "10.0.0.1", "aws-cli/2", "")],
            &[(outside, 8.0)],
        );
        let inner = || call("i-0abc", "10.0.0.1", AGENT, "");
        check(
            vec![inner(), call("i-0abc", "203.0.113.9", "aws-cli/2", "")],
            &[],
        );
        let service = call("i-0abc", "ec2.amazonaws.com", "ec2.amazonaws.com", "");
        check(vec![home(), service], &[]);
    }

    #[test]
    fn functions_and_others() {
        let lambda = "Boto3/1.18 exec-env/AWS_Lambda_python3.9 Botocore/1.21";
        let home = || call("job", "198.51.100.7", lambda, "");
        let outside = "ResourceCredentialExfiltration.OutsideAWS";
        check(
            vec![home(), call("job", "203.0.113.9", "aws-cli/2", "")],
            &[(outside, 8.0)],
        );
        check(vec![home(), call("job", "203.0.113.9", lambda, "")], &[]);
        // A person's session may go anywhere.
        let person = || call("bob", "198.51.100.7", "aws-cli/2", "");
        check(
            vec![person(), call("bob", "203.0.113.9", "Boto3/1", "")],
            &[],
        );
    }
}
