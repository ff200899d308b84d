//! The lists: what people chose, what programs made, and names from elsewhere to judge the model by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use flate2::read::MultiGzDecoder;
use picket_detect::dga::chosen;
use picket_wire::Digest;

/// The lists by their labels, each once.
#[derive(Debug)]
pub(crate) struct Lists {
    /// Labels of openly licensed popularity lists: what weights are made of.
    pub(crate) open: Vec<String>,
    /// Labels of generated names by family.
    pub(crate) families: Vec<(String, Vec<String>)>,
    /// Labels of another popularity list, none of which is in `open`: to judge by alone.
    pub(crate) elsewhere: Vec<String>,
    /// Names and hashes of the files, unpacked.
    pub(crate) inputs: Vec<(&'static str, String)>,
}

impl Lists {
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut inputs = Vec::new();
        let mut text = |name: &'static str| -> anyhow::Result<String> {
            let bytes = unpacked(folder, name)?;
            let hash = Digest::of(&bytes)
                .0
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            inputs.push((name, hash));
            String::from_utf8(bytes).with_context(|| format!("{name} is not text"))
        };
        let open = text("dev_benign_open_lists.txt")?;
        let generated = text("dev_dga_33fam.csv")?;
        let elsewhere = text("dev_benign_cf2023_300k.txt")?;
        let open: BTreeSet<String> = open.lines().filter_map(label).collect();
        let elsewhere: BTreeSet<String> = elsewhere.lines().filter_map(label).collect();
        let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in generated.lines() {
            if let Some((family, name)) = line.split_once(',') {
                families
                    .entry(family.to_owned())
                    .or_default()
                    .extend(label(name));
            }
        }
        ensure!(
            !open.is_empty() && !families.is_empty(),
            "the lists are empty"
        );
        Ok(Self {
            elsewhere: elsewhere.difference(&open).cloned().collect(),
            open: open.into_iter().collect(),
            families: families
                .into_iter()
                .map(|(family, labels)| (family, labels.into_iter().collect()))
                .collect(),
            inputs,
        })
    }
}

fn label(name: &str) -> Option<String> {
    chosen(name.trim()).ok().map(std::borrow::Cow::into_owned)
}

fn unpacked(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let plain = folder.join(name);
    if plain.exists() {
        return fs::read(&plain).with_context(|| format!("read {}", plain.display()));
    }
    let packed = folder.join(format!("{name}.gz"));
    let file = fs::File::open(&packed).with_context(|| format!("open {}", packed.display()))?;
    let mut bytes = Vec::new();
    MultiGzDecoder::new(file)
        .read_to_end(&mut bytes)
        .with_context(|| format!("unpack {}", packed.display()))?;
    Ok(bytes)
}
