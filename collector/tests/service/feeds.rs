//! Feeds fetched from real servers, good and bad ones.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::authority::Authority;
use crate::rig::{Rig, until};
use crate::source::{Page, Source};

const REFUSED: &str = "DefenseEvasion:EC2/IndicatorFeedRefused";
const STALE: &str = "DefenseEvasion:EC2/IndicatorFeedStale";

/// Ten addresses.
pub(crate) fn ten() -> String {
    (1..=10).map(|n| format!("192.0.2.{n}\n")).collect()
}

/// A table of a feed on this machine, asked for every second.
pub(crate) fn table(name: &str, url: &str, more: &str) -> String {
    format!("[[feed]]\nname = '{name}'\nurl = '{url}'\ncategory = 'c2'\nevery_s = 1\n{more}\n")
}

/// The line of a feed.
pub(crate) fn line(rig: &Rig, feed: &str) -> Value {
    let lines = rig.lines(&["intel", "feeds"]);
    let mut own = lines.into_iter().filter(|line| line["feed"] == feed);
    own.next().unwrap()
}

/// Waits until a feed's line is as it should be.
pub(crate) async fn until_line(rig: &Rig, feed: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let is_so = &is_so;
    until(feed, || async move { Some(line(rig, feed)).filter(is_so) }).await
}

fn in_use(rig: &Rig, file: &str) -> String {
    std::fs::read_to_string(rig.path("state/feeds").join(file)).unwrap()
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_feed_is_sent_again_only_when_it_has_changed() {
    let authority = Authority::new();
    let source = Source::start_tls(&authority).await;
    source.put(
        "/list",
        Page::new(packed(&ten()))
            .etag("\"one\"")
            .header("content-encoding", "gzip"),
    );
    let more = "ca_file = 'FOLDER/feed-ca.pem'\nkey_file = 'FOLDER/key'\nkey_header = 'Auth-Key'\n\
        direction = 'outbound'\nconfidence = 70";
    let mut rig = Rig::new(&table("c2-ips", &source.url("/list"), more));
    std::fs::write(rig.path("feed-ca.pem"), &authority.pem).unwrap();
    std::fs::write(rig.path("key"), "  the key\n").unwrap();
    rig.start().await;
    let asked = |value: Option<&'static str>| {
        let source = &source;
        move || async move {
            let sent = source.asked("/list");
            let found = sent
                .iter()
                .find(|asked| asked.headers.get("if-none-match").map(String::as_str) == value)?;
            Some(found.clone())
        }
    };
    let first = until("the first question", asked(None)).await;
    assert_eq!(first.headers["auth-key"], "the key");
    assert_eq!(first.headers["accept-encoding"], "gzip");
    until("a question for what is new", asked(Some("\"one\""))).await;
    assert_eq!(in_use(&rig, "c2-ips.txt"), ten());
    let index: toml::Table = in_use(&rig, "feeds.toml").parse().unwrap();
    let entry = &index["feed"][0];
    assert_eq!(entry["file"].as_str(), Some("c2-ips.txt"));
    assert_eq!(entry["direction"].as_str(), Some("outbound"));
    assert_eq!(entry["confidence"].as_integer(), Some(70));

    source.put(
        "/list",
        Page::new(format!("{}192.0.2.11\n", ten())).etag("\"two\""),
    );
    let changed = until_line(&rig, "c2-ips", |line| line["entries"] == 11).await;
    assert_eq!(
        (&changed["state"], &changed["failures"]),
        (&"well".into(), &0.into())
    );
    until("a question for the second", asked(Some("\"two\""))).await;
    assert_eq!(
        rig.metric("picket_collector_feed_entries{feed=\"c2-ips\"}")
            .await,
        11.0
    );
    let fetched =
        |outcome: &str| format!("picket_collector_feed_fetches_total{{outcome=\"{outcome}\"}}");
    assert_eq!(rig.metric(&fetched("changed")).await, 2.0);
    assert!(rig.metric(&fetched("unchanged")).await >= 1.0);
    let text = rig.print(&["intel", "feeds"]);
    assert!(text.contains("c2-ips") && text.contains("well"), "{text}");
    let log = rig.log();
    assert!(!log.contains("the key"), "{log}");
}

