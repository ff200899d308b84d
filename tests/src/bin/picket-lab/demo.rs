//! The demo: an intrusion, scene by scene, and the findings as they arrive.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::{Rig, Watch, rig};
use picket_tests::scene::{Expected, Scenario, Step};

use crate::interrupt::Interrupt;
use crate::{offline, show, stand};

/// How long a scene waits for its findings before the next one starts. Findings that need a window
/// of packets come later, under a later scene.
const SCENE_LIMIT: Duration = Duration::from_secs(4);

/// How long the demo waits for what is still missing at its end: a window of 10 s, the 30 s that a
/// late agent is granted, and as much again for a slow machine.
const END_LIMIT: Duration = Duration::from_secs(90);

/// Plays the scenes. With `once` it ends by itself and says by its exit code whether all came.
pub(crate) fn run(once: bool) -> Result<ExitCode> {
    let intrusion = Scenario::load("intrusion")?;
    let lacking = rig::lacking();
    if !lacking.is_empty() {
        return offline::run(&intrusion, &lacking);
    }
    let interrupt = Interrupt::listen()?;
    println!("picket demo: a real agent with eBPF and a real collector, on a network of their own");
    let rig = Rig::raise(&intrusion, Wire::Ordinary)?;
    stand::describe(&rig);

    let mut watch = rig.watch();
    let outcome = play(&intrusion, &rig, &mut watch, &interrupt);
    if interrupt.came() {
        println!("interrupted; taking the lab down");
        return Ok(ExitCode::FAILURE);
    }
    show::summary(&watch.alerts);
    let complete = match &outcome {
        Ok(()) => {
            println!("every expected finding came, and the incident that joins them");
            true
        }
        Err(error) => {
            println!("NOT COMPLETE: {error:#}\n{}", rig.tail(20));
            false
        }
    };
    if !once {
        stand::stay(&rig, watch, &interrupt)?;
    }
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn play(
    intrusion: &Scenario,
    rig: &Rig,
    watch: &mut Watch<'_>,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut delivered = None;
    for (number, scene) in intrusion.parts.iter().enumerate() {
        let (scenes, title) = (intrusion.parts.len(), &scene.title);
        println!("\nscene {} of {scenes}: {title}", number + 1);
        show::head();
        let began = SystemTime::now();
        rig.play(scene)?;
        if scene
            .steps
            .iter()
            .any(|step| matches!(step, Step::Deliver { .. }))
        {
            delivered = Some(began);
        }
        let shown = await_findings(&scene.expected, SCENE_LIMIT, watch, delivered, interrupt)?;
        if !shown {
            println!("    (more when the window of packets is complete)");
        }
    }
    if !watch.missing(&intrusion.expected).is_empty() {
        println!("\nwaiting for findings that need a whole window of packets");
        show::head();
        await_findings(&intrusion.expected, END_LIMIT, watch, delivered, interrupt)?;
    }
    if let Some(expected) = &intrusion.expected.incident {
        show::incident(&rig.incident(expected, END_LIMIT)?, &watch.states);
    }
    // Once more with a deadline that has passed: it names what is missing.
    watch.until_complete(&intrusion.expected, Duration::ZERO, |alert| {
        show::alert(alert, delivered);
    })
}

/// Shows alerts until all of `expected` came or `limit` has passed; says whether they did.
fn await_findings(
    expected: &Expected,
    limit: Duration,
    watch: &mut Watch<'_>,
    delivered: Option<SystemTime>,
    interrupt: &Interrupt,
) -> Result<bool> {
    let began = SystemTime::now();
    wait_until("findings", limit + limit, || {
        interrupt.check()?;
        for alert in watch.look()? {
            show::alert(&alert, delivered);
        }
        let complete = watch.missing(expected).is_empty();
        let late = began.elapsed().is_ok_and(|passed| passed > limit);
        Ok((complete || late).then_some(complete))
    })
}
