//! Open Cybersecurity Schema Framework, version 1.6.0: class Detection Finding (2004) with the profile `cloud`
//! (schema.ocsf.io/1.6.0/classes/detection_finding). 1.6 is what Security Hub reads.

use serde_json::{Value, json};

use super::lean;
use crate::finding::{
    ApiEvidence, Band, DnsEvidence, Evidence, Finding, FlowEvidence, HitEvidence, LoginEvidence,
    ProcessEvidence, Resource, Role,
};
use crate::time::Time;

/// Pieces of evidence told, the first ones. Chosen by hand: what a person reads; the rest is in the finding.
const EVIDENCES_MAX: usize = 20;

/// A finding in this shape.
pub(super) fn of(finding: &Finding) -> Value {
    let service = &finding.service;
    let picket = &finding.picket;
    let (activity_id, activity) = if service.archived {
        (3, "Close")
    } else if service.count > 1 {
        (2, "Update")
    } else {
        (1, "Create")
    };
    let (severity_id, severity) = match Band::of(finding.severity) {
        Band::Low => (2, "Low"),
        Band::Medium => (3, "Medium"),
        Band::High => (4, "High"),
        Band::Critical => (5, "Critical"),
    };
    let (status_id, status) = if service.archived {
        (3, "Suppressed")
    } else {
        (1, "New")
    };
    lean(json!({
        "activity_id": activity_id,
        "activity_name": activity,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200_400 + activity_id,
        "type_name": format!("Detection Finding: {activity}"),
        "time": ms(finding.updated_at),
        "start_time": ms(service.event_first_seen),
        "end_time": ms(service.event_last_seen),
        "count": service.count,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "confidence_score": (picket.confidence.clamp(0.0, 1.0) * 100.0).round() as u64,
        "message": finding.title,
        "metadata": {
            "version": "1.6.0",
            "product": { "name": "picket", "vendor_name": "picket", "version": env!("CARGO_PKG_VERSION") },
            "profiles": ["cloud"],
            "uid": finding.id,
            "event_code": finding.type_name,
        },
        "cloud": {
            "provider": "AWS",
            "account": { "uid": finding.account_id, "type_id": 10, "type": "AWS Account" },
            "region": finding.region,
        },
        "finding_info": {
            "uid": finding.id,
            "title": finding.title,
            "desc": finding.description,
            "types": [finding.type_name],
            "created_time": ms(finding.created_at),
            "modified_time": ms(finding.updated_at),
            "first_seen_time": ms(service.event_first_seen),
            "last_seen_time": ms(service.event_last_seen),
            "analytic": { "type_id": 1, "type": "Rule", "uid": picket.rule, "name": picket.rule },
            "attacks": picket.mitre.iter().map(|id| attack(id)).collect::<Vec<_>>(),
        },
        "resources": [resource(finding)],
        "evidences": picket.evidence.iter().take(EVIDENCES_MAX).filter_map(|one| evidence(&one)).collect::<Vec<_>>(),
        "remediation": { "desc": picket.first_look.join(" ") },
        "unmapped": {
            "arn": finding.arn,
            "severity": finding.severity,
            "why": picket.why,
            "incident": picket.incident,
            "additional_info": service.additional_info,
        },
    }))
}

fn ms(time: Time) -> u64 {
    time.0 / 1_000_000
}

/// A technique of ATT&CK, or a part of one (`T1078.004`).
fn attack(id: &str) -> Value {
    let technique = id.split('.').next().unwrap_or_default();
    let part = (technique != id).then(|| json!({ "uid": id }));
    json!({ "technique": { "uid": technique }, "sub_technique": part })
}

fn resource(finding: &Finding) -> Value {
    let (kind, uid, name) = match &finding.resource {
        Resource::Instance { instance } => ("AwsEc2Instance", instance.instance_id.clone(), None),
        Resource::AccessKey { access_key } => {
            let id = access_key
                .access_key_id
                .clone()
                .or(access_key.principal_id.clone());
            let name = access_key.user_name.clone();
            ("AwsIamAccessKey", id.unwrap_or_default(), Some(name))
        }
        Resource::RdsDbInstance { instance, .. } => {
            let name = instance.db_instance_identifier.clone();
            (
                "AwsRdsDbInstance",
                instance
                    .db_instance_arn
                    .clone()
                    .unwrap_or_else(|| name.clone()),
                Some(name),
            )
        }
        Resource::Lambda { function } => {
            let name = function.function_name.clone();
            ("AwsLambdaFunction", name.clone(), Some(name))
        }
    };
    let (role_id, role) = match finding.service.resource_role {
        Role::Target => (1, "Target"),
        Role::Actor => (2, "Actor"),
    };
    json!({
        "type": kind,
        "uid": uid,
        "name": name,
        "role_id": role_id,
        "role": role,
        "region": finding.region,
        "cloud_partition": finding.partition,
    })
}

