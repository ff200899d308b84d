//! The service manager: told that we are ready once every door is open, and fed its watchdog while
//! the store answers (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! An answer is enough, even that nothing can be stored: a disk that is full is no better after a
//! restart, and what agents send is refused until there is room. A writer that never answers is.
//! Where `NOTIFY_SOCKET` is not set nobody is told.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::store::Store;

/// The watchdog is fed this often within the time it waits: one answer may be late.
const FEEDINGS: u32 = 4;

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    /// How long the manager waits between two signs of life.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names, if any.
    ///
    /// # Errors
    /// It names one that cannot be told anything.
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
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

    /// Says that we are ready, and from then on that we live, as often as it is asked for.
    pub(crate) async fn keep(&self, store: Store, status: String) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
        let Some(watchdog) = self.watchdog else {
            return std::future::pending().await;
        };
        let every = watchdog / FEEDINGS;
        let mut feeding = interval(every);
        feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            feeding.tick().await;
            match timeout(every, store.write(|_| Ok(()))).await {
                Ok(_) => self.tell("WATCHDOG=1"),
                Err(_) => tracing::error!("the store does not answer: the watchdog is not fed"),
            }
        }
    }

    /// Says that we end.
    pub(crate) fn stopping(&self) {
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

    #[tokio::test(flavor = "multi_thread")]
    async fn ready_is_told_and_the_store_feeds_the_watchdog() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        let wait = Some(Duration::from_secs(10));
        listening.set_read_timeout(wait).unwrap();
        let store = Store::open(folder.path()).unwrap();
        // Long enough that a slow disk does not starve it in this test.
        let manager = Manager::new(Some(path.into()), Some("4000000".into()), None).unwrap();
        let keeping = tokio::spawn(async move { manager.keep(store, "ok".into()).await });
        let told = tokio::task::spawn_blocking(move || {
            let mut told = [0; 256];
            [(); 2].map(|()| {
                let len = listening.recv(&mut told).unwrap();
                String::from_utf8_lossy(&told[..len]).into_owned()
            })
        });
        assert_eq!(told.await.unwrap(), ["READY=1\nSTATUS=ok", "WATCHDOG=1"]);
        keeping.abort();
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let watchdog = |us: &str, pid: Option<&str>| {
            let manager = Manager::new(None, Some(us.into()), pid.map(Into::into));
            manager.unwrap().watchdog
        };
        assert_eq!(watchdog("2000000", None), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", Some("1")), None);
        assert_eq!(watchdog("0", None), None);
        let error = Manager::new(Some("/nonexistent/notify".into()), None, None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/notify"), "{error}");
    }
}
