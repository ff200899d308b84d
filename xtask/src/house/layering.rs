//! Who may import whom: the table of ARCHITECTURE.md against the manifests, and no crate that does
//! IO under a core, near or far.

use std::collections::BTreeSet;

use super::{
    CORES, Finding,
    repository::{Package, Packages, Repository},
};

/// Each package of ours and those of ours that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("picket-abi", &[]),
    ("picket-wire", &[]),
    ("picket-intel", &[]),
    ("picket-programs", &["picket-abi"]),
    (
        "picket-sense",
        &["picket-abi", "picket-wire", "picket-intel"],
    ),
    ("picket-detect", &["picket-wire", "picket-intel"]),
    (
        "picket-agent",
        &["picket-sense", "picket-wire", "picket-intel", "picket-abi"],
    ),
    (
        "picket-collector",
        &["picket-detect", "picket-wire", "picket-intel"],
    ),
    (
        "picket-tests",
        &[
            "picket-wire",
            "picket-intel",
            "picket-sense",
            "picket-detect",
        ],
    ),
    (
        "picket-bench",
        &[
            "picket-agent",
            "picket-detect",
            "picket-intel",
            "picket-sense",
            "picket-tests",
            "picket-wire",
        ],
    ),
    ("picket-training", &["picket-detect", "picket-wire"]),
    (
        "xtask",
        &[
            "picket-abi",
            "picket-wire",
            "picket-intel",
            "picket-sense",
            "picket-detect",
        ],
    ),
];

/// What a core may be built from besides ours. A crate is added here after a look at it: it turns
/// bytes into values, and neither opens anything nor asks for the time.
const CORE_NEEDS: &[&str] = &[
    "aho-corasick",
    "base64",
    "flate2",
    "foldhash",
    "hashbrown",
    "hickory-proto",
    "idna",
    "jiff",
    "md5",
    "minicbor",
    "psl",
    "quick-xml",
    "regex",
    "ring",
    "saphyr-parser",
    "serde",
    "serde_json",
    "thiserror",
    "toml",
    "zstd",
];

/// Crates whose work is IO. None may be under a core, whoever brings it.
const IO: &[&str] = &[
    "async-std",
    "axum",
    "aya",
    "h2",
    "hyper",
    "mio",
    "nix",
    "notify",
    "pnet",
    "reqwest",
    "rusqlite",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tracing-subscriber",
    "walkdir",
];

/// Checks the members of every workspace.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    Ok(repository.workspaces.iter().flat_map(findings).collect())
}

fn findings(packages: &Packages) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, package) in packages.members() {
        findings.extend(imports(package));
        if CORES.iter().any(|(core, _)| *core == package.name) {
            findings.extend(core_needs(package));
            findings.extend(io_under(packages, id, package));
        }
    }
    findings
}

fn is_ours(name: &str) -> bool {
    name.starts_with("picket-") || name == "xtask"
}

fn imports(package: &Package) -> Vec<Finding> {
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == package.name) else {
        return vec![Finding::fault(format!(
            "{} has no line in MAY_IMPORT",
            package.name
        ))];
    };
    let ours = package.declared.iter().filter(|name| is_ours(name));
    ours.filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| Finding::fault(format!("{} may not import {name}", package.name)))
        .collect()
}

fn core_needs(package: &Package) -> Vec<Finding> {
    let others = package.declared_normal.iter().filter(|name| !is_ours(name));
    others
        .filter(|name| !CORE_NEEDS.contains(&name.as_str()))
        .map(|name| {
            Finding::fault(format!(
                "core {} is built from {name}, which is not in CORE_NEEDS",
                package.name
            ))
        })
        .collect()
}

fn io_under(packages: &Packages, id: &str, package: &Package) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    for (needed, asked_by) in packages.closure(id) {
        let name = packages.by_id.get(needed).map_or(needed, |p| &p.name);
        if IO.contains(&name) {
            let by = packages.by_id.get(asked_by).map_or(asked_by, |p| &p.name);
            found.insert(Finding::fault(format!(
                "core {} rests on {name} (by {by}), which does IO",
                package.name
            )));
        }
    }
    found.into_iter().collect()
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
    fn who_may_import_whom() {
        check_rows(
            &[("picket-agent", "0", "", &["picket-sense", "tokio"])],
            &[],
        );
        check_rows(
            &[("picket-agent", "0", "", &["picket-detect"])],
            &["picket-agent may not import picket-detect"],
        );
        check_rows(
            &[("picket-collector", "0", "", &["picket-abi"])],
            &["picket-collector may not import picket-abi"],
        );
        check_rows(
            &[("picket-wire", "0", "", &["picket-intel"])],
            &["picket-wire may not import picket-intel"],
        );
        check_rows(
            &[("picket-new", "0", "", &[])],
            &["picket-new has no line in MAY_IMPORT"],
        );
    }

    #[test]
    fn cores_are_built_from_what_computes() {
        check_rows(&[("picket-intel", "0", "", &["thiserror"])], &[]);
        check_rows(
            &[("picket-intel", "0", "", &["memmap2"])],
            &["core picket-intel is built from memmap2, which is not in CORE_NEEDS"],
        );
    }

    #[test]
    fn no_io_far_below_a_core() {
        let serde: (&str, &str, &str, &[&str]) = ("serde", "1", "", &["tokio"]);
        let tokio: (&str, &str, &str, &[&str]) = ("tokio", "1", "", &[]);
        check_rows(
            &[("picket-wire", "0", "", &["serde"]), serde, tokio],
            &["core picket-wire rests on tokio (by serde), which does IO"],
        );
        check_rows(&[("picket-agent", "0", "", &["serde"]), serde, tokio], &[]);
    }
}
