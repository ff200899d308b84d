//! What a resolver of the host asks the network is told of whoever asked the resolver; what nobody
//! asked stays its own, and a process that takes no questions is never taken for one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with the other tests")]
mod bench;

use std::net::{IpAddr, Ipv4Addr};

use bench::{S, T0, at, dns, host, indicators, udp};
use picket_sense::input::{KernelNotice, Owner, PacketCopy, ProcessId, Recognised, Way};
use picket_sense::limits::{ASKED_NAMES_MAX, ASKS_PER_NAME_MAX};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::limits::QUESTION_ALSO_MAX;
use picket_wire::{Hit, Parent, Process, Question, Side};

const STUB: u32 = 53;
const LISTED: &str = "cdn-sync.example";

fn owner(pid: u32) -> Owner {
    Owner {
        process: ProcessId { pid, start_ns: 7 },
        uid: 0,
    }
}

/// A sensor that knows a resolver and what can be asked of it.
struct Host {
    sensor: Sensor,
}

impl Host {
    fn new() -> Self {
        let config = SensorConfig::new(host(), Clock::Caller);
        let mut sensor = Sensor::new(config, indicators(&[LISTED]));
        sensor.on_tick(T0);
        let mut host = Self { sensor };
        host.learn(STUB, "dnsmasq", None);
        host.notice(T0, STUB, Recognised::Resolver, &[]);
        host
    }

    fn learn(&mut self, pid: u32, name: &str, parent: Option<u32>) {
        let parent = parent.map(|pid| {
            Box::new(Parent {
                pid,
                ..Parent::default()
            })
        });
        let process = Process {
            pid,
            start_ns: 7,
            name: name.into(),
            parent,
            ..Process::default()
        };
        self.sensor.on_process(owner(pid).process, process);
    }

    fn notice(&mut self, ts_ns: u64, pid: u32, recognised: Recognised, bytes: &[u8]) {
        self.sensor.on_kernel_notice(&KernelNotice {
            ts_ns,
            local: (Ipv4Addr::LOCALHOST.into(), 40_000),
            remote: (Ipv4Addr::new(127, 0, 0, 53).into(), 53),
            protocol: 17,
            way: Way::Out,
            set_version: 0,
            ifindex: 1,
            tunnel: None,
            recognised,
            owner: Some(owner(pid)),
            bytes,
        });
    }

    /// A process asks the resolver.
    fn asks(&mut self, ts_ns: u64, pid: u32, name: &str) {
        self.notice(ts_ns, pid, Recognised::Asked, &dns(name, None, 0));
    }

    /// A process asks the network, or hears from it.
    fn sends(&mut self, ts_ns: u64, pid: u32, name: &str, answers: Option<&[[u8; 4]]>) {
        self.message(ts_ns, pid, answers.is_some(), &dns(name, answers, 0));
    }

    fn message(&mut self, ts_ns: u64, pid: u32, answer: bool, message: &[u8]) {
        let (ours, theirs) = (at(1, 40_001), at(2, 53));
        let (from, to, way) = if answer {
            (theirs, ours, Way::In)
        } else {
            (ours, theirs, Way::Out)
        };
        let data = udp(from, to, message);
        self.sensor.on_copy(&PacketCopy {
            ts_ns,
            data: &data,
            wire_bytes: u32::try_from(data.len()).unwrap(),
            way,
            ifindex: 1,
            tunnel: None,
            owner: Some(owner(pid)),
        });
    }

    fn count(&mut self, reason: &str) -> u64 {
        let totals = self.sensor.counters().totals();
        let mut of_it = totals.filter(|one| one.stage == "resolver" && one.reason == reason);
        of_it.next().map_or(0, |one| one.count)
    }

    /// What is told until a time.
    fn told(&mut self, until_ns: u64) -> (Vec<Question>, Vec<Hit>) {
        self.sensor.on_tick(until_ns);
        let (mut questions, mut hits) = (Vec::new(), Vec::new());
        while let Some(summary) = self.sensor.poll_output() {
            questions.extend(summary.questions);
            hits.extend(summary.hits);
        }
        (questions, hits)
    }
}

fn pid(process: Option<&Process>) -> (u32, Option<u32>) {
    let process = process.unwrap();
    (process.pid, process.via.as_ref().map(|via| via.pid))
}

