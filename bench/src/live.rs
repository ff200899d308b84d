//! What the running agent uses: processor time and memory, beside softflowd on the same interface
//! and so on the very same packets.
//!
//! Frames are put on the far end of the lab's wire, where no kernel speaks by itself, at a pace;
//! what could not be sent in time is told on the error output, since then the pace was not kept.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use picket_tests::lab::tap::Injector;
use picket_tests::lab::topology::{SCENE_INTERFACE, VPC_INTERFACE};
use picket_tests::lab::{Lab, Process, Wire, wait_until};

use crate::Setting;
use crate::capture::{Mixed, Random, packet};
use crate::cpu::{maps_mib, process_s, resident_mib};
use crate::kernel::{LISTED, addresses, domains, ipv4};
use crate::report::Report;
use crate::rounds::Samples;

/// A gigabit a second.
pub(crate) const MIXED_BYTES_PER_S: f64 = 125e6;
/// Frames that are sent again and again.
pub(crate) const DRAWN: u32 = 200_000;
/// Length of a round with mixed traffic: a window and what belongs to its end.
const MIXED_ROUND: Duration = Duration::from_secs(11);
/// Rounds with mixed traffic, and with new flows.
const LIVE_ROUNDS: usize = 3;
/// New flows a second.
const FLOWS_PER_S: f64 = 50_000.0;
/// How long the agent may take to start with a million addresses.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let lab = Lab::build(Wire::Silent)?;
    start_with_addresses(setting, &lab, report)?;

    let agent = Agent::start(setting, &lab, None)?;
    let pid = agent.process.id();
    report.add(
        "agent/rss_idle",
        &Samples::alone(vec![resident_mib(pid, "VmRSS")?]),
    );
    report.add("agent/kernel_memory", &Samples::alone(vec![maps_mib(pid)?]));

    let mut far = Injector::open(&lab.internet, VPC_INTERFACE)?;
    match softflowd(&lab) {
        Ok(other) => {
            let mut samples = Samples::default();
            // Drawn beforehand: what is on the processor meanwhile should be the traffic alone.
            let mut mixed = Mixed::new();
            let frames: Vec<Vec<u8>> = (0..DRAWN).map(|_| mixed.next_frame()).collect();
            let mut frames = frames.iter().cycle();
            for _ in 0..LIVE_ROUNDS {
                let before = (process_s(pid)?, process_s(other.id())?);
                let took = paced(MIXED_ROUND, MIXED_BYTES_PER_S, || {
                    let frame = frames.next().context("no frame")?;
                    far.send(frame)?;
                    Ok(frame.len() as f64)
                })?;
                let (ours, theirs) = (
                    process_s(pid)? - before.0,
                    process_s(other.id())? - before.1,
                );
                samples.add(ours / took, theirs / took);
            }
            report.add_inverse("agent/cpu_vs_softflowd", &samples);
        }
        Err(error) => report.lacks("agent/cpu_vs_softflowd", &format!("{error:#}")),
    }

    let (mut used, mut resident) = (Vec::new(), Vec::new());
    let mut number = 0;
    for _ in 0..LIVE_ROUNDS {
        let before = process_s(pid)?;
        let took = paced(MIXED_ROUND, FLOWS_PER_S, || {
            number += 1;
            far.send(&packet::udp(packet::Ends::of(number).back(), &[0; 64]))?;
            Ok(1.0)
        })?;
        used.push((process_s(pid)? - before) / took);
        resident.push(resident_mib(pid, "VmHWM")?);
    }
    report.add("agent/cpu_50k_flows", &Samples::alone(used));
    report.add("agent/rss_50k_flows", &Samples::alone(resident));
    Ok(())
}

