//! Orders of a collector, from its answer to the kernel: taken, kept, refused, and in a dry run only
//! told. A real agent on a real interface, against real TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collector;
#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;
#[allow(dead_code, reason = "each test uses its part")]
mod running;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector::{Arrived, Authority, Collector};
use kernel::in_namespace;
use link::{OURS, Peer, THEIRS};
use picket_agent::identity::Succession;
use picket_wire::{AgentId, BlockAct, BlockEvent, Digest, Net, Order, Orders, Signer, protected};
use running::{SEED, Service};
use rustix::process::Signal;

/// Long for a connection over a wire of our own, short for one that cannot come about.
const CONNECT: Duration = Duration::from_millis(700);

/// The collector's signing key.
fn signer() -> Signer {
    Signer::from_seed(&[21; 32])
}

fn agent() -> AgentId {
    AgentId::of_key(&Signer::from_seed(&SEED).public_key().0)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn order(id: u64, net: Net, lasts_ms: u64) -> Order {
    Order {
        id,
        net,
        port: None,
        expires_ms: now_ms() + lasts_ms,
        reason: "found talking to a pool".to_owned(),
    }
}

fn peers() -> Net {
    protected::lone(THEIRS.parse().unwrap())
}

/// What the collector would give this agent.
fn given(version: u64, orders: Vec<Order>) -> Orders {
    Orders {
        version,
        issued_ms: now_ms(),
        expires_ms: now_ms() + 3_600_000,
        orders,
        agent: Some(agent().0),
    }
}

/// A server at the other end.
fn server(peer: &Peer) -> SocketAddr {
    peer.run(|| {
        let server = TcpListener::bind((THEIRS, 0)).unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in server.incoming() {
                drop(connection);
            }
        });
        address
    })
}

fn connects(to: SocketAddr) -> bool {
    TcpStream::connect_timeout(&to, CONNECT).is_ok()
}

/// A collector, and an agent that takes its word.
fn laid_out(interface: &str, enabled: bool) -> (Authority, Collector, Service) {
    let authority = Authority::new();
    let key = Signer::from_seed(&SEED).public_key();
    let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
    let service = Service::new(interface, &collector, &authority);
    let signing = Digest(signer().public_key().0);
    fs::write(service.path("signing.pub"), format!("{signing}\n")).unwrap();
    let file = service.path("signing.pub").display().to_string();
    service.add("[indicators]", &format!("key_file = '{file}'\n"));
    service.add(
        "[block]",
        &format!("enabled = {enabled}\ntrusted = ['192.0.2.0/24']\n"),
    );
    (authority, collector, service)
}

fn events(all: &[Arrived]) -> impl Iterator<Item = &BlockEvent> {
    all.iter().flat_map(|one| &one.summary.blocks)
}

/// Waits until the collector is told this of an order.
#[track_caller]
fn told(collector: &Collector, act: BlockAct, order: u64) -> BlockEvent {
    let is_it = |event: &&BlockEvent| event.act == act && event.order == order;
    let what = format!("{act:?} of order {order}");
    let all = collector.wait_for(&what, |all| events(all).any(|event| is_it(&event)));
    events(&all).find(is_it).unwrap().clone()
}

