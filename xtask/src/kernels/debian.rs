//! Debian's archive for one suite and one architecture, asked by apt with lists of our own: what
//! this machine has configured and installed does not matter, and nothing of it is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How old lists may be: kernels come every few weeks.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// The keys that a suite must be signed with, of the package debian-archive-keyring.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suite without corrections of its own: it is never released.
const UNSTABLE: &str = "sid";

/// The archive.
#[derive(Debug)]
pub(super) struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// Its lists, at most a day old where it can be reached, else those that are there.
    pub(super) fn open(suite: &str, architecture: &str, cache: &Path) -> anyhow::Result<Self> {
        let folder = cache.join("apt").join(format!("{suite}-{architecture}"));
        for below in ["state/lists/partial", "cache/archives/partial"] {
            let below = folder.join(below);
            fs::create_dir_all(&below).with_context(|| format!("make {}", below.display()))?;
        }
        let mirror = mirror()?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))
        };
        write("sources.list", &sources(suite, architecture, &mirror))?;
        write("apt.conf", &configuration(&folder, architecture))?;
        // Of packages installed: none.
        write("status", "")?;
        let debian = Self { folder };
        let stamp = debian.folder.join("updated");
        let age = fs::metadata(&stamp).and_then(|data| data.modified());
        let is_fresh = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < FRESH));
        if !is_fresh {
            match done(debian.command("apt-get").args(["-qq", "update"])) {
                Ok(_) => fs::write(&stamp, "").context("note the update")?,
                Err(error) => println!("lists of {suite} are not refreshed: {error:#}"),
            }
        }
        Ok(debian)
    }

    /// A command of apt's that asks this archive.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }

    /// Downloads packages with everything that they depend on, unpacks all into a folder, and keeps
    /// no package.
    pub(super) fn unpack(&self, packages: &[&str], tree: &Path) -> anyhow::Result<()> {
        let got = self.folder.join("cache/archives");
        done(
            self.command("apt-get")
                .args(["-qq", "-y", "--download-only", "install"])
                .args(packages),
        )?;
        let entries = fs::read_dir(&got).with_context(|| format!("read {}", got.display()))?;
        let files = entries.flatten().map(|entry| entry.path());
        let mut unpacked = 0;
        for file in files.filter(|file| file.extension().is_some_and(|one| one == "deb")) {
            done(Command::new("dpkg-deb").arg("-x").arg(&file).arg(tree))?;
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
            unpacked += 1;
        }
        ensure!(
            unpacked >= packages.len(),
            "{unpacked} packages were got for {}",
            packages.join(", ")
        );
        Ok(())
    }
}

/// Where packages come from: the place that `PICKET_DEBIAN_MIRROR` names, else that of this machine's
/// own. Corrections of a stable suite come from the same with `-security` behind it.
fn mirror() -> anyhow::Result<String> {
    if let Ok(mirror) = std::env::var("PICKET_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let words = ["indextargets", "--format", "$(SITE)"];
    let which = ["Created-By: Packages", "Label: Debian"];
    let sites = done(Command::new("apt-get").args(words).args(which))?;
    let site = sites.lines().next().map(|site| site.trim_end_matches('/'));
    site.map(str::to_owned)
        .context("apt is configured with no archive of Debian's; PICKET_DEBIAN_MIRROR may name one")
}

fn sources(suite: &str, architecture: &str, mirror: &str) -> String {
    let mut text = format!("deb [signed-by={KEYS} arch={architecture}] {mirror} {suite} main\n");
    if suite != UNSTABLE {
        let security = format!("{mirror}-security {suite}-security main\n");
        text.push_str(&format!(
            "deb [signed-by={KEYS} arch={architecture}] {security}"
        ));
    }
    text
}

fn configuration(folder: &Path, architecture: &str) -> String {
    let folder = folder.display();
    format!(
        "APT::Architecture \"{architecture}\";\n\
         APT::Architectures {{ \"{architecture}\"; }};\n\
         APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         Dir::Etc::SourceList \"{folder}/sources.list\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Dir::State \"{folder}/state\";\n\
         Dir::State::Status \"{folder}/status\";\n"
    )
}

/// Runs a command to its good end; what it wrote.
pub(super) fn done(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", command.get_program().display(), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_suite_has_its_corrections_too() {
        let text = sources("bookworm", "arm64", "http://mirror/debian");
        let ends: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("] ").map(|(_, end)| end))
            .collect();
        assert_eq!(
            ends,
            [
                "http://mirror/debian bookworm main",
                "http://mirror/debian-security bookworm-security main"
            ]
        );
        assert!(text.lines().all(|line| line.contains("arch=arm64")));
        assert_eq!(sources("sid", "amd64", "m").lines().count(), 1);
    }
}
