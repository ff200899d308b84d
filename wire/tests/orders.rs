//! Orders: a bundle comes back as it was, and nothing else is taken for one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use picket_wire::limits::ORDERS_MAX;
use picket_wire::{AgentId, Net, Order, Orders, OrdersError, Signer};

fn net(text: &str, prefix: u8) -> Net {
    Net {
        address: text.parse::<IpAddr>().unwrap(),
        prefix,
    }
}

fn order(id: u64, net: Net, port: Option<u16>) -> Order {
    Order {
        id,
        net,
        port,
        expires_ms: 2_000,
        reason: "by hand".to_owned(),
    }
}

fn bundle(orders: Vec<Order>) -> Orders {
    Orders {
        version: 7,
        issued_ms: 1_000,
        expires_ms: 9_000,
        orders,
        agent: None,
    }
}

fn signer() -> Signer {
    Signer::from_seed(&[5; 32])
}

#[test]
fn a_bundle_comes_back_as_it_was() {
    let orders = bundle(vec![
        order(1, net("203.0.113.0", 24), None),
        order(2, net("2001:db8::7", 128), Some(3333)),
    ]);
    let bytes = orders.seal(&signer());
    assert_eq!(Orders::open(&bytes, &signer().public_key()), Ok(orders));
}

#[test]
fn a_bundle_for_one_agent_is_not_for_another() {
    let (one, other) = (AgentId([1; 16]), AgentId([2; 16]));
    let mut orders = bundle(Vec::new());
    assert!(orders.is_for(one) && orders.is_for(other));
    orders.agent = Some(one.0);
    let opened = Orders::open(&orders.seal(&signer()), &signer().public_key()).unwrap();
    assert_eq!(opened, orders);
    assert!(opened.is_for(one) && !opened.is_for(other));
}

#[test]
fn no_byte_of_a_bundle_may_change() {
    let bytes = bundle(vec![order(1, net("203.0.113.9", 32), Some(80))]).seal(&signer());
    let key = signer().public_key();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(Orders::open(&changed, &key).is_err(), "byte {at} bit {bit}");
        }
        assert!(Orders::open(&bytes[..at], &key).is_err(), "cut at {at}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Orders::open(&longer, &key), Err(OrdersError::NotOrders));
}

#[test]
fn another_key_does_not_verify() {
    let bytes = bundle(Vec::new()).seal(&signer());
    let other = Signer::from_seed(&[6; 32]).public_key();
    assert_eq!(Orders::open(&bytes, &other), Err(OrdersError::Signature));
}

#[test]
fn what_cannot_be_an_order_is_refused() {
    let check = |orders: Vec<Order>, expected: OrdersError| {
        let bytes = bundle(orders).seal(&signer());
        assert_eq!(Orders::open(&bytes, &signer().public_key()), Err(expected));
    };
    let id = 3;
    check(
        vec![order(id, net("10.0.0.0", 33), None)],
        OrdersError::Network { id },
    );
    check(
        vec![order(id, net("10.0.0.0", 8), Some(80))],
        OrdersError::Network { id },
    );
    check(
        vec![order(0, net("10.0.0.1", 32), None)],
        OrdersError::Number { id: 0 },
    );
    check(
        vec![order(1 << 63, net("10.0.0.1", 32), None)],
        OrdersError::Number { id: 1 << 63 },
    );
    let mut long = order(id, net("10.0.0.1", 32), None);
    long.reason = "x".repeat(129);
    check(
        vec![long],
        OrdersError::TooMany {
            what: "reason",
            len: 129,
            max: 128,
        },
    );
    let many = vec![order(1, net("10.0.0.1", 32), None); ORDERS_MAX + 1];
    check(
        many,
        OrdersError::TooMany {
            what: "orders",
            len: ORDERS_MAX + 1,
            max: ORDERS_MAX,
        },
    );
}
