//! The life that is lived: two packages come, are used, change, and go.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use picket_tests::lab::topology::COLLECTOR;
use picket_tests::lab::wait_until;
use picket_tests::lab::webhook::{SECRET, Webhook};
use picket_tests::product::Watch;
use serde_json::Value;

use crate::kernel::Kernel;
use crate::limits;
use crate::machine::{INTERFACE, Machine};
use crate::sender::{self, Traffic};
use crate::{Packages, Table};

/// How long something may take to be told: a few windows.
pub(crate) const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// An address on the other end of the wire, put on a list; nobody answers there.
pub(crate) const LISTED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

/// Where counted datagrams go.
pub(crate) const COUNTED_PORT: u16 = 20_000;

/// Pause between two of them.
const PACE: Duration = Duration::from_millis(1);

/// What an operator changes in the agent's configuration; it must outlive every upgrade.
const CHANGED: &str = "window_s = 2";

/// How exposed the units may be, tenths (`systemd-analyze security`).
const EXPOSURE: [(&str, u32); 2] = [("picket-agent", 25), ("picket-collector", 12)];

/// Tells it, step by step.
pub(crate) fn tell(
    table: &mut Table,
    machine: &Machine,
    first: &Packages,
    next: &Packages,
) -> Result<()> {
    let before = Kernel::list(machine, None)?;
    let webhook = Webhook::start(machine.world())?;
    let mut alerts = Watch::new(&webhook);

    table.step("install collector", || {
        install(machine, &first.collector)?;
        configure_collector(machine, &webhook)?;
        Ok("dpkg --install, configured".to_owned())
    })?;
    table.step("start collector", || start(machine, "picket-collector"))?;
    table.step("install agent", || {
        install(machine, &first.agent)?;
        let change = format!("printf 'interfaces = [\"{INTERFACE}\"]\\n{CHANGED}\\n'");
        machine.run(&format!("{change} >> /etc/picket/agent.toml"))?;
        Ok("dpkg --install, configured".to_owned())
    })?;
    let uid = machine.run("id -u picket")?;
    let uid = Some(uid.trim().parse().context("the user's number")?);
    table.step("enrol", || enrol(machine))?;
    table.step("start agent", || start(machine, "picket-agent"))?;
    table.step("in the kernel", || {
        let now = Kernel::list(machine, uid)?;
        ensure!(now.is_watching(), "it is ready and does not watch: {now:?}");
        Ok(now.told())
    })?;
    table.step("rights", || rights(machine))?;
    table.step("exposure", || exposure(machine))?;
    table.step("indicator to agent", || {
        let version = list(machine, LISTED)?;
        Ok(format!(
            "entered at the collector, in force at the agent as version {version}"
        ))
    })?;
    table.step("packet to alert", || hit(machine, &mut alerts, LISTED))?;
    if machine.enforces_limits() {
        limits::tell(table, machine, &mut alerts)?;
    }

    for (step, agent, collector) in [
        ("upgrade", &next.agent, &next.collector),
        ("downgrade", &first.agent, &first.collector),
    ] {
        table.step_apart(&format!("{step} agent"), || change_agent(machine, agent));
        table.step(&format!("{step} collector"), || {
            install(machine, collector)?;
            is_running(machine, "picket-collector")?;
            Ok("running again".to_owned())
        })?;
        table.step(&format!("told after {step}"), || {
            let known = told(machine)?.sequence;
            wait_until("the agent to be heard again", TOLD_LIMIT, || {
                Ok((told(machine)?.sequence != known).then_some(()))
            })?;
            Ok("heard again".to_owned())
        })?;
    }
    table.step_apart("upgrade, another layout", || {
        change_layout(machine, &next.agent, uid)
    });
    table.step("another host name", || rename(machine))?;
    table.step("older systems", || older_systems(machine))?;
    table.step("bad configuration", || bad_configuration(machine))?;
    table.step("watchdog", || watchdog(machine))?;

    table.step("remove agent", || {
        machine.run("dpkg --remove picket-agent")?;
        let now = Kernel::list(machine, uid)?;
        ensure!(
            now == before,
            "left in the kernel: {now:?}, before: {before:?}"
        );
        ensure!(
            machine.holds("test -s /var/lib/picket/agent/agent.key"),
            "the key is gone"
        );
        Ok(format!("{}; key and configuration kept", now.told()))
    })?;
    table.step("purge agent", || {
        machine.run("dpkg --purge picket-agent")?;
        absent(
            machine,
            &[
                "/var/lib/picket/agent",
                "/etc/picket/agent.toml",
                "/run/picket/agent.sock",
                "/run/picket/agent.told",
            ],
        )?;
        ensure!(
            machine.holds("systemctl is-active --quiet picket-collector"),
            "the collector ended"
        );
        Ok("nothing left; the collector runs on".to_owned())
    })?;
    table.step("purge collector", || {
        machine.run("rm -f /etc/picket/webhook.secret; dpkg --purge picket-collector")?;
        absent(machine, &["/var/lib/picket", "/etc/picket", "/run/picket"])?;
        for user in ["picket", "picket-collector"] {
            ensure!(
                !machine.holds(&format!("getent passwd {user}")),
                "the user {user} is left"
            );
            ensure!(
                !machine.holds(&format!("getent group {user}")),
                "the group {user} is left"
            );
        }
        Ok("no file, user or group left".to_owned())
    })?;
    table.step("after", || {
        let now = Kernel::list(machine, uid)?;
        ensure!(now == before, "left in the kernel: {now:?}");
        Ok(now.told())
    })
}

