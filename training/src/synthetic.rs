//! Families that nobody wrote: uniform letters, part of the alphabet, digits among letters, hexadecimal,
//! syllables. They teach the model what random means without a word about any family in the wild; without
//! them recall on unseen families halves (`docs/dga-model.md`).

use crate::random::Random;

/// Families, and names of each.
const FAMILIES: usize = 1_200;
const NAMES: usize = 100;
/// Shortest and longest of the shortest names of a family.
const LENGTHS: (usize, usize) = (5, 18);
const VOWELS: &[u8] = b"aeiou";
const CONSONANTS: &[u8] = b"bcdfghjklmnpqrstvwxyz";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const LETTERS_AND_DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const DIGITS: &[u8] = b"0123456789";

/// How a family makes its names.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Uniform,
    PartOfAlphabet,
    SomeDigits,
    LettersAndDigits,
    Syllables,
    SomeVowels,
}

/// Kinds, in the shares that their families have.
const KINDS: &[Kind] = &[
    Kind::Uniform,
    Kind::Uniform,
    Kind::Uniform,
    Kind::Uniform,
    Kind::PartOfAlphabet,
    Kind::PartOfAlphabet,
    Kind::SomeDigits,
    Kind::LettersAndDigits,
    Kind::Syllables,
    Kind::SomeVowels,
];

/// Names of all of them.
pub(crate) fn names() -> Vec<String> {
    let mut random = Random(7);
    let mut names = Vec::with_capacity(FAMILIES * NAMES);
    for family in 0..FAMILIES {
        let kind = KINDS[family % KINDS.len()];
        let shortest = random.between(LENGTHS.0, LENGTHS.1);
        let spread = [0, random.below(4), random.below(12)];
        let longest = shortest + random.one(&spread);
        let mut part = LETTERS.to_vec();
        random.shuffle(&mut part);
        part.truncate(random.between(9, 25));
        let mut consonants = CONSONANTS.to_vec();
        random.shuffle(&mut consonants);
        consonants.truncate(random.between(8, CONSONANTS.len()));
        let vowels = &VOWELS[..random.between(3, VOWELS.len())];
        let (digits, noise) = (0.05 + 0.5 * random.share(), 0.25 * random.share());
        for _ in 0..NAMES {
            let length = random.between(shortest, longest);
            let starts = random.below(2);
            let name: String = (0..length)
                .map(|at| {
                    char::from(match kind {
                        Kind::Uniform => random.one(LETTERS),
                        Kind::PartOfAlphabet => random.one(&part),
                        Kind::SomeDigits if random.share() < digits => random.one(DIGITS),
                        Kind::SomeDigits => random.one(LETTERS),
                        Kind::LettersAndDigits => random.one(LETTERS_AND_DIGITS),
                        Kind::Syllables => {
                            let is_vowel = (at + starts).is_multiple_of(2);
                            let is_odd = random.share() < noise;
                            random.one(if is_vowel == is_odd {
                                &consonants
                            } else {
                                vowels
                            })
                        }
                        Kind::SomeVowels if random.share() < 0.3 => random.one(VOWELS),
                        Kind::SomeVowels => random.one(CONSONANTS),
                    })
                })
                .collect();
            names.push(name);
        }
    }
    names
}
