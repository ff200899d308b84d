//! The model: a table of n-gram weights, one of facts by length, and one small layer over numbers and
//! the mean of n-gram vectors. Tables are signed bytes with a scale each; the layer is so small that it
//! stays in floats.
//!
//! ```text
//! weights.bin, little-endian
//!  0  "PKDGA001"
//!  8  f32 × 4: bias, scale of n-grams, scale of vectors, scale of facts
//!     i8  × 2^14 × (1 + 4): weight and vector of each slot
//!     i8  × 2,824: facts by length
//!     u8  × 39², u8 × 39³: costs of pairs and triples
//!     f32 × 16 × 28: the layer; f32 × 16: what it counts
//! ```

use std::sync::OnceLock;

use super::features::{CROSSES, Costs, Features, GRAM_BITS, NUMBERS, SYMBOLS};

/// Numbers in the vector of an n-gram.
const VECTOR: usize = 4;
/// What is kept of an n-gram: its weight and its vector.
const GRAM: usize = 1 + VECTOR;
/// Units of the layer.
const UNITS: usize = 16;
/// What each unit reads: the mean vector, the numbers, and a one.
const INPUTS: usize = VECTOR + NUMBERS + 1;
/// What a unit passes of a negative sum.
const LEAK: f32 = 0.05;

const MAGIC: &[u8; 8] = b"PKDGA001";
const SCALARS: usize = 4;
const GRAMS_BYTES: usize = GRAM << GRAM_BITS;
const PAIRS: usize = SYMBOLS * SYMBOLS;
const TRIPLES: usize = PAIRS * SYMBOLS;
const FILE_BYTES: usize =
    MAGIC.len() + 4 * SCALARS + GRAMS_BYTES + CROSSES + PAIRS + TRIPLES + 4 * UNITS * (INPUTS + 1);

/// The shape of the model, for who makes one.
#[derive(Debug, Clone, Copy)]
pub struct Layout;

impl Layout {
    /// Numbers in the vector of an n-gram.
    pub const VECTOR: usize = VECTOR;
    /// Units of the layer.
    pub const UNITS: usize = UNITS;
    /// What each unit reads.
    pub const INPUTS: usize = INPUTS;
    /// What a unit passes of a negative sum.
    pub const LEAK: f32 = LEAK;
    /// Bytes of a file of weights.
    pub const FILE_BYTES: usize = FILE_BYTES;
}

/// A trained model.
#[derive(Debug)]
pub struct Model {
    bias: f32,
    gram_scale: f32,
    vector_scale: f32,
    cross_scale: f32,
    bytes: &'static [u8],
    units: [[f32; INPUTS]; UNITS],
    out: [f32; UNITS],
}

/// A float at `at`, in a file whose length has been checked.
fn float(bytes: &[u8], at: usize) -> f32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    f32::from_le_bytes(word)
}

impl Model {
    /// The one that is shipped.
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<Model> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            Self::read(include_bytes!("weights.bin"))
                .expect("a test reads the file that is compiled in")
        })
    }

    /// Reads a file of weights.
    #[must_use]
    pub fn read(file: &'static [u8]) -> Option<Self> {
        let scalars = file.strip_prefix(MAGIC)?;
        let bytes = scalars.get(4 * SCALARS..)?;
        if file.len() != FILE_BYTES {
            return None;
        }
        let layer = GRAMS_BYTES + CROSSES + PAIRS + TRIPLES;
        let unit = |unit: usize, input: usize| float(bytes, layer + 4 * (unit * INPUTS + input));
        Some(Self {
            bias: float(scalars, 0),
            gram_scale: float(scalars, 4),
            vector_scale: float(scalars, 8),
            cross_scale: float(scalars, 12),
            bytes,
            units: std::array::from_fn(|u| std::array::from_fn(|i| unit(u, i))),
            out: std::array::from_fn(|u| float(bytes, layer + 4 * (UNITS * INPUTS + u))),
        })
    }

    /// What letters cost in names that people chose.
    #[must_use]
    pub fn costs(&self) -> Costs<'static> {
        let costs = &self.bytes[GRAMS_BYTES + CROSSES..];
        Costs {
            pairs: &costs[..PAIRS],
            triples: &costs[PAIRS..PAIRS + TRIPLES],
        }
    }

    /// How much a label in lower case looks generated, from 0 to 1.
    #[must_use]
    pub fn score(&self, label: &str) -> f64 {
        let odds = f64::from(self.log_odds(&Features::of(label, &self.costs())));
        1.0 / (1.0 + (-odds).exp())
    }

    /// The same before it is pressed between 0 and 1.
    #[must_use]
    pub fn log_odds(&self, features: &Features) -> f32 {
        let (mut weight, mut vector) = (0i32, [0i32; VECTOR]);
        for &slot in features.grams() {
            let at = usize::from(slot) * GRAM;
            let gram = &self.bytes[at..at + GRAM];
            weight += i32::from(gram[0].cast_signed());
            for (sum, &byte) in vector.iter_mut().zip(&gram[1..]) {
                *sum += i32::from(byte.cast_signed());
            }
        }
        let crosses = &self.bytes[GRAMS_BYTES..GRAMS_BYTES + CROSSES];
        let facts: i32 = features
            .crosses()
            .iter()
            .map(|&slot| i32::from(crosses[usize::from(slot)].cast_signed()))
            .sum();
        let share = 1.0 / (features.grams().len().max(1) as f32).sqrt();
        let mut inputs = [1.0; INPUTS];
        for (input, sum) in inputs.iter_mut().zip(vector) {
            *input = sum as f32 * self.vector_scale * share;
        }
        inputs[VECTOR..VECTOR + NUMBERS].copy_from_slice(features.numbers());
        let mut odds =
            self.bias + weight as f32 * self.gram_scale * share + facts as f32 * self.cross_scale;
        for (unit, out) in self.units.iter().zip(self.out) {
            let sum: f32 = unit.iter().zip(&inputs).map(|(a, b)| a * b).sum();
            odds += out * if sum > 0.0 { sum } else { LEAK * sum };
        }
        odds
    }
}
