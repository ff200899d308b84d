//! Training: logistic loss, AdaGrad (Duchi, Hazan, Singer 2011), one name at a time, one thread.

use picket_detect::dga::Layout;
use picket_detect::dga::features::{CROSSES, Features, GRAM_BITS, NUMBERS};

use crate::costs::Table;
use crate::measure::{Read, part_of};
use crate::random::Random;

const VECTOR: usize = Layout::VECTOR;
const UNITS: usize = Layout::UNITS;
const INPUTS: usize = Layout::INPUTS;
/// Times that every name is seen.
const EPOCHS: usize = 3;
/// First step; the last is a twentieth of it.
const STEP: f32 = 0.04;
/// What all families together weigh, and all synthetic ones; a name that people chose weighs 1.
const FAMILIES_WEIGH: f32 = 50_000.0;
const SYNTHETIC_WEIGH: f32 = 500_000.0;
/// What a family of words weighs, beside one of random letters: it is hard to tell from what people chose.
const WORDS_WEIGH: f32 = 0.3;
/// Most that one name may weigh.
const NAME_WEIGHS_MAX: f32 = 20.0;
/// Share of the popularity lists that is left out after a first training: names in them that look
/// generated mostly are (advertising and malware reach those lists too).
const DOUBTED: f32 = 0.003;
/// One name in so many of the popularity lists is kept out of training, to judge by.
pub(crate) const KEPT_OUT: usize = 10;

/// A value that is learned, and what its steps have been.
#[derive(Debug, Clone)]
struct Learned {
    values: Vec<f32>,
    squares: Vec<f32>,
}

impl Learned {
    fn new(values: Vec<f32>, squares: f32) -> Self {
        Self {
            squares: vec![squares; values.len()],
            values,
        }
    }

    fn step(&mut self, at: usize, gradient: f32, rate: f32) {
        self.squares[at] += gradient * gradient;
        self.values[at] -= rate * gradient / self.squares[at].sqrt();
    }
}

/// A model in training.
#[derive(Debug, Clone)]
pub(crate) struct Trained {
    bias: f32,
    weights: Learned,
    vectors: Learned,
    crosses: Learned,
    units: Learned,
    out: Learned,
}

/// What a label gave on its way through.
struct Pass {
    share: f32,
    inputs: [f32; INPUTS],
    active: [f32; UNITS],
    odds: f32,
}

/// Trains on all but the families of one part, if any.
pub(crate) fn train(read: &Read, left_out: Option<(usize, usize)>) -> Trained {
    let mut random = Random(100 + left_out.map_or(99, |(part, _)| part as u64));
    let mut trained = Trained::new(&mut random);
    let kept = |at: usize| at % KEPT_OUT == 3;
    let mut doubted = vec![false; read.open.len()];
    for pass in 0..2 {
        if pass == 1 {
            let mut odds: Vec<(f32, usize)> = read
                .open
                .iter()
                .enumerate()
                .map(|(at, features)| (trained.odds(features), at))
                .collect();
            odds.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (_, at) in odds.iter().take((DOUBTED * odds.len() as f32) as usize) {
                doubted[*at] = true;
            }
            trained = Trained::new(&mut random);
        }
        let open = read.open.iter().enumerate();
        let mut all: Vec<(&Features, f32, f32)> = open
            .filter(|(at, _)| !kept(*at) && !doubted[*at])
            .map(|(_, features)| (features, 0.0, 1.0))
            .collect();
        all.extend(families(read, left_out));
        let each = SYNTHETIC_WEIGH / read.synthetic.len() as f32;
        all.extend(read.synthetic.iter().map(|features| (features, 1.0, each)));
        trained.learn(&mut all, &mut random);
    }
    trained
}

/// Names of the families, each family weighing the root of its size.
fn families(
    read: &Read,
    left_out: Option<(usize, usize)>,
) -> impl Iterator<Item = (&Features, f32, f32)> {
    let seen =
        move |at: usize| left_out.is_none_or(|(part, parts)| part_of(read, at, parts) != part);
    let sizes = read.families.iter().enumerate().filter(|(at, _)| seen(*at));
    let total: f32 = sizes
        .map(|(_, family)| (family.labels.len() as f32).sqrt())
        .sum();
    let families = read
        .families
        .iter()
        .enumerate()
        .filter(move |(at, _)| seen(*at));
    families.flat_map(move |(_, family)| {
        let size = family.labels.len() as f32;
        let weigh = if family.is_words { WORDS_WEIGH } else { 1.0 };
        let each = size.sqrt() / total * FAMILIES_WEIGH / size * weigh;
        let each = each.min(NAME_WEIGHS_MAX);
        family
            .labels
            .iter()
            .map(move |features| (features, 1.0, each))
    })
}

impl Trained {
    fn new(random: &mut Random) -> Self {
        let slots = 1usize << GRAM_BITS;
        let mut noise = |count: usize, most: f32| -> Vec<f32> {
            (0..count)
                .map(|_| (random.share() * 2.0 - 1.0) * most)
                .collect()
        };
        Self {
            bias: 0.0,
            weights: Learned::new(vec![0.0; slots], 0.1),
            vectors: Learned::new(noise(slots * VECTOR, 0.1), 0.1),
            crosses: Learned::new(vec![0.0; CROSSES], 0.1),
            units: Learned::new(noise(UNITS * INPUTS, (2.0 / INPUTS as f32).sqrt()), 1.0),
            out: Learned::new(noise(UNITS, 0.3), 1.0),
        }
    }

