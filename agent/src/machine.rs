//! Machine: by what a host is known again where no metadata service says which it is.
//!
//! The firmware's UUID (SMBIOS 3.7 section 7.2.1) stays with a virtual machine when it moves and is
//! another in its copy; so it decides. The system's own id (machine-id(5)) is in every copy of a disk
//! unless whoever made the image emptied it, and some systems make one with each boot; so it counts
//! where there is no UUID to compare. Both are kept as digests, as machine-id(5) asks, and are never
//! sent.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context;
use picket_wire::{AgentId, Digest};
use serde::{Deserialize, Serialize};

use crate::state;

/// Where the kernel shows the UUID, to root alone (drivers/firmware/dmi-id.c).
const PRODUCT: &str = "/sys/class/dmi/id/product_uuid";

/// Where systemd and D-Bus keep the system's id.
const ID: &str = "/etc/machine-id";

/// Where it is written down, in the state folder.
const FILE: &str = "machine.json";

/// Bytes of each of these files that are read.
const BYTES_MAX: u64 = 4 << 10;

/// UUIDs of firmware whose maker gave none; seen on boards of many makers.
const NOBODYS: [&str; 3] = [
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

/// What tells this machine from others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Digest of the firmware's UUID, hex.
    product: Option<String>,
    /// Digest of the system's id, hex.
    id: Option<String>,
    /// Whether there is a UUID that we may not read.
    #[serde(skip)]
    is_hidden: bool,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    agent: String,
    #[serde(flatten)]
    machine: Machine,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self::shown_by(Path::new(PRODUCT), Path::new(ID))
    }

    fn shown_by(product: &Path, id: &Path) -> Self {
        let (product, is_hidden) = match read(product) {
            Ok(text) => (canonical(&text), false),
            Err(error) => (None, error.kind() == io::ErrorKind::PermissionDenied),
        };
        let id = read(id).ok();
        let id = id.filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Self {
            product: product.map(|uuid| digest("product", &uuid)),
            id: id.map(|id| digest("machine-id", &id)),
            is_hidden,
        }
    }

    /// By what `now` is another machine than this one, if that is certain.
    #[must_use]
    pub fn differs_by(&self, now: &Self) -> Option<&'static str> {
        match (&self.product, &now.product) {
            (Some(then), Some(now)) => (then != now).then_some("product UUID"),
            _ if now.is_hidden => None,
            _ => match (&self.id, &now.id) {
                (Some(then), Some(now)) if then != now => Some("machine-id"),
                _ => None,
            },
        }
    }

    /// The machine that an agent's key was last seen on, if that is known.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(state_dir: &Path, agent: AgentId) -> anyhow::Result<Option<Self>> {
        let path = state_dir.join(FILE);
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        // What is damaged says nothing, and is written anew.
        let kept: Option<Kept> = serde_json::from_str(&text).ok();
        let kept = kept.filter(|kept| kept.agent == agent.to_string());
        Ok(kept.map(|kept| kept.machine))
    }

    /// Writes down that an agent's key is on this machine. What may not be read here is left to whoever
    /// may: half of it would be too little to tell machines apart.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, state_dir: &Path, agent: AgentId) -> anyhow::Result<()> {
        if self.is_hidden || *self == Self::default() {
            return Ok(());
        }
        if Self::of(state_dir, agent)?.as_ref() == Some(self) {
            return Ok(());
        }
        let kept = Kept {
            agent: agent.to_string(),
            machine: self.clone(),
        };
        let path = state_dir.join(FILE);
        let written = state::replace(&path, &serde_json::to_vec(&kept)?);
        written.with_context(|| format!("write {}", path.display()))
    }
}

/// Name of the file in the state folder.
pub(crate) fn file() -> &'static str {
    FILE
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text.trim().to_ascii_lowercase())
}

/// A digest that is of no use to other programs.
fn digest(of: &str, text: &str) -> String {
    Digest::of(format!("picket {of} {text}").as_bytes()).to_string()
}

