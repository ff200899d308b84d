//! Nothing in the repository depends on where it was written: no toolchain file that would start a
//! download, no package registry but the public one, no path of somebody's machine.

use std::path::Path;

use super::{Finding, repository::Repository};

/// Names of files that make rustup fetch a toolchain; the set-up script checks the version instead.
const TOOLCHAIN_FILES: &[&str] = &["rust-toolchain", "rust-toolchain.toml"];

/// The one source a lock file may name.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Folders that exist on one machine only, when a path starts with them. Written in two pieces so
/// that this file passes its own rule.
const FOLDERS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/sha", "red/"),
    concat!("/root/", "."),
    concat!("/home/", "user/"),
    concat!("/home/", "runner/"),
    concat!("/Use", "rs/"),
];

/// Hosts that package managers are configured with, never sources.
const HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("static.", "rust-lang.org"),
    concat!("deb.", "debian.org"),
    concat!("snapshot.", "debian.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

/// Checks every text file.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &repository.files {
        let name = file.file_name().unwrap_or_default();
        if TOOLCHAIN_FILES.iter().any(|toolchain| name == *toolchain) {
            findings.push(Finding::fault(format!(
                "{} would make rustup download a toolchain",
                file.display()
            )));
        }
        let Some(text) = repository.text(file)? else {
            continue;
        };
        findings.extend(if name == "Cargo.lock" {
            lock(file, &text)
        } else {
            words(file, &text)
        });
    }
    Ok(findings)
}

fn lock(file: &Path, text: &str) -> Vec<Finding> {
    let numbered = text.lines().zip(1..);
    let sources = numbered
        .filter_map(|(line, at)| Some((line.strip_prefix("source = ")?.trim_matches('"'), at)));
    sources
        .filter(|(source, _)| *source != REGISTRY)
        .map(|(source, at)| {
            Finding::fault(format!("{}:{at}: a package from {source}", file.display()))
        })
        .collect()
}

fn words(file: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, at) in text.lines().zip(1..) {
        for folder in FOLDERS.iter().filter(|folder| starts_a_path(line, folder)) {
            findings.push(Finding::fault(format!(
                "{}:{at}: a path of one machine, {folder}",
                file.display()
            )));
        }
        for host in HOSTS.iter().filter(|host| line.contains(**host)) {
            findings.push(Finding::fault(format!(
                "{}:{at}: the host of a package registry, {host}",
                file.display()
            )));
        }
    }
    findings
}

/// Whether `folder` occurs in `line` where a path begins, not in the middle of one.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~/}])".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_words(text: &str, expected: usize) {
        assert_eq!(words(Path::new("a"), text).len(), expected, "{text}");
    }

    #[test]
    fn paths_of_one_machine() {
        check_words(concat!("read /wo", "rk/main"), 1);
        check_words(concat!("\"/sha", "red/data\""), 1);
        check_words(concat!("x=/root/", ".cargo/bin"), 1);
        check_words(concat!("../sha", "red/data"), 0);
        check_words(concat!("$HOME/wo", "rk/x ${A}/wo", "rk/"), 0);
        check_words(concat!("src/wo", "rk/mod.rs"), 0);
        check_words("/var/lib/picket and /root alone", 0);
    }

    #[test]
    fn hosts_of_registries() {
        check_words(concat!("curl https://static.", "crates.io/x"), 1);
        check_words("see https://crates.io/crates/aya", 0);
    }

    #[test]
    fn locks_name_one_registry() {
        let public = format!("source = \"{REGISTRY}\"");
        assert_eq!(lock(Path::new("Cargo.lock"), &public), []);
        assert_eq!(
            lock(
                Path::new("Cargo.lock"),
                "source = \"git+https://example.org/x\""
            )
            .len(),
            1
        );
        assert_eq!(lock(Path::new("Cargo.lock"), "name = \"source\"").len(), 0);
    }
}
