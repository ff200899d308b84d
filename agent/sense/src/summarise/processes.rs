//! The processes behind flows: what was told of each, for as long as something may ask.
//!
//! A flow keeps a [`OwnerRef`], four bytes, rather than who that is; what a reference led to may
//! have been forgotten when it is asked for, and then the process is not known any more.

use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::Process;

use crate::flow::OwnerRef;
use crate::input::{Owner, ProcessId};
use crate::limits::PROCESSES_MAX;

struct Known {
    id: ProcessId,
    process: Arc<Process>,
    used: u64,
}

/// Processes by their identity and by reference.
#[derive(Default)]
pub(crate) struct Processes {
    by_id: HashMap<ProcessId, OwnerRef, RandomState>,
    known: HashMap<OwnerRef, Known, RandomState>,
    last: u32,
    /// Counts uses, so that those unused for longest can be forgotten.
    uses: u64,
    forgotten: u64,
}

impl Processes {
    /// Takes what is known of a process, in place of what was known before.
    pub(crate) fn learn(&mut self, id: ProcessId, process: Process) {
        let reference = self.refer(id, |_| Process::default());
        if let Some(known) = self.known.get_mut(&reference) {
            known.process = Arc::new(process);
        }
    }

    /// A reference to an owner. Of one that nobody told more of, number and user are known.
    pub(crate) fn owner(&mut self, owner: Owner) -> OwnerRef {
        self.refer(owner.process, |id| Process {
            pid: id.pid,
            start_ns: id.start_ns,
            uid: Some(owner.uid),
            ..Process::default()
        })
    }

    /// What is known of a process.
    pub(crate) fn find(&self, reference: OwnerRef) -> Option<&Arc<Process>> {
        self.known.get(&reference).map(|known| &known.process)
    }

    /// Processes held.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// How many were forgotten since the last time this was asked.
    pub(crate) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    fn refer(&mut self, id: ProcessId, new: impl FnOnce(ProcessId) -> Process) -> OwnerRef {
        self.uses += 1;
        if let Some(reference) = self.by_id.get(&id)
            && let Some(known) = self.known.get_mut(reference)
        {
            known.used = self.uses;
            return *reference;
        }
        if self.known.len() >= PROCESSES_MAX {
            self.forget_half();
        }
        self.last = self.last.wrapping_add(1);
        let reference = OwnerRef(NonZeroU32::new(self.last).unwrap_or(NonZeroU32::MIN));
        self.by_id.insert(id, reference);
        let process = Arc::new(new(id));
        let used = self.uses;
        self.known.insert(reference, Known { id, process, used });
        reference
    }

    fn forget_half(&mut self) {
        let mut uses: Vec<u64> = self.known.values().map(|known| known.used).collect();
        let middle = uses.len() / 2;
        let (_, keep_from, _) = uses.select_nth_unstable(middle);
        let (keep_from, before) = (*keep_from, self.known.len());
        let by_id = &mut self.by_id;
        self.known.retain(|_, known| {
            let stays = known.used >= keep_from;
            if !stays {
                by_id.remove(&known.id);
            }
            stays
        });
        self.forgotten += (before - self.known.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid, start_ns: 7 }
    }

    fn owner(pid: u32) -> Owner {
        Owner {
            process: id(pid),
            uid: 1_000,
        }
    }

    #[test]
    fn what_is_told_later_is_found_by_an_earlier_reference() {
        let mut processes = Processes::default();
        let reference = processes.owner(owner(3));
        let found = processes.find(reference).unwrap();
        assert_eq!(
            (found.pid, found.uid, found.name.as_str()),
            (3, Some(1_000), "")
        );
        processes.learn(
            id(3),
            Process {
                pid: 3,
                name: "curl".into(),
                ..Process::default()
            },
        );
        assert_eq!(processes.find(reference).unwrap().name, "curl");
        assert_eq!(processes.owner(owner(3)), reference);
        let again = processes.owner(Owner {
            process: ProcessId {
                pid: 3,
                start_ns: 9,
            },
            uid: 0,
        });
        assert_ne!(again, reference, "another process of that number");
    }

    #[test]
    fn when_full_those_unused_for_longest_are_forgotten_and_counted() {
        let mut processes = Processes::default();
        let first = processes.owner(owner(1));
        let second = processes.owner(owner(2));
        for pid in 3..=PROCESSES_MAX as u32 {
            processes.owner(owner(pid));
        }
        processes.owner(owner(1));
        assert_eq!(processes.take_forgotten(), 0);
        let last = processes.owner(owner(u32::MAX));
        assert!(processes.find(first).is_some() && processes.find(last).is_some());
        assert!(processes.find(second).is_none());
        assert_eq!(processes.take_forgotten(), PROCESSES_MAX as u64 / 2);
        assert!(processes.by_id.len() == processes.known.len());
    }
}
