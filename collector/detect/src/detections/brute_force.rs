//! Brute force: somebody tries passwords at a service that lets people in, again and again or at many hosts.
//! Reads: conversations (of agents and of flow logs) and what came of logins over `slow_window_s`, per client,
//! server and protocol, on any port. Fires: `failures_min` logins of one client at one server fail within
//! `window_s`, or `slow_failures_min` within `slow_window_s`, and they are `failed_share_min` of all or one
//! succeeds in a window after them; or logins fail at `spray_servers_min` servers within `spray_window_s`. Each
//! later window that adds to it is another occurrence.
//! Evidence: how many failed and succeeded, how that is known (the server's word, sizes), the first
//! conversations. Severity: low where our host is the target, high where it tries (medium for types of our own);
//! a band or more higher once a login succeeds after the failures.
//! Innocent look-alikes: deployments, backups and checks that come in and are gone (they succeed: the server says
//! more to who is in), ports that are only looked at (nobody tries), code hosts that take no passwords
//! (`ssh_servers_ignored`), programs with a wrong password (`said_failures_min`, and medium at most).
//! ATT&CK T1110. Method: counts of Zeek's detect-bruteforcing.zeek, by the server's answers where they can be
//! read.
//! First look: whether one succeeded; which process tries; whether the port has to be open to whoever tries.
//! Actor key: the other end; for many hosts the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Conversation, Host as Speaker, Side, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::sample::{self, Sample};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, is_inside, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{Band, FindingType, Origin, Role};
use crate::history::{GuessSum, Guesses, Guessing, Known, Service, Tries, is_ignored};
use crate::limits::OCCURRENCES_MAX;

/// Settings of `brute_force`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Failures that are known by size of a protocol that was recognised: 10. Zeek asks for 30 of SSH; a
    /// person mistypes three times and then looks for the password.
    pub failures_min: u64,
    /// Failures by the server's word: 15. Zeek asks for 20 of FTP; a program with a wrong password tries
    /// every few minutes.
    pub said_failures_min: u64,
    /// Failures known by size and port alone: 20, as the protocol is not known for sure.
    pub guessed_failures_min: u64,
    /// Seconds they may lie apart: 1,800, Zeek's interval for SSH.
    pub window_s: u64,
    /// Failures over hours: 60. Chosen by hand: one every six minutes.
    pub slow_failures_min: u64,
    /// Seconds they may lie apart: 21,600, six hours; at most so long is remembered.
    pub slow_window_s: u64,
    /// Share of tries that fail: 0.8. Who has the password fails seldom.
    pub failed_share_min: f64,
    /// Servers at which one client fails, and never succeeds: 8. Chosen by hand: somebody who looks for a
    /// host of his own tries a few.
    pub spray_servers_min: usize,
    /// Failures at all of them together: 16, two each.
    pub spray_failures_min: u64,
    /// Seconds they may lie apart: 14,400, four hours; six at most are remembered. Chosen by hand: a check with
    /// an old key that comes by but seldom adds up to nothing.
    pub spray_window_s: u64,
    /// Beginnings of what SSH servers call themselves that take keys only and answer shortly: GitHub, GitLab,
    /// Bitbucket, CodeCommit, Gerrit.
    pub ssh_servers_ignored: Vec<String>,
    /// Severity where our host is the target: 2.0, as GuardDuty's.
    pub target_severity: f64,
    /// Severity where our host is the target and a login succeeded after the failures: 8.0.
    pub target_succeeded_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let ignored = [
            "babeld-",
            "GitLab-SSHD",
            "conker_",
            "AWSCodeCommit",
            "GerritCodeReview",
        ];
        Self {
            failures_min: 10,
            said_failures_min: 15,
            guessed_failures_min: 20,
            window_s: 1_800,
            slow_failures_min: 60,
            slow_window_s: 21_600,
            failed_share_min: 0.8,
            spray_servers_min: 8,
            spray_failures_min: 16,
            spray_window_s: 14_400,
            ssh_servers_ignored: ignored.map(str::to_owned).to_vec(),
            target_severity: 2.0,
            target_succeeded_severity: 8.0,
        }
    }
}

