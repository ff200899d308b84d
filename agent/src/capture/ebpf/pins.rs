//! Pins: what of ours stays in the kernel when the process ends, and where the next one finds it.
//!
//! ```text
//! <root>/v<layout>/            locked by the process whose pins these are
//!   links/<index>-<hook>       tcx links, taken over by the next process, which replaces the program
//!   <number>/<MAP>             maps of one process: counters, flows and rings, read to the end by the next
//!   <number>/hook-<name>       hooks of control groups, let go once the next process has its own
//! ```
//!
//! Programs go on counting, matching and telling into these maps while nobody reads them. A number is
//! higher than that of every process before; more than one is there when a process was killed before
//! what it had read of its predecessor was kept. Another layout's maps cannot be read, but its links
//! can be taken over.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::pin::PinError;
use aya::programs::ProgramError;
use aya::programs::links::{FdLink, PinnedLink};
use picket_abi::LAYOUT;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

use super::Check;

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS: i128 = 0xcafe_4a11;

/// Where bpffs belongs (Documentation/admin-guide/sysctl, systemd mounts it there).
const BPF_FS_PLACE: &str = "/sys/fs/bpf";

/// Maps that the next process reads, and the table of stages, which the kernel empties when no
/// process and no pin holds it.
pub(super) const MAPS: [&str; 11] = [
    "SLOTS",
    "COUNTERS",
    "TUNNELS",
    "EVICTED",
    "HITS",
    "NOTICES",
    "BLOCKED",
    "COPIES",
    "ASKED",
    "PROCESSES",
    STAGES,
];

const STAGES: &str = "STAGES";

const LINKS: &str = "links";

/// The pins of this process.
#[derive(Debug)]
pub(super) struct Pins {
    /// Of this layout.
    folder: PathBuf,
    number: u32,
    before: Vec<u32>,
    _lock: Lock,
}

