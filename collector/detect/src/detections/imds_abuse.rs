//! The instance metadata service asked by who should not: what gives a host's role away.
//! Reads: requests to the service, with the process that made them. Fires: on a request that was passed on
//! for somebody else (a proxy's header, another host's name: server-side request forgery); on credentials
//! fetched by a program that a server started (a web shell); on credentials fetched by a program that
//! never did on this host, once it has been watched for `learning_s`; on credentials given without a
//! session token (version 1). Of one request the gravest is told.
//! Evidence: the request as a flow, with its process. Severity: passed on for a secret 8.0
//! where it was answered, else 5.0, for anything else 2.0; by a server's child 8.0; by a new program 3.0;
//! version 1 2.0.
//! Innocent look-alikes: SDKs and agents that always fetch (they are learned), `instance-data` as the
//! service's name (`hosts_ignored`), proxies that give containers roles and pass the rest on
//! (`proxies_ignored`, but for credentials, which they answer themselves), tokens and identity documents (no
//! secret). ATT&CK T1552.005.
//! First look: which request from outside came just before; what the role did since, in CloudTrail.
//! Actor key: the program, or what the request named itself to.

use std::collections::BTreeMap;

use picket_wire::{Host as Speaker, ImdsClass, ImdsRequest, Process};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Resource, Role};
use crate::history::Fetchers;
use crate::server::{SERVERS, file, server};

/// Settings of `imds_abuse`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Names of the service that a request may carry: those that AWS's resolver gives it.
    pub hosts_ignored: Vec<String>,
    /// Programs whose trade it is to pass requests to the service on, credentials excepted.
    pub proxies_ignored: Vec<String>,
    /// Programs that serve others, whose children fetch no credentials unless somebody got in through them.
    pub servers: Vec<String>,
    /// Programs that come with every system and fetch what they are told: nothing of ours is built on
    /// them inside a server.
    pub tools: Vec<String>,
    /// Seconds for which it is only learned which programs fetch credentials on a host: three days, in
    /// which every nightly job has run.
    pub learning_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            hosts_ignored: owned(&["instance-data", "instance-data.ec2.internal"]),
            proxies_ignored: owned(&["kiam", "kube2iam"]),
            servers: owned(SERVERS),
            tools: owned(&[
                "bash", "busybox", "curl", "dash", "nc", "ncat", "perl", "sh", "socat", "wget",
            ]),
            learning_s: 3 * 86_400,
        }
    }
}

const FORWARDED: FindingType = FindingType::picket("CredentialAccess:EC2/MetadataForwarded", 8.0);
const SERVER_CHILD: FindingType =
    FindingType::picket("CredentialAccess:EC2/MetadataByServerChild", 8.0);
const NEW_PROCESS: FindingType =
    FindingType::picket("CredentialAccess:EC2/MetadataNewProcess", 3.0);
const VERSION_1: FindingType = FindingType::picket("CredentialAccess:EC2/MetadataVersion1", 2.0);

/// Severity of a request that was passed on and not answered.
const REFUSED_SEVERITY: f64 = 5.0;

/// Severity of one that was for no secret.
const NO_SECRET_SEVERITY: f64 = 2.0;

/// Abuse of the metadata service.
pub(crate) struct ImdsAbuse;

impl Detection for ImdsAbuse {
    fn id(&self) -> &'static str {
        "imds_abuse"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&FORWARDED, &SERVER_CHILD, &NEW_PROCESS, &VERSION_1]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.imds_abuse;
        let speaker = SpeakerKey::of(&summary.host);
        for request in &summary.imds {
            let is_new = is_secret(request)
                && is_answered(request)
                && is_new(&mut context.history.fetchers, speaker, request, settings);
            if let Some(verdict) = verdict(request, is_new, settings) {
                out.push(occurrence(&summary.host, request, verdict));
            }
        }
    }
}

/// What is made of a request.
struct Verdict {
    kind: &'static FindingType,
    severity: f64,
    /// What was done, after the program's name.
    what: String,
    actor: String,
}

fn is_answered(request: &ImdsRequest) -> bool {
    request.status == Some(200)
}

/// Says whether a request is for what opens something: credentials, or what the host was started with.
fn is_secret(request: &ImdsRequest) -> bool {
    matches!(
        request.class,
        Some(ImdsClass::Credentials | ImdsClass::UserData)
    )
}

/// Says whether the program has not fetched before, on a host that has been watched for long enough.
fn is_new(
    fetchers: &mut Fetchers,
    speaker: SpeakerKey,
    request: &ImdsRequest,
    settings: &Settings,
) -> bool {
    let Some(process) = &request.process else {
        return false;
    };
    let known = fetchers.note(speaker, program(process), request.time_ns);
    known.is_new && known.watched_ns >= settings.learning_s.saturating_mul(1_000_000_000)
}

/// The name of a program's file, or of its process.
fn program(process: &Process) -> &str {
    file(process.exe.as_deref(), &process.name)
}

