//! Who tried to log in where, and how that went, over hours.
//!
//! How a login went is the server's word where the agent could read it. Where all is encrypted, or only a flow
//! log tells, it is told by the size of what the server sent: who is not let in hears little.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use picket_wire::{App, Conversation, Side, Summary};

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{GUESS_SPANS_MAX, GUESSING_MAX, SPRAYED_MAX};

/// Five minutes: what tries are counted by. Coarse against any window asked for, small against its count.
const SPAN_NS: u64 = 300_000_000_000;

const TCP: u8 = 6;
const SSH_PORT: u16 = 22;
const RDP_PORT: u16 = 3_389;
const WINRM_PORT: u16 = 5_985;
const WINRM_TLS_PORT: u16 = 5_986;
/// Where WinRM listens for requests (MS-WSMV 2.1).
const WINRM_PATH: &str = "/wsman";

/// Mean bytes that a server sends on a flow on which somebody tried and was not let in, headers included: of
/// SSH measured with OpenSSH (see the agent's limits); of RDP a TLS handshake and a refusal of CredSSP, where a
/// session begins with tens of kilobytes; of WinRM two or three answers of 401, where a shell takes five longer
/// ones. The latter two are chosen by hand.
const SSH_BYTES: (u64, u64) = (1_500, 4_000);
const RDP_BYTES: (u64, u64) = (1_200, 8_000);
const WINRM_BYTES: (u64, u64) = (300, 2_500);
const WINRM_TLS_BYTES: (u64, u64) = (1_500, 5_000);

/// What somebody wants to get into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Service {
    Ftp,
    Imap,
    Mysql,
    Pop3,
    Postgresql,
    Rdp,
    Redis,
    Smb,
    Smtp,
    Ssh,
    Telnet,
    Vnc,
    Winrm,
}

impl Service {
    /// By the name that agents give it.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ftp" => Self::Ftp,
            "imap" => Self::Imap,
            "mysql" => Self::Mysql,
            "pop3" => Self::Pop3,
            "postgresql" => Self::Postgresql,
            "rdp" => Self::Rdp,
            "redis" => Self::Redis,
            "smb" => Self::Smb,
            "smtp" => Self::Smtp,
            "telnet" => Self::Telnet,
            "vnc" => Self::Vnc,
            _ => return None,
        })
    }
}

/// How it is known how a login went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The server said so.
    Said,
    /// By sizes, of a protocol that was recognised.
    Sized,
    /// By sizes, of whatever is behind a port.
    Guessed,
}

/// The tries of one conversation in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tries {
    pub(crate) service: Service,
    pub(crate) failed: u32,
    pub(crate) succeeded: u32,
    pub(crate) known: Known,
}

impl Tries {
    /// `None` where nothing tells of a try.
    pub(crate) fn of(c: &Conversation) -> Option<Self> {
        if c.protocol != TCP || c.local == Side::Both {
            return None;
        }
        let tries = Self::read(c)?;
        (tries.failed > 0 || tries.succeeded > 0).then_some(tries)
    }

    fn read(c: &Conversation) -> Option<Self> {
        let Some(content) = c.content.as_deref() else {
            let (service, bytes) = match c.server_port {
                SSH_PORT => (Service::Ssh, SSH_BYTES),
                RDP_PORT => (Service::Rdp, RDP_BYTES),
                WINRM_PORT => (Service::Winrm, WINRM_BYTES),
                WINRM_TLS_PORT => (Service::Winrm, WINRM_TLS_BYTES),
                _ => return None,
            };
            return Self::by_size(c, service, bytes, Known::Guessed);
        };
        if let Some(ssh) = &content.ssh {
            return Some(Self {
                service: Service::Ssh,
                failed: ssh.failed,
                succeeded: ssh.succeeded,
                known: Known::Sized,
            });
        }
        let logins = content.logins.as_deref();
        let service = logins.and_then(|logins| Service::named(&logins.service));
        let is_winrm = || {
            let http = content.http.as_deref();
            http.is_some_and(|http| http.path.to_ascii_lowercase().starts_with(WINRM_PATH))
        };
        match (service, logins) {
            (Some(Service::Rdp), _) => Self::by_size(c, Service::Rdp, RDP_BYTES, Known::Sized),
            (Some(service), Some(logins)) => Some(Self {
                service,
                failed: logins.failed,
                succeeded: logins.succeeded,
                known: Known::Said,
            }),
            _ if is_winrm() => Self::by_size(c, Service::Winrm, WINRM_BYTES, Known::Sized),
            _ if content.app == Some(App::Tls) && c.server_port == WINRM_TLS_PORT => {
                Self::by_size(c, Service::Winrm, WINRM_TLS_BYTES, Known::Guessed)
            }
            _ if content.app == Some(App::Tls) && c.server_port == RDP_PORT => {
                Self::by_size(c, Service::Rdp, RDP_BYTES, Known::Guessed)
            }
            _ => None,
        }
    }