/// An event as evidence, where OCSF has a place for it.
fn evidence(evidence: &Evidence) -> Option<Value> {
    match evidence {
        Evidence::Cloudtrail(api) => Some(call(api)),
        Evidence::Dns(dns) => Some(question(dns)),
        Evidence::Flow(flow) | Evidence::Tls(flow) => Some(connection(flow)),
        Evidence::Hit(hit) => Some(met(hit)),
        Evidence::Login(login) => Some(door(login)),
        Evidence::Sensor(sensor) => Some(
            json!({ "data": { "time": sensor.time, "agent": sensor.agent, "what": sensor.what } }),
        ),
    }
}

fn call(api: &ApiEvidence) -> Value {
    let is_address = api.source_ip.parse::<std::net::IpAddr>().is_ok();
    let (ip, name) = if is_address {
        (Some(&api.source_ip), None)
    } else {
        (None, Some(&api.source_ip))
    };
    json!({
        "actor": { "user": { "name": api.principal } },
        "api": {
            "operation": api.event_name,
            "service": { "name": api.event_source },
            "request": { "uid": api.event_id },
            "response": { "error": api.error_code },
        },
        "src_endpoint": { "ip": ip, "svc_name": name },
    })
}

fn question(dns: &DnsEvidence) -> Value {
    json!({
        "src_endpoint": { "ip": dns.src_ip },
        "dst_endpoint": { "ip": dns.dst_ip, "port": 53 },
        "query": { "hostname": dns.name, "type": dns.qtype },
        "process": dns.process.as_deref().map(process),
    })
}

fn connection(flow: &FlowEvidence) -> Value {
    json!({
        "src_endpoint": { "ip": flow.src_ip, "port": flow.src_port },
        "dst_endpoint": { "ip": flow.dst_ip, "port": flow.dst_port, "hostname": flow.name },
        "connection_info": { "direction_id": 0, "protocol_name": flow.proto.to_ascii_lowercase() },
        "process": flow.process.as_deref().map(process),
    })
}

fn met(hit: &HitEvidence) -> Value {
    json!({
        "src_endpoint": { "ip": hit.src_ip, "port": hit.src_port },
        "dst_endpoint": { "ip": hit.dst_ip, "port": hit.dst_port },
        "query": hit.name.as_ref().filter(|_| hit.matched == "question").map(|name| json!({ "hostname": name })),
        "connection_info": { "direction_id": 0, "protocol_name": hit.proto.to_ascii_lowercase() },
        "process": hit.process.as_deref().map(process),
    })
}

fn door(login: &LoginEvidence) -> Value {
    json!({
        "actor": { "user": { "name": login.user }, "app_name": login.application },
        "src_endpoint": { "ip": login.src_ip, "port": Some(login.src_port).filter(|port| *port > 0) },
        "data": { "time": login.time, "database": login.database, "outcome": login.outcome, "why": login.why },
    })
}

fn process(process: &ProcessEvidence) -> Value {
    json!({
        "pid": process.pid,
        "name": process.name,
        "created_time": ms(process.start),
        "file": process.exe.as_ref().map(|path| json!({
            "path": path, "name": path.rsplit('/').next(), "type_id": 1,
        })),
        "user": process.uid.map(|uid| json!({ "uid": uid.to_string() })),
        "parent_process": process.parent.as_ref().map(|parent| json!({
            "pid": parent.pid, "name": parent.name,
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn techniques_and_their_parts() {
        assert_eq!(
            lean(attack("T1110")),
            json!({ "technique": { "uid": "T1110" } })
        );
        let expected =
            json!({ "technique": { "uid": "T1078" }, "sub_technique": { "uid": "T1078.004" } });
        assert_eq!(lean(attack("T1078.004")), expected);
    }
}
