//! Finding types and severity bands.

/// Whose name a finding type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// GuardDuty's, current or retired.
    GuardDuty,
    /// Ours, in GuardDuty's grammar; listed in `docs/findings.md`.
    Picket,
}

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FindingType {
    /// `ThreatPurpose:Resource/Family.Mechanism!Artifact`.
    pub name: &'static str,
    /// Whose name it is.
    pub origin: Origin,
    /// Its usual severity; a detection says where it departs from it.
    pub severity: f64,
}

impl FindingType {
    /// A type of GuardDuty's.
    pub(crate) const fn guardduty(name: &'static str, severity: f64) -> Self {
        Self {
            name,
            origin: Origin::GuardDuty,
            severity,
        }
    }

    /// A type of ours.
    pub(crate) const fn picket(name: &'static str, severity: f64) -> Self {
        Self {
            name,
            origin: Origin::Picket,
            severity,
        }
    }
}

/// A band of severities, as GuardDuty draws them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Band {
    /// Below 4.0.
    Low,
    /// 4.0 to 6.9.
    Medium,
    /// 7.0 to 8.9.
    High,
    /// 9.0 and above.
    Critical,
}

impl Band {
    /// The band `severity` lies in.
    pub fn of(severity: f64) -> Self {
        if severity < 4.0 {
            Self::Low
        } else if severity < 7.0 {
            Self::Medium
        } else if severity < 9.0 {
            Self::High
        } else {
            Self::Critical
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The usual severity of the next band up; the highest stays.
    pub(crate) fn raised(self) -> f64 {
        match self {
            Self::Low => 5.0,
            Self::Medium => 8.0,
            Self::High | Self::Critical => 9.0,
        }
    }
}

/// The ATT&CK tactic that a type's purpose stands for.
pub(crate) fn tactic(type_name: &str) -> &'static str {
    match type_name.split(':').next().unwrap_or_default() {
        "Backdoor" | "Trojan" => "Command and Control",
        "Collection" => "Collection",
        "CredentialAccess" => "Credential Access",
        "DefenseEvasion" | "DefenseImpairment" | "Stealth" => "Defense Evasion",
        "Discovery" | "Recon" => "Discovery",
        "Exfiltration" => "Exfiltration",
        "CryptoCurrency" | "Impact" => "Impact",
        "LateralMovement" => "Lateral Movement",
        "Persistence" => "Persistence",
        "PrivilegeEscalation" => "Privilege Escalation",
        "ResourceDevelopment" => "Resource Development",
        "Policy" | "UnauthorizedAccess" | "InitialAccess" => "Initial Access",
        _ => "Execution",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_begin_where_guardduty_draws_them() {
        let check = |severity, band| assert_eq!(Band::of(severity), band, "{severity}");
        check(1.0, Band::Low);
        check(3.9, Band::Low);
        check(4.0, Band::Medium);
        check(6.9, Band::Medium);
        check(7.0, Band::High);
        check(8.9, Band::High);
        check(9.0, Band::Critical);
        check(10.0, Band::Critical);
    }

    #[test]
    fn raising_goes_up_one_band_and_stops_at_the_top() {
        for band in [Band::Low, Band::Medium, Band::High] {
            assert!(Band::of(band.raised()) > band);
        }
        assert_eq!(Band::of(Band::Critical.raised()), Band::Critical);
    }
}
