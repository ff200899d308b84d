//! What the model sees of a label. The trainer and the scorer read labels by this alone, so that what was
//! learned is what is asked.
//!
//! Three kinds: n-grams (of letters, and of what kind the letters are), hashed into one table; facts that
//! are looked up together with the length (an eight-letter name with one vowel is odd, a three-letter one
//! is not); and plain numbers. Among the latter is how many bits each letter costs after those before it,
//! in names that people chose: it needs no example of a generated name and so holds for families never seen.

/// Letters, digits, hyphen, anything else, and the edge of the label.
pub const SYMBOLS: usize = 39;
/// Log2 of the slots that n-grams are hashed into.
pub const GRAM_BITS: u32 = 14;
/// Slots of facts that are looked up with the length.
pub const CROSSES: usize = 2_824;
/// Plain numbers.
pub const NUMBERS: usize = 23;
/// Facts of one label that are looked up with its length.
const CROSSES_OF_LABEL: usize = 10;
/// Longest n-gram of letters.
const GRAM_LETTERS_MAX: usize = 4;
/// Lengths of n-grams of kinds.
const GRAM_KINDS: [usize; 2] = [3, 5];
/// Most bytes of a label (RFC 1035 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// Most n-grams: of four lengths and two, at each symbol and both edges.
const GRAMS_MAX: usize = (LABEL_BYTES_MAX + 2) * (GRAM_LETTERS_MAX + GRAM_KINDS.len());
/// Parts of a bit in which costs are told.
pub const COST_STEPS: f32 = 16.0;
/// Bits from which on a letter is a surprise.
const SURPRISE_BITS: f32 = 7.0;

/// What a symbol costs after the one or the two before it, in sixteenths of a bit.
#[derive(Debug, Clone, Copy)]
pub struct Costs<'a> {
    /// By the symbol before and the symbol: `before * SYMBOLS + symbol`.
    pub pairs: &'a [u8],
    /// By the two before, likewise.
    pub triples: &'a [u8],
}

/// What the model sees of one label.
#[derive(Debug, Clone)]
pub struct Features {
    grams: [u16; GRAMS_MAX],
    grams_len: usize,
    crosses: [u16; CROSSES_OF_LABEL],
    numbers: [f32; NUMBERS],
}

/// What is counted in a label, for features and for reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Characters.
    pub length: usize,
    /// Digits.
    pub digits: usize,
    /// a, e, i, o, u.
    pub vowels: usize,
    /// Hyphens.
    pub hyphens: usize,
    /// Most consonants in a row, y among them.
    pub consonant_run: usize,
    /// Most vowels in a row.
    pub vowel_run: usize,
    /// Most digits in a row.
    pub digit_run: usize,
    /// Different characters.
    pub distinct: usize,
    /// Changes between digits and others.
    pub switches: usize,
    /// Characters that are as the one before.
    pub repeats: usize,
    /// Whether there are only hexadecimal digits.
    pub is_hexadecimal: bool,
}

/// Kinds of symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Edge = 0,
    Vowel = 1,
    Y = 2,
    Consonant = 3,
    Digit = 4,
    Hyphen = 5,
    Other = 6,
}

fn kind(byte: u8) -> Kind {
    match byte {
        b'a' | b'e' | b'i' | b'o' | b'u' => Kind::Vowel,
        b'y' => Kind::Y,
        b'a'..=b'z' => Kind::Consonant,
        b'0'..=b'9' => Kind::Digit,
        b'-' => Kind::Hyphen,
        _ => Kind::Other,
    }
}

fn symbol(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => byte - b'a' + 1,
        b'0'..=b'9' => byte - b'0' + 27,
        b'-' => 37,
        _ => 38,
    }
}

/// The symbols of a label between its two edges, the edge being 0.
#[must_use]
pub fn symbols(label: &str) -> Vec<u8> {
    let inner = label.bytes().take(LABEL_BYTES_MAX).map(symbol);
    std::iter::once(0)
        .chain(inner)
        .chain(std::iter::once(0))
        .collect()
}

