//! One collector in a folder, one agent that may speak to it, and the means to look.

use std::future::Future;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use picket_wire::envelope::Chain;
use picket_wire::{
    AgentId, BootId, Conversation, Counter, Digest, Hit, HitKind, Host, Net, Opened, Side, Signer,
    Summary, Window,
};
use reqwest::{Certificate, Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up; a machine under load is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The address on the list, which every hit is about.
pub(crate) const LISTED: &str = "198.51.100.7";

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let (what, caller) = (what.to_owned(), std::panic::Location::caller());
    async move {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "{caller}: waited in vain for {what}"
            );
            tick.tick().await;
        }
    }
}

pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// An agent: its key and its chain.
pub(crate) struct Agent {
    pub(crate) signer: Signer,
    pub(crate) chain: Chain,
    ports: u16,
}

impl Agent {
    pub(crate) fn new(seed: u8) -> Self {
        let signer = Signer::from_seed(&[seed; 32]);
        let id = AgentId::of_key(&signer.public_key().0);
        Self {
            signer,
            chain: Chain::new(id, BootId([seed; 16])),
            ports: 20_000,
        }
    }

    pub(crate) fn id(&self) -> AgentId {
        self.chain.agent
    }

    /// Its table in the collector's configuration.
    pub(crate) fn table(&self, instance: &str) -> String {
        let (id, key) = (self.id(), Digest(self.signer.public_key().0));
        format!(
            "[[agents]]\nid = '{id}'\npublic_key = '{key}'\naccount = '{ACCOUNT}'\n\
             region = '{REGION}'\ninstance = '{instance}'\n"
        )
    }

    /// A summary with as many hits, each of its own flow and instant.
    pub(crate) fn summary(&mut self, hits: u16) -> Summary {
        let now_ns = now_ns();
        let hits = (0..hits).map(|at| {
            self.ports += 1;
            Hit {
                time_ns: now_ns + u64::from(at),
                kind: HitKind::Address,
                indicator: LISTED.to_owned(),
                category: "c2".to_owned(),
                list: "c2-ips".to_owned(),
                version: 1,
                src: "10.0.0.5".parse().unwrap(),
                src_port: self.ports,
                dst: LISTED.parse().unwrap(),
                dst_port: 443,
                protocol: 6,
                local: Side::Client,
                source_listed: false,
                name: None,
                process: None,
                tunnel: None,
                tunnel_id: None,
            }
        });
        Summary {
            version: 1,
            immediate: true,
            host: Host {
                instance: INSTANCE.to_owned(),
                account: ACCOUNT.to_owned(),
                region: REGION.to_owned(),
                agent_version: "0.1.0".to_owned(),
                capture: "tcx".to_owned(),
                local: vec![Net {
                    address: "10.0.0.5".parse().unwrap(),
                    prefix: 32,
                }],
                ..Host::default()
            },
            hits: hits.collect(),
            window: Window {
                start_ns: now_ns,
                end_ns: now_ns + 1,
            },
            conversations: Vec::new(),
            questions: Vec::new(),
            counters: Vec::new(),
            cut: picket_wire::Cut::default(),
            ..Summary::default()
        }
    }

    /// An envelope with a probe of each of these ports of one host, unanswered.
    pub(crate) fn probes(&mut self, ports: RangeInclusive<u16>) -> Vec<u8> {
        let mut summary = self.summary(0);
        let now_ns = summary.window.start_ns;
        summary.immediate = false;
        summary.conversations = ports
            .map(|server_port| Conversation {
                client: "10.0.0.5".parse().unwrap(),
                server: "203.0.113.77".parse().unwrap(),
                server_port,
                client_port: 40_000,
                protocol: 6,
                opened: Opened::Seen,
                local: Side::Client,
                flows: 1,
                attempts: 1,
                accepted: 0,
                refused: 0,
                packets_out: 1,
                packets_in: 0,
                bytes_out: 60,
                bytes_in: 0,
                flags_out: 2,
                flags_in: 0,
                first_ns: now_ns,
                last_ns: now_ns,
                tls_name: None,
                ja4: None,
                dns_name: None,
                process: None,
                content: None,
                tunnel: None,
                tunnel_id: None,
                processes: None,
                starts_ms: vec![],
            })
            .collect();
        // A sensor whose packets do not add up would be a finding of its own.
        let packets = summary.conversations.len() as u64;
        summary.counters = [
            ("kernel", "seen"),
            ("kernel", "flow"),
            ("flow", "seen"),
            ("flow", "flow"),
        ]
        .map(|(stage, reason)| Counter {
            stage: stage.to_owned(),
            reason: reason.to_owned(),
            count: packets,
            bytes: 60 * packets,
        })
        .to_vec();
        self.seal(&summary)
    }

    /// Seals a summary as the next of its chain.
    pub(crate) fn seal(&mut self, summary: &Summary) -> Vec<u8> {
        self.chain.seal(summary, now_ns() / 1_000_000, &self.signer)
    }

    /// An envelope with as many hits.
    pub(crate) fn envelope(&mut self, hits: u16) -> Vec<u8> {
        let summary = self.summary(hits);
        self.seal(&summary)
    }
}

