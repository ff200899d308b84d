//! What must outlive a restart: up to when the agent has told what it saw, and whether it ended in
//! order. The next run tells the collector of the time between as a gap.
//!
//! The file is replaced whole at the end of each window and not synced: after a power cut it may be
//! an older one, and then the gap is told longer than it was, never shorter.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use picket_wire::BootId;
use serde::{Deserialize, Serialize};

/// The file that says how far a run has come.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The run that wrote it.
    boot: String,
    /// End of the last window that is in the spool, nanoseconds since the epoch; 0 for none.
    finished_ns: u64,
    /// Whether the run ended in order.
    ended: bool,
}

impl StateFile {
    /// Looks at what the run before left in `folder`: where it left off and, in the words of the
    /// wire, why it ended. `None` at the very first start. `spooled` is the newest window in the spool
    /// and its run: one that was killed may have had no time to write it down. Then begins a state of
    /// our own, which becomes a file with the first window.
    pub fn begin(
        folder: &Path,
        boot: BootId,
        spooled: Option<(BootId, u64)>,
    ) -> (Self, Option<(u64, String)>) {
        let path = folder.join("state.json");
        let before = match fs::read(&path) {
            Ok(bytes) => Some(left_by(&bytes, spooled)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some((0, KILLED.to_owned())),
        };
        let finished_ns = before.as_ref().map_or(0, |(finished_ns, _)| *finished_ns);
        let state = State {
            boot: boot.to_string(),
            finished_ns,
            ended: false,
        };
        (Self { path, state }, before)
    }

    /// Notes that the window up to `end_ns` is in the spool.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finished(&mut self, end_ns: u64) -> io::Result<()> {
        self.state.finished_ns = end_ns;
        self.write()
    }

    /// Notes that the run ends in order.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn ended(&mut self) -> io::Result<()> {
        self.state.ended = true;
        self.write()
    }

    /// Says that a run is under way, so that a kill before the first window shows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(&self.state)?)
    }
}

/// Replaces a file in one step, so that whoever reads it finds it whole, old or new, also after
/// the machine has lost its power.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let young = path.with_extension("new");
    let mut file = fs::File::create(&young)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&young, path)
}

const KILLED: &str = "killed";
const STOPPED: &str = "stopped";

fn left_by(bytes: &[u8], spooled: Option<(BootId, u64)>) -> (u64, String) {
    match serde_json::from_slice::<State>(bytes) {
        Ok(state) if state.ended => (state.finished_ns, STOPPED.to_owned()),
        Ok(state) => {
            let own = spooled.filter(|(boot, _)| boot.to_string() == state.boot);
            let spooled_ns = own.map_or(0, |(_, end_ns)| end_ns);
            (state.finished_ns.max(spooled_ns), KILLED.to_owned())
        }
        Err(_) => (0, KILLED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_how_the_one_before_ended() {
        let folder = tempfile::tempdir().unwrap();
        let begin_after = |spooled| StateFile::begin(folder.path(), BootId([1; 16]), spooled);
        let begin = || begin_after(None);
        let (state, before) = begin();
        assert_eq!(before, None, "the very first start");
        state.write().unwrap();
        let (mut state, before) = begin();
        assert_eq!(
            before,
            Some((0, "killed".into())),
            "before its first window"
        );
        state.finished(77).unwrap();
        let (mut state, before) = begin();
        assert_eq!(before, Some((77, "killed".into())));
        let spooled = |boot, end_ns| begin_after(Some((BootId([boot; 16]), end_ns))).1;
        assert_eq!(
            spooled(1, 88),
            Some((88, "killed".into())),
            "not written down"
        );
        assert_eq!(
            spooled(1, 66),
            Some((77, "killed".into())),
            "the rest was shipped"
        );
        assert_eq!(
            spooled(2, 88),
            Some((77, "killed".into())),
            "of another run"
        );
        state.ended().unwrap();
        let (state, before) = begin();
        assert_eq!(before, Some((77, "stopped".into())));
        state.write().unwrap();
        assert_eq!(
            begin().1,
            Some((77, "killed".into())),
            "what was known is kept"
        );
        fs::write(folder.path().join("state.json"), b"{\"boot").unwrap();
        assert_eq!(begin().1, Some((0, "killed".into())));
    }
}
