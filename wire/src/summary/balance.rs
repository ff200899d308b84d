//! The loss equation of a summary: packets seen = in flows + no flow + lost, and what went into
//! flows is in its conversations or counted as cut.
//!
//! It holds in each window by itself, because what the kernel has counted and whose flow was not
//! read yet is left out of `seen` until the window that tells the flow. That rest, `unsettled`, is
//! a level; over a run, packets that passed = every `seen` + the last `unsettled`.

use super::Summary;

/// Stages that see every packet: the kernel programs, and the decoder where it is shown each frame.
const CAPTURE_STAGES: [&str; 2] = ["kernel", "decode"];

/// Both sides of the loss equation of one summary. Sums of what a peer claims: they do not overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Packets that passed and are accounted for.
    pub seen: u128,
    /// Of these, packets of flows.
    pub flow: u128,
    /// Of these, packets that are no flow, of every class.
    pub not_flow: u128,
    /// Of these, packets lost before they reached the flow table, for every reason.
    pub lost: u128,
    /// Packets that reached the flow table.
    pub offered: u128,
    /// Of these, packets it had room for.
    pub recorded: u128,
    /// Of these, packets it had no room for.
    pub turned_away: u128,
    /// Packets found inside tunnels, which are counted besides what carried them.
    pub inner_seen: u128,
    /// Of these, packets that the flow table had room for.
    pub inner_recorded: u128,
    /// Of these, packets that are no flow or were lost.
    pub inner_other: u128,
    /// Packets found inside tunnels that are in conversations of tunnels, or cut.
    pub inner_told: u128,
    /// Packets in other conversations.
    pub told: u128,
    /// Packets of conversations that were cut, or left out by a filter.
    pub cut: u128,
    /// Packets counted whose flow was not read yet: a level, outside the equation.
    pub unsettled: u64,
}

/// How a summary contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Imbalance {
    /// Seen is not flow + no flow + lost.
    #[error("{seen} packets seen, {accounted} in flows, no flow or lost")]
    Capture {
        /// One side.
        seen: u128,
        /// The other.
        accounted: u128,
    },
    /// What went into flows did not reach the flow table, or more did.
    #[error("{flow} packets in flows, {offered} at the flow table")]
    Passed {
        /// One side.
        flow: u128,
        /// The other.
        offered: u128,
    },
    /// The flow table took in and turned away other than it was offered.
    #[error("{offered} packets at the flow table, {accounted} taken in or turned away")]
    Table {
        /// One side.
        offered: u128,
        /// The other.
        accounted: u128,
    },
    /// Seen inside tunnels is not flow + no flow + lost.
    #[error("{seen} packets seen inside tunnels, {accounted} in flows, no flow or lost")]
    Inner {
        /// One side.
        seen: u128,
        /// The other.
        accounted: u128,
    },
    /// What the flow table took in is not what the conversations and the cut hold.
    #[error("{recorded} packets in the flow table, {told} in conversations or cut")]
    Told {
        /// One side.
        recorded: u128,
        /// The other.
        told: u128,
    },
}

impl Imbalance {
    /// Which part of the equation broke, in a word of a closed set.
    pub fn part(&self) -> &'static str {
        match self {
            Self::Capture { .. } => "capture",
            Self::Passed { .. } => "passed",
            Self::Table { .. } => "table",
            Self::Inner { .. } => "inner",
            Self::Told { .. } => "told",
        }
    }

    /// Packets that are missing, or too many.
    pub fn packets(&self) -> u128 {
        let (Self::Capture {
            seen: one,
            accounted: other,
        }
        | Self::Passed {
            flow: one,
            offered: other,
        }
        | Self::Table {
            offered: one,
            accounted: other,
        }
        | Self::Inner {
            seen: one,
            accounted: other,
        }
        | Self::Told {
            recorded: one,
            told: other,
        }) = *self;
        one.abs_diff(other)
    }
}

impl Balance {
    /// Packets lost on the way into conversations, for every reason.
    pub fn lost_in_all(&self) -> u128 {
        self.lost + self.turned_away
    }

    /// Share of the packets seen that were lost, 0.0 to 1.0.
    pub fn loss_share(&self) -> f64 {
        share(self.lost_in_all(), self.seen)
    }

    /// Checks the equation.
    ///
    /// # Errors
    /// The first part that does not hold, in the order packets go.
    pub fn check(&self) -> Result<(), Imbalance> {
        let accounted = self.flow + self.not_flow + self.lost;
        if self.seen != accounted {
            return Err(Imbalance::Capture {
                seen: self.seen,
                accounted,
            });
        }
        if self.flow != self.offered {
            return Err(Imbalance::Passed {
                flow: self.flow,
                offered: self.offered,
            });
        }
        let accounted = self.recorded + self.turned_away;
        if self.offered != accounted {
            return Err(Imbalance::Table {
                offered: self.offered,
                accounted,
            });
        }
        let accounted = self.inner_recorded + self.inner_other;
        if self.inner_seen != accounted {
            return Err(Imbalance::Inner {
                seen: self.inner_seen,
                accounted,
            });
        }
        let sides = [
            (self.recorded, self.told + self.cut),
            (self.inner_recorded, self.inner_told),
        ];
        for (recorded, told) in sides {
            if recorded != told {
                return Err(Imbalance::Told { recorded, told });
            }
        }
        Ok(())
    }
}

