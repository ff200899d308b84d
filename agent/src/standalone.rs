//! Without a collector: each hit, and what becomes of orders to block, as a line of JSON on the
//! standard output.

use std::io::{self, Write};
use std::net::IpAddr;

use picket_sense::decode::Protocol;
use picket_wire::{
    BlockAct, BlockEvent, BlockedFlow, Hit, HitKind, Parent, Process, Side, Summary, TunnelKind,
    Via,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// A hit as it is printed. Times are seconds since the epoch.
#[derive(Serialize)]
struct Line<'a> {
    time: Box<RawValue>,
    kind: &'static str,
    indicator: &'a str,
    category: &'a str,
    list: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    proto: String,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    /// Which end is the host: `src`, `dst`, `both` or `neither`.
    local: &'static str,
    /// Of an address: which end is listed, `src` or `dst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<&'static str>,
    /// The tunnel it was found in, as `inspect` calls it, and its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_id: Option<u32>,
    /// Version of the indicators that matched.
    indicators: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessLine<'a>>,
}

#[derive(Serialize)]
struct ProcessLine<'a> {
    #[serde(flatten)]
    program: ProgramLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    /// What runs the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ProgramLine<'a>>,
    /// The resolver of this host through which it asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<ProgramLine<'a>>,
}

/// A process by itself. When it started is not known of a parent.
#[derive(Serialize)]
struct ProgramLine<'a> {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Box<RawValue>>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
}

/// What became of an order to block, as it is printed.
#[derive(Serialize)]
struct BlockLine<'a> {
    time: Box<RawValue>,
    kind: &'static str,
    act: &'static str,
    order: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    /// Whether blocking is off, and this is only told.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    flow: Option<FlowLine>,
}

#[derive(Serialize)]
struct FlowLine {
    proto: String,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
}

/// Prints the hits of every summary that comes. Ends when no more can come or nobody reads.
///
/// # Errors
/// The output cannot be written.
pub fn run(mut summaries: mpsc::Receiver<Summary>, mut out: impl Write) -> io::Result<()> {
    while let Some(summary) = summaries.blocking_recv() {
        for hit in &summary.hits {
            serde_json::to_writer(&mut out, &Line::of(hit))?;
            out.write_all(b"\n")?;
        }
        for event in &summary.blocks {
            serde_json::to_writer(&mut out, &BlockLine::of(event))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    Ok(())
}

// What a summary has is taken apart by name below, so that nothing new in it is left out unnoticed.

impl<'a> Line<'a> {
    fn of(hit: &'a Hit) -> Self {
        let Hit {
            time_ns,
            kind,
            indicator,
            category,
            list,
            version,
            src,
            src_port,
            dst,
            dst_port,
            protocol,
            local,
            source_listed,
            name,
            process,
            tunnel,
            tunnel_id,
        } = hit;
        let listed = if *source_listed { "src" } else { "dst" };
        Self {
            time: seconds(*time_ns),
            kind: match kind {
                HitKind::Address => "address",
                HitKind::Question => "dns",
                HitKind::TlsName => "tls",
                HitKind::Stratum => "stratum",
            },
            indicator,
            category,
            list,
            name: name.as_deref(),
            proto: Protocol(*protocol).to_string(),
            src_ip: *src,
            src_port: *src_port,
            dst_ip: *dst,
            dst_port: *dst_port,
            local: match local {
                Side::Neither => "neither",
                Side::Client => "src",
                Side::Server => "dst",
                Side::Both => "both",
            },
            listed: (*kind == HitKind::Address).then_some(listed),
            tunnel: tunnel.map(TunnelKind::name),
            tunnel_id: *tunnel_id,
            indicators: *version,
            process: process.as_ref().map(ProcessLine::of),
        }
    }
}

impl<'a> ProcessLine<'a> {
    fn of(process: &'a Process) -> Self {
        let Process {
            pid,
            start_ns,
            name,
            exe,
            uid,
            container,
            parent,
            runtime,
            unit,
            via,
        } = process;
        let of_parent = |parent: &'a Parent| {
            let Parent { pid, name, exe } = parent;
            ProgramLine::of(*pid, None, name, exe)
        };
        let of_via = |via: &'a Via| {
            let Via {
                pid,
                start_ns,
                name,
                exe,
            } = via;
            ProgramLine::of(*pid, Some(*start_ns), name, exe)
        };
        Self {
            program: ProgramLine::of(*pid, Some(*start_ns), name, exe),
            uid: *uid,
            container: container.as_deref(),
            runtime: runtime.as_deref(),
            unit: unit.as_deref(),
            parent: parent.as_deref().map(of_parent),
            via: via.as_deref().map(of_via),
        }
    }
}

