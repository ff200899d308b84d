//! A shell whose socket leads outside: somebody types at the other end.
//! Reads: conversations that a process of the host opened. Fires: at once, when a shell itself, or a tool or
//! interpreter that a server started (`servers`, by file or by the name it gives itself), holds a TCP
//! connection that goes on from the window before, says nothing that is a known protocol, and carries small
//! packets both ways.
//! Evidence: the conversation with the process. Severity: GuardDuty's 8.0.
//! Innocent look-alikes: a shell that tries whether a port is open (`/dev/tcp`, over at once), copies over
//! `nc` (large packets, one way), tools that people start (their parent is no server), programs that speak
//! TLS, HTTP or SSH or log in to a database, a
//! server's own workers (same file, same kind of name), tools that keep a database or queue within the
//! network open (`ports_inside`). ATT&CK T1059.004, T1571.
//! First look: what the server was asked just before; what the shell has started.
//! Actor key: the address at the other end.

use std::collections::BTreeMap;

use picket_wire::{Conversation, Host as Speaker, Process, Side};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::reach::is_public;
use crate::server::{SERVERS, file, server};

/// Settings of `reverse_shell`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Shells: a connection of their own is odd, whoever started them.
    pub shells: Vec<String>,
    /// Tools and interpreters that carry shells, where a server started them.
    pub tools: Vec<String>,
    /// Programs that serve others.
    pub servers: Vec<String>,
    /// Ports of databases, caches and queues: within the network a server's tools keep connections to them
    /// that look as if somebody typed, and not all of them say who they are.
    pub ports_inside: Vec<u16>,
    /// Bytes of a packet on average, headers included, at most, each way: 400. What is typed and what
    /// commands print is less; a copy fills its packets.
    pub packet_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            shells: owned(&["ash", "bash", "dash", "ksh", "sh", "zsh"]),
            tools: owned(&[
                "busybox",
                "lua",
                "nc",
                "nc.openbsd",
                "nc.traditional",
                "ncat",
                "perl",
                "php",
                "python",
                "python3",
                "ruby",
                "socat",
                "telnet",
            ]),
            servers: owned(SERVERS),
            ports_inside: vec![
                389, 1433, 1521, 1883, 2181, 2379, 3306, 4222, 5432, 5433, 5671, 5672, 6379, 6380,
                6432, 8086, 8125, 8126, 9042, 9092, 9093, 9094, 9096, 9200, 9300, 11_211, 26_379,
                27_017, 27_018, 27_019,
            ],
            packet_bytes_max: 400,
        }
    }
}

const REVERSE_SHELL: FindingType = FindingType::guardduty("Execution:Runtime/ReverseShell", 8.0);

const TCP: u8 = 6;

/// Reverse shells.
pub(crate) struct ReverseShell;

impl Detection for ReverseShell {
    fn id(&self) -> &'static str {
        "reverse_shell"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&REVERSE_SHELL]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.reverse_shell;
        for c in &summary.conversations {
            let Some(process) = c.process.as_deref() else {
                continue;
            };
            if let Some(how) = how(process, c, settings)
                && is_typed(c, settings)
            {
                out.push(occurrence(&summary.host, c, process, &how));
            }
        }
    }
}

/// Says whether somebody could be typing in a conversation: it was opened from here, goes on, is no known
/// protocol, and its packets are small both ways.
fn is_typed(c: &Conversation, settings: &Settings) -> bool {
    let small = |packets: u64, bytes: u64| {
        packets > 1 && bytes <= settings.packet_bytes_max.saturating_mul(packets)
    };
    // Of several processes it is not known which one's packets they are.
    c.protocol == TCP
        && c.local == Side::Client
        && c.flows == 1
        && c.attempts == 0
        && c.processes.is_none()
        && c.content
            .as_deref()
            .is_none_or(|content| content.app.is_none() && content.logins.is_none())
        && c.tls_name.is_none()
        && c.ja4.is_none()
        && small(c.packets_out, c.bytes_out)
        && small(c.packets_in, c.bytes_in)
}

