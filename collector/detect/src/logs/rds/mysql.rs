//! The audit log and the error log of MySQL and MariaDB.
//!
//! The audit log (MariaDB's knowledge base, "MariaDB Audit Plugin - Log Format"); Aurora writes the time in
//! microseconds:
//!
//! ```text
//! timestamp,serverhost,username,host,connectionid,queryid,operation,database,object,retcode
//! 20231114 22:13:20,ip-10-0-0-1,app,10.0.0.5,42,0,CONNECT,shop,,0
//! 1700000000123456,shop-1,eve,203.0.113.9,43,0,FAILED_CONNECT,,,1045
//! ```
//!
//! The error log, of 8.0, of 5.7, of MariaDB:
//!
//! ```text
//! 2023-11-14T22:13:20.123456Z 43 [Note] [MY-010926] [Server] Access denied for user 'eve'@'203.0.113.9' (using password: YES)
//! 2023-11-14T22:13:20.123456Z 43 [Note] Access denied for user 'eve'@'203.0.113.9' (using password: YES)
//! 2023-11-14 22:13:20 43 [Warning] Access denied for user 'eve'@'203.0.113.9' (using password: YES)
//! ```

use super::{Database, Login, LoginLog, LoginOutcome, Peer, RdsLogError, beginning, kept, time};

/// Fields of a record about a connection, which has no object with commas of its own.
const AUDIT_FIELDS: usize = 10;

/// Operations of the plugin (its variable `server_audit_events`, and what they become).
const OTHERS: &[&str] = &[
    "QUERY",
    "QUERY_DDL",
    "QUERY_DML",
    "QUERY_DML_NO_SELECT",
    "QUERY_DCL",
    "READ",
    "WRITE",
    "CREATE",
    "ALTER",
    "RENAME",
    "DROP",
    "CHANGEUSER",
    "DISCONNECT",
    "CREATE_DB",
    "ALTER_DB",
    "DROP_DB",
    "PROXY_CONNECT",
];

/// Reads a record of the audit log.
pub(super) fn audit(line: &str, database: &Database) -> Result<Option<Login>, RdsLogError> {
    let fields: Vec<&str> = line.split(',').collect();
    let operation = fields.get(6).copied().unwrap_or_default();
    // Of these the last fields may hold commas, and the first ones no name that anybody may choose: who
    // runs a statement is logged in.
    if OTHERS.contains(&operation) {
        let names_connect = fields.iter().skip(7).any(|field| is_connect(field));
        // A statement stands in quotes before the code; a record about a connection has nothing there.
        let begins = fields.get(8).is_some_and(|field| field.starts_with('\''));
        let ends = fields
            .iter()
            .rev()
            .nth(1)
            .is_some_and(|field| field.ends_with('\''));
        return if names_connect && !(begins && ends) {
            Err(RdsLogError::Ambiguous)
        } else {
            Ok(None)
        };
    }
    if fields.len() > AUDIT_FIELDS && fields.iter().any(|field| is_connect(field)) {
        return Err(RdsLogError::Ambiguous);
    }
    let &[stamp, _, user, host, _, _, operation, schema, _, code] = fields.as_slice() else {
        return Err(RdsLogError::Fields {
            found: fields.len(),
            expected: AUDIT_FIELDS,
        });
    };
    if !is_connect(operation) {
        return Err(RdsLogError::Unknown {
            begin: beginning(operation),
        });
    }
    let outcome = match (operation, code) {
        ("CONNECT", "0") => LoginOutcome::Succeeded,
        _ if user.is_empty() => LoginOutcome::Probed,
        _ => LoginOutcome::Failed,
    };
    let Peer::Other(address) = Peer::of(host) else {
        return Ok(None);
    };
    Ok(Some(Login {
        database: database.clone(),
        time_ns: audit_time(stamp)?,
        log: LoginLog::MysqlAudit,
        outcome,
        user: kept(user),
        schema: kept(schema),
        program: String::new(),
        address,
        port: 0,
        encrypted: None,
        why: match outcome {
            LoginOutcome::Succeeded => String::new(),
            LoginOutcome::Failed | LoginOutcome::Probed => kept(&format!("error {code}")),
        },
    }))
}

