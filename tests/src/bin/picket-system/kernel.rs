//! What of the product is in the kernel, as others see it: `bpftool` and `tc`, not our own word.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use crate::machine::Machine;

/// Programs and links of one user, and what is pinned and hung in one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Kernel {
    /// Names of programs that the user loaded.
    programs: Vec<String>,
    /// Links of those programs, by kind: interfaces, control groups, tracepoints.
    links: BTreeMap<String, usize>,
    /// Files in the BPF file system.
    pins: BTreeSet<String>,
    /// Qdiscs and filters of the machine's interfaces.
    qdiscs: Vec<String>,
}

impl Kernel {
    /// Lists what is there of a user, who may not exist yet or any more.
    pub(crate) fn list(machine: &Machine, uid: Option<u64>) -> Result<Self> {
        let is_ours = |one: &Value| uid.is_some() && one["uid"].as_u64() == uid;
        let programs: Vec<Value> = machine
            .bpftool("prog")?
            .into_iter()
            .filter(is_ours)
            .collect();
        let ids: BTreeSet<u64> = programs
            .iter()
            .filter_map(|one| one["id"].as_u64())
            .collect();
        let mut links = BTreeMap::new();
        for link in machine.bpftool("link")? {
            if link["prog_id"].as_u64().is_some_and(|id| ids.contains(&id)) {
                // Kinds that bpftool is too old to name are numbers (tcx is 11, linux/bpf.h).
                let kind = match &link["type"] {
                    Value::String(kind) => kind.clone(),
                    Value::Number(kind) if kind.as_u64() == Some(11) => "tcx".to_owned(),
                    other => other.to_string(),
                };
                *links.entry(kind).or_default() += 1;
            }
        }
        let lines = |line: &str| -> Result<Vec<String>> {
            Ok(machine.run(line)?.lines().map(str::to_owned).collect())
        };
        let qdiscs = lines(
            "tc qdisc show; tc filter show dev host0 ingress; tc filter show dev host0 egress",
        )?;
        let pins = lines("find /sys/fs/bpf -mindepth 1 -not -name '*.debug'")?;
        Ok(Self {
            programs: programs.iter().map(|one| one["name"].to_string()).collect(),
            links,
            pins: pins.into_iter().collect(),
            qdiscs,
        })
    }

    /// Whether a program of ours sees packets and another the openings of sockets.
    pub(crate) fn is_watching(&self) -> bool {
        let has = |kind: &str| self.links.contains_key(kind);
        !self.programs.is_empty() && has("tcx") && has("cgroup") && !self.pins.is_empty()
    }

    /// How many links of which kind.
    pub(crate) fn links_told(&self) -> String {
        let links = self.links.iter();
        let links: Vec<String> = links
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        match links.is_empty() {
            true => "0".to_owned(),
            false => links.join(" "),
        }
    }

    /// In a line.
    pub(crate) fn told(&self) -> String {
        format!(
            "{} programs, links: {}, {} pins, {} qdiscs and filters",
            self.programs.len(),
            self.links_told(),
            self.pins.len(),
            self.qdiscs.len()
        )
    }
}
