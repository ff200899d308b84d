//! Real feeds, where the shared data are there (`../shared` beside the repository, or the folder that
//! `PICKET_SHARED` names): each is read as published, gives at least so many indicators and refuses
//! at most so many entries. Prints what came of each, and how long the reading took.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use picket_intel::feeds_file::{FeedEntry, FormatName};
use picket_intel::format::{AllowFormat, Format};
use picket_intel::{Category, Feed, Kind, ListReport, Reason, SetBuilder};

/// 2026-11-22, when the samples were put together.
const NOW_MS: u64 = 1_795_305_600_000;

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/intel");
    if !folder.is_dir() {
        println!("skipped: no {}", folder.display());
        return None;
    }
    Some(folder)
}

/// A sample: a file, or a folder of which each file is read.
struct Sample {
    path: &'static str,
    /// Recognised if not said.
    format: Option<&'static str>,
    category: Option<Category>,
    /// Whether attributes of MISP count that are not marked `to_ids`.
    all: bool,
    taken_min: usize,
    refused_max: usize,
}

const fn sample(path: &'static str, taken_min: usize, refused_max: usize) -> Sample {
    Sample {
        path,
        format: None,
        category: None,
        all: false,
        taken_min,
        refused_max,
    }
}

const fn plain(path: &'static str, category: Category, taken_min: usize) -> Sample {
    Sample {
        path,
        format: Some("plain"),
        category: Some(category),
        all: false,
        taken_min,
        refused_max: 0,
    }
}

const SAMPLES: &[Sample] = &[
    // None of their hosts is marked `to_ids`.
    sample("eset-misp", 0, 0),
    Sample {
        all: true,
        ..sample("eset-misp", 190, 8)
    },
    plain("ipsum/level3.txt", Category::Scanner, 14_200),
    sample("maltrail/malware", 19_400, 8),
    sample("maltrail/suspicious/anonymous_web_proxy.txt", 600, 2),
    sample("maltrail/suspicious/crypto_mining.txt", 1_100, 2),
    sample("maltrail/suspicious/dns_tunneling_service.txt", 7, 0),
    sample("maltrail/suspicious/dynamic_domain.txt", 2_000, 5),
    Sample {
        format: Some("csv"),
        category: Some(Category::Mining),
        ..sample("pools/pool_seed.csv", 195, 1)
    },
    plain("spamhaus/drop.txt", Category::C2, 980),
    plain("spamhaus/drop_ipv6.txt", Category::C2, 50),
    plain("spamhaus/edrop.txt", Category::C2, 320),
    sample("spamhaus/asn_drop.json", 0, 0),
    plain("threatfox/ips.txt", Category::C2, 19_800),
    sample("tor/tor-exit-nodes.lst", 1_700, 0),
    sample("tor/tor-nodes.lst", 8_000, 0),
];

/// What came of a sample, over all its files.
#[derive(Default)]
struct Sum {
    taken: usize,
    repeated: usize,
    left_out: [usize; Reason::ALL.len()],
    took: Duration,
    refusals: Vec<String>,
}

impl Sum {
    fn add(&mut self, report: &ListReport) {
        self.taken += report.taken;
        self.repeated += report.repeated;
        for (sum, reason) in self.left_out.iter_mut().zip(Reason::ALL) {
            *sum += report.left_out(reason);
        }
        let refused = report
            .notes
            .iter()
            .filter(|note| note.reason == Reason::Refused);
        self.refusals
            .extend(refused.map(|note| format!("{}: {}: {}", report.file, note.at, note.why)));
        assert_eq!(report.broken, None, "{}", report.file);
    }

    fn of(&self, reason: Reason) -> usize {
        self.left_out[reason as usize]
    }

    fn all(&self) -> usize {
        self.taken + self.repeated + self.left_out.iter().sum::<usize>()
    }
}

