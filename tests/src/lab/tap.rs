//! A tap on an interface of a namespace: records what crosses it, or puts frames on it.

use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};

use super::namespace::Namespace;
use crate::scene::pcap::Timed;

/// Longest frame the tap takes: a GSO segment of 64 KiB and its headers.
const FRAME_BYTES_MAX: usize = 70_000;

/// Bytes of frames that may wait to be read. The kernel's default holds some 270 small ones, which
/// a scan of 250 ports overruns on a busy machine.
const WAITING_BYTES: usize = 64 << 20;

/// How long a read waits before it looks whether the recording has ended.
const READ_WAIT: Duration = Duration::from_millis(50);

/// A running recording.
#[derive(Debug)]
pub struct Recording {
    ended: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Vec<Timed>>>,
}

impl Recording {
    /// Records both directions of `interface`; returns when the tap is open.
    ///
    /// # Errors
    /// When the interface cannot be tapped.
    pub fn start(namespace: &Namespace, interface: &'static str) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicUsize::new(0));
        let (ready, is_ready) = mpsc::channel();
        let (is_ended, count) = (Arc::clone(&ended), Arc::clone(&seen));
        let thread = namespace.spawn("recording", move || {
            let (_, mut receiver) = open(interface)?;
            // The starter waits for this, so it is there.
            let _ = ready.send(());
            record(receiver.as_mut(), &is_ended, &count)
        })?;
        let recording = Self {
            ended,
            seen,
            thread,
        };
        if is_ready.recv().is_err() {
            recording.end()?;
            bail!("the tap on {interface} did not open");
        }
        Ok(recording)
    }

    /// Frames recorded so far.
    pub fn frames(&self) -> usize {
        self.seen.load(Ordering::Acquire)
    }

    /// Ends the recording and returns its frames in order.
    ///
    /// # Errors
    /// When reading from the tap failed.
    pub fn end(self) -> Result<Vec<Timed>> {
        self.ended.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Puts frames on an interface as if the namespace sent them.
pub struct Injector {
    interface: String,
    sender: Box<dyn DataLinkSender>,
}

impl Injector {
    /// Opens the interface.
    ///
    /// # Errors
    /// When it cannot be tapped.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let (sender, _) = namespace.run(|| open(interface))??;
        Ok(Self {
            interface: interface.to_owned(),
            sender,
        })
    }

    /// Sends one frame; it is on the wire when this returns.
    ///
    /// # Errors
    /// When the interface refuses it.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.sender
            .send_to(frame, None)
            .context("the tap is full")?
            .with_context(|| format!("send a frame on {}", self.interface))
    }
}

/// Must be called on a thread inside the namespace.
fn open(interface: &str) -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let all = pnet_datalink::interfaces();
    let found = all.iter().find(|one| one.name == interface);
    let found = found.with_context(|| format!("no interface {interface} here"))?;
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(eth::ALL),
    )
    .context("open a packet socket")?;
    set_socket_recv_buffer_size_force(&socket, WAITING_BYTES).context("widen the tap")?;
    let config = Config {
        socket_fd: Some(socket.into_raw_fd()),
        read_timeout: Some(READ_WAIT),
        read_buffer_size: FRAME_BYTES_MAX,
        write_buffer_size: FRAME_BYTES_MAX,
        ..Config::default()
    };
    match pnet_datalink::channel(found, config) {
        Ok(Channel::Ethernet(sender, receiver)) => Ok((sender, receiver)),
        Ok(_) => bail!("no Ethernet tap on {interface}"),
        Err(error) => Err(error).with_context(|| format!("tap {interface}")),
    }
}

fn record(
    receiver: &mut dyn DataLinkReceiver,
    ended: &AtomicBool,
    seen: &AtomicUsize,
) -> Result<Vec<Timed>> {
    use std::io::ErrorKind;

    let mut frames = Vec::new();
    loop {
        match receiver.next() {
            Ok(frame) => {
                let at = SystemTime::now().duration_since(UNIX_EPOCH)?;
                let frame = frame.to_vec();
                frames.push(Timed { at, frame });
                seen.store(frames.len(), Ordering::Release);
            }
            // Nothing came in READ_WAIT: the only moment at which the recording may end, so that
            // what was on the wire before is in it.
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                if ended.load(Ordering::Acquire) {
                    return Ok(frames);
                }
            }
            Err(error) => return Err(error).context("read from the tap"),
        }
    }
}
