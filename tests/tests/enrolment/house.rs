//! A collector, hosts, and AWS, each in a folder and a process or a task of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use picket_tests::aws::identity::{Region, document, regions};
use picket_tests::aws::imds::Imds;
use picket_tests::aws::sts::{Holder, Sts};
use picket_tests::product::Binaries;
use picket_wire::enrol::{Challenge, Proof, Receipt, Request, server_of};
use picket_wire::{PublicKey, Signer};
use reqwest::{Certificate, Client};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

/// Everything.
pub(crate) struct House {
    folder: TempDir,
    binaries: Binaries,
    process: Option<Child>,
    pub(crate) sts: Sts,
    pub(crate) regions: [Region; 2],
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tick.tick().await;
    }
}

impl House {
    /// Lays out the folders and starts AWS; the collector does not run yet.
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let regions = regions().unwrap();
        let certificates = folder.path().join("regions");
        fs::create_dir(&certificates).unwrap();
        for region in &regions {
            let name = format!("{}.der", region.name);
            fs::write(certificates.join(name), region.certificate).unwrap();
        }
        // Where the system has no authorities of its own.
        fs::create_dir(folder.path().join("none")).unwrap();
        Self {
            folder,
            binaries: Binaries::find().unwrap(),
            process: None,
            sts: Sts::start().await.unwrap(),
            regions,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the collector's configuration: AWS as it stands here, then `more` of `[enrol]`, then tables.
    pub(crate) fn configure(&self, listen: &str, more: &str, tables: &str) {
        let config = format!(
            "listen = '{listen}'\nmetrics = '127.0.0.1:0'\nstate_dir = 'FOLDER/state'\n\
             socket = 'FOLDER/c.sock'\n[enrol]\naccounts = ['{ACCOUNT}']\n\
             certificates_dir = 'FOLDER/regions'\nsts_endpoint = '{}'\n\
             attempts_per_minute = 100000\nattempts_per_minute_all = 100000\n{more}\n{tables}",
            self.sts.url()
        );
        let folder = self.folder.path().display().to_string();
        fs::write(
            self.path("collector.toml"),
            config.replace("FOLDER", &folder),
        )
        .unwrap();
    }

    /// Starts the collector and waits until it listens.
    pub(crate) async fn start(&mut self) {
        let _ = fs::remove_file(self.path("state/listen"));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let system = self.path("state/ca.pem");
        let process = self
            .collector(&["serve"])
            .env("SSL_CERT_FILE", system)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let listen = self.path("state/listen");
        until("the collector", || listen.exists().then_some(())).await;
    }

    /// Kills the collector.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the collector, which must refuse its configuration; returns its complaint.
    pub(crate) fn refused_start(&self) -> String {
        let output = self.collector(&["serve"]).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Where the collector is.
    pub(crate) fn address(&self) -> String {
        let text = fs::read_to_string(self.path("state/listen")).unwrap();
        text.trim().to_owned()
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path("state/ca.pem")
    }

    fn collector(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binaries.collector);
        command
            .args(words)
            .arg("--config")
            .arg(self.path("collector.toml"));
        command
    }

    /// Runs the operator's tool; it must succeed.
    #[track_caller]
    pub(crate) fn operate(&self, words: &[&str]) -> String {
        let output = self.collector(words).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks for JSON lines.
    #[track_caller]
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--format", "jsonl"]).collect();
        let text = self.operate(&words);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Writes a join token to a file.
    pub(crate) fn token_file(&self, name: &str, more: &[&str]) -> PathBuf {
        let words: Vec<&str> = ["join-tokens", "add"].iter().chain(more).copied().collect();
        let path = self.path(name);
        fs::write(&path, self.operate(&words)).unwrap();
        path
    }

    /// A host of this name.
    pub(crate) fn host(&self, name: &str) -> Host {
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        let host = Host {
            program: self.binaries.agent.clone(),
            folder,
        };
        host.configure("");
        host
    }

    /// A metadata service of an instance with a role that STS knows.
    pub(crate) async fn instance(&self, instance: &str) -> Imds {
        let imds = Imds::start().await.unwrap();
        let text = document(ACCOUNT, REGION, instance, "2026-01-02T03:04:05Z");
        self.say_identity(&imds, &self.regions[0].sign(&text).unwrap());
        let id = format!("ASIA{:X}", instance.len() * 7919);
        let credentials = serde_json::json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id,
            "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG", "Token": "IQoJ//session==",
            "LastUpdated": "2026-11-22T10:00:00Z", "Expiration": "2036-11-22T16:00:00Z",
        });
        imds.say("dynamic/instance-identity/document", text);
        imds.say("meta-data/placement/region", REGION);
        imds.say("meta-data/iam/security-credentials/", "web");
        imds.say(
            "meta-data/iam/security-credentials/web",
            credentials.to_string(),
        );
        let holder = Holder {
            secret: "wJalrXUtnFEMI/K7MDENG".to_owned(),
            token: "IQoJ//session==".to_owned(),
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/web/{instance}"),
        };
        self.sts.know(&id, holder);
        imds
    }

    /// Has a metadata service show this identity, in lines as the real one does.
    pub(crate) fn say_identity(&self, imds: &Imds, identity: &[u8]) {
        let text = STANDARD.encode(identity);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        imds.say("dynamic/instance-identity/rsa2048", lines.join("\n"));
    }

    /// A client that trusts the collector's authority.
    pub(crate) fn client(&self) -> Client {
        let pem = fs::read(self.ca_file()).unwrap();
        Client::builder()
            .tls_certs_only([Certificate::from_pem(&pem).unwrap()])
            .no_proxy()
            .build()
            .unwrap()
    }