    fn by_size(
        c: &Conversation,
        service: Service,
        bytes: (u64, u64),
        known: Known,
    ) -> Option<Self> {
        let mean = c.bytes_in.checked_div(u64::from(c.flows))?;
        // Flow logs may not tell what opens.
        let begun = if c.attempts > 0 || c.accepted > 0 {
            c.accepted
        } else {
            c.flows
        };
        let (failed, succeeded) = match mean {
            mean if mean > bytes.1 => (0, c.flows),
            mean if mean >= bytes.0 => (begun, 0),
            _ => return None,
        };
        // What goes on from a window before has been counted there, unless it turns out to be a session.
        let goes_on = c.attempts == 0 && c.accepted == 0 && c.opened == picket_wire::Opened::Seen;
        Some(Self {
            service,
            failed: if goes_on { 0 } else { failed },
            succeeded,
            known,
        })
    }
}

/// Who tries where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Guessing {
    pub(crate) speaker: SpeakerKey,
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
    pub(crate) service: Service,
}

/// Who tries at many places: told by one sensor, or by those of an account whose hosts are tried.
type Spraying = (SpeakerKey, IpAddr, Service);

#[derive(Debug, Default)]
struct Span {
    start_ns: u64,
    /// Of the first try in it.
    first_ns: u64,
    failed: u32,
    succeeded: u32,
}

/// What came of tries at one server within a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) failed: u64,
    pub(crate) succeeded: u64,
    /// Whether one succeeded after as many had failed as were asked for.
    pub(crate) succeeded_after: bool,
    pub(crate) first_ns: u64,
}

/// What came of tries of one client at one server among many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sprayed {
    pub(crate) failed: u32,
    pub(crate) succeeded: u32,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

/// Tries, by who and where.
#[derive(Debug)]
pub(crate) struct Guesses {
    pairs: Table<Guessing, VecDeque<Span>>,
    sprays: Table<Spraying, BTreeMap<IpAddr, Sprayed>>,
    left_out: u64,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            pairs: Table::new(GUESSING_MAX),
            sprays: Table::new(GUESSING_MAX),
            left_out: 0,
        }
    }
}