/// Who started the process, if that is a server and the process a tool.
fn server_above<'a>(process: &'a Process, settings: &Settings) -> Option<&'a str> {
    let parent = process.parent.as_deref()?;
    let above = server(parent.exe.as_deref(), &parent.name, &settings.servers)?;
    let is_tool = settings.tools.iter().any(|tool| tool == program(process));
    is_tool.then_some(above)
}

/// Says whether it is the program's trade to pass the request on.
fn is_trade(request: &ImdsRequest, settings: &Settings) -> bool {
    let by = request.process.as_ref().map(program);
    let is_proxy = settings
        .proxies_ignored
        .iter()
        .any(|proxy| by == Some(proxy));
    is_proxy && request.class != Some(ImdsClass::Credentials)
}

fn verdict(request: &ImdsRequest, is_new: bool, settings: &Settings) -> Option<Verdict> {
    let named = request.host.as_deref().filter(|host| {
        let host = host.split(':').next().unwrap_or(host);
        !settings.hosts_ignored.iter().any(|ignored| ignored == host)
    });
    if (request.forwarded || named.is_some()) && !is_trade(request, settings) {
        let how = named.map_or_else(
            || "with a proxy's header".to_owned(),
            |host| format!("under the name {}", quote(host)),
        );
        return Some(Verdict {
            kind: &FORWARDED,
            severity: match (is_secret(request), is_answered(request)) {
                (true, true) => FORWARDED.severity,
                (true, false) => REFUSED_SEVERITY,
                (false, _) => NO_SECRET_SEVERITY,
            },
            what: format!("passed a request on to the metadata service, {how}"),
            actor: named.unwrap_or("forwarded").to_owned(),
        });
    }
    if !is_secret(request) || !is_answered(request) {
        return None;
    }
    let process = request.process.as_ref();
    if let Some(above) = process.and_then(|process| server_above(process, settings)) {
        return Some(Verdict {
            kind: &SERVER_CHILD,
            severity: SERVER_CHILD.severity,
            what: format!(
                "fetched secrets of the host, started by the server {}",
                quote(above)
            ),
            actor: above.to_owned(),
        });
    }
    let by = process.map_or("unknown", program).to_owned();
    if is_new {
        return Some(Verdict {
            kind: &NEW_PROCESS,
            severity: NEW_PROCESS.severity,
            what: "fetched secrets of the host and never had".to_owned(),
            actor: by,
        });
    }
    (request.version == 1 && request.class == Some(ImdsClass::Credentials)).then(|| Verdict {
        kind: &VERSION_1,
        severity: VERSION_1.severity,
        what: "fetched credentials without a session token, so that a forged request could too"
            .to_owned(),
        actor: by,
    })
}

