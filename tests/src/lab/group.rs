//! A control group that holds a process to the limits of its unit, as systemd would: of version 2,
//! or of version 1 where the machine has that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Over which the processor's share is reckoned, as systemd does (`CPUQuotaPeriodSec=`, 100 ms).
const PERIOD_US: u64 = 100_000;

/// What a process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Percent of one processor.
    pub cpu_percent: u64,
    /// Bytes of memory, those of the kernel for it among them.
    pub memory_bytes: u64,
}

impl Limits {
    /// Those of a unit's text: `CPUQuota=` in percent, `MemoryMax=` in MiB.
    ///
    /// # Errors
    /// A line is missing or written otherwise.
    pub fn of_unit(text: &str) -> Result<Self> {
        let number = |key: &str, unit: &str| -> Result<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(key));
            value
                .and_then(|value| value.strip_suffix(unit)?.parse().ok())
                .with_context(|| format!("the unit has no {key}<number>{unit}"))
        };
        Ok(Self {
            cpu_percent: number("CPUQuota=", "%")?,
            memory_bytes: number("MemoryMax=", "M")? << 20,
        })
    }
}

/// A group of our own; it goes when dropped, after its processes.
#[derive(Debug)]
pub struct Group {
    version: Version,
    /// One folder for each hierarchy.
    folders: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    /// Makes one.
    ///
    /// # Errors
    /// The machine limits neither way, or does not let us.
    pub fn make(limits: Limits) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        let name = format!("pk-{}", std::process::id());
        let group = match (hierarchy_two(&mounts), hierarchies_one(&mounts)) {
            (Some(root), _) => Self::at(Version::Two, [root.join(&name)].into())?,
            (None, Some(roots)) => {
                let folders = roots.iter().map(|root| root.join(&name)).collect();
                Self::at(Version::One, folders)?
            }
            (None, None) => bail!("no control groups that limit processor and memory"),
        };
        let quota_us = limits.cpu_percent * PERIOD_US / 100;
        let memory = limits.memory_bytes.to_string();
        match group.version {
            Version::Two => {
                group.write("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
                group.write("memory.max", &memory)?;
            }
            Version::One => {
                group.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                group.write("cpu.cfs_quota_us", &quota_us.to_string())?;
                group.write("memory.limit_in_bytes", &memory)?;
            }
        }
        Ok(group)
    }

    fn at(version: Version, folders: Vec<PathBuf>) -> Result<Self> {
        let group = Self { version, folders };
        for folder in &group.folders {
            fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(group)
    }

    /// Has `shell`, a command that runs `sh`, join and then become what is given to it as arguments.
    pub fn hold(&self, shell: &mut Command) {
        let joins = self.folders.iter().map(|folder| {
            let processes = folder.join("cgroup.procs");
            format!("echo $$ > '{}' && ", processes.display())
        });
        let script: String = joins.chain(["exec \"$@\"".to_owned()]).collect();
        shell.args(["-c", &script, "sh"]);
    }

    /// The most memory that its processes held at once, MiB.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn memory_peak_mib(&self) -> Result<f64> {
        let bytes = self.number(match self.version {
            Version::Two => "memory.peak",
            Version::One => "memory.max_usage_in_bytes",
        })?;
        Ok(bytes / f64::from(1 << 20))
    }

    /// Percent of the periods in which its share of the processor was used up.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn throttled(&self) -> Result<f64> {
        let text = self.read("cpu.stat")?;
        let field = |name: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let periods = field("nr_periods ").context("no nr_periods")?;
        let throttled = field("nr_throttled ").context("no nr_throttled")?;
        Ok(100.0 * throttled / periods.max(1.0))
    }

    fn number(&self, file: &str) -> Result<f64> {
        let text = self.read(file)?;
        text.trim()
            .parse()
            .with_context(|| format!("{file}: {text}"))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.path(file)?;
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path(file)?;
        fs::write(&path, text).with_context(|| format!("write {text} to {}", path.display()))
    }

    fn path(&self, file: &str) -> Result<PathBuf> {
        let mut paths = self.folders.iter().map(|folder| folder.join(file));
        paths
            .find(|path| path.exists())
            .with_context(|| format!("the group has no {file}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = fs::remove_dir(folder) {
                eprintln!("  {}: {error}", folder.display());
            }
        }
    }
}

/// The root of version 2, if it limits both.
fn hierarchy_two(mounts: &str) -> Option<PathBuf> {
    let root = mounted(mounts, "cgroup2", "")?;
    let given = fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
    let has = |wanted: &str| given.split_whitespace().any(|one| one == wanted);
    let both = has("cpu") && has("memory");
    both.then_some(root)
}

/// The roots of version 1 for processor and memory.
fn hierarchies_one(mounts: &str) -> Option<Vec<PathBuf>> {
    ["cpu", "memory"]
        .into_iter()
        .map(|controller| mounted(mounts, "cgroup", controller))
        .collect()
}

/// Where a file system of this type is mounted, with this option if it is not empty. See `proc(5)` for
/// the fields.
fn mounted(mounts: &str, kind: &str, option: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let is_kind = system.next()? == kind;
        let mut options = system.nth(1)?.split(',');
        let found = is_kind && (option.is_empty() || options.any(|one| one == option));
        let path = place.split(' ').nth(4)?;
        found.then(|| Path::new(path).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_limits_are_read() {
        let text = "[Service]\nMemoryMax=256M\nTasksMax=64\nCPUQuota=50%\n";
        let limits = Limits::of_unit(text).unwrap();
        assert_eq!((limits.cpu_percent, limits.memory_bytes), (50, 256 << 20));
        assert!(Limits::of_unit("MemoryMax=256M\n").is_err());
        assert!(Limits::of_unit("MemoryMax=infinity\nCPUQuota=50%\n").is_err());
    }

    #[test]
    fn hierarchies_are_found_by_type_and_option() {
        let mounts = "30 1 0:26 / /cg/unified rw - cgroup2 cgroup2 rw\n\
                      31 1 0:27 / /cg/acct rw - cgroup cgroup rw,cpuacct\n\
                      32 1 0:28 / /cg/cpu rw,nosuid - cgroup cgroup rw,cpu\n";
        assert_eq!(mounted(mounts, "cgroup", "cpu"), Some("/cg/cpu".into()));
        assert_eq!(mounted(mounts, "cgroup", "memory"), None);
        assert_eq!(mounted(mounts, "cgroup2", ""), Some("/cg/unified".into()));
    }
}
