//! Health: the sensor about itself, since the start. What each summary tells of a window is added
//! up here for `status` and for metrics.

use picket_sense::summarise::Counters;
use serde::{Deserialize, Serialize};

/// Stages that see every packet; a rung has one of them.
const CAPTURE_STAGES: [&str; 2] = ["kernel", "decode"];

/// The loss equation since the start: packets seen = in flows + no flow + lost + not told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Packets {
    /// Packets that came in.
    pub seen: u64,
    /// Those that went into flows.
    pub flow: u64,
    /// Those that are no flow.
    pub not_flow: u64,
    /// Those that were lost, on the way to the flow table or for want of room in it.
    pub lost: u64,
    /// Those whose flow has not been read yet; falls to 0 when traffic pauses.
    pub unsettled: u64,
    /// Whether all are accounted for.
    pub equation_holds: bool,
}

impl Packets {
    /// The equation over capture and flow table.
    pub fn of(counters: &Counters) -> Self {
        let mut packets = Self {
            equation_holds: true,
            ..Self::default()
        };
        let mut offered = 0;
        for capture in CAPTURE_STAGES.map(|stage| counters.equation(stage)) {
            packets.seen += capture.seen.count;
            packets.not_flow += capture.not_flow.count;
            packets.lost += capture.lost.count;
            packets.unsettled += capture.unsettled.count;
            packets.equation_holds &= capture.holds();
            offered += capture.flow.count;
        }
        let table = counters.equation("flow");
        packets.flow = table.flow.count;
        packets.lost += table.lost.count;
        packets.equation_holds &= table.holds() && table.seen.count == offered;
        packets
    }

    /// Packets lost of a million seen.
    pub fn lost_ppm(&self) -> u64 {
        let share = u128::from(self.lost) * 1_000_000 / u128::from(self.seen.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// The equation in a line, with a verdict.
    pub fn verdict(&self) -> String {
        let Self {
            seen,
            flow,
            not_flow,
            lost,
            unsettled,
            equation_holds,
        } = self;
        let verdict = if *equation_holds {
            "adds up"
        } else {
            "DOES NOT ADD UP"
        };
        let ppm = self.lost_ppm();
        format!(
            "{seen} seen = {flow} in flows + {not_flow} no flow + {lost} lost + {unsettled} not \
             told yet: {verdict}, {}.{:04} % lost",
            ppm / 10_000,
            ppm % 10_000
        )
    }
}

/// How the sensor itself is and was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// Interfaces watched at the end of the last window.
    pub interfaces: Vec<Interface>,
    /// The canary; `None` on a rung that has none, and before the first window ends.
    pub canary: Option<Canary>,
    /// Times that a direction of an interface was found without our program.
    pub detached: u64,
    /// The last of them, in words.
    pub last_detached: Option<String>,
}

/// An interface that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// How it is watched.
    pub attached: String,
}

/// Packets of our own that the kernel programs were given, and what came of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Canary {
    /// Packets judged.
    pub sent: u64,
    /// Of these, found in their flow.
    pub counted: u64,
    /// Of these, told as a hit.
    pub hit: u64,
    /// Of these, copied up.
    pub copied: u64,
    /// Of these, recognised by name as far as that was due; `None` where the kernel matches no names.
    #[serde(default)]
    pub named: Option<u64>,
    /// When all three were last shown, seconds since the epoch; 0 for never.
    pub last_s: u64,
    /// What the last one judged failed to show, `None` when all was well.
    pub failed: Option<String>,
}

impl Health {
    /// Adds what a window's summary tells.
    pub fn note(&mut self, told: &picket_wire::Health) {
        let interfaces = told.interfaces.iter().map(|one| Interface {
            index: one.index,
            name: one.name.clone(),
            attached: one.attached.clone(),
        });
        self.interfaces = interfaces.collect();
        if let Some(one) = &told.canary {
            let canary = self.canary.get_or_insert_default();
            canary.sent += one.sent;
            canary.counted += one.counted;
            canary.hit += one.hit;
            canary.copied += one.copied;
            if let Some(named) = one.named {
                *canary.named.get_or_insert(canary.sent - one.sent) += named;
            }
            canary.last_s = one.last_ns / 1_000_000_000;
            // A window in which none was due says nothing.
            if one.sent > 0 || one.refused.is_some() {
                canary.failed = match (&one.refused, one.failed()) {
                    (Some(why), _) => Some(why.clone()),
                    (None, failed) => failed.map(str::to_owned),
                };
            }
        }
        self.detached += told.detached.len() as u64;
        if let Some(last) = told.detached.last() {
            let again = if last.again {
                "attached again"
            } else {
                "NOT attached again"
            };
            self.last_detached = Some(format!("{} {}, {again}", last.interface, last.direction));
        }
    }

    /// The canary in a line.
    pub fn canary_line(&self) -> String {
        match &self.canary {
            None => "none on this rung, or no window has ended yet".to_owned(),
            Some(canary) => {
                let verdict = match &canary.failed {
                    None => "the kernel side reports".to_owned(),
                    Some(what) => format!("FAILED: {what}"),
                };
                let named = canary.named.map(|named| format!(", {named} named"));
                format!(
                    "{} sent, {} counted, {} hit, {} copied{}: {verdict}",
                    canary.sent,
                    canary.counted,
                    canary.hit,
                    canary.copied,
                    named.unwrap_or_default()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_add_up_and_the_last_verdict_stands() {
        let told = |came: u64, detached: usize| picket_wire::Health {
            canary: Some(picket_wire::Canary {
                sent: 2,
                counted: 2,
                hit: came,
                copied: 2,
                last_ns: 5_000_000_000,
                refused: None,
                named: None,
            }),
            detached: vec![
                picket_wire::Detached {
                    time_ns: 1,
                    interface: "ens5".into(),
                    direction: "in".into(),
                    again: true,
                };
                detached
            ],
            ..picket_wire::Health::default()
        };
        let mut health = Health::default();
        assert!(health.canary_line().starts_with("none"));
        health.note(&told(2, 0));
        assert!(health.canary_line().ends_with("the kernel side reports"));
        health.note(&told(1, 2));
        assert!(health.canary_line().ends_with("FAILED: hit"));
        // A window in which none was due does not excuse.
        health.note(&picket_wire::Health {
            canary: Some(picket_wire::Canary::default()),
            ..picket_wire::Health::default()
        });
        assert!(health.canary_line().ends_with("FAILED: hit"));
        let canary = health.canary.clone().unwrap();
        assert_eq!((canary.sent, canary.hit), (4, 3));
        assert_eq!(health.detached, 2);
        let last = health.last_detached.as_deref();
        assert_eq!(last, Some("ens5 in, attached again"));
    }

    #[test]
    fn the_equation_is_told_with_its_verdict() {
        let packets = Packets {
            seen: 1_000_000,
            flow: 989_500,
            not_flow: 10_000,
            lost: 500,
            unsettled: 0,
            equation_holds: true,
        };
        assert_eq!(
            packets.verdict(),
            "1000000 seen = 989500 in flows + 10000 no flow + 500 lost + 0 not told yet: adds up, \
             0.0500 % lost"
        );
        let broken = Packets {
            equation_holds: false,
            ..packets
        };
        assert!(broken.verdict().contains("DOES NOT ADD UP"));
        assert_eq!(Packets::default().lost_ppm(), 0);
    }
}
