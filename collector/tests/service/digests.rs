//! CloudTrail's digest files, signed with a key of the tests' own (`keys/digest.pk8`, which signs nothing
//! else): in a bucket and in a folder.

use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use picket_wire::Digest;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use serde_json::{Value, json};

use crate::cloud::{Cloud, REGION};
use crate::rig::{Agent, INSTANCE, Rig, until};

const KEY: &[u8] = include_bytes!("keys/digest.pk8");
const ALTERED: &str = "Stealth:S3/CloudTrailLogAltered";
const MISSING: &str = "Stealth:S3/CloudTrailLogMissing";
const BROKEN: &str = "Stealth:S3/CloudTrailDigestBroken";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn log_key(hour: u32, n: u32) -> String {
    format!(
        "AWSLogs/111122223333/CloudTrail/{REGION}/2026/01/01/111122223333_CloudTrail_{REGION}_\
         20260101T{hour:02}{n:02}Z_abc.json.gz"
    )
}

fn digest_key(hour: u32) -> String {
    format!(
        "AWSLogs/111122223333/CloudTrail-Digest/{REGION}/2026/01/01/111122223333_CloudTrail-Digest_\
         {REGION}_main_{REGION}_20260101T{hour:02}0000Z.json.gz"
    )
}

/// Logs of an hour, packed, by key; what is inside differs by file.
fn logs(hour: u32) -> Vec<(String, Vec<u8>)> {
    let log = |n| {
        let content = format!(r#"{{"Records":[{{"eventID":"{hour}-{n}","eventName":"E"}}]}}"#);
        (log_key(hour, n), content.into_bytes())
    };
    (0..3).map(log).collect()
}

/// A digest: its key, its content, its signature.
#[derive(Clone)]
struct Made {
    key: String,
    content: Vec<u8>,
    signature: String,
}

fn make(hour: u32, before: Option<&Made>) -> Made {
    let pair = KeyPair::from_pkcs8(KEY).unwrap();
    let files: Vec<Value> = logs(hour)
        .into_iter()
        .map(|(key, content)| {
            json!({"s3Bucket": "trail", "s3Object": key, "hashAlgorithm": "SHA-256",
                "hashValue": Digest::of(&content).to_string()})
        })
        .collect();
    let (end, key) = (format!("2026-01-01T{hour:02}:00:00Z"), digest_key(hour));
    let content = json!({"awsAccountId": "111122223333", "digestEndTime": end,
        "digestS3Bucket": "trail", "digestS3Object": key,
        "digestPublicKeyFingerprint": "of-tests", "digestSignatureAlgorithm": "SHA256withRSA",
        "previousDigestS3Bucket": before.map(|_| "trail"),
        "previousDigestS3Object": before.map(|before| &before.key),
        "previousDigestHashValue": before.map(|before| Digest::of(&before.content).to_string()),
        "previousDigestHashAlgorithm": "SHA-256",
        "previousDigestSignature": before.map(|before| &before.signature), "logFiles": files});
    let content = content.to_string().into_bytes();
    let previous = before.map_or("null", |before| &before.signature);
    let text = format!("{end}\ntrail/{key}\n{}\n{previous}", Digest::of(&content));
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
        .unwrap();
    Made {
        key,
        content,
        signature: signature.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Three hours in a row.
fn chain() -> [Made; 3] {
    let first = make(1, None);
    let second = make(2, Some(&first));
    let third = make(3, Some(&second));
    [first, second, third]
}

fn write_keys(path: &Path) {
    let pair = KeyPair::from_pkcs8(KEY).unwrap();
    let value = STANDARD.encode(pair.public_key().as_ref());
    let keys = json!({"PublicKeyList": [{"Value": value, "Fingerprint": "of-tests"}]});
    std::fs::write(path, keys.to_string()).unwrap();
}

const TABLE: &str = "[digests]\nkeys_file = 'FOLDER/keys.json'\n";

/// What `analyze` finds in a folder after `spoil` had its way with it: types and counts.
#[track_caller]
fn check(name: &str, expected: &[(&str, u64)], spoil: impl Fn(&Path)) {
    let rig = Rig::new(TABLE);
    write_keys(&rig.path("keys.json"));
    let folder = rig.path("logs");
    let put = |key: &str, bytes: &[u8]| {
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, gzip(bytes)).unwrap();
    };
    for (hour, digest) in (1..).zip(chain()) {
        put(&digest.key, &digest.content);
        for (key, content) in logs(hour) {
            put(&key, &content);
        }
    }
    spoil(&folder);
    let folder = folder.display().to_string();
    let lines = rig.lines(&["analyze", "--cloudtrail", &folder]);
    let mut found: Vec<(String, u64)> = lines
        .iter()
        .filter(|line| {
            line.get("type")
                .is_some_and(|kind| kind.to_string().contains("Stealth:S3"))
        })
        .map(|line| {
            let count = line["service"]["count"].as_u64().unwrap();
            (line["type"].as_str().unwrap().to_owned(), count)
        })
        .collect();
    found.sort();
    let expected: Vec<(String, u64)> = expected
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), *count))
        .collect();
    assert_eq!(found, expected, "{name}");
}