impl Settings {
    const fn failures_min(&self, known: Known) -> u64 {
        match known {
            Known::Said => self.said_failures_min,
            Known::Sized => self.failures_min,
            Known::Guessed => self.guessed_failures_min,
        }
    }
}

macro_rules! types {
    ($($service:ident $name:ident = $of:ident($text:literal, $severity:literal), $shown:literal;)*) => {
        $(const $name: FindingType = FindingType::$of($text, $severity);)*

        /// Every type there is.
        const TYPES: &[&FindingType] = &[$(&$name),*];

        /// The type of a service, and what it is called.
        const fn kind_of(service: Service) -> (&'static FindingType, &'static str) {
            match service {
                $(Service::$service => (&$name, $shown),)*
            }
        }
    };
}

types! {
    Winrm WINRM = guardduty("Impact:EC2/WinRMBruteForce", 8.0), "WinRM";
    Ftp FTP = picket("UnauthorizedAccess:EC2/FTPBruteForce", 5.0), "FTP";
    Imap IMAP = picket("UnauthorizedAccess:EC2/IMAPBruteForce", 5.0), "IMAP";
    Mysql MYSQL = picket("UnauthorizedAccess:EC2/MySQLBruteForce", 5.0), "MySQL";
    Pop3 POP3 = picket("UnauthorizedAccess:EC2/POP3BruteForce", 5.0), "POP3";
    Postgresql POSTGRESQL = picket("UnauthorizedAccess:EC2/PostgreSQLBruteForce", 5.0), "PostgreSQL";
    Rdp RDP = guardduty("UnauthorizedAccess:EC2/RDPBruteForce", 8.0), "RDP";
    Redis REDIS = picket("UnauthorizedAccess:EC2/RedisBruteForce", 5.0), "Redis";
    Smb SMB = picket("UnauthorizedAccess:EC2/SMBBruteForce", 5.0), "SMB";
    Smtp SMTP = picket("UnauthorizedAccess:EC2/SMTPBruteForce", 5.0), "SMTP";
    Ssh SSH = guardduty("UnauthorizedAccess:EC2/SSHBruteForce", 8.0), "SSH";
    Telnet TELNET = picket("UnauthorizedAccess:EC2/TelnetBruteForce", 5.0), "Telnet";
    Vnc VNC = picket("UnauthorizedAccess:EC2/VNCBruteForce", 5.0), "VNC";
}

/// Brute force.
pub(crate) struct BruteForce;

impl Detection for BruteForce {
    fn id(&self) -> &'static str {
        "brute_force"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        TYPES
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.brute_force;
        let (mut ones, mut many) = (BTreeMap::new(), BTreeMap::new());
        let mut cases = Vec::new();
        for c in &summary.conversations {
            let ignored = &settings.ssh_servers_ignored;
            let Some(tries) = Tries::of(summary, c).filter(|_| !is_ignored(c, ignored)) else {
                continue;
            };
            sample::put(&mut ones, (c.client, c.server, tries.service), c);
            sample::put(&mut many, (c.client, tries.service), c);
            cases.push(Case {
                summary,
                c,
                tries,
                settings,
            });
        }
        let guesses = &context.history.guesses;
        let mut charged = BTreeSet::new();
        let mut made = Vec::new();
        for case in &cases {
            let key = (case.c.client, case.c.server, case.tries.service);
            if let Some(sample) = ones.remove(&key)
                && let Some(charge) = case.at_one(guesses)
            {
                charged.insert(key);
                made.push((case, sample, charge));
            }
        }
        for case in &cases {
            let may_fail = case.tries.failed > 0 || case.tries.unclear > 0;
            let (client, server, service) = (case.c.client, case.c.server, case.tries.service);
            // Of a target both would be one finding.
            let is_told =
                case.role() == Role::Target && charged.contains(&(client, server, service));
            if !may_fail || is_told {
                continue;
            }
            if let Some(sample) = many.remove(&(client, service))
                && let Some(charge) = case.at_many(guesses)
            {
                made.push((case, sample, charge));
            }
        }
        let left_out = made.len().saturating_sub(OCCURRENCES_MAX);
        made.truncate(OCCURRENCES_MAX);
        out.extend(
            made.iter()
                .map(|(case, sample, charge)| case.occurrence(charge, sample)),
        );
        context.history.occurrences_left_out += left_out as u64;
    }
}