fn read(root: &Path, sample: &Sample) -> (Sum, &'static str) {
    let path = root.join(sample.path);
    let mut files = vec![path.clone()];
    if path.is_dir() {
        files = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.retain(|file| !file.ends_with("LICENSE"));
        // A list of a shape of its own, not an event.
        files.retain(|file| !file.ends_with("rqz-dnsduvel_blocklist.json"));
        files.sort();
    }
    let (mut sum, mut format) = (Sum::default(), "");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut entry = FeedEntry::of(name);
        entry.category = sample.category;
        entry.format = sample
            .format
            .map(|name| FormatName(Format::named(name).unwrap()));
        entry.kind = Kind::Any;
        let start = Instant::now();
        let feed = match sample.format {
            _ if sample.all => Feed {
                to_ids: false,
                ..Feed::recognise(name, &bytes).unwrap()
            },
            Some(_) => Feed::of_entry(&entry, name, &bytes).unwrap(),
            None => Feed::recognise(name, &bytes).expect(name),
        };
        let mut builder = SetBuilder::at(NOW_MS);
        let report = builder.read_feed(&feed, name, &bytes).unwrap();
        sum.took += start.elapsed();
        assert_eq!(builder.build().len(), report.taken, "{name}");
        format = report.format;
        sum.add(&report);
    }
    (sum, format)
}

#[test]
fn every_sample_is_read() {
    let Some(root) = folder() else { return };
    println!(
        "{:<46} {:<9} {:>6} {:>8} {:>7} {:>8} {:>8} {:>7} {:>11}",
        "file",
        "format",
        "taken",
        "repeated",
        "refused",
        "excluded",
        "no host",
        "useless",
        "entries/s"
    );
    let mut whole = Sum::default();
    let mut wrong = Vec::new();
    for sample in SAMPLES {
        let (sum, format) = read(&root, sample);
        let speed = sum.all() as f64 / sum.took.as_secs_f64();
        println!(
            "{:<46} {format:<9} {:>6} {:>8} {:>7} {:>8} {:>8} {:>7} {speed:>11.0}",
            sample.path,
            sum.taken,
            sum.repeated,
            sum.of(Reason::Refused),
            sum.of(Reason::Excluded),
            sum.of(Reason::NotAHost),
            sum.of(Reason::OfNoUse),
        );
        if sum.taken < sample.taken_min || sum.of(Reason::Refused) > sample.refused_max {
            wrong.push(format!(
                "{}: {} taken, refused: {:#?}",
                sample.path, sum.taken, sum.refusals
            ));
        }
        whole.taken += sum.taken;
        whole.repeated += sum.repeated;
        whole.took += sum.took;
    }
    println!(
        "{} taken, {} repeated in {:?}",
        whole.taken, whole.repeated, whole.took
    );
    assert_eq!(wrong, Vec::<String>::new());
}

/// Each warninglist is read; what names hosts is taken, the rest counted.
#[test]
fn every_warninglist_is_read() {
    let Some(root) = folder() else { return };
    let mut builder = SetBuilder::default();
    let (mut lists, mut taken) = (0, 0);
    for entry in fs::read_dir(root.join("misp-warninglists")).unwrap() {
        let path = entry.unwrap().path().join("list.json");
        let Ok(bytes) = fs::read(&path) else { continue };
        let name = path
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        let report = builder.read_allow(name, Some(AllowFormat::Warninglist), name, &bytes);
        let report = report.unwrap();
        println!(
            "{name:<36} {:>6} taken {:>4} refused {:>6} not supported",
            report.taken, report.refused, report.unsupported
        );
        let sum = report.taken + report.refused + report.unsupported;
        assert!(sum > 0, "{name}: {:?}", report.complaints);
        assert!(
            report.refused * 100 <= sum,
            "{name}: {:?}",
            report.complaints
        );
        lists += 1;
        taken += report.taken;
    }
    assert!(
        lists >= 25 && taken >= 100_000,
        "{lists} lists, {taken} taken"
    );
    // What was measured on feeds of the time: C2 servers behind resolvers, content networks, clouds.
    let bytes = fs::read(root.join("threatfox/ips.txt")).unwrap();
    let feed = Feed::own(picket_intel::List::new("threatfox", Category::C2));
    let report = builder.read_feed(&feed, "ips.txt", &bytes).unwrap();
    println!("threatfox/ips.txt beside all of them: {}", report.summary());
    assert!(report.left_out(Reason::Allowed) > 300);
}
