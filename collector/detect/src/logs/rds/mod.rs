//! Logs of RDS and Aurora databases: who tried to log in, from where, and what came of it.
//!
//! Four logs tell it: PostgreSQL's own as text or as CSV (parameter `log_connections`), the audit log of MySQL
//! and MariaDB (option `MARIADB_AUDIT_PLUGIN`, Aurora's `server_audit_logging`), and their error log. Which of
//! them a line is of is seen from its beginning. They come as files, or wrapped by CloudWatch Logs
//! ([`Export`]). Everything else that they hold is passed over; a line of none of them is told.
//!
//! A name that a client chose stands unescaped in some of them. Where it could make a line say what the
//! server did not, the line is refused ([`RdsLogError::Ambiguous`]); where it holds a line feed, so are the
//! lines that it makes of one ([`RdsLogError::Torn`]).

mod cloudwatch;
mod mysql;
mod objects;
mod postgres;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use cloudwatch::{Export, Message};
pub use objects::{Cut, Objects};

use super::event_time;
use super::limits::{LOGIN_NAMES_BYTES_MAX, LOGIN_RECORD_BYTES_MAX, LOGIN_TEXT_BYTES_MAX};
use postgres::Waiting;

/// Why a line tells nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RdsLogError {
    /// It is of no log known here.
    #[error("no line of a database log: {begin:?}")]
    Unknown {
        /// Its beginning.
        begin: Box<str>,
    },
    /// A time that cannot be read, or is not in UTC as those of RDS are.
    #[error("time {text:?}")]
    Time {
        /// What stands there.
        text: Box<str>,
    },
    /// A record of other fields than the log has.
    #[error("{found} fields, {expected} expected")]
    Fields {
        /// Fields there are.
        found: usize,
        /// Fields there should be.
        expected: usize,
    },
    /// A name holds what only the server writes: the line reads in two ways.
    #[error("reads in two ways: a name holds what only the server writes")]
    Ambiguous,
    /// A name with a line feed in it tore the line; what the name says between its pieces is no entry.
    #[error("torn: a name holds a line feed")]
    Torn,
    /// A record over several lines that does not end.
    #[error("record longer than {LOGIN_RECORD_BYTES_MAX} bytes")]
    Long,
    /// What CloudWatch Logs wrapped cannot be read.
    #[error("column {column}: {why}")]
    NotJson {
        /// Column, from 1.
        column: usize,
        /// The parser's words.
        why: String,
    },
}

/// A database whose log is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Database {
    /// AWS account; empty if not known.
    pub account: String,
    /// AWS region; empty if not known.
    pub region: String,
    /// Identifier of the DB instance.
    pub instance: String,
    /// Identifier of its cluster, where it is Aurora's.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// Which log told of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LoginLog {
    /// PostgreSQL's own.
    Postgres,
    /// The audit log of MySQL or MariaDB.
    MysqlAudit,
    /// The error log of MySQL or MariaDB.
    MysqlError,
}

impl LoginLog {
    /// The engine, in the word of the RDS API. MariaDB's logs are MySQL's.
    pub fn engine(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MysqlAudit | Self::MysqlError => "mysql",
        }
    }
}

/// What came of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LoginOutcome {
    /// Somebody is logged in.
    Succeeded,
    /// Somebody named a user and was refused.
    Failed,
    /// Somebody connected and did not try to log in.
    Probed,
}

/// One connection to a database, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// To which.
    pub database: Database,
    /// When, nanoseconds since the epoch.
    pub time_ns: u64,
    /// Which log tells.
    pub log: LoginLog,
    /// What came of it.
    pub outcome: LoginOutcome,
    /// The user named; empty if none was.
    pub user: String,
    /// The database named within the instance; empty if none was.
    pub schema: String,
    /// What the client calls itself; empty if not told.
    pub program: String,
    /// From where; `None` where the log has a name instead.
    pub address: Option<IpAddr>,
    /// From which port; 0 if not told.
    pub port: u16,
    /// Whether the connection is encrypted, where told.
    pub encrypted: Option<bool>,
    /// The log's reason, in our words; empty for a success.
    pub why: String,
}

