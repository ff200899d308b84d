//! Unsafe code stays where kernel memory is touched, and crates that have none forbid it.

use std::path::Path;

use anyhow::Context;

use super::{CORES, Finding, code::Code, repository::Repository};

/// The only folders in which the word may stand: the kernel side, what reads its memory, and the
/// tests of both, which make namespaces of their own.
const ALLOWED: &[&str] = &["ebpf", "agent/src/capture", "agent/tests/kernel"];

/// Crate roots that must forbid unsafe code, besides those of the cores.
const FORBIDDING: &[&str] = &["collector/src/lib.rs", "collector/src/main.rs"];

/// Checks every source, tests included.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (file, text) in repository.sources()? {
        let code = Code::with_tests(&text).with_context(|| format!("read {}", file.display()))?;
        findings.extend(findings_in(file, &code));
    }
    Ok(findings)
}

fn findings_in(file: &Path, code: &Code) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !ALLOWED.iter().any(|folder| file.starts_with(folder)) {
        for line in code.lines_with_word("unsafe") {
            findings.push(Finding::fault(format!(
                "{}:{line}: unsafe outside {}",
                file.display(),
                ALLOWED.join(", ")
            )));
        }
    }
    let crate_roots = CORES
        .iter()
        .map(|(_, folder)| Path::new(folder).join("src/lib.rs"));
    let mut forbidding =
        crate_roots.chain(FORBIDDING.iter().map(|file| Path::new(file).to_path_buf()));
    if forbidding.any(|root| root == file) && !code.forbids_unsafe() {
        findings.push(Finding::fault(format!(
            "{}: #![forbid(unsafe_code)] is missing",
            file.display()
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_file(file: &str, text: &str, expected: &[&str]) {
        let code = Code::with_tests(text).unwrap();
        let texts: Vec<String> = findings_in(Path::new(file), &code)
            .into_iter()
            .map(|f| f.text)
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn unsafe_has_its_places() {
        let text = "fn f() { unsafe { g() } }";
        check_file("agent/src/capture/ebpf.rs", text, &[]);
        check_file("ebpf/programs/src/main.rs", text, &[]);
        check_file("agent/tests/kernel/mod.rs", text, &[]);
        check_file(
            "agent/src/privilege.rs",
            text,
            &[
                "agent/src/privilege.rs:1: unsafe outside ebpf, agent/src/capture, agent/tests/kernel",
            ],
        );
        check_file(
            "agent/src/captured.rs",
            "// unsafe\nfn f() { \"unsafe\"; }",
            &[],
        );
    }

    #[test]
    fn cores_and_collector_forbid_it() {
        check_file("wire/src/lib.rs", "//! Doc.\n#![forbid(unsafe_code)]", &[]);
        check_file(
            "wire/src/lib.rs",
            "mod a;",
            &["wire/src/lib.rs: #![forbid(unsafe_code)] is missing"],
        );
        check_file(
            "collector/src/main.rs",
            "fn main() {}",
            &["collector/src/main.rs: #![forbid(unsafe_code)] is missing"],
        );
        check_file("wire/src/id.rs", "mod a;", &[]);
        check_file("agent/src/main.rs", "fn main() {}", &[]);
    }
}
