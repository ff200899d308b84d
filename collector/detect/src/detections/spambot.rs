//! Spam bot: a host that never did mail turns to many mail servers.
//! Reads: conversations with ports 25, 465 and 587 and questions for mail servers, over `window_s`; how
//! long the host has been known to send mail. Fires: in each window in which it turns to a server, from
//! `servers_min` different ones at port 25 (`submission_servers_min` at the others), of which three
//! answered or whose names it asked for; or from `messages_min` messages.
//! Evidence: servers, messages, domains asked for, the first conversations. Severity: medium, as
//! GuardDuty's.
//! Innocent look-alikes: one mail, an application that has a relay (one server by its name, whatever its
//! addresses), a mail server (it is brought mail, or turned to the same ports on other days), a scan of port 25 (nobody answers, no names). ATT&CK
//! T1566, T1496. Method: counts of different servers, as a relay needs one and a domain has a handful.
//! First look: which process sends; whose addresses stand in the envelopes; what the host runs for mail.
//! Actor key: none: the host is the actor, its servers are many.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::{Conversation, Side, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{MAIL_PORT, MailServer, Mailing, SUBMISSION_PORTS, Traffic, is_mail};
use crate::reach::is_public;

/// Settings of `spambot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Different servers at port 25: 10. A large domain has five names of servers, of two addresses each,
    /// and a sender tries one or two of them.
    pub servers_min: usize,
    /// Different servers at the ports of submission: 20. People have one each.
    pub submission_servers_min: usize,
    /// Messages in clear text to whatever servers: 200. An application that reports by mail is slower.
    pub messages_min: u64,
    /// Servers of these that must have answered, or domains whose servers the host asked for: 3.
    pub answered_min: usize,
    /// Seconds they may lie apart: 3,600. No more is remembered.
    pub window_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers_min: 10,
            submission_servers_min: 20,
            messages_min: 200,
            answered_min: 3,
            window_s: 3_600,
        }
    }
}

const SPAMBOT: FindingType = FindingType::guardduty("Backdoor:EC2/Spambot", 5.0);

/// Conversations shown with one occurrence.
const EVIDENCE_PER_WINDOW: usize = 20;

const TCP: u8 = 6;

/// Spam bots.
pub(crate) struct Spambot;

impl Detection for Spambot {
    fn id(&self) -> &'static str {
        "spambot"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&SPAMBOT]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.spambot;
        let speaker = SpeakerKey::of(&summary.host);
        let mut senders: BTreeMap<IpAddr, Vec<&Conversation>> = BTreeMap::new();
        for c in summary.conversations.iter().filter(|c| is_sent(c)) {
            senders.entry(c.client).or_default().push(c);
        }
        for (sender, sent) in senders {
            let Some(mailing) = context.history.mailings.of(speaker, sender) else {
                continue;
            };
            let tally = Tally::of(mailing, summary.window.end_ns, settings);
            let reached = tally.reached(settings);
            if reached.is_none() {
                continue;
            }
            let host = whose(&summary.host, sender).subject;
            let usual = context.history.traffics.of(&summary.host, &host);
            if reached.is_news(&sent, usual, summary.window.end_ns) {
                out.push(occurrence(summary, sender, &sent, &tally, settings));
            }
        }
    }
}

/// Mail that leaves for a public server.
fn is_sent(c: &Conversation) -> bool {
    is_mail(c) && c.local != Side::Server && is_public(c.server)
}

/// Which bars a host reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    delivery: bool,
    submission: bool,
    messages: bool,
}

impl Reached {
    fn is_none(self) -> bool {
        !(self.delivery || self.submission || self.messages)
    }

    /// Whether the host did not turn to the ports of one of these on days before: those of messages are the
    /// ones that it turns to now.
    fn is_news(self, sent: &[&Conversation], usual: Option<&Traffic>, now_ns: u64) -> bool {
        let is_usual = |port| usual.is_some_and(|usual| usual.is_port_usual(TCP, port, now_ns));
        self.delivery && !is_usual(MAIL_PORT)
            || self.submission && !SUBMISSION_PORTS.into_iter().any(is_usual)
            || self.messages && !sent.iter().all(|c| is_usual(c.server_port))
    }
}

