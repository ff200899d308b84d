//! A source file over 600 lines usually holds a second noun. Said, not failed for.

use std::path::Path;

use super::{Finding, repository::Repository};

/// Chosen by hand.
const LINES_MAX: usize = 600;

/// Checks every Rust source.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    let sources = repository.sources()?;
    Ok(sources
        .iter()
        .filter_map(|(file, text)| finding(file, text))
        .collect())
}

fn finding(file: &Path, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| {
        Finding::note(format!(
            "{} has {lines} lines; is there a second noun in it?",
            file.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_said() {
        let file = Path::new("a.rs");
        assert_eq!(finding(file, &"x\n".repeat(600)), None);
        assert_eq!(
            finding(file, &"x\n".repeat(601)),
            Some(Finding::note(
                "a.rs has 601 lines; is there a second noun in it?"
            ))
        );
    }
}
