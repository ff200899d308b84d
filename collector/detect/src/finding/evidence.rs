//! Evidence: single events that a finding rests on, and which of many are kept.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::limits::{EVIDENCE_DISTINCT_MAX, EVIDENCE_FIRST_MAX, EVIDENCE_LAST_MAX};
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    fn subject(&self) -> String {
        match self {
            Self::Cloudtrail(api) => format!("{}:{}", api.event_source, api.event_name),
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

/// The evidence of a finding: the first [`EVIDENCE_FIRST_MAX`] events, the last
/// [`EVIDENCE_LAST_MAX`], and from between the first of each API, peer and name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Evidence>", into = "Vec<Evidence>")]
pub struct EvidenceLog {
    first: Vec<Evidence>,
    distinct: Vec<Evidence>,
    /// The last ones, each with whether it is the first of its subject.
    last: VecDeque<(Evidence, bool)>,
    subjects: BTreeSet<String>,
}

impl EvidenceLog {
    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.first.len() + self.distinct.len() + self.last.len()
    }

    /// Says whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The events kept: in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &Evidence> {
        let last = self.last.iter().map(|(evidence, _)| evidence);
        self.first.iter().chain(&self.distinct).chain(last)
    }

    /// Says whether another event takes the place of one, unless that is kept for its subject.
    pub(crate) fn is_full(&self) -> bool {
        self.last.len() >= EVIDENCE_LAST_MAX
    }

    /// Takes an event in, which becomes the last one.
    pub(crate) fn push(&mut self, evidence: Evidence) {
        let fresh = self.note_subject(&evidence);
        if self.first.len() < EVIDENCE_FIRST_MAX {
            self.first.push(evidence);
            return;
        }
        self.last.push_back((evidence, fresh));
        if self.last.len() > EVIDENCE_LAST_MAX
            && let Some((oldest, true)) = self.last.pop_front()
            && self.distinct.len() < EVIDENCE_DISTINCT_MAX
        {
            self.distinct.push(oldest);
        }
    }

    /// Says whether the subject is new; once the table is full, nothing is.
    fn note_subject(&mut self, evidence: &Evidence) -> bool {
        let room = EVIDENCE_FIRST_MAX + EVIDENCE_DISTINCT_MAX + EVIDENCE_LAST_MAX;
        self.subjects.len() < room && self.subjects.insert(evidence.subject())
    }
}

impl PartialEq for EvidenceLog {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl From<EvidenceLog> for Vec<Evidence> {
    fn from(log: EvidenceLog) -> Self {
        let last = log.last.into_iter().map(|(evidence, _)| evidence);
        log.first
            .into_iter()
            .chain(log.distinct)
            .chain(last)
            .collect()
    }
}

impl From<Vec<Evidence>> for EvidenceLog {
    /// Sorts a stored list back into its three parts, which follow from their sizes.
    fn from(mut events: Vec<Evidence>) -> Self {
        let mut log = Self::default();
        let after_first = events.len().min(EVIDENCE_FIRST_MAX);
        let mut rest = events.split_off(after_first);
        let last = rest.split_off(rest.len().saturating_sub(EVIDENCE_LAST_MAX));
        for evidence in events.iter().chain(&rest) {
            log.note_subject(evidence);
        }
        log.first = events;
        log.distinct = rest;
        log.distinct.truncate(EVIDENCE_DISTINCT_MAX);
        for evidence in last {
            let fresh = log.note_subject(&evidence);
            log.last.push_back((evidence, fresh));
        }
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(at: u64, what: &str) -> Evidence {
        Evidence::Sensor(SensorEvidence {
            time: Time(at),
            agent: "a".into(),
            what: what.into(),
        })
    }

    fn times(log: &EvidenceLog) -> Vec<u64> {
        log.iter().map(|evidence| evidence.time().0).collect()
    }

    #[test]
    fn keeps_the_first_the_last_and_the_first_of_each_subject() {
        let mut log = EvidenceLog::default();
        for at in 0..1_000 {
            // A new subject at 150 and at 500 only, and one that stays in the last hundred.
            let what = match at {
                150 => "x",
                500 => "y",
                990 => "z",
                _ => "same",
            };
            log.push(sensor(at, what));
        }
        let expected: Vec<u64> = (0..100).chain([150, 500]).chain(900..1_000).collect();
        assert_eq!(times(&log), expected);
    }

    #[test]
    fn a_stored_log_goes_on_as_if_it_had_never_been_stored() {
        let mut log = EvidenceLog::default();
        for at in 0..2_000u64 {
            log.push(sensor(at, &format!("{}", at * at % 311)));
            if at % 97 == 0 {
                let json = serde_json::to_string(&log).unwrap();
                let stored: EvidenceLog = serde_json::from_str(&json).unwrap();
                assert_eq!(stored, log);
                let mut stored = stored;
                stored.push(sensor(at, "more"));
                let mut kept = log.clone();
                kept.push(sensor(at, "more"));
                assert_eq!(stored, kept, "after {at}");
            }
        }
    }

    #[test]
    fn is_bounded() {
        let mut log = EvidenceLog::default();
        for at in 0..5_000u64 {
            log.push(sensor(at, &format!("{at}")));
        }
        let most = EVIDENCE_FIRST_MAX + EVIDENCE_DISTINCT_MAX + EVIDENCE_LAST_MAX;
        assert_eq!(log.len(), most);
    }
}
