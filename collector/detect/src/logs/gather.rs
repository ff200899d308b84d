//! Gathers what logs tell of hosts into summaries, so that the word of a log is judged as that of an
//! agent is: VPC flow records a minute and interface together, resolver queries a minute and host.
//!
//! A log does not say everything: who opened a connection is known where flags are told and guessed by
//! the ports where not; a datagram's first sender is the one with the higher port. Which address is
//! the interface's own is told by the direction, and else the one that stands in most of its records.
//! What is held is bounded: [`Gather::is_full`] says when the caller should take it out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::limits::{ANSWERS_MAX, TEXT_BYTES_MAX};
use picket_wire::{
    Answer, Conversation, Host, Net, Opened, Question, Side, Summary, Transport, Window,
};

use super::flow_flags::{ACK, RST, SYN, Sent, TCP, flags, went_on};
use super::limits::{GATHERED_MAX, GATHERED_TOGETHER};
use super::resolver_query::Query;
use super::vpc_flow::{Direction, FlowRecord};
use crate::event::{FLOW_LOG, QUERY_LOG};

/// A window of what is gathered; flow logs aggregate over one minute or ten.
const WINDOW_NS: u64 = 60_000_000_000;

/// The resolver's address in every VPC (VPC user guide, "Amazon DNS server"): query logs name none.
const RESOLVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 253));

/// NXDOMAIN.
const NO_SUCH_NAME: u16 = 3;

/// Who a log speaks of: account, region, and the instance or else the interface or the address.
type Who = (Box<str>, Box<str>, Box<str>);

/// What is being gathered.
#[derive(Debug, Default)]
pub struct Gather {
    flows: BTreeMap<(u64, Who), Vec<FlowRecord>>,
    queries: BTreeMap<(u64, Who), Vec<Query>>,
    held: usize,
}

impl Gather {
    /// Takes a flow record in.
    pub fn flow(&mut self, record: FlowRecord) {
        let window = record.start_ns / WINDOW_NS;
        let name = record.instance.as_ref().unwrap_or(&record.interface);
        let who = (record.account.clone(), record.region.clone(), name.clone());
        self.flows.entry((window, who)).or_default().push(record);
        self.held += 1;
    }

    /// Takes a query in.
    pub fn query(&mut self, query: Query) {
        let window = query.time_ns / WINDOW_NS;
        let name = query.instance.clone();
        let name = name.unwrap_or_else(|| query.client.to_string());
        let who = (
            query.account.clone().into(),
            query.region.clone().into(),
            name.into(),
        );
        self.queries.entry((window, who)).or_default().push(query);
        self.held += 1;
    }

    /// Whether there should be no more before [`Self::take`].
    pub fn is_full(&self) -> bool {
        self.held >= GATHERED_MAX
    }

    /// Everything gathered, in the order of its windows.
    pub fn take(&mut self) -> Vec<Summary> {
        let Self { flows, queries, .. } = std::mem::take(self);
        let mut told = Vec::new();
        for ((window, who), records) in flows {
            let own = own_addresses(&records);
            let conversations = conversations(&records, &own);
            for some in conversations.chunks(GATHERED_TOGETHER) {
                told.push(Summary {
                    conversations: some.to_vec(),
                    ..summary(window, &who, FLOW_LOG, &own)
                });
            }
        }
        for ((window, who), queries) in queries {
            let own: Vec<IpAddr> = queries
                .first()
                .map(|query| query.client)
                .into_iter()
                .collect();
            let questions = questions(queries);
            for some in questions.chunks(GATHERED_TOGETHER) {
                told.push(Summary {
                    questions: some.to_vec(),
                    ..summary(window, &who, QUERY_LOG, &own)
                });
            }
        }
        told.sort_by_key(|summary| summary.window.start_ns);
        told
    }
}

/// One with nothing in it yet.
fn summary(window: u64, who: &Who, capture: &str, own: &[IpAddr]) -> Summary {
    let text = |text: &str| -> String { text.chars().take(TEXT_BYTES_MAX / 4).collect() };
    let local = own.iter().map(|address| Net {
        address: *address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    });
    Summary {
        host: Host {
            account: text(&who.0),
            region: text(&who.1),
            instance: text(&who.2),
            capture: capture.to_owned(),
            local: local.collect(),
            ..Host::default()
        },
        window: Window {
            start_ns: window * WINDOW_NS,
            end_ns: window.saturating_add(1).saturating_mul(WINDOW_NS),
        },
        ..Summary::default()
    }
}

