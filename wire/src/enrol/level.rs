//! How sure a collector is that an agent's key is the key of the host it speaks for.

use std::fmt;
use std::str::FromStr;

/// How an agent came to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Whoever had a join token said which host it is; the token's scope bounds what could be said.
    Token,
    /// AWS signed which instance it is, in a document that any process of that instance can read,
    /// and an operator let it in.
    Ec2Document,
    /// AWS signed which instance it is, and vouched for a request that the role of the instance
    /// signed for this key, this collector and this moment.
    Ec2Sts,
    /// The collector's configuration names its key and its host.
    Configured,
}

/// A text that names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no level of trust has this name")]
pub struct UnknownLevel;

impl Level {
    /// Every level.
    pub const ALL: [Self; 4] = [
        Self::Token,
        Self::Ec2Document,
        Self::Ec2Sts,
        Self::Configured,
    ];

    /// Its name, the same on the wire, in the store and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Ec2Document => "ec2-document",
            Self::Ec2Sts => "ec2-sts",
            Self::Configured => "configured",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let named = Self::ALL.into_iter().find(|level| level.name() == text);
        named.ok_or(UnknownLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert_eq!("ec2".parse::<Level>(), Err(UnknownLevel));
    }
}
