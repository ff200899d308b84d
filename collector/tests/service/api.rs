//! Operators over the network: real TLS, every route, every role, and those who may not.

use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

use crate::authority::Authority;
use crate::rig::{ACCOUNT, Agent, INSTANCE, Rig, until};

const OTHER_ACCOUNT: &str = "444455556666";
const OTHER_INSTANCE: &str = "i-0fedcba9876543210";

/// Makes a token.
fn token(rig: &Rig, name: &str, role: &str, more: &[&str]) -> String {
    let words = [&["operators", "add", name, "--role", role], more].concat();
    rig.print(&words).trim().to_owned()
}

/// Asks, with a token or without.
async fn ask(
    rig: &Rig,
    client: &Client,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> Response {
    let method: Method = method.parse().unwrap();
    let mut request = client.request(method, rig.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

async fn status(rig: &Rig, method: &str, path: &str, token: Option<&str>) -> StatusCode {
    ask(rig, &rig.client(), method, path, token).await.status()
}

async fn listed(rig: &Rig, path: &str, token: &str) -> Vec<Value> {
    let response = ask(rig, &rig.client(), "GET", path, Some(token)).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let text = response.text().await.unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs the tool without a configuration.
fn tool(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_picket-collector"))
        .args(words)
        .env("SSL_CERT_FILE", "/nonexistent/system.pem")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn every_route_takes_its_role_and_no_less() {
    let quick = "[api]\nrequests_per_minute_max = 10_000\nfailures_per_minute_max = 10_000\n";
    let mut rig = Rig::new(quick);
    rig.start().await;
    let roles = ["viewer", "analyst", "admin"];
    let tokens = roles.map(|role| token(&rig, role, role, &[]));
    let bound = roles.map(|role| {
        token(
            &rig,
            &format!("bound-{role}"),
            role,
            &["--account", ACCOUNT],
        )
    });
    let routes = listed(&rig, "/v1/routes", &tokens[0]).await;
    assert!(routes.len() >= 15, "{routes:?}");
    for route in &routes {
        let text = |key: &str| route[key].as_str().unwrap();
        let (method, needed) = (text("method"), text("role"));
        let needed = roles.iter().position(|role| *role == needed).unwrap();
        let path = text("path")
            .replace("{id}", &"0".repeat(32))
            .replace("{name}", "nobody");
        assert_eq!(
            status(&rig, method, &path, None).await,
            StatusCode::UNAUTHORIZED,
            "{route}"
        );
        for (rank, token) in tokens.iter().enumerate() {
            let status = status(&rig, method, &path, Some(token)).await;
            let is_refused = status == StatusCode::FORBIDDEN;
            assert_eq!(
                is_refused,
                rank < needed,
                "{} at {route}: {status}",
                roles[rank]
            );
            let others = [StatusCode::UNAUTHORIZED, StatusCode::METHOD_NOT_ALLOWED];
            assert!(!others.contains(&status), "{route}: {status}");
            assert!(!status.is_server_error(), "{route}: {status}");
        }
        for (rank, token) in bound.iter().enumerate() {
            let status = status(&rig, method, &path, Some(token)).await;
            let may = rank >= needed && route["bound_tokens"] == true;
            assert_eq!(
                status == StatusCode::FORBIDDEN,
                !may,
                "bound {} at {route}",
                roles[rank]
            );
        }
    }
}

#[tokio::test]
async fn another_accounts_affairs_are_not_there() {
    let (mut own, mut other) = (Agent::new(1), Agent::new(2));
    let table = other.table(OTHER_INSTANCE).replace(ACCOUNT, OTHER_ACCOUNT);
    let mut rig = Rig::new(&(own.table(INSTANCE) + &table));
    rig.start().await;
    rig.send(own.envelope(1)).await;
    let mut summary = other.summary(1);
    summary.host.account = OTHER_ACCOUNT.to_owned();
    summary.host.instance = OTHER_INSTANCE.to_owned();
    rig.send(other.seal(&summary)).await;
    let all = until("both findings", || async {
        let all = rig.lines(&["findings", "list", "--type", "Backdoor:*"]);
        (all.len() == 2).then_some(all)
    })
    .await;
    let id = |account: &str| {
        let found = all.iter().find(|finding| finding["accountId"] == account);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (mine, theirs) = (id(ACCOUNT), id(OTHER_ACCOUNT));
    let bound = token(&rig, "bound", "admin", &["--account", ACCOUNT]);
    let whole = token(&rig, "whole", "viewer", &[]);
    for (token, expected) in [(&bound, 1), (&whole, 2)] {
        assert_eq!(
            listed(&rig, "/v1/findings?type=Backdoor:*", token)
                .await
                .len(),
            expected
        );
        assert_eq!(listed(&rig, "/v1/agents", token).await.len(), expected);
    }
    let agents = listed(&rig, "/v1/agents", &bound).await;
    assert_eq!(agents[0]["account"], ACCOUNT);
    for (method, path, expected) in [
        ("GET", format!("/v1/findings/{mine}"), StatusCode::OK),
        (
            "GET",
            format!("/v1/findings/{theirs}"),
            StatusCode::NOT_FOUND,
        ),
        (
            "GET",
            format!("/v1/findings?around={theirs}"),
            StatusCode::NOT_FOUND,
        ),
        (
            "POST",
            format!("/v1/findings/{theirs}/archive"),
            StatusCode::NOT_FOUND,
        ),
        (
            "POST",
            format!("/v1/agents/{}/revoke", other.id()),
            StatusCode::NOT_FOUND,
        ),
        ("GET", "/v1/findings/0123".to_owned(), StatusCode::NOT_FOUND),
        (
            "POST",
            format!("/v1/findings/{mine}/archive"),
            StatusCode::NO_CONTENT,
        ),
        (
            "POST",
            format!("/v1/agents/{}/revoke", own.id()),
            StatusCode::NO_CONTENT,
        ),
    ] {
        assert_eq!(
            status(&rig, method, &path, Some(&bound)).await,
            expected,
            "{method} {path}"
        );
    }
    let shown = rig.lines(&["findings", "show", &theirs]);
    assert_eq!(shown[0]["service"]["archived"], false);
    // The other agent is still believed.
    assert_eq!(rig.send(other.seal(&summary)).await[0].1, "accepted");
}

#[tokio::test]
async fn what_is_changed_and_what_is_refused_is_written_down() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    rig.send(agent.envelope(1)).await;
    let finding = rig.finding("Backdoor:EC2/C&CActivity.B", 1).await;
    let path = format!("/v1/findings/{}/archive", finding["id"].as_str().unwrap());
    let viewer = token(&rig, "vera", "viewer", &[]);
    let analyst = token(&rig, "anna", "analyst", &["--account", ACCOUNT]);
    assert_eq!(
        status(&rig, "POST", &path, None).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        status(&rig, "POST", &path, Some(&viewer)).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        status(&rig, "POST", &path, Some(&analyst)).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        status(&rig, "GET", "/v1/findings", Some(&viewer)).await,
        StatusCode::OK
    );
    let forged = format!("{}0", &viewer[..viewer.len() - 1]);
    let forged = if forged == viewer {
        format!("{}1", &viewer[..viewer.len() - 1])
    } else {
        forged
    };
    assert_eq!(
        status(&rig, "GET", "/v1/findings", Some(&forged)).await,
        StatusCode::UNAUTHORIZED
    );

    let lines = rig.lines(&["audit"]);
    let row = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        // The id of a token differs from run to run.
        let who = text("who").split(' ').take(2).collect::<Vec<_>>().join(" ");
        (
            who,
            text("from"),
            text("what"),
            text("detail"),
            text("outcome"),
        )
    };
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(rig.path("log")).unwrap());
    let uid = format!("uid {uid}");
    let archive = format!("POST {path}");
    let expected = [
        (
            "nobody",
            "127.0.0.1",
            "GET /v1/findings",
            "",
            "refused: unknown token",
        ),
        ("token anna", "127.0.0.1", archive.as_str(), "", "done"),
        (
            "token vera",
            "127.0.0.1",
            archive.as_str(),
            "",
            "refused: role",
        ),
        (
            "nobody",
            "127.0.0.1",
            archive.as_str(),
            "",
            "refused: no token",
        ),
        (
            uid.as_str(),
            "socket",
            "POST /v1/operators",
            "anna, analyst, accounts 111122223333",
            "done",
        ),
        (
            uid.as_str(),
            "socket",
            "POST /v1/operators",
            "vera, viewer, all accounts",
            "done",
        ),
    ];
    let rows: Vec<_> = lines.iter().map(row).collect();
    let expected: Vec<_> = expected
        .map(|(a, b, c, d, e)| (a.into(), b.into(), c.into(), d.into(), e.into()))
        .into();
    assert_eq!(rows, expected);
    assert_eq!(rig.lines(&["audit", "--refused"]).len(), 3);
    assert_eq!(rig.lines(&["audit", "--who", "anna"]).len(), 1);
    assert!(rig.print(&["audit", "--last", "1h"]).contains("token vera"));
    // It outlives the process, and no token stands anywhere in what is kept.
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    for secret in [&viewer, &analyst] {
        let secret = secret.rsplit('_').next().unwrap();
        check_absent(&rig.path("state"), secret);
        assert!(!rig.log().contains(secret));
    }
    rig.start().await;
    assert_eq!(rig.lines(&["audit"]).len(), 6);
    assert_eq!(
        status(&rig, "GET", "/v1/findings", Some(&viewer)).await,
        StatusCode::OK
    );
}

/// Makes sure that no file of a folder has these bytes.
fn check_absent(folder: &Path, text: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_absent(&path, text);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let is_there = bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(!is_there, "{}", path.display());
    }
}

#[tokio::test]
async fn guessing_and_haste_are_slowed_and_hurt_nobody_else() {
    let mut rig = Rig::new("[api]\nrequests_per_minute_max = 5\nfailures_per_minute_max = 3\n");
    rig.start().await;
    let (quick, calm) = (
        token(&rig, "quick", "viewer", &[]),
        token(&rig, "calm", "viewer", &[]),
    );
    let client = rig.client();
    for attempt in 0..6 {
        let wrong = ask(&rig, &client, "GET", "/v1/findings", Some("pot_wrong")).await;
        let expected = if attempt < 3 { 401 } else { 429 };
        assert_eq!(wrong.status(), expected, "{attempt}");
        let headers = wrong.headers();
        assert_eq!(headers.contains_key("retry-after"), attempt >= 3);
        assert_eq!(headers.contains_key("www-authenticate"), attempt < 3);
    }
    for request in 0..8 {
        let status = status(&rig, "GET", "/v1/findings", Some(&quick)).await;
        assert_eq!(status, if request < 5 { 200 } else { 429 }, "{request}");
    }
    assert_eq!(
        status(&rig, "GET", "/v1/findings", Some(&calm)).await,
        StatusCode::OK
    );
    // Of each, what is over the bound is counted and not written down one by one.
    let refused = rig.lines(&["audit", "--refused"]);
    assert_eq!(refused.len(), 4, "{refused:?}");
    for (reason, count) in [
        ("unknown token", 3.0),
        ("too many failures", 3.0),
        ("too many requests", 3.0),
    ] {
        let metric =
            format!("picket_collector_operator_requests_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(rig.metric(&metric).await, count, "{reason}");
    }
}

#[tokio::test]
async fn the_tool_asks_a_collector_elsewhere() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    rig.send(agent.envelope(1)).await;
    rig.finding("Backdoor:EC2/C&CActivity.B", 1).await;
    let name = |file: &str| rig.path(file).display().to_string();
    let (url, ca, file) = (rig.url(""), name("state/ca.pem"), name("token"));
    std::fs::write(
        &file,
        token(&rig, "root", "admin", &["--expires", "1d"]) + "\n",
    )
    .unwrap();
    let far = ["--url", &url, "--ca-file", &ca, "--token-file", &file];
    let run = |words: &[&str]| tool(&[words, &far].concat());
    let output = run(&["findings", "list", "--format", "jsonl"]);
    assert!(output.status.success(), "{}", told(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 1);
    // The command that a page prints leads there too.
    let id = serde_json::from_str::<Value>(&lines).unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let output = run(&["findings", "show", &id]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(
        page.contains(&format!("--url {url} --token-file {file} --ca-file {ca}")),
        "{page}"
    );

    for more in ["/?a=b", "/#a"] {
        let odd = format!("{url}{more}");
        let words = ["--url", &odd, "--ca-file", &ca, "--token-file", &file];
        let output = tool(&[&["findings", "list"], &words[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains("--url"), "{}", told(&output));
    }

    // An admin elsewhere makes and ends tokens.
    let output = run(&[
        "operators",
        "add",
        "short",
        "--role",
        "viewer",
        "--expires",
        "1s",
    ]);
    let short = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(short.starts_with("pot_"), "{short}");
    let word = until("an end of it", || async {
        let response = ask(&rig, &rig.client(), "GET", "/v1/findings", Some(&short)).await;
        let is_over = response.status() == StatusCode::UNAUTHORIZED;
        is_over.then_some(response.text().await.unwrap())
    })
    .await;
    assert!(word.contains("expired token"), "{word}");
    let made = run(&["operators", "add", "eve", "--role", "viewer"]);
    let eve = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let again = run(&["operators", "add", "eve", "--role", "viewer"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        told(&again).contains("has a token already"),
        "{}",
        told(&again)
    );
    assert_eq!(
        status(&rig, "GET", "/v1/findings", Some(&eve)).await,
        StatusCode::OK
    );
    assert!(run(&["operators", "revoke", "eve"]).status.success());
    assert_eq!(
        status(&rig, "GET", "/v1/findings", Some(&eve)).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(run(&["operators", "revoke", "eve"]).status.code(), Some(1));
    let states: Vec<String> = rig
        .lines(&["operators", "list"])
        .iter()
        .map(|line| {
            format!(
                "{} {}",
                line["name"].as_str().unwrap(),
                line["state"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(states, ["eve revoked", "root in force", "short expired"]);

    // Without its authority, without TLS, without a token: no.
    let stranger = name("stranger.pem");
    std::fs::write(&stranger, Authority::new().pem).unwrap();
    for (words, named) in [
        (
            vec!["--url", &url, "--ca-file", &stranger, "--token-file", &file],
            "no collector answers on",
        ),
        (
            vec!["--url", "http://127.0.0.1:1", "--token-file", &file],
            "is not https",
        ),
        (
            vec![
                "--url",
                &url,
                "--ca-file",
                &ca,
                "--token-file",
                "/nonexistent/t",
            ],
            "/nonexistent/t",
        ),
    ] {
        let output = tool(&[&["findings", "list"], &words[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(
            told(&output).contains(named),
            "{words:?}: {}",
            told(&output)
        );
    }
    assert_eq!(
        tool(&["findings", "list", "--url", &url]).status.code(),
        Some(2)
    );
}
