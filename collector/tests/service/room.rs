//! Lists that are too much: nobody's list keeps another's from being published, and it is told.

use serde_json::Value;

use crate::feeds::{line, table, ten, until_line};
use crate::rig::{Rig, until};
use crate::source::{Page, Source};

const LEFT_OUT: &str = "DefenseEvasion:EC2/IndicatorListLeftOut";

/// Room for thirty entries of lists.
const THIRTY: &str = "[indicators]\nentries_max = 30\n";

fn addresses(net: &str, count: u8) -> String {
    (0..count).map(|n| format!("{net}.{n}\n")).collect()
}

/// The published lists, with their entries.
fn lists(rig: &Rig) -> Vec<(String, u64)> {
    let lines = rig.lines(&["intel", "status"]);
    let lists = lines.iter().filter(|line| line["kind"] == "list");
    let pair = |line: &Value| {
        let name = line["name"].as_str().unwrap().to_owned();
        (name, line["entries"].as_u64().unwrap())
    };
    let mut all: Vec<_> = lists.map(pair).collect();
    all.sort();
    all
}

fn has(rig: &Rig, name: &str, entries: u64) -> bool {
    lists(rig).contains(&(name.to_owned(), entries))
}

fn open(rig: &Rig) -> Vec<Value> {
    rig.lines(&["findings", "list", "--open", "--type", LEFT_OUT])
}

async fn until_open(rig: &Rig, count: usize) -> Vec<Value> {
    let found = || async { Some(open(rig)).filter(|all| all.len() == count) };
    until("findings of lists left out", found).await
}