#[test]
fn orders_hold_over_a_restart_and_no_other_bundle_undoes_them() {
    in_namespace(|| {
        let peer = Peer::connect("pk-or0", "pk-or1");
        let to = server(&peer);
        let (_authority, collector, service) = laid_out("pk-or0", true);
        let running = service.start();
        assert!(connects(to), "nothing is ordered");
        let trusted = Net {
            address: "192.0.2.7".parse().unwrap(),
            prefix: 32,
        };
        let orders = vec![order(31, peers(), 600_000), order(32, trusted, 600_000)];
        collector.order(&[given(10, orders).seal(&signer())]);
        assert!(!told(&collector, BlockAct::Applied, 31).is_dry_run());
        let refused = told(&collector, BlockAct::Refused, 32);
        assert_eq!(refused.why.as_deref(), Some("protected by 192.0.2.0/24"));
        assert!(!connects(to), "it is blocked");
        told(&collector, BlockAct::Dropped, 31);

        // Bundles that lift everything: tampered with, of another key, for another agent, for nobody in
        // particular, older, the same version, over, and nothing of the kind.
        let lifts = given(11, Vec::new());
        let mut tampered = lifts.seal(&signer());
        let middle = tampered.len() / 2;
        tampered[middle] ^= 1;
        let with = |change: &dyn Fn(&mut Orders)| {
            let mut orders = lifts.clone();
            change(&mut orders);
            orders.seal(&signer())
        };
        let attacks = [
            (tampered, "signature"),
            (lifts.seal(&Signer::from_seed(&[22; 32])), "signature"),
            (with(&|one| one.agent = Some([9; 16])), "foreign"),
            (with(&|one| one.agent = None), "foreign"),
            (with(&|one| one.version = 9), "rollback"),
            (with(&|one| one.version = 10), "rollback"),
            (with(&|one| one.expires_ms = now_ms()), "expired"),
            (b"no orders".to_vec(), "no_orders"),
            (Orders::seal_payload(b"\xa0", &signer()), "malformed"),
        ];
        for (bytes, word) in attacks {
            let before = service.status().unwrap()["orders"]["refused"][word]
                .as_u64()
                .unwrap_or(0);
            collector.order(&[bytes]);
            let status = service.wait_for(word, |status| {
                status["orders"]["refused"][word].as_u64() == Some(before + 1)
            });
            assert_eq!(status["orders"]["version"], 10);
            assert_eq!(status["blocks"], 1, "{word}: {status}");
            assert!(!connects(to), "{word}: it is blocked still");
            service.wait_for("a good answer", |status| {
                status["orders"]["trouble"].is_null()
            });
        }
        let refused = told(&collector, BlockAct::Refused, 0);
        let why = refused.why.unwrap();
        assert!(why.contains("signature does not verify"), "{why}");

        // Killed and started again it blocks, with a collector that has nothing to say.
        drop(running);
        assert!(connects(to), "nobody is there to block");
        let asked = collector.had().len();
        let running = service.start();
        service.wait_for("the order to hold", |status| status["blocks"] == 1);
        assert!(!connects(to), "it is blocked again");
        service.wait_for("another question", |_| collector.had().len() > asked);
        assert_eq!(collector.had().last(), Some(&10), "it has what it had");

        // What it kept is an older one, put there by somebody: what it took before still counts.
        assert_eq!(running.stop(), Some(0));
        let old = given(9, Vec::new()).seal(&signer());
        fs::write(service.path("state/given-orders"), old).unwrap();
        let running = service.start();
        let is_rollback = |event: &BlockEvent| {
            let why = event.why.as_deref().unwrap_or_default();
            event.order == 0 && why.contains("version 9 is older than 10")
        };
        collector.wait_for("the refusal", |all| events(all).any(is_rollback));
        // It asks with that, and is given what there is.
        let orders = vec![order(33, peers(), 600_000)];
        collector.order(&[given(12, orders).seal(&signer())]);
        told(&collector, BlockAct::Applied, 33);
        assert!(!connects(to));

        // Taken back it flows, at once.
        collector.order(&[given(13, Vec::new()).seal(&signer())]);
        told(&collector, BlockAct::Lifted, 33);
        assert!(connects(to), "it is lifted");
        assert_eq!(running.stop(), Some(0));
    });
}

#[test]
fn without_its_collector_an_order_ends_by_itself() {
    in_namespace(|| {
        let peer = Peer::connect("pk-or2", "pk-or3");
        let to = server(&peer);
        let (authority, collector, service) = laid_out("pk-or2", true);
        let _running = service.start();
        let orders = vec![order(1, peers(), 5_000)];
        collector.order(&[given(3, orders).seal(&signer())]);
        service.wait_for("the order to hold", |status| status["blocks"] == 1);
        let (address, key) = (collector.address.to_string(), Signer::from_seed(&SEED));
        drop(collector);
        assert!(!connects(to), "nobody took it back");
        service.wait_for("its end", |status| status["blocks"] == 0);
        assert!(connects(to), "it is over");
        // Whoever ordered it is told when it is there again.
        let collector = Collector::start(&authority, &address, Some(key.public_key()));
        told(&collector, BlockAct::Expired, 1);
    });
}

