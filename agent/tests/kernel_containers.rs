//! Processes in containers of every shape: in control groups named as runtimes name them, in a pid
//! namespace of their own, and gone when anybody looks. Needs root; skips with the reason where it
//! cannot run.

#[path = "kernel/cast.rs"]
#[expect(dead_code, reason = "other tests have other parts to play")]
mod cast;
#[path = "kernel/group.rs"]
mod group;
#[expect(dead_code, reason = "sums of packets are for other tests")]
mod kernel;
#[path = "kernel/link.rs"]
#[expect(dead_code, reason = "sums of packets are for other tests")]
mod link;
#[path = "kernel/pid.rs"]
mod pid;
#[path = "kernel/scene.rs"]
mod scene;

use picket_wire::{Process, Summary};

use cast::{Actor, play};
use group::Group;
use kernel::in_namespace;
use link::{Peer, command};
use pid::leave_pid_namespace;
use scene::{Scene, cgroup_root, check_actor};

const ID: &str = "3f4e8f0c2b1a49d7a6e5c4b3d2f1e0a99887766554433221100ffeeddccbbaa0";

/// Path of a group, and what must come of it: runtime and container, or unit.
type Shape = (
    &'static str,
    Option<(&'static str, &'static str)>,
    Option<&'static str>,
);

const SHAPES: [Shape; 9] = [
    // Docker, with systemd and without.
    ("system.slice/docker-<id>.scope", Some(("docker", ID)), None),
    ("docker/<id>", Some(("docker", ID)), None),
    // containerd under Kubernetes, with systemd and without; nerdctl.
    (
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-<id>.scope",
        Some(("containerd", ID)),
        None,
    ),
    (
        "kubepods/besteffort/pod1-2/<id>",
        Some(("kubernetes", ID)),
        None,
    ),
    (
        "system.slice/nerdctl-<id>.scope",
        Some(("containerd", ID)),
        None,
    ),
    // Podman, with the container's own init.
    (
        "machine.slice/libpod-<id>.scope/container",
        Some(("podman", ID)),
        None,
    ),
    (
        "ecs/t/0123456789abcdef0123456789abcdef-4711",
        Some(("ecs", "0123456789abcdef0123456789abcdef-4711")),
        None,
    ),
    // No containers.
    ("system.slice/web.service", None, Some("web.service")),
    (
        "user.slice/user-0.slice/session-3.scope",
        None,
        Some("session-3.scope"),
    ),
];

/// Has a process ask for a name from within a group, as the first of a pid namespace; gives its pid
/// outside.
fn ask_within(test: &'static str, group: &Group, name: &str) -> u32 {
    let part = format!("ask 0.0.0.0:0 10.9.0.2:53 {name}");
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            leave_pid_namespace();
            Actor::start(test, &part)
        });
        let mut actor = started.join().expect("started");
        group.take(actor.pid());
        actor.nudge();
        actor.end()
    })
}

#[track_caller]
fn asker<'a>(summary: &'a Summary, name: &str) -> &'a Process {
    let mut of_it = summary.questions.iter();
    let found = of_it.find(|one| one.name == name);
    let process = found.and_then(|one| one.process.as_ref());
    assert!(process.is_some(), "{name}: {:?}", summary.questions);
    process.expect("asserted above")
}

#[test]
fn containers_of_every_shape_are_named_after_they_are_gone() {
    const TEST: &str = "containers_of_every_shape_are_named_after_they_are_gone";
    play();
    let Some(root) = cgroup_root() else {
        println!("skipped, no cgroup2 is mounted");
        return;
    };
    in_namespace(move || {
        let _peer = Peer::connect("pk-a", "pk-b");
        let mut scene = Scene::open();
        let mut told = Vec::new();
        for (nth, (path, container, unit)) in SHAPES.into_iter().enumerate() {
            let group = Group::make(&root, &path.replace("<id>", ID));
            let name = format!("c{nth}.example");
            let pid = ask_within(TEST, &group, &name);
            told.push((name, pid, container, unit));
            // The groups go one by one; the process is gone, and nobody has looked yet.
            while scene.take(std::time::Duration::ZERO) > 0 {}
        }
        let summary = scene.summary();
        for (name, pid, container, unit) in told {
            let process = asker(&summary, &name);
            check_actor(Some(process), pid);
            let of = process.runtime.as_deref().zip(process.container.as_deref());
            assert_eq!(of, container, "{name}");
            assert_eq!(process.unit.as_deref(), unit, "{name}");
        }
    });
}

/// What a container behind a bridge sends is forwarded here, and a forwarded packet has no socket:
/// it is nobody's, which is counted, and never somebody else's.
#[test]
fn what_is_forwarded_for_a_container_is_nobodys_and_counted() {
    const TEST: &str = "what_is_forwarded_for_a_container_is_nobodys_and_counted";
    play();
    in_namespace(|| {
        let _outside = Peer::connect("pk-a", "pk-b");
        // The container: a namespace behind a bridge of ours.
        command("ip link add pk-bridge type bridge");
        command("ip addr add 10.8.0.1/24 dev pk-bridge");
        command("ip link set pk-bridge up");
        let container = Peer::connect("pk-c", "pk-d");
        command("ip addr flush dev pk-c");
        command("ip link set pk-c master pk-bridge");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forward");
        container.run(|| {
            command("ip addr flush dev pk-d");
            command("ip addr add 10.8.0.2/24 dev pk-d");
            command("ip route add default via 10.8.0.1");
        });
        let mut scene = Scene::open();
        let inside = container.run(|| {
            let mut actor = Actor::start(TEST, "ask 0.0.0.0:0 10.9.0.2:53 inside.example");
            actor.nudge();
            actor.end()
        });
        let mut own = Actor::start(TEST, "ask 0.0.0.0:0 10.9.0.2:53 own.example");
        own.nudge();
        let own = own.end();
        let summary = scene.summary();
        check_actor(Some(asker(&summary, "own.example")), own);
        let mut of_it = summary.questions.iter();
        let forwarded = of_it.find(|one| one.name == "inside.example");
        let forwarded = forwarded.expect("it was forwarded");
        assert_eq!(forwarded.process, None, "{inside} asked, and nobody knows");
        let mut counters = summary.counters.iter();
        let unknown = counters
            .find(|one| (one.stage.as_str(), one.reason.as_str()) == ("owner", "flows_unknown"));
        assert!(
            unknown.is_some_and(|one| one.count > 0),
            "{:?}",
            summary.counters
        );
    });
}