/// The interface's own addresses, at most one of each family: where the direction is told, the end it
/// tells; else the address in most records, a private one before others.
fn own_addresses(records: &[FlowRecord]) -> Vec<IpAddr> {
    let mut counts: BTreeMap<IpAddr, (usize, bool)> = BTreeMap::new();
    let mut count = |address: IpAddr| {
        let is_private = match address {
            IpAddr::V4(v4) => v4.is_private(),
            IpAddr::V6(v6) => v6.is_unique_local(),
        };
        let (times, _) = counts.entry(address).or_insert((0, is_private));
        *times += 1;
    };
    for record in records {
        match record.direction {
            Some(Direction::Egress) => count(record.source.0),
            Some(Direction::Ingress) => count(record.destination.0),
            None => [record.source.0, record.destination.0]
                .into_iter()
                .for_each(&mut count),
        }
    }
    let most = |is_wanted: fn(&IpAddr) -> bool| {
        let wanted = counts.iter().filter(|(address, _)| is_wanted(address));
        wanted
            .max_by_key(|(_, score)| **score)
            .map(|(address, _)| *address)
    };
    most(IpAddr::is_ipv4)
        .into_iter()
        .chain(most(IpAddr::is_ipv6))
        .collect()
}

/// Both ways of what is between two ends, each flow with all of its records.
fn conversations(records: &[FlowRecord], own: &[IpAddr]) -> Vec<Conversation> {
    type End = (IpAddr, u16);
    // The lower end first, whoever sent.
    let mut flows: BTreeMap<(u8, End, End), Vec<&FlowRecord>> = BTreeMap::new();
    for record in records {
        let (one, other) = ends(record, own);
        let key = (record.protocol, one.min(other), one.max(other));
        flows.entry(key).or_default().push(record);
    }
    let mut all: BTreeMap<(u8, IpAddr, End), Conversation> = BTreeMap::new();
    for ((protocol, low, high), records) in flows {
        let (client, server, opened) = opener(protocol, low, high, &records, own);
        let is_own = |address: IpAddr| own.contains(&address);
        let local = match (is_own(client.0), is_own(server.0)) {
            (true, true) => Side::Both,
            (true, false) => Side::Client,
            (false, true) => Side::Server,
            (false, false) => Side::Neither,
        };
        let first_ns = records
            .iter()
            .map(|one| one.start_ns)
            .min()
            .unwrap_or_default();
        let whole = all
            .entry((protocol, client.0, server))
            .or_insert_with(|| Conversation {
                client: client.0,
                server: server.0,
                server_port: server.1,
                client_port: client.1,
                protocol,
                opened,
                local,
                flows: 0,
                attempts: 0,
                accepted: 0,
                refused: 0,
                packets_out: 0,
                packets_in: 0,
                bytes_out: 0,
                bytes_in: 0,
                flags_out: 0,
                flags_in: 0,
                first_ns,
                last_ns: first_ns,
                tls_name: None,
                ja4: None,
                dns_name: None,
                process: None,
                content: None,
                tunnel: None,
                tunnel_id: None,
                processes: None,
                starts_ms: vec![],
            });
        whole.flows += 1;
        if opened == Opened::Seen {
            whole.opened = opened;
        }
        whole.first_ns = whole.first_ns.min(first_ns);
        let (mut out, mut back) = (Sent::default(), Sent::default());
        for record in records {
            whole.last_ns = whole.last_ns.max(record.end_ns);
            let way = if ends(record, own).0 == client {
                &mut out
            } else {
                &mut back
            };
            way.add(record);
        }
        whole.packets_out = whole.packets_out.saturating_add(out.packets);
        whole.bytes_out = whole.bytes_out.saturating_add(out.bytes);
        whole.packets_in = whole.packets_in.saturating_add(back.packets);
        whole.bytes_in = whole.bytes_in.saturating_add(back.bytes);
        if protocol == TCP {
            whole.attempts += u32::from(out.flags & SYN != 0);
            whole.accepted += u32::from(back.flags & SYN != 0);
            whole.refused += u32::from(back.flags & RST != 0 && back.flags & SYN == 0);
            out.flags |= if went_on(out, back) { ACK } else { 0 };
        }
        whole.flags_out |= out.flags;
        whole.flags_in |= back.flags;
    }
    all.into_values().collect()
}

