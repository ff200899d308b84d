//! Tor by its shape: a host opens TLS to several servers, each under another invented name.
//! Reads: TLS server names, JA4 and the names that DNS led there, over `window_s`. Fires: from `names_min`
//! names of the form that Tor invents (`www.`, 4 to 25 of `a-z2-7`, `.com` or `.net`), improbable as words,
//! at two servers at least, all with one JA4 without ALPN, none of them resolved, if they are
//! `share_min` of what that JA4 said without being resolved; each further name is another occurrence.
//! Evidence: the names and servers. Severity: GuardDuty's 8.0 from `names_sure` names, else 5.0.
//! Innocent look-alikes: sites of such names (resolved first), crawlers (most names are words), clients
//! whose DNS is not seen (words, or ALPN). A bridge with a disguise (obfs4, Snowflake) is not found.
//! ATT&CK T1090.003. Method: Tor's source, `crypto_random_hostname(4, 25, "www.", ".com")` in its TLS layer.
//! First look: which process it is; whether anybody may use Tor here; what the host did before.
//! Actor key: the JA4.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Conversation, Host as Speaker, Side};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::Hello;
use crate::reach::is_public;

/// Settings of `tor_client`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Names it takes: 3. A client keeps two or three guards, and tries more when it starts.
    pub names_min: usize,
    /// Names from which on it is sure: 5.
    pub names_sure: usize,
    /// Seconds they may lie apart: 3,600; at most an hour is remembered.
    pub window_s: u64,
    /// Share of the names that were said and not resolved which must be of that form: 0.8. A crawler
    /// whose DNS is not seen names mostly words.
    pub share_min: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            names_min: 3,
            names_sure: 5,
            window_s: 3_600,
            share_min: 0.8,
        }
    }
}

const TOR_CLIENT: FindingType = FindingType::guardduty("UnauthorizedAccess:EC2/TorClient", 8.0);

/// Severity while it is not sure.
const UNSURE_SEVERITY: f64 = 5.0;

/// Servers that the names must have been said to.
const SERVERS_MIN: usize = 2;

const TCP: u8 = 6;

/// Tor, by its shape.
pub(crate) struct TorClient;

impl Detection for TorClient {
    fn id(&self) -> &'static str {
        "tor_client"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&TOR_CLIENT]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.tor_client;
        let speaker = SpeakerKey::of(&summary.host);
        let hellos = &mut context.history.hellos;
        for c in summary.conversations.iter().filter(|c| is_unresolved(c)) {
            let Some(ja4) = c.ja4.as_deref().filter(|ja4| !has_alpn(ja4)) else {
                continue;
            };
            let key = || (speaker, c.client, Box::from(ja4));
            let further = c.content.iter().flat_map(|content| &content.tls_names);
            for name in c.tls_name.iter().chain(further) {
                if !is_invented(name) {
                    hellos.plain(key(), c.last_ns);
                    continue;
                }
                let hello = Hello {
                    time_ns: c.first_ns,
                    name: name.clone(),
                    server: c.server,
                };
                let Some(of) = hellos.odd(key(), hello) else {
                    continue;
                };
                let since_ns = c
                    .first_ns
                    .saturating_sub(settings.window_s.saturating_mul(1_000_000_000));
                let odd: Vec<&Hello> = of
                    .odd
                    .iter()
                    .filter(|one| one.time_ns >= since_ns)
                    .collect();
                let servers: BTreeSet<IpAddr> = odd.iter().map(|one| one.server).collect();
                let all = (odd.len() + of.plain_since(since_ns)) as f64;
                if odd.len() >= settings.names_min
                    && servers.len() >= SERVERS_MIN
                    && odd.len() as f64 >= settings.share_min * all
                {
                    out.push(occurrence(&summary.host, c, &odd, servers.len(), settings));
                }
            }
        }
    }
}

/// Says whether a host of ours opened TLS under a name that no DNS answer was seen for.
fn is_unresolved(c: &Conversation) -> bool {
    c.protocol == TCP
        && matches!(c.local, Side::Client | Side::Neither)
        && is_public(c.server)
        && c.tls_name.is_some()
        && c.tls_name != c.dns_name
}

/// Says whether a JA4 tells of ALPN: the last two of its first part are its first and last letter, or 00.
fn has_alpn(ja4: &str) -> bool {
    let first = ja4.split('_').next().unwrap_or_default();
    !first.ends_with("00")
}

/// Says whether a name has the form of those that Tor invents and is no word: it has one of the six digits
/// (all but one in twelve of twelve letters do) and few vowels.
fn is_invented(name: &str) -> bool {
    let label = name.strip_prefix("www.").and_then(|rest| {
        let of_com = rest.strip_suffix(".com");
        of_com.or_else(|| rest.strip_suffix(".net"))
    });
    let Some(label) = label.filter(|label| (4..=25).contains(&label.len())) else {
        return false;
    };
    let is_of = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'2'..=b'7');
    let count = |of: &dyn Fn(u8) -> bool| label.bytes().filter(|byte| of(*byte)).count();
    let digits = count(&|byte| byte.is_ascii_digit());
    let vowels = count(&|byte| b"aeiou".contains(&byte));
    label.bytes().all(is_of) && digits > 0 && vowels * 5 <= label.len() * 2
}

