//! Text for people: tables and pages, safe to show on a terminal.
//!
//! Names, paths and user agents were chosen by adversaries; control characters in them are shown as
//! escapes, never sent to the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use picket_detect::Finding;
use picket_detect::finding::{
    Action, ApiEvidence, Band, DnsEvidence, Evidence, FlowEvidence, HitEvidence, ProcessEvidence,
    Resource, TunnelEvidence,
};
use picket_detect::incident::{Incident, Stage};

/// Pieces of evidence shown from the beginning and from the end of a long list.
const EVIDENCE_SHOWN: usize = 20;

/// Makes text safe for a terminal.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_direction(character) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Marks that turn the direction of writing, with which one name can be made to look like another
/// (Unicode Standard Annex 9, explicit formatting characters).
fn is_direction(character: char) -> bool {
    matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// A severity as people read it.
pub(super) fn severity(value: f64) -> String {
    let band = match Band::of(value) {
        Band::Low => "low",
        Band::Medium => "medium",
        Band::High => "high",
        Band::Critical => "critical",
    };
    format!("{value:.1} {band}")
}

/// Columns as wide as what stands in them; the last one runs free.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins with the headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|heading| heading.to_uppercase());
        Self {
            rows: vec![headings.collect()],
        }
    }

    /// Adds a row of as many cells as there are headings.
    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows
            .push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Headings with lines below.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a part.
    pub(super) fn part(&mut self, heading: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        let _ = writeln!(self.0, "{heading}");
    }

    /// Adds a line to it.
    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "  {}", clean(text));
    }

    /// Adds a line of a name and a value.
    fn field(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "  {name:<11} {}", clean(value));
    }

    /// Adds a line if there is a value.
    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Writes a finding: what, where, why, by which evidence, what to look at.
pub(super) fn finding(page: &mut Page, finding: &Finding) {
    page.part(&clean(&finding.title));
    page.field("type", &finding.type_name);
    page.field("id", &finding.id);
    page.field("severity", &severity(finding.severity));
    let state = if finding.service.archived {
        "archived"
    } else {
        "open"
    };
    page.field("state", state);
    page.field(
        "account",
        &format!("{} {}", finding.account_id, finding.region),
    );
    resource(page, &finding.resource);
    page.field("first seen", &finding.service.event_first_seen.to_string());
    page.field("last seen", &finding.service.event_last_seen.to_string());
    page.field("count", &finding.service.count.to_string());
    for (day, count) in finding.picket.days.iter().rev().take(7) {
        page.field("", &format!("{day}: {count}"));
    }
    page.part("why");
    page.line(&finding.picket.why);
    page.field("rule", &finding.picket.rule);
    page.field("ATT&CK", &finding.picket.mitre.join(" "));
    page.field("confidence", &format!("{:.2}", finding.picket.confidence));
    for (name, value) in &finding.service.additional_info {
        page.field(name, value);
    }
    page.part("last occurrence");
    action(page, &finding.service.action);
    evidence(page, finding);
    page.part("first look");
    for hint in &finding.picket.first_look {
        page.line(&format!("- {hint}"));
    }
}

fn resource(page: &mut Page, resource: &Resource) {
    match resource {
        Resource::Instance { instance } => {
            page.field("instance", &instance.instance_id);
            for interface in &instance.network_interfaces {
                page.optional("address", interface.private_ip_address.as_deref());
                for address in &interface.ipv6_addresses {
                    page.field("address", address);
                }
            }
        }
        Resource::AccessKey { access_key } => {
            page.field(
                "principal",
                &format!("{} {}", access_key.user_type, access_key.user_name),
            );
            page.optional("key", access_key.access_key_id.as_deref());
            page.optional("id of it", access_key.principal_id.as_deref());
        }
        Resource::RdsDbInstance { instance, user } => {
            page.field(
                "database",
                &format!("{} ({})", instance.db_instance_identifier, instance.engine),
            );
            page.optional("cluster", instance.db_cluster_identifier.as_deref());
            page.optional("user", user.user.as_deref());
            page.optional("within", user.database.as_deref());
        }
        Resource::Lambda { function } => {
            page.field("function", &function.function_name);
            page.optional("interface", function.network_interface_id.as_deref());
        }
    }
}