fn install(machine: &Machine, package: &std::path::Path) -> Result<()> {
    // Without a terminal a changed configuration would be asked about: dpkg keeps ours.
    let line = format!("dpkg --force-confold --install {}", package.display());
    machine.run(&line).map(drop)
}

fn configure_collector(machine: &Machine, webhook: &Webhook) -> Result<()> {
    let config = format!(
        "[[alert.webhook]]\nname = \"pager\"\nurl = \"{}\"\nsecret_file = \"/etc/picket/webhook.secret\"\n",
        webhook.url()
    );
    machine.run(&format!(
        "printf '%s' \"{SECRET}\" > /etc/picket/webhook.secret && \
         chown picket-collector /etc/picket/webhook.secret && chmod 0400 /etc/picket/webhook.secret && \
         printf '%s' '{config}' >> /etc/picket/collector.toml"
    ))?;
    Ok(())
}

/// Starts a unit, which returns when it says that it is ready.
fn start(machine: &Machine, unit: &str) -> Result<String> {
    machine.run(&format!("systemctl enable --now {unit}"))?;
    is_running(machine, unit)?;
    let text = machine.run(&format!(
        "systemctl show --property StatusText --value {unit}"
    ))?;
    Ok(format!("ready: {}", text.trim()))
}

pub(crate) fn is_running(machine: &Machine, unit: &str) -> Result<()> {
    let state = machine.run(&format!(
        "systemctl show --property ActiveState --value {unit}"
    ))?;
    ensure!(state.trim() == "active", "{unit} is {}", state.trim());
    Ok(())
}

fn enrol(machine: &Machine) -> Result<String> {
    machine.run(
        "picket-collector join-tokens add --label test > /root/token && \
         chmod 0400 /root/token && cp /var/lib/picket/collector/ca.pem /root/ca.pem && \
         chmod 0400 /root/ca.pem",
    )?;
    // As root, which alone may read either file.
    let told = machine.run(
        "picket-agent enroll --collector https://127.0.0.1:8443 --ca-file /root/ca.pem \
         --token-file /root/token --account 111122223333 --region on-prem --instance web-1",
    )?;
    machine.run("rm /root/ca.pem /root/token")?;
    let others = machine.run("find /var/lib/picket/agent ! -user picket")?;
    ensure!(others.is_empty(), "not the agent's user's: {others}");
    Ok(told.trim().to_owned())
}