fn rewrite(folder: &Path, key: &str, change: impl Fn(&mut String)) {
    let path = folder.join(key);
    let mut text = String::new();
    let packed = std::fs::File::open(&path).unwrap();
    let mut gz = flate2::read::GzDecoder::new(packed);
    std::io::Read::read_to_string(&mut gz, &mut text).unwrap();
    change(&mut text);
    std::fs::write(&path, gzip(text.as_bytes())).unwrap();
}

#[test]
fn a_folders_digests_are_checked_by_analyze() {
    check("nothing is wrong", &[], |_| {});
    check("a log was altered", &[(ALTERED, 1)], |folder| {
        rewrite(folder, &log_key(2, 1), |text| {
            *text = text.replace("\"E\"", "\"F\"");
        });
    });
    check("packed anew, the same inside", &[], |folder| {
        rewrite(folder, &log_key(2, 1), |_| {});
    });
    check("two logs are gone", &[(MISSING, 2)], |folder| {
        for n in 0..2 {
            std::fs::remove_file(folder.join(log_key(1, n))).unwrap();
        }
    });
    check("the logs were not copied", &[], |folder| {
        std::fs::remove_dir_all(folder.join("AWSLogs/111122223333/CloudTrail")).unwrap();
    });
    check("a digest was rewritten", &[(BROKEN, 1)], |folder| {
        rewrite(folder, &digest_key(2), |text| {
            *text = text.replace("01-01T02", "01-01T00");
        });
    });
    // Whoever has no key can write the digest after it to fit, and not the signature that it carries.
    check(
        "a digest and its successor were rewritten",
        &[(BROKEN, 1)],
        |folder| {
            let [_, mut second, _] = chain();
            let mut text: Value = serde_json::from_slice(&second.content).unwrap();
            text["logFiles"].as_array_mut().unwrap().truncate(1);
            second.content = text.to_string().into_bytes();
            std::fs::write(folder.join(&second.key), gzip(&second.content)).unwrap();
            let third = make(3, Some(&second));
            std::fs::write(folder.join(&third.key), gzip(&third.content)).unwrap();
        },
    );
}

async fn count(rig: &Rig, outcome: &str, expected: f64) {
    let name = format!("picket_collector_digests_total{{outcome=\"{outcome}\"}}");
    until(&format!("{name} {expected}"), || async {
        (rig.metric(&name).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_buckets_digests_are_checked_as_they_come() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("trail").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("trail", "logs").await;
    let agent = Agent::new(1).table(INSTANCE);
    let table =
        format!("[[sqs]]\nqueue_url = '{queue}'\nwait_s = 1\nhidden_s = 2\nbuckets = ['*']\n");
    let mut rig = Rig::new(&format!("{agent}{}{TABLE}{table}", cloud.table()));
    rig.credentials();
    write_keys(&rig.path("keys.json"));
    rig.start().await;
    let digests = chain();
    for hour in 1..4 {
        for (key, content) in logs(hour) {
            cloud.put("trail", &key, gzip(&content)).await;
        }
    }
    until("the logs", || async {
        let name = "picket_collector_log_objects_total{kind=\"cloudtrail\"}";
        (rig.metric(name).await == 9.0).then_some(())
    })
    .await;
    let put = |made: Made| {
        let cloud = &cloud;
        async move {
            let signature = ("x-amz-meta-signature", made.signature.as_str());
            cloud
                .put_with("trail", &made.key, gzip(&made.content), &[signature])
                .await;
        }
    };
    put(digests[0].clone()).await;
    count(&rig, "signed", 1.0).await;
    // Of the second hour a log is altered and one is gone.
    cloud
        .put("trail", &log_key(2, 0), gzip(b"{\"Records\":[]}"))
        .await;
    cloud.delete("trail", &log_key(2, 1)).await;
    put(digests[1].clone()).await;
    count(&rig, "signed", 2.0).await;
    rig.finding(ALTERED, 1).await;
    let missing = rig.finding(MISSING, 1).await;
    assert!(missing.to_string().contains(&log_key(2, 1)), "{missing}");
    assert!(
        rig.lines(&["findings", "list", "--type", BROKEN])
            .is_empty()
    );
    // The third is signed by nobody who has the key, and the second is gone.
    cloud.delete("trail", &digests[1].key).await;
    let mut forged = digests[2].clone();
    forged.signature = digests[0].signature.clone();
    put(forged).await;
    count(&rig, "forged", 1.0).await;
    let broken = rig.finding(BROKEN, 2).await.to_string();
    assert!(
        broken.contains("not CloudTrail's") && broken.contains("is gone"),
        "{broken}"
    );
}
