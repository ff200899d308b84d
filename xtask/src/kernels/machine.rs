//! The emulated machine: starts it with a kernel and what runs inside, and reads what it says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::guest::Ran;
use super::image::Image;
use super::inside::System;

/// Longest a machine may run. Without hardware's help, on two busy cores, a boot with its checks
/// takes well under a minute for each rung; this only ends one that hangs.
const RUN_MAX: Duration = Duration::from_secs(300);

/// Room for the product, its libraries in memory and 32 MiB of flow slots.
const MEMORY_MIB: u32 = 2048;

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// What most instances are.
    X86_64,
    /// Graviton: its second and third generation are Neoverse cores.
    Aarch64,
}

impl Machine {
    /// As Rust names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian names it.
    pub(super) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The folder that Debian has its libraries in.
    pub(super) const fn triplet(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// The program that emulates it, and its Debian package.
    pub(super) const fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// Board and processor.
    const fn hardware(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["-cpu", "max"],
            Self::Aarch64 => &["-machine", "virt", "-cpu", "neoverse-n1"],
        }
    }

    /// The serial line, as the kernel names it.
    const fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }
}

/// Boots a kernel, and returns when it has switched itself off.
pub(super) fn run(
    system: &System<'_>,
    image: &Image,
    scratch: &Path,
    verbose: bool,
) -> anyhow::Result<Ran> {
    let archive = scratch.join(format!("{}.{}.cpio", image.name, std::process::id()));
    let packed = system
        .pack(image, &archive)
        .context("pack the first file system");
    let ran = packed.and_then(|()| boot(system.machine, image, &archive, verbose));
    let _ = fs::remove_file(&archive);
    ran
}

fn boot(machine: Machine, image: &Image, archive: &Path, verbose: bool) -> anyhow::Result<Ran> {
    let began = Instant::now();
    let (program, _) = machine.emulator();
    let mut emulator = Command::new(program)
        .args(["-accel", "tcg,thread=multi", "-smp", "2"])
        .args(machine.hardware())
        .args(["-m", &MEMORY_MIB.to_string()])
        .args(["-nographic", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(archive)
        .arg("-append")
        .arg(format!("console={} quiet panic=-1", machine.console()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let ran = listen(&mut emulator, began, verbose);
    // Ended already, unless it hangs.
    let _ = emulator.kill();
    emulator.wait().context("wait for the emulator")?;
    ran
}

fn listen(emulator: &mut Child, began: Instant, verbose: bool) -> anyhow::Result<Ran> {
    let serial = emulator.stdout.take().context("no serial line")?;
    let (tell, told) = mpsc::channel();
    // Ends with the emulator's end of the line.
    let reader = thread::spawn(move || {
        let mut serial = BufReader::new(serial);
        let mut line = Vec::new();
        while matches!(serial.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if tell.send(text).is_err() {
                break;
            }
        }
    });
    let mut ran = Ran::default();
    loop {
        let left = RUN_MAX.saturating_sub(began.elapsed());
        match told.recv_timeout(left) {
            Ok(line) => {
                if verbose {
                    print!("  | {line}");
                }
                ran.hear(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!(
                    "it still runs after {} s:\n{}",
                    RUN_MAX.as_secs(),
                    ran.tail(40)
                )
            }
        }
    }
    ran.took = began.elapsed();
    drop(reader.join());
    Ok(ran)
}
