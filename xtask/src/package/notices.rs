//! Notices of third parties: the licence of every crate that is linked in, and the text that came with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::Context;

use super::bill::Parts;

/// How the names of such files begin, in capitals.
const TEXTS: &[&str] = &[
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// A list of crates with their licences, then each distinct text once, with those that it came with.
pub(super) fn of(parts: &Parts) -> anyhow::Result<Vec<u8>> {
    let mut text = String::from(
        "This program contains the Rust standard library (MIT OR Apache-2.0, \
         https://github.com/rust-lang/rust) and these crates, each under the licence beside it:\n\n",
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((name, version), part) in &parts.crates {
        let label = format!("{name} {version}");
        writeln!(text, "{label:<40} {}", part.license).context("write a line")?;
        let folder = fs::read_dir(&part.folder)
            .with_context(|| format!("look into {}", part.folder.display()))?;
        let mut files: Vec<_> = folder
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_file())
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().to_uppercase();
                TEXTS.iter().any(|text| name.starts_with(text))
            })
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let words = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            texts
                .entry(words.trim().to_owned())
                .or_default()
                .push(label.clone());
        }
    }
    let mut ordered: Vec<_> = texts.into_iter().collect();
    ordered.sort_by(|one, other| one.1.cmp(&other.1));
    for (words, mut labels) in ordered {
        labels.dedup();
        write!(
            text,
            "\n{}\n{}\n\n{words}\n",
            "-".repeat(80),
            labels.join(", ")
        )
        .context("write a text")?;
    }
    Ok(text.into_bytes())
}
