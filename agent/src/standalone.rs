//! Without a collector: each hit, and what becomes of orders to block, as a line of JSON on the
//! standard output.

use std::io::{self, Write};
use std::net::IpAddr;

use picket_sense::decode::Protocol;
use picket_wire::{BlockAct, BlockEvent, Hit, HitKind, Process, Side, Summary};
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
    indicators: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessLine<'a>>,
}

#[derive(Serialize)]
struct ProcessLine<'a> {
    pid: u32,
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

impl<'a> Line<'a> {
    fn of(hit: &'a Hit) -> Self {
        let process = |process: &'a Process| ProcessLine {
            pid: process.pid,
            name: &process.name,
            exe: process.exe.as_deref(),
        };
        Self {
            time: seconds(hit.time_ns),
            kind: match hit.kind {
                HitKind::Address => "address",
                HitKind::Question => "dns",
                HitKind::TlsName => "tls",
                HitKind::Stratum => "stratum",
            },
            indicator: &hit.indicator,
            category: &hit.category,
            list: &hit.list,
            name: hit.name.as_deref(),
            proto: Protocol(hit.protocol).to_string(),
            src_ip: hit.src,
            src_port: hit.src_port,
            dst_ip: hit.dst,
            dst_port: hit.dst_port,
            local: match hit.local {
                Side::Neither => "neither",
                Side::Client => "src",
                Side::Server => "dst",
                Side::Both => "both",
            },
            indicators: hit.version,
            process: hit.process.as_ref().map(process),
        }
    }
}

impl<'a> BlockLine<'a> {
    fn of(event: &'a BlockEvent) -> Self {
        Self {
            time: seconds(event.time_ns),
            kind: "block",
            act: match event.act {
                BlockAct::Applied => "applied",
                BlockAct::Refused => "refused",
                BlockAct::Lifted => "lifted",
                BlockAct::Expired => "expired",
                BlockAct::Dropped => "dropped",
            },
            order: event.order,
            net: event
                .net
                .map(|net| format!("{}/{}", net.address, net.prefix)),
            port: event.port,
            expires: event.expires_ns.map(seconds),
            why: event.why.as_deref(),
            flow: event.flow.map(|flow| FlowLine {
                proto: Protocol(flow.protocol).to_string(),
                src_ip: flow.src,
                src_port: flow.src_port,
                dst_ip: flow.dst,
                dst_port: flow.dst_port,
            }),
        }
    }
}

/// A time as a JSON number with nine decimals, which no float would keep.
fn seconds(ns: u64) -> Box<RawValue> {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
