//! What happened, in GuardDuty's field names (`service.action`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// GuardDuty's `service.action`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "actionType", rename_all_fields = "camelCase")]
pub enum Action {
    /// A connection.
    #[serde(rename = "NETWORK_CONNECTION")]
    NetworkConnection {
        /// Between whom.
        network_connection_action: NetworkConnectionAction,
    },
    /// A DNS question.
    #[serde(rename = "DNS_REQUEST")]
    DnsRequest {
        /// For what.
        dns_request_action: DnsRequestAction,
    },
    /// A probe of open ports.
    #[serde(rename = "PORT_PROBE")]
    PortProbe {
        /// Of which.
        port_probe_action: PortProbeAction,
    },
    /// A call of the AWS API.
    #[serde(rename = "AWS_API_CALL")]
    AwsApiCall {
        /// Which.
        aws_api_call_action: AwsApiCallAction,
    },
    /// Somebody at the door of a database.
    #[serde(rename = "RDS_LOGIN_ATTEMPT")]
    RdsLoginAttempt {
        /// Who.
        rds_login_attempt_action: RdsLoginAttemptAction,
    },
    /// Something about the sensor itself, for which GuardDuty has no action.
    #[serde(rename = "SENSOR")]
    Sensor {},
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConnectionAction {
    /// Whether it was stopped.
    pub blocked: bool,
    /// `INBOUND`, `OUTBOUND` or `UNKNOWN`, seen from the resource.
    pub connection_direction: String,
    /// `TCP`, `UDP`, …
    pub protocol: String,
    /// The resource's address.
    pub local_ip_details: LocalIpDetails,
    /// The resource's port.
    pub local_port_details: PortDetails,
    /// The other address.
    pub remote_ip_details: RemoteIpDetails,
    /// The other port.
    pub remote_port_details: PortDetails,
}

/// The resource's address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalIpDetails {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_v4: Option<String>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_v6: Option<String>,
}

/// The other side's address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteIpDetails {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_v4: Option<String>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_v6: Option<String>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortDetails {
    /// Its number.
    pub port: u16,
    /// Its service, `Unknown` where we name none.
    pub port_name: String,
}

/// A DNS question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsRequestAction {
    /// The name asked for.
    pub domain: String,
    /// The listed domain it belongs to, or the name itself.
    pub domain_with_suffix: String,
    /// `UDP` or `TCP`.
    pub protocol: String,
    /// Whether it was stopped.
    pub blocked: bool,
}

/// Probes of open ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortProbeAction {
    /// Whether they were stopped.
    pub blocked: bool,
    /// Which.
    pub port_probe_details: Vec<PortProbeDetail>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortProbeDetail {
    /// The port that answered.
    pub local_port_details: PortDetails,
    /// Its address.
    pub local_ip_details: LocalIpDetails,
    /// Who probed.
    pub remote_ip_details: RemoteIpDetails,
}

/// A call of the AWS API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsApiCallAction {
    /// The operation.
    pub api: String,
    /// The service's endpoint name.
    pub service_name: String,
    /// `Remote IP` or `Domain`.
    pub caller_type: String,
    /// The caller's address, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip_details: Option<RemoteIpDetails>,
    /// The calling service, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_details: Option<DomainDetails>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// What the caller says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// Tries to log in to a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdsLoginAttemptAction {
    /// From where.
    pub remote_ip_details: RemoteIpDetails,
    /// As whom. The one member of an action that GuardDuty writes with a capital.
    #[serde(rename = "LoginAttributes")]
    pub login_attributes: Vec<LoginAttribute>,
}

/// How often one user was tried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginAttribute {
    /// The user named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Tries that were refused.
    pub failed_login_attempts: u64,
    /// Tries that were let in.
    pub successful_login_attempts: u64,
}

/// A service that calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainDetails {
    /// Its name.
    pub domain: String,
}

impl From<IpAddr> for LocalIpDetails {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self {
                ip_address_v4: Some(v4.to_string()),
                ip_address_v6: None,
            },
            IpAddr::V6(v6) => Self {
                ip_address_v4: None,
                ip_address_v6: Some(v6.to_string()),
            },
        }
    }
}

impl From<IpAddr> for RemoteIpDetails {
    fn from(address: IpAddr) -> Self {
        let LocalIpDetails {
            ip_address_v4,
            ip_address_v6,
        } = address.into();
        Self {
            ip_address_v4,
            ip_address_v6,
        }
    }
}

impl From<u16> for PortDetails {
    /// Names the services that the findings of this kind are mostly about (IANA registry).
    fn from(port: u16) -> Self {
        let name = match port {
            21 => "FTP",
            22 => "SSH",
            23 => "Telnet",
            25 => "SMTP",
            53 => "DNS",
            80 => "HTTP",
            443 => "HTTPS",
            445 => "SMB",
            3306 => "MySQL",
            3389 => "RDP",
            5432 => "PostgreSQL",
            6379 => "Redis",
            8080 => "HTTP-Alt",
            9200 => "Elasticsearch",
            _ => "Unknown",
        };
        Self {
            port,
            port_name: name.to_owned(),
        }
    }
}

/// The name of an IP protocol (IANA registry).
pub(crate) fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_guardduty() {
        let action = Action::DnsRequest {
            dns_request_action: DnsRequestAction {
                domain: "a.evil.example".into(),
                domain_with_suffix: "evil.example".into(),
                protocol: "UDP".into(),
                blocked: false,
            },
        };
        let json = serde_json::to_string(&action).unwrap();
        assert_eq!(
            json,
            r#"{"actionType":"DNS_REQUEST","dnsRequestAction":{"domain":"a.evil.example","domainWithSuffix":"evil.example","protocol":"UDP","blocked":false}}"#
        );
        assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), action);
        assert_eq!(
            serde_json::to_string(&RemoteIpDetails::from(
                "::ffff:192.0.2.1".parse::<IpAddr>().unwrap()
            ))
            .unwrap(),
            r#"{"ipAddressV4":"192.0.2.1"}"#
        );
    }
}
