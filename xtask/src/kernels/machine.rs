//! One boot: packs what runs inside, starts the emulator, reads what the guest says.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::TOOLS;
use super::archive::{Archive, find};
use super::image::Image;

/// Longest a machine may run. Without hardware's help, on two busy cores, a boot with its checks
/// takes well under a minute; this only ends one that hangs.
const RUN_MAX: Duration = Duration::from_secs(300);

/// Room for the product, its libraries in memory and 32 MiB of flow slots.
const MEMORY_MIB: u32 = 2048;

/// Programs of [`TOOLS`] that run inside.
const INSIDE: &[&str] = &["busybox", "ip", "nsenter", "setpriv", "ethtool", "dnsmasq"];

/// What runs inside, on this machine.
#[derive(Debug)]
pub(super) struct System<'a> {
    /// The repository.
    pub(super) root: &'a Path,
    /// Folder with agent and collector.
    pub(super) bin: &'a Path,
    /// `picket-guest`.
    pub(super) guest: PathBuf,
    /// The kernel object.
    pub(super) object: PathBuf,
}

/// A line that the guest writes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    /// How a check fared.
    Check {
        check: String,
        ok: bool,
        said: String,
    },
    /// What the kernel made of a program.
    Program {
        program: String,
        loaded: bool,
        verified: Option<u32>,
        translated_bytes: Option<u32>,
    },
    /// How the programs are attached, on which kernel.
    Rung { rung: String, kernel: String },
}

/// What came of a boot.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// What the guest said, in order.
    pub(super) lines: Vec<Line>,
    /// Whether the guest came to its end.
    pub(super) ended: bool,
    /// From power on to power off.
    pub(super) took: Duration,
    /// Everything else on the serial line.
    pub(super) log: Vec<String>,
}

impl Ran {
    /// The last lines of what was not for us, for a person.
    pub(super) fn tail(&self, lines: usize) -> String {
        let from = self.log.len().saturating_sub(lines);
        self.log[from..]
            .iter()
            .fold(String::new(), |mut all, line| {
                all.push_str("  | ");
                all.push_str(line);
                all.push('\n');
                all
            })
    }

    fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        // Firmware moves the cursor before the first line.
        let said = line
            .find("PICKET {")
            .map(|at| &line[at + "PICKET ".len()..]);
        match said.and_then(|json| serde_json::from_str(json).ok()) {
            Some(line) => self.lines.push(line),
            None => {
                self.ended |=
                    line.ends_with("guest ended with 0") || line.contains("guest ended with 1");
                self.log.push(line.to_owned());
            }
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
    let packed = pack(system, image, &archive).context("pack the first file system");
    let ran = packed.and_then(|()| boot(image, &archive, verbose));
    let _ = fs::remove_file(&archive);
    ran
}

fn pack(system: &System<'_>, image: &Image, archive: &Path) -> anyhow::Result<()> {
    let out = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut out = Archive::new(BufWriter::new(out));
    let init = fs::read(system.root.join("packaging/kernels/init")).context("read init")?;
    out.file(Path::new("/init"), &init, 0o755)?;
    for (tool, _) in TOOLS.iter().filter(|(tool, _)| INSIDE.contains(tool)) {
        let from = find(tool).with_context(|| format!("{tool} is gone"))?;
        let at = match *tool {
            "busybox" => PathBuf::from("/bin/busybox"),
            tool => Path::new("/usr/bin").join(tool),
        };
        out.program(&from, &at)?;
    }
    let ours = ["picket-agent", "picket-collector"].map(|name| system.bin.join(name));
    for program in ours.iter().chain([&system.guest]) {
        let name = program.file_name().context("a program without a name")?;
        let small = archive.with_extension("stripped");
        let stripped = Command::new("strip")
            .arg("-o")
            .arg(&small)
            .arg(program)
            .output();
        let from = match stripped {
            Ok(output) if output.status.success() => &small,
            _ => program,
        };
        let packed = out.program(from, &Path::new("/picket").join(name));
        let _ = fs::remove_file(&small);
        packed?;
    }
    out.copy(&system.object, Path::new("/picket/picket.o"))?;
    // The guest reads its scenes where it was built.
    out.tree(&system.root.join("tests/scenarios"))?;
    out.file(Path::new("/etc/passwd"), b"root:x:0:0::/:/bin/sh\n", 0o644)?;
    out.file(Path::new("/etc/group"), b"root:x:0:\n", 0o644)?;
    // What an HTTP client trusts; it asks for it even where it speaks plain HTTP.
    let trusted = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if trusted.is_file() {
        out.copy(trusted, trusted)?;
    }
    let mut order = String::new();
    for module in &image.modules {
        let name = module.file_name().context("a module without a name")?;
        out.copy(module, &Path::new("/modules").join(name))?;
        order.push_str(&name.to_string_lossy());
        order.push('\n');
    }
    out.file(Path::new("/modules/order"), order.as_bytes(), 0o644)?;
    out.finish()?;
    Ok(())
}

fn boot(image: &Image, archive: &Path, verbose: bool) -> anyhow::Result<Ran> {
    let began = Instant::now();
    let mut emulator = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args([
            "-m",
            &MEMORY_MIB.to_string(),
            "-nographic",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start qemu-system-x86_64")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_told_from_what_the_kernel_says() {
        let mut ran = Ran::default();
        ran.hear("\u{1b}[2JPICKET {\"rung\":\"tcx\",\"kernel\":\"6.12\"}\r\n");
        ran.hear("[    1.0] veth: module loaded\r\n");
        ran.hear("PICKET {\"check\":\"a\",\"ok\":false,\"said\":\"b\"}\n");
        ran.hear(
            "PICKET {\"program\":\"p\",\"loaded\":true,\"verified\":7,\"translated_bytes\":8}\n",
        );
        ran.hear("PICKET {\"other\":1}\n");
        assert!(!ran.ended);
        ran.hear("guest ended with 1\r\n");
        assert!(ran.ended);
        assert_eq!(ran.lines.len(), 3);
        let failed = Line::Check {
            check: "a".into(),
            ok: false,
            said: "b".into(),
        };
        assert_eq!(ran.lines[1], failed);
        assert_eq!(ran.log.len(), 3);
    }
}
