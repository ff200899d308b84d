//! The orders in force, in the thread that watches: which there are, when they end, and what to
//! tell of each. What the kernel does not take is tried again after a pause, and told once.

use std::collections::BTreeMap;

use picket_wire::limits::{ORDER_LAST_MS_MAX, ORDER_PREFIX_MIN};
use picket_wire::{BlockAct, BlockEvent, Net, Order};

use super::{Force, Posted};
use crate::capture::ebpf::{BLOCKED_ENDPOINTS_MAX, BLOCKED_NETS_MAX, BlockRule, Network};
use crate::net::masked;

/// Pause before what the kernel did not take is tried again, nanoseconds. Chosen by hand: it lacks
/// memory then, which does not come back in a second.
const TRY_AGAIN_NS: u64 = 30_000_000_000;

/// Orders that block now.
#[derive(Debug, Default)]
pub struct InForce {
    orders: BTreeMap<u64, Held>,
    protected: Vec<Net>,
    force: Force,
    /// The bundle that was last taken, and what the kernel said if it did not take it.
    last: Posted,
    untaken: Option<Untaken>,
}

/// That the kernel has not taken orders.
#[derive(Debug)]
struct Untaken {
    why: String,
    again_ns: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    order: Order,
    expires_ns: u64,
    force: Force,
}

impl InForce {
    /// None yet; what they name is dropped, or told.
    #[must_use]
    pub fn new(force: Force) -> Self {
        Self {
            force,
            ..Self::default()
        }
    }

    /// Whether it is only told what would have been blocked.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.force == Force::DryRun
    }

    /// Takes a bundle in place of the one before; `local` are the host's own addresses. Returns what
    /// became of each order that is new, refused or gone; nothing for one that stays as it was.
    pub fn post(&mut self, posted: Posted, local: &[Net], now_ns: u64) -> Vec<BlockEvent> {
        self.last = posted.clone();
        let Posted { orders, protected } = posted;
        self.protected = protected;
        let mut events = Vec::new();
        let mut wanted = BTreeMap::new();
        let (mut nets, mut endpoints) = (0, 0);
        for order in orders.orders {
            let expires_ms = order.expires_ms.min(orders.expires_ms);
            let held = Held {
                expires_ns: expires_ms.saturating_mul(1_000_000),
                order,
                force: self.force,
            };
            let (count, max) = match held.order.port {
                None => (&mut nets, BLOCKED_NETS_MAX),
                Some(_) => (&mut endpoints, BLOCKED_ENDPOINTS_MAX),
            };
            let refusal = refusal(&held, orders.issued_ms, &self.protected, now_ns)
                .or_else(|| is_own(&held, local).then(|| "this host's own address".to_owned()))
                .or_else(|| (*count >= max).then(|| format!("more than {max} such orders")));
            if let Some(why) = refusal {
                let mut event = held.event(BlockAct::Refused, now_ns);
                event.why = Some(why);
                // What has run out in the bundle we have is told when it does, not again.
                if held.expires_ns > now_ns {
                    events.push(event);
                }
                continue;
            }
            *count += 1;
            wanted.insert(held.order.id, held);
        }
        for (id, held) in &self.orders {
            if !wanted.contains_key(id) {
                events.push(held.event(held.end(now_ns), now_ns));
            }
        }
        for (id, held) in &wanted {
            if self.orders.get(id) != Some(held) {
                events.push(held.event(BlockAct::Applied, now_ns));
            }
        }
        self.orders = wanted;
        events
    }

    /// Lets go of what has run out.
    pub fn expire(&mut self, now_ns: u64) -> Vec<BlockEvent> {
        let over = self
            .orders
            .values()
            .filter(|held| held.expires_ns <= now_ns);
        let events = over
            .map(|held| held.event(BlockAct::Expired, now_ns))
            .collect();
        self.orders.retain(|_, held| held.expires_ns > now_ns);
        events
    }

    /// Gives all orders up for a while, because the kernel does not take them. Returns what to tell:
    /// nothing if it has not taken them before either.
    pub fn give_up(&mut self, why: &str, now_ns: u64) -> Vec<BlockEvent> {
        let orders = std::mem::take(&mut self.orders);
        let before = self.untaken.replace(Untaken {
            why: why.to_owned(),
            again_ns: now_ns.saturating_add(TRY_AGAIN_NS),
        });
        if before.is_some_and(|before| before.why == why) {
            return Vec::new();
        }
        let refused = orders.into_values().map(|held| {
            let mut event = held.event(BlockAct::Refused, now_ns);
            event.why = Some(why.to_owned());
            event
        });
        refused.collect()
    }

    /// Notes that the kernel has taken them.
    pub fn taken(&mut self) {
        self.untaken = None;
    }

    /// The bundle to try again, once its time has come.
    pub fn due(&self, now_ns: u64) -> Option<Posted> {
        let untaken = self.untaken.as_ref()?;
        (untaken.again_ns <= now_ns).then(|| self.last.clone())
    }

    /// What is wrong with what is to be in force, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let untaken = self.untaken.as_ref()?;
        let pause_s = TRY_AGAIN_NS / 1_000_000_000;
        let why = &untaken.why;
        Some(format!(
            "no order is in force, the kernel does not take them: {why}; tried again every {pause_s} s"
        ))
    }

    /// Whether anything blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// How many orders block.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// What the kernel is to block, and what never; `local` are the host's own addresses.
    #[must_use]
    pub fn rules(&self, local: &[Net]) -> (Vec<BlockRule>, Vec<Network>) {
        let rules = self.orders.values().map(|held| BlockRule {
            net: (held.order.net.address, held.order.net.prefix),
            port: held.order.port,
            order: held.order.id,
            expires_ns: held.expires_ns,
            dry_run: held.force == Force::DryRun,
        });
        let protected = self.protected.iter().chain(local);
        (
            rules.collect(),
            protected.map(|net| (net.address, net.prefix)).collect(),
        )
    }
}