#[test]
fn who_asked_is_named_and_the_resolver_beside() {
    let mut host = Host::new();
    for asker in [1, 2, 3] {
        host.learn(asker, "curl", None);
        let name = format!("h{asker}.example");
        let ts_ns = T0 + u64::from(asker);
        host.asks(ts_ns, asker, &name);
        host.sends(ts_ns + 1, STUB, &name, None);
        host.sends(ts_ns + 2, STUB, &name, Some(&[[192, 0, 2, 9]]));
    }
    let (questions, _) = host.told(T0 + 10 * S);
    assert_eq!(questions.len(), 3);
    for (question, asker) in questions.iter().zip(1..) {
        assert_eq!(pid(question.process.as_deref()), (asker, Some(STUB)));
        assert_eq!((question.asked, question.answered), (1, 1));
        let via = question.process.as_ref().unwrap().via.as_ref().unwrap();
        assert_eq!(via.name, "dnsmasq");
        assert!(question.also.is_empty());
    }
    assert_eq!((host.count("asked"), host.count("followed")), (3, 3));
    assert_eq!(host.count("own"), 0);
}

#[test]
fn what_nobody_asked_stays_the_resolvers() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    // Never asked; asked of another type; asked too long ago; asked later.
    host.sends(T0, STUB, "probe.example", None);
    host.asks(T0, 1, "typed.example");
    let mut other_type = dns("typed.example", None, 0);
    let at = other_type.len() - 3;
    other_type[at] = 28;
    host.message(T0 + 1, STUB, false, &other_type);
    host.asks(T0, 1, "old.example");
    host.sends(T0 + 5 * S + 1, STUB, "old.example", None);
    host.sends(T0 + 1, STUB, "early.example", None);
    host.asks(T0 + 2, 1, "early.example");
    let (questions, _) = host.told(T0 + 10 * S);
    assert_eq!(questions.len(), 4);
    for question in &questions {
        let process = question.process.as_deref();
        assert_eq!(pid(process), (STUB, None), "{}", question.name);
    }
    assert_eq!(host.count("own"), 4);
}

#[test]
fn a_process_that_takes_no_questions_asks_for_itself() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    host.learn(9, "dig", None);
    host.asks(T0, 1, "www.example");
    host.sends(T0 + 1, 9, "www.example", None);
    // One that got the resolver's number after it.
    let later = Owner {
        process: ProcessId {
            pid: STUB,
            start_ns: 8,
        },
        uid: 0,
    };
    let data = udp(at(1, 4), at(2, 53), &dns("www.example", None, 0));
    host.sensor.on_copy(&PacketCopy {
        ts_ns: T0 + 2,
        data: &data,
        wire_bytes: u32::try_from(data.len()).unwrap(),
        way: Way::Out,
        ifindex: 1,
        tunnel: None,
        owner: Some(later),
    });
    let (questions, _) = host.told(T0 + 10 * S);
    assert_eq!(pid(questions[0].process.as_deref()), (9, None));
    assert_eq!(pid(questions[0].also.first()), (STUB, None));
    assert_eq!(host.count("followed"), 0);
}

#[test]
fn several_that_wait_for_one_answer_are_named_up_to_a_bound() {
    let mut host = Host::new();
    let askers = 1..=ASKS_PER_NAME_MAX as u32 + 1;
    for asker in askers {
        host.learn(asker, "curl", None);
        host.asks(T0 + u64::from(asker), asker, "www.example");
    }
    host.sends(T0 + 100, STUB, "WWW.example", None);
    host.sends(T0 + 200, STUB, "www.example", None);
    // Two more by themselves: the third of them finds no room.
    for other in [101, 102, 102] {
        host.sends(T0 + 300, other, "www.example", None);
    }
    let (questions, _) = host.told(T0 + 10 * S);
    let [question] = questions.as_slice() else {
        unreachable!("one group: {questions:?}");
    };
    assert_eq!(pid(question.process.as_deref()), (1, Some(STUB)));
    let also: Vec<_> = question.also.iter().map(|one| pid(Some(one))).collect();
    assert_eq!(also, [2, 3, 4].map(|asker| (asker, Some(STUB))));
    assert_eq!(also.len(), QUESTION_ALSO_MAX);
    assert_eq!(question.asked_by_others, 3);
    assert_eq!(host.count("lost_full"), 1);
}

