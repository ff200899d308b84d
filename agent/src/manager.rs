//! The service manager: told that we are ready once packets of ours came back through the kernel
//! programs, and fed its watchdog while they do (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! Where `NOTIFY_SOCKET` is not set nobody is told. What cannot be told is logged, and we go on.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::{MissedTickBehavior, interval};

use crate::pulse::{Judge, Pulse};

/// The watchdog is fed this often within the time it waits: once may be missed, as a turn takes up to
/// a tenth of a second and writes to a disk may take longer.
const FEEDINGS: u32 = 4;

/// The way to the service manager.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    /// How long the manager waits between two signs of life.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names, if any.
    ///
    /// # Errors
    /// It names one that cannot be told anything.
    pub fn of_environment() -> anyhow::Result<Self> {
        let text = |name| std::env::var(name).ok();
        Self::new(
            std::env::var_os("NOTIFY_SOCKET"),
            text("WATCHDOG_USEC"),
            text("WATCHDOG_PID"),
        )
    }

    fn new(
        socket: Option<OsString>,
        watchdog_us: Option<String>,
        watchdog_pid: Option<String>,
    ) -> anyhow::Result<Self> {
        let socket = socket.filter(|name| !name.is_empty());
        let socket = socket
            .map(|name| {
                connect(&name)
                    .with_context(|| format!("reach NOTIFY_SOCKET, {}", name.to_string_lossy()))
            })
            .transpose()?;
        let is_ours = watchdog_pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = watchdog_us
            .filter(|_| is_ours)
            .and_then(|us| us.parse().ok())
            .filter(|us| *us > 0)
            .map(Duration::from_micros);
        Ok(Self { socket, watchdog })
    }

    /// Says that we are ready once the watching thread has proven itself, and then, as often as it is
    /// asked for, that we live while it goes on to. `window` is how often it is to prove itself.
    pub async fn keep(self: Arc<Self>, pulse: Arc<Pulse>, window: Duration, status: String) {
        pulse.proven().await;
        // A line ends a word of ours.
        let status = status.replace('\n', " ");
        self.tell(&format!("READY=1\nSTATUS={status}"));
        tracing::info!(status, "ready");
        let Some(watchdog) = self.watchdog else {
            return;
        };
        let mut judge = Judge::new(window, Instant::now());
        let mut feeding = interval(watchdog / FEEDINGS);
        feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            feeding.tick().await;
            if judge.is_alive(&pulse, Instant::now()) {
                self.tell("WATCHDOG=1");
            } else {
                tracing::error!("no packet of ours comes back: the watchdog is not fed");
            }
        }
    }

    /// Says that we end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(what.as_bytes())
        {
            tracing::warn!(%error, what, "service manager not told");
        }
    }
}

/// A socket that never waits, as a manager that does not read must not hold us up.
fn connect(name: &OsString) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    // "@name" is one without a file.
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut told = [0; 256];
        let len = socket.recv(&mut told).unwrap();
        String::from_utf8_lossy(&told[..len]).into_owned()
    }

    /// Time stands still but for what is waited for.
    #[tokio::test]
    async fn ready_with_the_first_proof_and_fed_by_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        listening
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let manager = Manager::new(Some(path.into()), Some("40000".into()), None).unwrap();
        let manager = Arc::new(manager);
        let pulse = Arc::new(Pulse::default());
        let window = Duration::from_secs(60);
        let keeping = tokio::spawn(Arc::clone(&manager).keep(pulse.clone(), window, "ok".into()));
        tokio::task::yield_now().await;
        listening.set_nonblocking(true).unwrap();
        assert!(listening.recv(&mut [0]).is_err(), "nothing is proven yet");
        listening.set_nonblocking(false).unwrap();
        pulse.turn();
        pulse.prove();
        let listening = tokio::task::spawn_blocking(move || {
            assert_eq!(heard(&listening), "READY=1\nSTATUS=ok");
            assert_eq!(heard(&listening), "WATCHDOG=1");
            listening
        });
        let listening = listening.await.unwrap();
        keeping.abort();
        assert!(keeping.await.unwrap_err().is_cancelled());
        manager.stopping();
        assert_eq!(heard(&listening), "STOPPING=1");
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let watchdog = |us: &str, pid: Option<&str>| {
            let manager = Manager::new(None, Some(us.into()), pid.map(Into::into));
            manager.unwrap().watchdog
        };
        let us = std::process::id().to_string();
        assert_eq!(watchdog("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", Some(&us)), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", Some("1")), None);
        assert_eq!(watchdog("0", None), None);
        assert_eq!(watchdog("soon", None), None);
    }

    #[test]
    fn a_name_without_a_file_is_reached_and_one_nobody_has_is_told() {
        let name = format!("picket-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager::new(Some(format!("@{name}").into()), None, None).unwrap();
        manager.stopping();
        assert_eq!(heard(&listening), "STOPPING=1");
        let error = Manager::new(Some("/nonexistent/notify".into()), None, None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/notify"), "{error}");
        // Where there is none, nothing happens.
        Manager::new(None, None, None).unwrap().stopping();
    }
}
