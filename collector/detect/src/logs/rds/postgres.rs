//! PostgreSQL's log, as RDS writes it: text with the prefix `%t:%r:%u@%d:[%p]:` (also with `%m`, and with
//! more fields behind the process id), or CSV with the columns of the manual's "Using CSV-Format Log Output".
//!
//! ```text
//! 2023-11-14 22:13:20 UTC:203.0.113.9(54321):[unknown]@[unknown]:[4711]:LOG:  connection received: host=203.0.113.9 port=54321
//! 2023-11-14 22:13:20 UTC:203.0.113.9(54321):eve@shop:[4711]:FATAL:  password authentication failed for user "eve"
//! 2023-11-14 22:13:21 UTC:10.0.0.5(54400):app@shop:[4712]:LOG:  connection authorized: user=app database=shop SSL enabled (…)
//! ```
//!
//! Words are those of the source, `src/backend/libpq/auth.c`, `src/backend/utils/init/postinit.c` and
//! `src/backend/tcop/backend_startup.c`, in English, the language that RDS sets.

use std::collections::{HashMap, VecDeque};

use super::super::limits::LOGINS_WAITING_MAX;
use super::{Database, Login, LoginLog, LoginOutcome, Peer, RdsLogError, beginning, kept, time};

/// One entry of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    time_ns: u64,
    peer: Peer,
    port: u16,
    process: u64,
    meaning: Option<Meaning>,
}

/// What an entry says of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// It came in.
    Received { peer: Peer, port: u16 },
    /// Somebody is logged in.
    Authorized {
        user: String,
        schema: String,
        program: String,
        encrypted: bool,
    },
    /// Somebody was refused.
    Refused {
        user: String,
        schema: String,
        why: &'static str,
    },
    /// Something came that was no try to log in.
    Probed { why: &'static str },
    /// It is over.
    Ended,
}

/// Words before the message, with which the server says how bad it is.
const SEVERITIES: &[&str] = &[
    "DEBUG",
    "LOG",
    "INFO",
    "NOTICE",
    "WARNING",
    "ERROR",
    "FATAL",
    "PANIC",
    "DETAIL",
    "HINT",
    "QUERY",
    "CONTEXT",
    "LOCATION",
    "STATEMENT",
    "BACKTRACE",
];

/// Reads an entry of the text form.
pub(super) fn text(line: &str) -> Result<Entry, RdsLogError> {
    let unknown = || RdsLogError::Unknown {
        begin: beginning(line),
    };
    let (stamp, rest) = stamped(line).ok_or_else(unknown)?;
    let time_ns = utc(stamp)?;
    let (peer, rest) = from(rest).ok_or_else(unknown)?;
    let (host, port) = peer.split_once('(').unwrap_or((peer, ""));
    let mut entries = entries(rest);
    let (process, severity, message) = entries.next().ok_or_else(unknown)?;
    let mut meaning = meaning(severity, message);
    for (_, severity, message) in entries {
        // A name or a statement quotes the log: no matter unless something is said of a connection.
        if meaning.take().is_some() || self::meaning(severity, message).is_some() {
            return Err(RdsLogError::Ambiguous);
        }
    }
    Ok(Entry {
        time_ns,
        peer: Peer::of(host),
        port: port.parse().unwrap_or_default(),
        process,
        meaning,
    })
}

/// The client, empty for the server's own host, and what follows.
fn from(rest: &str) -> Option<(&str, &str)> {
    let own = rest.strip_prefix(':');
    match own.or_else(|| rest.strip_prefix("[local]:")) {
        Some(rest) => Some(("", rest)),
        None => rest.split_once("):"),
    }
}

/// Says whether a line that begins as entries do ends within the names: one of them holds a line feed.
pub(super) fn is_torn(line: &str) -> bool {
    let names = stamped(line).and_then(|(_, rest)| from(rest));
    names.is_some_and(|(_, rest)| entries(rest).next().is_none())
}

/// Says whether a line without a time is the rest of one: a process, a severity and a message stand in it.
pub(super) fn is_rest(line: &str) -> bool {
    entries(line).next().is_some()
}

