//! Folders of indicator lists into one set. What the files mean, and in which order they are read,
//! is said by `picket_intel::folder`; here is the disk.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use picket_intel::folder::{Folder, FolderPlan, FolderReport, Look, Skipped};
use picket_intel::limits::FILE_BYTES_MAX;
use picket_intel::{FormatError, IndicatorSet, SetBuilder, Suffix};

use crate::source::Report;

/// What to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The folder whose lists are taken.
    pub lists: Option<&'a Path>,
    /// Other folders whose allow-lists hold for them; those that are not there hold nothing.
    pub allow: &'a [PathBuf],
    /// Whether to take the built-in lists too.
    pub seed: bool,
    /// What is over by then is left out, milliseconds since the Unix epoch; at 0 nothing is, so that
    /// what is past is analysed alike on every day.
    pub now_ms: u64,
}

/// Reads every list in `folder`, as [`gather`] does.
///
/// # Errors
/// As [`gather`].
pub fn read(folder: &Path, report: &mut Report<'_>) -> anyhow::Result<IndicatorSet> {
    let lists = Some(folder);
    gather(
        &Request {
            lists,
            ..Request::default()
        },
        report,
    )
}

/// Reads what is asked for. Files that are no list, and entries that name no indicator or what no
/// list may name, are told and skipped.
///
/// # Errors
/// When a folder, its `feeds.toml` or a file in it cannot be read, or holds more than a set may: a
/// set without some of its lists would stay silent where it should not.
pub fn gather(request: &Request<'_>, report: &mut Report<'_>) -> anyhow::Result<IndicatorSet> {
    let mut builder = SetBuilder::at(request.now_ms);
    builder.know_suffixes(public_suffix);
    for folder in request.allow {
        if folder.exists() {
            let mut plan = plan(folder)?;
            let mut told = FolderReport::default();
            plan.read_allow(&mut Disk(folder), &mut builder, &mut told);
            tell(folder, told, report)?;
        }
    }
    let planned = |folder| plan(folder).map(|plan| (folder, plan));
    let mut lists = request.lists.map(planned).transpose()?;
    let mut told = FolderReport::default();
    if let Some((folder, plan)) = &mut lists {
        plan.read_allow(&mut Disk(folder), &mut builder, &mut told);
    }
    if request.seed {
        builder.add_seed().context("take the built-in lists")?;
    }
    if let Some((folder, mut plan)) = lists {
        plan.read_lists(&mut Disk(folder), &mut builder, &mut told);
        tell(folder, told, report)?;
    }
    Ok(builder.build())
}

fn plan(folder: &Path) -> anyhow::Result<FolderPlan> {
    let context = || format!("read indicator folder {}", folder.display());
    FolderPlan::of(&mut Disk(folder)).with_context(context)
}

fn tell(folder: &Path, told: FolderReport, report: &mut Report<'_>) -> anyhow::Result<()> {
    for (file, line) in told.complaints() {
        report.notice(&folder.join(file), None, line);
    }
    for list in &told.lists {
        report.end_of_file(&folder.join(&list.file));
    }
    for (file, why) in told.skipped {
        let fatal = match &why {
            Skipped::Unreadable(_) => true,
            Skipped::Format(error) => {
                matches!(error, FormatError::TooLarge { .. } | FormatError::Set(_))
            }
            _ => false,
        };
        if fatal {
            bail!("read indicator list {}: {why}", folder.join(file).display());
        }
    }
    Ok(())
}

/// Whether a name is a public suffix, by Mozilla's list.
pub(crate) fn public_suffix(name: &str) -> Option<Suffix> {
    let suffix = psl::suffix(name.as_bytes())?;
    let whole = suffix.as_bytes().len() == name.len();
    match suffix.typ().filter(|_| whole)? {
        psl::Type::Icann => Some(Suffix::Registry),
        psl::Type::Private => Some(Suffix::Private),
    }
}

/// A folder on disk.
struct Disk<'a>(&'a Path);