/// Sender and receiver: the interface's own end as the interface saw it, the other as it is behind
/// what stands between.
fn ends(record: &FlowRecord, own: &[IpAddr]) -> ((IpAddr, u16), (IpAddr, u16)) {
    let behind = |end: (IpAddr, u16), address: Option<IpAddr>| match address {
        Some(address) if !own.contains(&end.0) => (address.to_canonical(), end.1),
        _ => end,
    };
    (
        behind(record.source, record.packet_source),
        behind(record.destination, record.packet_destination),
    )
}

/// Which of two ends opened: the one with a SYN and no ACK, or not the one that answered a SYN; else the
/// one with the higher port.
fn opener(
    protocol: u8,
    low: (IpAddr, u16),
    high: (IpAddr, u16),
    records: &[&FlowRecord],
    own: &[IpAddr],
) -> ((IpAddr, u16), (IpAddr, u16), Opened) {
    if protocol == TCP {
        let sent = |end, wanted: u8| {
            records.iter().any(|record| {
                let is_of = ends(record, own).0 == end;
                is_of && flags(record) & (SYN | ACK) == wanted
            })
        };
        for (one, other) in [(low, high), (high, low)] {
            if sent(one, SYN) && !sent(other, SYN) || sent(other, SYN | ACK) {
                return (one, other, Opened::Seen);
            }
        }
    }
    if low.1 == high.1 {
        // Of the same port, as between servers of time: our own end asked.
        let (client, server) = if own.contains(&high.0) {
            (high, low)
        } else {
            (low, high)
        };
        return (client, server, Opened::Unknown);
    }
    let (client, server) = if low.1 > high.1 {
        (low, high)
    } else {
        (high, low)
    };
    (client, server, Opened::Guessed)
}