impl Held {
    fn event(&self, act: BlockAct, time_ns: u64) -> BlockEvent {
        BlockEvent {
            time_ns,
            act,
            order: self.order.id,
            net: Some(self.order.net),
            port: self.order.port,
            expires_ns: Some(self.expires_ns),
            why: Some(self.order.reason.clone()).filter(|reason| !reason.is_empty()),
            flow: None,
            dry_run: (self.force == Force::DryRun).then_some(true),
        }
    }

    /// How an order ended that is no longer there.
    fn end(&self, now_ns: u64) -> BlockAct {
        if self.expires_ns <= now_ns {
            BlockAct::Expired
        } else {
            BlockAct::Lifted
        }
    }
}

/// Whether an order is for nothing but an address of the host's own. Out of wider networks the kernel
/// leaves it.
fn is_own(held: &Held, local: &[Net]) -> bool {
    local.contains(&held.order.net)
}

/// Why an order is not taken, if it is not.
fn refusal(held: &Held, issued_ms: u64, protected: &[Net], now_ns: u64) -> Option<String> {
    let net = held.order.net;
    let least = if net.address.is_ipv4() {
        ORDER_PREFIX_MIN.0
    } else {
        ORDER_PREFIX_MIN.1
    };
    if held.expires_ns <= now_ns {
        return Some("it has run out".to_owned());
    }
    if held.order.expires_ms.saturating_sub(issued_ms) > ORDER_LAST_MS_MAX {
        return Some("it lasts longer than 30 days".to_owned());
    }
    if net.prefix < least {
        return Some(format!("wider than /{least}"));
    }
    if masked(net.address, net.prefix) != net {
        return Some("bits behind its prefix are set".to_owned());
    }
    let covered = protected
        .iter()
        .find(|one| one.prefix <= net.prefix && one.contains(net.address));
    covered.map(|one| format!("protected by {}/{}", one.address, one.prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parse;
    use picket_wire::Orders;

    const S: u64 = 1_000_000_000;
    const NOW_S: u64 = 1_000_000;

    fn order(id: u64, net: &str, port: Option<u16>, lasts_s: u64) -> Order {
        Order {
            id,
            net: parse(net).unwrap(),
            port,
            expires_ms: (NOW_S + lasts_s) * 1_000,
            reason: String::new(),
        }
    }

    fn posted(orders: Vec<Order>) -> Posted {
        Posted {
            orders: Orders {
                version: 1,
                issued_ms: NOW_S * 1_000,
                expires_ms: (NOW_S + 40 * 86_400) * 1_000,
                orders,
                agent: None,
            },
            protected: vec![
                parse("10.0.0.0/16").unwrap(),
                parse("fd00:ec2::/32").unwrap(),
            ],
        }
    }

    fn acts(events: &[BlockEvent]) -> Vec<(BlockAct, u64)> {
        events
            .iter()
            .map(|event| (event.act, event.order))
            .collect()
    }

    #[test]
    fn orders_come_stay_and_go() {
        let mut inforce = InForce::default();
        let first = vec![
            order(1, "203.0.113.0/24", None, 60),
            order(2, "198.51.100.7", Some(3333), 600),
        ];
        let events = inforce.post(posted(first.clone()), &[], NOW_S * S);
        assert_eq!(
            acts(&events),
            [(BlockAct::Applied, 1), (BlockAct::Applied, 2)]
        );
        assert!(
            inforce
                .post(posted(first.clone()), &[], NOW_S * S)
                .is_empty(),
            "as they were"
        );
        assert!(inforce.expire((NOW_S + 59) * S).is_empty());
        assert_eq!(
            acts(&inforce.expire((NOW_S + 60) * S)),
            [(BlockAct::Expired, 1)]
        );
        // The bundle still has it: it is told once.
        assert!(
            inforce
                .post(posted(first), &[], (NOW_S + 61) * S)
                .is_empty()
        );
        let later = vec![order(2, "198.51.100.7", Some(3333), 900)];
        let events = inforce.post(posted(later), &[], (NOW_S + 61) * S);
        assert_eq!(
            acts(&events),
            [(BlockAct::Applied, 2)],
            "it lasts longer now"
        );
        let events = inforce.post(posted(Vec::new()), &[], (NOW_S + 62) * S);
        assert_eq!(acts(&events), [(BlockAct::Lifted, 2)]);
        assert!(inforce.is_empty());
    }

    #[test]
    fn what_would_hurt_the_host_is_refused() {
        for (net, lasts_s, expected) in [
            ("10.0.3.0/24", 60, Some("protected by 10.0.0.0/16")),
            ("10.0.0.0/16", 60, Some("protected by 10.0.0.0/16")),
            ("fd00:ec2::254", 60, Some("protected by fd00:ec2::/32")),
            ("0.0.0.0/0", 60, Some("wider than /8")),
            ("2000::/3", 60, Some("wider than /16")),
            (
                "203.0.113.9",
                31 * 86_400,
                Some("it lasts longer than 30 days"),
            ),
            // It covers what is protected, which the kernel leaves out.
            ("10.0.0.0/8", 60, None),
            ("10.1.0.0/24", 60, None),
            ("203.0.113.9", 30 * 86_400, None),
        ] {
            let mut inforce = InForce::default();
            let events = inforce.post(posted(vec![order(1, net, None, lasts_s)]), &[], NOW_S * S);
            let [event] = &events[..] else {
                unreachable!("{net}: {events:?}")
            };
            let why = (event.act == BlockAct::Refused).then(|| event.why.as_deref().unwrap());
            assert_eq!(why, expected, "{net}");
            assert_eq!(inforce.len(), usize::from(expected.is_none()), "{net}");
        }
    }

    #[test]
    fn the_bundle_ends_its_orders() {
        let mut bundle = posted(vec![order(1, "203.0.113.9", None, 600)]);
        bundle.orders.expires_ms = (NOW_S + 30) * 1_000;
        let mut inforce = InForce::default();
        inforce.post(bundle, &[], NOW_S * S);
        assert_eq!(
            acts(&inforce.expire((NOW_S + 30) * S)),
            [(BlockAct::Expired, 1)]
        );
    }

    #[test]
    fn a_dry_run_says_so_of_everything() {
        let mut inforce = InForce::new(Force::DryRun);
        let bundle = posted(vec![
            order(1, "203.0.113.9", None, 60),
            order(2, "10.0.3.9", None, 60),
        ]);
        let events = inforce.post(bundle, &[], NOW_S * S);
        assert_eq!(
            acts(&events),
            [(BlockAct::Refused, 2), (BlockAct::Applied, 1)]
        );
        let over = inforce.expire((NOW_S + 60) * S);
        assert!(events.iter().chain(&over).all(BlockEvent::is_dry_run));
        let mut inforce = InForce::new(Force::DryRun);
        inforce.post(
            posted(vec![order(1, "203.0.113.9", None, 60)]),
            &[],
            NOW_S * S,
        );
        assert!(inforce.rules(&[]).0.iter().all(|rule| rule.dry_run));
    }

    #[test]
    fn what_the_kernel_does_not_take_is_told_once_and_tried_again() {
        let mut inforce = InForce::default();
        let bundle = posted(vec![order(1, "203.0.113.9", None, 600)]);
        inforce.post(bundle.clone(), &[], NOW_S * S);
        let events = inforce.give_up("no memory", NOW_S * S);
        assert_eq!(acts(&events), [(BlockAct::Refused, 1)]);
        assert!(inforce.is_empty() && inforce.trouble().unwrap().contains("no memory"));
        assert_eq!(inforce.due((NOW_S + 29) * S), None);
        let again = inforce.due((NOW_S + 30) * S).unwrap();
        assert_eq!(again, bundle);
        inforce.post(again, &[], (NOW_S + 30) * S);
        assert!(inforce.give_up("no memory", (NOW_S + 30) * S).is_empty());
        let again = inforce.due((NOW_S + 60) * S).unwrap();
        let events = inforce.post(again, &[], (NOW_S + 60) * S);
        inforce.taken();
        assert_eq!(acts(&events), [(BlockAct::Applied, 1)]);
        assert_eq!((inforce.trouble(), inforce.due(u64::MAX)), (None, None));
        assert_eq!(inforce.len(), 1);
    }

    #[test]
    fn an_order_for_the_host_itself_is_refused() {
        let own = [parse("203.0.113.4").unwrap(), parse("2001:db8::4").unwrap()];
        for (net, port, is_refused) in [
            ("203.0.113.4", None, true),
            ("203.0.113.4", Some(22), true),
            ("2001:db8::4", None, true),
            ("203.0.113.5", None, false),
            // The kernel leaves it out of that.
            ("203.0.113.0/24", None, false),
        ] {
            let mut inforce = InForce::default();
            let bundle = posted(vec![order(1, net, port, 60)]);
            let events = inforce.post(bundle, &own, NOW_S * S);
            let why = is_refused.then_some("this host's own address");
            assert_eq!(events[0].why.as_deref(), why, "{net}");
            assert_eq!(inforce.is_empty(), is_refused, "{net}");
        }
    }

    #[test]
    fn own_addresses_are_protected() {
        let mut inforce = InForce::default();
        inforce.post(
            posted(vec![order(1, "203.0.113.0/24", None, 60)]),
            &[],
            NOW_S * S,
        );
        let own = parse("203.0.113.4").unwrap();
        let (rules, protected) = inforce.rules(&[own]);
        assert_eq!(rules.len(), 1);
        assert!(protected.contains(&(own.address, 32)));
    }
}