fn action(page: &mut Page, action: &Action) {
    // The names inside are GuardDuty's; shown as they are, they lead on to its documentation.
    match serde_json::to_value(action) {
        Ok(serde_json::Value::Object(members)) => {
            for (name, value) in members {
                match value {
                    serde_json::Value::String(text) => page.field(&name, &text),
                    other => flat(page, &name, &other),
                }
            }
        }
        Ok(other) => page.line(&other.to_string()),
        Err(_) => page.line("not printable"),
    }
}

/// One line per value of a tree, by its path below `name`.
fn flat(page: &mut Page, name: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            for (member, value) in members {
                flat(page, &format!("{name}.{member}"), value);
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                flat(page, name, value);
            }
        }
        serde_json::Value::String(text) => page.line(&format!("{name} = {text}")),
        other => page.line(&format!("{name} = {other}")),
    }
}

fn evidence(page: &mut Page, finding: &Finding) {
    let all: Vec<Cow<'_, Evidence>> = finding.picket.evidence.iter().collect();
    let left_out = finding.picket.evidence_left_out;
    page.part(&format!(
        "evidence ({} kept, {left_out} counted and not kept)",
        all.len()
    ));
    let hidden = all.len().saturating_sub(2 * EVIDENCE_SHOWN);
    let last_from = all.len() - EVIDENCE_SHOWN.min(all.len());
    for (at, piece) in all.iter().enumerate() {
        if hidden == 0 || at < EVIDENCE_SHOWN || at >= last_from {
            self::piece(page, piece);
        } else if at == EVIDENCE_SHOWN {
            page.line(&format!("… {hidden} more, shown by --format jsonl …"));
        }
    }
}

fn piece(page: &mut Page, evidence: &Evidence) {
    match evidence {
        Evidence::Cloudtrail(api) => self::api(page, api),
        Evidence::Dns(dns) => self::dns(page, dns),
        Evidence::Flow(flow) => self::flow(page, "flow", flow),
        Evidence::Hit(hit) => self::hit(page, hit),
        Evidence::Login(login) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
            page.line(&format!(
                "{} login {} to {} as {} from {}{}",
                login.time,
                login.outcome,
                login.database,
                text(&login.user),
                text(&login.src_ip),
                login
                    .why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why}")),
            ));
        }
        Evidence::Sensor(sensor) => page.line(&format!(
            "{} sensor {}: {}",
            sensor.time, sensor.agent, sensor.what
        )),
        Evidence::Tls(flow) => self::flow(page, "tls", flow),
    }
}

fn api(page: &mut Page, api: &ApiEvidence) {
    let failed = api.error_code.as_ref();
    page.line(&format!(
        "{} cloudtrail {}:{} by {} from {}{}",
        api.time,
        api.event_source,
        api.event_name,
        api.principal,
        api.source_ip,
        failed.map_or_else(String::new, |code| format!(", failed: {code}")),
    ));
    page.line(&format!("    event {}", api.event_id));
    if let Some(agent) = &api.user_agent {
        page.line(&format!("    user agent {agent}"));
    }
}

fn dns(page: &mut Page, dns: &DnsEvidence) {
    page.line(&format!(
        "{} dns {} {} asked {} times by {} of {} over {}",
        dns.time, dns.name, dns.qtype, dns.asked, dns.src_ip, dns.dst_ip, dns.proto
    ));
    if !dns.answers.is_empty() {
        page.line(&format!("    answers {}", dns.answers.join(", ")));
    }
    tunnel(page, dns.tunnel.as_ref());
    process(page, dns.process.as_deref());
    for other in &dns.also {
        process(page, Some(other));
    }
}

fn flow(page: &mut Page, what: &str, flow: &FlowEvidence) {
    page.line(&format!(
        "{} {what} {} → {} {}, {} flows, {} packets and {} bytes out, {} and {} in",
        flow.time,
        endpoint(&flow.src_ip, flow.src_port),
        endpoint(&flow.dst_ip, flow.dst_port),
        flow.proto,
        flow.flows,
        flow.packets_out,
        flow.bytes_out,
        flow.packets_in,
        flow.bytes_in,
    ));
    if let Some(name) = &flow.name {
        page.line(&format!("    name {name}"));
    }
    if let Some(ja4) = &flow.ja4 {
        page.line(&format!("    ja4 {ja4}"));
    }
    tunnel(page, flow.tunnel.as_ref());
    process(page, flow.process.as_deref());
}

