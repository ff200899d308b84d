//! House rules: what ARCHITECTURE.md promises and the compiler does not check.
//!
//! Each rule is a file and a line in [`RULES`]. A rule reads the [`Repository`] and returns what it
//! found; a [`Finding::fault`] makes the run fail, a [`Finding::note`] is only said. It takes
//! seconds: nothing is compiled, `cargo metadata` runs once per workspace.

mod code;
mod layering;
mod length;
mod licences;
mod places;
mod promises;
mod purity;
mod repository;
mod stacks;
mod unsafety;

use std::path::Path;

use repository::Repository;

/// What one rule is called and how it looks.
type Rule = (
    &'static str,
    fn(&Repository) -> anyhow::Result<Vec<Finding>>,
);

/// Every rule, in the order in which they are said.
const RULES: &[Rule] = &[
    ("layering", layering::check),
    ("purity", purity::check),
    ("unsafety", unsafety::check),
    ("stacks", stacks::check),
    ("licences", licences::check),
    ("length", length::check),
    ("places", places::check),
    ("promises", promises::check),
];

/// The crates that compute and do nothing else, by package name and folder.
const CORES: &[(&str, &str)] = &[
    ("picket-wire", "wire"),
    ("picket-intel", "intel"),
    ("picket-sense", "agent/sense"),
    ("picket-detect", "collector/detect"),
];

/// One thing a rule has to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Whether the run fails for it.
    is_fault: bool,
    /// Where, and what is wrong with it.
    text: String,
}

impl Finding {
    /// A broken rule.
    fn fault(text: impl Into<String>) -> Self {
        Self {
            is_fault: true,
            text: text.into(),
        }
    }

    /// Worth a look.
    fn note(text: impl Into<String>) -> Self {
        Self {
            is_fault: false,
            text: text.into(),
        }
    }
}

/// Checks every rule on the repository at `root`; fails after all were checked if one is broken.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let repository = Repository::open(root)?;
    let mut broken = Vec::new();
    for (name, check) in RULES {
        let findings = check(&repository)?;
        for finding in &findings {
            let level = if finding.is_fault { "fault" } else { "note" };
            println!("{name}: {level}: {}", finding.text);
        }
        if findings.iter().any(|finding| finding.is_fault) {
            broken.push(*name);
        }
    }
    if !broken.is_empty() {
        anyhow::bail!("house rules broken: {}", broken.join(", "));
    }
    println!("house: {} rules hold", RULES.len());
    Ok(())
}
