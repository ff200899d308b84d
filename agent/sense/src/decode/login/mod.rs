//! What servers say of logins before all is encrypted: whether one was refused or granted. On any port; known
//! by how the server begins.
//!
//! Only the answer's code or its few telling words are looked at, and neither name nor password nor text is
//! kept. How protocols that say nothing readable went, sizes tell: see [`crate::summarise`].

mod packets;
mod text;

use serde::Serialize;

use super::Decoded;

pub(super) use packets::Packets;
pub(super) use text::{Lines, Redis, Telnet};

/// Answers told of one direction: what a guesser gets out of one connection, several times. Chosen by hand.
const ANSWERS_MAX: u32 = 64;

/// The protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// FTP (RFC 959).
    Ftp,
    /// SMTP with AUTH (RFC 4954).
    Smtp,
    /// POP3 (RFC 1939).
    Pop3,
    /// IMAP (RFC 9051).
    Imap,
    /// Redis (its protocol, RESP).
    Redis,
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgresql,
    /// VNC (RFC 6143).
    Vnc,
    /// SMB 1 to 3.
    Smb,
    /// Telnet (RFC 854).
    Telnet,
    /// RDP (MS-RDPBCGR).
    Rdp,
}

impl Service {
    /// Its name in records and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ftp => "ftp",
            Self::Smtp => "smtp",
            Self::Pop3 => "pop3",
            Self::Imap => "imap",
            Self::Redis => "redis",
            Self::Mysql => "mysql",
            Self::Postgresql => "postgresql",
            Self::Vnc => "vnc",
            Self::Smb => "smb",
            Self::Telnet => "telnet",
            Self::Rdp => "rdp",
        }
    }
}

/// How a login went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// One is asked for; how it goes cannot be read.
    Asked,
    /// It was refused.
    Failed,
    /// It was granted.
    Succeeded,
}

/// What a server says of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The protocol.
    pub service: Service,
    /// How it went.
    pub outcome: Outcome,
}

const fn told(service: Service, outcome: Outcome) -> Decoded {
    Decoded::Login(Login { service, outcome })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Record;
    use super::*;
    use crate::testkit::told_by_server;

    /// What the server on `port` tells by these segments, and the same byte by byte.
    #[track_caller]
    pub(super) fn check(port: u16, parts: &[&[u8]], expected: &[(Service, Outcome)]) {
        let whole = parts.concat();
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        for (how, parts) in [
            ("whole", vec![&whole[..]]),
            ("parts", parts.to_vec()),
            ("bytes", bytes),
        ] {
            let told: Vec<_> = told_by_server(port, &parts)
                .iter()
                .filter_map(|record: &Record| match &record.message {
                    Decoded::Login(login) => Some((login.service, login.outcome)),
                    _ => None,
                })
                .collect();
            assert_eq!(told, expected, "{how}");
        }
    }
}
