//! What the rules look at: the repository's files and the packages its workspaces are made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use serde::Deserialize;

/// The platform whose dependencies are judged; others add only packages that are never built here.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Manifests of the workspaces, the main one first.
const WORKSPACES: &[&str] = &["Cargo.toml", "ebpf/programs/Cargo.toml"];

/// Entries that hold nothing of ours. `.git` is a file in a second working tree; the last three are what
/// a fuzzer writes.
const SKIPPED: &[&str] = &[".git", "target", "artifacts", "corpus", "coverage"];

/// The repository as the rules see it.
pub(super) struct Repository {
    /// Its folder.
    pub(super) root: PathBuf,
    /// Every file below it, relative to it, sorted; not what is skipped.
    pub(super) files: Vec<PathBuf>,
    /// The packages of each workspace that exists.
    pub(super) workspaces: Vec<Packages>,
}

impl Repository {
    /// Reads the tree and asks cargo for the packages.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        walk(root, Path::new(""), &mut files)?;
        files.sort();
        let mut workspaces = Vec::new();
        for manifest in WORKSPACES {
            if root.join(manifest).exists() {
                workspaces.push(Packages::of(&root.join(manifest))?);
            }
        }
        Ok(Self {
            root: root.to_path_buf(),
            files,
            workspaces,
        })
    }

    /// The text of one file, or `None` when it is not UTF-8.
    pub(super) fn text(&self, file: &Path) -> anyhow::Result<Option<String>> {
        let bytes =
            fs::read(self.root.join(file)).with_context(|| format!("read {}", file.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// The Rust sources, by path and text.
    pub(super) fn sources(&self) -> anyhow::Result<Vec<(&Path, String)>> {
        let mut sources = Vec::new();
        for file in self
            .files
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        {
            let text = self
                .text(file)?
                .with_context(|| format!("{} is not UTF-8", file.display()))?;
            sources.push((file.as_path(), text));
        }
        Ok(sources)
    }
}

fn walk(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if SKIPPED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// The packages of one workspace: its members and all they need on [`PLATFORM`].
#[derive(Debug, Default)]
pub(super) struct Packages {
    /// Every package by cargo's id for it.
    pub(super) by_id: BTreeMap<String, Package>,
    /// The members' ids.
    pub(super) members: BTreeSet<String>,
}

/// One package.
#[derive(Debug, Clone, Default)]
pub(super) struct Package {
    /// Its name.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    /// The licence its manifest states.
    pub(super) license: Option<String>,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Ids of what it is built from: normal and build dependencies.
    pub(super) needs: BTreeSet<String>,
    /// Names of every dependency in its manifest, those of its tests included.
    pub(super) declared: BTreeSet<String>,
    /// Names of its normal dependencies in its manifest.
    pub(super) declared_normal: BTreeSet<String>,
}

impl Packages {
    /// Asks cargo, which must find the lock file up to date.
    fn of(manifest: &Path) -> anyhow::Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                PLATFORM,
            ])
            .arg("--manifest-path")
            .arg(manifest)
            .output()
            .context("run cargo metadata")?;
        if !output.status.success() {
            anyhow::bail!(
                "cargo metadata of {}: {}",
                manifest.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Self::parse(&output.stdout).with_context(|| format!("metadata of {}", manifest.display()))
    }

    fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let raw: Raw = serde_json::from_slice(json)?;
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in raw.resolve.nodes {
            let built_from = node.deps.into_iter().filter(|dependency| {
                // A null kind is a normal dependency.
                dependency
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind.as_deref() != Some("dev"))
            });
            needs.insert(
                node.id,
                built_from.map(|dependency| dependency.pkg).collect(),
            );
        }
        let by_id = raw.packages.into_iter().map(|package| {
            let names = |wanted: fn(&RawDependency) -> bool| {
                package
                    .dependencies
                    .iter()
                    .filter(|d| wanted(d))
                    .map(|d| d.name.clone())
                    .collect()
            };
            let value = Package {
                needs: needs.get(&package.id).cloned().unwrap_or_default(),
                folder: package
                    .manifest_path
                    .parent()
                    .map(Path::to_path_buf)
                    .unwrap_or_default(),
                declared: names(|_| true),
                declared_normal: names(|dependency| dependency.kind.is_none()),
                name: package.name,
                version: package.version,
                license: package.license,
            };
            (package.id, value)
        });
        Ok(Self {
            by_id: by_id.collect(),
            members: raw.workspace_members.into_iter().collect(),
        })
    }

    /// The members themselves.
    pub(super) fn members(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.by_id
            .iter()
            .filter(|(id, _)| self.members.contains(*id))
    }

    /// Everything that `id` is built from, itself included, with the id that asked for each first.
    pub(super) fn closure(&self, id: &str) -> BTreeMap<&str, &str> {
        let mut asked_by: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open: Vec<(&str, &str)> = self
            .by_id
            .get_key_value(id)
            .map(|(id, _)| (id.as_str(), id.as_str()))
            .into_iter()
            .collect();
        while let Some((id, by)) = open.pop() {
            if asked_by.contains_key(id) {
                continue;
            }
            asked_by.insert(id, by);
            if let Some(package) = self.by_id.get(id) {
                open.extend(package.needs.iter().map(|need| (need.as_str(), id)));
            }
        }
        asked_by
    }
}

