//! The system that is booted: a minimal Debian, made once by `debootstrap` and kept. It is never written
//! to: what a machine changes stays in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What it is made of, besides what is essential.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,iproute2,kmod,procps,ca-certificates";

/// Its name in the cache; another when what it is made of changes.
const NAME: &str = "bookworm-1";

/// The folder of the system; made if it is not there.
pub(crate) fn get(cache: &Path) -> Result<PathBuf> {
    let tree = cache.join(NAME);
    if tree.is_dir() {
        return Ok(tree);
    }
    fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    // Under another name until it is whole.
    let part = cache.join(format!("{NAME}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    println!(
        "making a minimal Debian in {} (some minutes)",
        tree.display()
    );
    let made = Command::new("debootstrap")
        .args([
            "--variant=minbase",
            &format!("--include={PACKAGES}"),
            "bookworm",
        ])
        .arg(&part)
        // Its own choice, unless another is named.
        .args(std::env::var_os("PICKET_DEBIAN_MIRROR"))
        .output()
        .context("start debootstrap")?;
    let said = String::from_utf8_lossy(&made.stdout);
    ensure!(
        made.status.success(),
        "debootstrap: {}: {}",
        made.status,
        said.lines().last().unwrap_or_default()
    );
    fs::rename(&part, &tree).with_context(|| format!("name {}", tree.display()))?;
    Ok(tree)
}