/// What the agent's threads may do: one has what it watches with, the others nothing.
fn rights(machine: &Machine) -> Result<String> {
    let id = machine.run("systemctl show --property MainPID --value picket-agent")?;
    let told = machine.run(&format!(
        "grep -h -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/{}/task/*/status",
        id.trim()
    ))?;
    let values = |key: &str| -> Vec<String> {
        let lines = told.lines().filter_map(|line| line.strip_prefix(key));
        lines
            .map(|rest| {
                rest.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    };
    let is_empty = |set: &&String| set.chars().all(|digit| digit == '0');
    let sets = values("CapEff:");
    let with = sets.iter().filter(|set| !is_empty(set)).count();
    ensure!(
        with == 1,
        "{with} of {} threads hold capabilities",
        sets.len()
    );
    ensure!(
        values("NoNewPrivs:").iter().all(|set| set == "1"),
        "no_new_privs is not set"
    );
    ensure!(
        values("Seccomp:").iter().all(|mode| mode == "2"),
        "system calls are not filtered"
    );
    ensure!(
        values("Uid:").iter().all(|uid| uid != "0"),
        "a thread runs as root"
    );
    let all = sets.len();
    Ok(format!(
        "1 of {all} threads holds capabilities, none is root, system calls filtered"
    ))
}

fn exposure(machine: &Machine) -> Result<String> {
    let mut told = Vec::new();
    for (unit, tenths) in EXPOSURE {
        let line =
            format!("systemd-analyze security --no-pager --threshold={tenths} {unit}.service");
        let said = machine.run(&line)?;
        let score = said.lines().last().and_then(|line| line.split(": ").nth(1));
        let score = score.and_then(|rest| rest.split_whitespace().next());
        told.push(format!("{unit} {}", score.context("no score")?));
    }
    Ok(told.join(", "))
}

/// Puts an address on a list at the collector and waits until the agent has it; the version that it
/// has then.
pub(crate) fn list(machine: &Machine, address: Ipv4Addr) -> Result<u64> {
    let add = format!("picket-collector intel add {address} --category c2");
    let said = machine.run(&add)?;
    let version = number_after(&said, "version ").context("no version was named")?;
    wait_until("the agent to have it", TOLD_LIMIT, || {
        let status = machine.run("picket-agent status")?;
        let bundle = status.lines().find(|line| line.starts_with("bundle"));
        let has = bundle.and_then(|line| number_after(line, "version "));
        Ok(has.filter(|has| *has >= version).map(drop))
    })?;
    Ok(version)
}

/// Sends a datagram to a listed address and waits for the alert.
pub(crate) fn hit(machine: &Machine, alerts: &mut Watch<'_>, address: Ipv4Addr) -> Result<String> {
    let sent = SystemTime::now();
    sender::one(machine, SocketAddrV4::new(address, 4_444))?;
    let listed = address.to_string();
    wait_until("the alert", TOLD_LIMIT, || {
        let new = alerts.look()?;
        let found = new
            .iter()
            .find(|alert| alert.finding.to_string().contains(&listed));
        Ok(found.map(|alert| {
            let took = alert.at.duration_since(sent).unwrap_or_default();
            format!("{} by webhook after {} ms", alert.kind(), took.as_millis())
        }))
    })
}

/// What the collector was told by the agent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) seen: u64,
    pub(crate) lost: u64,
    pub(crate) gaps: u64,
    /// Changes with every message, and with every run.
    sequence: (u64, u64),
}

pub(crate) fn told(machine: &Machine) -> Result<Told> {
    let lines = machine.run("picket-collector agents list --format jsonl")?;
    let line = lines
        .lines()
        .next()
        .context("the collector knows no agent")?;
    let agent: Value = serde_json::from_str(line).context("an agent's line")?;
    let state = &agent["state"];
    let number = |key: &str| state[key].as_u64().unwrap_or(0);
    Ok(Told {
        seen: number("packets_seen"),
        lost: number("packets_lost"),
        gaps: number("gaps"),
        sequence: (number("envelopes"), number("sequence")),
    })
}

/// The number that stands behind some words.
fn number_after(text: &str, words: &str) -> Option<u64> {
    let rest = text.split_once(words)?.1;
    let digits = rest
        .find(|one: char| !one.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Waits until nothing passes and all that did is told; returns how many packets had passed before the
/// agent came.
pub(crate) fn settled(machine: &Machine) -> Result<u64> {
    wait_until("the wire to be quiet", TOLD_LIMIT, || {
        let passed = machine.packets()?;
        let began = told(machine)?;
        // Two windows at least: what passed before the first of them is in the second.
        let limit = TOLD_LIMIT;
        wait_until("two windows", limit, || {
            Ok((told(machine)?.sequence.0 >= began.sequence.0 + 2).then_some(()))
        })?;
        let after = told(machine)?;
        let is_quiet = machine.packets()? == passed && after.seen == told(machine)?.seen;
        Ok(is_quiet.then(|| passed.saturating_sub(after.seen)))
    })
}

/// Datagrams that leave the machine at an even pace, all of one flow.
fn even(machine: &Machine) -> Result<Traffic<'_>> {
    let to = SocketAddrV4::new(COLLECTOR, COUNTED_PORT);
    Traffic::start(machine, to, 1, PACE)
}

/// Puts another package in the place of the agent's while datagrams pass, and counts.
fn change_agent(machine: &Machine, package: &std::path::Path) -> Result<String> {
    let unseen = settled(machine)?;
    let before = told(machine)?;
    let passed_before = machine.packets()?;
    let id = machine.run("systemctl show --property MainPID --value picket-agent")?;
    let traffic = even(machine)?;
    traffic.reach(500)?;
    let began = Instant::now();
    install(machine, package)?;
    let took = began.elapsed();
    is_running(machine, "picket-agent")?;
    let now = machine.run("systemctl show --property MainPID --value picket-agent")?;
    ensure!(id != now, "the old agent still runs");
    traffic.reach(traffic.sent()? + 500)?;
    let sent = traffic.stop()?;
    let passed = machine.packets()? - passed_before;
    ensure!(
        passed >= sent,
        "{sent} datagrams were sent and {passed} packets passed"
    );
    let mut after = before;
    let counted = wait_until("every packet to be told", TOLD_LIMIT, || {
        after = told(machine)?;
        Ok((after.seen + unseen == machine.packets()?).then_some(()))
    });
    counted.with_context(|| {
        format!(
            "{} passed, {} told of, {unseen} before the agent came",
            machine.packets().unwrap_or(0),
            after.seen
        )
    })?;
    ensure!(
        after.lost == before.lost,
        "{} packets lost",
        after.lost - before.lost
    );
    ensure!(after.gaps == before.gaps, "a gap was told");
    ensure!(
        machine.holds(&format!("grep -qx '{CHANGED}' /etc/picket/agent.toml")),
        "the configuration was replaced"
    );
    Ok(format!(
        "{passed} packets passed, all told of, 0 lost, no gap; dpkg took {:.1} s",
        took.as_secs_f64()
    ))
}

/// An upgrade to an agent that cannot read what the one before left in the kernel, as the records there have
/// another shape: what was pinned lies under another number. The links are taken over, what passed in
/// between is told as a gap, and from then on every packet is told.
fn change_layout(machine: &Machine, package: &std::path::Path, uid: Option<u64>) -> Result<String> {
    let unseen = settled(machine)?;
    let before = told(machine)?;
    let links = Kernel::list(machine, uid)?.links_told();
    machine.run(
        "systemctl stop picket-agent && cd /sys/fs/bpf/picket && set -- v* && test $# -eq 1 && mv \"$1\" v0",
    )?;
    let traffic = even(machine)?;
    traffic.reach(500)?;
    install(machine, package)?;
    machine.run("systemctl start picket-agent")?;
    is_running(machine, "picket-agent")?;
    traffic.reach(traffic.sent()? + 500)?;
    traffic.stop()?;
    absent(machine, &["/sys/fs/bpf/picket/v0"])?;
    let now = Kernel::list(machine, uid)?;
    ensure!(
        now.is_watching() && now.links_told() == links,
        "before {links}, now {}",
        now.told()
    );
    wait_until("the gap to be told", TOLD_LIMIT, || {
        Ok((told(machine)?.gaps > before.gaps).then_some(()))
    })?;
    let blind = settled(machine)?;
    ensure!(
        blind > unseen,
        "nothing passed unseen: {blind}, {unseen} before"
    );
    let traffic = even(machine)?;
    traffic.reach(500)?;
    traffic.stop()?;
    let after = settled(machine)?;
    ensure!(after == blind, "{} packets not told of", after - blind);
    Ok(format!(
        "links taken over, {} packets in a gap that is told, then every packet",
        blind - unseen
    ))
}

/// The host gets another name while the agent runs, whose unit has a name of its own to look at: the next
/// windows say the new one, and the agent stays who it is.
fn rename(machine: &Machine) -> Result<String> {
    let agents = || -> Result<Value> {
        let lines = machine.run("picket-collector agents list --format jsonl")?;
        ensure!(lines.lines().count() == 1, "not one agent: {lines}");
        serde_json::from_str(lines.trim()).context("an agent's line")
    };
    let before = agents()?;
    let id = machine.run("systemctl show --property MainPID --value picket-agent")?;
    machine.run("echo renamed-1 > /etc/hostname && hostname renamed-1")?;
    wait_until("the new name to be told", TOLD_LIMIT, || {
        Ok((agents()?["state"]["hostname"] == "renamed-1").then_some(()))
    })?;
    let after = agents()?;
    ensure!(after["agent"] == before["agent"], "another agent: {after}");
    let now = machine.run("systemctl show --property MainPID --value picket-agent")?;
    ensure!(id == now, "the agent was restarted");
    Ok(format!(
        "{} is told as renamed-1, the same agent and run",
        before["state"]["hostname"]
    ))
}

/// The parts for older systems, which a newer one takes as well: the agent is started as root and becomes
/// its user with the rights it needs. They go when the installation asks again.
fn older_systems(machine: &Machine) -> Result<String> {
    let folder = "/etc/systemd/system/picket-agent.service.d";
    absent(machine, &[folder])?;
    machine.run(&format!(
        "mkdir -p {folder} && for part in kernel systemd; do \
         cp /usr/lib/picket-agent/old-$part.conf {folder}/10-old-$part.conf; done && \
         systemctl daemon-reload && systemctl restart picket-agent"
    ))?;
    is_running(machine, "picket-agent")?;
    let held = machine.run(
        "id=$(systemctl show --property MainPID --value picket-agent); \
         cat /proc/$id/task/*/status | grep -E '^(Uid|Gid|Groups|CapPrm):' | sort | uniq -c",
    )?;
    let uid = machine.run("id -u picket")?;
    let uids = held.lines().filter(|line| line.contains("Uid:"));
    ensure!(
        uids.clone().count() == 1
            && uids
                .clone()
                .all(|line| line.split_whitespace().nth(2) == Some(uid.trim())),
        "not the agent's user: {held}"
    );
    let others = machine.run("find /var/lib/picket/agent ! -user picket")?;
    ensure!(others.is_empty(), "not the agent's user's: {others}");
    let threads = rights_of_threads(machine)?;
    machine.run("dpkg-reconfigure picket-agent 2>&1")?;
    absent(machine, &[folder])?;
    machine.run("systemctl restart picket-agent")?;
    Ok(format!(
        "started as root, runs as picket, {threads}; gone when asked again"
    ))
}

/// How many threads hold capabilities; never all.
fn rights_of_threads(machine: &Machine) -> Result<String> {
    let sets = machine.run(
        "id=$(systemctl show --property MainPID --value picket-agent); \
         cat /proc/$id/task/*/status | grep -h '^CapEff:'",
    )?;
    let is_empty = |line: &&str| {
        line.trim_start_matches("CapEff:")
            .trim()
            .bytes()
            .all(|digit| digit == b'0')
    };
    let with = sets.lines().filter(|line| !is_empty(line)).count();
    ensure!(with == 1, "{with} threads hold capabilities: {sets}");
    Ok(format!(
        "1 of {} threads holds capabilities",
        sets.lines().count()
    ))
}

/// A configuration that cannot be used: said at once, by its key, and not tried again.
fn bad_configuration(machine: &Machine) -> Result<String> {
    machine.run("cp -a /etc/picket/agent.toml /run/agent.toml && echo 'windows = 5' >> /etc/picket/agent.toml")?;
    let refused = !machine.holds("systemctl restart picket-agent");
    let status =
        machine.run("systemctl show --property ExecMainStatus,Result,NRestarts picket-agent")?;
    machine.run("cp -a /run/agent.toml /etc/picket/agent.toml && rm /run/agent.toml && systemctl reset-failed picket-agent && systemctl start picket-agent")?;
    ensure!(
        refused && status.contains("ExecMainStatus=78"),
        "it ended otherwise: {status}"
    );
    let log = machine.run("journalctl --no-pager --unit picket-agent --lines 40")?;
    ensure!(log.contains("windows"), "the key is not named");
    Ok("exit 78, key named, not started again".to_owned())
}

/// An agent that is stopped in its tracks is killed and started again.
fn watchdog(machine: &Machine) -> Result<String> {
    let drop_in = "/run/systemd/system/picket-agent.service.d";
    machine.run(&format!("mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=4\\nRestartSec=0\\n' > {drop_in}/quick.conf && systemctl daemon-reload && systemctl restart picket-agent"))?;
    let id = machine.run("systemctl show --property MainPID --value picket-agent")?;
    // Longer than the watchdog waits, and it is fed.
    let known = Instant::now();
    wait_until("the watchdog to have been fed", TOLD_LIMIT, || {
        is_running(machine, "picket-agent")?;
        Ok((known.elapsed() > Duration::from_secs(6)).then_some(()))
    })?;
    let now = machine.run("systemctl show --property MainPID --value picket-agent")?;
    ensure!(id == now, "a healthy agent was killed");
    machine.run(&format!("kill -STOP {}", id.trim()))?;
    let stopped = Instant::now();
    wait_until("the watchdog to bite", TOLD_LIMIT, || {
        let now = machine.run("systemctl show --property MainPID,ActiveState picket-agent")?;
        let is_other =
            !now.contains(&format!("MainPID={}\n", id.trim())) && !now.contains("MainPID=0");
        Ok((is_other && now.contains("ActiveState=active")).then_some(()))
    })?;
    let took = stopped.elapsed().as_secs_f64();
    machine.run(&format!("rm -r {drop_in} && systemctl daemon-reload"))?;
    Ok(format!(
        "fed while it works; a stopped agent was replaced after {took:.1} s"
    ))
}

fn absent(machine: &Machine, paths: &[&str]) -> Result<()> {
    for path in paths {
        if machine.holds(&format!("test -e {path}")) {
            let left = machine.run(&format!("find {path}"))?;
            anyhow::bail!("left: {}", left.trim().replace('\n', " "));
        }
    }
    Ok(())
}
