//! Who tried to log in where, and how that went, over hours.
//!
//! How a login went is the server's word where the agent could read it. Where all is encrypted, or only a flow
//! log tells, it is told by the size of what the server sent: who is not let in hears little.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use picket_wire::{App, Conversation, Opened, Side, Summary};

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::event::FLOW_LOG;
use crate::limits::{GUESS_SPANS_MAX, GUESSING_MAX, SPRAY_SPANS_MAX, SPRAYED_MAX};

/// Five minutes: what tries are counted by. Coarse against any window asked for, small against its count.
const SPAN_NS: u64 = 300_000_000_000;
/// Half an hour: the same at each of many servers, where there is no room for finer ones.
const SPRAY_SPAN_NS: u64 = 1_800_000_000_000;

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

/// Whether the server of `c` calls itself as one of them begins.
pub(crate) fn is_ignored(c: &Conversation, ignored: &[String]) -> bool {
    let content = c.content.as_deref();
    let ssh = content.and_then(|content| content.ssh.as_deref());
    let server = ssh.and_then(|ssh| ssh.server.as_deref());
    server.is_some_and(|server| ignored.iter().any(|start| server.starts_with(&**start)))
}

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
    /// Flows that failed if they began in this window, which a flow log without flags does not say.
    pub(crate) unclear: u32,
    pub(crate) known: Known,
}

impl Tries {
    /// What a conversation of `summary` says of tries; `None` where nothing tells of one.
    pub(crate) fn of(summary: &Summary, c: &Conversation) -> Option<Self> {
        if c.protocol != TCP || c.local == Side::Both {
            return None;
        }
        let tries = Self::read(c, summary.host.capture == FLOW_LOG)?;
        let any = tries.failed > 0 || tries.succeeded > 0 || tries.unclear > 0;
        any.then_some(tries)
    }

