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

    /// What of the unit's parts is in force after an installation on this and then on that system, each a
    /// number of systemd and the kernel's last capability.
    fn fitted(systems: &[(&str, &str)]) -> Vec<String> {
        let life = life(&packaging(), "agent").unwrap();
        let parts = packaging().join("systemd");
        let parts = parts.display();
        let mut script =
            format!("set -e\n{life}\nparts={parts}\nmade=$(mktemp -d)\nfitted=$made/unit.d\n");
        for (systemd, last) in systems {
            script.push_str(&format!("fit_unit '{systemd}' '{last}'\n"));
        }
        script.push_str("ls \"$made\" | grep -v unit.d || true\nls \"$fitted\" 2>/dev/null || true\nrm -r \"$made\"\n");
        let told = super::super::output(Command::new("sh").args(["-c", &script])).unwrap();
        told.lines().map(str::to_owned).collect()
    }

    #[test]
    fn old_systems_get_the_parts_they_need_and_lose_them_again() {
        const KERNEL: &str = "10-old-kernel.conf";
        const SYSTEMD: &str = "10-old-systemd.conf";
        let check = |systems: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(fitted(systems), expected, "{systems:?}");
        };
        check(&[("252", "40")], &[]);
        check(&[("219", "36")], &[KERNEL, SYSTEMD]);
        check(&[("219", "40")], &[SYSTEMD]);
        check(&[("238", "39")], &[SYSTEMD]);
        check(&[("239", "39")], &[]);
        check(&[("245", "37")], &[KERNEL]);
        check(&[("219", "36"), ("252", "40")], &[]);
        // Nobody to ask, as where an image is built.
        check(&[("", "")], &[]);
        check(&[("219", "")], &[SYSTEMD]);
        check(&[("219", "36"), ("", "")], &[KERNEL, SYSTEMD]);
    }

    #[test]
    fn the_service_manager_here_has_a_number() {
        if Command::new("systemctl").arg("--version").output().is_err() {
            println!("skipped: no systemctl here");
            return;
        }
        let life = life(&packaging(), "agent").unwrap();
        let script = format!("{life}\nsystemd_number; last_capability");
        let told = super::super::output(Command::new("sh").args(["-c", &script])).unwrap();
        let numbers: Vec<u32> = told.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.len() == 2 && numbers[1] >= 36, "{told}");
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