impl Entry {
    /// Says whether it tells anything of a connection.
    pub(super) fn tells(&self) -> bool {
        self.meaning.is_some()
    }
}

/// Every way to read the rest of a line, from the user on: process, severity and message.
fn entries(rest: &str) -> impl Iterator<Item = (u64, &str, &str)> {
    /// Bytes of a line in which its message begins: several times what names and the rest of a prefix
    /// take, and what keeps a hostile line cheap.
    const HEAD_BYTES: usize = 4_096;
    let head = &rest[..rest.floor_char_boundary(HEAD_BYTES)];
    head.match_indices(":  ").filter_map(|(at, _)| {
        let (before, severity) = head[..at].rsplit_once(':')?;
        let (_, process) = before.rsplit_once(":[")?;
        let (process, _) = process.split_once(']')?;
        let is_severity = SEVERITIES.contains(&severity);
        let process = process.parse().ok().filter(|_| is_severity)?;
        Some((
            process,
            severity,
            rest[at..].trim_start_matches(':').trim_start(),
        ))
    })
}

/// Says whether a record of CSV is whole: its quotes come in pairs.
pub(super) fn is_whole(record: &str) -> bool {
    record.bytes().filter(|byte| *byte == b'"').count() % 2 == 0
}

/// Columns up to the message; later versions append some.
const CSV_COLUMNS: usize = 14;

/// Reads an entry of the CSV form.
pub(super) fn csv(record: &str) -> Result<Entry, RdsLogError> {
    let columns = columns(record);
    let [stamp, user, schema, process, peer, .., severity, _, message] =
        columns.get(..CSV_COLUMNS).unwrap_or_default()
    else {
        return Err(RdsLogError::Fields {
            found: columns.len(),
            expected: CSV_COLUMNS,
        });
    };
    let (host, port) = peer.rsplit_once(':').unwrap_or((peer, ""));
    let mut meaning = meaning(severity, message);
    // Here the columns say whose connection it is, and no name can say otherwise.
    if let Some(
        Meaning::Authorized {
            user: named,
            schema: named_schema,
            ..
        }
        | Meaning::Refused {
            user: named,
            schema: named_schema,
            ..
        },
    ) = &mut meaning
        && !user.is_empty()
    {
        (*named, *named_schema) = (kept(user), kept(schema));
    }
    Ok(Entry {
        time_ns: utc(stamp)?,
        peer: Peer::of(host),
        port: port.parse().unwrap_or_default(),
        process: process.parse().unwrap_or_default(),
        meaning,
    })
}

/// The first columns of a record (RFC 4180): quoted where needed, a quote within doubled.
fn columns(record: &str) -> Vec<String> {
    let mut columns = Vec::with_capacity(CSV_COLUMNS);
    let mut rest = record.chars().peekable();
    while columns.len() < CSV_COLUMNS {
        let mut column = String::new();
        let is_quoted = rest.next_if_eq(&'"').is_some();
        let mut more = false;
        while let Some(c) = rest.next() {
            match c {
                '"' if is_quoted => match rest.next() {
                    Some('"') => column.push('"'),
                    Some(',') => {
                        more = true;
                        break;
                    }
                    _ => break,
                },
                ',' if !is_quoted => {
                    more = true;
                    break;
                }
                c => column.push(c),
            }
        }
        columns.push(column);
        if !more {
            break;
        }
    }
    columns
}

/// The time with its zone, up to the colon, and what follows.
fn stamped(line: &str) -> Option<(&str, &str)> {
    let date_time = "0000-00-00 00:00:00".len();
    let at = line.get(date_time..)?.find(':')? + date_time;
    Some((&line[..at], &line[at + 1..]))
}

/// A time with its zone behind it. That of RDS is UTC.
fn utc(stamp: &str) -> Result<u64, RdsLogError> {
    match stamp.rsplit_once(' ') {
        Some((text, "UTC" | "GMT" | "Etc/UTC")) => time(text),
        _ => Err(RdsLogError::Time {
            text: beginning(stamp),
        }),
    }
}

