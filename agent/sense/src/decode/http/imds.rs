//! Requests to the instance metadata service: who asks for the role's credentials, and how.
//!
//! It listens at 169.254.169.254 and fd00:ec2::254; containers get theirs at 169.254.170.2, pods
//! at 169.254.170.23 and fd00:ec2::23. Version 2 wants a session token, got by a PUT that no
//! simple-minded proxy makes. Kept are method, path and role; neither token nor credential, nor
//! the id in a container's path, which is as good as a password.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use picket_wire::ImdsClass;
use serde::{Serialize, Serializer};

use super::{Head, Request, shown};

const INSTANCE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
const CONTAINER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2));
const POD: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// Whether the metadata service, or one that hands out credentials like it, has this address.
#[must_use]
pub fn is_service(address: IpAddr) -> bool {
    INSTANCE.contains(&address) || address == CONTAINER || POD.contains(&address)
}

/// What a client asked, or what it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Message {
    /// A request.
    Request(Asked),
    /// An answer; it belongs to the oldest request of its flow that has none.
    Answer {
        /// False.
        request: bool,
        /// Status code.
        status: u16,
    },
}

/// A request to the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Asked {
    /// True.
    pub request: bool,
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path without query; a container's without its id.
    pub path: String,
    /// What for.
    #[serde(serialize_with = "name")]
    pub class: ImdsClass,
    /// The role whose credentials are asked for.
    pub role: Option<String>,
    /// 2 if a session token is sent or asked for, else 1.
    pub version: u8,
    /// Host named, if it is not the service's address.
    pub host: Option<String>,
    /// Whether a proxy says that it asks for another.
    pub forwarded: bool,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

fn name<S: Serializer>(class: &ImdsClass, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name())
}

impl Message {
    /// `rest` is what follows `HTTP/1.` in the first line.
    pub(super) fn answer(rest: &[u8]) -> Option<Self> {
        let digits = rest.split(|byte| *byte == b' ').nth(1)?;
        let status = str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Self::Answer {
            request: false,
            status,
        })
    }

    pub(super) fn request(head: &Head<'_>, request: &Request, service: IpAddr) -> Self {
        let (path, class, role) = what_for(request.path_alone(), service);
        let token = head.has_token || class == ImdsClass::Token;
        let host = head.host.filter(|host| !names(host, service)).map(shown);
        Self::Request(Asked {
            request: true,
            method: request.method.clone(),
            path,
            class,
            role,
            version: if token { 2 } else { 1 },
            host,
            forwarded: head.forwarded,
            user_agent: request.user_agent.clone(),
        })
    }
}

/// Whether a host field names the service by its address.
fn names(host: &[u8], service: IpAddr) -> bool {
    let host = str::from_utf8(host).unwrap_or_default();
    let host = host.strip_suffix(":80").unwrap_or(host);
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.parse() == Ok(service)
}

