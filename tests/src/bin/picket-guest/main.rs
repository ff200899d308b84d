//! `picket-guest`: what runs inside a machine that `cargo xtask kernels` boots on a kernel of
//! another version. It raises the lab with the real agent and collector, makes traffic, and tells
//! on its output, a line of JSON each, which programs that kernel has verified and how each line
//! of [`checks::CHECKS`] fared.
//!
//! Changes the machine it runs on only as every lab does, so it can be tried on any host as root:
//! `PICKET_KERNEL_OBJECT=target/kernel/picket.o target/debug/picket-guest`.

mod checks;
mod programs;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::scene::Scenario;
use serde_json::{Value, json};

use checks::{CHECKS, Told};

/// How long it may take until a window is judged: its ten seconds, on a machine that is emulated.
const JUDGED_LIMIT: Duration = Duration::from_secs(60);

/// Length of a window, seconds: an emulated machine takes its time, and two windows are waited for.
const WINDOW_S: i64 = 3;

/// Where the agent's links and maps are pinned.
const PINS: &str = "/sys/fs/bpf/picket-guest";

/// Scenes that are played: listed names and addresses, and a mining pool.
const SCENES: [&str; 2] = ["c2-lookup", "mining-pool"];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&json!({"check": "the lab runs", "ok": false, "said": format!("{error:#}")}));
            ExitCode::FAILURE
        }
    }
}

/// Runs everything on the rung that the agent finds best, and on the one below where that is by
/// link; whether every check holds.
fn run() -> Result<bool> {
    let (rung, mut all) = on("auto")?;
    if rung == "tcx" {
        all &= on("clsact")?.1;
    }
    Ok(all)
}

/// Acts on a rung, and tells how every check fared; the rung that the agent had, and whether all
/// held.
fn on(wanted: &str) -> Result<(String, bool)> {
    let began = Instant::now();
    say(&json!({"begin": wanted, "kernel": kernel(), "machine": std::env::consts::ARCH}));
    let told = act(wanted)?;
    let rung = told.status["rung"].as_str().context("no rung is told")?;
    say(&json!({"rung": rung}));
    for program in &told.programs {
        say(&json!(program));
    }
    let mut all = true;
    for (name, check) in CHECKS {
        let outcome = check(&told);
        all &= outcome.is_ok();
        let (ok, said) = match outcome {
            Ok(said) => (true, said),
            Err(error) => (false, format!("{error:#}")),
        };
        say(&json!({"check": name, "ok": ok, "said": said}));
    }
    say(&json!({"took_s": began.elapsed().as_secs_f64()}));
    Ok((rung.to_owned(), all))
}

/// Makes the traffic and gathers what was told of it.
fn act(rung: &str) -> Result<Told> {
    let whole = Scenario::load("intrusion")?;
    let mut rig = Rig::lay_out(&whole, Wire::Plain)?;
    traffic::add_tunnel(&rig)?;
    rig.agent.set("capture", "pins", PINS.into())?;
    rig.agent.capture_on(rung)?;
    rig.agent.set("", "window_s", WINDOW_S.into())?;
    rig.collector.start()?;
    rig.agent.start()?;
    let programs = programs::loaded(&rig.lab.instance)?;
    let outcome = traffic::make(&rig, &SCENES).and_then(|sent| {
        rig.until_judged(SystemTime::now(), JUDGED_LIMIT)?;
        let status = rig.agent.status()?;
        let over_restart = traffic::over_restart(&mut rig)?;
        rig.until_judged(SystemTime::now(), JUDGED_LIMIT)?;
        let summaries = rig.told()?;
        rig.agent.stop()?;
        Ok(Told {
            status: status.into_iter().next().context("an empty status")?,
            summaries: summaries.into_iter().map(|one| one.summary).collect(),
            programs,
            sent,
            over_restart,
            left: left_by_detach(&rig)?,
        })
    });
    outcome.map_err(|error| error.context(rig.tail(15)))
}

/// Takes what stays of the agent out of the kernel, and says what is left.
fn left_by_detach(rig: &Rig) -> Result<Vec<String>> {
    // There, as filters are of a namespace.
    let detach = || rig.agent.command("detach").status();
    let detached = rig.lab.instance.run(detach)?.context("detach")?;
    ensure!(detached.success(), "detach ended with {detached}");
    let mut left = Vec::new();
    // The kernel unloads what nobody holds in its own time.
    let gone = wait_until("the programs to go", JUDGED_LIMIT, || {
        let loaded = programs::loaded(&rig.lab.instance)?;
        let loaded = loaded.into_iter().filter(|one| one.loaded);
        left = loaded.map(|one| one.name).collect();
        Ok(left.is_empty().then_some(()))
    });
    drop(gone);
    if Path::new(PINS).exists() {
        left.push(PINS.to_owned());
    }
    Ok(left)
}

/// One line for the host outside, told from the kernel's own by how it begins.
fn say(line: &Value) {
    println!("PICKET {line}");
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|release| release.trim().to_owned())
        .unwrap_or_default()
}
