//! A machine of its own: a Debian with its own kernel, booted by QEMU without help of the hardware. Its
//! systemd has the control groups to itself, so limits of units are enforced. What it writes to its disk
//! is gone with it.
//!
//! Its interfaces are the emulator's user network, which connects to what is in the namespace that the
//! emulator runs in. Lines of shell go over one of them, and the other carries only what the story is
//! about.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket_tests::lab::namespace::LabName;
use picket_tests::lab::topology::COLLECTOR;
use picket_tests::lab::{Namespace, Process, wait_until};
use tempfile::TempDir;

use crate::disk::{self, Disk, INTERFACES, SHELL_PORT};
use crate::machine::Booted;

/// How long a boot may take; it takes under a minute where nothing else runs.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// How long a line of shell may take: installing a package is the longest.
const LINE_LIMIT: Duration = Duration::from_secs(240);

/// Room for the system, both programs and 32 MiB of flow slots.
const MEMORY_MIB: u32 = 1536;

/// The machine. Dropping it ends the emulator.
pub(crate) struct Emulated {
    // In the order in which they go.
    emulator: Process,
    _folder: TempDir,
    world: Namespace,
}

impl Emulated {
    /// Boots a disk. The machine sees `shown`, folders and files, at the places where we do.
    pub(crate) fn boot(disk: &Disk, shown: &[&Path]) -> Result<Self> {
        drop(picket_tests::lab::namespace::sweep());
        let world = Namespace::create(&LabName::fresh(), "world")?;
        world.ip(&format!("address add {COLLECTOR}/32 dev lo"))?;
        let folder = tempfile::Builder::new()
            .prefix("pk-system-")
            .tempdir()
            .context("make a folder")?;
        let (second, places) = show(shown, folder.path())?;
        let mut emulator = world.command("qemu-system-x86_64");
        emulator
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY_MIB.to_string()])
            .args(["-nographic", "-no-reboot"])
            .arg("-kernel")
            .arg(&disk.kernel)
            .arg("-initrd")
            .arg(&disk.first)
            // Tables of firmware take an emulated machine minutes.
            .args([
                "-append",
                "root=/dev/vda rw console=ttyS0 quiet panic=-1 acpi=off no_timer_check \
                 rcupdate.rcu_cpu_stall_suppress=1 ipv6.disable_ipv6=1 systemd.show_status=no",
            ])
            .arg("-drive")
            .arg(format!(
                "file={},if=virtio,format=raw,snapshot=on",
                disk.image.display()
            ))
            .arg("-drive")
            .arg(format!(
                "file={},if=virtio,format=raw,snapshot=on",
                second.display()
            ));
        for interface in &INTERFACES {
            let (name, net) = (interface.name, interface.net);
            let forward = match name {
                "mgmt0" => format!(",hostfwd=tcp:127.0.0.1:{SHELL_PORT}-{net}.15:{SHELL_PORT}"),
                _ => String::new(),
            };
            emulator
                .arg("-netdev")
                .arg(format!("user,id={name},net={net}.0/24{forward}"))
                .arg("-device")
                .arg(format!(
                    "virtio-net-pci,netdev={name},mac={}",
                    interface.hardware
                ));
        }
        let mut machine = Self {
            emulator: Process::start("emulator", emulator, folder.path())?,
            _folder: folder,
            world,
        };
        machine.wait()?;
        machine.run("mkdir /shown && mount -o ro /dev/vdb /shown")?;
        for (number, place) in places.iter().enumerate() {
            let place = place.display();
            machine.run(&format!(
                "if [ -d /shown/{number} ]; then mkdir -p {place}; \
                 else mkdir -p \"$(dirname {place})\"; touch {place}; fi; \
                 mount --bind /shown/{number} {place}"
            ))?;
        }
        Ok(machine)
    }

    /// Waits until everything that boots has.
    fn wait(&mut self) -> Result<()> {
        let up = wait_until("systemd to boot", BOOT_LIMIT, || {
            if let Some(ended) = self.emulator.ended()? {
                anyhow::bail!("the emulator ended with {ended}");
            }
            // Until somebody listens, nobody answers.
            let state = self.run("systemctl is-system-running || true");
            match state.unwrap_or_default().trim() {
                "running" => Ok(Some(())),
                "degraded" => {
                    let failed = self.run("systemctl --failed --no-legend --plain")?;
                    anyhow::bail!("a unit of the system itself failed: {}", failed.trim())
                }
                _ => Ok(None),
            }
        });
        up.map_err(|error| error.context(self.emulator.tail(10)))
    }
}

impl Booted for Emulated {
    fn run(&self, line: &str) -> Result<String> {
        let said = self.world.run(|| ask(line))??;
        let (said, code) = said
            .rsplit_once("\nended with ")
            .with_context(|| format!("{line}: the machine broke off: {said}"))?;
        ensure!(code.trim() == "0", "{line}: {}: {said}", code.trim());
        Ok(said.to_owned())
    }

    fn bpftool(&self, kind: &str) -> Result<String> {
        self.run(&format!("bpftool --json {kind} show"))
    }

    fn world(&self) -> &Namespace {
        &self.world
    }

    fn enforces_limits(&self) -> bool {
        true
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // Nothing on its disk is kept.
        drop(self.emulator.kill());
    }
}

/// Sends a line and reads everything that is said to it.
fn ask(line: &str) -> Result<String> {
    let mut shell = TcpStream::connect(("127.0.0.1", SHELL_PORT)).context("reach the machine")?;
    shell.set_read_timeout(Some(LINE_LIMIT))?;
    shell.write_all(line.as_bytes())?;
    shell.shutdown(Shutdown::Write)?;
    let mut said = Vec::new();
    shell
        .read_to_end(&mut said)
        .with_context(|| format!("wait for {line}"))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Makes a second disk of what the machine is to see, numbered, and says where each belongs.
fn show(shown: &[&Path], folder: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let tree = folder.join("shown");
    fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
    let mut places = Vec::new();
    for (number, one) in shown.iter().enumerate() {
        let one = one
            .canonicalize()
            .with_context(|| format!("look at {}", one.display()))?;
        let copied = std::process::Command::new("cp")
            .args(["--archive", "--dereference"])
            .arg(&one)
            .arg(tree.join(number.to_string()))
            .status()
            .context("start cp")?;
        ensure!(copied.success(), "cp {}: {copied}", one.display());
        places.push(one);
    }
    let image = folder.join("shown.img");
    disk::pack(&tree, &image, "1G")?;
    fs::remove_dir_all(&tree).context("remove what was packed")?;
    Ok((image, places))
}
