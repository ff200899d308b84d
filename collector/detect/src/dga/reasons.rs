//! Why a label looks generated, in words with the numbers of that label.

use super::features::{Counts, symbols};
use super::model::Model;

/// Below this nothing is said: most names lie below a hundredth of it.
const TOLD_FROM: f64 = 0.5;
/// Bits a letter from which on letters stand oddly beside each other: names of the popularity lists
/// have 3.8 on average, random letters 5.5 and more (measured).
const BITS_ODD: f32 = 4.8;
/// Consonants in a row that words rarely have: four in `worldstar`, five in `knightsbridge`.
const CONSONANTS_ODD: usize = 5;
/// Characters without a hyphen from which on a name is long: one in fifty of the popularity lists.
const LENGTH_ODD: usize = 19;

pub(super) fn reasons(label: &str, dga: f64, model: &Model) -> Vec<String> {
    if dga < TOLD_FROM {
        return Vec::new();
    }
    let counts = Counts::of(label);
    let [_, surprise] = model.costs().surprise(&symbols(label));
    let mut reasons = Vec::new();
    if surprise.mean >= BITS_ODD {
        reasons.push(format!(
            "letters follow each other as in no word: {:.1} bits each, {} of them a surprise",
            surprise.mean, surprise.surprises
        ));
    }
    if counts.is_hexadecimal && counts.digits > 0 && counts.length >= 8 {
        reasons.push(format!(
            "{} hexadecimal digits and nothing else",
            counts.length
        ));
    } else if counts.switches >= 3 {
        reasons.push(format!(
            "digits amid letters: {} digits, {} changes",
            counts.digits, counts.switches
        ));
    }
    if counts.consonant_run >= CONSONANTS_ODD {
        reasons.push(format!("{} consonants in a row", counts.consonant_run));
    }
    if counts.vowels == 0 && counts.length - counts.digits - counts.hyphens >= 5 {
        reasons.push("no vowel".to_owned());
    }
    if counts.length >= LENGTH_ODD && counts.hyphens == 0 {
        reasons.push(format!("{} characters without a pause", counts.length));
    }
    if reasons.is_empty() {
        reasons.push(format!(
            "its {} characters go together as in generated names ({:.1} bits each)",
            counts.length, surprise.mean
        ));
    }
    reasons
}