/// Why a connection of the process is odd.
fn how(process: &Process, c: &Conversation, settings: &Settings) -> Option<String> {
    let is = |names: &[String], name: &str| names.iter().any(|known| known == name);
    let own = file(process.exe.as_deref(), &process.name);
    if is(&settings.shells, own) {
        return Some("a shell has no business with sockets".to_owned());
    }
    let parent = process.parent.as_deref()?;
    let above = server(parent.exe.as_deref(), &parent.name, &settings.servers)?;
    // What a server written in a tool's language forks to do its work is as it was.
    let is_worker = server(None, &process.name, &settings.servers).is_some()
        && (parent.exe.is_none() || parent.exe == process.exe);
    let is_service = !is_public(c.server) && settings.ports_inside.contains(&c.server_port);
    let unversioned = own.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_tool = is(&settings.tools, own) || is(&settings.tools, unversioned);
    (is_tool && !is_worker && !is_service)
        .then(|| format!("the server {} started it", quote(above)))
}

fn occurrence(speaker: &Speaker, c: &Conversation, process: &Process, how: &str) -> Occurrence {
    let whose = whose(speaker, c.client);
    let program = quote(file(process.exe.as_deref(), &process.name));
    let title = format!(
        "{program} on {} is held from {}",
        quote(&whose.subject),
        c.server
    );
    Occurrence {
        kind: &REVERSE_SHELL,
        rule: ReverseShell.id(),
        severity: REVERSE_SHELL.severity,
        confidence: 0.8,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: c.server.to_canonical().to_string(),
        resource: whose.resource,
        role: Role::Target,
        count: 1,
        first_ns: c.first_ns,
        last_ns: c.last_ns,
        action: evidence_of::connection(
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: vec![evidence_of::conversation(c)],
        mitre: &["T1059.004", "T1571"],
        description: format!("{title}: {how}."),
        title,
        why: format!(
            "{program} (pid {}) keeps a connection to {} port {} with {} packets out and {} in of no known protocol, {} and {} bytes; {how}",
            process.pid,
            c.server,
            c.server_port,
            c.packets_out,
            c.packets_in,
            c.bytes_out,
            c.bytes_in
        ),
        first_look: &[
            "What the server was asked just before the shell began.",
            "What the shell has started, and as which user.",
            "What else goes to the other end.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::{App, Content, Parent, Summary};

    const FOUND: &[(&str, f64, u64)] = &[("Execution:Runtime/ReverseShell", 8.0, 1)];

    /// A connection that goes on, of a process, whose parent goes by a name and is made of a file.
    fn held_of(exe: &str, name: &str, parent: &str, parent_exe: &str) -> Conversation {
        Conversation {
            attempts: 0,
            accepted: 0,
            starts_ms: vec![],
            process: Some(
                Process {
                    pid: 77,
                    name: name.into(),
                    exe: Some(exe.into()),
                    parent: Some(Box::new(Parent {
                        pid: 7,
                        name: parent.into(),
                        exe: Some(parent_exe.into()),
                    })),
                    ..Process::default()
                }
                .into(),
            ),
            ..conversation("10.0.0.1", "192.0.2.1", 4444)
        }
    }

    fn held(exe: &str, parent: &str) -> Conversation {
        let name = exe.rsplit('/').next().unwrap();
        held_of(exe, name, parent, &format!("/usr/sbin/{parent}"))
    }

    #[track_caller]
    fn check(c: Conversation, expected: &[(&str, f64, u64)]) {
        let one = Summary {
            conversations: vec![c],
            ..summary(speaker())
        };
        let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(one))]);
        assert_eq!(brief(&findings), expected);
    }

    #[test]
    fn shells_and_other_programs() {
        check(held("/usr/bin/bash", "systemd"), FOUND);
        check(held("/bin/dash", "nginx"), FOUND);
        check(held("/usr/bin/ssh", "bash"), &[]);
        check(held("/usr/bin/bashtop", "bash"), &[]);
        let mut unknown = held("/usr/bin/bash", "systemd");
        unknown.process = None;
        check(unknown, &[]);
    }

    #[test]
    fn tools_that_a_server_started_and_that_a_person_did() {
        check(held("/usr/bin/python3.12", "gunicorn"), FOUND);
        check(held("/usr/bin/perl", "php-fpm8.2"), FOUND);
        check(held("/usr/bin/python3.12", "bash"), &[]);
        check(held("/usr/bin/nc", "sh"), &[]);
        check(held("/opt/app/worker", "gunicorn"), &[]);
    }

    #[test]
    fn servers_that_an_interpreter_runs_and_their_own_workers() {
        let (python, ruby) = ("/usr/bin/python3.11", "/usr/bin/ruby3.1");
        check(held_of(python, "python3", "gunicorn", python), FOUND);
        check(held_of(python, "gunicorn", "gunicorn", python), &[]);
        check(held_of("/usr/bin/nc", "nc", "puma 6.4.2 (tcp", ruby), FOUND);
        check(
            held_of(ruby, "puma: cluster w", "puma 6.4.2 (tcp", ruby),
            &[],
        );
        check(
            held_of("/usr/bin/nc", "gunicorn", "nginx", "/usr/sbin/nginx"),
            FOUND,
        );
        check(held_of(python, "python3", "celery", python), &[]);
        check(held_of(python, "python3", "gunicornify", python), &[]);
        check(
            held_of("/usr/bin/perl", "perl", "worker", "/usr/sbin/httpd"),
            FOUND,
        );
    }

    #[test]
    fn databases_inside_are_kept_open_and_other_ports_are_not() {
        let to = |exe: &str, server: &str, port| Conversation {
            server: server.parse().unwrap(),
            server_port: port,
            ..held(exe, "node")
        };
        let python = "/usr/bin/python3.11";
        for port in [3306, 5432, 6379] {
            check(to(python, "10.0.9.9", port), &[]);
            check(to(python, "192.0.2.9", port), FOUND);
        }
        check(to(python, "10.0.9.9", 4444), FOUND);
        check(to("/usr/bin/bash", "10.0.9.9", 5432), FOUND);
    }

    #[test]
    fn what_is_over_at_once_is_a_try() {
        let mut tried = held("/usr/bin/bash", "cron");
        (tried.attempts, tried.accepted, tried.starts_ms) = (1, 1, vec![0]);
        check(tried.clone(), &[]);
        (tried.attempts, tried.accepted, tried.starts_ms) = (0, 0, vec![]);
        check(tried, FOUND);
    }

    #[test]
    fn copies_fill_their_packets() {
        let mut copy = held("/usr/bin/bash", "systemd");
        (copy.packets_out, copy.bytes_out) = (1_000, 1_400_000);
        check(copy.clone(), &[]);
        (copy.packets_out, copy.bytes_out) = (1_000, 120_000);
        check(copy, FOUND);
    }

    #[test]
    fn known_protocols_and_callers_are_none() {
        let mut known = held("/usr/bin/bash", "systemd");
        known.content = Some(Box::new(Content {
            app: Some(App::Http),
            ..Content::default()
        }));
        check(known, &[]);
        let mut login = held("/usr/bin/python3.11", "java");
        login.content = Some(Box::new(Content {
            logins: Some(Box::default()),
            ..Content::default()
        }));
        check(login.clone(), &[]);
        login.content = None;
        check(login, FOUND);
        let mut inbound = held("/usr/bin/bash", "systemd");
        inbound.local = Side::Server;
        check(inbound, &[]);
        let mut unknown = held("/usr/bin/bash", "systemd");
        unknown.content = Some(Box::default());
        check(unknown, FOUND);
    }
}