/// A UUID that names a machine. Firmware and kernels write its first three fields in either order of
/// bytes; the lower of the two stands for both.
fn canonical(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.split('-').collect();
    let lengths = fields.iter().map(|field| field.len());
    let is_uuid = lengths.eq([8, 4, 4, 4, 12])
        && fields
            .iter()
            .all(|field| field.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !is_uuid {
        return None;
    }
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    let first = digits.next()?;
    let is_blank = digits.all(|digit| digit == first);
    let other = fields.iter().enumerate().map(|(at, field)| {
        if at < 3 {
            swapped(field)
        } else {
            (*field).to_owned()
        }
    });
    let other = other.collect::<Vec<_>>().join("-");
    let is_nobodys = NOBODYS.iter().any(|one| *one == text || *one == other);
    (!is_blank && !is_nobodys).then(|| other.min(text.to_owned()))
}

/// Hex with its bytes in the other order.
fn swapped(hex: &str) -> String {
    let bytes = hex.as_bytes().chunks(2).rev().flatten();
    bytes.map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UUID: &str = "EC2F58B0-1D7C-4F2D-9B44-0A6E3C51D9AA";
    /// The same in the other order of bytes.
    const SWAPPED: &str = "b0582fec-7c1d-2d4f-9b44-0a6e3c51d9aa";
    const OTHER: &str = "ec2f58b0-1d7c-4f2d-9b44-0a6e3c51d9ab";
    const ID: &str = "0123456789abcdef0123456789abcdef";
    const OTHER_ID: &str = "1123456789abcdef0123456789abcdef";

    fn machine(product: Option<&str>, id: Option<&str>) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: Option<&str>| {
            let path = folder.path().join(name);
            if let Some(text) = text {
                fs::write(&path, format!("{text}\n")).unwrap();
            }
            path
        };
        Machine::shown_by(&path("product", product), &path("id", id))
    }

    #[test]
    fn a_machine_is_another_only_where_that_is_certain() {
        let check = |then: (Option<&str>, Option<&str>), now: (Option<&str>, Option<&str>), by| {
            let found = machine(then.0, then.1).differs_by(&machine(now.0, now.1));
            assert_eq!(found, by, "{then:?} {now:?}");
        };
        let whole = (Some(UUID), Some(ID));
        check(whole, whole, None);
        check(whole, (Some(SWAPPED), Some(ID)), None);
        check(whole, (Some(OTHER), Some(ID)), Some("product UUID"));
        // A system that makes its id with each boot.
        check(whole, (Some(UUID), Some(OTHER_ID)), None);
        check(whole, (Some(UUID), None), None);
        // No firmware to ask, then or now.
        check((None, Some(ID)), (None, Some(OTHER_ID)), Some("machine-id"));
        check((None, Some(ID)), (Some(UUID), Some(ID)), None);
        check(whole, (None, Some(OTHER_ID)), Some("machine-id"));
        check(whole, (None, None), None);
        check((None, Some(ID)), (None, Some("uninitialized")), None);
        // Firmware that says nothing of itself.
        for blank in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "Not Settable",
            "",
        ] {
            check(whole, (Some(blank), Some(ID)), None);
            let both = ((Some(blank), Some(ID)), (Some(blank), Some(OTHER_ID)));
            check(both.0, both.1, Some("machine-id"));
        }
    }

    #[test]
    fn what_is_noted_is_an_agents_and_says_nothing_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let here = machine(Some(UUID), Some(ID));
        let (agent, other) = (AgentId([1; 16]), AgentId([2; 16]));
        assert_eq!(Machine::of(folder.path(), agent).unwrap(), None);
        here.note(folder.path(), agent).unwrap();
        assert_eq!(
            Machine::of(folder.path(), agent).unwrap(),
            Some(here.clone())
        );
        assert_eq!(Machine::of(folder.path(), other).unwrap(), None);
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(
            !text.contains(ID) && !text.to_uppercase().contains(UUID),
            "{text}"
        );
        // Half of it is not written in place of the whole.
        let hidden = Machine {
            is_hidden: true,
            ..machine(None, Some(OTHER_ID))
        };
        assert_eq!(here.differs_by(&hidden), None);
        hidden.note(folder.path(), agent).unwrap();
        Machine::default().note(folder.path(), agent).unwrap();
        assert_eq!(Machine::of(folder.path(), agent).unwrap(), Some(here));
        fs::write(folder.path().join(FILE), b"{\"agent\"").unwrap();
        assert_eq!(Machine::of(folder.path(), agent).unwrap(), None);
    }
}
