//! Rebinding to the metadata service: a name that anybody could own leads to the address where a host gets
//! its credentials.
//! Reads: grouped questions and the addresses in their answers. Fires: at once, when a name that is not the
//! network's own is answered with an address of a metadata or credentials service.
//! Evidence: the question and what came back. Severity: high, as GuardDuty's.
//! Innocent look-alikes: the cloud's own names of the service (`names_ignored`), names of the network's own
//! (a single label, `.internal` and others that nobody can register). ATT&CK T1552.005. Method: the address
//! is link-local, so that no name outside has a reason to lead there; the browser or client that asked takes
//! what the service says for the name's.
//! First look: which process asked; what it asked the metadata service for afterwards.
//! Actor key: the registered domain.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use picket_wire::{Host as Speaker, Question};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::domain::{is_in, is_internal, owned};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::forwarding::Forwarding;

/// Settings of `metadata_rebind`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Public names that may lead to the metadata service, with what stands below them. Empty: clouds name
    /// theirs below `.internal`, which is no public name.
    pub names_ignored: Vec<String>,
}

/// Services that hand out credentials and have fixed addresses: the EC2 user guide, "Access instance metadata
/// for an EC2 instance"; the ECS developer guide, "Task IAM role"; the EKS user guide, "EKS Pod Identity".
const SERVICES: &[(IpAddr, &str)] = &[
    (v4(169, 254), "the instance metadata service"),
    (v4(170, 2), "the credentials service of containers"),
    (v4(170, 23), "the credentials service of pods"),
    (v6(0x254), "the instance metadata service"),
    (v6(0x23), "the credentials service of pods"),
];

const fn v4(c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(169, 254, c, d))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last))
}

const REBIND: FindingType = FindingType::guardduty("UnauthorizedAccess:EC2/MetadataDNSRebind", 8.0);

/// Names that lead to the metadata service.
pub(crate) struct MetadataRebind;

impl Detection for MetadataRebind {
    fn id(&self) -> &'static str {
        "metadata_rebind"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&REBIND]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.metadata_rebind;
        let speaker = &summary.host;
        let mut rebinding = summary
            .questions
            .iter()
            .filter_map(|question| Some((question, service(question)?)))
            .filter(|(question, _)| !is_ignored(&question.name, settings))
            .peekable();
        if rebinding.peek().is_none() {
            return;
        }
        let forwarding = Forwarding::of(summary);
        for (question, service) in rebinding {
            if forwarding.is_passed_on(question.client, &question.name) {
                continue;
            }
            out.push(occurrence(speaker, question, service));
        }
    }
}

/// The service that a question's answers lead to.
fn service(question: &Question) -> Option<(IpAddr, &'static str)> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let mut addresses = question
        .answers
        .iter()
        .filter(|answer| matches!(answer.rtype, A | AAAA))
        .filter_map(|answer| answer.data.parse::<IpAddr>().ok());
    addresses.find_map(|address| {
        let address = address.to_canonical();
        SERVICES
            .iter()
            .find(|(known, _)| *known == address)
            .copied()
    })
}

fn is_ignored(name: &str, settings: &Settings) -> bool {
    is_internal(name) || settings.names_ignored.iter().any(|zone| is_in(name, zone))
}

fn occurrence(
    speaker: &Speaker,
    question: &Question,
    (address, what): (IpAddr, &'static str),
) -> Occurrence {
    let whose = whose(speaker, question.client);
    let (subject, name) = (quote(&whose.subject), quote(&question.name));
    let domain = owned(&question.name)
        .map(|one| one.domain)
        .filter(|domain| !domain.is_empty())
        .unwrap_or(&question.name);
    let title = format!("{subject} was led to {what} by the name {name}");
    Occurrence {
        kind: &REBIND,
        rule: MetadataRebind.id(),
        severity: REBIND.severity,
        confidence: 0.9,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: domain.to_owned(),
        resource: whose.resource,
        role: Role::Target,
        count: u64::from(question.asked.max(1)),
        first_ns: question.first_ns,
        last_ns: question.last_ns,
        action: evidence_of::dns_request(&question.name, domain, question.transport),
        additional_info: BTreeMap::from([
            ("address".to_owned(), address.to_string()),
            ("sensor".to_owned(), speaker.instance.clone()),
        ]),
        evidence: vec![evidence_of::question(question)],
        mitre: &["T1552.005"],
        description: format!("{title}: {} answered {address}.", question.resolver),
        why: format!(
            "{} asked {} for {name} and was given {address}, {what}",
            question.client, question.resolver
        ),
        title,
        first_look: &[
            "Which process asked, and on whose request it fetches by name.",
            "What was asked of the metadata service afterwards, and whether credentials were given.",
            "Whether the host's role was used from elsewhere since.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, question, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::{Answer, Summary};

    const FOUND: &[(&str, f64, u64)] = &[("UnauthorizedAccess:EC2/MetadataDNSRebind", 8.0, 1)];

    #[track_caller]
    fn check(name: &str, answers: &[(u16, &str)], expected: &[(&str, f64, u64)]) {
        let answer = |(rtype, data): &(u16, &str)| Answer {
            rtype: *rtype,
            data: (*data).to_owned(),
        };
        let asked = Question {
            answers: answers.iter().map(answer).collect(),
            ..question("10.0.0.1", name)
        };
        let window = Summary {
            questions: vec![asked],
            ..summary(speaker())
        };
        let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(window))]);
        let rebinds: Vec<_> = findings
            .into_iter()
            .filter(|f| f.type_name() == REBIND.name)
            .collect();
        assert_eq!(brief(&rebinds), expected, "{name}");
    }

    #[test]
    fn public_names_that_lead_to_credentials() {
        check("a.evil.example", &[(1, "169.254.169.254")], FOUND);
        check("a.evil.example", &[(28, "fd00:ec2::254")], FOUND);
        check("a.evil.example", &[(28, "::ffff:169.254.169.254")], FOUND);
        check("a.evil.example", &[(1, "169.254.170.2")], FOUND);
        let both = [(1, "192.0.2.1"), (1, "169.254.169.254")];
        check("a.evil.example", &both, FOUND);
        let alias = [(5, "instance-data.ec2.internal"), (1, "169.254.169.254")];
        check("169.254.169.254.evil.example", &alias, FOUND);
    }

    #[test]
    fn names_of_the_network_and_other_addresses() {
        let imds = &[(1, "169.254.169.254")];
        check("instance-data.ec2.internal", imds, &[]);
        check("instance-data", imds, &[]);
        check("metadata.google.internal", imds, &[]);
        check("a.evil.example", &[(1, "169.254.169.253")], &[]);
        check("a.evil.example", &[(1, "192.0.2.1")], &[]);
        check("a.evil.example", &[(16, "169.254.169.254")], &[]);
        check("a.evil.example", &[], &[]);
    }
}
