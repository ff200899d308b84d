//! Control groups by the number that the kernel gives: the inode of the group's folder in the
//! version 2 hierarchy. Needed for processes that are gone; of others /proc tells the path.
//!
//! A group is opened by its number where that is permitted, so one that lives for as long as it takes
//! to be heard of is named. Elsewhere the hierarchy is walked, now and then.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{Placement, of_path};
use crate::capture::kernfs::Hierarchy;

/// Groups remembered, and folders visited at most: a host of the largest kind runs some thousand
/// containers with a few groups each.
const GROUPS_MAX: usize = 16_384;

/// The hierarchy is walked again after so many times as long as the walk before took, as a number
/// that is gone is asked for again and again: a thirtieth of a processor at most. 500 folders take
/// some 3 ms, so two containers that begin and end within a tenth of a second are told apart.
const WALK_REST: u32 = 30;

/// Placements by number.
#[derive(Debug)]
pub(super) struct Groups {
    root: Option<PathBuf>,
    /// Where groups can be opened by their number.
    hierarchy: Option<Hierarchy>,
    /// The number of the root itself.
    root_number: u64,
    known: HashMap<u64, Placement>,
    /// When the hierarchy was walked last, and how long that took.
    walked: Option<(Instant, Duration)>,
}

impl Groups {
    /// Those below `root`, the mount point of the hierarchy.
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        let metadata = root.as_ref().and_then(|root| fs::metadata(root).ok());
        Self {
            hierarchy: root.as_deref().and_then(|root| Hierarchy::open(root).ok()),
            root,
            root_number: metadata.map_or(0, |metadata| metadata.ino()),
            known: HashMap::new(),
            walked: None,
        }
    }

    /// The placement of a group, looked for if it is new. The root group tells nothing, as all
    /// processes are in it where version 1 has the controllers.
    pub(super) fn find(&mut self, number: u64) -> Option<&Placement> {
        if number == 0 || number == self.root_number {
            return None;
        }
        if !self.known.contains_key(&number) && !self.open(number) {
            let due = self
                .walked
                .is_none_or(|(at, took)| at.elapsed() >= took * WALK_REST);
            if due {
                self.walk();
            }
        }
        self.known.get(&number)
    }

    /// Looks for a group by its number; says whether there is nothing more to be found.
    fn open(&mut self, number: u64) -> bool {
        let Some(hierarchy) = &self.hierarchy else {
            return false;
        };
        match hierarchy.path_of(number) {
            Ok(path) => self.learn(number, &of_path(&path.to_string_lossy())),
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => {}
            Err(error) => {
                tracing::debug!(%error, "control groups are not opened by number but looked for");
                self.hierarchy = None;
                return false;
            }
        }
        true
    }

    /// Takes what is known of a group from elsewhere.
    pub(super) fn learn(&mut self, number: u64, placement: &Placement) {
        self.make_room();
        self.known
            .entry(number)
            .or_insert_with(|| placement.clone());
    }

    fn make_room(&mut self) {
        // Those that still are come back with the next walk.
        if self.known.len() >= GROUPS_MAX {
            self.known.clear();
        }
    }

    fn walk(&mut self) {
        let begun = Instant::now();
        if let Some(root) = self.root.clone() {
            self.walk_below(&root);
        }
        self.walked = Some((Instant::now(), begun.elapsed()));
    }

    fn walk_below(&mut self, root: &Path) {
        let mut folders = vec![root.to_owned()];
        let mut visited = 0;
        while let Some(folder) = folders.pop() {
            visited += 1;
            if visited > GROUPS_MAX {
                break;
            }
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.note(root, &entry.path());
                    folders.push(entry.path());
                }
            }
        }
    }

    fn note(&mut self, root: &Path, folder: &Path) {
        let Ok(metadata) = fs::metadata(folder) else {
            return;
        };
        let below = folder.strip_prefix(root).unwrap_or(folder);
        self.make_room();
        self.known
            .insert(metadata.ino(), of_path(&below.to_string_lossy()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::ebpf::cgroup_root;
    use rustix::thread::CapabilitySet;

    #[test]
    fn a_group_is_found_by_the_number_of_its_folder() {
        let id = "0123456789abcdef".repeat(4);
        let root = tempfile::tempdir().unwrap();
        let folder = root
            .path()
            .join("machine.slice")
            .join(format!("libpod-{id}.scope"));
        fs::create_dir_all(&folder).unwrap();
        let number = fs::metadata(&folder).unwrap().ino();
        let mut groups = Groups::new(Some(root.path().to_owned()));
        assert_eq!(groups.find(0), None);
        let found = groups.find(number).cloned().unwrap();
        assert_eq!(found.container.as_deref(), Some(id.as_str()));
        // What was there when it was looked for stays known when it is gone.
        fs::remove_dir_all(root.path().join("machine.slice")).unwrap();
        assert_eq!(groups.find(number), Some(&found));
        let top = fs::metadata(root.path()).unwrap().ino();
        assert_eq!(groups.find(top), None, "the root tells nothing");
        assert_eq!(Groups::new(None).find(number), None);
    }

    /// A real one, removed with this value.
    struct Real(PathBuf);

    impl Real {
        fn make(root: &Path, name: &str) -> (Self, u64) {
            let folder = root.join(format!("pk-{}-{name}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            let number = fs::metadata(&folder).unwrap().ino();
            (Self(folder), number)
        }
    }

    impl Drop for Real {
        fn drop(&mut self) {
            drop(fs::remove_dir(&self.0));
        }
    }

    /// As after a walk that was long and has just been.
    fn walked_just_now(root: &Path) -> Groups {
        Groups {
            walked: Some((Instant::now(), Duration::from_secs(3_600))),
            ..Groups::new(Some(root.to_owned()))
        }
    }

    #[test]
    fn a_new_group_is_named_at_once() {
        let Ok(root) = cgroup_root() else {
            println!("skipped, no cgroup2 is mounted");
            return;
        };
        let held = rustix::thread::capabilities(None).unwrap().effective;
        if !held.contains(CapabilitySet::DAC_READ_SEARCH) {
            println!("skipped, CAP_DAC_READ_SEARCH is missing");
            return;
        }
        let mut groups = walked_just_now(&root);
        let (first, number) = Real::make(&root, "a.service");
        let unit = format!("pk-{}-a.service", std::process::id());
        let found = groups.find(number).cloned().unwrap();
        assert_eq!(found.unit, Some(unit));
        drop(first);
        assert_eq!(groups.find(number), Some(&found), "it is remembered");

        let (second, number) = Real::make(&root, "b.service");
        drop(second);
        assert_eq!(groups.find(number), None, "nobody asked while it was there");
        assert!(groups.hierarchy.is_some());

        // Without the capability it takes a walk.
        let (_third, number) = Real::make(&root, "c.service");
        let without = move || {
            let mut held = rustix::thread::capabilities(None).unwrap();
            held.effective -= CapabilitySet::DAC_READ_SEARCH;
            rustix::thread::set_capabilities(None, held).unwrap();
            let mut groups = walked_just_now(&root);
            assert_eq!(groups.find(number), None);
            groups.walked = None;
            groups.find(number).cloned()
        };
        let found = std::thread::spawn(without).join().unwrap();
        assert!(found.unwrap().unit.unwrap().ends_with("-c.service"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut groups = Groups::new(None);
        for number in 1..=3 * GROUPS_MAX as u64 {
            groups.learn(number, &Placement::default());
        }
        assert!(groups.known.len() <= GROUPS_MAX);
    }
}
