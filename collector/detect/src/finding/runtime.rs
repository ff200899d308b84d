//! The process behind a finding, where GuardDuty's Runtime Monitoring has it:
//! `service.runtimeDetails` (`ProcessDetails` and `LineageObject` of its API).

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, ProcessEvidence};
use crate::time::Time;

/// GuardDuty's `service.runtimeDetails`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeDetails {
    /// The process of the first evidence that names one.
    pub process: RuntimeProcess,
}

/// A process. Name and path are the host's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeProcess {
    /// Its name.
    pub name: String,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable_path: Option<String>,
    /// Its id on the host.
    pub pid: u32,
    /// When it started; absent where the host does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<u32>,
    /// Who started it; GuardDuty tells more of its ancestors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Ancestor>,
}

/// A process that led to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ancestor {
    /// Its name.
    pub name: String,
    /// Its id on the host.
    pub pid: u32,
    /// Its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable_path: Option<String>,
}

impl RuntimeDetails {
    /// Reads it off evidence, if that names a process.
    pub(crate) fn of(evidence: &[Evidence]) -> Option<Self> {
        let process = evidence.iter().find_map(|one| match one {
            Evidence::Dns(dns) => dns.process.as_deref(),
            Evidence::Flow(flow) | Evidence::Tls(flow) => flow.process.as_deref(),
            Evidence::Hit(hit) => hit.process.as_deref(),
            Evidence::Cloudtrail(_) | Evidence::Login(_) | Evidence::Sensor(_) => None,
        })?;
        Some(Self {
            process: RuntimeProcess::of(process),
        })
    }
}

impl RuntimeProcess {
    fn of(process: &ProcessEvidence) -> Self {
        let parent = process.parent.iter().map(|parent| Ancestor {
            name: parent.name.clone(),
            pid: parent.pid,
            executable_path: parent.exe.clone(),
        });
        Self {
            name: process.name.clone(),
            executable_path: process.exe.clone(),
            pid: process.pid,
            start_time: (process.start.0 > 0).then_some(process.start),
            user_id: process.uid,
            lineage: parent.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{FlowEvidence, ParentEvidence};
    use super::*;

    fn flow(process: Option<ProcessEvidence>) -> Evidence {
        Evidence::Flow(FlowEvidence {
            time: Time(1),
            last: Time(2),
            src_ip: "10.0.0.1".into(),
            src_port: 40_000,
            dst_ip: "192.0.2.1".into(),
            dst_port: 443,
            proto: "TCP".into(),
            flows: 1,
            packets_out: 1,
            packets_in: 1,
            bytes_out: 40,
            bytes_in: 40,
            name: None,
            ja4: None,
            process: process.map(Box::new),
            tunnel: None,
        })
    }

    #[test]
    fn the_first_process_named_is_told_as_guardduty_tells_it() {
        assert_eq!(RuntimeDetails::of(&[flow(None)]), None);
        let process = ProcessEvidence {
            pid: 42,
            start: Time(0),
            name: "miner".into(),
            exe: Some("/tmp/miner".into()),
            uid: Some(33),
            container: None,
            runtime: None,
            unit: None,
            via: None,
            parent: Some(ParentEvidence {
                pid: 7,
                name: "sh".into(),
                exe: None,
            }),
        };
        let other = ProcessEvidence {
            pid: 43,
            ..process.clone()
        };
        let details = RuntimeDetails::of(&[flow(None), flow(Some(process)), flow(Some(other))]);
        let told = serde_json::to_value(details).unwrap();
        let expected = serde_json::json!({"process": {
            "name": "miner", "executablePath": "/tmp/miner", "pid": 42, "userId": 33,
            "lineage": [{"name": "sh", "pid": 7}],
        }});
        assert_eq!(told, expected);
    }
}
