//! Identifiers on the wire: fixed-size byte strings, written as lower-case hex.

use std::fmt;
use std::str::FromStr;

use ring::digest;

/// Why a text is not an identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// Wrong number of characters.
    #[error("{len} characters, {needed} hex digits needed")]
    Length {
        /// Characters found.
        len: usize,
        /// Characters needed.
        needed: usize,
    },
    /// A character that is not a hex digit.
    #[error("character {at} is not a hex digit")]
    NotHex {
        /// Its place, counted from 0.
        at: usize,
    },
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    if text.len() != 2 * N {
        return Err(IdError::Length {
            len: text.len(),
            needed: 2 * N,
        });
    }
    let mut out = [0; N];
    for (at, digit) in text.bytes().enumerate() {
        let value = (digit as char).to_digit(16).ok_or(IdError::NotHex { at })?;
        // A hex digit is below 16, so the cast keeps it whole.
        out[at / 2] = out[at / 2] << 4 | value as u8;
    }
    Ok(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                unhex(text).map(Self)
            }
        }
    };
}

id!(
    /// Who speaks: the first 16 bytes of SHA-256 over the agent's raw public key (live), or over the
    /// identity a capture is replayed under.
    AgentId,
    16
);
id!(
    /// One run of an agent: random at start (live), or the first 16 bytes of the SHA-256 of the
    /// capture (replay). Sequence numbers count within it.
    BootId,
    16
);
id!(
    /// SHA-256 of an envelope's bytes, or of anything else that is named by its content.
    Digest,
    32
);

impl AgentId {
    /// Names a live agent after its raw Ed25519 public key.
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        Self(first_16(public_key))
    }

    /// Names a replayed capture's host after the identity it is replayed under, as the key is
    /// then the public development key for all.
    pub fn of_replay(account: &str, region: &str, instance: &str) -> Self {
        let text = format!("picket-replay\n{account}\n{region}\n{instance}");
        Self(first_16(text.as_bytes()))
    }
}

impl Digest {
    /// Hashes `bytes` with SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(out)
    }
}

fn first_16(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&Digest::of(bytes).0[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back() {
        let id = AgentId::of_replay("000000000000", "local", "web-1");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn refuses_what_is_not_hex() {
        assert_eq!(
            "00".parse::<AgentId>(),
            Err(IdError::Length { len: 2, needed: 32 })
        );
        let text = "0g".to_owned() + &"0".repeat(30);
        assert_eq!(text.parse::<AgentId>(), Err(IdError::NotHex { at: 1 }));
    }
}
