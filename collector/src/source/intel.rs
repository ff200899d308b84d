//! Folders of indicator lists into one set. What the files mean, and in which order they are read,
//! is said by `picket_intel::folder`; here is the disk.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use picket_intel::folder::{Folder, FolderError, FolderPlan, FolderReport, Look, Skipped};
use picket_intel::limits::FILE_BYTES_MAX;
use picket_intel::{FormatError, IndicatorSet, SetBuilder, Suffix};

use crate::config::ConfigError;
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
    /// What becomes of lists that are too much.
    pub too_much: TooMuch,
}

/// What becomes of a list for which there is no room, or that names more than a list can know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooMuch {
    /// Nothing is read: a set without some of its lists would stay silent where it should not.
    #[default]
    Fails,
    /// It is left out whole, which the report says.
    IsLeftOut,
}

/// What was read.
#[derive(Debug)]
pub struct Gathered {
    /// Everything listed.
    pub set: IndicatorSet,
    /// What came of each file of the folder and of each built-in list.
    pub report: FolderReport,
}

/// Reads every list in `folder`, as [`gather`] does.
///
/// # Errors
/// As [`gather`].
pub fn read(folder: &Path, report: &mut Report<'_>) -> anyhow::Result<IndicatorSet> {
    let lists = Some(folder);
    let gathered = gather(
        &Request {
            lists,
            ..Request::default()
        },
        report,
    );
    gathered.map(|gathered| gathered.set)
}

/// Reads what is asked for. Files that are no list, and entries that name no indicator or what no
/// list may name, are told and skipped.
///
/// # Errors
/// When a folder, its `feeds.toml` or a file in it cannot be read, or if a list is too much and that
/// [`TooMuch::Fails`].
pub fn gather(request: &Request<'_>, report: &mut Report<'_>) -> anyhow::Result<Gathered> {
    let mut builder = SetBuilder::at(request.now_ms);
    builder.know_suffixes(public_suffix);
    for folder in request.allow {
        if folder.exists() {
            let mut plan = plan(folder)?;
            let mut told = FolderReport::default();
            plan.read_allow(&mut Disk(folder), &mut builder, &mut told);
            tell(folder, &told, request.too_much, report)?;
        }
    }
    let planned = |folder| plan(folder).map(|plan| (folder, plan));
    let mut lists = request.lists.map(planned).transpose()?;
    let mut told = FolderReport::default();
    if let Some((folder, plan)) = &mut lists {
        plan.read_allow(&mut Disk(folder), &mut builder, &mut told);
    }
    if request.seed {
        let seed = builder.add_seed().context("take the built-in lists")?;
        told.lists.extend(seed);
    }
    if let Some((folder, mut plan)) = lists {
        plan.read_lists(&mut Disk(folder), &mut builder, &mut told);
        tell(folder, &told, request.too_much, report)?;
    }
    let set = builder.build();
    Ok(Gathered { set, report: told })
}

/// A wrong `feeds.toml` is a wrong configuration.
pub(crate) fn as_config(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<FolderError>() {
        Some(FolderError::FeedsFile(_)) => ConfigError::Lists(format!("{error:#}")).into(),
        _ => error,
    }
}

fn plan(folder: &Path) -> anyhow::Result<FolderPlan> {
    let context = || format!("read indicator folder {}", folder.display());
    FolderPlan::of(&mut Disk(folder)).with_context(context)
}

fn tell(
    folder: &Path,
    told: &FolderReport,
    too_much: TooMuch,
    report: &mut Report<'_>,
) -> anyhow::Result<()> {
    // Each file has its own share of what is shown.
    let complaints = told.complaints();
    for of_file in complaints.chunk_by(|(one, _), (next, _)| one == next) {
        for (file, line) in of_file {
            report.notice(&folder.join(file), None, line);
        }
        if let Some((file, _)) = of_file.first() {
            report.end_of_file(&folder.join(file));
        }
    }
    for (file, why) in &told.skipped {
        let fatal = match why {
            Skipped::Unreadable(_) => true,
            Skipped::Format(FormatError::TooLarge { .. }) => too_much == TooMuch::Fails,
            _ => false,
        };
        if fatal {
            bail!("read indicator list {}: {why}", folder.join(file).display());
        }
    }
    if let (TooMuch::Fails, Some(out)) = (too_much, told.left_out.first()) {
        let file = folder.join(&out.file);
        bail!("read indicator list {}: {}", file.display(), out.why);
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
    fn each_file_tells_of_its_own_broken_lines() {
        let broken: String = (0..60).map(|n| format!("not {n}\n")).collect();
        let one = format!("192.0.2.1\n{broken}");
        let folder = folder(&[
            ("c2-ips.txt", &*one),
            ("mining-domains.txt", "pool.example\nno domain\n"),
            ("tor-ips.txt", &*one),
        ]);
        let mut told = Vec::new();
        read(folder.path(), &mut Report::new(&mut told)).unwrap();
        let told = String::from_utf8(told).unwrap();
        for part in [
            "c2-ips.txt: 60 entries refused",
            "c2-ips.txt: line 2:",
            "mining-domains.txt: line 2:",
            "tor-ips.txt: 60 entries refused",
            "tor-ips.txt: line 2:",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn a_list_that_is_too_much_fails_or_is_left_out_as_asked() {
        let wide: String = (11..40).map(|n| format!("{n}.0.0.0/8\n")).collect();
        let folder = folder(&[("c2-ips.txt", &*wide), ("tor-ips.txt", "192.0.2.1\n")]);
        let mut told = Vec::new();
        let error = read(folder.path(), &mut Report::new(&mut told)).unwrap_err();
        assert!(format!("{error:#}").contains("c2-ips.txt"), "{error:#}");
        let request = Request {
            lists: Some(folder.path()),
            too_much: TooMuch::IsLeftOut,
            ..Request::default()
        };
        let gathered = gather(&request, &mut Report::new(&mut told)).unwrap();
        assert_eq!(gathered.set.len(), 1);
        assert_eq!(gathered.report.left_out[0].list.name, "c2-ips");
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
        let set = gather(&request, &mut Report::new(&mut told)).unwrap().set;
        assert_eq!(set.len(), 1);
        let seeded = Request {
            seed: true,
            ..Request::default()
        };
        let set = gather(&seeded, &mut Report::new(&mut told)).unwrap().set;
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