impl<'a> ProgramLine<'a> {
    fn of(pid: u32, start_ns: Option<u64>, name: &'a str, exe: &'a Option<String>) -> Self {
        Self {
            pid,
            start: start_ns.map(seconds),
            name,
            exe: exe.as_deref(),
        }
    }
}

impl<'a> BlockLine<'a> {
    fn of(event: &'a BlockEvent) -> Self {
        let BlockEvent {
            time_ns,
            act,
            order,
            net,
            port,
            expires_ns,
            why,
            flow,
            dry_run,
        } = event;
        Self {
            time: seconds(*time_ns),
            kind: "block",
            act: match act {
                BlockAct::Applied => "applied",
                BlockAct::Refused => "refused",
                BlockAct::Lifted => "lifted",
                BlockAct::Expired => "expired",
                BlockAct::Dropped => "dropped",
            },
            order: *order,
            net: net.map(|net| format!("{}/{}", net.address, net.prefix)),
            port: *port,
            expires: expires_ns.map(seconds),
            why: why.as_deref(),
            dry_run: *dry_run,
            flow: flow.map(FlowLine::of),
        }
    }
}

impl FlowLine {
    fn of(flow: BlockedFlow) -> Self {
        let BlockedFlow {
            src,
            src_port,
            dst,
            dst_port,
            protocol,
        } = flow;
        Self {
            proto: Protocol(protocol).to_string(),
            src_ip: src,
            src_port,
            dst_ip: dst,
            dst_port,
        }
    }
}

/// A time as a JSON number with nine decimals, which no float would keep.
fn seconds(ns: u64) -> Box<RawValue> {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hit(process: Option<Process>) -> Hit {
        Hit {
            time_ns: 1_700_000_000_123_456_789,
            kind: HitKind::Address,
            indicator: "192.0.2.7".into(),
            category: "c2".into(),
            list: "c2-ips.txt".into(),
            version: 3,
            src: [192, 0, 2, 7].into(),
            src_port: 443,
            dst: [10, 0, 0, 1].into(),
            dst_port: 40_000,
            protocol: 6,
            local: Side::Server,
            source_listed: true,
            name: None,
            process,
            tunnel: None,
            tunnel_id: None,
        }
    }

    #[track_caller]
    fn check(line: &impl Serialize, expected: &serde_json::Value) {
        let text = serde_json::to_string(line).unwrap();
        let got: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(got, *expected, "{text}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        check(
            &Line::of(&hit(None)),
            &json!({
                "time": 1_700_000_000.123_456_7, "kind": "address", "indicator": "192.0.2.7",
                "category": "c2", "list": "c2-ips.txt", "proto": "tcp", "src_ip": "192.0.2.7",
                "src_port": 443, "dst_ip": "10.0.0.1", "dst_port": 40_000, "local": "dst",
                "listed": "src", "indicators": 3
            }),
        );
        let question = Hit {
            kind: HitKind::Question,
            name: Some("a.c2.example".into()),
            tunnel: Some(TunnelKind::Vxlan),
            tunnel_id: Some(7),
            ..hit(None)
        };
        let line = serde_json::to_value(Line::of(&question)).unwrap();
        assert_eq!(line["name"], "a.c2.example");
        assert_eq!(
            (&line["tunnel"], &line["tunnel_id"]),
            (&"vxlan".into(), &7.into())
        );
        assert!(line.get("listed").is_none(), "{line}");
        let process = Process {
            pid: 7,
            name: "sh".into(),
            ..Process::default()
        };
        check(
            &ProcessLine::of(&process),
            &json!({"pid": 7, "start": 0.0, "name": "sh"}),
        );
    }

    #[test]
    fn all_that_a_summary_knows_of_a_process_is_told() {
        let process = Process {
            pid: 812,
            start_ns: 1_500_000_000,
            name: "curl".into(),
            exe: Some("/usr/bin/curl".into()),
            uid: Some(33),
            container: Some("0123456789ab".into()),
            parent: Some(Box::new(Parent {
                pid: 1,
                name: "init".into(),
                exe: Some("/sbin/init".into()),
            })),
            runtime: Some("docker".into()),
            unit: Some("docker.service".into()),
            via: Some(Box::new(Via {
                pid: 300,
                start_ns: 250_000_000,
                name: "dnsmasq".into(),
                exe: None,
            })),
        };
        check(
            &ProcessLine::of(&process),
            &json!({
                "pid": 812, "start": 1.5, "name": "curl", "exe": "/usr/bin/curl", "uid": 33,
                "container": "0123456789ab", "runtime": "docker", "unit": "docker.service",
                "parent": {"pid": 1, "name": "init", "exe": "/sbin/init"},
                "via": {"pid": 300, "start": 0.25, "name": "dnsmasq"}
            }),
        );
    }
}