/// The path to keep, what it is for, and the role in it. Slashes may be doubled.
fn what_for(path: &str, service: IpAddr) -> (String, ImdsClass, Option<String>) {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    if service == CONTAINER {
        // `/v2/credentials/<id>`, `/v4/<id>/task`: the id is the secret.
        let kept = segments.iter().take_while(|segment| segment.len() < 16);
        let path: String = kept.map(|segment| format!("/{segment}")).collect();
        let credentials = segments.contains(&"credentials");
        let class = if credentials {
            ImdsClass::Credentials
        } else {
            ImdsClass::Other
        };
        return (path, class, None);
    }
    // The first is a version: `latest` or a date.
    let class = match segments.get(1..).unwrap_or_default() {
        ["api", "token"] => ImdsClass::Token,
        ["meta-data", "iam", "security-credentials"] => ImdsClass::Roles,
        ["meta-data", "iam", "security-credentials", role] => {
            let role = Some((*role).to_owned());
            return (path.to_owned(), ImdsClass::Credentials, role);
        }
        ["meta-data", "identity-credentials", .., "ec2-instance"] => ImdsClass::Credentials,
        ["user-data"] => ImdsClass::UserData,
        ["dynamic", "instance-identity", ..] => ImdsClass::Identity,
        ["credentials"] if POD.contains(&service) => ImdsClass::Credentials,
        _ => ImdsClass::Other,
    };
    (path.to_owned(), class, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Decoded;
    use crate::input::LinkType;
    use crate::testkit::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

    fn told(service: Ipv4Addr, parts: &[(bool, &str)]) -> Vec<Message> {
        let mut next = [1u32; 2];
        let mut packets = Vec::new();
        for (answer, text) in parts {
            let (src, dst, ports) = if *answer {
                (service, CLIENT, (80, 40_000))
            } else {
                (CLIENT, service, (40_000, 80))
            };
            let at = &mut next[usize::from(*answer)];
            packets.push(ipv4(
                src,
                dst,
                6,
                &tcp(ports.0, ports.1, 0x18, *at, text.as_bytes()),
            ));
            *at += text.len() as u32;
        }
        let seen = Seen::of(LinkType::RAW_IP, &packets);
        let messages = seen.records.into_iter().map(|record| match record.message {
            Decoded::Imds(message) => *message,
            other => panic!("{other:?}"),
        });
        messages.collect()
    }

    #[track_caller]
    fn check(request: &str, path: &str, class: ImdsClass, role: Option<&str>, version: u8) {
        let Message::Request(asked) = &told(SERVICE, &[(false, request)])[0] else {
            panic!("an answer");
        };
        let got = (
            asked.path.as_str(),
            asked.class,
            asked.role.as_deref(),
            asked.version,
        );
        assert_eq!(got, (path, class, role, version));
    }

    #[test]
    fn what_is_asked_for() {
        let roles = "/latest/meta-data/iam/security-credentials/";
        check(
            &format!("GET {roles} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"),
            roles,
            ImdsClass::Roles,
            None,
            1,
        );
        check(
            &format!("GET {roles}web HTTP/1.1\r\nX-aws-ec2-metadata-token: s3cret\r\n\r\n"),
            &format!("{roles}web"),
            ImdsClass::Credentials,
            Some("web"),
            2,
        );
        check(
            "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n",
            "/latest/api/token",
            ImdsClass::Token,
            None,
            2,
        );
        let doubled = "//latest//user-data";
        check(
            &format!("GET {doubled}?x=1 HTTP/1.0\r\n\r\n"),
            doubled,
            ImdsClass::UserData,
            None,
            1,
        );
        let identity = "/2021-07-15/dynamic/instance-identity/document";
        check(
            &format!("GET {identity} HTTP/1.1\r\n\r\n"),
            identity,
            ImdsClass::Identity,
            None,
            1,
        );
        let near = "/latest/meta-data/iam/info";
        check(
            &format!("GET {near} HTTP/1.1\r\n\r\n"),
            near,
            ImdsClass::Other,
            None,
            1,
        );
    }

    #[test]
    fn a_forgery_shows_in_its_fields() {
        let request = "GET /latest/meta-data/ HTTP/1.1\r\nHost: rebound.example\r\n\
                       X-Forwarded-For: 192.0.2.1\r\nUser-Agent: x\r\n\r\n";
        let Message::Request(asked) = &told(SERVICE, &[(false, request)])[0] else {
            panic!("an answer");
        };
        assert_eq!(asked.host.as_deref(), Some("rebound.example"));
        assert!(asked.forwarded);
    }

    #[test]
    fn neither_token_nor_credential_is_kept() {
        let put = "PUT /latest/api/token HTTP/1.1\r\n\r\n";
        let token = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ns3cret";
        let get = "GET /latest/meta-data/iam/security-credentials/web HTTP/1.1\r\n\
                   X-aws-ec2-metadata-token: s3cret\r\n\r\n";
        let (head, body) = (
            "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n",
            "{\"k\":\"s3cret\"}",
        );
        let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        let parts = [
            (false, put),
            (true, token),
            (false, get),
            (true, head),
            (true, body),
            (false, get),
            (true, refused),
        ];
        let messages = told(SERVICE, &parts);
        let statuses: Vec<u16> = messages
            .iter()
            .filter_map(|message| match message {
                Message::Answer { status, .. } => Some(*status),
                Message::Request(_) => None,
            })
            .collect();
        assert_eq!((messages.len(), statuses), (6, vec![200, 200, 401]));
        let shown = format!("{messages:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        let container = "GET /v2/credentials/0a1b2c3d-s3cret-0a1b-2c3d HTTP/1.1\r\n\r\n";
        let shown = format!(
            "{:?}",
            told(Ipv4Addr::new(169, 254, 170, 2), &[(false, container)])
        );
        assert!(
            !shown.contains("s3cret") && shown.contains("/v2/credentials\""),
            "{shown}"
        );
    }
}
