use super::files::BLOCK_BYTES;
use super::*;
use crate::identity::{Identity, Sealer};
use picket_wire::{AgentId, Summary};
use std::fs;

fn sealer(boot: u8) -> Sealer {
    Sealer::new(
        AgentId([1; 16]),
        BootId([boot; 16]),
        Identity::development(),
    )
}

fn summary() -> Summary {
    let config =
        picket_sense::SensorConfig::new(picket_wire::Host::default(), picket_sense::Clock::Caller);
    let mut sensor = picket_sense::Sensor::new(config, std::sync::Arc::default());
    sensor.on_tick(0);
    sensor.finish(None);
    sensor.poll_output().unwrap()
}

fn small(bytes_max: u64) -> SpoolConfig {
    SpoolConfig {
        bytes_max,
        age_max_h: 1,
    }
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

/// Numbers of all that one batch takes.
fn sequences(spool: &mut Spool) -> Vec<u64> {
    let batch = spool.batch(usize::MAX, usize::MAX);
    batch
        .iter()
        .map(|waiting| waiting.envelope.sequence)
        .collect()
}

#[test]
fn hits_go_first_and_a_restart_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let mut spool = Spool::open(folder.path(), SpoolConfig::default()).unwrap();
    for kind in [Kind::Window, Kind::Window, Kind::Hit, Kind::Window] {
        spool
            .push(&sealer.seal(summary(), 1), kind, SystemTime::now())
            .unwrap();
    }
    assert_eq!(sequences(&mut spool), [2, 0, 1, 3]);
    let first = spool.batch(1, usize::MAX)[0].place;
    spool.remove(first);
    drop(spool);
    let mut spool = Spool::open(folder.path(), SpoolConfig::default()).unwrap();
    assert_eq!(sequences(&mut spool), [0, 1, 3]);
    // The new run's envelopes wait behind, and are not mixed with the old one's.
    spool
        .push(
            &self::sealer(2).seal(summary(), 1),
            Kind::Window,
            SystemTime::now(),
        )
        .unwrap();
    assert_eq!(sequences(&mut spool), [0, 1, 3]);
    assert_eq!(spool.depth().envelopes, 4);
    for waiting in spool.batch(9, usize::MAX) {
        spool.remove(waiting.place);
    }
    assert_eq!(sequences(&mut spool), [0]);
}

#[test]
fn what_is_refused_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SpoolConfig::default()).unwrap();
    let (mut old, mut new) = (sealer(1), sealer(2));
    let mut push = |sealer: &mut Sealer, kind| {
        let now = SystemTime::now();
        spool.push(&sealer.seal(summary(), 1), kind, now).unwrap();
    };
    push(&mut old, Kind::Hit);
    push(&mut new, Kind::Window);
    push(&mut new, Kind::Window);
    // The old run alone, as its hit goes first; it is refused for now.
    let refused = spool.batch(9, usize::MAX);
    assert_eq!(refused.len(), 1);
    spool.set_aside(refused[0].place);
    let rest = spool.batch(9, usize::MAX);
    assert_eq!(rest.len(), 2);
    assert!(!rest.contains(&refused[0]));
    assert_eq!(spool.depth().envelopes, 3, "it still waits");
    rest.iter().for_each(|waiting| spool.remove(waiting.place));
    assert_eq!(spool.batch(9, usize::MAX), refused, "nothing else waits");
    spool.set_aside(refused[0].place);
    assert_eq!(spool.batch(9, usize::MAX), refused, "and again");
}

#[test]
fn what_a_crash_left_half_written_is_not_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let mut spool = Spool::open(folder.path(), SpoolConfig::default()).unwrap();
    for _ in 0..3 {
        spool
            .push(&sealer.seal(summary(), 1), Kind::Window, SystemTime::now())
            .unwrap();
    }
    let whole = fs::read(spool.files.path(Place {
        kind: Kind::Window,
        ordinal: 1,
    }))
    .unwrap();
    drop(spool);
    for cut in [0, 1, 100, whole.len() - 1] {
        // A file cut by the disk, and one whose writing a kill has cut.
        let name = |ending: &str| folder.path().join(format!("{:020}.{ending}", 1));
        fs::write(name("window"), &whole[..cut]).unwrap();
        fs::write(name("new"), &whole[..cut]).unwrap();
        fs::write(folder.path().join("lost+found"), b"not ours").unwrap();
        let mut spool = Spool::open(folder.path(), SpoolConfig::default()).unwrap();
        assert!(!name("new").exists() && folder.path().join("lost+found").exists());
        assert_eq!(sequences(&mut spool), [0, 2], "cut at {cut}");
        assert_eq!(spool.dropped().damaged, 1);
        assert_eq!(spool.depth().envelopes, 2);
    }
}

