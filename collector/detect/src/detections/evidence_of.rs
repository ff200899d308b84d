//! Events as evidence and as GuardDuty's action.

use std::net::IpAddr;

use picket_wire::{
    Conversation, Hit, HitKind, ImdsRequest, Process, Question, Transport, TunnelKind,
};

use crate::finding::{
    Action, ApiEvidence, AwsApiCallAction, DnsEvidence, DnsRequestAction, DomainDetails, Evidence,
    FlowEvidence, HitEvidence, LoginAttribute, LoginEvidence, NetworkConnectionAction,
    ParentEvidence, PortProbeAction, PortProbeDetail, ProcessEvidence, RdsDbInstanceDetails,
    RdsDbUserDetails, RdsLoginAttemptAction, Resource, TunnelEvidence, ViaEvidence, partition,
    protocol_name,
};
use crate::limits::QUOTED_BYTES_MAX;
use crate::logs::cloudtrail::ApiCall;
use crate::logs::resolver_query::type_name;
use crate::logs::{Login, LoginOutcome};
use crate::time::Time;

/// A conversation as evidence: a TLS ClientHello where it had one.
pub(crate) fn conversation(c: &Conversation) -> Evidence {
    let flow = FlowEvidence {
        time: Time(c.first_ns),
        last: Time(c.last_ns),
        src_ip: c.client.to_string(),
        src_port: c.client_port,
        dst_ip: c.server.to_string(),
        dst_port: c.server_port,
        proto: protocol_name(c.protocol),
        flows: c.flows,
        packets_out: c.packets_out,
        packets_in: c.packets_in,
        bytes_out: c.bytes_out,
        bytes_in: c.bytes_in,
        name: c.tls_name.clone().or_else(|| c.dns_name.clone()),
        ja4: c.ja4.clone(),
        process: process(c.process.as_deref()),
        tunnel: tunnel(c.tunnel, c.tunnel_id),
    };
    if c.ja4.is_some() || c.tls_name.is_some() {
        Evidence::Tls(flow)
    } else {
        Evidence::Flow(flow)
    }
}

/// Questions as evidence.
pub(crate) fn question(q: &Question) -> Evidence {
    Evidence::Dns(DnsEvidence {
        time: Time(q.first_ns),
        src_ip: q.client.to_string(),
        dst_ip: q.resolver.to_string(),
        proto: transport(q.transport).to_owned(),
        name: q.name.clone(),
        qtype: type_name(q.qtype),
        asked: q.asked,
        rcode: q.rcode,
        answers: q.answers.iter().map(|answer| answer.data.clone()).collect(),
        process: process(q.process.as_deref()),
        tunnel: tunnel(q.tunnel, q.tunnel_id),
        also: q.also.iter().map(one_process).collect(),
    })
}

/// A request to the metadata service as evidence: the flow that it came in.
pub(crate) fn imds(request: &ImdsRequest) -> Evidence {
    Evidence::Flow(FlowEvidence {
        time: Time(request.time_ns),
        last: Time(request.time_ns),
        src_ip: request.client.to_string(),
        src_port: request.client_port,
        dst_ip: request.server.to_string(),
        dst_port: 80,
        proto: protocol_name(6),
        flows: request.count,
        packets_out: 0,
        packets_in: 0,
        bytes_out: 0,
        bytes_in: 0,
        name: request.host.clone(),
        ja4: None,
        process: process(request.process.as_ref()),
        tunnel: None,
    })
}

/// A hit as evidence.
pub(crate) fn hit(hit: &Hit) -> Evidence {
    Evidence::Hit(HitEvidence {
        time: Time(hit.time_ns),
        matched: match hit.kind {
            HitKind::Address => "address",
            HitKind::Question => "question",
            HitKind::TlsName => "tls_name",
            HitKind::Stratum => "stratum",
        }
        .to_owned(),
        indicator: hit.indicator.clone(),
        category: hit.category.clone(),
        list: hit.list.clone(),
        version: hit.version,
        src_ip: hit.src.to_string(),
        src_port: hit.src_port,
        dst_ip: hit.dst.to_string(),
        dst_port: hit.dst_port,
        proto: protocol_name(hit.protocol),
        name: hit.name.clone(),
        process: process(hit.process.as_ref()),
        tunnel: tunnel(hit.tunnel, hit.tunnel_id),
    })
}

