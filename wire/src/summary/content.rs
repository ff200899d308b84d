//! What the flows of a conversation said, as far as their first bytes tell.
//!
//! Texts come from the network: bytes outside 0x21-0x7e and `\` are written as `\DDD`, and each is
//! cut to [`CONTENT_TEXT_BYTES_MAX`](crate::limits::CONTENT_TEXT_BYTES_MAX). Secrets are never
//! among them: no password, token, cookie, query string or credential.

use minicbor::{CborLen, Decode, Encode};

use super::{SummaryError, bounded};
use crate::limits;

/// A protocol known by what was said, whatever the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum App {
    /// TLS over TCP.
    #[n(0)]
    Tls,
    /// QUIC.
    #[n(1)]
    Quic,
    /// HTTP/1.
    #[n(2)]
    Http,
    /// The instance metadata service.
    #[n(3)]
    Imds,
    /// SSH.
    #[n(4)]
    Ssh,
    /// A mining pool's protocol: Stratum, xmrig's, EthProxy.
    #[n(5)]
    Stratum,
    /// SMTP.
    #[n(6)]
    Smtp,
    /// SOCKS 4 or 5.
    #[n(7)]
    Socks,
    /// DNS.
    #[n(8)]
    Dns,
}

impl App {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Http => "http",
            Self::Imds => "imds",
            Self::Ssh => "ssh",
            Self::Stratum => "stratum",
            Self::Smtp => "smtp",
            Self::Socks => "socks",
            Self::Dns => "dns",
        }
    }
}

/// What was said in a conversation. Counters are of the window; the rest may have been said in one
/// before, on a flow that goes on. Most conversations have but one of the parts, so these are in boxes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Content {
    /// The protocol of the earliest message.
    #[n(0)]
    pub app: Option<App>,
    /// TLS server names besides the conversation's first, sorted, at most
    /// [`CONTENT_NAMES_MAX`](crate::limits::CONTENT_NAMES_MAX).
    #[n(1)]
    #[cbor(default)]
    pub tls_names: Vec<String>,
    /// ClientHellos with names that found no room there.
    #[n(2)]
    #[cbor(default)]
    pub tls_names_cut: u32,
    /// HTTP requests.
    #[n(3)]
    pub http: Option<Box<Http>>,
    /// SSH banners and how its flows ended.
    #[n(4)]
    pub ssh: Option<Box<Ssh>>,
    /// The opening of a miner.
    #[n(5)]
    pub stratum: Option<Box<Stratum>>,
    /// What a proxy was asked for.
    #[n(6)]
    pub socks: Option<Box<Socks>>,
    /// What a mail client said.
    #[n(7)]
    pub smtp: Option<Box<Smtp>>,
    /// How logins went, where the server says so.
    #[n(8)]
    pub logins: Option<Box<Logins>>,
}

/// HTTP/1 requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Http {
    /// Requests decoded in the window.
    #[n(0)]
    pub requests: u32,
    /// Method of the earliest.
    #[n(1)]
    pub method: String,
    /// Host it named.
    #[n(2)]
    pub host: Option<String>,
    /// Its path, without the query.
    #[n(3)]
    pub path: String,
    /// Its user agent.
    #[n(4)]
    pub user_agent: Option<String>,
    /// Other hosts named, sorted, at most
    /// [`CONTENT_NAMES_MAX`](crate::limits::CONTENT_NAMES_MAX).
    #[n(5)]
    #[cbor(default)]
    pub hosts: Vec<String>,
}

/// SSH as far as it is not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Ssh {
    /// Software the client names.
    #[n(0)]
    pub client: Option<String>,
    /// Software the server names.
    #[n(1)]
    pub server: Option<String>,
    /// Flows that ended in the window before anybody can have logged in.
    #[n(2)]
    pub failed: u32,
    /// Flows that said more by the end of the window than those that fail; each counts once.
    #[n(3)]
    pub succeeded: u32,
}

/// The opening of a miner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Stratum {
    /// `stratum`, `xmrig` or `ethproxy`.
    #[n(0)]
    pub dialect: String,
    /// First method called.
    #[n(1)]
    pub method: String,
    /// Wallet, worker or user it logs in as.
    #[n(2)]
    pub login: Option<String>,
    /// Software it names.
    #[n(3)]
    pub agent: Option<String>,
}

/// What a SOCKS proxy was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Socks {
    /// 4 or 5.
    #[n(0)]
    pub version: u8,
    /// Requests decoded in the window.
    #[n(1)]
    pub requests: u32,
    /// Name or address the earliest asked for.
    #[n(2)]
    pub target: String,
    /// Its port.
    #[n(3)]
    pub target_port: u16,
}

/// What a mail client said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Smtp {
    /// Name it greets with.
    #[n(0)]
    pub greeting: Option<String>,
    /// Domain of the first sender.
    #[n(1)]
    pub sender_domain: Option<String>,
    /// Messages begun in the window.
    #[n(2)]
    pub messages: u32,
    /// Whether it went over to TLS.
    #[n(3)]
    pub starttls: bool,
}

/// How logins went, by the answers of a server that gives them unencrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Logins {
    /// The protocol: `ftp`, `smtp`, `pop3`, `imap`, `redis`, `mysql`, `postgresql`, `vnc`, `smb`, `telnet`,
    /// `rdp`. A text, so that those who do not know one yet read the rest.
    #[n(0)]
    pub service: String,
    /// Logins refused in the window.
    #[n(1)]
    pub failed: u32,
    /// Logins granted in the window.
    #[n(2)]
    pub succeeded: u32,
}

impl Content {
    pub(super) fn validate(&self) -> Result<(), SummaryError> {
        let hosts = self.http.as_ref().map_or(&[][..], |http| &http.hosts);
        for names in [&*self.tls_names, hosts] {
            bounded("content names", names.len(), limits::CONTENT_NAMES_MAX)?;
        }
        let listed = self.tls_names.iter().chain(hosts);
        let texts = listed.map(|text| Some(text.as_str()));
        for text in texts.chain(self.texts()).flatten() {
            bounded("content text", text.len(), limits::CONTENT_TEXT_BYTES_MAX)?;
        }
        Ok(())
    }

    fn texts(&self) -> Vec<Option<&str>> {
        let mut texts = Vec::new();
        if let Some(http) = &self.http {
            texts.extend([Some(http.method.as_str()), Some(http.path.as_str())]);
            texts.extend([http.host.as_deref(), http.user_agent.as_deref()]);
        }
        if let Some(ssh) = &self.ssh {
            texts.extend([ssh.client.as_deref(), ssh.server.as_deref()]);
        }
        if let Some(miner) = &self.stratum {
            texts.extend([Some(miner.dialect.as_str()), Some(miner.method.as_str())]);
            texts.extend([miner.login.as_deref(), miner.agent.as_deref()]);
        }
        if let Some(socks) = &self.socks {
            texts.push(Some(&socks.target));
        }
        if let Some(smtp) = &self.smtp {
            texts.extend([smtp.greeting.as_deref(), smtp.sender_domain.as_deref()]);
        }
        if let Some(logins) = &self.logins {
            texts.push(Some(&logins.service));
        }
        texts
    }
}