/// What a host did about mail within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    delivery: usize,
    delivery_answered: usize,
    submission: usize,
    submission_answered: usize,
    domains: usize,
    messages: u64,
    is_server: bool,
}

impl Tally {
    fn of(mailing: &Mailing, now_ns: u64, settings: &Settings) -> Self {
        let since_ns = now_ns.saturating_sub(settings.window_s.saturating_mul(1_000_000_000));
        let count = |servers: &BTreeMap<MailServer, (u64, bool)>, answered: bool| {
            let fitting = servers
                .values()
                .filter(|(last_ns, is_told)| *last_ns >= since_ns && (*is_told || !answered));
            fitting.count()
        };
        Self {
            delivery: count(&mailing.delivery, false),
            delivery_answered: count(&mailing.delivery, true),
            submission: count(&mailing.submission, false),
            submission_answered: count(&mailing.submission, true),
            domains: mailing.domains.len(),
            messages: mailing.messages_since(since_ns),
            is_server: mailing.served_ns.is_some_and(|served| served >= since_ns),
        }
    }

    fn reached(&self, settings: &Settings) -> Reached {
        let is_meant =
            |answered| answered >= settings.answered_min || self.domains >= settings.answered_min;
        let many = self.delivery >= settings.servers_min && is_meant(self.delivery_answered);
        let submitted = self.submission >= settings.submission_servers_min
            && is_meant(self.submission_answered);
        Reached {
            delivery: !self.is_server && many,
            submission: !self.is_server && submitted,
            messages: !self.is_server && self.messages >= settings.messages_min,
        }
    }
}