/// A connection to a database as evidence.
pub(crate) fn login(login: &Login) -> Evidence {
    Evidence::Login(LoginEvidence {
        time: Time(login.time_ns),
        database: login.database.instance.clone(),
        outcome: match login.outcome {
            LoginOutcome::Succeeded => "succeeded",
            LoginOutcome::Failed => "failed",
            LoginOutcome::Probed => "probed",
        }
        .to_owned(),
        user: some(&login.user),
        schema: some(&login.schema),
        application: some(&login.program),
        src_ip: login.address.map(|address| address.to_string()),
        src_port: login.port,
        why: some(&login.why),
    })
}

/// The database of a login, and the user named, as the resource of a finding.
pub(crate) fn database(login: &Login) -> Resource {
    let of = &login.database;
    let is_told = !of.account.is_empty() && !of.region.is_empty();
    let arn = is_told.then(|| {
        let partition = partition(&of.region);
        format!(
            "arn:{partition}:rds:{}:{}:db:{}",
            of.region, of.account, of.instance
        )
    });
    Resource::RdsDbInstance {
        instance: RdsDbInstanceDetails {
            db_instance_identifier: of.instance.clone(),
            engine: login.log.engine().to_owned(),
            db_cluster_identifier: of.cluster.clone(),
            db_instance_arn: arn,
        },
        user: RdsDbUserDetails {
            user: some(&login.user),
            application: some(&login.program),
            database: some(&login.schema),
            ssl: login.encrypted.map(|encrypted| encrypted.to_string()),
        },
    }
}

/// A user named at a database, with no attempts counted yet.
pub(crate) fn login_attribute(user: &str, program: &str) -> LoginAttribute {
    LoginAttribute {
        user: some(user),
        application: some(program),
        ..LoginAttribute::default()
    }
}