#[tokio::test]
async fn what_is_bad_leaves_the_old_in_use() {
    let source = Source::start().await;
    source.put("/list", Page::new(ten()));
    let limits = "bytes_max = 2_000\ntimeout_s = 3";
    let mut rig = Rig::new(&table("c2-ips", &source.url("/list"), limits));
    rig.start().await;
    until_line(&rig, "c2-ips", |line| line["state"] == "well").await;
    source.put("/round", Page::redirect("/round"));
    let three = ten()
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let html = "<!DOCTYPE html><html><body>\n192.0.2.1\n</body></html>";
    for (page, outcome, told) in [
        (Page::status(500), "status", "500"),
        (
            Page::status(403).header("retry-after", "1"),
            "status",
            "403",
        ),
        (Page::new(ten()).cut(), "network", "body"),
        (
            Page::new("192.0.2.1\n".repeat(201)),
            "too_large",
            "2000 bytes",
        ),
        (
            Page::new(packed(&"#\n".repeat(100_000))),
            "too_large",
            "2000 bytes",
        ),
        // By the time for one pause or for all of it, whichever is over first.
        (
            Page::new(ten()).stall(),
            "network",
            "timed out|not done after 3 s",
        ),
        (Page::redirect("/round"), "redirect", "more than"),
        (Page::redirect("http://192.0.2.1/"), "redirect", "192.0.2.1"),
        (Page::status(302), "redirect", "nowhere"),
        (Page::new(&packed(&ten())[..30]), "packed", "damaged"),
        (Page::new(""), "held_empty", "no entry"),
        (
            Page::new("{\"error\": \"not today\"}"),
            "held_empty",
            "no entry",
        ),
        (Page::new(html), "held_page", "web page"),
        (Page::new(three), "held_shrunken", "from 10 entries to 3"),
    ] {
        let is_held = outcome.starts_with("held");
        source.put("/list", page);
        let line = until_line(&rig, "c2-ips", |line| line["state"] != "well").await;
        let state = if is_held { "held" } else { "failing" };
        assert_eq!(line["state"], state, "{outcome}: {line}");
        let why = if is_held {
            &line["held"]["why"]
        } else {
            &line["last_error"]
        };
        let why = why.as_str().unwrap();
        let is_told = told.split('|').any(|told| why.contains(told));
        assert!(is_told, "{outcome}: {line}");
        assert_eq!(line["entries"], 10, "{outcome}: {line}");
        assert_eq!(in_use(&rig, "c2-ips.txt"), ten(), "{outcome}");
        let metric = format!("picket_collector_feed_fetches_total{{outcome=\"{outcome}\"}}");
        assert!(rig.metric(&metric).await >= 1.0, "{outcome}");
        let open = || async {
            let open = rig.lines(&["findings", "list", "--open", "--type", REFUSED]);
            (open.len() == usize::from(is_held)).then_some(open)
        };
        let open = until("a finding", open).await;
        if let Some(finding) = open.first() {
            let why = finding["picket"]["why"].as_str().unwrap();
            assert!(why.contains("c2-ips") && why.contains(told), "{why}");
        }
        source.put("/list", Page::new(ten()));
        until_line(&rig, "c2-ips", |line| line["state"] == "well").await;
    }
    // What is over is put away.
    until("an end of it", || async {
        rig.lines(&["findings", "list", "--open", "--type", REFUSED])
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_held_back_may_be_accepted() {
    let source = Source::start().await;
    source.put("/list", Page::new(ten()));
    let mut rig = Rig::new(&table("c2-ips", &source.url("/list"), ""));
    rig.start().await;
    until_line(&rig, "c2-ips", |line| line["state"] == "well").await;
    assert_eq!(
        rig.run(&["intel", "feeds", "accept", "c2-ips"])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(
        rig.run(&["intel", "feeds", "accept", "nothing"])
            .status
            .code(),
        Some(1)
    );
    source.put("/list", Page::new("192.0.2.1\n"));
    until_line(&rig, "c2-ips", |line| line["state"] == "held").await;
    // It outlives a restart.
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    source.put("/list", Page::status(500));
    rig.start().await;
    assert_eq!(line(&rig, "c2-ips")["held"]["entries"], 1);
    rig.print(&["intel", "feeds", "accept", "c2-ips"]);
    assert_eq!(in_use(&rig, "c2-ips.txt"), "192.0.2.1\n");
    assert_eq!(line(&rig, "c2-ips")["entries"], 1);
    source.put("/list", Page::new("192.0.2.1\n"));
    until_line(&rig, "c2-ips", |line| line["state"] == "well").await;
}

#[tokio::test]
async fn a_restart_keeps_the_times() {
    let source = Source::start().await;
    source.put("/hourly", Page::new(ten()));
    source.put("/each-second", Page::new(ten()));
    let hourly =
        table("mining-ips", &source.url("/hourly"), "").replace("every_s = 1", "every_s = 3600");
    let often = table("c2-ips", &source.url("/each-second"), "");
    let mut rig = Rig::new(&format!("{hourly}{often}"));
    rig.start().await;
    for feed in ["mining-ips", "c2-ips"] {
        until_line(&rig, feed, |line| line["state"] == "well").await;
    }
    let next = line(&rig, "mining-ips")["next"].clone();
    rig.kill();
    rig.start().await;
    let before = source.asked("/each-second").len();
    until("two more of the other", || async {
        (source.asked("/each-second").len() >= before + 2).then_some(())
    })
    .await;
    assert_eq!(source.asked("/hourly").len(), 1);
    assert_eq!(line(&rig, "mining-ips")["next"], next);
    // One that is not configured any more goes with its file.
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    rig.configure(&often);
    rig.start().await;
    assert_eq!(rig.lines(&["intel", "feeds"]).len(), 1);
    assert!(!rig.path("state/feeds/mining-ips.txt").exists());
    assert!(rig.path("state/feeds/c2-ips.txt").exists());
}

#[tokio::test]
async fn it_stops_in_the_middle_and_one_server_is_asked_once_at_a_time() {
    let source = Source::start().await;
    source.put("/slow", Page::new(ten()).stall());
    source.put("/other", Page::new(ten()));
    let slow = table("c2-ips", &source.url("/slow"), "");
    let other = table("mining-ips", &source.url("/other"), "");
    let mut rig = Rig::new(&slow);
    rig.start().await;
    until("a question", || async {
        (!source.asked("/slow").is_empty()).then_some(())
    })
    .await;
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    let log = rig.log();
    assert!(!log.contains("did not end in time"), "{log}");
    // While it is slow, nothing else is asked of that server, but of others.
    let clock = Source::start().await;
    clock.put("/tick", Page::new(ten()));
    let ticking = table("tor-ips", &clock.url("/tick"), "");
    rig.configure(&format!("{slow}{other}{ticking}"));
    rig.start().await;
    until("a slow answer", || async {
        (source.asked("/slow").len() >= 2).then_some(())
    })
    .await;
    let before = (source.asked("/other").len(), clock.asked("/tick").len());
    until("three ticks", || async {
        (clock.asked("/tick").len() >= before.1 + 3).then_some(())
    })
    .await;
    assert_eq!(source.asked("/slow").len(), 2);
    assert_eq!(source.asked("/other").len(), before.0);
}

#[tokio::test]
async fn a_key_stays_with_its_server_and_out_of_sight() {
    let (source, other) = (Source::start().await, Source::start().await);
    other.put("/list", Page::new(ten()));
    source.put("/list", Page::redirect(&other.url("/list")));
    let more =
        "key_file = 'FOLDER/key'\nkey_header = 'Auth-Key'\nkey_parameter = 'auth-key'\nuser = 'u'";
    let gone = table("mining-ips", "http://127.0.0.1:1/list", more);
    let mut rig = Rig::new(&(table("c2-ips", &source.url("/list"), more) + &gone));
    std::fs::write(rig.path("key"), "sesame-oil\n").unwrap();
    rig.start().await;
    until_line(&rig, "c2-ips", |line| line["state"] == "well").await;
    let first = &source.asked("/list")[0];
    assert_eq!(first.path, "/list?auth-key=sesame-oil");
    assert_eq!(first.headers["auth-key"], "sesame-oil");
    assert!(first.headers["authorization"].starts_with("Basic "));
    let second = &other.asked("/list")[0];
    assert_eq!(second.path, "/list");
    assert!(!second.headers.contains_key("auth-key"));
    assert!(!second.headers.contains_key("authorization"));
    let line = until_line(&rig, "mining-ips", |line| line["state"] == "failing").await;
    assert!(!line.to_string().contains("sesame"), "{line}");
    assert!(!rig.log().contains("sesame"), "{}", rig.log());
    // A key that is gone is told by its file.
    std::fs::remove_file(rig.path("key")).unwrap();
    let line = until_line(&rig, "c2-ips", |line| line["state"] == "failing").await;
    let why = line["last_error"].as_str().unwrap();
    assert!(
        why.contains(&rig.path("key").display().to_string()),
        "{why}"
    );
}

#[tokio::test]
async fn a_server_that_stays_away_is_a_finding_until_it_is_back() {
    let source = Source::start().await;
    source.put("/list", Page::status(503));
    let mut rig = Rig::new(&table("c2-ips", &source.url("/list"), "stale_s = 2"));
    rig.start().await;
    let finding = rig.finding(STALE, 1).await;
    let why = finding["picket"]["why"].as_str().unwrap();
    assert!(why.contains("c2-ips") && why.contains("503"), "{why}");
    assert_eq!(line(&rig, "c2-ips")["state"], "stale");
    source.put("/list", Page::new(ten()));
    until_line(&rig, "c2-ips", |line| line["state"] == "well").await;
    until("an end of it", || async {
        rig.lines(&["findings", "list", "--open", "--type", STALE])
            .is_empty()
            .then_some(())
    })
    .await;
}

/// An event of MISP with these addresses.
fn event(uuid: &str, addresses: &[&str]) -> String {
    let attributes: Vec<Value> = addresses
        .iter()
        .map(|value| serde_json::json!({"type": "ip-dst", "value": value, "to_ids": true}))
        .collect();
    serde_json::json!({"Event": {"uuid": uuid, "info": "x", "Attribute": attributes}}).to_string()
}

#[tokio::test]
async fn of_a_misp_feed_only_what_changed_is_fetched() {
    const ONE: &str = "5ad7b1c2-0000-4000-8000-000000000001";
    const TWO: &str = "5ad7b1c2-0000-4000-8000-000000000002";
    const THREE: &str = "5ad7b1c2-0000-4000-8000-000000000003";
    let source = Source::start().await;
    let manifest = |two: u64| {
        let one = |time: u64| serde_json::json!({"timestamp": time.to_string(), "info": "x"});
        serde_json::json!({ONE: one(1), TWO: one(two), THREE: one(3), "../../etc/passwd": one(9)})
            .to_string()
    };
    let at = |uuid: &str| format!("/feed/{uuid}.json");
    source.put("/feed/manifest.json", Page::new(manifest(2)));
    source.put(&at(ONE), Page::new(event(ONE, &["192.0.2.1", "192.0.2.2"])));
    source.put(&at(TWO), Page::new(event(TWO, &["192.0.2.3"])));
    let mut rig = Rig::new(&table("osint", &source.url("/feed"), "via = 'misp'"));
    rig.start().await;
    let line = until_line(&rig, "osint", |line| line["state"] == "well").await;
    assert_eq!(line["entries"], 3, "{line}");
    // The third is withdrawn, the fourth no name of a file.
    assert_eq!(line["note"], "2 events left out");
    source.put(&at(TWO), Page::new(event(TWO, &["192.0.2.3", "192.0.2.4"])));
    source.put("/feed/manifest.json", Page::new(manifest(4)));
    until_line(&rig, "osint", |line| line["entries"] == 4).await;
    assert_eq!(source.asked(&at(ONE)).len(), 1, "it had not changed");
    assert!(source.asked("/feed/..").is_empty() && source.asked("/etc").is_empty());
    // A manifest that cannot be read leaves everything as it is.
    source.put("/feed/manifest.json", Page::new("[[["));
    let line = until_line(&rig, "osint", |line| line["state"] == "failing").await;
    assert_eq!(line["entries"], 4);
    // So does one of which nearly nothing is left.
    source.put("/feed/manifest.json", Page::new("{}"));
    let line = until_line(&rig, "osint", |line| line["state"] == "held").await;
    assert_eq!(line["entries"], 4);
}

/// A page of TAXII with one indicator for each of these addresses.
fn objects(addresses: &[&str], more: &str) -> String {
    let objects: Vec<String> = addresses
        .iter()
        .map(|address| {
            serde_json::json!({
                "type": "indicator", "spec_version": "2.1", "pattern_type": "stix",
                "id": format!("indicator--{address}"), "modified": "2026-01-01T00:00:00Z",
                "pattern": format!("[ipv4-addr:value = '{address}']"),
            })
            .to_string()
        })
        .collect();
    format!("{{{more}\"objects\":[{}]}}", objects.join(","))
}

#[tokio::test]
async fn taxii_is_read_page_by_page_and_never_in_a_circle() {
    let source = Source::start().await;
    let page = |body: String| {
        Page::new(body)
            .header("content-type", "application/taxii+json;version=2.1")
            .header("x-taxii-date-added-last", "2026-01-02T00:00:00.000Z")
    };
    let collections = r#"{"collections":[{"id":"c1","can_read":true},{"id":"c2","can_read":false},
        {"id":"../../x","can_read":true}]}"#;
    source.put("/root/collections/", page(collections.to_owned()));
    let at = "/root/collections/c1/objects/";
    source.put(
        at,
        page(objects(
            &["192.0.2.1", "192.0.2.2"],
            r#""more":true,"next":"a b","#,
        )),
    );
    let second = format!("{at}?next=a+b");
    source.put(&second, page(objects(&["192.0.2.3"], "")));
    let more = "via = 'taxii'\nkey_file = 'FOLDER/key'\nuser = 'u'";
    let mut rig = Rig::new(&table("stix", &source.url("/root/"), more));
    std::fs::write(rig.path("key"), "p").unwrap();
    rig.start().await;
    let line = until_line(&rig, "stix", |line| line["state"] == "well").await;
    assert_eq!(line["entries"], 3, "{line}");
    let first = &source.asked(at)[0];
    assert_eq!(
        first.headers["accept"],
        "application/taxii+json;version=2.1"
    );
    assert_eq!(first.headers["authorization"], "Basic dTpw");
    assert!(source.asked("/root/collections/c2").is_empty());
    // From then on only what is new is asked for, and joins what there is.
    let since = format!("{at}?added_after=2026-01-02T00%3A00%3A00.000Z");
    source.put(&since, page(objects(&["192.0.2.4"], "")));
    until_line(&rig, "stix", |line| line["entries"] == 4).await;
    // Pages that lead to one another, and one that leads nowhere.
    for (next, told) in [(r#""next":"x","#, "go round"), ("", "no word where")] {
        let body = objects(&["192.0.2.5"], &format!(r#""more":true,{next}"#));
        source.put(&since, page(body.clone()));
        source.put(&format!("{since}&next=x"), page(body));
        let line = until_line(&rig, "stix", |line| line["state"] == "failing").await;
        assert!(
            line["last_error"].as_str().unwrap().contains(told),
            "{line}"
        );
        assert_eq!(line["entries"], 4);
        source.put(&since, page(objects(&[], "")));
        until_line(&rig, "stix", |line| line["state"] == "well").await;
    }
    source.put(
        &since,
        Page::new("<html>").header("content-type", "text/html"),
    );
    let line = until_line(&rig, "stix", |line| line["state"] == "failing").await;
    assert!(
        line["last_error"].as_str().unwrap().contains("no TAXII"),
        "{line}"
    );
}

/// What is revoked is told as new; what is deleted is not told at all.
#[tokio::test]
async fn what_taxii_deletes_goes() {
    let source = Source::start().await;
    let page = |addresses: &[&str]| {
        Page::new(objects(addresses, ""))
            .header("content-type", "application/taxii+json;version=2.1")
            .header("x-taxii-date-added-last", "2026-01-02T00:00:00.000Z")
    };
    let at = "/root/collections/c1/objects/";
    source.put(at, page(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]));
    let since = format!("{at}?added_after=2026-01-02T00%3A00%3A00.000Z");
    source.put(&since, page(&[]));
    let more = "via = 'taxii'\nwhole_s = 3";
    let url = source.url("/root/collections/c1");
    let mut rig = Rig::new(&table("stix", &url, more));
    rig.start().await;
    until_line(&rig, "stix", |line| line["entries"] == 3).await;
    until("a question for what is new", || async {
        (!source.asked(&since).is_empty()).then_some(())
    })
    .await;
    source.put(at, page(&["192.0.2.1", "192.0.2.3"]));
    source.put(&since, page(&[]));
    until_line(&rig, "stix", |line| line["entries"] == 2).await;
}