/// Reads the log of one database, a line at a time.
#[derive(Debug)]
pub struct LoginReader {
    database: Database,
    format: Option<Format>,
    /// A record of CSV that goes on in the next line.
    begun: Vec<u8>,
    /// PostgreSQL's last entry as text, which is taken in once the next line shows that it was one.
    held: Option<postgres::Entry>,
    /// Bytes since the beginning of a line that a name tore, while its rest has not come.
    torn: Option<usize>,
    waiting: Waiting,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    PostgresText,
    PostgresCsv,
    MysqlAudit,
    MysqlError,
}

impl LoginReader {
    /// Reads the log of `database`.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            format: None,
            begun: Vec::new(),
            held: None,
            torn: None,
            waiting: Waiting::default(),
        }
    }

    /// Takes a line in, without its line feed, and appends what it tells to `out`.
    ///
    /// # Errors
    /// Every [`RdsLogError`] but [`RdsLogError::NotJson`].
    pub fn line(&mut self, line: &[u8], out: &mut Vec<Login>) -> Result<(), RdsLogError> {
        if !self.begun.is_empty() {
            return self.more_csv(line, out);
        }
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(());
        }
        let Some((format, text)) = recognised(text) else {
            return self.unstamped(text);
        };
        self.format = Some(format);
        self.settle(out);
        match format {
            Format::PostgresText => self.held = Some(self.whole(text)?),
            Format::PostgresCsv if !postgres::is_whole(text) => {
                self.begun.extend_from_slice(text.as_bytes());
            }
            Format::PostgresCsv => {
                let entry = postgres::csv(text)?;
                self.waiting.entry(entry, &self.database, out);
            }
            Format::MysqlAudit => out.extend(mysql::audit(text, &self.database)?),
            Format::MysqlError => out.extend(mysql::error(text, &self.database)?),
        }
        Ok(())
    }

    /// Says that no line will follow: appends what is known of connections that nothing came of.
    pub fn finish(&mut self, out: &mut Vec<Login>) {
        self.pause(out);
        self.begun.clear();
        self.waiting.tell_old(&self.database, out);
    }

    /// Says that a file ends, and another may follow: its last line is as whole as it will be.
    pub fn pause(&mut self, out: &mut Vec<Login>) {
        self.settle(out);
        self.torn = None;
    }

    /// Takes the entry in that was held.
    fn settle(&mut self, out: &mut Vec<Login>) {
        if let Some(entry) = self.held.take() {
            self.waiting.entry(entry, &self.database, out);
        }
    }

    /// Reads a line of PostgreSQL's text that begins as entries do.
    fn whole(&mut self, text: &str) -> Result<postgres::Entry, RdsLogError> {
        self.tear(text.len())?;
        let read = postgres::text(text);
        if read.is_err() && postgres::is_torn(text) {
            self.torn = Some(0);
        }
        read
    }

    /// Refuses a line that stands between the pieces of a torn one.
    fn tear(&mut self, bytes: usize) -> Result<(), RdsLogError> {
        let Some(torn) = self.torn else {
            return Ok(());
        };
        let torn = torn + bytes;
        self.torn = (torn <= LOGIN_NAMES_BYTES_MAX).then_some(torn);
        self.torn.map_or(Ok(()), |_| Err(RdsLogError::Torn))
    }

    /// Takes in a line that begins as none does: it goes on with the one before, or is the rest of one that
    /// a name tore. Then what stands before it was no entry, whatever it looks like.
    fn unstamped(&mut self, text: &str) -> Result<(), RdsLogError> {
        let goes_on = self.goes_on(text);
        if self.format == Some(Format::PostgresText) && postgres::is_rest(text) {
            let tells = self.held.as_ref().is_some_and(postgres::Entry::tells);
            if goes_on && !tells && self.torn.is_none() {
                // A statement quotes the log.
                return Ok(());
            }
            self.held = None;
            self.torn = None;
            return Err(RdsLogError::Torn);
        }
        self.tear(text.len())?;
        if goes_on {
            return Ok(());
        }
        Err(RdsLogError::Unknown {
            begin: beginning(text),
        })
    }

    fn more_csv(&mut self, line: &[u8], out: &mut Vec<Login>) -> Result<(), RdsLogError> {
        if self.begun.len() + line.len() >= LOGIN_RECORD_BYTES_MAX {
            self.begun.clear();
            return Err(RdsLogError::Long);
        }
        self.begun.push(b'\n');
        self.begun.extend_from_slice(line);
        let text = String::from_utf8_lossy(&self.begun);
        if !postgres::is_whole(&text) {
            return Ok(());
        }
        let entry = postgres::csv(&text);
        self.begun.clear();
        self.waiting.entry(entry?, &self.database, out);
        Ok(())
    }

    /// Says whether a line that begins as none does goes on with the one before. PostgreSQL puts a tab
    /// there; what MySQL prints of itself begins with no time.
    fn goes_on(&self, text: &str) -> bool {
        match self.format {
            None => false,
            Some(Format::MysqlError) => !text.starts_with(|c: char| c.is_ascii_digit()),
            Some(_) => text.starts_with('\t'),
        }
    }
}

