//! What a program is made of: the crates that cargo links into it, from `cargo tree` (which of them) and
//! `cargo metadata` (what they say of themselves), as a CycloneDX 1.5 bill of materials.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sums::hex;
use super::{Program, output};

/// The kernel programs' package, and what it is built for.
const KERNEL: (&str, &str) = ("picket-programs", "bpfel-unknown-none");

/// The crates of one program on one architecture.
pub(super) struct Parts {
    program: String,
    /// By name and version.
    pub(super) crates: BTreeMap<(String, String), Part>,
}

/// A crate.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) license: String,
    /// Folder of its sources.
    pub(super) folder: PathBuf,
    repository: Option<String>,
    /// SHA-256 of the archive that it came in; none for ours.
    checksum: Option<String>,
    /// Names and versions of what it is linked with, or carries.
    needs: BTreeSet<(String, String)>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

impl Parts {
    /// What is linked into a program, and where it carries the kernel programs, into those.
    pub(super) fn of(root: &Path, program: Program, triple: &str) -> anyhow::Result<Self> {
        let mut parts = Self::linked_into(root, program.name, triple)?;
        if program.carries_kernel_programs {
            let kernel = Self::linked_into(&root.join("ebpf/programs"), KERNEL.0, KERNEL.1)?;
            parts.carry(kernel);
        }
        Ok(parts)
    }

    fn linked_into(workspace: &Path, package: &str, triple: &str) -> anyhow::Result<Self> {
        let cargo = |arguments: &[&str]| {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut cargo = Command::new(cargo);
            output(cargo.args(arguments).current_dir(workspace))
        };
        let tree = cargo(&[
            "tree",
            "--locked",
            "--package",
            package,
            "--edges",
            "normal",
            "--target",
            triple,
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])?;
        let metadata = cargo(&[
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            triple,
        ])?;
        let metadata: Metadata = serde_json::from_str(&metadata).context("read cargo metadata")?;
        let lock = workspace.join("Cargo.lock");
        let lock = fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
        Ok(Self::put_together(package, &tree, metadata, &lock))
    }

    /// Takes in what a part that is carried along is made of.
    fn carry(&mut self, carried: Self) {
        let is_carried = |key: &&(String, String)| key.0 == carried.program;
        let key = carried.crates.keys().find(is_carried).cloned();
        for (ours, part) in &mut self.crates {
            if ours.0 == self.program {
                part.needs.extend(key.clone());
            }
        }
        for (key, part) in carried.crates {
            self.crates.entry(key).or_insert(part);
        }
    }

    fn put_together(program: &str, tree: &str, metadata: Metadata, lock: &str) -> Self {
        let linked = linked(tree);
        let checksums = checksums(lock);
        let names: BTreeMap<String, (String, String)> = metadata
            .packages
            .iter()
            .map(|one| (one.id.clone(), (one.name.clone(), one.version.clone())))
            .collect();
        let needs: BTreeMap<String, Vec<String>> = metadata
            .resolve
            .nodes
            .into_iter()
            .map(|node| (node.id, node.dependencies))
            .collect();
        let mut crates = BTreeMap::new();
        for package in metadata.packages {
            let key = (package.name, package.version);
            if !linked.contains(&key) {
                continue;
            }
            let needs = needs.get(&package.id).into_iter().flatten();
            let needs = needs.filter_map(|id| names.get(id)).cloned();
            let part = Part {
                license: package.license.unwrap_or_default(),
                folder: package
                    .manifest_path
                    .parent()
                    .unwrap_or(Path::new(""))
                    .to_owned(),
                repository: package.repository,
                checksum: checksums.get(&key).cloned(),
                needs: needs.filter(|one| linked.contains(one)).collect(),
            };
            crates.insert(key, part);
        }
        Self {
            program: program.to_owned(),
            crates,
        }
    }
}

/// Names and versions of `cargo tree --prefix none --format {p}`, without what only the compiler runs.
fn linked(tree: &str) -> BTreeSet<(String, String)> {
    let lines = tree.lines().filter(|line| !line.contains("(proc-macro)"));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            Some((name.to_owned(), version.to_owned()))
        })
        .collect()
}

/// Checksums that `Cargo.lock` holds; it is written by cargo, a key a line.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut checksums = BTreeMap::new();
    for table in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = table.lines().find_map(|line| line.strip_prefix(key))?;
            let quoted = line.strip_prefix(" = \"")?;
            quoted.strip_suffix('"').map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            checksums.insert((name, version), sum);
        }
    }
    checksums
}