#[test]
fn what_cannot_be_read_for_now_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let mut spool = Spool::open(folder.path(), SpoolConfig::default()).unwrap();
    for _ in 0..2 {
        spool
            .push(&sealer.seal(summary(), 1), Kind::Window, SystemTime::now())
            .unwrap();
    }
    let path = spool.files.path(Place {
        kind: Kind::Window,
        ordinal: 0,
    });
    let away = folder.path().join("away");
    fs::rename(&path, &away).unwrap();
    // A folder in its place is there and cannot be read, as a failing disk is.
    fs::create_dir(&path).unwrap();
    assert_eq!(sequences(&mut spool), [1]);
    assert_eq!(spool.dropped().damaged, 0);
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    let other = spool.batch(10, usize::MAX);
    spool.remove(other[0].place);
    assert_eq!(sequences(&mut spool), [0]);
}

#[test]
fn the_oldest_windows_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let mut spool = Spool::open(folder.path(), small(3 * BLOCK_BYTES)).unwrap();
    for kind in [
        Kind::Hit,
        Kind::Window,
        Kind::Window,
        Kind::Hit,
        Kind::Window,
    ] {
        spool.push(&sealer.seal(summary(), 1), kind, NOW).unwrap();
    }
    assert_eq!(sequences(&mut spool), [0, 3, 4]);
    assert_eq!(
        (spool.dropped().full, spool.depth().bytes),
        (2, 3 * BLOCK_BYTES)
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    // A smaller bound at the next start holds as well.
    drop(spool);
    let mut spool = Spool::open(folder.path(), small(BLOCK_BYTES)).unwrap();
    assert_eq!(sequences(&mut spool), [3], "of hits alone, the oldest");
}

#[test]
fn the_old_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let mut spool = Spool::open(folder.path(), small(1 << 20)).unwrap();
    spool
        .push(&sealer.seal(summary(), 1), Kind::Hit, NOW)
        .unwrap();
    let later = NOW + Duration::from_secs(3601);
    spool
        .push(&sealer.seal(summary(), 1), Kind::Hit, later)
        .unwrap();
    assert_eq!((sequences(&mut spool), spool.dropped().old), (vec![1], 1));
}

/// A clock that was ahead and has been set right: what it dated counts as of now, and holds up
/// nothing behind it.
#[test]
fn what_is_dated_in_the_future_grows_old_as_well() {
    let hour = Duration::from_secs(3600);
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let mut spool = Spool::open(folder.path(), small(1 << 20)).unwrap();
    let mut push = |spool: &mut Spool, now| {
        let envelope = sealer.seal(summary(), 1);
        spool.push(&envelope, Kind::Window, now).unwrap();
    };
    let now = SystemTime::now();
    push(&mut spool, now + 1000 * hour);
    push(&mut spool, now);
    push(&mut spool, now + hour * 3 / 2);
    assert_eq!((sequences(&mut spool), spool.dropped().old), (vec![2], 2));
    drop(spool);

    // The same of a file that an earlier run left, however often the agent starts.
    let file = fs::File::open(folder.path().join(format!("{:020}.window", 2))).unwrap();
    file.set_modified(now + 1000 * hour).unwrap();
    for (start, left) in [(now, 2), (now + hour / 2, 3), (now + hour * 5 / 4, 1)] {
        let mut spool = Spool::open(folder.path(), small(1 << 20)).unwrap();
        push(&mut spool, start);
        assert_eq!(sequences(&mut spool).len(), left);
    }
}

#[test]
fn without_a_disk_some_wait_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut sealer = sealer(1);
    let place = folder.path().join("spool");
    let mut spool = Spool::open(&place, SpoolConfig::default()).unwrap();
    fs::remove_dir(&place).unwrap();
    let envelope = sealer.seal(summary(), 1);
    let fit = HELD_BYTES_MAX / envelope.bytes.len() as u64;
    for _ in 0..=fit {
        assert!(spool.push(&envelope, Kind::Hit, NOW).is_err());
    }
    assert_eq!(
        (spool.depth().envelopes, spool.dropped().unwritten),
        (fit, 1)
    );
    let waiting = spool.batch(1, usize::MAX).remove(0);
    assert_eq!(waiting.envelope, envelope);
    spool.remove(waiting.place);
    assert_eq!(spool.depth().envelopes, fit - 1);
}