fn occurrence(speaker: &Speaker, request: &ImdsRequest, verdict: Verdict) -> Occurrence {
    // A container of the host asks from an address of its own.
    let mut whose = whose(speaker, request.client);
    if !speaker.local.is_empty() {
        whose.subject.clone_from(&speaker.instance);
    }
    let subject = quote(&whose.subject);
    let by = request.process.as_ref().map_or("a process", program);
    let by = quote(by);
    let Verdict {
        kind,
        severity,
        what,
        actor,
    } = verdict;
    let status = request
        .status
        .map_or("none".to_owned(), |status| status.to_string());
    let title = format!("{by} on {subject} {what}");
    Occurrence {
        kind,
        rule: ImdsAbuse.id(),
        severity,
        confidence: if severity > 7.0 { 0.8 } else { 0.6 },
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        resource: Resource::instance(whose.subject.clone(), Some(request.client)),
        subject: whose.subject,
        actor,
        role: Role::Target,
        count: u64::from(request.count.max(1)),
        first_ns: request.time_ns,
        last_ns: request.time_ns,
        action: evidence_of::connection(
            (request.client, request.client_port),
            (request.server, 80),
            6,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: vec![evidence_of::imds(request)],
        mitre: &["T1552.005"],
        description: format!("{title}."),
        title,
        why: format!(
            "{} {} by {by}, version {}, status {status}: {what}",
            request.method,
            quote(&request.path),
            request.version
        ),
        first_look: &[
            "Which request from outside came to this host just before.",
            "What the host's role did since, and from where, in CloudTrail.",
            "Whether the program was deployed, and whether the host still needs version 1.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SECOND, START, analyze, brief, ip, later, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::{Parent, Summary};

    const FORWARDED: &str = "CredentialAccess:EC2/MetadataForwarded";
    const SERVER_CHILD: &str = "CredentialAccess:EC2/MetadataByServerChild";
    const NEW_PROCESS: &str = "CredentialAccess:EC2/MetadataNewProcess";
    const VERSION_1: &str = "CredentialAccess:EC2/MetadataVersion1";

    /// Credentials fetched as they should be.
    fn fetch(exe: &str, parent: &str) -> ImdsRequest {
        ImdsRequest {
            time_ns: START + SECOND,
            client: ip("10.0.0.1"),
            client_port: 40_000,
            server: ip("169.254.169.254"),
            process: Some(Process {
                pid: 7,
                exe: Some(exe.into()),
                name: "main".into(),
                parent: Some(Box::new(Parent {
                    pid: 1,
                    name: parent.into(),
                    exe: None,
                })),
                ..Process::default()
            }),
            count: 1,
            method: "GET".into(),
            class: Some(ImdsClass::Credentials),
            path: "/latest/meta-data/iam/security-credentials/web".into(),
            role: Some("web".into()),
            version: 2,
            status: Some(200),
            host: None,
            forwarded: false,
            user_agent: None,
        }
    }

    #[track_caller]
    fn check_all(requests: Vec<(u64, ImdsRequest)>, expected: &[(&str, f64, u64)]) {
        let events = requests.into_iter().map(|(seconds, mut request)| {
            request.time_ns += seconds * SECOND;
            let one = Summary {
                imds: vec![request],
                ..later(summary(speaker()), seconds)
            };
            Event::Summary(Box::new(one))
        });
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    #[track_caller]
    fn check(request: ImdsRequest, expected: &[(&str, f64, u64)]) {
        check_all(vec![(0, request)], expected);
    }

    fn sdk() -> ImdsRequest {
        fetch("/usr/bin/app", "systemd")
    }

    #[test]
    fn a_request_passed_on_and_one_of_ones_own() {
        let forwarded = |status| ImdsRequest {
            forwarded: true,
            status,
            ..sdk()
        };
        check(forwarded(Some(200)), &[(FORWARDED, 8.0, 1)]);
        check(forwarded(Some(403)), &[(FORWARDED, 5.0, 1)]);
        check(forwarded(None), &[(FORWARDED, 5.0, 1)]);
        check(sdk(), &[]);
    }

    #[test]
    fn what_is_passed_on_for_a_secret_and_for_none() {
        let passed = |exe: &str, class| ImdsRequest {
            forwarded: true,
            class: Some(class),
            ..fetch(exe, "systemd")
        };
        let app = "/usr/bin/app";
        check(passed(app, ImdsClass::UserData), &[(FORWARDED, 8.0, 1)]);
        check(passed(app, ImdsClass::Other), &[(FORWARDED, 2.0, 1)]);
        let proxy = "/bin/kube2iam";
        check(passed(proxy, ImdsClass::Other), &[]);
        check(passed("/kiam", ImdsClass::UserData), &[]);
        check(
            passed(proxy, ImdsClass::Credentials),
            &[(FORWARDED, 8.0, 1)],
        );
        check(
            passed("/bin/kube2iamx", ImdsClass::Other),
            &[(FORWARDED, 2.0, 1)],
        );
    }

    #[test]
    fn another_hosts_name_and_the_services_own() {
        let named = |host: &str| ImdsRequest {
            host: Some(host.into()),
            ..sdk()
        };
        check(named("rebound.example"), &[(FORWARDED, 8.0, 1)]);
        check(named("instance-data"), &[]);
        check(named("instance-data:80"), &[]);
    }

    #[test]
    fn a_tool_that_a_server_started_and_one_that_a_person_did() {
        check(fetch("/usr/bin/curl", "nginx"), &[(SERVER_CHILD, 8.0, 1)]);
        check(fetch("/bin/bash", "php-fpm8.2"), &[(SERVER_CHILD, 8.0, 1)]);
        let under = |name: &str, exe: &str| {
            let mut request = fetch("/usr/bin/curl", name);
            let process = request.process.as_mut().unwrap();
            process.parent.as_mut().unwrap().exe = Some(exe.into());
            request
        };
        check(
            under("gunicorn", "/usr/bin/python3.11"),
            &[(SERVER_CHILD, 8.0, 1)],
        );
        check(under("python3", "/usr/bin/python3.11"), &[]);
        check(
            under("worker", "/usr/sbin/nginx"),
            &[(SERVER_CHILD, 8.0, 1)],
        );
        check(fetch("/usr/bin/curl", "bash"), &[]);
        check(fetch("/usr/bin/curl", "nodemon"), &[]);
        check(fetch("/opt/app/worker", "gunicorn"), &[]);
    }

    #[test]
    fn credentials_without_a_token_and_with_one() {
        let old = |class| ImdsRequest {
            version: 1,
            class: Some(class),
            ..sdk()
        };
        check(old(ImdsClass::Credentials), &[(VERSION_1, 2.0, 1)]);
        check(old(ImdsClass::Other), &[]);
        let refused = ImdsRequest {
            status: Some(401),
            ..old(ImdsClass::Credentials)
        };
        check(refused, &[]);
        check(sdk(), &[]);
    }

    #[test]
    fn a_program_that_never_did_on_a_host_that_is_known() {
        let day = 86_400;
        let odd = || fetch("/tmp/x", "systemd");
        check_all(vec![(0, sdk()), (4 * day, odd())], &[(NEW_PROCESS, 3.0, 1)]);
        check_all(vec![(0, sdk()), (2 * day, odd())], &[]);
        check_all(vec![(0, odd()), (4 * day, odd())], &[]);
        let unknown = ImdsRequest {
            process: None,
            ..sdk()
        };
        check_all(vec![(0, sdk()), (4 * day, unknown)], &[]);
    }
}
