//! A collector for tests: real TLS, real HTTP, real envelopes, and told how to answer.
#![expect(dead_code, reason = "each test uses its part")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use picket_wire::{Header, PublicKey, Sealed, Summary, item_bytes};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How an envelope, or the request that brought it, is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Taken.
    Accept,
    /// Refused, for this reason.
    Refuse(&'static str),
    /// The whole request: come back after so many seconds.
    Busy(u64),
    /// The whole request: this status.
    Status(u16),
    /// No word on this envelope.
    Silence,
}

/// An authority that signs collectors' certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("test authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a server at `address` needs that speaks this version of TLS.
    pub(crate) fn server(
        &self,
        version: &'static SupportedProtocolVersion,
        address: &str,
    ) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![address.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap()
    }
}

/// An envelope that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) at: Instant,
    pub(crate) header: Header,
    pub(crate) summary: Summary,
}

#[derive(Default)]
struct Inbox {
    accepted: Vec<Arrived>,
    requests: Vec<Instant>,
}

type Plan = Box<dyn FnMut(&Header) -> Reply + Send>;

struct Desk {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    plan: Mutex<Plan>,
    key: Option<PublicKey>,
    is_unwell: AtomicBool,
    /// Answers to who asks for indicators, the next one last.
    bundles: Mutex<Vec<Vec<u8>>>,
    /// The same to who asks for orders.
    orders: Mutex<Vec<Vec<u8>>>,
    /// The versions of orders that were asked with.
    had: Mutex<Vec<u64>>,
    /// Why nobody is given orders, as the word for it.
    turns_away: Mutex<Option<&'static str>>,
    /// Whether it knows neither of them.
    is_older: AtomicBool,
}

/// A collector that runs until it is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
    stop: tokio::sync::watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Collector {
    /// Listens at `address` and believes envelopes signed by `key`, or by anyone.
    pub(crate) fn start(authority: &Authority, address: &str, key: Option<PublicKey>) -> Self {
        Self::start_with(authority, address, key, &rustls::version::TLS13)
    }

    pub(crate) fn start_with(
        authority: &Authority,
        address: &str,
        key: Option<PublicKey>,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let ip = address.rsplit_once(':').unwrap().0;
        let tls = TlsAcceptor::from(Arc::new(authority.server(version, ip)));
        let listener = std::net::TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let desk = Arc::new(Desk {
            inbox: Mutex::default(),
            changed: Condvar::new(),
            plan: Mutex::new(Box::new(|_| Reply::Accept)),
            key,
            is_unwell: AtomicBool::new(false),
            bundles: Mutex::default(),
            orders: Mutex::default(),
            had: Mutex::default(),
            turns_away: Mutex::default(),
            is_older: AtomicBool::new(false),
        });
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let served = Arc::clone(&desk);
        let thread = thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        _ = stopped.changed() => return,
                        connection = listener.accept() => {
                            let Ok((stream, _)) = connection else { return };
                            let (tls, desk) = (tls.clone(), Arc::clone(&served));
                            tokio::spawn(async move {
                                if let Ok(stream) = tls.accept(stream).await {
                                    let _ = serve(stream, &desk).await;
                                }
                            });
                        }
                    }
                }
            });
        });
        Self {
            address,
            desk,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Whether its health is bad from now on.
    pub(crate) fn set_unwell(&self, is_unwell: bool) {
        self.desk.is_unwell.store(is_unwell, Ordering::Relaxed);
    }

    /// Gives these to who asks for indicators, each once, and then says that there is nothing new.
    pub(crate) fn give(&self, bundles: &[Vec<u8>]) {
        *self.desk.bundles.lock().unwrap() = bundles.iter().rev().cloned().collect();
    }

    /// Gives these to who asks for orders, each once, and then says that there is nothing new.
    pub(crate) fn order(&self, bundles: &[Vec<u8>]) {
        *self.desk.orders.lock().unwrap() = bundles.iter().rev().cloned().collect();
    }

    /// The versions of orders that were asked with so far.
    pub(crate) fn had(&self) -> Vec<u64> {
        self.desk.had.lock().unwrap().clone()
    }

    /// Refuses orders to who asks, from now on, with this word, or gives them.
    pub(crate) fn turn_away(&self, word: Option<&'static str>) {
        *self.desk.turns_away.lock().unwrap() = word;
    }

    /// Whether it is, from now on, of a version that offers neither indicators nor orders.
    pub(crate) fn set_older(&self, is_older: bool) {
        self.desk.is_older.store(is_older, Ordering::Relaxed);
    }

    /// Answers like this from now on.
    pub(crate) fn answer(&self, plan: impl FnMut(&Header) -> Reply + Send + 'static) {
        *self.desk.plan.lock().unwrap() = Box::new(plan);
    }

    pub(crate) fn accepted(&self) -> Vec<Arrived> {
        self.desk.inbox.lock().unwrap().accepted.clone()
    }

    /// When requests came.
    pub(crate) fn requests(&self) -> Vec<Instant> {
        self.desk.inbox.lock().unwrap().requests.clone()
    }

    /// Waits until what was accepted is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, done: impl Fn(&[Arrived]) -> bool) -> Vec<Arrived> {
        self.wait(what, |inbox| done(&inbox.accepted))
            .accepted
            .clone()
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Instant> {
        self.wait("requests", |inbox| inbox.requests.len() >= count)
            .requests
            .clone()
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl Fn(&Inbox) -> bool) -> std::sync::MutexGuard<'_, Inbox> {
        let inbox = self.desk.inbox.lock().unwrap();
        let limit = Duration::from_secs(30);
        let waited = self
            .desk
            .changed
            .wait_timeout_while(inbox, limit, |inbox| !done(inbox));
        let (inbox, outcome) = waited.unwrap();
        assert!(
            !outcome.timed_out(),
            "{what} did not come; {} accepted",
            inbox.accepted.len()
        );
        inbox
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One HTTP/1.1 request after the other.
async fn serve(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    desk: &Desk,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())
            .unwrap_or(0);
        while buffer.len() < head_end + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = &buffer[head_end..head_end + length];
        let posted = head.starts_with("post /v1/envelopes http/1.1\r\n")
            && head.contains("content-type: application/cbor-seq\r\n");
        let (status, headers, answer) = if posted {
            let (status, headers, answer) = judge(body, desk);
            (status, headers, answer.into_bytes())
        } else if head.starts_with("get /v1/health ") {
            let is_unwell = desk.is_unwell.load(Ordering::Relaxed);
            (
                if is_unwell { 503 } else { 200 },
                "date: Tue, 14 Nov 2023 22:13:20 GMT\r\n".to_owned(),
                b"{}".to_vec(),
            )
        } else if desk.is_older.load(Ordering::Relaxed) {
            (404, String::new(), Vec::new())
        } else if head.starts_with("get /v1/indicators?") {
            next(&desk.bundles)
        } else if let Some(asked) = head.strip_prefix("get /v1/orders?have=") {
            let have: String = asked.chars().take_while(char::is_ascii_digit).collect();
            desk.had.lock().unwrap().push(have.parse().unwrap());
            match *desk.turns_away.lock().unwrap() {
                Some(word) => {
                    let said = serde_json::json!({ "error": word });
                    (401, String::new(), said.to_string().into_bytes())
                }
                None => next(&desk.orders),
            }
        } else {
            (404, String::new(), Vec::new())
        };
        let response = format!(
            "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(response.as_bytes()).await?;
        stream.write_all(&answer).await?;
        buffer.drain(..head_end + length);
        desk.changed.notify_all();
    }
}

