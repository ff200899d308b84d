//! `--shape`: the form in which findings are printed as JSON.

use clap::ValueEnum;
use picket_detect::Finding;
use picket_detect::finding::shape;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Shape {
    /// GuardDuty's, with the object `picket` beside
    #[default]
    Guardduty,
    /// The same inside the envelope of EventBridge
    Eventbridge,
    /// AWS Security Finding Format, for Security Hub CSPM
    Asff,
    /// OCSF 1.6.0, Detection Finding
    Ocsf,
}

impl Shape {
    /// A finding as one line.
    pub(crate) fn line(self, finding: &Finding) -> String {
        let shape = match self {
            Self::Guardduty => shape::Shape::GuardDuty,
            Self::Eventbridge => shape::Shape::EventBridge,
            Self::Asff => shape::Shape::Asff,
            Self::Ocsf => shape::Shape::Ocsf,
        };
        shape.of(finding).to_string()
    }
}
