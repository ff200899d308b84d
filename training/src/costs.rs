//! What letters cost in names that people chose: n-gram counts, smoothed as Witten and Bell do (1991), in
//! sixteenths of a bit.

use picket_detect::dga::features::{COST_STEPS, Costs, SYMBOLS, symbols};

const PAIRS: usize = SYMBOLS * SYMBOLS;

/// Costs of pairs and triples.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pairs: Vec<u8>,
    triples: Vec<u8>,
}

impl Table {
    /// Of some labels.
    pub(crate) fn of<'a>(labels: impl Iterator<Item = &'a str>) -> Self {
        let mut ones = vec![0u32; SYMBOLS];
        let mut twos = vec![0u32; PAIRS];
        let mut threes = vec![0u32; PAIRS * SYMBOLS];
        for label in labels {
            let symbols: Vec<usize> = symbols(label).into_iter().map(usize::from).collect();
            for (at, pair) in symbols.windows(2).enumerate() {
                ones[pair[1]] += 1;
                twos[pair[0] * SYMBOLS + pair[1]] += 1;
                if at > 0 {
                    threes[symbols[at - 1] * PAIRS + pair[0] * SYMBOLS + pair[1]] += 1;
                }
            }
        }
        let one = smoothed(&ones, |_| 1.0 / SYMBOLS as f32);
        let two = smoothed(&twos, |at| one[at % SYMBOLS]);
        let three = smoothed(&threes, |at| two[at % PAIRS]);
        Self {
            pairs: costs(&two),
            triples: costs(&three),
        }
    }

    pub(crate) fn costs(&self) -> Costs<'_> {
        Costs {
            pairs: &self.pairs,
            triples: &self.triples,
        }
    }

    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.pairs.iter().chain(&self.triples).copied()
    }
}

/// Shares of each row of [`SYMBOLS`] counts, mixed with a simpler guess by how many symbols were seen.
fn smoothed(counts: &[u32], simpler: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut shares = Vec::with_capacity(counts.len());
    for (row, counts) in counts.chunks(SYMBOLS).enumerate() {
        let total: u32 = counts.iter().sum();
        let kinds = counts.iter().filter(|count| **count > 0).count() as f32;
        let trust = if total == 0 {
            0.0
        } else {
            total as f32 / (total as f32 + kinds)
        };
        for (symbol, &count) in counts.iter().enumerate() {
            let seen = count as f32 / total.max(1) as f32;
            shares.push(trust * seen + (1.0 - trust) * simpler(row * SYMBOLS + symbol));
        }
    }
    shares
}

fn costs(shares: &[f32]) -> Vec<u8> {
    let cost = |share: &f32| {
        (-share.max(1e-9).log2() * COST_STEPS)
            .round()
            .clamp(0.0, 255.0) as u8
    };
    shares.iter().map(cost).collect()
}
