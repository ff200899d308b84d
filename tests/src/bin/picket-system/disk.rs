//! The disk of an emulated machine: the minimal Debian with a kernel of its own, as one file, made once
//! and kept. It is never written to: what a machine changes is gone with it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree;

/// The series that is booted. What it is made of besides is in [`PACKAGES`].
pub(crate) const KERNEL: &str = "6.12";

/// What it takes to boot it, and to ask it.
const PACKAGES: &str = "linux-image-6.12-cloud-amd64 initramfs-tools bpftool";

/// Its name in the cache; another when what it is made of changes.
const NAME: &str = "bookworm-disk-1";

/// Room for the system, the product and what it keeps.
const BYTES: &str = "3G";

/// Where the disk asks for a line of shell, on every address.
pub(crate) const SHELL_PORT: u16 = 4_000;

/// Hardware addresses of the interface that is watched and of the one for us, and what the machine
/// calls them. Addresses are those of the emulator's user network.
pub(crate) const INTERFACES: [Interface; 2] = [
    Interface {
        name: "host0",
        hardware: "52:54:00:70:6b:01",
        net: "10.0.2",
        gateway: true,
    },
    Interface {
        name: "mgmt0",
        hardware: "52:54:00:70:6b:02",
        net: "10.0.3",
        gateway: false,
    },
];

/// An interface of the machine.
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    pub(crate) hardware: &'static str,
    /// The first three numbers of its net; the machine is .15, the emulator .2.
    pub(crate) net: &'static str,
    gateway: bool,
}

/// What is booted.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) image: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) first: PathBuf,
}

/// The disk; made if it is not there.
pub(crate) fn get(cache: &Path) -> Result<Disk> {
    let folder = cache.join(NAME);
    if !folder.is_dir() {
        let base = tree::get(cache)?;
        // Under another name until it is whole.
        let part = cache.join(format!("{NAME}.part"));
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
        }
        fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
        println!("making a disk in {} (some minutes)", folder.display());
        make(&base, &part)?;
        fs::rename(&part, &folder).with_context(|| format!("name {}", folder.display()))?;
    }
    Ok(Disk {
        image: folder.join("disk.img"),
        kernel: folder.join("vmlinuz"),
        first: folder.join("initrd.img"),
    })
}

fn make(base: &Path, folder: &Path) -> Result<()> {
    let tree = folder.join("tree");
    done(Command::new("cp").arg("-a").arg(base).arg(&tree))?;
    let sources = fs::read_to_string(tree.join("etc/apt/sources.list"));
    let sources = sources.context("read where the tree is from")?;
    let mirror = sources.split_whitespace().nth(1);
    let mirror = mirror.context("the tree names no mirror")?;
    // The kernel is among the corrections.
    write(
        &tree,
        "etc/apt/sources.list.d/security.list",
        &format!("deb {mirror}-security bookworm-security main\n"),
    )?;
    // The network is ours while it is made.
    fs::copy("/etc/resolv.conf", tree.join("etc/resolv.conf")).context("copy resolv.conf")?;
    let install = format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && \
         apt-get -qq install -y --no-install-recommends {PACKAGES} && apt-get clean"
    );
    done(
        Command::new("chroot")
            .arg(&tree)
            .args(["/bin/sh", "-c", &install])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )?;
    fs::remove_file(tree.join("etc/resolv.conf")).context("remove resolv.conf")?;
    network(&tree)?;
    shell(&tree)?;
    for (begin, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd.img")] {
        let boot = tree.join("boot");
        let entries = fs::read_dir(&boot).with_context(|| format!("read {}", boot.display()))?;
        let found = entries
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(begin));
        let found = found.with_context(|| format!("no {begin} in {}", boot.display()))?;
        fs::rename(found.path(), folder.join(name)).with_context(|| format!("keep {name}"))?;
    }
    let image = folder.join("disk.img");
    pack(&tree, &image, BYTES)?;
    fs::remove_dir_all(&tree).context("remove the tree")
}

/// Makes a file system of a folder.
pub(crate) fn pack(tree: &Path, image: &Path, size: &str) -> Result<()> {
    done(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(tree)
            .arg(image)
            .arg(size)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )
}

/// Names and addresses of the interfaces; without names of neighbours, so that nobody talks unasked.
fn network(tree: &Path) -> Result<()> {
    for interface in INTERFACES {
        let Interface {
            name,
            hardware,
            net,
            gateway,
        } = interface;
        let folder = "etc/systemd/network";
        write(
            tree,
            &format!("{folder}/10-{name}.link"),
            &format!("[Match]\nMACAddress={hardware}\n\n[Link]\nName={name}\n"),
        )?;
        let route = match gateway {
            true => format!("Gateway={net}.2\n"),
            false => String::new(),
        };
        write(
            tree,
            &format!("{folder}/20-{name}.network"),
            &format!(
                "[Match]\nName={name}\n\n[Network]\nAddress={net}.15/24\n{route}\
                 LinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n"
            ),
        )?;
    }
    let wants = tree.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("make {}", wants.display()))?;
    symlink(
        "/lib/systemd/system/systemd-networkd.service",
        wants.join("systemd-networkd.service"),
    )
    .context("enable systemd-networkd")
}

/// What reads a line of shell from a connection, runs it, and says how it ended.
fn shell(tree: &Path) -> Result<()> {
    const SCRIPT: &str = "#!/bin/sh\n\
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
        line=$(cat)\n\
        said=$(mktemp -p /run)\n\
        sh -c \"$line\" </dev/null 2>\"$said\"\n\
        code=$?\n\
        [ \"$code\" -eq 0 ] || cat \"$said\"\n\
        rm -f \"$said\"\n\
        printf '\\nended with %s\\n' \"$code\"\n";
    write(tree, "usr/local/sbin/pk-run", SCRIPT)?;
    done(
        Command::new("chmod")
            .arg("0755")
            .arg(tree.join("usr/local/sbin/pk-run")),
    )?;
    let units = "etc/systemd/system";
    write(
        tree,
        &format!("{units}/pk-run.socket"),
        &format!("[Socket]\nListenStream=0.0.0.0:{SHELL_PORT}\nAccept=yes\nMaxConnections=64\n"),
    )?;
    write(
        tree,
        &format!("{units}/pk-run@.service"),
        "[Unit]\nCollectMode=inactive-or-failed\n\n[Service]\nExecStart=/usr/local/sbin/pk-run\n\
         StandardInput=socket\nStandardOutput=socket\nStandardError=journal\n",
    )?;
    let wants = tree.join(units).join("sockets.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("make {}", wants.display()))?;
    symlink("../pk-run.socket", wants.join("pk-run.socket")).context("enable the shell")
}

fn write(tree: &Path, at: &str, text: &str) -> Result<()> {
    let file = tree.join(at);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

fn done(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}: {}",
        command.get_program().display(),
        output.status,
        said.trim()
    );
    Ok(())
}
