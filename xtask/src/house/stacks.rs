//! One TLS stack, one HTTP stack, one async runtime: a second one is more code to trust, and two
//! crypto providers in one process make rustls panic when it must choose.

use std::collections::BTreeMap;

use super::{
    Finding,
    repository::{Packages, Repository},
};

/// Packages that would be a second stack.
const FORBIDDEN: &[(&str, &str)] = &[
    ("async-std", "tokio is the runtime"),
    ("aws-lc-rs", "ring is the TLS provider"),
    ("aws-lc-sys", "ring is the TLS provider"),
    ("boring", "rustls is the TLS stack"),
    ("curl", "reqwest is the HTTP client"),
    ("isahc", "reqwest is the HTTP client"),
    ("native-tls", "rustls is the TLS stack"),
    ("openssl", "rustls is the TLS stack"),
    ("openssl-sys", "rustls is the TLS stack"),
    ("smol", "tokio is the runtime"),
    ("tiny_http", "hyper is the HTTP stack"),
    ("ureq", "reqwest is the HTTP client"),
];

/// Packages of which one version is enough.
const ONCE: &[&str] = &[
    "axum",
    "h2",
    "hickory-proto",
    "http",
    "http-body",
    "hyper",
    "reqwest",
    "ring",
    "rustls",
    "rustls-webpki",
    "tokio",
    "tokio-rustls",
];

/// Checks what each workspace is built from.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    Ok(repository.workspaces.iter().flat_map(findings).collect())
}

fn findings(packages: &Packages) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages.by_id.values() {
        let label = format!("{} {}", package.name, package.version);
        if let Some((_, instead)) = FORBIDDEN.iter().find(|(name, _)| *name == package.name) {
            findings.push(Finding::fault(format!(
                "{label} is in the build (by {}): {instead}",
                users(packages, &package.name)
            )));
        }
        if ONCE.contains(&package.name.as_str()) {
            versions
                .entry(&package.name)
                .or_default()
                .push(&package.version);
        }
    }
    for (name, mut found) in versions {
        if found.len() > 1 {
            found.sort_unstable();
            findings.push(Finding::fault(format!(
                "{name} is in the build {} times: {} (by {})",
                found.len(),
                found.join(", "),
                users(packages, name)
            )));
        }
    }
    findings
}

/// Who asks for a package, so that the reader knows whose features to look at.
fn users(packages: &Packages, name: &str) -> String {
    let asks = |id: &String| {
        packages
            .by_id
            .get(id)
            .is_some_and(|needed| needed.name == name)
    };
    let users = packages
        .by_id
        .values()
        .filter(|package| package.needs.iter().any(asks));
    let mut names: Vec<&str> = users.map(|package| package.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rows(rows: &[(&str, &str, &str, &[&str])], expected: &[&str]) {
        let texts: Vec<String> = findings(&Packages::of_rows(rows))
            .into_iter()
            .map(|f| f.text)
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_second_provider_is_named_with_who_brings_it() {
        check_rows(
            &[
                ("a", "1", "", &["rustls"]),
                ("rustls", "0.23.1", "", &["aws-lc-rs"]),
                ("aws-lc-rs", "1.2.0", "", &[]),
            ],
            &["aws-lc-rs 1.2.0 is in the build (by rustls): ring is the TLS provider"],
        );
        check_rows(
            &[
                ("a", "1", "", &["rustls"]),
                ("rustls", "0.23.1", "", &["ring"]),
                ("ring", "0.17.0", "", &[]),
            ],
            &[],
        );
    }

    #[test]
    fn two_versions_of_a_stack() {
        check_rows(
            &[
                ("a", "1", "", &["http@0", "http@1"]),
                ("http@0", "0.2.0", "", &[]),
                ("http@1", "1.0.0", "", &[]),
            ],
            &["http is in the build 2 times: 0.2.0, 1.0.0 (by a)"],
        );
        check_rows(
            &[
                ("a", "1", "", &["syn@1", "syn@2"]),
                ("syn@1", "1.0.0", "", &[]),
                ("syn@2", "2.0.0", "", &[]),
            ],
            &[],
        );
    }
}
