//! The host's name as it is now, which may change while we run.
//!
//! The kernel's name is that of our own namespace. A service under `ProtectHostname=` has one of its own,
//! made at its start, in which the kernel's name never changes; so the file that a lasting change writes
//! (hostname(5)) is looked at as well. What changed last counts.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Longest name that Linux takes (`__NEW_UTS_LEN`, include/uapi/linux/utsname.h), and room for comments
/// in the file.
const BYTES_MAX: u64 = 4 << 10;

/// The name, and where it is read.
#[derive(Debug, Clone)]
pub struct HostName {
    kernel: Place,
    file: Place,
    now: Option<String>,
}

/// One of the two places, and what it said last.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    said: Option<String>,
}

impl Place {
    fn new(path: &Path) -> Self {
        let mut place = Self {
            path: path.to_owned(),
            said: None,
        };
        place.look();
        place
    }

    /// What it says if that is something else than before.
    fn look(&mut self) -> Option<&str> {
        let said = read(&self.path)?;
        if self.said.as_ref() == Some(&said) {
            return None;
        }
        self.said = Some(said);
        self.said.as_deref()
    }
}

impl HostName {
    /// The name of this host.
    #[must_use]
    pub fn here() -> Self {
        let kernel = Path::new("/proc/sys/kernel/hostname");
        Self::read_from(kernel, Path::new("/etc/hostname"))
    }

    fn read_from(kernel: &Path, file: &Path) -> Self {
        let (kernel, file) = (Place::new(kernel), Place::new(file));
        let now = kernel.said.clone().or_else(|| file.said.clone());
        Self { kernel, file, now }
    }

    /// The name, if the host has one.
    #[must_use]
    pub fn now(&self) -> Option<&str> {
        self.now.as_deref()
    }

    /// Looks again; returns the name if it is another.
    pub fn changed(&mut self) -> Option<&str> {
        // Both are looked at, so that neither change is told late.
        let (kernel, file) = (self.kernel.look(), self.file.look());
        let name = kernel.or(file)?.to_owned();
        if self.now.as_ref() == Some(&name) {
            return None;
        }
        self.now = Some(name);
        self.now()
    }
}

/// The first line that is a name.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    let mut lines = text.lines().map(str::trim);
    let name = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (name != "(none)").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_changed_last_is_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, file) = (folder.path().join("kernel"), folder.path().join("file"));
        let put = |path: &Path, text: &str| fs::write(path, text).unwrap();
        assert_eq!(HostName::read_from(&kernel, &file).now(), None);
        put(&kernel, "(none)\n");
        put(&file, "# a comment\n\nweb-0\n");
        assert_eq!(HostName::read_from(&kernel, &file).now(), Some("web-0"));
        put(&kernel, "web-1\n");
        let mut name = HostName::read_from(&kernel, &file);
        assert_eq!(name.changed(), None);
        assert_eq!(name.now(), Some("web-1"));
        put(&kernel, "web-2\n");
        assert_eq!(name.changed(), Some("web-2"));
        assert_eq!(name.changed(), None);
        // In a namespace of our own only the file changes.
        put(&file, "web-3\n");
        assert_eq!(name.changed(), Some("web-3"));
        // The same change in both places is one.
        put(&kernel, "web-4\n");
        put(&file, "web-4\n");
        assert_eq!(name.changed(), Some("web-4"));
        assert_eq!(name.changed(), None);
        put(&file, "");
        fs::remove_file(&kernel).unwrap();
        assert_eq!(name.changed(), None);
        assert_eq!(name.now(), Some("web-4"));
    }
}
