//! Every package we build from states a licence that we may ship under, ours say theirs, and the
//! kernel side is dual.

use super::{
    Finding,
    repository::{Package, Packages, Repository},
};

/// Licences (SPDX) that ask for no more than notice, or for their own source alone (MPL-2.0).
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// What our packages say.
const OURS: &str = "Apache-2.0";

/// What those below `ebpf/` say: the kernel asks for GPL compatibility, users need not.
const OURS_EBPF: &str = "MIT OR GPL-2.0-only";

/// Texts that must lie in the repository.
const TEXTS: &[&str] = &["LICENSE", "ebpf/LICENSE-MIT", "ebpf/LICENSE-GPL-2.0"];

/// Checks the packages of every workspace and the licence texts.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for text in TEXTS {
        if !repository.root.join(text).exists() {
            findings.push(Finding::fault(format!("{text} is missing")));
        }
    }
    for packages in &repository.workspaces {
        findings.extend(of_packages(packages, |package| {
            package.folder.starts_with(repository.root.join("ebpf"))
        }));
    }
    Ok(findings)
}

fn of_packages(packages: &Packages, is_ebpf: impl Fn(&Package) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, package) in &packages.by_id {
        let label = format!("{} {}", package.name, package.version);
        let Some(license) = package.license.as_deref() else {
            findings.push(Finding::fault(format!("{label} states no licence")));
            continue;
        };
        // A member, or a package of ours that one names by its path.
        if packages.members.contains(id) || package.name.starts_with("picket-") {
            let wanted = if is_ebpf(package) { OURS_EBPF } else { OURS };
            if license != wanted {
                findings.push(Finding::fault(format!(
                    "{label} says {license}, not {wanted}"
                )));
            }
        } else if !Expression(license).is_allowed() {
            findings.push(Finding::fault(format!(
                "{label} is under {license}, which is not among those we may ship under"
            )));
        }
    }
    findings
}

/// An SPDX licence expression; `/` is the old way to write OR.
struct Expression<'a>(&'a str);

impl Expression<'_> {
    /// Whether some choice of the alternatives leaves only allowed licences. What does not parse
    /// is not allowed.
    fn is_allowed(&self) -> bool {
        let spaced = self
            .0
            .replace('/', " OR ")
            .replace('(', " ( ")
            .replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut reader = Reader {
            words: &words,
            at: 0,
        };
        reader.alternatives() == Some(true) && reader.at == words.len()
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        let found = self.words.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    /// `a OR b`; AND binds closer.
    fn alternatives(&mut self) -> Option<bool> {
        let mut allowed = self.together()?;
        while self.take("OR") {
            allowed |= self.together()?;
        }
        Some(allowed)
    }

    /// `a AND b`.
    fn together(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    /// A licence, perhaps with an exception, or an expression in brackets.
    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.alternatives()?;
            return self.take(")").then_some(allowed);
        }
        let name = *self.words.get(self.at)?;
        if ["AND", "OR", "WITH", ")"].contains(&name) {
            return None;
        }
        self.at += 1;
        if !self.take("WITH") {
            return Some(ALLOWED.contains(&name));
        }
        let exception = *self.words.get(self.at)?;
        self.at += 1;
        // An exception only ever gives more rights than the licence alone.
        Some(
            ALLOWED.contains(&name)
                || ALLOWED.contains(&format!("{name} WITH {exception}").as_str()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expression(text: &str, expected: bool) {
        assert_eq!(Expression(text).is_allowed(), expected, "{text}");
    }

    #[test]
    fn expressions_allowed() {
        check_expression("MIT", true);
        check_expression("MIT OR GPL-3.0-only", true);
        check_expression("GPL-3.0-only OR MIT AND ISC", true);
        check_expression("Apache-2.0/MIT", true);
        check_expression("(MIT OR GPL-2.0-only) AND Unicode-3.0", true);
        check_expression("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true);
    }

    #[test]
    fn expressions_refused() {
        check_expression("GPL-3.0-only", false);
        check_expression("MIT AND GPL-3.0-only", false);
        check_expression("(MIT OR ISC) AND AGPL-3.0-only", false);
        check_expression("MIT OR", false);
        check_expression("(MIT", false);
        check_expression("MIT ISC", false);
        check_expression("GPL-2.0-only WITH Classpath-exception-2.0", false);
        check_expression("", false);
    }

    #[test]
    fn ours_and_theirs() {
        let rows: &[(&str, &str, &str, &[&str])] = &[
            ("picket-a", "0.1.0", OURS, &[]),
            ("b", "1.0.0", "MIT", &[]),
            ("c", "2.0.0", "", &[]),
            ("d", "3.0.0", "SSPL-1.0", &[]),
        ];
        let texts: Vec<String> = of_packages(&Packages::of_rows(rows), |_| false)
            .into_iter()
            .map(|f| f.text)
            .collect();
        assert_eq!(
            texts,
            [
                "c 2.0.0 states no licence",
                "d 3.0.0 is under SSPL-1.0, which is not among those we may ship under"
            ]
        );
    }

    #[test]
    fn the_kernel_side_is_dual() {
        let packages = |license| Packages::of_rows(&[("picket-abi", "0.1.0", license, &[])]);
        assert_eq!(of_packages(&packages(OURS_EBPF), |_| true), []);
        assert_eq!(
            of_packages(&packages(OURS), |_| true),
            [Finding::fault(
                "picket-abi 0.1.0 says Apache-2.0, not MIT OR GPL-2.0-only"
            )]
        );
    }
}
