//! The form of an operator's token.
//!
//! ```text
//! pot_<16 hex digits>_<64 hex digits>
//!      id              secret, 32 random bytes
//! ```
//!
//! What is kept is an HMAC under the secret, which says nothing about it: the secret is random in full.
//! It is compared in a time that does not tell where it differs.

use anyhow::{Context as _, bail};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// What every token begins with, so that one can be told from other secrets, in logs and repositories.
const PREFIX: &str = "pot_";

const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// What the HMAC is of.
const MEANING: &[u8] = b"picket operator token";

/// A token that was made.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) hash: Vec<u8>,
    /// The token itself, which is shown once.
    pub(super) text: String,
}

/// Makes one.
pub(super) fn make() -> anyhow::Result<Made> {
    let mut random = [0; ID_BYTES + SECRET_BYTES];
    if SystemRandom::new().fill(&mut random).is_err() {
        bail!("the system gives no random bytes");
    }
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (id, secret) = random
        .split_first_chunk::<ID_BYTES>()
        .context("enough bytes")?;
    let (id, secret) = (hex(id), hex(secret));
    let hash = hmac::sign(&key(&secret), MEANING).as_ref().to_vec();
    Ok(Made {
        text: format!("{PREFIX}{id}_{secret}"),
        id,
        hash,
    })
}

/// The id and the secret of what somebody shows, if it has the form of a token.
pub(super) fn parts(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES)).then_some((id, secret))
}

/// Whether the secret is the one that is kept.
pub(super) fn fits(secret: &str, hash: &[u8]) -> bool {
    hmac::verify(&key(secret), MEANING, hash).is_ok()
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_its_own_hash_alone() {
        let (one, other) = (make().unwrap(), make().unwrap());
        let (id, secret) = parts(&one.text).unwrap();
        assert_eq!(id, one.id);
        assert!(fits(secret, &one.hash));
        assert!(!fits(secret, &other.hash));
        assert!(!fits(secret, &[]));
        let last = secret.len() - 1;
        let changed = if secret.ends_with('0') { "1" } else { "0" };
        assert!(!fits(&format!("{}{changed}", &secret[..last]), &one.hash));
        let kept = String::from_utf8_lossy(&one.hash).into_owned();
        assert!(!kept.contains(secret));
    }

    #[test]
    fn what_has_not_the_form_is_none() {
        let whole = make().unwrap().text;
        for text in [
            "",
            "pot_",
            "pot__",
            "pjt_0123456789abcdef_00",
            &whole[1..],
            &whole[..whole.len() - 1],
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
        assert_eq!(parts(&format!("{whole}0")), None);
        assert_eq!(parts(&whole.replace("pot_", "pot_é")), None);
    }
}