    pub(crate) async fn challenge(&self) -> Challenge {
        let url = format!("{}/v1/enrol/challenge", self.url());
        let response = self.client().post(url).send().await.unwrap();
        Challenge::read(&response.bytes().await.unwrap()).unwrap()
    }

    /// Asks the collector to believe a key under a challenge; its receipt, or its word.
    pub(crate) async fn ask(
        &self,
        signer: &Signer,
        challenge: &Challenge,
        proof: Proof,
    ) -> Result<Receipt, String> {
        let collector: PublicKey = challenge.key();
        let request = Request::new(
            challenge.nonce,
            server_of(&collector),
            signer.public_key(),
            proof,
        );
        let posted = self
            .client()
            .post(format!("{}/v1/enrol", self.url()))
            .header("content-type", "application/cose")
            .body(request.seal(signer));
        let response = posted.send().await.unwrap();
        let is_good = response.status() == 200;
        let bytes = response.bytes().await.unwrap();
        if is_good {
            return Ok(Receipt::open(&bytes, &collector).unwrap());
        }
        let told: Value = serde_json::from_slice(&bytes).unwrap();
        let word = told.get("error").or(told.get("status")).unwrap();
        Err(word.as_str().unwrap().to_owned())
    }
}

/// A host: its agent's folder.
pub(crate) struct Host {
    program: PathBuf,
    folder: PathBuf,
}

impl Host {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the agent's configuration: places, then `more`.
    pub(crate) fn configure(&self, more: &str) {
        let config = format!(
            "state_dir = 'FOLDER/state'\nsocket = 'FOLDER/agent.sock'\nmetrics = 'off'\n\
             window_s = 1\ninterfaces = ['lo']\ndefault_route = false\n{more}\n\
             [capture]\nrung = 'afpacket'\n"
        );
        let folder = self.folder.display().to_string();
        fs::write(self.path("agent.toml"), config.replace("FOLDER", &folder)).unwrap();
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        // What the environment says of proxies is nobody's business here.
        for name in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ] {
            command.env(name, "http://127.0.0.1:1");
        }
        command
    }

    /// Runs `enroll` with its configuration.
    pub(crate) async fn enroll(&self, words: &[&str]) -> Output {
        let mut command = self.command(&["enroll"]);
        command
            .args(words)
            .arg("--config")
            .arg(self.path("agent.toml"));
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Runs `enroll`, which must succeed; returns what it printed.
    pub(crate) async fn enrolled(&self, words: &[&str]) -> String {
        let output = self.enroll(words).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `enroll`, which must fail; returns what it complained of.
    pub(crate) async fn unenrolled(&self, words: &[&str]) -> String {
        let output = self.enroll(words).await;
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A host that was made of an image of this one.
    pub(crate) fn image(&self, house: &House, name: &str) -> Self {
        let host = house.host(name);
        let copied = Command::new("cp")
            .arg("-a")
            .args([self.path("state"), host.path("state")])
            .status();
        assert!(copied.unwrap().success());
        host
    }

    /// Starts the service with its configuration.
    pub(crate) fn run(&self) -> Running {
        let mut command = self.command(&["run"]);
        command.arg("--config").arg(self.path("agent.toml"));
        self.start(command)
    }

    /// Starts a command that is the service.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let log = self.path("log");
        let into = fs::OpenOptions::new().create(true).append(true).open(&log);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(into.unwrap())
            .spawn();
        Running {
            process: process.unwrap(),
            log,
        }
    }

    /// What the running service says of itself, if it answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut command = self.command(&["status", "--format", "jsonl", "--socket"]);
        let output = command.arg(self.path("agent.sock")).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// What the host keeps of its enrolment.
    pub(crate) fn enrolment(&self) -> Value {
        let text = fs::read_to_string(self.path("state/enrolment.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn agent(&self) -> String {
        self.enrolment()["agent"].as_str().unwrap().to_owned()
    }

    /// Replays a capture with the host's key and ships it to the collector; `Err` has the complaint.
    pub(crate) async fn ship(&self, house: &House, instance: &str) -> Result<(), String> {
        let capture = self.path("capture.pcap");
        fs::write(&capture, capture_of_a_packet()).unwrap();
        let mut command = self.command(&["replay"]);
        command
            .arg(&capture)
            .arg("--key")
            .arg(self.path("state/agent.key"))
            .args([
                "--instance",
                instance,
                "--account",
                ACCOUNT,
                "--region",
                REGION,
            ])
            .args(["--boot-id", &boot()])
            .args(["--to", &house.url()])
            .arg("--ca-file")
            .arg(house.ca_file())
            .arg("--out")
            .arg(self.path("out"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// A service that runs; killed when dropped.
pub(crate) struct Running {
    process: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    /// Whether it ended, and how.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// What it logged, and those before it.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// Another run each time.
fn boot() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static RUNS: AtomicU64 = AtomicU64::new(1);
    format!("{:032x}", RUNS.fetch_add(1, Ordering::Relaxed))
}

/// A capture of one UDP packet, seen now.
fn capture_of_a_packet() -> Vec<u8> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seconds = u32::try_from(now.as_secs()).unwrap();
    let mut packet = vec![0x02; 12];
    packet.extend([0x08, 0x00]);
    packet.extend([
        0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 5, 192, 0, 2, 9,
    ]);
    packet.extend([0x9c, 0x40, 0x13, 0x88, 0, 12, 0, 0, 1, 2, 3, 4]);
    let len = u32::try_from(packet.len()).unwrap();
    let mut out = Vec::new();
    for word in [
        0xa1b2_c3d4_u32,
        0x0004_0002,
        0,
        0,
        65_535,
        1,
        seconds,
        0,
        len,
        len,
    ] {
        out.extend(word.to_le_bytes());
    }
    out.extend(packet);
    out
}

/// Whether a file's mode lets its owner alone in.
pub(crate) fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0
}