impl Guesses {
    /// Notes what a summary says of logins. Who never fails is not remembered.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let mut speaker = None;
        for c in &summary.conversations {
            let Some(tries) = Tries::of(c) else { continue };
            let speaker = *speaker.get_or_insert_with(|| SpeakerKey::of(&summary.host));
            let key = Guessing {
                speaker,
                client: c.client,
                server: c.server,
                service: tries.service,
            };
            if tries.failed > 0 || self.pairs.get(&key).is_some() {
                self.put(key, &tries, c);
            }
            let key = Self::spraying(summary, speaker, c, tries.service);
            if tries.failed > 0 || self.sprays.get(&key).is_some() {
                self.put_spray(key, &tries, c);
            }
        }
    }

    fn spraying(
        summary: &Summary,
        speaker: SpeakerKey,
        c: &Conversation,
        service: Service,
    ) -> Spraying {
        let told = if c.local == Side::Server {
            SpeakerKey::of_account(&summary.host)
        } else {
            speaker
        };
        (told, c.client, service)
    }

    fn put(&mut self, key: Guessing, tries: &Tries, c: &Conversation) {
        let spans = self.pairs.write(key, c.last_ns);
        let start_ns = c.last_ns - c.last_ns % SPAN_NS;
        // Summaries may come a little out of order.
        let known = spans
            .iter_mut()
            .rev()
            .find(|span| span.start_ns == start_ns);
        if let Some(span) = known {
            span.first_ns = span.first_ns.min(c.first_ns);
            span.failed = span.failed.saturating_add(tries.failed);
            span.succeeded = span.succeeded.saturating_add(tries.succeeded);
            return;
        }
        if spans.len() >= GUESS_SPANS_MAX {
            spans.pop_front();
        }
        let at = spans.partition_point(|span| span.start_ns < start_ns);
        spans.insert(
            at,
            Span {
                start_ns,
                first_ns: c.first_ns,
                failed: tries.failed,
                succeeded: tries.succeeded,
            },
        );
    }

    fn put_spray(&mut self, key: Spraying, tries: &Tries, c: &Conversation) {
        let servers = self.sprays.write(key, c.last_ns);
        if servers.len() >= SPRAYED_MAX && !servers.contains_key(&c.server) {
            self.left_out += 1;
            return;
        }
        let one = servers.entry(c.server).or_insert_with(|| Sprayed {
            first_ns: c.first_ns,
            ..Sprayed::default()
        });
        one.failed = one.failed.saturating_add(tries.failed);
        one.succeeded = one.succeeded.saturating_add(tries.succeeded);
        one.last_ns = one.last_ns.max(c.last_ns);
    }

    /// What came of the tries of `key` since then; `failures_min` says after how many a success is one after
    /// failures.
    pub(crate) fn of(&self, key: &Guessing, since_ns: u64, failures_min: u64) -> Sum {
        let mut sum = Sum::default();
        let spans = self.pairs.get(key).into_iter().flatten();
        for span in spans.filter(|span| span.start_ns.saturating_add(SPAN_NS) > since_ns) {
            if sum == Sum::default() {
                sum.first_ns = span.first_ns;
            }
            sum.failed += u64::from(span.failed);
            sum.succeeded += u64::from(span.succeeded);
            sum.succeeded_after |= span.succeeded > 0 && sum.failed >= failures_min;
        }
        sum
    }

    /// The servers at which the client of `c` tried since then, its fleet's if those are tried.
    pub(crate) fn sprayed(
        &self,
        summary: &Summary,
        c: &Conversation,
        service: Service,
        since_ns: u64,
    ) -> impl Iterator<Item = (&IpAddr, &Sprayed)> {
        let speaker = SpeakerKey::of(&summary.host);
        let row = self
            .sprays
            .get(&Self::spraying(summary, speaker, c, service));
        let servers = row.into_iter().flatten();
        servers.filter(move |(_, one)| one.last_ns >= since_ns)
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.pairs.expire(before_ns);
        self.sprays.expire(before_ns);
        for spans in self.pairs.values_mut() {
            spans.retain(|span| span.start_ns.saturating_add(SPAN_NS) > before_ns);
        }
        for servers in self.sprays.values_mut() {
            servers.retain(|_, one| one.last_ns >= before_ns);
        }
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 3] {
        [
            ("guessing_evicted", self.pairs.evicted()),
            ("spraying_evicted", self.sprays.evicted()),
            ("sprayed_servers_left_out", self.left_out),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, later, mirror, summary};
    use picket_wire::{Content, Logins, Opened, Ssh};

    fn said(service: &str, failed: u32, succeeded: u32) -> Conversation {
        let logins = Logins {
            service: service.into(),
            failed,
            succeeded,
        };
        let mut c = conversation("10.1.0.1", "10.1.0.2", 2_121);
        c.content = Some(Box::new(Content {
            logins: Some(Box::new(logins)),
            ..Content::default()
        }));
        c
    }

    #[track_caller]
    fn check(c: &Conversation, expected: Option<(Service, u32, u32, Known)>) {
        let got = Tries::of(c).map(|t| (t.service, t.failed, t.succeeded, t.known));
        assert_eq!(got, expected);
    }

    #[test]
    fn the_servers_word_on_any_port() {
        check(&said("ftp", 3, 0), Some((Service::Ftp, 3, 0, Known::Said)));
        check(
            &said("mysql", 1, 1),
            Some((Service::Mysql, 1, 1, Known::Said)),
        );
        check(&said("ftp", 0, 0), None);
        check(&said("gopher", 3, 0), None);
    }

    #[test]
    fn sizes_by_port_where_nothing_was_said() {
        let sized = |port, flows: u32, bytes_in| {
            let mut c = conversation("10.1.0.1", "10.1.0.2", port);
            (c.flows, c.attempts, c.accepted, c.bytes_in) = (flows, flows, flows, bytes_in);
            c
        };
        let failed = |service, count| Some((service, count, 0, Known::Guessed));
        check(&sized(22, 5, 12_000), failed(Service::Ssh, 5));
        check(&sized(3_389, 5, 12_000), failed(Service::Rdp, 5));
        check(&sized(5_985, 5, 6_000), failed(Service::Winrm, 5));
        check(
            &sized(22, 5, 40_000),
            Some((Service::Ssh, 0, 5, Known::Guessed)),
        );
        // Who looks whether the port answers; what nobody knows.
        check(&sized(22, 5, 1_000), None);
        check(&sized(2_222, 5, 12_000), None);
        let mut log = sized(22, 4, 9_000);
        (log.attempts, log.accepted, log.opened) = (0, 0, Opened::Guessed);
        check(&log, failed(Service::Ssh, 4));
        log.opened = Opened::Seen;
        check(&log, None);
    }

    #[test]
    fn ssh_is_counted_by_the_agent() {
        let ssh = |failed, succeeded| {
            let mut c = conversation("10.1.0.1", "10.1.0.2", 2_222);
            c.content = Some(Box::new(Content {
                app: Some(App::Ssh),
                ssh: Some(Box::new(Ssh {
                    failed,
                    succeeded,
                    ..Ssh::default()
                })),
                ..Content::default()
            }));
            c
        };
        check(&ssh(2, 1), Some((Service::Ssh, 2, 1, Known::Sized)));
        check(&ssh(0, 0), None);
    }

    #[test]
    fn adds_up_within_the_window_and_says_what_came_after() {
        let mut guesses = Guesses::default();
        let at = |second, failed, succeeded| {
            let mut one = summary(mirror());
            one.conversations = vec![said("ftp", failed, succeeded)];
            later(one, second)
        };
        let first = at(0, 6, 1);
        let key = Guessing {
            speaker: SpeakerKey::of(&first.host),
            client: first.conversations[0].client,
            server: first.conversations[0].server,
            service: Service::Ftp,
        };
        guesses.note(&first);
        guesses.note(&at(600, 6, 0));
        let of = |guesses: &Guesses| {
            let sum = guesses.of(&key, 0, 10);
            (sum.failed, sum.succeeded, sum.succeeded_after)
        };
        assert_eq!(of(&guesses), (12, 1, false));
        guesses.note(&at(1_200, 0, 1));
        assert_eq!(of(&guesses), (12, 2, true));
        let last = at(1_200, 0, 0).window.end_ns;
        assert_eq!(guesses.of(&key, last, 10).failed, 0);
    }

    #[test]
    fn is_bounded() {
        let mut guesses = Guesses::default();
        for number in 0..500u64 {
            let mut one = summary(mirror());
            let mut c = said("ftp", 1, 0);
            c.server = IpAddr::V4(std::net::Ipv4Addr::from(0x0a02_0000 + number as u32));
            one.conversations = vec![c];
            guesses.note(&later(one, 300 * number));
        }
        let one = summary(mirror());
        let c = said("ftp", 1, 0);
        assert_eq!(
            guesses.sprayed(&one, &c, Service::Ftp, 0).count(),
            SPRAYED_MAX
        );
        assert!(guesses.turned_away()[2].1 > 0);
    }
}