#[test]
fn who_has_been_answered_is_not_named_again() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    host.learn(2, "wget", None);
    host.asks(T0 + 8 * S, 1, "short.example");
    host.sends(T0 + 8 * S + 1, STUB, "short.example", None);
    host.sends(
        T0 + 8 * S + 2,
        STUB,
        "short.example",
        Some(&[[192, 0, 2, 9]]),
    );
    host.asks(T0 + 9 * S, 2, "short.example");
    // In another window, so in another group.
    host.told(T0 + 10 * S);
    host.sends(T0 + 10 * S, STUB, "short.example", None);
    let (questions, _) = host.told(T0 + 20 * S);
    assert_eq!(pid(questions[0].process.as_deref()), (2, Some(STUB)));
    assert!(questions[0].also.is_empty());
}

#[test]
fn a_child_of_the_resolver_asks_for_others_too() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    host.learn(54, "dnsmasq", Some(STUB));
    host.asks(T0, 1, "www.example");
    host.sends(T0 + 1, 54, "www.example", None);
    let (questions, _) = host.told(T0 + 10 * S);
    assert_eq!(pid(questions[0].process.as_deref()), (1, Some(54)));
}

#[test]
fn a_resolver_behind_a_resolver_does_not_hide_who_asked() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    host.learn(60, "systemd-resolve", None);
    host.notice(T0, 60, Recognised::Resolver, &[]);
    host.asks(T0 + 1, 1, "www.example");
    host.asks(T0 + 2, 60, "www.example");
    host.sends(T0 + 3, STUB, "www.example", None);
    let (questions, _) = host.told(T0 + 10 * S);
    assert_eq!(pid(questions[0].process.as_deref()), (1, Some(STUB)));
    assert!(questions[0].also.is_empty());
}

#[test]
fn a_listed_name_is_told_of_who_asked_also_from_the_cache() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    host.learn(2, "wget", None);
    host.asks(T0, 1, LISTED);
    // The kernel's notice knows no type.
    let name = &dns(LISTED, None, 0)[12..];
    host.sensor.on_kernel_notice(&KernelNotice {
        ts_ns: T0 + 1,
        local: (IpAddr::V4(*at(1, 0).ip()), 40_001),
        remote: (IpAddr::V4(*at(2, 0).ip()), 53),
        protocol: 17,
        way: Way::Out,
        set_version: 1,
        ifindex: 2,
        tunnel: None,
        recognised: Recognised::Name,
        owner: Some(owner(STUB)),
        bytes: name,
    });
    host.sends(T0 + 1, STUB, LISTED, None);
    host.sends(T0 + 2, STUB, LISTED, Some(&[[192, 0, 2, 9]]));
    host.asks(T0 + S, 2, LISTED);
    host.asks(T0 + S, 2, "innocent.example");
    let (_, first) = host.told(T0 + 2 * S);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(pid(first[0].process.as_ref()), (1, Some(STUB)));
    let (questions, later) = host.told(T0 + 10 * S);
    assert_eq!(questions.len(), 1, "what is answered here is no question");
    assert_eq!(questions[0].asked, 1);
    let [hit] = later.as_slice() else {
        unreachable!("one hit: {later:?}");
    };
    assert_eq!(pid(hit.process.as_ref()), (2, None));
    assert_eq!((hit.time_ns, hit.local), (T0 + S, Side::Client));
    assert_eq!(hit.dst, IpAddr::from([127, 0, 0, 53]));
    assert_eq!(host.count("not_forwarded"), 2);
}

#[test]
fn a_flood_of_questions_is_bounded_and_counted() {
    let mut host = Host::new();
    host.learn(1, "curl", None);
    for nth in 0..ASKED_NAMES_MAX + 10 {
        host.asks(T0 + nth as u64, 1, &format!("n{nth}.example"));
    }
    assert_eq!(host.count("lost_full"), 10);
    // Bytes that are no message are nobody's question.
    host.notice(T0, 1, Recognised::Asked, &[0, 1, 2]);
    host.notice(T0, 1, Recognised::Asked, &[0; 12]);
    assert_eq!(host.count("asked"), ASKED_NAMES_MAX as u64 + 10);
    // There is room again when its time is over.
    host.asks(T0 + 6 * S, 1, "late.example");
    assert_eq!(host.count("lost_full"), 10);
}
