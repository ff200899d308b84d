//! Maintainer scripts: the life of a package is written once, in `packaging/lifecycle/`, and told by each
//! packaging system in its own words.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// A script's name and how its caller's words lead to a step of the life.
type Step = (&'static str, &'static str);

/// What dpkg calls, with what words (Debian policy, chapter 6). An upgrade stops nothing: the new
/// package's postinst restarts.
const DEB: &[Step] = &[
    (
        "postinst",
        "case \"$1\" in\nconfigure) if [ -z \"${2:-}\" ]; then installed; else upgraded; fi ;;\nesac\n",
    ),
    (
        "prerm",
        "case \"$1\" in\nremove | deconfigure) leaving ;;\nesac\n",
    ),
    (
        "postrm",
        "case \"$1\" in\nremove) left ;;\npurge)\n    left\n    purged\n    ;;\nesac\n",
    ),
];

/// What RPM calls, with how many of the package will be there afterwards.
const RPM: &[Step] = &[
    (
        "post",
        "if [ \"$1\" -eq 1 ]; then installed; else upgraded; fi\n",
    ),
    ("preun", "if [ \"$1\" -eq 0 ]; then leaving; fi\n"),
    (
        "postun",
        "if [ \"$1\" -eq 0 ]; then\n    left\n    erased\nfi\n",
    ),
];

/// Scripts of one package by name.
pub(super) type Scripts = Vec<(&'static str, String)>;

/// Those for dpkg, whole.
pub(super) fn deb(packaging: &Path, short: &str) -> anyhow::Result<Scripts> {
    let life = life(packaging, short)?;
    let whole = |step: &str| format!("#!/bin/sh\nset -e\n\n{life}\n{step}");
    Ok(DEB
        .iter()
        .map(|(name, step)| (*name, whole(step)))
        .collect())
}

/// Those for RPM, which names the shell itself.
pub(super) fn rpm(packaging: &Path, short: &str) -> anyhow::Result<Scripts> {
    let life = life(packaging, short)?;
    let whole = |step: &str| format!("set -e\n\n{life}\n{step}");
    Ok(RPM
        .iter()
        .map(|(name, step)| (*name, whole(step)))
        .collect())
}

fn life(packaging: &Path, short: &str) -> anyhow::Result<String> {
    let read = |name: &str| {
        let path = packaging.join("lifecycle").join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    Ok(format!(
        "{}\n{}",
        read("common.sh")?,
        read(&format!("{short}.sh"))?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn packaging() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
    }

    /// Runs a script with every step of the life replaced by its name, and says which were reached.
    fn reached(script: &str, words: &[&str]) -> String {
        let steps = [
            "installed",
            "upgraded",
            "leaving",
            "left",
            "purged",
            "erased",
        ];
        // What a script says comes after the life, so these count.
        let named: String = steps
            .iter()
            .map(|step| format!("{step}() {{ printf '%s ' {step}; }}\n"))
            .collect();
        let (life, step) = script.rsplit_once("\n\n").unwrap();
        let script = format!("{life}\n{named}\n{step}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "script"]).args(words);
        super::super::output(&mut shell).unwrap().trim().to_owned()
    }

    #[test]
    fn both_systems_words_lead_to_the_same_life() {
        let check = |scripts: &Scripts, name: &str, words: &[&str], expected: &str| {
            let script = &scripts.iter().find(|(one, _)| *one == name).unwrap().1;
            // The last blank line parts the life from the step.
            let script = script.replace("}\n\ncase", "}\n\n\ncase");
            assert_eq!(reached(&script, words), expected, "{name} {words:?}");
        };
        for short in ["agent", "collector"] {
            let deb = deb(&packaging(), short).unwrap();
            check(&deb, "postinst", &["configure", ""], "installed");
            check(&deb, "postinst", &["configure", "0.1.0-1"], "upgraded");
            check(&deb, "postinst", &["abort-upgrade", "0.1.0-1"], "");
            check(&deb, "prerm", &["upgrade", "0.1.0-2"], "");
            check(&deb, "prerm", &["remove"], "leaving");
            check(&deb, "postrm", &["upgrade", "0.1.0-2"], "");
            check(&deb, "postrm", &["remove"], "left");
            check(&deb, "postrm", &["purge"], "left purged");
            let rpm = rpm(&packaging(), short).unwrap();
            check(&rpm, "post", &["1"], "installed");
            check(&rpm, "post", &["2"], "upgraded");
            check(&rpm, "preun", &["1"], "");
            check(&rpm, "preun", &["0"], "leaving");
            check(&rpm, "postun", &["1"], "");
            check(&rpm, "postun", &["0"], "left erased");
        }
    }
}
