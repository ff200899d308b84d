//! Which files a path stands for: itself, or those of a folder and the folders below, in order of
//! name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::source::Report;
use crate::source::inflate::Input;
use crate::source::limits::FOLDER_DEPTH_MAX;

/// Endings of logs in a folder. A file named directly may have any.
pub const LOG_ENDINGS: &[&str] = &["json", "jsonl", "ndjson", "log", "gz"];

/// Calls `read` with every file that `path` stands for. In folders only files with one of `endings`
/// count (all if it is empty), nothing that begins with a dot, and folders behind symbolic links are
/// left out. What cannot be listed is reported.
///
/// # Errors
/// Those of `read`, which ends the walk.
pub fn for_each<E>(
    path: &Path,
    endings: &[&str],
    report: &mut Report<'_>,
    read: &mut dyn FnMut(&Path, &mut Report<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if path.is_dir() {
        walk(path, endings, 0, report, read)
    } else {
        read(path, report)
    }
}

/// A log that is open, unpacked as it is read.
pub(crate) struct OpenLog<'a> {
    pub(crate) path: &'a Path,
    /// Its place among the names of all files read.
    pub(crate) number: u32,
    pub(crate) input: Input,
}

/// Calls `read` with every log that `path` stands for, open, and gives each its number: its place in
/// `names`. What cannot be opened is reported, and has a number too. Says how many have.
///
/// # Errors
/// Those of `read`, which ends the walk.
pub(crate) fn for_each_open(
    path: &Path,
    endings: &[&str],
    names: &mut Vec<PathBuf>,
    report: &mut Report<'_>,
    read: &mut dyn FnMut(OpenLog<'_>, &mut Report<'_>) -> io::Result<()>,
) -> io::Result<u64> {
    let before = names.len();
    for_each(path, endings, report, &mut |path,
                                          report|
     -> io::Result<()> {
        let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.push(path.to_owned());
        match Input::open(path) {
            Ok(input) => read(
                OpenLog {
                    path,
                    number,
                    input,
                },
                report,
            )?,
            Err(error) => report.fault(path, None, error),
        }
        report.end_of_file(path);
        Ok(())
    })?;
    Ok((names.len() - before) as u64)
}

fn walk<E>(
    folder: &Path,
    endings: &[&str],
    depth: usize,
    report: &mut Report<'_>,
    read: &mut dyn FnMut(&Path, &mut Report<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if depth == FOLDER_DEPTH_MAX {
        report.fault(folder, None, "folders nested too deep; not read");
        return Ok(());
    }
    let listed: Result<Vec<(PathBuf, fs::FileType)>, _> = fs::read_dir(folder).and_then(|list| {
        list.map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))))
            .collect()
    });
    let mut listed = match listed {
        Ok(listed) => listed,
        Err(error) => {
            report.fault(folder, None, format_args!("list folder: {error}"));
            return Ok(());
        }
    };
    listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (path, kind) in listed {
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            walk(&path, endings, depth + 1, report, read)?;
        } else if has_ending(&path, endings) && path.is_file() {
            read(&path, report)?;
        }
    }
    Ok(())
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    let listed = |ending: &str| {
        endings
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(ending))
    };
    endings.is_empty() || ending.is_some_and(listed)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn names(path: &Path, endings: &[&str]) -> (Vec<String>, u64) {
        let (mut names, mut err) = (Vec::new(), Vec::new());
        let mut report = Report::new(&mut err);
        let read: Result<(), Infallible> = for_each(path, endings, &mut report, &mut |file, _| {
            let name = file.strip_prefix(path).unwrap_or(file);
            names.push(name.to_string_lossy().into_owned());
            Ok(())
        });
        read.unwrap();
        (names, report.faults())
    }

    #[test]
    fn files_come_in_order_of_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in [
            "b/2.json",
            "b/1.JSON.gz",
            "a.jsonl",
            "c.txt",
            ".hidden.json",
            "b/.x/1.log",
        ] {
            let file = path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        std::os::unix::fs::symlink(path, path.join("b/loop")).unwrap();
        let logs = ["a.jsonl", "b/1.JSON.gz", "b/2.json"];
        assert_eq!(names(path, LOG_ENDINGS).0, logs);
        assert_eq!(
            names(path, &[]).0,
            ["a.jsonl", "b/1.JSON.gz", "b/2.json", "c.txt"]
        );
        let direct = names(&path.join("c.txt"), LOG_ENDINGS).0;
        assert_eq!(direct.len(), 1);
        assert_eq!(names(path, &[]).1, 0);
    }
}