/// How long it takes from the start of the agent until it watches with a million addresses listed,
/// and what it holds then, and with a million domains besides.
fn start_with_addresses(setting: &Setting, lab: &Lab, report: &mut Report) -> Result<()> {
    let intel = setting.scratch.join("intel");
    fs::create_dir_all(&intel).context("make a folder for lists")?;
    let list: String = addresses(&mut Random::new(1), LISTED)
        .into_iter()
        .map(|address| format!("{}\n", ipv4(address)))
        .collect();
    fs::write(intel.join("c2-ips.txt"), list).context("write a list")?;
    let (mut times, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..LIVE_ROUNDS {
        let began = Instant::now();
        let agent = Agent::start(setting, lab, Some(&intel))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        resident.push(resident_mib(agent.process.id(), "VmRSS")?);
    }
    report.add("agent/start_1m_addresses", &Samples::alone(times));
    report.add("agent/rss_1m_addresses", &Samples::alone(resident));
    fs::write(intel.join("c2-domains.txt"), domains().join("\n")).context("write a list")?;
    let mut resident = Vec::new();
    for _ in 0..LIVE_ROUNDS {
        let agent = Agent::start(setting, lab, Some(&intel))?;
        resident.push(resident_mib(agent.process.id(), "VmRSS")?);
    }
    report.add("agent/rss_1m_and_1m", &Samples::alone(resident));
    Ok(())
}

/// A running `picket-agent run --standalone` on the lab's instance.
pub(crate) struct Agent {
    /// It.
    pub(crate) process: Process,
}

impl Agent {
    /// Starts it and waits until it watches.
    pub(crate) fn start(
        setting: &Setting,
        lab: &Lab,
        intel: Option<&std::path::Path>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir_in(&setting.scratch).context("make the agent's folder")?;
        // Kept until the scratch folder goes: the log is read from it.
        let folder = folder.keep();
        let config = folder.join("agent.toml");
        fs::write(
            &config,
            format!(
                "interfaces = ['{SCENE_INTERFACE}']\ndefault_route = false\nstate_dir = '{}'\n",
                folder.join("state").display()
            ),
        )
        .context("configure the agent")?;
        let mut command = lab.instance.command(&setting.binaries.agent);
        command
            .args(["run", "--standalone", "--config"])
            .arg(&config);
        if let Some(intel) = intel {
            command.arg("--intel").arg(intel);
        }
        let mut process = Process::start("agent", command, &folder)?;
        wait_until("the agent to watch", START_LIMIT, || {
            ensure!(process.ended()?.is_none(), "the agent ended");
            Ok(process.stderr().contains("watching").then_some(()))
        })
        .map_err(|error| error.context(process.tail(10)))?;
        Ok(Self { process })
    }
}

/// softflowd on the same interface; its records go to a socket that nobody reads.
pub(crate) fn softflowd(lab: &Lab) -> Result<Process> {
    let known = Command::new("softflowd").arg("-h").output();
    ensure!(known.is_ok(), "softflowd is not installed");
    let folder = lab.folder();
    let mut command = lab.instance.command("softflowd");
    command.args(["-d", "-i", SCENE_INTERFACE, "-n", "127.0.0.1:9995"]);
    command.arg("-p").arg(folder.join("softflowd.pid"));
    command.arg("-c").arg(folder.join("softflowd.ctl"));
    let mut process = Process::start("softflowd", command, folder)?;
    wait_until("softflowd to listen", Duration::from_secs(10), || {
        ensure!(process.ended()?.is_none(), "softflowd ended");
        Ok(folder.join("softflowd.ctl").exists().then_some(()))
    })
    .map_err(|error| error.context(process.tail(5)))?;
    Ok(process)
}

/// Calls `send` so often that what it returns adds up to `rate` a second; the seconds it took.
pub(crate) fn paced(
    length: Duration,
    rate: f64,
    mut send: impl FnMut() -> Result<f64>,
) -> Result<f64> {
    /// How much is sent at once: bursts as short as a timer can be relied on for.
    const STEP: Duration = Duration::from_millis(1);
    let began = Instant::now();
    let (mut sent, mut late) = (0.0, 0.0_f64);
    while began.elapsed() < length {
        let due = began.elapsed().as_secs_f64() * rate;
        late = late.max(due - sent);
        while sent < due {
            sent += send()?;
            if began.elapsed() >= length {
                break;
            }
        }
        thread::sleep(STEP);
    }
    let took = began.elapsed().as_secs_f64();
    if sent < 0.98 * rate * took {
        eprintln!(
            "  only {:.0} % of the pace was kept",
            100.0 * sent / rate / took
        );
    }
    Ok(took)
}
