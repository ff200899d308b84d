//! Which process: from what the kernel tells of one to what a person wants to know of it.
//!
//! The kernel tells a process when it runs a program and when it opens its first socket. Then it
//! usually is still there, and [`proc`] and [`cgroup`] tell the rest; of one that is gone already
//! we know what it was asked to run, what its parent ran and which control group it was in.
//! Processes that never open a socket cost a map entry and no look at /proc.

pub(crate) mod cgroup;
mod groups;
pub(crate) mod proc;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use picket_sense::input::ProcessId;
use picket_wire::{Parent, Process};

use crate::capture::live::{ProcessSeen, Told};
use cgroup::Placement;
use groups::Groups;
use proc::Stat;

/// Bytes kept of a path; what the kernel side tells has no more.
const PATH_BYTES_MAX: usize = 255;

/// Processes remembered in each of two generations, some 300 bytes each: those that ran or opened
/// anything lately, and the parents of those.
const RECENT_MAX: usize = 8_192;

/// What is remembered of a process.
#[derive(Debug, Clone, Default)]
struct Program {
    exe: Option<String>,
    placement: Placement,
    /// Its facts have been told, so a change must be as well.
    opened: bool,
}

/// What is known of processes, the running ones and those that were.
#[derive(Debug)]
pub struct Attribution {
    young: HashMap<ProcessId, Program>,
    old: HashMap<ProcessId, Program>,
    groups: Groups,
}

impl Attribution {
    /// With nothing known yet; `cgroup_root` is where the version 2 hierarchy is mounted.
    #[must_use]
    pub fn new(cgroup_root: Option<PathBuf>) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            groups: Groups::new(cgroup_root),
        }
    }

    /// Takes what the kernel tells, and gives what there is to know of the process if it has to do
    /// with sockets.
    pub fn learn(&mut self, seen: &ProcessSeen) -> Option<(ProcessId, Process)> {
        let id = seen.owner.process;
        let before = self.find(id).cloned();
        if seen.told == Told::Runs && !before.as_ref().is_some_and(|program| program.opened) {
            let placement = self.groups.find(seen.cgroup).cloned();
            let placement = placement.unwrap_or_else(|| self.inherited(seen));
            self.remember(
                id,
                Program {
                    exe: seen.path.clone(),
                    placement,
                    opened: false,
                },
            );
            return None;
        }
        let mut program = self.look(seen).unwrap_or_else(|| {
            let mut program = before.clone().unwrap_or_else(|| Program {
                // It has run nothing since it was made by its parent, so it is what that is.
                exe: seen
                    .parent
                    .and_then(|parent| self.find(parent)?.exe.clone()),
                placement: self.inherited(seen),
                opened: true,
            });
            if seen.path.is_some() {
                program.exe.clone_from(&seen.path);
            }
            if let Some(placement) = self.groups.find(seen.cgroup) {
                program.placement = placement.clone();
            }
            program
        });
        program.opened = true;
        // Of one that has ended and is not yet buried, /proc tells all but what it ran.
        program.exe = program
            .exe
            .or_else(|| seen.path.clone())
            .or_else(|| before.and_then(|before| before.exe));
        let parent = seen.parent.map(|parent| self.parent(parent, seen));
        let process = Process {
            pid: id.pid,
            start_ns: id.start_ns,
            name: seen.name.clone(),
            exe: program.exe.clone(),
            uid: Some(seen.owner.uid),
            container: program.placement.container.clone(),
            parent: parent.map(Box::new),
            runtime: program.placement.runtime.clone(),
            unit: program.placement.unit.clone(),
            via: None,
        };
        self.remember(id, program);
        Some((id, process))
    }

    /// What /proc tells of a process, if it still is there.
    fn look(&mut self, seen: &ProcessSeen) -> Option<Program> {
        let pid = seen.owner.process.pid;
        let exe = executable(pid);
        let groups = fs::read_to_string(proc::file(pid, "cgroup")).ok()?;
        // Asked last: if it still is the same now, what was read was its own.
        let stat = Stat::of(pid)?;
        if seen.since_boot_ns != 0 && stat.start_ns != seen.since_boot_ns {
            return None;
        }
        let placement = cgroup::of_process(&groups);
        if cgroup::unified_path(&groups).is_some_and(|path| path != "/") && seen.cgroup != 0 {
            self.groups.learn(seen.cgroup, &placement);
        }
        Some(Program {
            exe,
            placement,
            opened: true,
        })
    }

    /// Who started it. What it runs is remembered, or looked for once.
    fn parent(&mut self, id: ProcessId, seen: &ProcessSeen) -> Parent {
        if self.find(id).is_none_or(|program| program.exe.is_none()) {
            let exe = executable(id.pid);
            let stat = Stat::of(id.pid);
            let same = stat.is_some_and(|stat| stat.start_ns == seen.parent_since_boot_ns);
            if same && exe.is_some() {
                let mut program = self.find(id).cloned().unwrap_or_default();
                program.exe = exe;
                self.remember(id, program);
            }
        }
        Parent {
            pid: id.pid,
            name: seen.parent_name.clone(),
            exe: self.find(id).and_then(|program| program.exe.clone()),
        }
    }

    /// Where its parent is, a process is until it is moved.
    fn inherited(&self, seen: &ProcessSeen) -> Placement {
        let parent = seen.parent.and_then(|parent| self.find(parent));
        parent.map_or_else(Placement::default, |program| program.placement.clone())
    }

    fn find(&self, id: ProcessId) -> Option<&Program> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    fn remember(&mut self, id: ProcessId, program: Program) {
        if self.young.len() >= RECENT_MAX && !self.young.contains_key(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, program);
    }
}

