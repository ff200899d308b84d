//! A lab whose process is killed leaves nothing that the next lab does not remove.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use picket_tests::lab::{topology, wait_until};
use picket_tests::product::rig::skips;

const LIMIT: Duration = Duration::from_secs(60);

/// Namespaces of the lab of process `pid`.
fn namespaces(pid: u32) -> Vec<PathBuf> {
    named_after(pid, Path::new("/run/netns"))
}

/// Its folder.
fn folders(pid: u32) -> Vec<PathBuf> {
    named_after(pid, &std::env::temp_dir())
}

fn named_after(pid: u32, folder: &Path) -> Vec<PathBuf> {
    let mine = format!("pk-lab-{pid}-");
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&mine));
    names.map(|entry| entry.path()).collect()
}

/// Processes whose command line holds `text`.
fn processes_with(text: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.map(|entry| entry.path());
    lines
        .filter(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

#[test]
fn a_killed_lab_is_swept() {
    if skips() {
        return;
    }
    let mut lab = Command::new(env!("CARGO_BIN_EXE_picket-lab"))
        .arg("lab")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = lab.id();
    let folder = format!("pk-lab-{pid}-");
    let agent = wait_until("the lab to stand", LIMIT, || {
        let running = processes_with(&folder);
        let agent = running.into_iter().find(|path| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            name.trim() == "picket-agent"
        });
        Ok(agent.filter(|_| namespaces(pid).len() >= 3))
    })
    .unwrap();
    lab.kill().unwrap();
    lab.wait().unwrap();
    wait_until("everything of it to be swept", LIMIT, || {
        topology::sweep()?;
        let gone = !agent.exists() && namespaces(pid).is_empty() && folders(pid).is_empty();
        Ok(gone.then_some(()))
    })
    .unwrap();
}