fn occurrence(
    summary: &Summary,
    sender: IpAddr,
    sent: &[&Conversation],
    tally: &Tally,
    settings: &Settings,
) -> Occurrence {
    let speaker = &summary.host;
    let last = sent.iter().max_by_key(|c| c.last_ns);
    let (own_port, server, port) =
        last.map_or((0, sender, 0), |c| (c.client_port, c.server, c.server_port));
    let first_ns = sent.iter().map(|c| c.first_ns).min().unwrap_or_default();
    let last_ns = last.map_or(first_ns, |c| c.last_ns);
    let whose = whose(speaker, sender);
    let subject = quote(&whose.subject);
    let Tally {
        delivery,
        submission,
        domains,
        messages,
        ..
    } = tally;
    let answered = tally.delivery_answered + tally.submission_answered;
    let title = format!("{subject} sends mail like a spam bot");
    let servers = delivery + submission;
    Occurrence {
        kind: &SPAMBOT,
        rule: Spambot.id(),
        severity: SPAMBOT.severity,
        confidence: 0.8,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: String::new(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns,
        last_ns,
        action: evidence_of::connection(
            (sender, own_port),
            (server, port),
            TCP,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: sent
            .iter()
            .take(EVIDENCE_PER_WINDOW)
            .map(|c| evidence_of::conversation(c))
            .collect(),
        mitre: &["T1566", "T1496"],
        description: format!(
            "{title}: it turned to {servers} mail servers and is not known for mail."
        ),
        title,
        why: format!(
            "{sender} turned to {delivery} servers at port 25 and {submission} at the ports of submission within {} s, {answered} answered; it asked for the mail servers of {domains} domains and began {messages} messages in clear text",
            settings.window_s,
        ),
        first_look: &[
            "Which process opens the connections, and who started it.",
            "Whether mail is among the host's tasks, from today on.",
            "Which domains it greets with and sends as.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        analyze, brief, conversation, later, mirror, question, speaker, summary, unanswered,
    };
    use picket_intel::IndicatorSet;
    use picket_wire::{Content, Host, Smtp};

    const US: &str = "10.0.0.1";
    const DAY: u64 = 24 * 3_600;

    fn window(host: Host, conversations: Vec<Conversation>) -> Summary {
        Summary {
            conversations,
            ..summary(host)
        }
    }

    fn mails(servers: std::ops::Range<u8>, port: u16) -> Vec<Conversation> {
        servers
            .map(|n| conversation(US, &format!("192.0.2.{n}"), port))
            .collect()
    }

    #[track_caller]
    fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
        let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let found = brief(&findings).into_iter();
        let found: Vec<_> = found.filter(|(name, ..)| *name == SPAMBOT.name).collect();
        assert_eq!(found, expected);
    }

    fn once(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        check(vec![window(speaker(), conversations.clone())], expected);
        check(vec![window(mirror(), conversations)], expected);
    }

    const FOUND: &[(&str, f64, u64)] = &[("Backdoor:EC2/Spambot", 5.0, 1)];

    #[test]
    fn ten_servers_are_many_and_one_mail_is_none() {
        once(mails(0..10, 25), FOUND);
        once(mails(0..9, 25), &[]);
        once(mails(0..1, 25), &[]);
        once(mails(0..20, 587), FOUND);
        once(mails(0..19, 465), &[]);
        once(mails(0..50, 443), &[]);
    }

    #[test]
    fn a_mail_server_is_brought_mail() {
        let mut both = mails(0..50, 25);
        both.push(conversation("198.51.100.1", US, 25));
        once(both, &[]);
        let mut knocked = mails(0..50, 25);
        knocked.push(unanswered("198.51.100.1", US, 25));
        once(knocked, FOUND);
    }

    #[test]
    fn a_host_that_sent_mail_on_days_before_is_known_for_it() {
        let day = |day, servers| later(window(speaker(), mails(0..servers, 25)), day * DAY);
        check(vec![day(0, 1), day(1, 1), day(2, 50)], &[]);
        check(vec![day(0, 1), day(1, 50)], FOUND);
    }

    #[test]
    fn an_application_that_submits_is_known_by_that_port_and_its_service_by_its_name() {
        let day = |day, servers, port| later(window(speaker(), mails(0..servers, port)), day * DAY);
        check(vec![day(0, 1, 587), day(1, 1, 587), day(2, 30, 587)], &[]);
        check(vec![day(0, 1, 587), day(1, 1, 587), day(2, 30, 25)], FOUND);
        check(vec![day(0, 1, 25), day(1, 1, 25), day(2, 30, 587)], FOUND);
        let named = |name: fn(usize) -> String| {
            let mut all = mails(0..30, 587);
            for (n, c) in all.iter_mut().enumerate() {
                c.dns_name = Some(name(n));
            }
            all
        };
        once(named(|_| "email-smtp.eu-west-1.amazonaws.com".into()), &[]);
        once(named(|n| format!("mail{n}.example.org")), FOUND);
    }

    #[test]
    fn a_scan_of_the_port_is_another_matter_and_a_blocked_bot_is_not() {
        let knocks = || {
            (0..50)
                .map(|n| unanswered(US, &format!("192.0.2.{n}"), 25))
                .collect()
        };
        once(knocks(), &[]);
        let mut asked = window(speaker(), knocks());
        asked.questions = (0..5)
            .map(|n| {
                let mut q = question(US, &format!("victim{n}.example"));
                q.qtype = 15;
                q
            })
            .collect();
        check(vec![asked], FOUND);
    }

    #[test]
    fn many_messages_to_one_server() {
        let begun = |messages| {
            let mut c = conversation(US, "192.0.2.1", 25);
            c.content = Some(Box::new(Content {
                smtp: Some(Box::new(Smtp {
                    messages,
                    ..Smtp::default()
                })),
                ..Content::default()
            }));
            vec![c]
        };
        once(begun(200), FOUND);
        once(begun(199), &[]);
    }

    #[test]
    fn servers_add_up_within_the_hour_and_not_beyond() {
        let paced = |seconds: u64| {
            let one = |n: u8| {
                later(
                    window(speaker(), mails(n..n + 1, 25)),
                    u64::from(n) * seconds,
                )
            };
            (0..12).map(one).collect::<Vec<_>>()
        };
        check(paced(60), &[("Backdoor:EC2/Spambot", 5.0, 3)]);
        check(paced(900), &[]);
    }

    #[test]
    fn mail_to_our_own_relay_and_mail_brought_to_us_are_none() {
        let inside = (0..50).map(|n| conversation(US, &format!("10.0.9.{n}"), 25));
        once(inside.collect(), &[]);
        let brought = (0..50).map(|n| conversation("198.51.100.1", &format!("10.0.9.{n}"), 25));
        once(brought.collect(), &[]);
    }
}