#[tokio::test]
async fn a_huge_feed_is_held_back_and_everything_else_goes_on() {
    let source = Source::start().await;
    source.put("/good", Page::new(ten()));
    source.put("/huge", Page::new(addresses("198.51.100", 28)));
    let feeds = table("good", &source.url("/good"), "") + &table("huge", &source.url("/huge"), "");
    let mut rig = Rig::new(&format!("{THIRTY}{feeds}"));
    rig.start().await;
    // One of the two is first; the other is judged against what is left.
    until("one held back", || async {
        let states = ["good", "huge"].map(|feed| line(&rig, feed)["state"].clone());
        states.contains(&"held".into()).then_some(())
    })
    .await;
    source.put("/good", Page::new("192.0.2.1\n"));
    source.put("/huge", Page::new(addresses("198.51.100", 200)));
    let held = until_line(&rig, "huge", |line| line["state"] == "held").await;
    let why = held["held"]["why"].as_str().unwrap();
    assert!(why.contains("no room"), "{why}");
    // Accepting it would change nothing but lose what is in use.
    let output = rig.run(&["intel", "feeds", "accept", "huge"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("room"), "{told}");
    let entered = rig.lines(&["intel", "add", "evil.example", "--category", "c2"]);
    assert!(entered[0]["bundle"].is_u64());
    assert!(has(&rig, "operator-c2", 1), "{:?}", lists(&rig));
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    rig.start().await;
    assert!(has(&rig, "operator-c2", 1), "{:?}", lists(&rig));
}

#[tokio::test]
async fn what_does_not_fit_any_more_is_left_out_and_told() {
    let source = Source::start().await;
    source.put("/list", Page::new(ten()));
    source.put("/other", Page::new("203.0.113.1\n"));
    let feeds = table("big", &source.url("/list"), "") + &table("small", &source.url("/other"), "");
    let mut rig = Rig::new(&format!("{THIRTY}{feeds}"));
    rig.start().await;
    until("both in use", || async {
        (has(&rig, "big", 10) && has(&rig, "small", 1)).then_some(())
    })
    .await;
    // Lists of the operator's own come first.
    let own = rig.path("intel/mining-ips.txt");
    std::fs::write(&own, addresses("198.51.100", 25)).unwrap();
    until("the operator's list", || async {
        has(&rig, "mining-ips", 25).then_some(())
    })
    .await;
    assert!(has(&rig, "small", 1) && !has(&rig, "big", 10));
    let told = line(&rig, "big");
    assert_eq!(told["state"], "left_out", "{told}");
    let status = rig.lines(&["intel", "status"]);
    let out: Vec<_> = status
        .iter()
        .filter(|one| one["kind"] == "left_out")
        .collect();
    assert_eq!(out.len(), 1, "{out:?}");
    assert_eq!(
        (&out[0]["name"], &out[0]["source"]),
        (&"big".into(), &"feeds".into())
    );
    assert!(
        rig.print(&["intel", "status"])
            .contains("not looked for: list big")
    );
    let gauge = "picket_collector_indicator_lists_left_out{source=\"feeds\"}";
    assert_eq!(rig.metric(gauge).await, 1.0);
    assert!(rig.log().contains("list of indicators left out whole"));
    let finding = until_open(&rig, 1).await.swap_remove(0);
    let why = finding["picket"]["why"].as_str().unwrap();
    assert!(
        why.contains("list big") && why.contains("10 entries"),
        "{why}"
    );
    // A restart is no end, no second occurrence, and no failure.
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    rig.start().await;
    assert_eq!(line(&rig, "big")["state"], "left_out");
    assert_eq!(open(&rig)[0]["service"]["count"], 1);
    // One that is too much for all the room is left out as well, at a start too.
    std::fs::write(&own, addresses("198.51.100", 31)).unwrap();
    until("the feed again", || async {
        has(&rig, "big", 10).then_some(())
    })
    .await;
    assert!(!lists(&rig).iter().any(|(name, _)| name == "mining-ips"));
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    rig.start().await;
    until("the finding is about the other", || async {
        let open = open(&rig);
        let is_it = open.len() == 1 && open[0].to_string().contains("mining-ips");
        is_it.then_some(())
    })
    .await;
    std::fs::remove_file(&own).unwrap();
    until_open(&rig, 0).await;
}

/// What was fetched and is not configured any more is gone before the folder is read.
#[tokio::test]
async fn a_feed_that_is_not_configured_any_more_is_not_read_at_the_start() {
    let source = Source::start().await;
    source.put("/list", Page::new(ten()));
    let mut rig = Rig::new(&table("big", &source.url("/list"), ""));
    rig.start().await;
    until("the feed", || async { has(&rig, "big", 10).then_some(()) }).await;
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    rig.configure("");
    rig.start().await;
    assert!(!has(&rig, "big", 10), "{:?}", lists(&rig));
}

#[tokio::test]
async fn a_feed_of_half_the_world_is_held_back() {
    let source = Source::start().await;
    let wide: String = (11..120).map(|n| format!("{n}.0.0.0/8\n")).collect();
    source.put("/list", Page::new(wide));
    let mut rig = Rig::new(&table("wide", &source.url("/list"), ""));
    rig.start().await;
    let held = until_line(&rig, "wide", |line| line["state"] == "held").await;
    let why = held["held"]["why"].as_str().unwrap();
    assert!(why.contains("of all IPv4 addresses"), "{why}");
}

/// What of a feed is not looked for is counted where operators look.
#[tokio::test]
async fn entries_left_out_are_counted() {
    let source = Source::start().await;
    let page = "192.0.2.1\n169.254.169.254\n8.8.8.8\nhttp://shared.example/page\nnonsense here\n";
    source.put("/list", Page::new(page));
    let mut rig = Rig::new(&table("mixed", &source.url("/list"), "format = 'plain'"));
    rig.start().await;
    let counted = until_line(&rig, "mixed", |line| {
        !line["entries_left_out"].is_null() && line["entries_left_out"]["excluded"] == 2
    })
    .await;
    let left_out = &counted["entries_left_out"];
    assert_eq!(
        (&left_out["not_a_host"], &left_out["refused"]),
        (&1.into(), &1.into())
    );
    let status = rig.lines(&["intel", "status"]);
    let list = status.iter().find(|line| line["name"] == "mixed").unwrap();
    assert_eq!(&list["left_out"], left_out);
    let text = rig.print(&["intel", "feeds"]);
    assert!(
        text.contains("2 excluded, 1 not_a_host, 1 refused"),
        "{text}"
    );
    let gauge = "picket_collector_indicators_left_out{source=\"feeds\",reason=\"excluded\"}";
    assert_eq!(rig.metric(gauge).await, 2.0);
    assert!(
        rig.log()
            .contains("1 taken, 1 refused, 1 not_a_host, 2 excluded")
    );
}
