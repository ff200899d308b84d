//! What /proc tells of a process that is still there (man 5 proc). A process may end at any
//! moment and its number be given to another, so what is read is checked against the start.

use std::fs;
use std::path::PathBuf;

/// Nanoseconds of a tick in which /proc tells times: `USER_HZ` is 100 on every machine Linux runs
/// on today.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// The file of a process.
pub(crate) fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// What `/proc/<pid>/stat` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Command name, at most 15 bytes.
    pub(crate) comm: String,
    /// Its parent.
    pub(crate) parent: u32,
    /// When it started, nanoseconds since boot, in whole ticks.
    pub(crate) start_ns: u64,
}

impl Stat {
    /// Reads it; `None` if the process is not there.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read(file(pid, "stat")).ok()?)
    }

    /// Field 2 is in brackets and may hold any byte, brackets too; fields 4 and 22 are the parent
    /// and the start.
    fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let ticks: u64 = fields.nth(17)?.parse().ok()?;
        Some(Self {
            comm,
            parent,
            start_ns: ticks.checked_mul(TICK_NS)?,
        })
    }
}

/// The effective user of a process.
pub(crate) fn user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(file(pid, "status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Processes there are, in the order of their numbers, so that parents tend to come first.
pub(crate) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_command_is_called() {
        let rest = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 10 11";
        for (comm, expected) in [("cat", "cat"), ("a) b (c", "a) b (c"), ("", "")] {
            let stat = Stat::parse(format!("42 ({comm}) {rest}\n").as_bytes()).unwrap();
            assert_eq!(
                (stat.comm.as_str(), stat.parent, stat.start_ns),
                (expected, 7, 47_110_000_000)
            );
        }
        for broken in ["", "42", "42 (x", "42 (x) S", "42 (x) S 7 1 1", ")("] {
            assert_eq!(Stat::parse(broken.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn this_process_is_there() {
        let own = std::process::id();
        assert!(all().contains(&own));
        let stat = Stat::of(own).unwrap();
        assert!(stat.start_ns > 0 && stat.parent > 0 && !stat.comm.is_empty());
        assert!(user(own).is_some());
    }
}