#[test]
fn where_blocking_is_off_it_is_told_and_nothing_is_dropped() {
    in_namespace(|| {
        let peer = Peer::connect("pk-or4", "pk-or5");
        let to = server(&peer);
        let (_authority, collector, service) = laid_out("pk-or4", false);
        let running = service.start();
        let orders = vec![order(7, peers(), 600_000)];
        collector.order(&[given(3, orders).seal(&signer())]);
        assert!(told(&collector, BlockAct::Applied, 7).is_dry_run());
        for _ in 0..3 {
            assert!(connects(to), "it flows");
        }
        let dropped = told(&collector, BlockAct::Dropped, 7);
        assert!(dropped.is_dry_run());
        assert_eq!(dropped.flow.unwrap().dst_port, to.port());
        let status = service.status().unwrap();
        assert_eq!(
            (&status["blocks"], &status["dry_run_blocks"]),
            (&0.into(), &1.into()),
            "{status}"
        );
        let shown = service.command("status").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(
            shown.contains("what 1 orders would have blocked"),
            "{shown}"
        );
        assert_eq!(running.stop(), Some(0));
    });
}

/// Nobody would ever lift its orders again.
#[test]
fn a_host_that_is_revoked_lets_go_of_what_was_ordered() {
    in_namespace(|| {
        let peer = Peer::connect("pk-or8", "pk-or9");
        let to = server(&peer);
        let (_authority, collector, service) = laid_out("pk-or8", true);
        let running = service.start();
        collector.order(&[given(10, vec![order(1, peers(), 600_000)]).seal(&signer())]);
        told(&collector, BlockAct::Applied, 1);
        // Refused for another reason it holds.
        collector.turn_away(Some("clock"));
        let asked = collector.had().len();
        service.wait_for("refusals", |_| collector.had().len() > asked + 1);
        let status = service.status().unwrap();
        assert_eq!(status["blocks"], 1, "{status}");
        assert!(!connects(to), "it is blocked");

        collector.turn_away(Some("revoked"));
        told(&collector, BlockAct::Lifted, 1);
        assert!(connects(to), "it is let go of");
        let shown = service.command("status").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("key is revoked"), "{shown}");
        assert!(!service.path("state/given-orders").exists());

        // Believed again it is given what holds, and nothing older than before.
        collector.turn_away(None);
        let old = given(9, vec![order(2, peers(), 600_000)]).seal(&signer());
        let new = given(11, vec![order(3, peers(), 600_000)]).seal(&signer());
        collector.order(&[old, new]);
        told(&collector, BlockAct::Applied, 3);
        let status = service.wait_for("a good answer", |status| {
            status["orders"]["trouble"].is_null()
        });
        assert_eq!(status["orders"]["refused"]["rollback"], 1, "{status}");
        assert!(!connects(to));
        assert_eq!(running.stop(), Some(0));
    });
}

#[test]
fn what_is_spoilt_on_disk_costs_orders_and_nothing_else() {
    in_namespace(|| {
        let peer = Peer::connect("pk-ora", "pk-orb");
        let to = server(&peer);
        let (_authority, collector, service) = laid_out("pk-ora", true);
        let running = service.start();
        collector.order(&[given(10, vec![order(1, peers(), 600_000)]).seal(&signer())]);
        told(&collector, BlockAct::Applied, 1);
        assert_eq!(running.stop(), Some(0));
        let file = service.path("state/given-orders-version");
        for spoilt in ["", "junk", "-1", "a folder"] {
            fs::remove_file(&file).unwrap();
            match spoilt {
                "a folder" => fs::create_dir(&file).unwrap(),
                text => fs::write(&file, text).unwrap(),
            }
            let running = service.start();
            let status = service.wait_for("its word", |status| {
                let trouble = status["orders"]["desk_trouble"].as_str();
                trouble.is_some_and(|why| {
                    why.contains("given-orders-version; remove it")
                        || why.contains("given-orders-version holds no version; remove it")
                })
            });
            assert_eq!(status["blocks"], 0, "{spoilt}: {status}");
            assert!(connects(to), "{spoilt}: no order holds");
            // It watches on: what went by is told.
            let before = collector.accepted().len();
            collector.wait_for("a window", |all| all.len() > before);
            // As it says, without another start.
            match spoilt {
                "a folder" => fs::remove_dir(&file).unwrap(),
                _ => fs::remove_file(&file).unwrap(),
            }
            let status = service.wait_for("the order", |status| status["blocks"] == 1);
            assert!(status["orders"]["desk_trouble"].is_null(), "{status}");
            assert_eq!(running.stop(), Some(0));
            assert_eq!(fs::read_to_string(&file).unwrap(), "10");
        }
        let why = |event: &BlockEvent| event.why.clone().unwrap_or_default();
        let all = collector.accepted();
        let told = events(&all).filter(|event| why(event).contains("no orders are taken"));
        assert_eq!(told.count(), 4, "each time once");
    });
}

