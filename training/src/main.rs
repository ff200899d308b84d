//! Makes `collector/detect/src/dga/weights.bin` of lists that lie in a folder, and writes into
//! `docs/dga-model.md` what they were and how good the model is on families it was not trained on.
//!
//! The same lists give the same bytes on one kind of machine: one thread, one seed, and the lists are named by
//! their hashes; `exp` is the platform's, and may differ in its last bit on another. Takes two minutes and 600 MB. The lists themselves are never part of the repository.

mod card;
mod costs;
mod fit;
mod lists;
mod measure;
mod random;
mod synthetic;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use lists::Lists;
use measure::Held;

/// Makes the weights of the model for generated names.
#[derive(Debug, Parser)]
#[command(name = "picket-training")]
struct Arguments {
    /// Folder with dev_benign_open_lists.txt, dev_dga_33fam.csv and dev_benign_cf2023_300k.txt, plain or .gz
    lists: PathBuf,
    /// Where the weights go
    #[arg(long, default_value = "collector/detect/src/dga/weights.bin")]
    weights: PathBuf,
    /// Model card whose numbers are written anew
    #[arg(long, default_value = "docs/dga-model.md")]
    card: PathBuf,
    /// Families are dealt into so many parts; each part is judged by a model that saw the others
    #[arg(long, default_value = "6")]
    folds: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let lists = Lists::read(&arguments.lists)?;
    let read = measure::read(&lists);
    let mut held = Held::default();
    for fold in 0..arguments.folds {
        eprintln!("families of part {} of {}", fold + 1, arguments.folds);
        let trained = fit::train(&read, Some((fold, arguments.folds)));
        held.add(&read, &trained, fold, arguments.folds);
    }
    eprintln!("all families");
    let mut trained = fit::train(&read, None);
    trained.stretch(measure::stretch(&read, &trained));
    let bytes = trained.bytes(&read.costs);
    std::fs::write(&arguments.weights, &bytes)
        .with_context(|| format!("write {}", arguments.weights.display()))?;
    let numbers = card::numbers(&lists, &held, &bytes);
    card::write(&arguments.card, &numbers)?;
    print!("{numbers}");
    Ok(())
}
