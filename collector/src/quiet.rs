//! Keeps what an adversary can trigger from filling the log: one line per word and pause.

use std::collections::HashMap;

/// Pause between two lines about the same thing (chosen by hand: six lines a minute can be read).
const PAUSE_MS: u64 = 10_000;

/// When each word was last said, and how often it was not said since.
#[derive(Debug, Default)]
pub(crate) struct Quiet(HashMap<&'static str, (u64, u64)>);

impl Quiet {
    /// Says whether a line about `word` may be written now, and if so how many were left out since
    /// the last.
    pub(crate) fn may_say(&mut self, word: &'static str, now_ms: u64) -> Option<u64> {
        match self.0.get_mut(word) {
            None => {
                self.0.insert(word, (now_ms, 0));
                Some(0)
            }
            Some((said_ms, unsaid)) if now_ms.abs_diff(*said_ms) < PAUSE_MS => {
                *unsaid += 1;
                None
            }
            Some((said_ms, unsaid)) => {
                *said_ms = now_ms;
                Some(std::mem::take(unsaid))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_word_and_pause() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.may_say("a", 0), Some(0));
        assert_eq!(quiet.may_say("a", 1), None);
        assert_eq!(quiet.may_say("b", 1), Some(0));
        assert_eq!(quiet.may_say("a", 9_999), None);
        assert_eq!(quiet.may_say("a", 10_000), Some(2));
    }
}