#[test]
fn orders_hold_over_another_key() {
    in_namespace(|| {
        let peer = Peer::connect("pk-orc", "pk-ord");
        let to = server(&peer);
        let (authority, collector, service) = laid_out("pk-orc", true);
        let running = service.start();
        collector.order(&[given(10, vec![order(1, peers(), 600_000)]).seal(&signer())]);
        told(&collector, BlockAct::Applied, 1);
        assert_eq!(running.stop(), Some(0));
        let address = collector.address.to_string();
        drop(collector);
        let succession = Succession::begin(&service.path("agent.key")).unwrap();
        let (key, next) = (succession.next.public_key(), succession.next.agent());
        succession.finish().unwrap();

        let collector = Collector::start(&authority, &address, Some(key));
        let running = service.start();
        told(&collector, BlockAct::Applied, 1);
        assert!(!connects(to), "it is blocked still");
        // The collector's word must name who it is now, and is asked for.
        service.wait_for("a question", |_| collector.had().contains(&0));
        collector.order(&[given(11, Vec::new()).seal(&signer())]);
        service.wait_for("the refusal", |status| {
            status["orders"]["refused"]["foreign"] == 1 && status["blocks"] == 1
        });
        let mut lifts = given(11, Vec::new());
        lifts.agent = Some(next.0);
        collector.order(&[lifts.seal(&signer())]);
        told(&collector, BlockAct::Lifted, 1);
        assert_eq!(running.stop(), Some(0));
    });
}

#[test]
fn what_cannot_be_in_force_is_said_with_the_reason() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-ore", "pk-orf");
        let (_authority, collector, service) = laid_out("pk-ore", true);
        let running = service.start();
        let own = protected::lone(OURS.parse().unwrap());
        collector.order(&[given(10, vec![order(1, own, 600_000)]).seal(&signer())]);
        let refused = told(&collector, BlockAct::Refused, 1);
        assert_eq!(refused.why.as_deref(), Some("this host's own address"));
        assert_eq!(running.stop(), Some(0));

        // Packet sockets drop nothing.
        service.add("[capture]", "rung = 'afpacket'\n");
        let running = service.start();
        collector.order(&[given(11, vec![order(2, peers(), 600_000)]).seal(&signer())]);
        told(&collector, BlockAct::Refused, 2);
        let status = service.wait_for("its word", |status| !status["blocks_trouble"].is_null());
        assert_eq!(status["blocks"], 0, "{status}");
        let shown = service.command("status").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("tried again every 30 s"), "{shown}");
        assert_eq!(running.stop(), Some(0));
    });
}

/// A collector of an older version is not silent, and nothing goes stale for it.
#[test]
fn what_an_older_collector_does_not_offer_is_said_once() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-or6", "pk-or7");
        let (_authority, collector, service) = laid_out("pk-or6", true);
        collector.set_older(true);
        let log = fs::File::create(service.path("log")).unwrap();
        let child = service.command("run").stderr(log).spawn().unwrap();
        let running = running::Running(child);
        let status = service.wait_for("both answers", |status| {
            status["intel"]["not_offered"] == true && status["orders"]["not_offered"] == true
        });
        for part in ["intel", "orders"] {
            assert!(status[part]["trouble"].is_null(), "{status}");
        }
        assert!(status["intel"]["stale"].is_null(), "{status}");
        let shown = service.command("status").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let said = "not offered: the collector is of an older version";
        assert_eq!(shown.matches(said).count(), 2, "{shown}");
        running.signal(Signal::TERM);
        assert_eq!(running.stop(), Some(0));
        let log = fs::read_to_string(service.path("log")).unwrap();
        assert_eq!(log.matches("it is of an older version").count(), 2, "{log}");
    });
}