fn meaning(severity: &str, message: &str) -> Option<Meaning> {
    match severity {
        "LOG" => logged(message),
        "FATAL" => refused(message),
        _ => None,
    }
}

fn logged(message: &str) -> Option<Meaning> {
    if let Some(rest) = message.strip_prefix("connection received: host=") {
        let (host, port) = rest.split_once(" port=").unwrap_or((rest, ""));
        return Some(Meaning::Received {
            peer: Peer::of(host),
            port: port.parse().unwrap_or_default(),
        });
    }
    let rest = message
        .strip_prefix("connection authorized: user=")
        .or_else(|| message.strip_prefix("replication connection authorized: user="));
    if let Some(rest) = rest {
        let (rest, encrypted) = match rest.split_once(" SSL enabled") {
            Some((rest, _)) => (rest, true),
            None => (
                rest.split_once(" GSS").map_or(rest, |(rest, _)| rest),
                false,
            ),
        };
        let (rest, program) = rest.split_once(" application_name=").unwrap_or((rest, ""));
        let (user, schema) = rest.split_once(" database=").unwrap_or((rest, ""));
        return Some(Meaning::Authorized {
            user: kept(user),
            schema: kept(schema),
            program: kept(program),
            encrypted,
        });
    }
    if message.starts_with("disconnection: session time: ") {
        return Some(Meaning::Ended);
    }
    let probes = [
        (
            "could not accept SSL connection: ",
            "TLS was begun and not finished",
        ),
        (
            "incomplete startup packet",
            "nothing that is PostgreSQL was said",
        ),
        (
            "invalid length of startup packet",
            "nothing that is PostgreSQL was said",
        ),
        (
            "could not receive data from client: ",
            "the connection broke off",
        ),
    ];
    probed(message, &probes)
}

fn refused(message: &str) -> Option<Meaning> {
    let quoted = |text: &str| text.strip_suffix('"').map(kept);
    let refused = |user: String, why| {
        Some(Meaning::Refused {
            user,
            schema: String::new(),
            why,
        })
    };
    // "password", "PAM" (RDS: by an IAM token), "GSSAPI", "certificate", "Ident", …
    let methods = [
        "password",
        "PAM",
        "GSSAPI",
        "certificate",
        "SCRAM",
        "LDAP",
        "RADIUS",
        "Ident",
        "Peer",
    ];
    for method in methods {
        let failed = message
            .strip_prefix(method)
            .and_then(|rest| rest.strip_prefix(" authentication failed for user \""));
        if let Some(user) = failed.and_then(quoted) {
            let why = if method == "PAM" {
                "the IAM token was refused"
            } else {
                "the password was refused"
            };
            return refused(user, why);
        }
    }
    let no_entry = message
        .strip_prefix("no pg_hba.conf entry for ")
        .or_else(|| message.strip_prefix("pg_hba.conf rejects connection for "));
    if let Some(rest) = no_entry {
        let (_, rest) = rest.split_once("user \"")?;
        let (user, rest) = rest.split_once("\", database \"").unwrap_or((rest, ""));
        let schema = rest.rsplit_once('"').map_or("", |(schema, _)| schema);
        return Some(Meaning::Refused {
            user: kept(user.trim_end_matches('"')),
            schema: kept(schema),
            why: "no rule of pg_hba.conf lets it in",
        });
    }
    if let Some(rest) = message.strip_prefix("role \"") {
        let without = |end| rest.strip_suffix(end).map(kept);
        if let Some(user) = without("\" does not exist") {
            return refused(user, "there is no such user");
        }
        if let Some(user) = without("\" is not permitted to log in") {
            return refused(user, "the user may not log in");
        }
    }
    let probes = [
        (
            "unsupported frontend protocol ",
            "another protocol was spoken",
        ),
        (
            "invalid startup packet layout",
            "nothing that is PostgreSQL was said",
        ),
        (
            "no PostgreSQL user name specified in startup packet",
            "no user was named",
        ),
        ("expected SASL response", "another protocol was spoken"),
        (
            "canceling authentication due to timeout",
            "nobody logged in for a minute",
        ),
    ];
    probed(message, &probes)
}