/// The next of what is to be given, or that there is nothing new.
fn next(given: &Mutex<Vec<Vec<u8>>>) -> (u16, String, Vec<u8>) {
    let bundle = given.lock().unwrap().pop();
    let status = if bundle.is_some() { 200 } else { 204 };
    (status, String::new(), bundle.unwrap_or_default())
}

fn judge(mut body: &[u8], desk: &Desk) -> (u16, String, String) {
    let mut inbox = desk.inbox.lock().unwrap();
    inbox.requests.push(Instant::now());
    let mut results = Vec::new();
    while let Some(length) = item_bytes(body).unwrap() {
        let (item, rest) = body.split_at(length);
        body = rest;
        let sealed = Sealed::parse(item).unwrap();
        let header = *sealed.claims();
        let verdict = match (desk.plan.lock().unwrap())(&header) {
            Reply::Accept => {
                let known = inbox.accepted.iter().any(|one| {
                    (one.header.boot, one.header.sequence) == (header.boot, header.sequence)
                });
                if known {
                    serde_json::json!({"sequence": header.sequence, "status": "duplicate"})
                } else {
                    let key = desk
                        .key
                        .unwrap_or_else(|| picket_wire::Signer::development().public_key());
                    let summary = sealed.verify(&key).unwrap().open().unwrap();
                    inbox.accepted.push(Arrived {
                        at: Instant::now(),
                        header,
                        summary,
                    });
                    serde_json::json!({"sequence": header.sequence, "status": "accepted"})
                }
            }
            Reply::Refuse(reason) => {
                serde_json::json!({"sequence": header.sequence, "status": "refused", "reason": reason})
            }
            Reply::Busy(seconds) => {
                return (429, format!("retry-after: {seconds}\r\n"), "{}".to_owned());
            }
            Reply::Status(status) => return (status, String::new(), "{}".to_owned()),
            Reply::Silence => continue,
        };
        results.push(verdict);
    }
    (
        200,
        String::new(),
        serde_json::json!({"results": results}).to_string(),
    )
}