/// How a line is written, and the line without the time that CloudWatch Logs puts before it in exports.
fn recognised(text: &str) -> Option<(Format, &str)> {
    if let Some(format) = Format::of(text) {
        return Some((format, text));
    }
    let (stamp, rest) = text.split_once(' ')?;
    let is_stamp = stamp.contains('T') && event_time::parse(stamp).is_some();
    let format = Format::of(rest).filter(|_| is_stamp)?;
    Some((format, rest))
}

impl Format {
    /// Reads the shape of the beginning: `0` stands for any digit.
    fn of(text: &str) -> Option<Self> {
        let has = |shape: &str| {
            let mut bytes = text.bytes();
            shape.bytes().all(|wanted| match bytes.next() {
                Some(byte) if wanted == b'0' => byte.is_ascii_digit(),
                byte => byte == Some(wanted),
            })
        };
        if has("00000000 00:00:00,") || has("0000000000000000,") {
            return Some(Self::MysqlAudit);
        }
        if has("000000 00:00:00 [") || has("000000  0:00:00 [") {
            return Some(Self::MysqlError);
        }
        if has("0000-00-00T00:00:00.000000Z ") {
            let rest = &text["0000-00-00T00:00:00.000000Z ".len()..];
            return is_thread(rest).then_some(Self::MysqlError);
        }
        if !has("0000-00-00 00:00:00") && !has("0000-00-00  0:00:00") {
            return None;
        }
        let rest = &text["0000-00-00 00:00:00".len()..];
        let rest = match rest.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let rest = rest.strip_prefix(' ')?;
        if is_thread(rest) {
            return Some(Self::MysqlError);
        }
        let zone = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        match rest.as_bytes().get(zone) {
            Some(b':') if zone > 0 => Some(Self::PostgresText),
            Some(b',') if zone > 0 => Some(Self::PostgresCsv),
            _ => None,
        }
    }
}

/// Says whether a text begins with the number of a thread and a bracket, as messages of MySQL do.
fn is_thread(text: &str) -> bool {
    let number = text.trim_start();
    let number = number.strip_prefix("0x").unwrap_or(number);
    let rest = number.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    rest.len() < number.len() && rest.starts_with(" [")
}

/// The first characters of a line, to show.
fn beginning(text: &str) -> Box<str> {
    /// Chosen by hand.
    const SHOWN: usize = 40;
    text.chars().take(SHOWN).collect()
}

/// A text that somebody else chose, no longer than we keep it.
fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(LOGIN_TEXT_BYTES_MAX)].to_owned()
}

/// A time in UTC, as a log writes it.
fn time(text: &str) -> Result<u64, RdsLogError> {
    event_time::parse(text).ok_or_else(|| RdsLogError::Time {
        text: beginning(text),
    })
}

/// The address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// The server's own host: RDS itself.
    Own,
    /// Someone else, by address where the log has one.
    Other(Option<IpAddr>),
}

impl Peer {
    fn of(host: &str) -> Self {
        match host.parse::<IpAddr>() {
            Ok(address) if address.to_canonical().is_loopback() => Self::Own,
            Ok(address) => Self::Other(Some(address.to_canonical())),
            Err(_) if matches!(host, "" | "localhost" | "[local]") => Self::Own,
            Err(_) => Self::Other(None),
        }
    }
}

#[cfg(test)]
mod tests;
