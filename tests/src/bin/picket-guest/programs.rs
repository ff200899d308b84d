//! Which programs of the kernel object this kernel has loaded, what its verifier went through, and
//! how each is attached: the kernel's own answers, not the agent's word.

use std::collections::BTreeSet;
use std::env;
use std::fs;

use anyhow::{Context, Result, ensure};
use aya::programs::links::LinkType;
use aya::programs::loaded_programs;
use aya::programs::{ProgramInfo, loaded_links};
use aya_obj::Object;
use picket_tests::lab::Namespace;
use serde::Serialize;
use serde_json::Value;

/// The kernel keeps this much of a program's name (`BPF_OBJ_NAME_LEN` less the final zero).
const NAME_BYTES: usize = 15;

/// A program of the object.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Program {
    /// Its name in the object.
    #[serde(rename = "program")]
    pub(crate) name: String,
    /// Whether it is in the kernel.
    pub(crate) loaded: bool,
    /// Instructions that the verifier went through; from 5.16.
    pub(crate) verified: Option<u32>,
    /// Bytes of instructions after the verifier rewrote them.
    pub(crate) translated_bytes: Option<u32>,
    /// How it hangs somewhere: `tcx`, `clsact`, `cgroup`, `tracepoint`. None for one that others
    /// jump to.
    pub(crate) attached: BTreeSet<&'static str>,
}

/// Every program of the object that `PICKET_KERNEL_OBJECT` names, by name, as it is in the kernel and
/// on the interfaces of a namespace. The agent must run.
pub(crate) fn loaded(namespace: &Namespace) -> Result<Vec<Program>> {
    let path = env::var_os("PICKET_KERNEL_OBJECT").context("PICKET_KERNEL_OBJECT is not set")?;
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let object = Object::parse(&bytes).context("read the kernel object")?;
    // One that is unloaded while they are listed is none of ours.
    let infos: Vec<_> = loaded_programs().flatten().collect();
    let hooks = hooks(namespace)?;
    let mut programs: Vec<Program> = object
        .programs
        .keys()
        .map(|name| {
            let kept = name.get(..NAME_BYTES).unwrap_or(name);
            let info = infos.iter().find(|info| info.name_as_str() == Some(kept));
            let on = hooks
                .iter()
                .filter(|(id, _)| info.is_some_and(|info| info.id() == *id));
            Program {
                name: name.clone(),
                loaded: info.is_some(),
                verified: info.and_then(ProgramInfo::verified_instruction_count),
                translated_bytes: info.and_then(ProgramInfo::size_translated),
                attached: on.map(|(_, by)| *by).collect(),
            }
        })
        .collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// Ids of programs that hang somewhere, with how.
fn hooks(namespace: &Namespace) -> Result<Vec<(u32, &'static str)>> {
    // A kernel without a kind of link has none of it, and one that ends meanwhile is no hook.
    let links = loaded_links().flatten().filter_map(|link| {
        let by = match link.link_type().ok()? {
            LinkType::Tcx => "tcx",
            LinkType::Cgroup => "cgroup",
            LinkType::RawTracePoint => "tracepoint",
            _ => return None,
        };
        Some((link.program_id(), by))
    });
    let mut hooks: Vec<_> = links.collect();
    let interfaces = ask(namespace, "ip", &["-json", "link", "show"])?;
    let names = interfaces.iter().filter_map(|one| one["ifname"].as_str());
    for name in names {
        for way in ["ingress", "egress"] {
            let filters = ask(
                namespace,
                "tc",
                &["-json", "filter", "show", "dev", name, way],
            )?;
            let ids = filters
                .iter()
                .filter_map(|one| one["options"]["prog"]["id"].as_u64());
            for id in ids {
                hooks.push((u32::try_from(id)?, "clsact"));
            }
        }
    }
    Ok(hooks)
}

/// A list in JSON, from a program that is run in a namespace.
fn ask(namespace: &Namespace, program: &str, words: &[&str]) -> Result<Vec<Value>> {
    let output = namespace
        .command(program)
        .args(words)
        .output()
        .with_context(|| format!("start {program}"))?;
    let words = words.join(" ");
    ensure!(
        output.status.success(),
        "{program} {words}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("read what {program} {words} says"))
}