    fn learn(&mut self, all: &mut [(&Features, f32, f32)], random: &mut Random) {
        let total = (EPOCHS * all.len()) as f32;
        let mut done = 0usize;
        for _ in 0..EPOCHS {
            random.shuffle(all);
            for (features, is_generated, weighs) in all.iter() {
                let rate = STEP * (1.0 - 0.95 * done as f32 / total);
                self.step(features, *is_generated, *weighs, rate);
                done += 1;
            }
        }
    }

    fn pass(&self, features: &Features) -> Pass {
        let share = 1.0 / (features.grams().len().max(1) as f32).sqrt();
        let mut inputs = [0.0; INPUTS];
        let mut weight = 0.0;
        for &slot in features.grams() {
            let slot = usize::from(slot);
            weight += self.weights.values[slot];
            let vector = &self.vectors.values[slot * VECTOR..(slot + 1) * VECTOR];
            for (input, value) in inputs.iter_mut().zip(vector) {
                *input += value * share;
            }
        }
        inputs[VECTOR..VECTOR + NUMBERS].copy_from_slice(features.numbers());
        inputs[INPUTS - 1] = 1.0;
        let facts = features.crosses().iter();
        let facts: f32 = facts
            .map(|&slot| self.crosses.values[usize::from(slot)])
            .sum();
        let mut odds = self.bias + weight * share + facts;
        let mut active = [0.0; UNITS];
        for (unit, active) in active.iter_mut().enumerate() {
            let row = &self.units.values[unit * INPUTS..(unit + 1) * INPUTS];
            let sum: f32 = row.iter().zip(&inputs).map(|(a, b)| a * b).sum();
            *active = if sum > 0.0 { sum } else { Layout::LEAK * sum };
            odds += *active * self.out.values[unit];
        }
        Pass {
            share,
            inputs,
            active,
            odds,
        }
    }

    /// Log odds that a name is generated, before tables are rounded to bytes.
    pub(crate) fn odds(&self, features: &Features) -> f32 {
        self.pass(features).odds
    }

    fn step(&mut self, features: &Features, is_generated: f32, weighs: f32, rate: f32) {
        // Shares of the step that the bias, the layer and the vectors take. Chosen by hand.
        const BIAS: f32 = 0.02;
        const LAYER: f32 = 0.3;
        const VECTORS: f32 = 0.5;
        let pass = self.pass(features);
        let error = (1.0 / (1.0 + (-pass.odds).exp()) - is_generated) * weighs;
        let mut back = [0.0; INPUTS];
        for (unit, &active) in pass.active.iter().enumerate() {
            let slope = if active > 0.0 { 1.0 } else { Layout::LEAK };
            let inner = error * self.out.values[unit] * slope;
            self.out.step(unit, error * active, rate * LAYER);
            for (input, (back, value)) in back.iter_mut().zip(&pass.inputs).enumerate() {
                let at = unit * INPUTS + input;
                *back += inner * self.units.values[at];
                self.units.step(at, inner * value, rate * LAYER);
            }
        }
        self.bias -= rate * BIAS * error;
        for &slot in features.crosses() {
            self.crosses.step(usize::from(slot), error, rate);
        }
        for &slot in features.grams() {
            let slot = usize::from(slot);
            self.weights.step(slot, error * pass.share, rate);
            for (at, back) in back.iter().take(VECTOR).enumerate() {
                let gradient = back * pass.share;
                self.vectors
                    .step(slot * VECTOR + at, gradient, rate * VECTORS);
            }
        }
    }

    /// Multiplies all log odds.
    pub(crate) fn stretch(&mut self, by: f32) {
        self.bias *= by;
        let tables = [&mut self.weights, &mut self.crosses, &mut self.out];
        for value in tables.into_iter().flat_map(|table| &mut table.values) {
            *value *= by;
        }
    }

    /// The file of weights, in the layout that `dga/model.rs` draws.
    pub(crate) fn bytes(&self, costs: &Table) -> Vec<u8> {
        let (weights, weight_scale) = rounded(&self.weights.values);
        let (vectors, vector_scale) = rounded(&self.vectors.values);
        let (crosses, cross_scale) = rounded(&self.crosses.values);
        let mut bytes = b"PKDGA001".to_vec();
        for scalar in [self.bias, weight_scale, vector_scale, cross_scale] {
            bytes.extend(scalar.to_le_bytes());
        }
        for (weight, vector) in weights.iter().zip(vectors.chunks(VECTOR)) {
            bytes.push(weight.cast_unsigned());
            bytes.extend(vector.iter().map(|value| value.cast_unsigned()));
        }
        bytes.extend(crosses.iter().map(|value| value.cast_unsigned()));
        bytes.extend(costs.bytes());
        for value in self.units.values.iter().chain(&self.out.values) {
            bytes.extend(value.to_le_bytes());
        }
        assert_eq!(
            bytes.len(),
            Layout::FILE_BYTES,
            "the layout of dga/model.rs"
        );
        bytes
    }
}

/// Values as signed bytes and what one of them is worth. The few largest are cut.
fn rounded(values: &[f32]) -> (Vec<i8>, f32) {
    const CUT: f32 = 0.0002;
    let mut sizes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    let kept = sizes.len() - 1 - (CUT * sizes.len() as f32) as usize;
    let scale = (sizes[kept] / 127.0).max(f32::MIN_POSITIVE);
    let round = |value: &f32| (value / scale).round().clamp(-127.0, 127.0) as i8;
    (values.iter().map(round).collect(), scale)
}