fn probed(message: &str, probes: &[(&str, &'static str)]) -> Option<Meaning> {
    let (_, why) = probes
        .iter()
        .find(|(begin, _)| message.starts_with(begin))?;
    Some(Meaning::Probed { why })
}

/// Nanoseconds for which the server waits for somebody to log in, and we with it: a minute
/// (`authentication_timeout`, "Connection Settings" of the manual).
const WAIT_NS: u64 = 60_000_000_000;

/// Connections that came in and of which nothing was heard yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    of: HashMap<u64, (u64, Peer, u16)>,
    /// When each came, and its process, in the order they came.
    order: VecDeque<(u64, u64)>,
    newest_ns: u64,
    /// The log tells what becomes of connections, so that silence says something.
    tells_outcomes: bool,
}

impl Waiting {
    /// Takes an entry in and appends what is known by it.
    pub(super) fn entry(&mut self, entry: Entry, database: &Database, out: &mut Vec<Login>) {
        self.newest_ns = self.newest_ns.max(entry.time_ns);
        let login = |outcome, why: &str| Login {
            database: database.clone(),
            time_ns: entry.time_ns,
            log: LoginLog::Postgres,
            outcome,
            user: String::new(),
            schema: String::new(),
            program: String::new(),
            address: None,
            port: entry.port,
            encrypted: None,
            why: why.to_owned(),
        };
        let told = match entry.meaning {
            None => None,
            Some(Meaning::Received { peer, port }) => {
                self.wait(entry.time_ns, entry.process, peer, port);
                None
            }
            Some(meaning) => {
                self.of.remove(&entry.process);
                self.tells_outcomes |= matches!(
                    meaning,
                    Meaning::Authorized { .. } | Meaning::Refused { .. }
                );
                match meaning {
                    Meaning::Authorized {
                        user,
                        schema,
                        program,
                        encrypted,
                    } => Some(Login {
                        user,
                        schema,
                        program,
                        encrypted: Some(encrypted),
                        ..login(LoginOutcome::Succeeded, "")
                    }),
                    Meaning::Refused { user, schema, why } => Some(Login {
                        user,
                        schema,
                        ..login(LoginOutcome::Failed, why)
                    }),
                    Meaning::Probed { why } => Some(login(LoginOutcome::Probed, why)),
                    Meaning::Ended | Meaning::Received { .. } => None,
                }
            }
        };
        if let (Some(login), Peer::Other(address)) = (told, entry.peer) {
            out.push(Login { address, ..login });
        }
        self.tell_old(database, out);
    }

    /// Appends those of which nothing was heard for as long as the server waits.
    pub(super) fn tell_old(&mut self, database: &Database, out: &mut Vec<Login>) {
        while let Some(&(since_ns, process)) = self.order.front() {
            if since_ns.saturating_add(WAIT_NS) > self.newest_ns {
                break;
            }
            self.order.pop_front();
            let is_it = self
                .of
                .get(&process)
                .is_some_and(|(at, ..)| *at == since_ns);
            let known = is_it.then(|| self.of.remove(&process)).flatten();
            if let Some((time_ns, Peer::Other(address), port)) = known
                && self.tells_outcomes
            {
                out.push(Login {
                    database: database.clone(),
                    time_ns,
                    log: LoginLog::Postgres,
                    outcome: LoginOutcome::Probed,
                    user: String::new(),
                    schema: String::new(),
                    program: String::new(),
                    address,
                    port,
                    encrypted: None,
                    why: "nobody logged in".to_owned(),
                });
            }
        }
    }

    fn wait(&mut self, time_ns: u64, process: u64, peer: Peer, port: u16) {
        if self.order.len() >= LOGINS_WAITING_MAX
            && let Some((since_ns, oldest)) = self.order.pop_front()
            && self.of.get(&oldest).is_some_and(|(at, ..)| *at == since_ns)
        {
            self.of.remove(&oldest);
        }
        self.of.insert(process, (time_ns, peer, port));
        self.order.push_back((time_ns, process));
    }
}
