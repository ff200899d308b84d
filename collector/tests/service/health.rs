//! Health says what ingest would.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::{Client, StatusCode};

use crate::rig::{Agent, INSTANCE, Rig, until};

/// A small disk in memory, taken away at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `path`, or says what is missing.
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "pk-small"])
            .arg(path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("skipped: no small disk can be mounted: {}", why.trim());
                None
            }
            Err(error) => {
                println!("skipped: no mount here: {error}");
                None
            }
        }
    }

    /// Takes all the room there is, down to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        for bytes in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the collector may not be gone yet.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn health(rig: &Rig, client: &Client) -> StatusCode {
    let answer = client.get(rig.url("/v1/health")).send().await.unwrap();
    answer.status()
}

#[tokio::test]
async fn a_full_disk_is_no_good_health() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    let Some(disk) = SmallDisk::mount(&rig.path("state")) else {
        return;
    };
    rig.start().await;
    let client = rig.client();
    assert_eq!(health(&rig, &client).await, StatusCode::OK);
    let first = rig.post(&client, agent.envelope(1)).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);

    // Nobody sends, so nothing has failed yet: health finds out by itself.
    disk.fill();
    until("bad health", || async {
        let status = health(&rig, &client).await;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    // The store may have room of its own left for a small one; it ends soon.
    let mut waiting = agent.envelope(1_000);
    loop {
        let answer = rig.post(&client, waiting.clone()).await.unwrap();
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        assert_eq!(answer.status(), StatusCode::OK);
        waiting = agent.envelope(1_000);
    }
    assert_eq!(health(&rig, &client).await, StatusCode::SERVICE_UNAVAILABLE);

    disk.clear();
    until("good health", || async {
        (health(&rig, &client).await == StatusCode::OK).then_some(())
    })
    .await;
    let answer = rig.post(&client, waiting).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let text = answer.text().await.unwrap();
    assert!(text.contains("accepted"), "{text}");
    assert!(rig.log().contains("envelopes can be stored again"));
}