/// A collector's folder, and its process while it runs.
pub(crate) struct Rig {
    folder: TempDir,
    process: Option<Child>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Rig {
    /// Makes the folder with a list in it and a configuration that ends with `more`.
    pub(crate) fn new(more: &str) -> Self {
        // Fails where another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("intel")).unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        std::fs::write(
            folder.path().join("intel/c2-ips.txt"),
            format!("{LISTED}\n"),
        )
        .unwrap();
        let rig = Self {
            folder,
            process: None,
        };
        rig.configure(more);
        rig
    }

    /// Writes the configuration: what every test needs, then `more`, in which `FOLDER` stands for
    /// the folder.
    pub(crate) fn configure(&self, more: &str) {
        let config = format!(
            "listen = '127.0.0.1:0'\nmetrics = '127.0.0.1:0'\nstate_dir = 'FOLDER/state'\n\
             socket = 'FOLDER/picket.sock'\nintel_dir = 'FOLDER/intel'\nseed = false\n{more}"
        );
        let config = config.replace("FOLDER", &self.folder.path().display().to_string());
        std::fs::write(self.path("collector.toml"), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with its configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket-collector"));
        command
            .args(words)
            .arg("--config")
            .arg(self.path("collector.toml"))
            // What a test takes for the system's authorities; none unless it writes the file.
            .env("SSL_CERT_FILE", self.path("system.pem"))
            .env("SSL_CERT_DIR", self.path("none"))
            // No credentials but those that a test gives.
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_REGION")
            .env_remove("AWS_ENDPOINT_URL")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.path("none"))
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path("credentials"));
        command
    }

    /// Gives the collector credentials that an AWS on this machine takes.
    pub(crate) fn credentials(&self) {
        let text = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n";
        std::fs::write(self.path("credentials"), text).unwrap();
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command that should end by itself, and kills it if it does not.
    #[track_caller]
    pub(crate) fn run_to_end(&self, words: &[&str]) -> Output {
        let mut process = self
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while process.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                process.kill().unwrap();
                panic!("{words:?} did not end: {:?}", process.wait_with_output());
            }
            std::thread::yield_now();
        }
        process.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn print(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that prints JSON lines.
    #[track_caller]
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--format", "jsonl"]).collect();
        self.print(&words)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Starts the collector and waits until it listens.
    pub(crate) async fn start(&mut self) {
        // Left behind by one that was killed.
        let _ = std::fs::remove_file(self.path("state/listen"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let process = self
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let listen = self.path("state/listen");
        let deadline = Instant::now() + PATIENCE;
        while !listen.exists() {
            assert!(Instant::now() < deadline, "{}", self.log());
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                let log = std::fs::read_to_string(self.path("log")).unwrap();
                panic!("the collector ended ({status}):\n{log}");
            }
            tokio::task::yield_now().await;
        }
    }

    /// The running collector's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Kills the collector as the kernel would for want of memory.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks the collector to end, and waits for it; returns its exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        let status = Command::new("kill")
            .arg("-TERM")
            .arg(process.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
        tokio::task::spawn_blocking(move || process.wait().unwrap().code())
            .await
            .unwrap()
    }

    /// The collector's log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    fn address(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.path("state").join(file)).unwrap();
        text.trim().to_owned()
    }

    /// Where agents are listened for.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address("listen"))
    }

    /// A client that trusts the collector's authority and nothing else.
    pub(crate) fn client(&self) -> Client {
        let pem = std::fs::read(self.path("state/ca.pem")).unwrap();
        Client::builder()
            .tls_certs_only([Certificate::from_pem(&pem).unwrap()])
            .no_proxy()
            .build()
            .unwrap()
    }

    /// Posts envelopes.
    pub(crate) async fn post(&self, client: &Client, body: Vec<u8>) -> reqwest::Result<Response> {
        client
            .post(self.url("/v1/envelopes"))
            .header("content-type", "application/cbor-seq")
            .body(body)
            .send()
            .await
    }

    /// Posts envelopes that the collector must judge; returns what it said of each: sequence,
    /// status and reason.
    pub(crate) async fn send(&self, body: Vec<u8>) -> Vec<(Option<u64>, String, String)> {
        let response = self.post(&self.client(), body).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let text = response.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let results = answer["results"].as_array().unwrap();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        results
            .iter()
            .map(|result| {
                (
                    result["sequence"].as_u64(),
                    word(&result["status"]),
                    word(&result["reason"]),
                )
            })
            .collect()
    }

    /// Scrapes the metrics.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address("metrics"));
        let response = Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(url)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.unwrap()
    }

    /// One metric, by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.metrics().await;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How many rows a table of the store has; a condition may follow its name.
    pub(crate) fn rows(&self, table: &str) -> i64 {
        let path = self.path("state/picket.db");
        let database =
            rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
                .unwrap();
        let query = format!("SELECT count(*) FROM {table}");
        database.query_row(&query, [], |row| row.get(0)).unwrap()
    }

    /// The one finding of a type, once its count has come to `count`.
    pub(crate) async fn finding(&self, kind: &str, count: u64) -> Value {
        until(&format!("{count} of {kind}"), || async move {
            let found = self.lines(&["findings", "list", "--type", kind]);
            assert!(found.len() < 2, "{found:?}");
            let finding = found.into_iter().next()?;
            let have = finding["service"]["count"].as_u64().unwrap();
            assert!(have <= count, "{have} of {kind}, {count} expected");
            (have == count).then_some(finding)
        })
        .await
    }
}

/// Reads the JSON lines of a file, none if it is not there.
pub(crate) fn file_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