impl Folder for Disk<'_> {
    fn look(&mut self, path: &str) -> Result<Look, String> {
        let path = self.0.join(path);
        match fs::metadata(&path) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Ok(Look::File),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Missing),
            Err(error) => return Err(error.to_string()),
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_file() && !name.starts_with('.') {
                names.push(name.into_owned());
            }
        }
        Ok(Look::Folder(names))
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        // Reading stops a byte past what a list may have, so that a huge file costs nothing.
        let most = FILE_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        let read = File::open(self.0.join(path));
        let read = read.and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn lists_are_taken_and_others_told() {
        let folder = folder(&[
            ("c2-ips.txt", "192.0.2.1\nnonsense here\n198.51.100.0/24\n"),
            ("mining-domains.txt", "pool.example\n"),
            ("readme.md", "words"),
            ("nosuch-ips.txt", "192.0.2.2\n"),
            (
                "feeds.toml",
                "[[feed]]\nfile='sub/x.csv'\nformat='csv'\ncategory='tor'\n[[feed]]\nfile='gone.txt'\ncategory='tor'\n",
            ),
            ("sub/x.csv", "192.0.2.7,x\n"),
            ("sub/other.csv", "192.0.2.8,x\n"),
            (".hidden", "x"),
        ]);
        let mut told = Vec::new();
        let mut report = Report::new(&mut told);
        let set = read(folder.path(), &mut report).unwrap();
        assert_eq!(set.len(), 4);
        assert_eq!(report.faults(), 0);
        let told = String::from_utf8(told).unwrap();
        for part in [
            "c2-ips.txt: line 2:",
            "readme.md: skipped:",
            "nosuch-ips.txt: skipped:",
            "gone.txt: named in feeds.toml but not there",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(told.lines().count(), 4);
    }

    #[test]
    fn what_is_allowed_in_one_folder_holds_in_another() {
        let own = folder(&[
            ("feeds.toml", "[[allow]]\nfile='partners.txt'\n"),
            ("partners.txt", "192.0.2.1\n"),
        ]);
        let fetched = folder(&[("tor-relays.txt", "192.0.2.1\n192.0.2.2\n")]);
        let mut told = Vec::new();
        let request = Request {
            lists: Some(fetched.path()),
            allow: &[own.path().to_owned(), "/nonexistent/intel".into()],
            ..Request::default()
        };
        let set = gather(&request, &mut Report::new(&mut told)).unwrap();
        assert_eq!(set.len(), 1);
        let seeded = Request {
            seed: true,
            ..Request::default()
        };
        let set = gather(&seeded, &mut Report::new(&mut told)).unwrap();
        assert!(!set.match_domain("eu.nanopool.org").is_empty());
        assert_eq!(String::from_utf8(told).unwrap(), "");
    }

    #[test]
    fn public_suffixes_are_no_indicators() {
        let folder = folder(&[(
            "c2-domains.txt",
            "co.uk\nduckdns.org\nevil.duckdns.org\nevil.co.uk\nevil.example\n",
        )]);
        let mut told = Vec::new();
        let set = read(folder.path(), &mut Report::new(&mut told)).unwrap();
        assert_eq!(set.len(), 3);
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.contains("line 1: excluded: co.uk is a public suffix"),
            "{told}"
        );
    }

    #[test]
    fn a_wrong_feeds_toml_is_an_error_with_its_place() {
        let folder = folder(&[("feeds.toml", "[[feed]]\nfile='a'\ncolour=1\n")]);
        let mut told = Vec::new();
        let error = read(folder.path(), &mut Report::new(&mut told)).unwrap_err();
        let error = format!("{error:#}");
        for part in ["feeds.toml", "line 3", "colour"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let mut told = Vec::new();
        let error = read(Path::new("/nonexistent/intel"), &mut Report::new(&mut told));
        assert!(format!("{:#}", error.unwrap_err()).contains("/nonexistent/intel"));
    }
}
