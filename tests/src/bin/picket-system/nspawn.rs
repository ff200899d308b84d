//! A machine that shares our kernel: systemd booted by `systemd-nspawn` in a network namespace of the
//! lab, with a BPF file system of its own. What it writes to its disk is gone with it. Limits of its
//! units are accepted and not enforced where the host gives it no control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket_tests::lab::namespace::LabName;
use picket_tests::lab::topology::COLLECTOR;
use picket_tests::lab::{Namespace, Process, wait_until};

use crate::machine::{Booted, INTERFACE};

/// How long a boot may take; it takes a second where nothing else runs.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Its address.
const ADDRESS: &str = "10.78.0.2";

/// Folder in which machines have theirs, by the process that booted them.
const RUN: &str = "/run";
const PREFIX: &str = "pk-system-";

/// A machine that runs. Dropping it ends it and takes away what was made for it.
pub(crate) struct Contained {
    leader: String,
    // In the order in which they go.
    nspawn: Process,
    _bpf: BpfMount,
    _folder: Folder,
    /// Where the machine's network is.
    _instance: Namespace,
    /// The other end of its wire.
    world: Namespace,
}

impl Contained {
    /// Boots what is in `tree`. The machine sees `shown` at the places where we do.
    pub(crate) fn boot(tree: &Path, shown: &[&Path]) -> Result<Self> {
        sweep();
        let lab = LabName::fresh();
        let instance = Namespace::create(&lab, "instance")?;
        let world = Namespace::create(&lab, "world")?;
        wire(&instance, &world)?;
        let folder = Folder::make()?;
        let bpf = BpfMount::mount(folder.0.join("bpf"))?;
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn
            .args([
                "--quiet",
                "--boot",
                "--volatile=overlay",
                "--register=no",
                "--keep-unit",
            ])
            .args([
                "--console=pipe",
                "--capability=all",
                "--resolv-conf=off",
                "--link-journal=no",
            ])
            // What the unit takes, an nspawn has to be told too.
            .arg("--system-call-filter=bpf perf_event_open pidfd_getfd")
            .arg(format!("--machine={PREFIX}{}", std::process::id()))
            .arg(format!("--directory={}", tree.display()))
            .arg(format!(
                "--network-namespace-path={}",
                instance.path().display()
            ))
            .arg(format!("--bind={}:/sys/fs/bpf", bpf.0.display()));
        for one in shown {
            let one = one
                .canonicalize()
                .with_context(|| format!("look at {}", one.display()))?;
            nspawn.arg(format!("--bind-ro={}", one.display()));
        }
        nspawn.stdin(Stdio::null());
        let nspawn = Process::start("nspawn", nspawn, &folder.0)?;
        let mut machine = Self {
            leader: String::new(),
            nspawn,
            _bpf: bpf,
            _folder: folder,
            _instance: instance,
            world,
        };
        machine.wait()?;
        Ok(machine)
    }

    /// Waits until everything that boots has.
    fn wait(&mut self) -> Result<()> {
        let Self { leader, nspawn, .. } = self;
        let up = wait_until("systemd to boot", BOOT_LIMIT, || {
            if let Some(ended) = nspawn.ended()? {
                anyhow::bail!("systemd-nspawn ended with {ended}: {}", nspawn.tail(10));
            }
            let children = Command::new("pgrep")
                .args(["-x", "systemd", "-P", &nspawn.id().to_string()])
                .output()
                .context("start pgrep")?;
            let id = String::from_utf8_lossy(&children.stdout).trim().to_owned();
            if id.is_empty() {
                return Ok(None);
            }
            leader.clone_from(&id);
            let state = enter(&id, "systemctl is-system-running 2>&1").output();
            let state = state.context("start nsenter")?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            match state.as_str() {
                "running" => Ok(Some(())),
                "degraded" => anyhow::bail!("a unit of the system itself failed"),
                _ => Ok(None),
            }
        });
        up.map_err(|error| error.context(self.nspawn.tail(10)))
    }
}

impl Booted for Contained {
    fn run(&self, line: &str) -> Result<String> {
        let ran = enter(&self.leader, line)
            .output()
            .context("start nsenter")?;
        ensure!(
            ran.status.success(),
            "{line}: {}: {}{}",
            ran.status,
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr).trim()
        );
        String::from_utf8(ran.stdout).with_context(|| line.to_owned())
    }

    fn bpftool(&self, kind: &str) -> Result<String> {
        let listed = Command::new("bpftool")
            .args(["--json", kind, "show"])
            .output()
            .context("start bpftool (Debian package bpftool)")?;
        ensure!(listed.status.success(), "bpftool: {}", listed.status);
        String::from_utf8(listed.stdout).context("what bpftool lists")
    }

    fn world(&self) -> &Namespace {
        &self.world
    }

    fn enforces_limits(&self) -> bool {
        false
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        // Asks systemd to power off; what does not end in time is killed with the process.
        drop(self.nspawn.stop());
    }
}

fn enter(leader: &str, line: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", leader, "--all", "sh", "-c", line]);
    // Ours mean nothing there.
    command.env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// A wire between the two, without offloads, so that each packet counts as one, and without IPv6, whose
/// neighbours talk when nobody asked.
fn wire(instance: &Namespace, world: &Namespace) -> Result<()> {
    for end in [instance, world] {
        end.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
        end.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    }
    let peer = format!("peer name world0 netns {}", world.name());
    instance.ip(&format!("link add {INTERFACE} type veth {peer}"))?;
    instance.ip(&format!("address add {ADDRESS}/24 dev {INTERFACE}"))?;
    world.ip(&format!("address add {COLLECTOR}/24 dev world0"))?;
    for (end, interface) in [(instance, INTERFACE), (world, "world0")] {
        let offloads = ["tso", "off", "gso", "off", "gro", "off"];
        let set = end
            .command("ethtool")
            .args(["-K", interface])
            .args(offloads)
            .output()
            .context("start ethtool")?;
        ensure!(
            set.status.success(),
            "ethtool on {interface}: {}",
            set.status
        );
        end.ip(&format!("link set {interface} up"))?;
    }
    instance.ip(&format!("route add default via {COLLECTOR}"))
}

/// A folder under /run, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = Path::new(RUN).join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A BPF file system, taken away on drop with what is pinned in it.
struct BpfMount(PathBuf);

impl BpfMount {
    fn mount(at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at).with_context(|| format!("make {}", at.display()))?;
        let mounted = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(&at)
            .status()
            .context("start mount")?;
        ensure!(
            mounted.success(),
            "mount bpf at {}: {mounted}",
            at.display()
        );
        Ok(Self(at))
    }
}

impl Drop for BpfMount {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn unmount(at: &Path) {
    drop(Command::new("umount").arg(at).status());
}

/// Takes away what a run left whose process is gone.
fn sweep() {
    drop(picket_tests::lab::namespace::sweep());
    for entry in fs::read_dir(RUN).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if !Path::new("/proc").join(id).exists() {
            unmount(&entry.path().join("bpf"));
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
