//! The units: as little exposed as they promise, every directive known to systemd, and what is not in
//! them named with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn unit(name: &str) -> PathBuf {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    packaging.join(format!("{name}.service"))
}

/// `systemd-analyze security`, or nothing where there is no systemd.
fn security(unit: &Path, tenths: u32) -> Option<(bool, String)> {
    let asked = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={tenths}"))
        .arg(unit)
        .output();
    match asked {
        Ok(told) => Some((
            told.status.success(),
            String::from_utf8_lossy(&told.stdout).into_owned(),
        )),
        Err(error) => {
            println!("skipped: systemd-analyze cannot be run: {error}");
            None
        }
    }
}

#[test]
fn units_are_exposed_no_more_than_they_promise() {
    for (name, tenths) in [("picket-agent", 25), ("picket-collector", 12)] {
        let Some((is_within, told)) = security(&unit(name), tenths) else {
            return;
        };
        assert!(is_within, "{name}: {told}");
        // And the threshold is one: a little lower it does not pass.
        let (is_within, _) = security(&unit(name), tenths - 1).unwrap();
        assert!(!is_within, "{name} has become better; lower the threshold");
    }
}

/// What `systemd-analyze security` counts against a unit is there, or stands among what is left out.
#[test]
fn what_is_left_out_has_its_reason() {
    for name in ["picket-agent", "picket-collector"] {
        let text = fs::read_to_string(unit(name)).unwrap();
        let (_, left_out) = text.split_once("# Left out:").unwrap();
        let Some((_, told)) = security(&unit(name), 100) else {
            return;
        };
        let missing: BTreeSet<&str> = told
            .lines()
            .filter(|line| line.starts_with('✗'))
            .filter_map(|line| line.split_whitespace().nth(1)?.split('=').next())
            // Taken because it is needed, and said above the line that takes it.
            .filter(|key| !matches!(*key, "CapabilityBoundingSet" | "AmbientCapabilities"))
            .filter(|key| !matches!(*key, "RestrictAddressFamilies" | "SystemCallFilter"))
            .collect();
        for key in &missing {
            // RootImage= does what RootDirectory= does.
            let key = key.split('/').next().unwrap();
            assert!(
                left_out.contains(key),
                "{name}: no reason for {key}: {missing:?}"
            );
        }
        assert!(
            !missing.is_empty(),
            "{name}: the list was not understood: {told}"
        );
    }
}