/// Questions of one host, like ones together.
fn questions(queries: Vec<Query>) -> Vec<Question> {
    let mut all: BTreeMap<(String, u16, bool), Question> = BTreeMap::new();
    for query in queries {
        let key = (query.name.clone(), query.qtype, query.is_tcp);
        let one = all.entry(key).or_insert_with(|| Question {
            client: query.client,
            resolver: RESOLVER,
            transport: if query.is_tcp {
                Transport::Tcp
            } else {
                Transport::Udp
            },
            name: query.name.clone(),
            qtype: query.qtype,
            asked: 0,
            answered: 0,
            nxdomain: 0,
            rcode: None,
            answers: Vec::new(),
            first_ns: query.time_ns,
            last_ns: query.time_ns,
            bytes: 0,
            process: None,
            unanswered: 0,
            failed: 0,
            truncated: 0,
            edns_bytes: None,
            latency: None,
            tunnel: None,
            tunnel_id: None,
            also: Vec::new(),
            asked_by_others: 0,
        });
        one.asked += 1;
        one.first_ns = one.first_ns.min(query.time_ns);
        one.last_ns = one.last_ns.max(query.time_ns);
        if let Some(rcode) = query.rcode {
            one.answered += 1;
            one.rcode = Some(rcode);
            one.nxdomain += u32::from(rcode == NO_SUCH_NAME);
            one.failed += u32::from(rcode != 0 && rcode != NO_SUCH_NAME);
        } else {
            one.unanswered += 1;
        }
        for (rtype, data) in query.answers {
            let answer = Answer { rtype, data };
            if one.answers.len() < ANSWERS_MAX && !one.answers.contains(&answer) {
                one.answers.push(answer);
            }
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Columns, FlowLine};

    const HEADER: &str = "account-id region interface-id instance-id srcaddr dstaddr srcport dstport protocol packets \
                          bytes start end action tcp-flags flow-direction pkt-srcaddr";

    /// Records of lines in the columns of [`HEADER`], from `srcaddr` to `pkt-srcaddr`.
    fn gathered(lines: &[&str]) -> Vec<Summary> {
        let columns = Columns::named(HEADER).unwrap().unwrap();
        let mut gather = Gather::default();
        for line in lines {
            let line = format!("111122223333 eu-west-1 eni-0a i-0abc {line}");
            match columns.read(&line).unwrap() {
                FlowLine::Record(record) => gather.flow(*record),
                other => panic!("{other:?}"),
            }
        }
        gather.take()
    }

    fn one(lines: &[&str]) -> Conversation {
        let mut all = gathered(lines);
        assert_eq!(all.len(), 1, "{all:?}");
        let mut conversations = all.remove(0).conversations;
        assert_eq!(conversations.len(), 1, "{conversations:?}");
        conversations.remove(0)
    }

    #[test]
    fn both_ways_of_a_connection_are_one_conversation() {
        let lines = [
            "10.0.0.5 198.51.100.7 49152 443 6 10 840 1700000000 1700000050 ACCEPT 3 egress -",
            "198.51.100.7 10.0.0.5 443 49152 6 8 9000 1700000001 1700000050 ACCEPT 19 ingress -",
            "10.0.0.5 198.51.100.7 49153 443 6 2 100 1700000002 1700000050 ACCEPT 2 egress -",
        ];
        let all = gathered(&lines);
        let host = &all[0].host;
        assert_eq!(
            (&*host.instance, &*host.account, &*host.region),
            ("i-0abc", "111122223333", "eu-west-1")
        );
        assert_eq!(host.capture, "vpc-flow-log");
        assert_eq!(
            host.local,
            [Net {
                address: "10.0.0.5".parse().unwrap(),
                prefix: 32
            }]
        );
        assert_eq!(all[0].window.start_ns, 1_699_999_980_000_000_000);
        let it = one(&lines);
        assert_eq!(
            (it.client.to_string(), it.server.to_string()),
            ("10.0.0.5".into(), "198.51.100.7".into())
        );
        assert_eq!(
            (it.server_port, it.opened, it.local),
            (443, Opened::Seen, Side::Client)
        );
        assert_eq!(
            (it.flows, it.attempts, it.accepted, it.refused),
            (2, 2, 1, 0)
        );
        assert_eq!(
            (it.packets_out, it.bytes_out, it.packets_in, it.bytes_in),
            (12, 940, 8, 9000)
        );
        assert_eq!(
            all[0].to_bytes().len(),
            Summary::from_bytes(&all[0].to_bytes())
                .unwrap()
                .to_bytes()
                .len()
        );
    }

    #[test]
    fn who_opened_is_told_by_flags_then_guessed_by_ports() {
        let check = |line: &str, client: &str, opened| {
            let it = one(&[line]);
            assert_eq!(
                (it.client.to_string(), it.opened),
                (client.to_owned(), opened),
                "{line}"
            );
        };
        // A server's port above the client's.
        check(
            "192.0.2.1 10.0.0.5 1024 8443 6 1 40 60 61 ACCEPT 2 ingress -",
            "192.0.2.1",
            Opened::Seen,
        );
        check(
            "10.0.0.5 192.0.2.1 8443 1024 6 1 40 60 61 ACCEPT 18 egress -",
            "192.0.2.1",
            Opened::Seen,
        );
        check(
            "10.0.0.5 192.0.2.1 40000 22 6 1 40 60 61 ACCEPT 0 egress -",
            "10.0.0.5",
            Opened::Guessed,
        );
        check(
            "192.0.2.1 10.0.0.5 53 40000 17 1 40 60 61 ACCEPT 0 ingress -",
            "10.0.0.5",
            Opened::Guessed,
        );
        check(
            "192.0.2.1 10.0.0.5 123 123 17 1 40 60 61 ACCEPT 0 ingress -",
            "10.0.0.5",
            Opened::Unknown,
        );
    }

    #[test]
    fn what_was_turned_away_was_opened_and_not_answered() {
        let it = one(&["192.0.2.1 10.0.0.5 40000 22 6 3 120 60 61 REJECT - ingress -"]);
        assert_eq!((it.opened, it.attempts, it.accepted), (Opened::Seen, 1, 0));
        assert_eq!((it.flags_out, it.packets_in), (SYN, 0));
        // No flags are told of what passed: it says nothing of an opening.
        let it = one(&["192.0.2.1 10.0.0.5 40000 22 6 3 120 60 61 ACCEPT - ingress -"]);
        assert_eq!(
            (it.opened, it.attempts, it.flags_out),
            (Opened::Guessed, 0, ACK)
        );
    }

    #[test]
    fn a_peer_is_who_stands_behind_a_gateway() {
        let it = one(&["10.0.9.9 10.0.0.5 40000 80 6 1 40 60 61 ACCEPT 2 ingress 203.0.113.5"]);
        assert_eq!(it.client.to_string(), "203.0.113.5");
    }

    #[test]
    fn without_a_direction_the_own_address_is_in_most_records() {
        let peers = ["192.0.2.1", "10.9.9.9"];
        let lines: Vec<String> = peers
            .iter()
            .map(|peer| format!("10.0.0.5 {peer} 40000 80 6 1 40 60 61 ACCEPT 2 - -"))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            gathered(&lines)[0].host.local[0].address.to_string(),
            "10.0.0.5"
        );
        let one_peer = ["8.8.8.8 10.0.0.5 53 40000 17 1 40 60 61 ACCEPT 0 - -"];
        assert_eq!(
            gathered(&one_peer)[0].host.local[0].address.to_string(),
            "10.0.0.5"
        );
    }

    #[test]
    fn windows_and_hosts_stay_apart() {
        let line = |start: u64| {
            format!("10.0.0.5 192.0.2.1 40000 80 6 1 40 {start} {start} ACCEPT 2 egress -")
        };
        let lines = [line(120), line(59), line(60)];
        let all = gathered(&[&lines[0], &lines[1], &lines[2]]);
        let starts: Vec<u64> = all
            .iter()
            .map(|one| one.window.start_ns / 1_000_000_000)
            .collect();
        assert_eq!(starts, [0, 60, 120]);
    }

    #[test]
    fn like_questions_are_told_together() {
        let query = |second: u64, rcode| Query {
            account: "1".into(),
            region: "r".into(),
            vpc: String::new(),
            instance: None,
            client: "10.0.0.5".parse().unwrap(),
            time_ns: second * 1_000_000_000,
            name: "c2.example.com".into(),
            qtype: 1,
            rcode,
            answers: vec![(1, "203.0.113.9".into())],
            is_tcp: false,
        };
        let mut gather = Gather::default();
        for (second, rcode) in [(60, Some(0)), (61, Some(3)), (62, None), (119, Some(2))] {
            gather.query(query(second, rcode));
        }
        gather.query(query(120, Some(0)));
        let all = gather.take();
        assert_eq!(all.len(), 2);
        let it = &all[0].questions[0];
        assert_eq!(
            (it.asked, it.answered, it.nxdomain, it.failed, it.unanswered),
            (4, 3, 1, 1, 1)
        );
        assert_eq!((it.answers.len(), it.rcode), (1, Some(2)));
        assert_eq!(all[0].host.instance, "10.0.0.5");
        assert!(gather.take().is_empty(), "what was taken is gone");
    }

    #[test]
    fn a_crowd_is_told_in_several_and_said_to_be_full() {
        let mut gather = Gather::default();
        let line = "10.0.0.5 192.0.2.1 40000 80 6 1 40 60 61 ACCEPT 2 egress -";
        let columns = Columns::named(HEADER).unwrap().unwrap();
        let line = format!("111122223333 eu-west-1 eni-0a i-0abc {line}");
        let Ok(FlowLine::Record(record)) = columns.read(&line) else {
            panic!("no record");
        };
        for n in 0..GATHERED_MAX as u32 {
            assert!(!gather.is_full());
            let mut record = record.clone();
            record.destination.0 =
                IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0100 + n % 25_000));
            gather.flow(*record);
        }
        assert!(gather.is_full());
        let all = gather.take();
        let sizes: Vec<usize> = all.iter().map(|one| one.conversations.len()).collect();
        assert_eq!(sizes, [10_000, 10_000, 5_000]);
        assert!(!gather.is_full());
    }
}