#[derive(Deserialize)]
struct Raw {
    packages: Vec<RawPackage>,
    workspace_members: Vec<String>,
    resolve: RawResolve,
}

#[derive(Deserialize)]
struct RawPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<RawDependency>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct RawResolve {
    nodes: Vec<RawNode>,
}

#[derive(Deserialize)]
struct RawNode {
    id: String,
    deps: Vec<RawEdge>,
}

#[derive(Deserialize)]
struct RawEdge {
    pkg: String,
    dep_kinds: Vec<RawKind>,
}

#[derive(Deserialize)]
struct RawKind {
    kind: Option<String>,
}

#[cfg(test)]
impl Packages {
    /// Packages named in `rows` as (name, version, licence, names it needs); the first is a member.
    pub(super) fn of_rows(rows: &[(&str, &str, &str, &[&str])]) -> Self {
        let mut packages = Self::default();
        for (name, version, license, needs) in rows {
            let names: BTreeSet<String> = needs.iter().map(|need| (*need).to_owned()).collect();
            let package = Package {
                name: (*name).split('@').next().unwrap().to_owned(),
                version: (*version).to_owned(),
                license: (!license.is_empty()).then(|| (*license).to_owned()),
                folder: PathBuf::new(),
                needs: names.clone(),
                declared: names.clone(),
                declared_normal: names,
            };
            packages.by_id.insert((*name).to_owned(), package);
        }
        packages.members.insert(rows[0].0.to_owned());
        packages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "packages": [
            {"id": "a 1", "name": "a", "version": "1.0.0", "license": "MIT", "manifest_path": "/r/a/Cargo.toml",
             "dependencies": [{"name": "b", "kind": null}, {"name": "t", "kind": "dev"}]},
            {"id": "b 1", "name": "b", "version": "1.0.0", "license": null, "manifest_path": "/r/b/Cargo.toml", "dependencies": []}
        ],
        "workspace_members": ["a 1"],
        "resolve": {"nodes": [
            {"id": "a 1", "deps": [{"pkg": "b 1", "dep_kinds": [{"kind": null}]}, {"pkg": "t 1", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "b 1", "deps": []}
        ]}
    }"#;

    #[test]
    fn metadata_keeps_what_is_built_apart_from_what_only_tests_need() {
        let packages = Packages::parse(METADATA.as_bytes()).unwrap();
        let a = &packages.by_id["a 1"];
        assert_eq!(a.needs, BTreeSet::from(["b 1".to_owned()]));
        assert_eq!(a.declared_normal, BTreeSet::from(["b".to_owned()]));
        assert_eq!(a.declared, BTreeSet::from(["b".to_owned(), "t".to_owned()]));
        assert_eq!(a.folder, Path::new("/r/a"));
        assert_eq!(packages.by_id["b 1"].license, None);
    }

    #[test]
    fn closure_names_who_asked() {
        let packages = Packages::of_rows(&[
            ("a", "1", "MIT", &["b"]),
            ("b", "1", "MIT", &["c"]),
            ("c", "1", "MIT", &["a"]),
        ]);
        assert_eq!(
            packages.closure("a"),
            BTreeMap::from([("a", "a"), ("b", "a"), ("c", "b")])
        );
        assert!(packages.closure("z").is_empty());
    }
}