/// Tries to log in as GuardDuty's action.
pub(crate) fn login_attempt(from: Option<IpAddr>, login_attributes: Vec<LoginAttribute>) -> Action {
    Action::RdsLoginAttempt {
        rds_login_attempt_action: RdsLoginAttemptAction {
            remote_ip_details: from.map(Into::into).unwrap_or_default(),
            login_attributes,
        },
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A call as evidence.
pub(crate) fn call(call: &ApiCall) -> Evidence {
    Evidence::Cloudtrail(api(call))
}

/// The same, whatever else it may become.
pub(crate) fn api(call: &ApiCall) -> ApiEvidence {
    ApiEvidence {
        event_id: owned(call.event_id.as_deref()),
        time: Time(call.event_time_ns),
        event_source: call.event_source.to_string(),
        event_name: call.event_name.to_string(),
        source_ip: owned(call.source_ip.as_deref()),
        principal: owned(call.identity.arn.as_deref().or(call.identity.actor())),
        user_agent: call.user_agent.as_deref().map(quote),
        error_code: call.error_code.as_deref().map(str::to_owned),
    }
}

fn tunnel(kind: Option<TunnelKind>, id: Option<u32>) -> Option<TunnelEvidence> {
    kind.map(|kind| TunnelEvidence {
        kind: kind.name().to_owned(),
        id,
    })
}

fn process(process: Option<&Process>) -> Option<Box<ProcessEvidence>> {
    process.map(|process| Box::new(one_process(process)))
}

fn one_process(process: &Process) -> ProcessEvidence {
    ProcessEvidence {
        pid: process.pid,
        start: Time(process.start_ns),
        name: process.name.clone(),
        exe: process.exe.clone(),
        uid: process.uid,
        container: process.container.clone(),
        runtime: process.runtime.clone(),
        unit: process.unit.clone(),
        parent: process.parent.as_deref().map(|parent| ParentEvidence {
            pid: parent.pid,
            name: parent.name.clone(),
            exe: parent.exe.clone(),
        }),
        via: process.via.as_deref().map(|via| ViaEvidence {
            pid: via.pid,
            name: via.name.clone(),
            exe: via.exe.clone(),
        }),
    }
}

fn owned(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

/// A port with its address.
pub(crate) type End = (IpAddr, u16);

/// Which side opened a connection, seen from the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
    Unknown,
}

/// A connection as GuardDuty's action.
pub(crate) fn connection(local: End, remote: End, protocol: u8, direction: Direction) -> Action {
    Action::NetworkConnection {
        network_connection_action: NetworkConnectionAction {
            blocked: false,
            connection_direction: match direction {
                Direction::Inbound => "INBOUND",
                Direction::Outbound => "OUTBOUND",
                Direction::Unknown => "UNKNOWN",
            }
            .to_owned(),
            protocol: protocol_name(protocol),
            local_ip_details: local.0.into(),
            local_port_details: local.1.into(),
            remote_ip_details: remote.0.into(),
            remote_port_details: remote.1.into(),
        },
    }
}

/// A probe of an open port as GuardDuty's action.
pub(crate) fn port_probe(local: End, remote: IpAddr) -> Action {
    Action::PortProbe {
        port_probe_action: PortProbeAction {
            blocked: false,
            port_probe_details: vec![PortProbeDetail {
                local_port_details: local.1.into(),
                local_ip_details: local.0.into(),
                remote_ip_details: remote.into(),
            }],
        },
    }
}

/// A question as GuardDuty's action.
pub(crate) fn dns_request(name: &str, listed: &str, transport_used: Transport) -> Action {
    Action::DnsRequest {
        dns_request_action: DnsRequestAction {
            domain: name.to_owned(),
            domain_with_suffix: listed.to_owned(),
            protocol: transport(transport_used).to_owned(),
            blocked: false,
        },
    }
}

/// A call as GuardDuty's action.
pub(crate) fn api_call(call: &ApiCall) -> Action {
    let domain = match call.source_address {
        Some(_) => None,
        None => call.source_ip.as_deref().map(|domain| DomainDetails {
            domain: domain.to_owned(),
        }),
    };
    Action::AwsApiCall {
        aws_api_call_action: AwsApiCallAction {
            api: call.event_name.to_string(),
            service_name: call.event_source.to_string(),
            caller_type: if call.source_address.is_some() {
                "Remote IP"
            } else {
                "Domain"
            }
            .to_owned(),
            remote_ip_details: call.source_address.map(Into::into),
            domain_details: domain,
            error_code: call.error_code.as_deref().map(str::to_owned),
            user_agent: call.user_agent.as_deref().map(quote),
        },
    }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    }
}

/// The beginning of a text that somebody else chose, for a title or a description.
pub(crate) fn quote(text: &str) -> String {
    if text.len() <= QUOTED_BYTES_MAX {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(QUOTED_BYTES_MAX);
    format!("{}…", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_cut_between_characters() {
        assert_eq!(quote("short"), "short");
        let long = "é".repeat(1_000);
        let cut = quote(&long);
        assert!(cut.len() <= QUOTED_BYTES_MAX + '…'.len_utf8());
        assert!(cut.ends_with("é…"));
    }

    #[test]
    fn what_was_inside_a_tunnel_says_so() {
        let mut inner = crate::testing::conversation("10.0.0.1", "192.0.2.1", 443);
        let json = |one: &Conversation| serde_json::to_value(conversation(one)).unwrap();
        assert!(json(&inner).get("tunnel").is_none());
        inner.tunnel = Some(TunnelKind::Vxlan);
        inner.tunnel_id = Some(77);
        let expected = serde_json::json!({ "kind": "vxlan", "id": 77 });
        assert_eq!(json(&inner)["tunnel"], expected);
        inner.tunnel = Some(TunnelKind::IpIp);
        inner.tunnel_id = None;
        assert_eq!(
            json(&inner)["tunnel"],
            serde_json::json!({ "kind": "ipip" })
        );
    }

    #[test]
    fn types_have_their_mnemonics() {
        assert_eq!(type_name(28), "AAAA");
        assert_eq!(type_name(4_242), "TYPE4242");
    }
}
