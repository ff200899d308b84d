//! A folder of indicator lists into one set.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use picket_intel::{FormatError, IndicatorSet, SetBuilder};

use crate::source::Report;

/// Reads every list in `folder`, in order of name. Files that are no list, and lines that name no
/// indicator, are told and skipped.
///
/// # Errors
/// When the folder or a file in it cannot be read, or holds more than a set may: a set without some
/// of its lists would stay silent where it should not.
pub fn read(folder: &Path, report: &mut Report<'_>) -> anyhow::Result<IndicatorSet> {
    let mut builder = SetBuilder::default();
    for path in list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "feeds.toml" {
            report.notice(&path, None, "not read yet; lists are taken by their names");
            continue;
        }
        // Reading stops a byte past what a list may have, so that a huge file costs nothing.
        let bytes = fs::File::open(&path)
            .and_then(|file| {
                let mut bytes = Vec::new();
                let most = picket_intel::limits::FILE_BYTES_MAX as u64 + 1;
                std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut bytes)?;
                Ok(bytes)
            })
            .with_context(|| format!("read indicator list {}", path.display()))?;
        match builder.read_file(&name, &bytes) {
            Ok(list) => {
                for refused in &list.refusals {
                    report.notice(
                        &path,
                        None,
                        format_args!("line {}: {}", refused.line, refused.why),
                    );
                }
                let untold = list.refused - list.refusals.len();
                if untold > 0 {
                    report.notice(&path, None, format_args!("{untold} more lines refused"));
                }
            }
            Err(error @ (FormatError::Unknown | FormatError::Category { .. })) => {
                report.notice(&path, None, format_args!("skipped: {error}"));
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("read indicator list {}", path.display()));
            }
        }
        report.end_of_file(&path);
    }
    Ok(builder.build())
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("list indicator folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() && !name.as_encoded_bytes().starts_with(b".") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_and_others_told() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("c2-ips.txt", "192.0.2.1\nnonsense here\n198.51.100.0/24\n"),
            ("mining-domains.txt", "pool.example\n"),
            ("readme.md", "words"),
            ("nosuch-ips.txt", "192.0.2.2\n"),
            ("feeds.toml", ""),
            (".hidden", "x"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut told = Vec::new();
        let mut report = Report::new(&mut told);
        let set = read(folder.path(), &mut report).unwrap();
        assert_eq!(set.len(), 3);
        assert_eq!(report.faults(), 0);
        let told = String::from_utf8(told).unwrap();
        for part in [
            "c2-ips.txt: line 2:",
            "readme.md: skipped:",
            "nosuch-ips.txt: skipped:",
            "feeds.toml: not read yet",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(told.lines().count(), 4);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let mut told = Vec::new();
        let error = read(Path::new("/nonexistent/intel"), &mut Report::new(&mut told));
        assert!(format!("{:#}", error.unwrap_err()).contains("/nonexistent/intel"));
    }
}
