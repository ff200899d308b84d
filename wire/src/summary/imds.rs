//! Requests to the instance metadata service: who fetched what, never what came back.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

use super::conversation::Process;
use super::net::ip;
use super::{SummaryError, bounded};
use crate::limits;

/// What a request to the metadata service was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum ImdsClass {
    /// A session token (`PUT /latest/api/token`).
    #[n(0)]
    Token,
    /// The names of the roles whose credentials can be had.
    #[n(1)]
    Roles,
    /// The credentials of a role, or of the instance itself.
    #[n(2)]
    Credentials,
    /// What the instance was given to run when it was launched.
    #[n(3)]
    UserData,
    /// The signed identity document.
    #[n(4)]
    Identity,
    /// Anything else: addresses, names, networks.
    #[n(5)]
    Other,
}

impl ImdsClass {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Roles => "roles",
            Self::Credentials => "credentials",
            Self::UserData => "user_data",
            Self::Identity => "identity",
            Self::Other => "other",
        }
    }
}

/// Like requests of one client in the window.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ImdsRequest {
    /// When the first of them passed.
    #[n(0)]
    pub time_ns: u64,
    /// Who asked.
    #[n(1)]
    #[cbor(with = "ip")]
    pub client: IpAddr,
    /// Its port in the first of them.
    #[n(2)]
    pub client_port: u16,
    /// The service's address.
    #[n(3)]
    #[cbor(with = "ip")]
    pub server: IpAddr,
    /// Process that asked, where known.
    #[n(4)]
    pub process: Option<Process>,
    /// How many there were.
    #[n(5)]
    pub count: u32,
    /// HTTP method.
    #[n(6)]
    pub method: String,
    /// What for.
    #[n(7)]
    pub class: Option<ImdsClass>,
    /// Path without its query.
    #[n(8)]
    pub path: String,
    /// The role whose credentials were asked for.
    #[n(9)]
    pub role: Option<String>,
    /// 2 if a session token was sent or asked for, 1 if not.
    #[n(10)]
    pub version: u8,
    /// Status of the answer; absent if none was seen.
    #[n(11)]
    pub status: Option<u16>,
    /// Host named in the request, if it is not the service's address.
    #[n(12)]
    pub host: Option<String>,
    /// Whether it came through a proxy that says so (`X-Forwarded-For`).
    #[n(13)]
    pub forwarded: bool,
    /// User agent.
    #[n(14)]
    pub user_agent: Option<String>,
}

impl ImdsRequest {
    pub(super) fn validate(&self) -> Result<(), SummaryError> {
        let optional = [&self.role, &self.host, &self.user_agent];
        let texts = optional.into_iter().flatten();
        for text in texts.chain([&self.method, &self.path]) {
            bounded("imds text", text.len(), limits::CONTENT_TEXT_BYTES_MAX)?;
        }
        Ok(())
    }
}
