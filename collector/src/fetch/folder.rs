//! `<state_dir>/feeds`: a folder of indicator lists as any other, with a `feeds.toml` that says what
//! they are; the rest of the collector reads it and needs to know nothing of fetching.
//!
//! ```text
//! feeds.toml            what each file is, written from the configuration
//! <feed>.txt            a list as published
//! <feed>.<number>/      a list of many files
//! .incoming/<feed>/     what comes, and is judged before it takes its place
//! .held/<feed>/         what was not taken, until an operator takes it or a good one comes
//! ```
//!
//! What takes its place does so by being renamed, after it is on disk; `feeds.toml` names only what is
//! there. Names with a dot first are passed over by readers.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use picket_intel::FeedsFile;
use picket_intel::feeds_file::FEEDS_FILE as INDEX;

use super::settings::Feed;

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

/// Where what comes of one feed lies until it is judged. Emptied when it is made.
#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
}

impl Staging {
    /// Where a file or folder of it is.
    pub(super) fn path(&self, content: &str) -> PathBuf {
        self.root.join(content)
    }
}

impl Folder {
    /// Opens the folder in the collector's state, and makes it if it is not there.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let root = state_dir.join("feeds");
        fs::create_dir_all(&root)?;
        let folder = Self { root };
        // What a process that was killed was about to judge.
        remove(&folder.root.join(".incoming"))?;
        Ok(folder)
    }

    /// Where a list is.
    pub(super) fn path(&self, content: &str) -> PathBuf {
        self.root.join(content)
    }

    /// An empty place for what comes of a feed.
    pub(super) fn staging(&self, name: &str) -> io::Result<Staging> {
        let root = self.root.join(".incoming").join(name);
        remove(&root)?;
        fs::create_dir_all(&root)?;
        Ok(Staging { root })
    }

    /// Writes beside what came what it is, so that it can be read like the whole folder; says where.
    pub(super) fn describe(
        &self,
        staging: &Staging,
        feed: &Feed,
        content: &str,
    ) -> io::Result<PathBuf> {
        fs::write(staging.root.join(INDEX), index(&[(feed, content)])?)?;
        Ok(staging.root.clone())
    }

    /// Puts what came in its place.
    pub(super) fn adopt(&self, staging: &Staging, content: &str) -> io::Result<()> {
        self.place(&staging.root, content)
    }

    /// Puts what was held back in its place.
    pub(super) fn release(&self, name: &str, content: &str) -> io::Result<()> {
        self.place(&self.held(name), content)?;
        self.drop_held(name)
    }

    fn place(&self, from: &Path, content: &str) -> io::Result<()> {
        let from = from.join(content);
        sync(&from)?;
        fs::rename(&from, self.root.join(content))?;
        File::open(&self.root)?.sync_all()
    }

    /// Puts what came aside, in place of what was put aside before.
    pub(super) fn hold(&self, staging: &Staging, name: &str) -> io::Result<()> {
        self.drop_held(name)?;
        fs::create_dir_all(self.root.join(".held"))?;
        fs::rename(&staging.root, self.held(name))
    }

    /// Forgets what was held back of a feed.
    pub(super) fn drop_held(&self, name: &str) -> io::Result<()> {
        remove(&self.held(name))
    }

    /// Where lies what is held back of a feed, with the index that it was judged by.
    pub(super) fn held(&self, name: &str) -> PathBuf {
        self.root.join(".held").join(name)
    }

    /// Writes `feeds.toml` of the lists in use, unless it is so already, and removes what is none of
    /// them.
    pub(super) fn settle(&self, lists: &[(&Feed, &str)]) -> io::Result<()> {
        let text = index(lists)?;
        let path = self.root.join(INDEX);
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            let part = self.root.join(".feeds.part");
            fs::write(&part, text)?;
            sync(&part)?;
            fs::rename(&part, &path)?;
            File::open(&self.root)?.sync_all()?;
        }
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            let is_used = lists.iter().any(|(_, content)| name == **content);
            if !is_hidden && !is_used && name != INDEX {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn index(lists: &[(&Feed, &str)]) -> io::Result<String> {
    let file = FeedsFile {
        feed: lists
            .iter()
            .map(|(feed, content)| feed.entry(content))
            .collect(),
        ..FeedsFile::default()
    };
    let text = toml::to_string(&file).map_err(io::Error::other)?;
    Ok(format!(
        "# Written by the collector from its configuration; changes here are lost.\n{text}"
    ))
}

/// Makes sure that a file, or every file of a folder, is on disk.
fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(name: &str) -> Feed {
        let text = format!("name = '{name}'\nurl = 'https://feeds.example/'\ncategory = 'c2'");
        toml::from_str(&text).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn lists_take_their_places_and_what_is_none_goes() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::open(state.path()).unwrap();
        let root = state.path().join("feeds");
        let (a, b) = (feed("a"), feed("b"));
        let staging = folder.staging("a").unwrap();
        fs::write(staging.path("a.txt"), "192.0.2.1\n").unwrap();
        folder.adopt(&staging, "a.txt").unwrap();
        let staging = folder.staging("b").unwrap();
        fs::create_dir(staging.path("b.1")).unwrap();
        fs::write(staging.path("b.1").join("x.json"), "{}").unwrap();
        folder.adopt(&staging, "b.1").unwrap();
        folder.settle(&[(&a, "a.txt"), (&b, "b.1")]).unwrap();
        assert_eq!(names(&root), [".incoming", "a.txt", "b.1", "feeds.toml"]);
        let index = fs::read_to_string(root.join(INDEX)).unwrap();
        let table: toml::Table = index.parse().unwrap();
        assert_eq!(table["feed"][1]["file"].as_str(), Some("b.1"));
        assert_eq!(table["feed"][0]["category"].as_str(), Some("c2"));
        // The next version of one, and the other is not configured any more.
        let staging = folder.staging("b").unwrap();
        fs::create_dir(staging.path("b.2")).unwrap();
        folder.adopt(&staging, "b.2").unwrap();
        folder.settle(&[(&b, "b.2")]).unwrap();
        assert_eq!(names(&root), [".incoming", "b.2", "feeds.toml"]);
        // A process that was killed leaves nothing half done.
        Folder::open(state.path()).unwrap();
        assert_eq!(names(&root), ["b.2", "feeds.toml"]);
    }

    #[test]
    fn what_is_held_waits_and_may_be_taken() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::open(state.path()).unwrap();
        for text in ["1", "2"] {
            let staging = folder.staging("a").unwrap();
            fs::write(staging.path("a.txt"), text).unwrap();
            folder.hold(&staging, "a").unwrap();
        }
        assert!(!folder.path("a.txt").exists());
        folder.release("a", "a.txt").unwrap();
        assert_eq!(fs::read_to_string(folder.path("a.txt")).unwrap(), "2");
        assert!(folder.release("a", "a.txt").is_err());
        folder.drop_held("a").unwrap();
    }
}
