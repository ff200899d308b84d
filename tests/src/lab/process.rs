//! A process of the lab: started with its output in files, ended when it goes out of scope.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use super::wait::wait_until;

/// How long a process may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(15);

/// A running process; killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `<folder>/<name>.out` and `.err`, appended to what an
    /// earlier run left there. Its own process group keeps a Ctrl-C at the terminal from it.
    ///
    /// # Errors
    /// When the files cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;

        let open = |suffix: &str| -> Result<(PathBuf, File)> {
            let path = folder.join(format!("{name}.{suffix}"));
            let file = File::options().create(true).append(true).open(&path);
            let file = file.with_context(|| format!("open {}", path.display()))?;
            Ok((path, file))
        };
        let (out, out_file) = open("out")?;
        let (err, err_file) = open("err")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out_file)
            .stderr(err_file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            out,
            err,
        })
    }

    /// Its process id; also the product's, since `nsenter` and `setpriv` become what they start.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written to standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.out)
    }

    /// Everything written to standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.err)
    }

    /// The last `lines` lines of both outputs, for a person who wants to know what went wrong.
    pub fn tail(&self, lines: usize) -> String {
        let mut told = String::new();
        for (stream, text) in [("out", self.stdout()), ("err", self.stderr())] {
            let all: Vec<&str> = text.lines().collect();
            for line in &all[all.len().saturating_sub(lines)..] {
                told.push_str(&format!("  {} {stream}| {line}\n", self.name));
            }
        }
        told
    }

    /// Says how it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("look at {}", self.name))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process id out of range")?;
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Kills it without a chance to tidy up (SIGKILL), as a crash or the kernel would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it has not ended after 15 s.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        let what = format!("{} to end", self.name);
        wait_until(&what, END_LIMIT, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
