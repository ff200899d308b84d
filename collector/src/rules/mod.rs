//! Rules of the operator's own: the folder they stand in, and which of them may page.
//!
//! What a rule says and how it is matched is in `picket_detect::sigma`; here are the disk, the
//! settings and what is remembered of each rule.

mod book;
mod reload;

use std::path::{Path, PathBuf};

use picket_detect::sigma::limits::FILE_BYTES_MAX;
use picket_detect::sigma::{Fault, Loaded, Placeholders, RuleSet, Why};
use serde::Deserialize;

pub(crate) use book::{Book, RuleLine};
pub(crate) use reload::reload;

use crate::config::BadValue;
use crate::source::{Report, files};

/// Endings of files of rules.
const ENDINGS: &[&str] = &["yml", "yaml"];

/// Files of rules in one folder and those below: twice all that are published for every product.
const FILES_MAX: usize = 20_000;

/// Bytes of all of them: they are in memory at once while they are compiled.
const BYTES_MAX: usize = 64 << 20;

/// Rules of the operator's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder of Sigma rules, read with the folders below it.
    pub folder: Option<PathBuf>,
    /// Whether a rule pages only once it was replayed or enabled. Its findings are stored either
    /// way.
    pub trial: bool,
    /// What placeholders stand for.
    pub placeholder: Vec<Placeholder>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folder: None,
            // A rule that nobody has tried pages at night.
            trial: true,
            placeholder: Vec::new(),
        }
    }
}

/// What `%name%` stands for in rules that use the `expand` modifier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placeholder {
    /// Its name, without the percent signs.
    pub name: String,
    /// Its values; each may hold wildcards.
    pub values: Vec<String>,
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        for (at, placeholder) in self.placeholder.iter().enumerate() {
            let of = |key| format!("rules.placeholder[{at}].{key}");
            if placeholder.name.is_empty() {
                return Err(BadValue::new(of("name"), "must not be empty"));
            }
            if placeholder.values.is_empty() {
                return Err(BadValue::new(of("values"), "must not be empty"));
            }
            let before = &self.placeholder[..at];
            if before.iter().any(|other| other.name == placeholder.name) {
                return Err(BadValue::new(of("name"), "is there twice"));
            }
        }
        Ok(())
    }

    /// What placeholders stand for.
    pub(crate) fn placeholders(&self) -> Placeholders {
        let each = self.placeholder.iter();
        each.map(|one| (one.name.clone(), one.values.clone()))
            .collect()
    }
}

/// Reads and compiles every rule at `paths`, files or folders. What cannot be in force is reported:
/// rules for other logs as a notice, everything else as a fault.
pub(crate) fn read(
    paths: &[PathBuf],
    placeholders: &Placeholders,
    report: &mut Report<'_>,
) -> Loaded {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for path in paths {
        let walked = files::for_each(path, ENDINGS, report, &mut |file, report| {
            if texts.len() >= FILES_MAX || bytes >= BYTES_MAX {
                report.fault(
                    file,
                    None,
                    "too many rules; this and what follows is not read",
                );
                return Err(());
            }
            if let Some(text) = text(file, report) {
                bytes += text.len();
                texts.push((file.display().to_string(), text));
            }
            Ok(())
        });
        if walked.is_err() {
            break;
        }
    }
    let named = texts.iter().map(|(file, text)| (&**file, &**text));
    let loaded = RuleSet::load(named, placeholders);
    for fault in &loaded.faults {
        tell(fault, report);
    }
    loaded
}

fn text(file: &Path, report: &mut Report<'_>) -> Option<String> {
    let read = std::fs::metadata(file).and_then(|found| {
        if found.len() > FILE_BYTES_MAX as u64 {
            let why = format!("more than {FILE_BYTES_MAX} bytes");
            return Err(std::io::Error::other(why));
        }
        std::fs::read_to_string(file)
    });
    match read {
        Ok(text) => Some(text),
        Err(error) => {
            report.fault(file, None, format_args!("read rules: {error}"));
            None
        }
    }
}

fn tell(fault: &Fault, report: &mut Report<'_>) {
    let rule = fault.rule.as_deref();
    let of = rule.map_or_else(String::new, |rule| format!("rule {rule}: "));
    let words = format!("line {}: {of}{}", fault.line, fault.why);
    let file = Path::new(&fault.file);
    if matches!(fault.why, Why::Foreign(_)) {
        report.notice(file, None, words);
    } else {
        report.fault(file, None, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |name: &str, service: &str| {
            format!(
                "title: {name}\nlogsource: {{product: aws, service: {service}}}\n\
                 detection: {{a: {{eventName: X}}, condition: a}}\n"
            )
        };
        std::fs::create_dir(folder.path().join("below")).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.yml", &rule("a", "cloudtrail"));
        write("below/b.yaml", &rule("b", "cloudtrail"));
        write("c.yml", &rule("c", "route53"));
        write("d.yml", "title: [");
        write("notes.txt", "no rule");
        let mut told = Vec::new();
        let mut report = Report::new(&mut told);
        let paths = [folder.path().to_owned()];
        let loaded = read(&paths, &Placeholders::new(), &mut report);
        let titles: Vec<&str> = loaded
            .rules
            .rules()
            .iter()
            .map(|rule| &*rule.title)
            .collect();
        assert_eq!(titles, ["a", "b"]);
        assert_eq!(report.faults(), 1);
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains("c.yml: line 2: rule c:"), "{told}");
        assert!(told.contains("d.yml"), "{told}");
    }
}