fn hit(page: &mut Page, hit: &HitEvidence) {
    page.line(&format!(
        "{} hit {} → {} {}: {} {} on list {} ({}, version {})",
        hit.time,
        endpoint(&hit.src_ip, hit.src_port),
        endpoint(&hit.dst_ip, hit.dst_port),
        hit.proto,
        hit.matched,
        hit.indicator,
        hit.list,
        hit.category,
        hit.version,
    ));
    if let Some(name) = &hit.name {
        page.line(&format!("    name {name}"));
    }
    tunnel(page, hit.tunnel.as_ref());
    process(page, hit.process.as_deref());
}

fn tunnel(page: &mut Page, tunnel: Option<&TunnelEvidence>) {
    let Some(tunnel) = tunnel else {
        return;
    };
    let id = tunnel.id.map_or_else(String::new, |id| format!(" {id}"));
    page.line(&format!("    inside {}{id}", tunnel.kind));
}

fn process(page: &mut Page, process: Option<&ProcessEvidence>) {
    let Some(process) = process else {
        return;
    };
    let mut text = format!("    process {} ({})", process.pid, process.name);
    if let Some(exe) = &process.exe {
        let _ = write!(text, " {exe}");
    }
    if let Some(uid) = process.uid {
        let _ = write!(text, ", user {uid}");
    }
    if let Some(container) = &process.container {
        let runtime = process.runtime.as_deref().unwrap_or("container");
        let _ = write!(text, ", in {runtime} {container}");
    }
    if let Some(unit) = &process.unit {
        let _ = write!(text, ", of {unit}");
    }
    if let Some(parent) = &process.parent {
        let exe = parent.exe.as_deref().unwrap_or(&parent.name);
        let _ = write!(text, ", started by {} ({exe})", parent.pid);
    }
    if let Some(via) = &process.via {
        let exe = via.exe.as_deref().unwrap_or(&via.name);
        let _ = write!(text, ", via {} ({exe})", via.pid);
    }
    let _ = write!(text, ", since {}", process.start);
    page.line(&text);
}

fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// Writes an incident: what, who, and its stages in order.
pub(super) fn incident(page: &mut Page, incident: &Incident) {
    page.part(&clean(&incident.title));
    page.field("id", &incident.id);
    page.field("severity", &severity(incident.severity));
    page.field("rule", &incident.rule);
    page.field("from", &incident.created_at.to_string());
    page.field("to", &incident.updated_at.to_string());
    page.part("why");
    page.line(&incident.why);
    page.part("who and what");
    let entities = &incident.entities;
    page.field(
        "account",
        &format!("{} {}", entities.account, entities.region),
    );
    page.field("instance", &entities.instance);
    for address in &entities.addresses {
        page.field("address", address);
    }
    page.optional("profile", entities.instance_profile.as_deref());
    page.optional("role", entities.role.as_deref());
    page.optional("launched by", entities.launched_by.as_deref());
    page.optional("from", entities.launched_from.as_deref());
    for address in &entities.role_used_from {
        page.field("role from", address);
    }
    page.part("stages");
    for stage in &incident.stages {
        self::stage(page, stage);
    }
}

fn stage(page: &mut Page, stage: &Stage) {
    page.line(&format!(
        "{} {}: {} ({} times)",
        stage.time, stage.tactic, stage.title, stage.count
    ));
    if let Some(finding) = &stage.finding {
        let kind = stage.finding_type.as_deref().unwrap_or_default();
        page.line(&format!("    finding {finding} {kind}"));
    }
    if let Some(event) = &stage.event {
        let failed = event.error_code.as_ref();
        page.line(&format!(
            "    event {} {}:{} by {} from {}{}{}",
            event.event_id,
            event.event_source,
            event.event_name,
            event.principal,
            event.source_ip,
            if event.outside_host {
                ", not the host's address"
            } else {
                ""
            },
            failed.map_or_else(String::new, |code| format!(", failed: {code}")),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(
            clean("a\u{1b}[2Jb\n\u{202e}c"),
            "a\\u{1b}[2Jb\\u{a}\\u{202e}c"
        );
        assert_eq!(clean("grüße 日本"), "grüße 日本");
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let mut table = Table::new(&["id", "type"]);
        table.row(&["long-id", "x y"]);
        table.row(&["b", "z"]);
        assert_eq!(table.finish(), "ID       TYPE\nlong-id  x y\nb        z\n");
    }
}