impl Counts {
    /// Counts in one pass.
    #[must_use]
    pub fn of(label: &str) -> Self {
        let bytes = &label.as_bytes()[..label.len().min(LABEL_BYTES_MAX)];
        let mut counts = Self {
            length: bytes.len(),
            is_hexadecimal: true,
            ..Self::default()
        };
        let (mut consonants, mut vowels, mut digits) = (0, 0, 0);
        let mut seen = 0u64;
        let mut before = None;
        for &byte in bytes {
            let kind = kind(byte);
            seen |= 1 << symbol(byte);
            let is_digit = kind == Kind::Digit;
            consonants = if matches!(kind, Kind::Consonant | Kind::Y) {
                consonants + 1
            } else {
                0
            };
            vowels = if kind == Kind::Vowel { vowels + 1 } else { 0 };
            digits = if is_digit { digits + 1 } else { 0 };
            counts.consonant_run = counts.consonant_run.max(consonants);
            counts.vowel_run = counts.vowel_run.max(vowels);
            counts.digit_run = counts.digit_run.max(digits);
            counts.digits += usize::from(is_digit);
            counts.vowels += usize::from(kind == Kind::Vowel);
            counts.hyphens += usize::from(kind == Kind::Hyphen);
            counts.is_hexadecimal &= is_digit || (b'a'..=b'f').contains(&byte);
            if let Some(before) = before {
                counts.switches += usize::from((self::kind(before) == Kind::Digit) != is_digit);
                counts.repeats += usize::from(before == byte);
            }
            before = Some(byte);
        }
        counts.distinct = seen.count_ones() as usize;
        counts
    }
}

/// What the letters of a label cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surprise {
    /// Bits of all symbols and the edge after them.
    pub total: f32,
    /// Bits per symbol.
    pub mean: f32,
    /// The dearest three in a row.
    pub most: f32,
    /// The cheapest three in a row.
    pub least: f32,
    /// Symbols of more than [`SURPRISE_BITS`].
    pub surprises: usize,
}

impl Surprise {
    fn of(count: usize, cost: impl Fn(usize) -> u8) -> Self {
        let (mut total, mut surprises) = (0u32, 0);
        let (mut most, mut least) = (0u32, u32::MAX);
        let (mut last, mut before_last) = (0u32, 0u32);
        for at in 0..count {
            let bits = u32::from(cost(at));
            total += bits;
            surprises += usize::from(bits as f32 > SURPRISE_BITS * COST_STEPS);
            if at >= 2 {
                let three = bits + last + before_last;
                most = most.max(three);
                least = least.min(three);
            }
            (before_last, last) = (last, bits);
        }
        // A label of one symbol has no three in a row.
        let (most, least) = if least == u32::MAX {
            (total, total)
        } else {
            (most, least)
        };
        Self {
            total: total as f32 / COST_STEPS,
            mean: total as f32 / COST_STEPS / count.max(1) as f32,
            most: most as f32 / COST_STEPS,
            least: least as f32 / COST_STEPS,
            surprises,
        }
    }
}

impl Costs<'_> {
    /// By pairs, and by triples, of symbols between two edges.
    #[must_use]
    pub fn surprise(&self, symbols: &[u8]) -> [Surprise; 2] {
        let steps = symbols.len().saturating_sub(1);
        let pair = |at: usize| usize::from(symbols[at]) * SYMBOLS + usize::from(symbols[at + 1]);
        let by_pair = |at: usize| self.pairs[pair(at)];
        let by_triple = |at: usize| match at {
            0 => self.pairs[pair(0)],
            _ => self.triples[usize::from(symbols[at - 1]) * SYMBOLS * SYMBOLS + pair(at)],
        };
        [Surprise::of(steps, by_pair), Surprise::of(steps, by_triple)]
    }
}

/// The slot of an n-gram: the upper bits of a product (Knuth's multiplicative hashing).
fn slot(gram: u64) -> u16 {
    (gram.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - GRAM_BITS)) as u16
}

impl Features {
    /// Reads a label in lower case; what is beyond 63 bytes is not looked at.
    #[must_use]
    pub fn of(label: &str, costs: &Costs<'_>) -> Self {
        let bytes = &label.as_bytes()[..label.len().min(LABEL_BYTES_MAX)];
        let mut inside = [0u8; LABEL_BYTES_MAX + 2];
        let mut kinds = [Kind::Edge as u8; LABEL_BYTES_MAX + 2];
        for (at, &byte) in bytes.iter().enumerate() {
            inside[at + 1] = symbol(byte);
            kinds[at + 1] = kind(byte) as u8;
        }
        let (symbols, kinds) = (&inside[..bytes.len() + 2], &kinds[..bytes.len() + 2]);
        let mut features = Self {
            grams: [0; GRAMS_MAX],
            grams_len: 0,
            crosses: [0; CROSSES_OF_LABEL],
            numbers: [0.0; NUMBERS],
        };
        features.read_grams(symbols, kinds);
        let counts = Counts::of(label);
        let surprise = costs.surprise(symbols);
        features.read_crosses(&counts, &surprise);
        features.read_numbers(&counts, &surprise);
        features
    }

    /// Slots of its n-grams.
    #[must_use]
    pub fn grams(&self) -> &[u16] {
        &self.grams[..self.grams_len]
    }

    /// Slots of what is looked up with the length.
    #[must_use]
    pub fn crosses(&self) -> &[u16] {
        &self.crosses
    }

    /// Plain numbers, most of them between -2 and 2.
    #[must_use]
    pub fn numbers(&self) -> &[f32; NUMBERS] {
        &self.numbers
    }