    fn read(c: &Conversation, is_flow_log: bool) -> Option<Self> {
        let by_size = |service, bytes, known| Self::by_size(c, is_flow_log, service, bytes, known);
        let Some(content) = c.content.as_deref() else {
            let (service, bytes) = match c.server_port {
                SSH_PORT => (Service::Ssh, SSH_BYTES),
                RDP_PORT => (Service::Rdp, RDP_BYTES),
                WINRM_PORT => (Service::Winrm, WINRM_BYTES),
                WINRM_TLS_PORT => (Service::Winrm, WINRM_TLS_BYTES),
                _ => return None,
            };
            return by_size(service, bytes, Known::Guessed);
        };
        if let Some(ssh) = &content.ssh {
            return Some(Self {
                service: Service::Ssh,
                failed: ssh.failed,
                succeeded: ssh.succeeded,
                unclear: 0,
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
            (Some(Service::Rdp), _) => by_size(Service::Rdp, RDP_BYTES, Known::Sized),
            (Some(service), Some(logins)) => Some(Self {
                service,
                failed: logins.failed,
                succeeded: logins.succeeded,
                unclear: 0,
                known: Known::Said,
            }),
            _ if is_winrm() => by_size(Service::Winrm, WINRM_BYTES, Known::Sized),
            _ if content.app == Some(App::Tls) && c.server_port == WINRM_TLS_PORT => {
                by_size(Service::Winrm, WINRM_TLS_BYTES, Known::Guessed)
            }
            _ if content.app == Some(App::Tls) && c.server_port == RDP_PORT => {
                by_size(Service::Rdp, RDP_BYTES, Known::Guessed)
            }
            _ => None,
        }
    }

    /// A flow that goes on from a window before was counted there, and says no more than that somebody is in or
    /// is not: it fails no login again.
    fn by_size(
        c: &Conversation,
        is_flow_log: bool,
        service: Service,
        bytes: (u64, u64),
        known: Known,
    ) -> Option<Self> {
        let mean = c.bytes_in.checked_div(u64::from(c.flows))?;
        let is_told = c.attempts > 0 || c.accepted > 0;
        let tries = |failed, succeeded, unclear| Self {
            service,
            failed,
            succeeded,
            unclear,
            known,
        };
        match mean {
            mean if mean > bytes.1 => Some(tries(0, c.flows, 0)),
            mean if mean < bytes.0 => None,
            _ if is_told => Some(tries(c.accepted.min(c.flows), 0, 0)),
            _ if is_flow_log && c.opened == Opened::Guessed => Some(tries(0, 0, c.flows)),
            _ => None,
        }
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
    /// The end of the latest window in it, and the failures of that window: what came first there is not known.
    end_ns: u64,
    failed_at_end: u32,
    /// Failures in windows before the last one with a success.
    failed_before: u32,
}

/// Tries at one server, by spans of time in their order.
#[derive(Debug, Default)]
struct Spans(VecDeque<Span>);

impl Spans {
    fn put(&mut self, failed: u32, succeeded: u32, at: At, span_ns: u64, spans_max: usize) {
        let start_ns = at.end_ns - at.end_ns % span_ns;
        // Summaries may come a little out of order.
        let known = self.0.iter().rposition(|span| span.start_ns <= start_ns);
        let is_known = |place: &usize| {
            let span = self.0.get(*place);
            span.is_some_and(|span| span.start_ns == start_ns)
        };
        let place = known.filter(is_known).unwrap_or_else(|| {
            if self.0.len() >= spans_max {
                self.0.pop_front();
            }
            let place = self.0.partition_point(|span| span.start_ns < start_ns);
            let span = Span {
                start_ns,
                first_ns: at.first_ns,
                end_ns: at.end_ns,
                ..Span::default()
            };
            self.0.insert(place, span);
            place
        });
        let Some(span) = self.0.get_mut(place) else {
            return;
        };
        span.first_ns = span.first_ns.min(at.first_ns);
        if at.end_ns > span.end_ns {
            (span.end_ns, span.failed_at_end) = (at.end_ns, 0);
        }
        if succeeded > 0 && at.end_ns == span.end_ns {
            span.failed_before = span.failed.saturating_sub(span.failed_at_end);
        }
        span.failed = span.failed.saturating_add(failed);
        span.succeeded = span.succeeded.saturating_add(succeeded);
        if at.end_ns == span.end_ns {
            span.failed_at_end = span.failed_at_end.saturating_add(failed);
        }
    }

    fn sum(&self, since_ns: u64, failures_min: u64, span_ns: u64) -> Sum {
        let mut sum = Sum::default();
        let since = |span: &&Span| span.start_ns.saturating_add(span_ns) > since_ns;
        for span in self.0.iter().filter(since) {
            if sum == Sum::default() {
                sum.first_ns = span.first_ns;
            }
            let before = sum.failed + u64::from(span.failed_before);
            sum.succeeded_after |= span.succeeded > 0 && before >= failures_min;
            sum.failed += u64::from(span.failed);
            sum.succeeded += u64::from(span.succeeded);
        }
        sum
    }

    fn expire(&mut self, before_ns: u64, span_ns: u64) {
        self.0
            .retain(|span| span.start_ns.saturating_add(span_ns) > before_ns);
    }
}

/// When something was tried: first, and the end of the window that tells it.
#[derive(Debug, Clone, Copy)]
struct At {
    first_ns: u64,
    end_ns: u64,
}

/// What is known of one client at one server.
#[derive(Debug, Default)]
struct Between {
    spans: Spans,
    /// The flows that a flow log told last, by the server's port: the lowest of their own ports, and how many.
    logged: Vec<(u16, u16, u32)>,
}

impl Between {
    /// How many of the flows of `c` cannot be those told before.
    fn begun(&self, c: &Conversation) -> u32 {
        let before = self.logged.iter().find(|(port, ..)| *port == c.server_port);
        before.map_or(c.flows, |(_, own_port, flows)| {
            let is_other = u32::from(*own_port != c.client_port);
            c.flows.saturating_sub(*flows).max(is_other)
        })
    }

    fn remember(&mut self, c: &Conversation) {
        self.logged.retain(|(port, ..)| *port != c.server_port);
        // A service that is told by its port has two at most.
        self.logged.truncate(1);
        self.logged.push((c.server_port, c.client_port, c.flows));
    }
}

/// What came of tries at one server within a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) failed: u64,
    pub(crate) succeeded: u64,
    /// Whether one succeeded, in a later window, after as many had failed as were asked for.
    pub(crate) succeeded_after: bool,
    pub(crate) first_ns: u64,
}

/// Tries, by who and where.
#[derive(Debug)]
pub(crate) struct Guesses {
    pairs: Table<Guessing, Between>,
    sprays: Table<Spraying, BTreeMap<IpAddr, Spans>>,
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
    /// Notes what a summary says of logins. Who never fails is not remembered, nor are servers that call
    /// themselves as one in `ignored` does.
    pub(crate) fn note(&mut self, summary: &Summary, ignored: &[String]) {
        let mut speaker = None;
        for c in &summary.conversations {
            let Some(tries) = Tries::of(summary, c).filter(|_| !is_ignored(c, ignored)) else {
                continue;
            };
            let speaker = *speaker.get_or_insert_with(|| SpeakerKey::of(&summary.host));
            let key = Guessing {
                speaker,
                client: c.client,
                server: c.server,
                service: tries.service,
            };
            let known = self.pairs.get(&key);
            let begun = match (tries.unclear, known) {
                (0, _) => 0,
                (unclear, None) => unclear,
                (_, Some(between)) => between.begun(c),
            };
            let (failed, succeeded) = (tries.failed.saturating_add(begun), tries.succeeded);
            let at = At {
                first_ns: c.first_ns,
                end_ns: summary.window.end_ns,
            };
            if failed > 0 || known.is_some() {
                let between = self.pairs.write(key, c.last_ns);
                if summary.host.capture == FLOW_LOG {
                    between.remember(c);
                }
                if failed > 0 || succeeded > 0 {
                    let spans = &mut between.spans;
                    spans.put(failed, succeeded, at, SPAN_NS, GUESS_SPANS_MAX);
                }
            }
            let key = Self::spraying(summary, speaker, c, tries.service);
            if failed > 0 || succeeded > 0 && self.sprays.get(&key).is_some() {
                let servers = self.sprays.write(key, c.last_ns);
                if servers.len() >= SPRAYED_MAX && !servers.contains_key(&c.server) {
                    self.left_out += 1;
                    continue;
                }
                let spans = servers.entry(c.server).or_default();
                spans.put(failed, succeeded, at, SPRAY_SPAN_NS, SPRAY_SPANS_MAX);
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

    /// What came of the tries of `key` since then; `failures_min` says after how many a success is one after
    /// failures.
    pub(crate) fn of(&self, key: &Guessing, since_ns: u64, failures_min: u64) -> Sum {
        let between = self.pairs.get(key);
        between.map_or_else(Sum::default, |between| {
            between.spans.sum(since_ns, failures_min, SPAN_NS)
        })
    }

    /// The servers at which the client of `c` tried since then, its fleet's if those are tried.
    pub(crate) fn sprayed(
        &self,
        summary: &Summary,
        c: &Conversation,
        service: Service,
        since_ns: u64,
    ) -> impl Iterator<Item = Sum> {
        let speaker = SpeakerKey::of(&summary.host);
        let key = Self::spraying(summary, speaker, c, service);
        let servers = self.sprays.get(&key).into_iter().flatten();
        let sums = servers.map(move |(_, spans)| spans.sum(since_ns, 0, SPRAY_SPAN_NS));
        sums.filter(|sum| sum.failed > 0 || sum.succeeded > 0)
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.pairs.expire(before_ns);
        self.sprays.expire(before_ns);
        for between in self.pairs.values_mut() {
            between.spans.expire(before_ns, SPAN_NS);
        }
        for servers in self.sprays.values_mut() {
            servers.retain(|_, spans| {
                spans.expire(before_ns, SPRAY_SPAN_NS);
                !spans.0.is_empty()
            });
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
mod tests;
