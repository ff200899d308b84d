//! What processes have used, by /proc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Ticks of a second in /proc (`USER_HZ`, 100 on every architecture we build for).
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds, user and kernel, that a process has used.
pub(crate) fn process_s(pid: u32) -> Result<f64> {
    let fields = stat(&PathBuf::from(format!("/proc/{pid}/stat")))?;
    Ok(seconds(&fields, 14)? + seconds(&fields, 15)?)
}

/// CPU seconds that our children have used which have ended and were waited for.
pub(crate) fn children_s() -> Result<f64> {
    let fields = stat(Path::new("/proc/self/stat"))?;
    Ok(seconds(&fields, 16)? + seconds(&fields, 17)?)
}

/// Resident memory of a process in MiB: a field of /proc/pid/status.
pub(crate) fn resident_mib(pid: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no {field} in its status"))?;
    Ok(kib / 1024.0)
}

/// Bytes of kernel maps that a process holds, in MiB.
pub(crate) fn maps_mib(pid: u32) -> Result<f64> {
    let mut maps = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("read its descriptors")? {
        // One that was closed meanwhile holds nothing.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum::<u64>() as f64 / f64::from(1 << 20))
}

/// Runs a command to its end, with its output thrown away: the CPU seconds it used. No other child
/// may end meanwhile.
pub(crate) fn used_by(command: &mut Command) -> Result<f64> {
    let before = children_s()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    ensure!(
        status.success(),
        "{} ended with {status}",
        command.get_program().display()
    );
    Ok(children_s()? - before)
}

/// Runs a command to its end, with its output thrown away: the most MiB it held. What it takes in its last
/// moments may be missed.
pub(crate) fn peak_mib(command: &mut Command) -> Result<f64> {
    /// Between two looks.
    const PAUSE: Duration = Duration::from_millis(5);
    let program = command.get_program().display().to_string();
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let mut peak: f64 = 0.0;
    loop {
        if let Some(status) = process.try_wait().context("wait for it")? {
            ensure!(status.success(), "{program} ended with {status}");
            return Ok(peak);
        }
        // One that has just ended has no memory to tell of.
        peak = peak.max(resident_mib(process.id(), "VmHWM").unwrap_or(peak));
        std::thread::sleep(PAUSE);
    }
}

/// The fields behind the name, which may itself hold spaces; field 3 is the first.
fn stat(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let behind = text.rsplit_once(')').context("no name in it")?.1;
    Ok(behind.split_whitespace().map(str::to_owned).collect())
}

fn seconds(fields: &[String], number: usize) -> Result<f64> {
    let ticks: f64 = fields
        .get(number - 3)
        .and_then(|field| field.parse().ok())
        .with_context(|| format!("no field {number}"))?;
    Ok(ticks / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_used_is_told() {
        // A loop of the shell's own, long enough for some ticks.
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]);
        let used = used_by(&mut command).unwrap();
        assert!(used > 0.0, "{used}");
        assert!(resident_mib(std::process::id(), "VmRSS").unwrap() > 0.0);
        assert!(process_s(std::process::id()).unwrap() >= 0.0);
        assert_eq!(maps_mib(std::process::id()).unwrap(), 0.0);
        assert!(used_by(&mut Command::new("false")).is_err());
        let mut again = Command::new("sh");
        again.args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]);
        assert!(peak_mib(&mut again).unwrap() > 0.0);
        assert!(peak_mib(&mut Command::new("false")).is_err());
    }
}