impl Pins {
    /// Takes possession of the pins below `root`, on a file system of type bpf.
    ///
    /// # Errors
    /// There is no such file system, another process has them, or the folder cannot be written.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        mount_if_missing(root)?;
        let folder = root.join(format!("v{LAYOUT}"));
        fs::create_dir_all(folder.join(LINKS))?;
        let lock = lock(&folder)?;
        take_links_of_others(root, &folder);
        let before = numbers(&folder)?;
        let number = before.last().map_or(0, |last| last.saturating_add(1));
        Ok(Self {
            folder,
            number,
            before,
            _lock: lock,
        })
    }

    /// Where the pins are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The number of this process.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Numbers of processes whose maps are still there, oldest first.
    pub(super) fn before(&self) -> &[u32] {
        &self.before
    }

    /// Pins the maps that outlive us; gives the place of the slots.
    ///
    /// # Errors
    /// The kernel refuses; nothing of ours stays pinned.
    pub(super) fn keep_maps(&self, ebpf: &Ebpf) -> io::Result<PathBuf> {
        fs::create_dir(self.own())?;
        for name in MAPS {
            let Some(map) = ebpf.map(name) else { continue };
            if let Err(error) = map.pin(self.own().join(name)) {
                self.forget(self.number);
                return Err(io::Error::other(error));
            }
        }
        Ok(self.map_of(self.number, "SLOTS"))
    }

    fn own(&self) -> PathBuf {
        self.folder.join(self.number.to_string())
    }

    /// Where a map of an earlier process is pinned.
    pub(super) fn map_of(&self, number: u32, name: &str) -> PathBuf {
        self.folder.join(number.to_string()).join(name)
    }

    /// Removes what an earlier process left; its programs go when nothing else holds them.
    pub(super) fn forget(&self, number: u32) {
        remove_folder(&self.folder.join(number.to_string()));
    }

    /// Pins the link of a hook that is on no interface, for as long as our maps.
    ///
    /// # Errors
    /// It is not one that can be pinned (control groups have those since Linux 5.7, older than
    /// what our programs take), or the kernel refuses. It is let go then.
    pub(super) fn keep_hook<L>(&self, name: &str, link: L) -> Result<PinnedLink, ProgramError>
    where
        FdLink: TryFrom<L>,
    {
        let link = FdLink::try_from(link).map_err(|_| ProgramError::NotAttached)?;
        pin(link, &self.own().join(format!("hook-{name}")))
    }

    /// Lets go of the hooks of earlier processes, as ours are there, and of their stages, which hold
    /// the tables of names.
    pub(super) fn drop_hooks_before(&self) {
        for number in &self.before {
            for entry in entries(&self.folder.join(number.to_string())) {
                let name = entry.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with("hook-") || name == STAGES {
                    remove(&entry);
                }
            }
        }
    }

    /// Where the link of a hook on an interface is pinned.
    pub(super) fn link(&self, interface: u32, hook: &str) -> PathBuf {
        self.folder.join(LINKS).join(format!("{interface}-{hook}"))
    }

    /// Removes links that are none of `held`, which are named like them: of interfaces that are watched
    /// no more, or of another network namespace.
    pub(super) fn drop_links_but(&self, held: &[(u32, &'static str)]) {
        let held: Vec<PathBuf> = held
            .iter()
            .map(|(index, hook)| self.link(*index, hook))
            .collect();
        for entry in entries(&self.folder.join(LINKS)) {
            if !held.contains(&entry) {
                remove(&entry);
            }
        }
    }
}

/// Pins a link.
///
/// # Errors
/// The kernel refuses. It is let go then.
pub(super) fn pin(link: FdLink, place: &Path) -> Result<PinnedLink, ProgramError> {
    link.pin(place).map_err(|error| match error {
        PinError::SyscallError(error) => ProgramError::SyscallError(error),
        _ => ProgramError::NotAttached,
    })
}

/// Removes every pin below `root`, of all layouts, and with them our programs on tcx and at control
/// groups.
///
/// # Errors
/// A process uses them, or they cannot be removed.
pub(super) fn remove_all(root: &Path) -> io::Result<()> {
    for folder in layouts(root) {
        let _lock = lock(&folder)?;
        remove_layout(&folder);
        fs::remove_dir(&folder)?;
    }
    match fs::remove_dir(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Says whether there is a place for pins, so that a restart has no gap. Changes nothing.
#[must_use]
pub fn examine_pins(root: &Path) -> Check {
    let place = root.display();
    let (ok, why) = match is_bpf_fs(root) {
        _ if root.as_os_str().is_empty() => {
            (true, "capture.pins is empty: it has a gap".to_owned())
        }
        Ok(true) => (true, format!("has no gap: programs stay pinned in {place}")),
        Ok(false) if root.starts_with(BPF_FS_PLACE) => {
            let remedy = format!("mount -t bpf bpf {BPF_FS_PLACE}");
            (
                false,
                format!(
                    "no bpffs at {BPF_FS_PLACE}: `run` mounts it if it may, as does `{remedy}`"
                ),
            )
        }
        Ok(false) => (false, format!("has a gap: {place} is not on bpffs")),
        Err(error) => (false, format!("has a gap: {place}: {error}")),
    };
    Check {
        name: "restart",
        ok,
        why,
    }
}

/// Whether the nearest folder that is there is on bpffs.
fn is_bpf_fs(root: &Path) -> io::Result<bool> {
    let there = root.ancestors().find(|folder| folder.exists());
    let there = there.ok_or(io::ErrorKind::NotFound)?;
    Ok(i128::from(statfs(there)?.f_type) == BPF_FS)
}

/// Mounts bpffs where it belongs if nobody did, as the usual tools do.
fn mount_if_missing(root: &Path) -> io::Result<()> {
    if is_bpf_fs(root)? {
        return Ok(());
    }
    if root.starts_with(BPF_FS_PLACE) && Path::new(BPF_FS_PLACE).exists() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("bpf", BPF_FS_PLACE, "bpf", flags, Some(c"mode=700"))?;
        return Ok(());
    }
    let why = format!("{} is not on a file system of type bpf", root.display());
    Err(io::Error::other(why))
}

/// A folder that is ours until this is dropped: at once, even where a process that is being started
/// still has a copy of the descriptor.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "pins not unlocked before the process ends");
        }
    }
}

fn lock(folder: &Path) -> io::Result<Lock> {
    let file = File::open(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => {
            let why = format!("another agent has the pins in {}", folder.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Moves the links of other layouts to ours, and removes the rest of them, which cannot be read.
fn take_links_of_others(root: &Path, ours: &Path) {
    for folder in layouts(root).into_iter().filter(|folder| folder != ours) {
        let Ok(_lock) = lock(&folder) else { continue };
        for link in entries(&folder.join(LINKS)) {
            if let Some(name) = link.file_name() {
                // If that fails it is removed below.
                drop(fs::rename(&link, ours.join(LINKS).join(name)));
            }
        }
        remove_layout(&folder);
        drop(fs::remove_dir(&folder));
        tracing::warn!(folder = %folder.display(), "pins of another layout: counters not read");
    }
}

/// Folders of layouts below `root`.
fn layouts(root: &Path) -> Vec<PathBuf> {
    let is_layout = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix('v').map(str::parse::<u32>);
        number.is_some_and(|number| number.is_ok())
    };
    entries(root).into_iter().filter(is_layout).collect()
}

fn remove_layout(folder: &Path) {
    entries(folder).iter().for_each(|one| remove_folder(one));
}

fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is in a folder; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

fn remove_folder(folder: &Path) {
    entries(folder).iter().for_each(|one| remove(one));
    drop(fs::remove_dir(folder));
}

fn remove(pin: &Path) {
    if let Err(error) = fs::remove_file(pin) {
        tracing::warn!(pin = %pin.display(), %error, "pin not removed");
    }
}
