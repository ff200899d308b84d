//! The numbers of the model card, written between two marks in it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use picket_wire::Digest;

use crate::lists::Lists;
use crate::measure::{Held, Row};

const BEGIN: &str = "<!-- written by picket-training: begin -->";
const END: &str = "<!-- written by picket-training: end -->";

/// The numbers as a passage of a page.
pub(crate) fn numbers(lists: &Lists, held: &Held, weights: &[u8]) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("| input, unpacked | SHA-256 |\n|---|---|"));
    for (name, hash) in &lists.inputs {
        line(format_args!("| `{name}` | `{hash}` |"));
    }
    let hash: String = Digest::of(weights)
        .0
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    line(format_args!(
        "| gives `weights.bin`, {} bytes | `{hash}` |",
        weights.len()
    ));
    line(format_args!(
        "\n{} labels of the open lists, {} of the list from elsewhere that are not among them.\n",
        lists.open.len(),
        lists.elsewhere.len()
    ));
    line(format_args!(
        "| families not trained on | labels | AUC | recall at 1 % | at 0.1 % | at 0.1 % of the open lists | ten names at 0.1 % |\n|---|---|---|---|---|---|---|"
    ));
    for (title, is_words) in [
        ("**random characters, mean**", false),
        ("**words, mean**", true),
    ] {
        let rows: Vec<&Row> = held
            .rows
            .iter()
            .filter(|row| row.is_words == is_words)
            .collect();
        let mean = |of: fn(&Row) -> f64| {
            rows.iter().map(|row| of(row)).sum::<f64>() / rows.len().max(1) as f64
        };
        line(format_args!(
            "| {title} | {} families | {:.3} | {:.2} | {:.2} | {:.2} | {:.2} |",
            rows.len(),
            mean(|row| row.auc),
            mean(|row| row.one_percent),
            mean(|row| row.one_in_1000),
            mean(|row| row.open_one_in_1000),
            mean(|row| row.groups)
        ));
    }
    for row in &held.rows {
        line(format_args!(
            "| {}{} | {} | {:.3} | {:.2} | {:.2} | {:.2} | {:.2} |",
            row.family,
            if row.is_words { " (words)" } else { "" },
            row.labels,
            row.auc,
            row.one_percent,
            row.one_in_1000,
            row.open_one_in_1000,
            row.groups
        ));
    }
    text
}

/// Puts the numbers between the marks of a page.
pub(crate) fn write(page: &Path, numbers: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let begin = text.find(BEGIN).map(|at| at + BEGIN.len());
    let end = text.find(END);
    let marks = begin.zip(end).filter(|(begin, end)| begin <= end);
    ensure!(
        marks.is_some(),
        "{} lacks the marks `{BEGIN}` and `{END}`",
        page.display()
    );
    let (begin, end) = marks.unwrap_or_default();
    let text = format!("{}\n\n{numbers}\n{}", &text[..begin], &text[end..]);
    std::fs::write(page, text).with_context(|| format!("write {}", page.display()))
}
