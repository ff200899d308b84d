//! Room: how many orders, and how much of the address space, may be in force for one scope. Scopes are
//! all hosts, and each account with its hosts, so that nobody who may order for one account takes the
//! room of others. A host is in two scopes: it is given twice as many at most.

use std::net::IpAddr;

use picket_wire::Net;
use picket_wire::limits::ORDER_PREFIX_MIN;

use super::limits::{IN_FORCE_MAX, WIDEST_MAX};
use super::{BookError, Target, judge};
use crate::store::blocks::BlockOrder;

/// Refuses an order for which there is no room. The one that it takes the place of counts for nothing.
pub(super) fn check(
    orders: &[BlockOrder],
    wanted: &BlockOrder,
    now_ms: u64,
) -> Result<(), BookError> {
    let is_replaced =
        |order: &BlockOrder| order.value == wanted.value && Target::of(order) == Target::of(wanted);
    let others: Vec<&BlockOrder> = orders
        .iter()
        .filter(|order| order.holds(now_ms) && order.account == wanted.account)
        .filter(|order| !is_replaced(order))
        .collect();
    let whose = || match &wanted.account {
        None => "all hosts".to_owned(),
        Some(account) => format!("account {account} and its hosts"),
    };
    if others.len() >= IN_FORCE_MAX {
        return Err(BookError::Full { whose: whose() });
    }
    let all = others.into_iter().chain([wanted]);
    let nets = all.filter_map(|order| Some(judge::thing(&order.value).ok()?.net));
    let (v4, v6): (Vec<Net>, Vec<Net>) = nets.partition(|net| net.address.is_ipv4());
    for (nets, bits, prefix, family) in [
        (v4, 32, ORDER_PREFIX_MIN.0, "IPv4"),
        (v6, 128, ORDER_PREFIX_MIN.1, "IPv6"),
    ] {
        if covered(nets, bits) > WIDEST_MAX << (bits - prefix) {
            return Err(BookError::TooWide {
                whose: whose(),
                prefix,
                family,
            });
        }
    }
    Ok(())
}

/// Addresses that networks of one family cover, each address once. Of two networks that meet, one is
/// inside the other.
fn covered(mut nets: Vec<Net>, bits: u8) -> u128 {
    nets.sort_unstable_by_key(|net| -> (IpAddr, u8) { (net.address, net.prefix) });
    let mut last: Option<Net> = None;
    let mut sum = 0u128;
    for net in nets {
        if last.is_some_and(|last| last.contains(net.address)) {
            continue;
        }
        sum = sum.saturating_add(1 << bits.saturating_sub(net.prefix));
        last = Some(net);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_covered_once() {
        let check = |values: &[&str], bits, expected: u128| {
            let nets = values
                .iter()
                .map(|value| judge::thing(value).unwrap().net)
                .collect();
            assert_eq!(covered(nets, bits), expected, "{values:?}");
        };
        check(&[], 32, 0);
        check(&["203.0.113.9", "203.0.113.9:443"], 32, 1);
        check(
            &["9.1.0.0/16", "9.0.0.0/8", "9.2.3.4", "11.0.0.0/8"],
            32,
            2 << 24,
        );
        check(&["2600::/16", "2600:1::/32", "2601::/16"], 128, 2 << 112);
    }
}
