//! Which programs of the kernel object this kernel has loaded, and what its verifier went through.

use std::env;
use std::fs;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya_obj::Object;

/// The kernel keeps this much of a program's name (`BPF_OBJ_NAME_LEN` less the final zero).
const NAME_BYTES: usize = 15;

/// A program of the object.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Its name in the object.
    pub(crate) name: String,
    /// Whether it is in the kernel.
    pub(crate) loaded: bool,
    /// Instructions that the verifier went through; from 5.16.
    pub(crate) verified: Option<u32>,
    /// Bytes of instructions after the verifier rewrote them.
    pub(crate) translated_bytes: Option<u32>,
}

/// Every program of the object that `PICKET_KERNEL_OBJECT` names, by name. The agent must run.
pub(crate) fn loaded() -> Result<Vec<Program>> {
    let path = env::var_os("PICKET_KERNEL_OBJECT").context("PICKET_KERNEL_OBJECT is not set")?;
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let object = Object::parse(&bytes).context("read the kernel object")?;
    // One that is unloaded while they are listed is none of ours.
    let infos: Vec<_> = loaded_programs().flatten().collect();
    let mut programs: Vec<Program> = object
        .programs
        .keys()
        .map(|name| {
            let kept = name.get(..NAME_BYTES).unwrap_or(name);
            let info = infos.iter().find(|info| info.name_as_str() == Some(kept));
            Program {
                name: name.clone(),
                loaded: info.is_some(),
                verified: info.and_then(aya::programs::ProgramInfo::verified_instruction_count),
                translated_bytes: info.and_then(aya::programs::ProgramInfo::size_translated),
            }
        })
        .collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}
