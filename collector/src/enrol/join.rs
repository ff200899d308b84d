//! Join tokens: made, taken apart, compared.
//!
//! ```text
//! pjt_<8 hex digits>_<64 hex digits>
//!      id             secret, 32 random bytes
//! ```
//!
//! The secret is random in full, so its plain hash gives nothing away.

use anyhow::{Context as _, bail};
use picket_wire::Digest;
use ring::rand::{SecureRandom, SystemRandom};

use crate::store::join_tokens::{JoinToken, Scope};

/// What every join token begins with, so that one can be told from other secrets.
const PREFIX: &str = "pjt_";

const SECRET_BYTES: usize = 32;

/// Tokens kept at once, used up and ended ones included (chosen by hand: one per host of a batch).
pub(crate) const TOKENS_MAX: u64 = 10_000;

/// Hosts that one token may be for, at most.
pub(crate) const USES_MAX: u64 = 100_000;

/// Longest a token may be good for: 90 days.
pub(crate) const LIFE_S_MAX: u64 = 90 * 86_400;

/// A new token, and the text that is shown once.
pub(crate) fn make(
    label: String,
    scope: Scope,
    uses_max: u64,
    now_ms: u64,
    expires_ms: u64,
) -> anyhow::Result<(JoinToken, String)> {
    let mut random = [0; 4 + SECRET_BYTES];
    if SystemRandom::new().fill(&mut random).is_err() {
        bail!("the system gives no random bytes");
    }
    let (id, secret) = random.split_first_chunk::<4>().context("enough bytes")?;
    let id = format!("{:08x}", u32::from_be_bytes(*id));
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = JoinToken {
        id: id.clone(),
        hash: Digest::of(secret.as_bytes()).0,
        label,
        scope,
        created_ms: now_ms,
        expires_ms,
        uses_max,
        uses: 0,
        is_revoked: false,
    };
    Ok((token, format!("{PREFIX}{id}_{secret}")))
}

/// The id and the hash of a token that somebody shows.
pub(super) fn take_apart(text: &str) -> Option<(&str, [u8; 32])> {
    let (id, secret) = text.trim().strip_prefix(PREFIX)?.split_once('_')?;
    Some((id, Digest::of(secret.as_bytes()).0))
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub(super) fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_text_alone() {
        let make = || make("x".into(), Scope::default(), 1, 5, 9).unwrap();
        let (token, text) = make();
        let (id, hash) = take_apart(&text).unwrap();
        assert_eq!(id, token.id);
        assert!(is_same(&hash, &token.hash));
        let (_, other) = make();
        assert!(!is_same(&take_apart(&other).unwrap().1, &token.hash));
        let mut changed = text.clone();
        changed.pop();
        assert!(!is_same(&take_apart(&changed).unwrap().1, &token.hash));
        for none in ["", "pjt_", "pjt_12", "pat_12_34"] {
            assert_eq!(take_apart(none), None, "{none}");
        }
        assert_eq!(take_apart(&format!("{text}\n")), take_apart(&text));
    }
}
