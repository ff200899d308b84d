//! A Debian kernel: found by what apt offers, fetched once, and kept with the modules we need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::Kernel;
use super::debian::{Debian, done};

/// Modules that the checks need, in the order in which they are loaded. One that a kernel has
/// built in has no file.
const MODULES: &[&str] = &[
    "veth",
    "tun",
    "sch_ingress",
    "cls_bpf",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
];

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Image {
    /// The package it came in.
    pub(super) name: String,
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// Modules, in the order in which they are to be loaded.
    pub(super) modules: Vec<PathBuf>,
}

impl Image {
    /// The newest of a series that Debian offers, or that in the cache where Debian cannot be asked.
    pub(super) fn get(kernel: &Kernel, cache: &Path) -> anyhow::Result<Self> {
        let architecture = kernel.machine.debian();
        // One kernel of a series is kept.
        let kept = cache.join(format!("{}-{architecture}", kernel.series));
        fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
        let begin = kernel.begin();
        let got = Debian::open(kernel.suite, architecture, cache).and_then(|debian| {
            let name = offered(&debian, kernel.package, &begin)?;
            if !kept.join(&name).is_dir() {
                fetch(&debian, &name, &kept)?;
            }
            Ok(name)
        });
        // Yesterday's will do when there is no network today.
        let name = got.or_else(|error| cached(&kept, &begin).ok_or(error))?;
        let folder = kept.join(&name);
        let modules = MODULES
            .iter()
            .map(|module| folder.join(format!("{module}.ko")));
        Ok(Self {
            name,
            kernel: folder.join("vmlinuz"),
            modules: modules.filter(|file| file.is_file()).collect(),
        })
    }
}

/// The package that `package` depends on, if it is of the series.
fn offered(debian: &Debian, package: &str, begin: &str) -> anyhow::Result<String> {
    dependency(&depends(debian, package)?, begin)
        .map(str::to_owned)
        .with_context(|| format!("apt offers no package {package} that depends on {begin}…"))
}

/// What a package depends on, as apt-cache says it.
fn depends(debian: &Debian, package: &str) -> anyhow::Result<String> {
    let mut ask = debian.command("apt-cache");
    done(ask.args(["depends", "--important", package]))
}

/// The kernel package among what apt-cache says.
fn dependency<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(begin))
}

/// The one in the cache.
fn cached(kept: &Path, begin: &str) -> Option<String> {
    let names = fs::read_dir(kept).ok()?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with(begin) && !name.ends_with(".part"))
        .max()
}

/// Downloads and unpacks a package into a folder of its name; older ones go.
fn fetch(debian: &Debian, name: &str, kept: &Path) -> anyhow::Result<()> {
    println!("fetching {name}");
    let part = kept.join(format!("{name}.part"));
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
    // From 7.2 on the package of this name holds nothing, and depends on those that do.
    let parts = depends(debian, name)?;
    let parts = parts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|part| part.starts_with("linux-binary-") || part.starts_with("linux-modules-"));
    done(
        debian
            .command("apt-get")
            .args(["-qq", "download", name])
            .args(parts)
            .current_dir(&part),
    )?;
    let tree = part.join("tree");
    for package in files(&part)? {
        done(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree))?;
        fs::remove_file(&package).context("remove a package")?;
    }
    let found = files(&tree)?;
    let kernel = found
        .iter()
        .find(|file| file_name(file).starts_with("vmlinuz"))
        .with_context(|| format!("no kernel in {name}"))?;
    fs::rename(kernel, part.join("vmlinuz")).context("keep the kernel")?;
    for module in MODULES {
        for file in &found {
            let plain = part.join(format!("{module}.ko"));
            if file_name(file) == format!("{module}.ko") {
                fs::rename(file, plain).context("keep a module")?;
            } else if file_name(file) == format!("{module}.ko.xz") {
                done(Command::new("xz").arg("-d").arg(file))?;
                fs::rename(file.with_extension(""), plain).context("keep a module")?;
            }
        }
    }
    fs::remove_dir_all(&tree).context("remove the rest of the package")?;
    for entry in fs::read_dir(kept).into_iter().flatten().flatten() {
        if entry.path() != part {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let whole = kept.join(name);
    fs::rename(&part, &whole).with_context(|| format!("keep {}", whole.display()))
}

/// Every regular file below a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", folder.display()))?;
            let kind = entry.file_type().context("look at a file")?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(file: &Path) -> String {
    file.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_the_series_is_found() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        let expected = Some("linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(dependency(text, "linux-image-6.1."), expected);
        // 6.12 is another series, and so is what a later Debian means by the same name.
        assert_eq!(dependency(text, "linux-image-6.12."), None);
        assert_eq!(dependency("", "linux-image-6.1."), None);
    }
}