/// A conversation in which somebody tried.
struct Case<'a> {
    summary: &'a Summary,
    c: &'a Conversation,
    tries: Tries,
    settings: &'a Settings,
}

/// What the tries come to.
struct Charge {
    /// At how many servers.
    servers: usize,
    failed: u64,
    succeeded: u64,
    /// Whether one succeeded after the failures.
    got_in: bool,
    first_ns: u64,
}

/// Whether so many failures of so many tries are brute force.
fn is_brute(sum: &GuessSum, failures_min: u64, settings: &Settings) -> bool {
    let tries = (sum.failed + sum.succeeded) as f64;
    let mostly = sum.failed as f64 >= settings.failed_share_min * tries;
    sum.failed >= failures_min && (mostly || sum.succeeded_after && sum.succeeded <= 1)
}

impl Case<'_> {
    fn since_ns(&self, window_s: u64) -> u64 {
        let end_ns = self.summary.window.end_ns;
        end_ns.saturating_sub(window_s.saturating_mul(1_000_000_000))
    }

    fn at_one(&self, guesses: &Guesses) -> Option<Charge> {
        let (c, settings) = (self.c, self.settings);
        let key = Guessing {
            speaker: SpeakerKey::of(&self.summary.host),
            client: c.client,
            server: c.server,
            service: self.tries.service,
        };
        let windows = [
            (settings.window_s, settings.failures_min(self.tries.known)),
            (settings.slow_window_s, settings.slow_failures_min),
        ];
        let mut sums = windows.into_iter().map(|(window_s, failures_min)| {
            let sum = guesses.of(&key, self.since_ns(window_s), failures_min);
            (sum, failures_min)
        });
        let (sum, _) = sums.find(|(sum, failures_min)| is_brute(sum, *failures_min, settings))?;
        Some(Charge {
            servers: 1,
            failed: sum.failed,
            succeeded: sum.succeeded,
            got_in: sum.succeeded_after,
            first_ns: sum.first_ns,
        })
    }

    fn at_many(&self, guesses: &Guesses) -> Option<Charge> {
        let settings = self.settings;
        let since_ns = self.since_ns(settings.spray_window_s);
        let mut charge = Charge {
            servers: 0,
            failed: 0,
            succeeded: 0,
            got_in: false,
            first_ns: u64::MAX,
        };
        for one in guesses.sprayed(self.summary, self.c, self.tries.service, since_ns) {
            if one.succeeded > 0 && one.succeeded >= one.failed {
                charge.succeeded += one.succeeded;
                continue;
            }
            charge.servers += 1;
            charge.failed += one.failed;
            charge.first_ns = charge.first_ns.min(one.first_ns);
        }
        let tries = (charge.failed + charge.succeeded) as f64;
        let is_spray = charge.servers >= settings.spray_servers_min.max(2)
            && charge.failed >= settings.spray_failures_min
            && charge.failed as f64 >= settings.failed_share_min * tries;
        is_spray.then_some(charge)
    }

    /// Whether the server is judged: it is ours, or only it is inside where neither is known to be.
    fn role(&self) -> Role {
        match self.c.local {
            Side::Server => Role::Target,
            Side::Neither if is_inside(self.c.server) && !is_inside(self.c.client) => Role::Target,
            _ => Role::Actor,
        }
    }

    fn severity(&self, kind: &FindingType, role: Role, got_in: bool) -> f64 {
        match (role, got_in) {
            (Role::Target, false) => self.settings.target_severity,
            (Role::Target, true) => self.settings.target_succeeded_severity,
            (Role::Actor, false) => kind.severity,
            (Role::Actor, true) => Band::of(kind.severity).raised(),
        }
    }

    fn occurrence(&self, charge: &Charge, sample: &Sample<'_>) -> Occurrence {
        let (c, speaker): (_, &Speaker) = (self.c, &self.summary.host);
        let (kind, service) = kind_of(self.tries.service);
        let role = self.role();
        let (client, server) = ((c.client, c.client_port), (c.server, c.server_port));
        let (local, remote, direction) = match role {
            Role::Target => (server, client, Direction::Inbound),
            Role::Actor => (client, server, Direction::Outbound),
        };
        let whose = whose(speaker, local.0);
        let subject = quote(&whose.subject);
        let peer = remote.0.to_canonical();
        let is_spray = charge.servers > 1;
        let others = charge.servers.saturating_sub(1);
        let title = match (role, is_spray, charge.got_in) {
            (Role::Target, true, _) => {
                format!("{peer} tries {service} logins at {subject} and {others} other hosts")
            }
            (Role::Target, false, false) => format!("{peer} guesses {service} logins at {subject}"),
            (Role::Target, false, true) => {
                format!("{peer} got into {subject} by {service} after guessing")
            }
            (Role::Actor, true, _) => format!(
                "{subject} tries {service} logins at {} hosts",
                charge.servers
            ),
            (Role::Actor, false, false) => format!("{subject} guesses {service} logins at {peer}"),
            (Role::Actor, false, true) => {
                format!("{subject} got into {peer} by {service} after guessing")
            }
        };
        let (first_ns, last_ns) = (sample.first_ns, sample.last.last_ns);
        let seconds = last_ns.saturating_sub(charge.first_ns) / 1_000_000_000;
        let how = match self.tries.known {
            Known::Said => "the server's answers",
            Known::Sized => "the size of what the server said",
            Known::Guessed => "the port and the size of what the server said",
        };
        Occurrence {
            kind,
            rule: BruteForce.id(),
            severity: self.severity(kind, role, charge.got_in),
            confidence: confidence(self.tries.known, kind),
            account: speaker.account.clone(),
            region: speaker.region.clone(),
            subject: whose.subject,
            actor: actor(role, is_spray, service, peer),
            resource: whose.resource,
            role,
            count: 1,
            first_ns,
            last_ns,
            action: evidence_of::connection(local, remote, c.protocol, direction),
            additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
            evidence: sample.evidence(),
            mitre: if is_spray {
                &["T1110.003"]
            } else {
                &["T1110.001"]
            },
            description: format!(
                "{title}: {} logins failed within {seconds} s, {} succeeded.",
                charge.failed, charge.succeeded
            ),
            title,
            why: format!(
                "{} logins of {} by {service} at {} failed and {} succeeded within {seconds} s, told by {how} (port {})",
                charge.failed,
                c.client,
                if is_spray {
                    format!("{} servers", charge.servers)
                } else {
                    c.server.to_string()
                },
                charge.succeeded,
                c.server_port,
            ),
            first_look: &[
                "Whether a login succeeded, and what was done with it.",
                "Which process tries, and who started it; for a target, who has to reach the port.",
                "Where else whoever tries was seen.",
            ],
        }
    }
}

/// The other end; where there are many, the protocol stands for them.
fn actor(role: Role, is_spray: bool, service: &str, peer: IpAddr) -> String {
    if is_spray && role != Role::Target {
        service.to_ascii_lowercase()
    } else {
        peer.to_string()
    }
}

/// The server's word is better than its size. What GuardDuty has no type for may be a program with an old
/// password.
const fn confidence(known: Known, kind: &FindingType) -> f64 {
    match (known, kind.origin) {
        (Known::Said, Origin::GuardDuty) => 0.9,
        (Known::Said, Origin::Picket) => 0.8,
        (Known::Sized, _) => 0.7,
        (Known::Guessed, _) => 0.5,
    }
}

#[cfg(test)]
mod tests;
