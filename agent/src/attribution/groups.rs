//! Control groups by the number that the kernel gives: the inode of the group's folder in the
//! version 2 hierarchy. Needed for processes that are gone; of others /proc tells the path.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{Placement, of_path};

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
        let due = self
            .walked
            .is_none_or(|(at, took)| at.elapsed() >= took * WALK_REST);
        if !self.known.contains_key(&number) && due {
            self.walk();
        }
        self.known.get(&number)
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

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut groups = Groups::new(None);
        for number in 1..=3 * GROUPS_MAX as u64 {
            groups.learn(number, &Placement::default());
        }
        assert!(groups.known.len() <= GROUPS_MAX);
    }
}
