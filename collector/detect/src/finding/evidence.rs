//! Evidence: single events that a finding rests on.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// A call of the AWS API.
    Cloudtrail(ApiEvidence),
    /// DNS questions for one name.
    Dns(DnsEvidence),
    /// Traffic between two ends in one window.
    Flow(FlowEvidence),
    /// An indicator met by a packet, told by the agent.
    Hit(HitEvidence),
    /// A connection to a database, and what came of it.
    Login(LoginEvidence),
    /// A remark about a sensor.
    Sensor(SensorEvidence),
    /// A TLS ClientHello, with the traffic of its connection.
    Tls(FlowEvidence),
}

/// A call of the AWS API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiEvidence {
    /// CloudTrail's event id.
    pub event_id: String,
    /// When.
    pub time: Time,
    /// Service.
    pub event_source: String,
    /// Operation.
    pub event_name: String,
    /// From where.
    pub source_ip: String,
    /// By whom.
    pub principal: String,
    /// With what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

/// DNS questions for one name in one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsEvidence {
    /// When the first was asked.
    pub time: Time,
    /// Who asked.
    pub src_ip: String,
    /// Who was asked.
    pub dst_ip: String,
    /// `UDP` or `TCP`.
    pub proto: String,
    /// The name.
    pub name: String,
    /// The type asked for.
    pub qtype: String,
    /// How often it was asked.
    pub asked: u32,
    /// The last response code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<u16>,
    /// What came back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// The process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Box<ProcessEvidence>>,
    /// The tunnel that it was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelEvidence>,
    /// Others that asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<ProcessEvidence>,
}

/// Traffic between two ends in one window; `src` opened it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEvidence {
    /// First packet.
    pub time: Time,
    /// Last packet.
    pub last: Time,
    /// Client.
    pub src_ip: String,
    /// Its port in the first flow.
    pub src_port: u16,
    /// Server.
    pub dst_ip: String,
    /// Its port.
    pub dst_port: u16,
    /// `TCP`, `UDP`, …
    pub proto: String,
    /// Flows.
    pub flows: u32,
    /// Packets, client to server.
    pub packets_out: u64,
    /// Packets, server to client.
    pub packets_in: u64,
    /// Bytes, client to server.
    pub bytes_out: u64,
    /// Bytes, server to client.
    pub bytes_in: u64,
    /// TLS server name, or the name whose answer led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JA4 of the ClientHello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    /// The process that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Box<ProcessEvidence>>,
    /// The tunnel that it was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelEvidence>,
}

/// An indicator met by a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitEvidence {
    /// When the packet passed.
    pub time: Time,
    /// `address`, `question` or `tls_name`.
    pub matched: String,
    /// The listed value.
    pub indicator: String,
    /// Its category.
    pub category: String,
    /// Its list.
    pub list: String,
    /// Version of the set that matched.
    pub version: u64,
    /// Sender.
    pub src_ip: String,
    /// Its port.
    pub src_port: u16,
    /// Receiver.
    pub dst_ip: String,
    /// Its port.
    pub dst_port: u16,
    /// `TCP`, `UDP`, …
    pub proto: String,
    /// The name seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Box<ProcessEvidence>>,
    /// The tunnel that it was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelEvidence>,
}

/// A connection to a database, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginEvidence {
    /// When.
    pub time: Time,
    /// The DB instance.
    pub database: String,
    /// `succeeded`, `failed` or `probed`.
    pub outcome: String,
    /// The user named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The database named within the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<String>,
    /// From which port; 0 if not told.
    #[serde(default)]
    pub src_port: u16,
    /// Why nobody is logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What carried a packet inside another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelEvidence {
    /// `vxlan`, `geneve`, `gre`, …
    pub kind: String,
    /// Its number: the VNI of VXLAN and GENEVE, a key, a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

/// A remark about a sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorEvidence {
    /// When.
    pub time: Time,
    /// The sensor.
    pub agent: String,
    /// What was noticed.
    pub what: String,
}

/// A process. Name and path are the host's word, chosen by whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvidence {
    /// Its id on the host.
    pub pid: u32,
    /// When it started.
    pub start: Time,
    /// Its name.
    pub name: String,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What runs the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Who started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentEvidence>,
    /// The resolver of its host through which it asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ViaEvidence>,
}

/// A resolver of a host that asked in the name of another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViaEvidence {
    /// Its id on the host.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
}

/// Who started a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentEvidence {
    /// Its id on the host.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
}

impl Evidence {
    /// When it happened.
    pub fn time(&self) -> Time {
        match self {
            Self::Cloudtrail(api) => api.time,
            Self::Dns(dns) => dns.time,
            Self::Flow(flow) | Self::Tls(flow) => flow.time,
            Self::Hit(hit) => hit.time,
            Self::Login(login) => login.time,
            Self::Sensor(sensor) => sensor.time,
        }
    }

    /// The API, peer or name whose first event is always kept.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Cloudtrail(api) => {
                let mut subject = String::new();
                write_api(&api.event_source, &api.event_name, &mut subject);
                subject
            }
            Self::Dns(dns) => dns.name.clone(),
            Self::Flow(flow) | Self::Tls(flow) => {
                format!("{}>{}:{}", flow.src_ip, flow.dst_ip, flow.dst_port)
            }
            Self::Hit(hit) => match &hit.name {
                Some(name) => name.clone(),
                None => format!("{}>{}:{}", hit.src_ip, hit.dst_ip, hit.dst_port),
            },
            Self::Login(login) => {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                format!(
                    "{}>{}@{}",
                    text(&login.src_ip),
                    text(&login.user),
                    login.database
                )
            }
            Self::Sensor(sensor) => sensor.what.clone(),
        }
    }
}

/// Writes the subject of a call of the AWS API.
pub(super) fn write_api(source: &str, name: &str, out: &mut String) {
    out.clear();
    out.push_str(source);
    out.push(':');
    out.push_str(name);
}