/// The bill as JSON. Its serial number is made of its content, so that the same parts give the same.
pub(super) fn cyclonedx(parts: &Parts, version: &str, epoch: u64) -> anyhow::Result<Vec<u8>> {
    let purl = |(name, version): &(String, String)| format!("pkg:cargo/{name}@{version}");
    let component = |(key, part): (&(String, String), &Part)| {
        let kind = match key.0 == parts.program {
            true => "application",
            false => "library",
        };
        let mut one = json!({
            "type": kind,
            "bom-ref": purl(key),
            "name": key.0,
            "version": key.1,
            "purl": purl(key),
            "licenses": [{"expression": spdx(&part.license)}],
        });
        if let Some(sum) = &part.checksum {
            one["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        if let Some(url) = &part.repository {
            one["externalReferences"] = json!([{"type": "vcs", "url": url}]);
        }
        one
    };
    let is_program = |one: &(&(String, String), &Part)| one.0.0 == parts.program;
    let program = parts.crates.iter().find(is_program);
    let program = program.context("the program is not among its own parts")?;
    let others = parts.crates.iter().filter(|one| !is_program(one));
    let components: Vec<Value> = others.map(component).collect();
    let depends = |(key, part): (&(String, String), &Part)| json!({"ref": purl(key), "dependsOn": part.needs.iter().map(purl).collect::<Vec<_>>()});
    let dependencies: Vec<Value> = parts.crates.iter().map(depends).collect();
    let content = json!([version, components, dependencies]).to_string();
    let hash = hex(digest(&SHA256, content.as_bytes()).as_ref());
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid(&hash),
        "version": 1,
        "metadata": {"timestamp": utc(epoch), "component": component(program)},
        "components": components,
        "dependencies": dependencies,
    });
    let mut bytes = serde_json::to_vec_pretty(&bill).context("write the bill of materials")?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// An SPDX expression; `/` is the old way to write OR.
fn spdx(license: &str) -> String {
    license.replace(" / ", " OR ").replace('/', " OR ")
}

/// A UUID of version 8 (RFC 9562 section 5.8) from the first digits of a hash.
fn uuid(hash: &str) -> String {
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

/// Seconds since the epoch as RFC 3339 has them, in UTC (days to a date as in H. Hinnant's
/// "chrono-compatible low-level date algorithms").
fn utc(epoch: u64) -> String {
    let (days, second) = (epoch / 86_400 + 719_468, epoch % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        let check = |epoch: u64, expected: &str| assert_eq!(utc(epoch), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_799, "2000-02-29T23:59:59Z");
        check(4_102_444_799, "2099-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_linked_is_in_the_bill_and_nothing_else() {
        let tree = "picket-x v0.1.0 (/src/x)\nring v0.17.1\nserde_derive v1.0.1 (proc-macro)\nring v0.17.1 (*)\n";
        let package = |name: &str, version: &str| {
            json!({"id": name, "name": name, "version": version, "license": "MIT/Apache-2.0",
                   "repository": null, "manifest_path": format!("/src/{name}/Cargo.toml")})
        };
        let metadata = json!({
            "packages": [package("picket-x", "0.1.0"), package("ring", "0.17.1"), package("serde_derive", "1.0.1")],
            "resolve": {"nodes": [{"id": "picket-x", "dependencies": ["ring", "serde_derive"]},
                                  {"id": "ring", "dependencies": []}]},
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let lock = "[[package]]\nname = \"ring\"\nversion = \"0.17.1\"\nchecksum = \"abc\"\n";
        let parts = Parts::put_together("picket-x", tree, metadata, lock);
        let bill = cyclonedx(&parts, "0.1.0", 0).unwrap();
        let bill: Value = serde_json::from_slice(&bill).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "picket-x");
        let components = bill["components"].as_array().unwrap();
        assert_eq!(components.len(), 1);
        assert_eq!(components[0]["purl"], "pkg:cargo/ring@0.17.1");
        assert_eq!(components[0]["hashes"][0]["content"], "abc");
        assert_eq!(
            components[0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        let edges = json!([
            {"ref": "pkg:cargo/picket-x@0.1.0", "dependsOn": ["pkg:cargo/ring@0.17.1"]},
            {"ref": "pkg:cargo/ring@0.17.1", "dependsOn": []},
        ]);
        assert_eq!(bill["dependencies"], edges);
        let kernel = Parts {
            program: "picket-kernel".to_owned(),
            crates: [("picket-kernel", "0.1.0"), ("ring", "0.17.1")]
                .map(|(name, version)| ((name.to_owned(), version.to_owned()), Part::default()))
                .into(),
        };
        let mut parts = parts;
        parts.carry(kernel);
        let carrier = &parts.crates[&("picket-x".to_owned(), "0.1.0".to_owned())];
        let needs: Vec<&str> = carrier.needs.iter().map(|one| one.0.as_str()).collect();
        assert_eq!(needs, ["picket-kernel", "ring"]);
        assert_eq!(parts.crates.len(), 3, "what both have is there once");
        let serial = bill["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36, "{serial}");
    }
}
