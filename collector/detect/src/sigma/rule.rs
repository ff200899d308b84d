//! What a rule says of itself, and what that becomes in a finding.

use crate::finding::FindingType;

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id; of one without, half of its digest.
    pub id: String,
    /// The name that correlations know it by.
    pub name: Option<String>,
    /// What it detects, in a line.
    pub title: String,
    /// Who wrote it.
    pub author: Option<String>,
    /// Under which licence.
    pub license: Option<String>,
    /// How settled it is: `stable`, `test`, `experimental`, …
    pub status: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// How bad it is.
    pub level: Level,
    /// Tags such as `attack.t1098`.
    pub tags: Vec<String>,
    /// What else it may be.
    pub false_positives: Vec<String>,
    /// Where to read on.
    pub references: Vec<String>,
    /// The file it stands in.
    pub file: String,
    /// On which line of it, from 1.
    pub line: usize,
    /// SHA-256 over what it says, 64 hex digits: another rule under the same id has another.
    pub digest: String,
    /// What it takes for a finding, in words.
    pub threshold: String,
    /// Whether it counts or orders what other rules match.
    pub is_correlation: bool,
    /// Whether it is there for correlations alone and makes no findings.
    pub is_silent: bool,
}

/// How bad what a rule matches is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Informational,
    /// Worth a look some day.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a look now.
    High,
    /// Somebody is in.
    Critical,
}

impl Level {
    /// The level of that name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "informational" => Self::Informational,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "critical" => Self::Critical,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity of its findings: the usual one of the band of that name.
    pub fn severity(self) -> f64 {
        match self {
            Self::Informational => 1.0,
            Self::Low => 2.0,
            Self::Medium => 5.0,
            Self::High => 8.0,
            Self::Critical => 9.0,
        }
    }
}

macro_rules! purposes {
    ($($tactic:literal: $purpose:literal),* $(,)?) => {
        /// Every type that a rule's findings may have, by ATT&CK tactic.
        const TYPES: &[(&str, FindingType)] = &[$((
            $tactic,
            FindingType::picket(concat!($purpose, ":IAMUser/SigmaRule"), 5.0),
        )),*];
    };
}

// Several tactics have no purpose of their own in GuardDuty's grammar; they take ATT&CK's name, as
// GuardDuty's own custom rules do.
purposes! {
    "collection": "Collection",
    "command-and-control": "Backdoor",
    "credential-access": "CredentialAccess",
    "defense-evasion": "DefenseEvasion",
    "defense-impairment": "DefenseImpairment",
    "discovery": "Discovery",
    "execution": "Execution",
    "exfiltration": "Exfiltration",
    "impact": "Impact",
    "initial-access": "InitialAccess",
    "lateral-movement": "LateralMovement",
    "persistence": "Persistence",
    "privilege-escalation": "PrivilegeEscalation",
    "reconnaissance": "Recon",
    "resource-development": "ResourceDevelopment",
    "stealth": "Stealth",
}

/// The type of a rule without a tactic.
const OTHER: FindingType = FindingType::picket("UnauthorizedAccess:IAMUser/SigmaRule", 5.0);

/// Every type that a rule's findings may have.
pub(crate) fn types() -> impl Iterator<Item = &'static FindingType> {
    TYPES.iter().map(|(_, kind)| kind).chain([&OTHER])
}

impl Rule {
    /// The type of its findings: of the first tactic among its tags, which is the author's choice
    /// and one that a reader of the rule can see.
    pub fn finding_type(&self) -> &'static FindingType {
        let mut tactics = self.tags.iter().filter_map(|tag| {
            let tactic = tag.strip_prefix("attack.")?.replace('_', "-");
            TYPES.iter().find(|(name, _)| *name == tactic)
        });
        tactics.next().map_or(&OTHER, |(_, kind)| kind)
    }

    /// The ATT&CK techniques among its tags, as `T1098.001`.
    pub fn techniques(&self) -> Vec<String> {
        let technique = |tag: &String| {
            let id = tag.strip_prefix("attack.t")?;
            let is_id = id.len() >= 4 && id.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            is_id.then(|| format!("T{id}"))
        };
        self.tags.iter().filter_map(technique).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Band;

    fn tagged(tags: &[&str]) -> Rule {
        let mut loaded =
            crate::sigma::testing::one("selection:\n    eventName: A\n  condition: selection");
        loaded.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        loaded
    }

    #[test]
    fn the_first_tactic_says_the_type() {
        let check = |tags: &[&str], expected| {
            let name = tagged(tags).finding_type().name;
            assert_eq!(name, format!("{expected}:IAMUser/SigmaRule"));
        };
        check(
            &["attack.t1098", "attack.persistence", "attack.impact"],
            "Persistence",
        );
        check(&["attack.initial_access"], "InitialAccess");
        check(&["attack.defense-impairment"], "DefenseImpairment");
        check(&["cve.2021-1", "attack.t1098"], "UnauthorizedAccess");
        check(&[], "UnauthorizedAccess");
    }

    #[test]
    fn techniques_are_those_of_attack() {
        let rule = tagged(&[
            "attack.t1098.001",
            "attack.tampering",
            "attack.g0007",
            "attack.t1685",
        ]);
        assert_eq!(rule.techniques(), ["T1098.001", "T1685"]);
    }

    #[test]
    fn levels_lie_in_the_band_of_their_name() {
        for level in [Level::Low, Level::Medium, Level::High, Level::Critical] {
            assert_eq!(Band::of(level.severity()).name(), level.name());
            assert_eq!(Level::of(level.name()), Some(level));
        }
        assert!(Level::Informational.severity() < Level::Low.severity());
        assert_eq!(Level::of("severe"), None);
    }
}