/// The path of what a process runs, without the note that it was deleted since.
fn executable(pid: u32) -> Option<String> {
    let path = fs::read_link(proc::file(pid, "exe")).ok()?;
    let path = path.to_string_lossy();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let end = path.floor_char_boundary(PATH_BYTES_MAX);
    Some(path.get(..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_sense::input::Owner;

    /// A process that is not there: no number is so high.
    fn gone(nth: u32, told: Told) -> ProcessSeen {
        ProcessSeen {
            owner: Owner {
                process: ProcessId {
                    pid: 0x7000_0000 + nth,
                    start_ns: 5,
                },
                uid: 7,
            },
            since_boot_ns: 5,
            told,
            name: "fleeting".into(),
            path: None,
            parent: None,
            parent_since_boot_ns: 0,
            parent_name: String::new(),
            cgroup: 0,
        }
    }

    #[test]
    fn one_that_is_gone_is_what_it_was_asked_to_run() {
        let mut attribution = Attribution::new(None);
        let runs = ProcessSeen {
            path: Some("/bin/fleeting".into()),
            ..gone(1, Told::Runs)
        };
        assert_eq!(attribution.learn(&runs), None, "it has no socket");
        let (id, process) = attribution.learn(&gone(1, Told::Opens)).unwrap();
        assert_eq!(id, runs.owner.process);
        assert_eq!(process.exe.as_deref(), Some("/bin/fleeting"));
        assert_eq!((process.name.as_str(), process.uid), ("fleeting", Some(7)));

        // It runs another program with its sockets open: that is told at once.
        let again = ProcessSeen {
            path: Some("/bin/other".into()),
            ..runs
        };
        let (_, process) = attribution.learn(&again).unwrap();
        assert_eq!(process.exe.as_deref(), Some("/bin/other"));
    }

    #[test]
    fn a_child_that_ran_nothing_is_what_its_parent_is() {
        let mut attribution = Attribution::new(None);
        let parent = ProcessSeen {
            path: Some("/bin/server".into()),
            ..gone(1, Told::Runs)
        };
        attribution.learn(&parent);
        let child = ProcessSeen {
            parent: Some(parent.owner.process),
            parent_name: "server".into(),
            ..gone(2, Told::Opens)
        };
        let (_, process) = attribution.learn(&child).unwrap();
        assert_eq!(process.exe.as_deref(), Some("/bin/server"));
        let of = process.parent.unwrap();
        assert_eq!(
            (of.pid, of.name.as_str(), of.exe.as_deref()),
            (parent.owner.process.pid, "server", Some("/bin/server"))
        );
    }

    #[test]
    fn a_number_given_again_is_not_looked_at() {
        let own = std::process::id();
        let mut seen = gone(1, Told::Opens);
        seen.owner.process.pid = own;
        let mut attribution = Attribution::new(None);
        let (_, process) = attribution.learn(&seen).unwrap();
        assert_eq!(process.exe, None, "this process did not start then");
        seen.since_boot_ns = Stat::of(own).unwrap().start_ns;
        let (_, process) = attribution.learn(&seen).unwrap();
        let expected = std::env::current_exe().unwrap();
        assert_eq!(process.exe.as_deref(), expected.to_str());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut attribution = Attribution::new(None);
        for nth in 0..4 * RECENT_MAX as u32 {
            attribution.learn(&gone(nth, Told::Runs));
        }
        assert!(attribution.young.len() <= RECENT_MAX && attribution.old.len() <= RECENT_MAX);
    }
}
