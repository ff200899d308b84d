//! A capture with what makes summaries of it, and who acts in front of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use picket_agent::attribution::Attribution;
use picket_agent::capture::ebpf::{EbpfCapture, Options, Rung};
use picket_agent::capture::live::{Event, Live as _};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Hit, Host, Process, Summary};

use crate::kernel::{open_with, small};

/// Where the version 2 hierarchy is.
pub(crate) fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    Some(PathBuf::from(line.split(' ').nth(4)?))
}

pub(crate) fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as u64
}

/// A capture on `pk-a` with what makes summaries of it.
pub(crate) struct Scene {
    pub(crate) capture: EbpfCapture,
    attribution: Attribution,
    pub(crate) sensor: Sensor,
}

impl Scene {
    pub(crate) fn open() -> Self {
        Self::open_on(None)
    }

    /// On a rung, or the best there is.
    pub(crate) fn open_on(rung: Option<Rung>) -> Self {
        let mut sensor = Sensor::new(
            SensorConfig::new(Host::default(), Clock::Caller),
            Arc::default(),
        );
        sensor.on_tick(now_ns());
        let options = Options {
            rung,
            ..Options::default()
        };
        let capture = open_with(&["pk-a"], small(), &options);
        let owners = capture.owners();
        assert_eq!(owners.lacks, Vec::<String>::new(), "{owners:?}");
        Self {
            capture,
            attribution: Attribution::new(cgroup_root()),
            sensor,
        }
    }

    pub(crate) fn take(&mut self, wait: Duration) -> usize {
        let (sensor, attribution) = (&mut self.sensor, &mut self.attribution);
        let taken = self.capture.poll(wait, &mut |event| match event {
            Event::Process(seen) => {
                if let Some((id, process)) = attribution.learn(seen) {
                    sensor.on_process(id, process);
                }
            }
            Event::Hit(hit) => sensor.on_kernel_hit(&hit),
            Event::Block(block) => sensor.on_kernel_block(&block),
            Event::Flow(delta) => sensor.on_flow(&delta),
            Event::Notice(notice) => sensor.on_kernel_notice(&notice),
            Event::Copy(copy) => sensor.on_copy(&copy),
            Event::Frame(_) => unreachable!("kernel programs hand no frames up"),
        });
        taken.expect("poll")
    }

    /// Everything that passed, told.
    pub(crate) fn summary(&mut self) -> Summary {
        self.told().0
    }

    /// Everything that passed, and the hits that did not wait for it.
    pub(crate) fn told(&mut self) -> (Summary, Vec<Hit>) {
        while self.take(Duration::ZERO) > 0 {}
        let sensor = &mut self.sensor;
        self.capture.scan(&mut |delta| sensor.on_flow(&delta));
        self.sensor.finish(Some(now_ns()));
        let mut hits = Vec::new();
        let mut window = None;
        while let Some(summary) = self.sensor.poll_output() {
            if summary.immediate {
                hits.extend(summary.hits);
            } else {
                window = Some(summary);
            }
        }
        (window.expect("a summary"), hits)
    }
}

/// A process of this test program, started by this one.
#[track_caller]
pub(crate) fn check_actor(process: Option<&Process>, pid: u32) {
    let process = process.expect("a process");
    assert_eq!(process.pid, pid, "{process:?}");
    let exe = std::env::current_exe().expect("this program");
    assert_eq!(process.exe.as_deref(), exe.to_str(), "{process:?}");
    let own = fs::metadata("/proc/self").expect("this process");
    assert_eq!(process.uid, Some(own.uid()));
    let parent = process.parent.as_deref().expect("a parent");
    assert_eq!(parent.pid, std::process::id());
    assert_eq!(parent.exe.as_deref(), exe.to_str());
    let age_ns = now_ns().abs_diff(process.start_ns);
    assert!(age_ns < 60_000_000_000, "started {age_ns} ns ago");
}