/// A part of a whole, 0.0 to 1.0; 0.0 of nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share is for people and thresholds"
)]
fn share(part: u128, whole: u128) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl Summary {
    /// Both sides of the loss equation of this window; `None` for an immediate summary, which holds
    /// hits alone.
    pub fn balance(&self) -> Option<Balance> {
        if self.immediate {
            return None;
        }
        let mut balance = Balance::default();
        for counter in &self.counters {
            let count = u128::from(counter.count);
            let at_capture = CAPTURE_STAGES.contains(&counter.stage.as_str());
            let side = match counter.reason.as_str() {
                "seen" if at_capture => &mut balance.seen,
                "flow" if at_capture => &mut balance.flow,
                reason if at_capture && reason.starts_with("not_flow_") => &mut balance.not_flow,
                reason if at_capture && reason.starts_with("lost_") => &mut balance.lost,
                "unsettled" if counter.stage == "kernel" => {
                    balance.unsettled = counter.count;
                    continue;
                }
                "seen" if counter.stage == "flow" => &mut balance.offered,
                "flow" if counter.stage == "flow" => &mut balance.recorded,
                reason if counter.stage == "flow" && reason.starts_with("lost_") => {
                    &mut balance.turned_away
                }
                "seen" if counter.stage == "inner" => &mut balance.inner_seen,
                "flow" if counter.stage == "inner" => &mut balance.inner_recorded,
                "cut" if counter.stage == "inner" => &mut balance.inner_told,
                reason
                    if counter.stage == "inner"
                        && (reason.starts_with("not_flow_") || reason.starts_with("lost_")) =>
                {
                    &mut balance.inner_other
                }
                _ => continue,
            };
            *side += count;
        }
        for one in &self.conversations {
            let side = match one.tunnel {
                None => &mut balance.told,
                Some(_) => &mut balance.inner_told,
            };
            *side += u128::from(one.packets_out) + u128::from(one.packets_in);
        }
        let filtered = self.filtered.unwrap_or_default();
        balance.cut = u128::from(self.cut.packets) + u128::from(filtered.packets);
        balance.inner_told += u128::from(filtered.inner_packets);
        Some(balance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Balance {
        Balance {
            seen: 100,
            flow: 90,
            not_flow: 7,
            lost: 3,
            offered: 90,
            recorded: 88,
            turned_away: 2,
            inner_seen: 21,
            inner_recorded: 20,
            inner_other: 1,
            inner_told: 20,
            told: 80,
            cut: 8,
            unsettled: 5,
        }
    }

    #[track_caller]
    fn breaks(change: impl FnOnce(&mut Balance), part: &str, packets: u128) {
        let mut balance = whole();
        change(&mut balance);
        let imbalance = balance.check().expect_err("it breaks");
        assert_eq!((imbalance.part(), imbalance.packets()), (part, packets));
    }

    #[test]
    fn each_part_of_the_equation_breaks_by_itself() {
        assert_eq!(whole().check(), Ok(()));
        assert_eq!(Balance::default().check(), Ok(()));
        breaks(|b| b.seen += 1, "capture", 1);
        breaks(|b| b.lost -= 2, "capture", 2);
        breaks(|b| b.not_flow += 4, "capture", 4);
        breaks(|b| (b.seen, b.flow) = (101, 91), "passed", 1);
        breaks(|b| b.recorded -= 5, "table", 5);
        breaks(|b| b.inner_other += 3, "inner", 3);
        breaks(|b| b.inner_told += 3, "told", 3);
        breaks(|b| b.told -= 1, "told", 1);
        breaks(|b| b.cut += 1, "told", 1);
    }

    #[test]
    fn what_is_lost_is_a_share_of_what_was_seen() {
        assert!((whole().loss_share() - 0.05).abs() < 1e-9);
        assert!(Balance::default().loss_share().abs() < 1e-9);
    }

    #[test]
    fn what_a_peer_claims_does_not_overflow() {
        let counter = |stage: &str, reason: &str| crate::Counter {
            stage: stage.into(),
            reason: reason.into(),
            count: u64::MAX,
            bytes: 0,
        };
        let mut summary = Summary {
            counters: vec![counter("kernel", "seen"), counter("decode", "seen")],
            ..Summary::default()
        };
        let balance = summary.balance().expect("a window");
        assert_eq!(balance.seen, 2 * u128::from(u64::MAX));
        assert_eq!(balance.check().expect_err("it breaks").part(), "capture");
        summary.immediate = true;
        assert_eq!(summary.balance(), None);
    }
}
