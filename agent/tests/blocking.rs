//! Orders to block, from a signed bundle to a connection that does not come about: a real agent on
//! a real interface in a network namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kernel::in_namespace;
use link::{Peer, THEIRS};
use picket_wire::{Net, Order, Orders, Signer};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// Long for a connection over a wire of our own, short for one that cannot come about.
const CONNECT: Duration = Duration::from_millis(700);

struct Agent {
    folder: tempfile::TempDir,
    process: Child,
    lines: Receiver<Value>,
    signer: Signer,
}

impl Agent {
    fn start(interface: &str, trusted: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::from_seed(&[9; 32]);
        let key: String = signer
            .public_key()
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::write(folder.path().join("orders.key"), key).unwrap();
        let place = folder.path().display();
        let config = format!(
            "interfaces = ['{interface}']\ndefault_route = false\nstate_dir = '{place}'\n\
             [block]\nenabled = true\norders_file = '{place}/orders'\n\
             key_file = '{place}/orders.key'\ntrusted = ['{trusted}']\n"
        );
        let path = folder.path().join("agent.toml");
        fs::write(&path, config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
            .args(["run", "--standalone", "--config"])
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let (ready, started) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("watching") {
                    let _ = ready.send(());
                }
            }
        });
        let out = BufReader::new(process.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                drop(tell.send(serde_json::from_str(&line).unwrap()));
            }
        });
        started.recv_timeout(LIMIT).expect("the agent watches");
        Self {
            folder,
            process,
            lines,
            signer,
        }
    }

    fn orders_file(&self) -> PathBuf {
        self.folder.path().join("orders")
    }

    /// Puts a bundle in place as one step, as a delivery does.
    fn put(&self, bytes: &[u8]) {
        let young = self.folder.path().join("orders.new");
        fs::write(&young, bytes).unwrap();
        fs::rename(young, self.orders_file()).unwrap();
    }

    fn order(&self, version: u64, orders: Vec<Order>) {
        self.put(&bundle(version, orders).seal(&self.signer));
    }

    /// The next line about an order.
    fn told(&self) -> (String, u64, Value) {
        let line = self.lines.recv_timeout(LIMIT).expect("the agent tells");
        assert_eq!(line["kind"], "block", "{line}");
        (
            line["act"].as_str().unwrap().to_owned(),
            line["order"].as_u64().unwrap(),
            line,
        )
    }

    fn expect(&self, act: &str, order: u64) -> Value {
        let (got, number, line) = self.told();
        assert_eq!((got.as_str(), number), (act, order), "{line}");
        line
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn bundle(version: u64, orders: Vec<Order>) -> Orders {
    Orders {
        version,
        issued_ms: now_ms(),
        expires_ms: now_ms() + 3_600_000,
        orders,
        agent: None,
    }
}

fn order(id: u64, address: &str, port: Option<u16>, lasts_ms: u64) -> Order {
    Order {
        id,
        net: Net {
            address: address.parse().unwrap(),
            prefix: 32,
        },
        port,
        expires_ms: now_ms() + lasts_ms,
        reason: "found talking to a pool".to_owned(),
    }
}

/// Two servers at the other end.
fn servers(peer: &Peer) -> [SocketAddr; 2] {
    peer.run(|| {
        [(); 2].map(|()| {
            let server = TcpListener::bind((THEIRS, 0)).unwrap();
            let address = server.local_addr().unwrap();
            std::thread::spawn(move || {
                for connection in server.incoming() {
                    drop(connection);
                }
            });
            address
        })
    })
}

fn connects(to: SocketAddr) -> bool {
    TcpStream::connect_timeout(&to, CONNECT).is_ok()
}

#[test]
fn an_order_holds_from_its_bundle_to_its_end() {
    in_namespace(|| {
        let peer = Peer::connect("pk-block0", "pk-block1");
        let [pool, other] = servers(&peer);
        let agent = Agent::start("pk-block0", "192.0.2.0/24");
        assert!(connects(pool) && connects(other), "nothing is ordered");

        agent.order(4, vec![order(31, THEIRS, Some(pool.port()), 600_000)]);
        let line = agent.expect("applied", 31);
        assert_eq!(line["net"], "10.9.0.2/32");
        assert_eq!(line["why"], "found talking to a pool");
        assert!(!connects(pool), "it is blocked");
        assert!(connects(other), "another port is not");
        let line = agent.expect("dropped", 31);
        assert_eq!(
            (&line["dst_ip"], &line["dst_port"]),
            (&THEIRS.into(), &pool.port().into())
        );
        assert_eq!(line["proto"], "tcp");

        // What is not signed by the key, or older, changes nothing.
        let forged = bundle(9, Vec::new()).seal(&Signer::from_seed(&[1; 32]));
        agent.put(&forged);
        let line = agent.expect("refused", 0);
        assert!(
            line["why"]
                .as_str()
                .unwrap()
                .contains("signature does not verify"),
            "{line}"
        );
        agent.order(3, Vec::new());
        let line = agent.expect("refused", 0);
        assert!(
            line["why"]
                .as_str()
                .unwrap()
                .contains("version 3 is older than 4"),
            "{line}"
        );
        assert!(!connects(pool), "it is blocked still");
        agent.expect("dropped", 31);

        // Trusted networks and the metadata service cannot be blocked; the rest of the bundle is
        // taken, and what is not in it any more is lifted.
        agent.order(
            5,
            vec![
                order(32, "192.0.2.7", None, 600_000),
                order(33, "169.254.169.254", None, 600_000),
                order(34, "198.51.100.1", None, 600_000),
            ],
        );
        let mut acts: Vec<(String, u64)> = (0..4)
            .map(|_| agent.told())
            .map(|(act, id, _)| (act, id))
            .collect();
        acts.sort();
        let expected = [
            ("applied", 34),
            ("lifted", 31),
            ("refused", 32),
            ("refused", 33),
        ];
        assert_eq!(acts, expected.map(|(act, id)| (act.to_owned(), id)));
        assert!(connects(pool), "it is lifted");

        // An order ends by itself.
        agent.order(6, vec![order(35, THEIRS, None, 3_000)]);
        let mut acts: Vec<(String, u64)> = (0..2)
            .map(|_| agent.told())
            .map(|(act, id, _)| (act, id))
            .collect();
        acts.sort();
        assert_eq!(
            acts,
            [("applied".to_owned(), 35), ("lifted".to_owned(), 34)]
        );
        assert!(!connects(other));
        loop {
            match agent.told() {
                (act, 35, _) if act == "dropped" => {}
                (act, 35, _) if act == "expired" => break,
                (_, _, line) => unreachable!("{line}"),
            }
        }
        assert!(connects(other), "it is over");
    });
}

#[test]
fn a_killed_agent_blocks_nothing() {
    in_namespace(|| {
        let peer = Peer::connect("pk-block2", "pk-block3");
        let [pool, _] = servers(&peer);
        let mut agent = Agent::start("pk-block2", "192.0.2.0/24");
        agent.order(1, vec![order(1, THEIRS, None, 600_000)]);
        agent.expect("applied", 1);
        assert!(!connects(pool), "it is blocked");
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
        assert!(connects(pool), "nobody is there to block");
    });
}
