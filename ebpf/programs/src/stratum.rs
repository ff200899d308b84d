//! Stratum, the protocol between miners and pools: does a TCP payload begin like it?
//!
//! It has no header and no port of its own: lines of JSON, of which the first names a method.
//! Looked for are the beginnings of those names, in quotes, within the first bytes of a payload
//! that is JSON: `"mining.` (Stratum v1 and what was made of it), `"login"` (xmrig and its pools),
//! `"eth_sub` (EthProxy). The agent decodes the line and decides.

/// Bytes of a payload that are looked at. An opening of xmrig names its method at byte 31, one
/// of EthProxy with a long worker's name some bytes later.
pub const WINDOW_BYTES: usize = 96;

/// Places at which a method's name may begin.
const PLACES: usize = WINDOW_BYTES - 8;

const MINING: u64 = u64::from_le_bytes(*b"\"mining.");
const LOGIN: u64 = u64::from_le_bytes(*b"\"login\"\0");
const LOGIN_BYTES: u64 = 0x00ff_ffff_ffff_ffff;
const ETHER: u64 = u64::from_le_bytes(*b"\"eth_sub");

/// The first bytes of a payload, zeros where it is shorter.
pub trait Opening {
    /// Eight bytes at a place below [`WINDOW_BYTES`] − 7.
    fn word(&self, at: usize) -> u64;
}

/// Whether a payload that begins with `{` names a method of a miner.
///
/// Without a branch between the places: less one and not set before, only a difference of 0 has
/// its top bit set. With a comparison each, the verifier would follow them all.
#[inline(always)]
pub fn is_opening(opening: &impl Opening) -> bool {
    let mut found = 0;
    let mut at = 1;
    while at <= PLACES {
        let word = opening.word(at);
        found |= zero(word ^ MINING) | zero((word ^ LOGIN) & LOGIN_BYTES) | zero(word ^ ETHER);
        at += 1;
    }
    found >> 63 != 0
}

/// The top bit is set if and only if the number is 0.
#[inline(always)]
const fn zero(difference: u64) -> u64 {
    difference.wrapping_sub(1) & !difference
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain([u8; WINDOW_BYTES]);

    impl Opening for Plain {
        fn word(&self, at: usize) -> u64 {
            u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
        }
    }

    fn opens(text: &str) -> bool {
        let mut bytes = [0; WINDOW_BYTES];
        let length = text.len().min(WINDOW_BYTES);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        is_opening(&Plain(bytes))
    }

    #[test]
    fn openings_of_miners() {
        for (text, expected) in [
            (
                r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.10"]}"#,
                true,
            ),
            (
                r#"{"id": 1, "method": "mining.authorize", "params": ["w", "x"]}"#,
                true,
            ),
            (
                r#"{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"4A"}}"#,
                true,
            ),
            (
                r#"{"worker":"rig-one","id":1,"method":"eth_submitLogin","params":["0x"]}"#,
                true,
            ),
            (r#"{"id":1,"method":"getwork"}"#, false),
            (r#"{"user":"login-page","mining":"no"}"#, false),
            (r#"{"method":"logins"}"#, false),
            (r#"{"method":"eth_call"}"#, false),
            ("{", false),
            ("", false),
        ] {
            assert_eq!(opens(text), expected, "{text}");
        }
    }

    #[test]
    fn every_place_of_the_window_is_looked_at() {
        for at in 1..=PLACES {
            let text = format!("{{{}\"mining.s\"", " ".repeat(at - 1));
            assert!(opens(&text), "{at}");
        }
        assert!(!opens(&format!("{{{}\"mining.s\"", " ".repeat(PLACES))));
    }
}