fn occurrence(
    speaker: &Speaker,
    c: &Conversation,
    odd: &[&Hello],
    servers: usize,
    settings: &Settings,
) -> Occurrence {
    let whose = whose(speaker, c.client);
    let subject = quote(&whose.subject);
    let names = odd.len();
    let sure = names >= settings.names_sure;
    let title = format!("{subject} looks like a Tor client");
    let first = odd.iter().map(|one| one.time_ns).min();
    let some: Vec<&str> = odd.iter().take(3).map(|one| one.name.as_str()).collect();
    let ja4 = c.ja4.clone().unwrap_or_default();
    Occurrence {
        kind: &TOR_CLIENT,
        rule: TorClient.id(),
        severity: if sure {
            TOR_CLIENT.severity
        } else {
            UNSURE_SEVERITY
        },
        confidence: if sure { 0.9 } else { 0.7 },
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: ja4.clone(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: first.unwrap_or(c.first_ns),
        last_ns: c.last_ns,
        action: evidence_of::connection(
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: vec![evidence_of::conversation(c)],
        mitre: &["T1090.003"],
        description: format!(
            "{title}: it names itself to servers as Tor does. No list was needed."
        ),
        title,
        why: format!(
            "{} named {names} servers that no DNS answer was seen for, as Tor invents names ({}), at {servers} addresses with one fingerprint ({})",
            c.client,
            quote(&some.join(", ")),
            quote(&ja4)
        ),
        first_look: &[
            "Which process it is, and who started it.",
            "Whether anybody may use Tor from here.",
            "What the host did before, and what was sent since.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, later, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::Summary;

    const FOUND: &str = "UnauthorizedAccess:EC2/TorClient";
    const TOR_JA4: &str = "t13d180700_0123456789ab_0123456789ab";
    const INVENTED: [&str; 6] = [
        "www.h4kq7cvtzo2.com",
        "www.t6xgdw3npqb.net",
        "www.zq2lmv5k.com",
        "www.bn7tyq4hcd.com",
        "www.k3fvwz6rpd.net",
        "www.x5cgjq2mt.com",
    ];

    fn hello(name: &str, server: u8) -> Conversation {
        Conversation {
            tls_name: Some(name.into()),
            ja4: Some(TOR_JA4.into()),
            ..conversation("10.0.0.1", &format!("192.0.2.{server}"), 443)
        }
    }

    fn of(names: &[&str]) -> Vec<Conversation> {
        (1..)
            .zip(names)
            .map(|(server, name)| hello(name, server))
            .collect()
    }

    #[track_caller]
    fn check_paced(conversations: Vec<Conversation>, seconds: u64, expected: &[(&str, f64, u64)]) {
        let events = (0..).zip(conversations).map(|(at, c)| {
            let one = Summary {
                conversations: vec![c],
                ..summary(speaker())
            };
            Event::Summary(Box::new(later(one, at * seconds)))
        });
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    #[track_caller]
    fn check(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        check_paced(conversations, 10, expected);
    }

    #[test]
    fn three_invented_names_and_two() {
        check(of(&INVENTED[..3]), &[(FOUND, 5.0, 1)]);
        check(of(&INVENTED[..2]), &[]);
        check(of(&INVENTED[..5]), &[(FOUND, 8.0, 3)]);
        check(of(&[INVENTED[0]; 5]), &[]);
    }

    #[test]
    fn one_server_of_many_names_is_no_network() {
        let at_one = |name: &&str| hello(name, 1);
        check(INVENTED.iter().map(at_one).collect(), &[]);
        let mut two: Vec<_> = INVENTED.iter().map(at_one).collect();
        two[4] = hello(INVENTED[4], 2);
        check(two, &[(FOUND, 8.0, 2)]);
    }

    #[test]
    fn resolved_names_are_sites() {
        let resolved = |mut c: Conversation| {
            c.dns_name.clone_from(&c.tls_name);
            c
        };
        check(of(&INVENTED).into_iter().map(resolved).collect(), &[]);
        let other = |mut c: Conversation| {
            c.dns_name = Some("guard.example".into());
            c
        };
        check(
            of(&INVENTED).into_iter().map(other).collect(),
            &[(FOUND, 8.0, 4)],
        );
    }

    #[test]
    fn who_offers_protocols_is_a_browser() {
        let with = |ja4: &'static str| {
            let set = move |mut c: Conversation| {
                c.ja4 = Some(ja4.into());
                c
            };
            of(&INVENTED).into_iter().map(set).collect::<Vec<_>>()
        };
        check(with("t13d1516h2_0123456789ab_0123456789ab"), &[]);
        check(
            with("t12d360300_0123456789ab_0123456789ab"),
            &[(FOUND, 8.0, 4)],
        );
    }

    #[test]
    fn a_crawler_names_mostly_words() {
        let mut all = of(&["www.example.com", "www.bakery.com", "www.shop24.net"]);
        all.extend(of(&INVENTED));
        check(all.clone(), &[]);
        all.drain(..2);
        check(all, &[(FOUND, 8.0, 5)]);
    }

    #[test]
    fn names_an_hour_apart_are_not_together() {
        check_paced(of(&INVENTED[..3]), 1_790, &[(FOUND, 5.0, 1)]);
        check_paced(of(&INVENTED[..3]), 1_900, &[]);
    }

    #[test]
    fn words_are_told_from_inventions() {
        for name in INVENTED {
            assert!(is_invented(name), "{name}");
        }
        for name in [
            "www.example.com",
            "www.google.com",
            "www.audio4you.com",
            "www.h4kq7cvtzo2.org",
            "h4kq7cvtzo2.com",
            "www.h4k-q7c.com",
            "www.h9kq8cvtzo1.com",
            "www.cdn.h4kq7cvtzo2.com",
            "www.b3.com",
        ] {
            assert!(!is_invented(name), "{name}");
        }
    }
}