fn is_connect(operation: &str) -> bool {
    matches!(operation, "CONNECT" | "FAILED_CONNECT")
}

/// `20231114 22:13:20`, or microseconds since the epoch.
fn audit_time(stamp: &str) -> Result<u64, RdsLogError> {
    let wrong = || RdsLogError::Time {
        text: beginning(stamp),
    };
    if let Ok(micros) = stamp.parse::<u64>() {
        return micros.checked_mul(1_000).ok_or_else(wrong);
    }
    let (year, rest) = stamp.split_at_checked(4).ok_or_else(wrong)?;
    let (month, rest) = rest.split_at_checked(2).ok_or_else(wrong)?;
    time(&format!("{year}-{month}-{rest}"))
}

/// Reads a message of the error log.
pub(super) fn error(line: &str, database: &Database) -> Result<Option<Login>, RdsLogError> {
    let Some((head, _)) = line.split_once('[') else {
        return Ok(None);
    };
    let Some(told) = Told::of(&line[head.len()..]) else {
        return Ok(None);
    };
    let Peer::Other(address) = Peer::of(told.host) else {
        return Ok(None);
    };
    Ok(Some(Login {
        database: database.clone(),
        time_ns: error_time(head.trim_end())?,
        log: LoginLog::MysqlError,
        outcome: told.outcome,
        user: kept(told.user),
        schema: String::new(),
        program: String::new(),
        address,
        port: 0,
        encrypted: None,
        why: told.why.to_owned(),
    }))
}

/// The time of a message: what stands before the bracket, without the number of the thread.
fn error_time(head: &str) -> Result<u64, RdsLogError> {
    let mut words = head.split_ascii_whitespace();
    let (first, second) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if first.contains('T') {
        return time(first);
    }
    // `231114 22:13:20` of older versions.
    if first.len() == 6 && first.is_ascii() {
        let (year, month, day) = (&first[..2], &first[2..4], &first[4..]);
        return time(&format!("20{year}-{month}-{day} {second:0>8}"));
    }
    time(&format!("{first} {second:0>8}"))
}

/// What a message says of a connection.
struct Told<'a> {
    outcome: LoginOutcome,
    user: &'a str,
    host: &'a str,
    why: &'static str,
}

impl<'a> Told<'a> {
    fn of(message: &'a str) -> Option<Self> {
        // The server's words stand behind brackets and nothing else.
        let said = |begin: &str| {
            let at = message.find(begin)?;
            let head = message[..at].trim_end();
            head.ends_with(']').then(|| &message[at + begin.len()..])
        };
        if let Some(rest) = said("Access denied for user '") {
            // A user may hold quotes; what the server adds comes last.
            let at = rest.rfind("' (using password: ")?;
            let (user, host) = rest[..at].rsplit_once("'@'")?;
            let password = rest[at..].contains("YES");
            return Some(Self {
                outcome: LoginOutcome::Failed,
                user,
                host,
                why: if password {
                    "the password was refused"
                } else {
                    "no password was given"
                },
            });
        }
        if let Some(rest) = said("Host '") {
            let (host, rest) = rest.split_once("' is ")?;
            let is_known =
                rest.starts_with("not allowed to connect") || rest.starts_with("blocked because");
            return is_known.then_some(Self {
                outcome: LoginOutcome::Probed,
                user: "",
                host,
                why: "the server lets nobody in from there",
            });
        }
        let rest = said("Aborted connection ")?;
        let (_, rest) = rest.split_once(" user: 'unauthenticated' host: '")?;
        let (host, _) = rest.split_once('\'')?;
        Some(Self {
            outcome: LoginOutcome::Probed,
            user: "",
            host,
            why: "nobody logged in",
        })
    }
}