    fn read_grams(&mut self, symbols: &[u8], kinds: &[u8]) {
        for at in 0..symbols.len() {
            let mut gram = 0u64;
            for (length, &symbol) in (1u64..).zip(symbols[at..].iter().take(GRAM_LETTERS_MAX)) {
                gram = gram << 6 | u64::from(symbol);
                if length > 1 || symbol > 0 {
                    self.put(gram << 3 | length);
                }
            }
        }
        const OF_KINDS: u64 = 1 << 60;
        for length in GRAM_KINDS {
            for kinds in kinds.windows(length) {
                let gram = kinds
                    .iter()
                    .fold(0, |gram, &kind| gram << 3 | u64::from(kind));
                self.put(gram << 3 | length as u64 | OF_KINDS);
            }
        }
    }

    fn put(&mut self, gram: u64) {
        self.grams[self.grams_len] = slot(gram);
        self.grams_len += 1;
    }

    fn read_crosses(&mut self, counts: &Counts, surprise: &[Surprise; 2]) {
        let length = counts.length.min(31);
        let cost = |at: usize| {
            let quarter = (surprise[at].mean * 4.0) as usize;
            1_800 + at * 512 + length / 2 * 32 + quarter.min(31)
        };
        let slots = [
            length,
            32 + length * 8 + counts.vowels.min(7),
            300 + length * 8 + counts.consonant_run.min(7),
            600 + length * 8 + counts.digits.min(7),
            900 + length * 16 + counts.distinct.min(15),
            1_500 + counts.switches.min(7) * 8 + counts.digits.min(7),
            1_600 + counts.hyphens.min(3) * 32 + length,
            1_750 + if counts.is_hexadecimal { length } else { 0 },
            cost(0),
            cost(1),
        ];
        self.crosses = slots.map(|slot| slot as u16);
    }

    fn read_numbers(&mut self, counts: &Counts, surprise: &[Surprise; 2]) {
        let length = counts.length.max(1) as f32;
        let of = |count: usize, by: f32| count as f32 / by;
        let letters = (counts.length - counts.digits - counts.hyphens).max(1) as f32;
        let [pairs, triples] = surprise.map(|bits| {
            [
                (4.0 - bits.mean) / 2.0,
                (40.0 - bits.total) / 40.0,
                (20.0 - bits.most) / 10.0,
                (8.0 - bits.least) / 5.0,
                bits.surprises as f32 / 4.0,
            ]
        });
        let [p0, p1, p2, p3, p4] = pairs;
        let [t0, t1, t2, t3, t4] = triples;
        self.numbers = [
            length / 16.0,
            (length + 1.0).sqrt() / 4.0,
            of(counts.digits, length) * 2.0,
            of(counts.vowels, letters) * 2.0,
            of(counts.consonant_run, 4.0),
            of(counts.vowel_run, 2.0),
            of(counts.digit_run, 4.0),
            of(counts.distinct, length),
            of(counts.switches, 3.0),
            of(counts.hyphens, 1.0),
            f32::from(u8::from(counts.is_hexadecimal)),
            of(counts.repeats, 2.0),
            of(counts.distinct, 12.0),
            p0,
            p1,
            p2,
            p3,
            p4,
            t0,
            t1,
            t2,
            t3,
            t4,
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_stands_there() {
        let counts = Counts::of("ab12-xyz0oo");
        assert_eq!(
            (
                counts.length,
                counts.digits,
                counts.vowels,
                counts.hyphens,
                counts.switches
            ),
            (11, 3, 3, 1, 4)
        );
        assert_eq!(
            (
                counts.consonant_run,
                counts.vowel_run,
                counts.digit_run,
                counts.repeats
            ),
            (3, 2, 2, 1)
        );
        assert!(!counts.is_hexadecimal && Counts::of("00ff").is_hexadecimal);
    }

    #[test]
    fn any_label_fits() {
        let costs = Costs {
            pairs: &[255; SYMBOLS * SYMBOLS],
            triples: &[255; SYMBOLS * SYMBOLS * SYMBOLS],
        };
        let long = "z".repeat(300);
        for label in [
            "",
            "a",
            "0",
            "--",
            "\\000",
            "ä",
            &long,
            &"9".repeat(63),
            &"a-0".repeat(21),
        ] {
            let features = Features::of(label, &costs);
            assert!(
                features
                    .grams()
                    .iter()
                    .all(|slot| u32::from(*slot) < 1 << GRAM_BITS)
            );
            assert!(
                features
                    .crosses()
                    .iter()
                    .all(|slot| usize::from(*slot) < CROSSES),
                "{label}"
            );
            assert!(
                features.numbers().iter().all(|number| number.is_finite()),
                "{label}"
            );
        }
        assert_eq!(
            Features::of(&long, &costs).grams(),
            Features::of(&long[..63], &costs).grams()
        );
    }
}
