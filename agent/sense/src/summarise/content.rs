//! What flows said, kept as long as they go on, and told with their conversations.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::limits::CONTENT_NAMES_MAX;
use picket_wire::{App, Content, Http, Logins, Smtp, Socks, Ssh, Stratum};

use super::conversations::Hello;
use crate::decode::login::Outcome;
use crate::decode::smtp::Verb;
use crate::decode::{Decoded, Protocol, Record, tcp_flag};
use crate::flow::{Direction, Flow, FlowKey, Side};
use crate::limits::{
    SAID_FLOWS_MAX, SSH_ASKED_BYTES_MIN, SSH_FAILED_BYTES_MAX, SSH_QUICK_BYTES_MIN, SSH_QUICK_NS,
    TLS_NAME_BYTES_MAX,
};

/// What was said on one flow. Counters are those since the last window.
#[derive(Debug)]
pub(crate) struct Said {
    /// When the first message passed.
    pub(crate) first_ns: u64,
    /// When the last did.
    last_ns: u64,
    /// `None` while only a server's word on a login is known.
    app: Option<App>,
    /// The first ClientHello.
    pub(crate) hello: Option<Hello>,
    /// Server names of others on the flow.
    tls_names: Vec<String>,
    tls_names_cut: u32,
    // In boxes, since most flows say but one of them.
    http: Option<Box<Http>>,
    /// Software by the side that named it.
    banners: [Option<String>; 2],
    ssh: Login,
    stratum: Option<Box<Stratum>>,
    socks: Option<Box<Socks>>,
    smtp: Option<Box<Smtp>>,
    logins: Option<Box<Logins>>,
}

/// How far a login by SSH has come, as far as sizes tell.
#[derive(Debug, Default)]
struct Login {
    /// Bytes by side, since the flow began.
    bytes: [u64; 2],
    told: bool,
}

impl Said {
    const fn new(ts_ns: u64, app: Option<App>) -> Self {
        Self {
            first_ns: ts_ns,
            last_ns: ts_ns,
            app,
            hello: None,
            tls_names: Vec::new(),
            tls_names_cut: 0,
            http: None,
            banners: [None, None],
            ssh: Login {
                bytes: [0; 2],
                told: false,
            },
            stratum: None,
            socks: None,
            smtp: None,
            logins: None,
        }
    }

    /// Takes a message that is no ClientHello.
    fn take(&mut self, sender: Side, message: &Decoded) {
        match message {
            Decoded::Http(request) => {
                let http = self.http.get_or_insert_with(|| {
                    Box::new(Http {
                        method: request.method.clone(),
                        host: request.host.clone(),
                        path: request.path_alone().to_owned(),
                        user_agent: request.user_agent.clone(),
                        ..Http::default()
                    })
                });
                http.requests = http.requests.saturating_add(1);
                if let Some(host) = request.host.as_ref().filter(|_| request.host != http.host) {
                    insert_name(&mut http.hosts, host);
                }
            }
            Decoded::Ssh(banner) => {
                if let Some(place) = self.banners.get_mut(sender.index()) {
                    place.get_or_insert_with(|| banner.software.clone());
                }
            }
            Decoded::Stratum(call) => {
                let miner = self.stratum.get_or_insert_with(|| {
                    Box::new(Stratum {
                        dialect: call.dialect.name().to_owned(),
                        method: call.method.clone(),
                        ..Stratum::default()
                    })
                });
                if miner.login.is_none() {
                    miner.login.clone_from(&call.login);
                }
                if miner.agent.is_none() {
                    miner.agent.clone_from(&call.agent);
                }
            }
            Decoded::Socks(request) => {
                let socks = self.socks.get_or_insert_with(|| {
                    Box::new(Socks {
                        version: request.version,
                        requests: 0,
                        target: request.target.clone(),
                        target_port: request.target_port,
                    })
                });
                socks.requests = socks.requests.saturating_add(1);
            }
            Decoded::Smtp(command) => {
                let mail = self.smtp.get_or_insert_default();
                let argument = command.argument.as_ref();
                match command.command {
                    Verb::Greeting => mail.greeting = mail.greeting.take().or(argument.cloned()),
                    Verb::Mail => {
                        mail.messages = mail.messages.saturating_add(1);
                        let domain = mail.sender_domain.take();
                        mail.sender_domain = domain.or(argument.cloned());
                    }
                    Verb::StartTls => mail.starttls = true,
                    Verb::Auth => {}
                }
            }
            Decoded::Login(login) => {
                let logins = self.logins.get_or_insert_default();
                login.service.name().clone_into(&mut logins.service);
                match login.outcome {
                    Outcome::Asked => {}
                    Outcome::Failed => logins.failed = logins.failed.saturating_add(1),
                    Outcome::Succeeded => logins.succeeded = logins.succeeded.saturating_add(1),
                }
            }
            Decoded::Dns(_) | Decoded::ClientHello(_) | Decoded::Imds(_) => {}
        }
    }

    fn take_hello(&mut self, hello: Hello) {
        let Some(first) = &self.hello else {
            self.hello = Some(hello);
            return;
        };
        if let Some(name) = hello.name.filter(|name| Some(name) != first.name.as_ref())
            && !insert_name(&mut self.tls_names, &name)
        {
            self.tls_names_cut = self.tls_names_cut.saturating_add(1);
        }
    }

    /// Hands out what a conversation tells of its flow in the window, and starts counting anew.
    pub(crate) fn tell(&mut self, flow: &Flow) -> Content {
        let ssh = self.ssh(flow);
        let mut tls_names = self.tls_names.clone();
        if let Some(name) = self.hello.as_ref().and_then(|hello| hello.name.as_ref())
            && !insert_name(&mut tls_names, name)
        {
            self.tls_names_cut = self.tls_names_cut.saturating_add(1);
        }
        let content = Content {
            app: self.app,
            tls_names,
            tls_names_cut: std::mem::take(&mut self.tls_names_cut),
            http: self.http.clone(),
            ssh,
            stratum: self.stratum.clone(),
            socks: self.socks.clone(),
            smtp: self.smtp.clone(),
            logins: self.logins.clone(),
        };
        if let Some(http) = &mut self.http {
            http.requests = 0;
        }
        if let Some(socks) = &mut self.socks {
            socks.requests = 0;
        }
        if let Some(mail) = &mut self.smtp {
            mail.messages = 0;
        }
        if let Some(logins) = &mut self.logins {
            (logins.failed, logins.succeeded) = (0, 0);
        }
        content
    }

    /// A server that has let somebody in says more than one that has not.
    fn ssh(&mut self, flow: &Flow) -> Option<Box<Ssh>> {
        if self.banners == [None, None] {
            return None;
        }
        // Where nothing tells who opened it, the ends stand in address order, as they do in the
        // conversation.
        let client = match flow.direction {
            Direction::Opened | Direction::Guessed => flow.opener,
            Direction::Unknown => Side::Low,
        };
        let server = client.other();
        let login = &mut self.ssh;
        let mut ended = false;
        for side in [client, server] {
            let sent = flow.sent(side);
            login.bytes[side.index()] += sent.bytes;
            let flags = sent.tcp_flags | flow.flags_before(side);
            ended |= flags & (tcp_flag::FIN | tcp_flag::RST) != 0;
        }
        let bytes = login.bytes[server.index()];
        let inside = bytes > SSH_FAILED_BYTES_MAX;
        let is_quick = flow.last_ns.saturating_sub(self.first_ns) < SSH_QUICK_NS;
        let tried = bytes >= SSH_ASKED_BYTES_MIN && !(is_quick && bytes >= SSH_QUICK_BYTES_MIN);
        let tells = !login.told && (inside || ended);
        login.told |= tells;
        Some(Box::new(Ssh {
            client: self.banners[client.index()].clone(),
            server: self.banners[server.index()].clone(),
            failed: u32::from(tells && !inside && tried),
            succeeded: u32::from(tells && inside),
        }))
    }
}

/// Keeps a name in a sorted list; says whether it is there afterwards.
fn insert_name(names: &mut Vec<String>, name: &str) -> bool {
    match names.binary_search_by(|known| known.as_str().cmp(name)) {
        Ok(_) => true,
        Err(_) if names.len() >= CONTENT_NAMES_MAX => false,
        Err(at) => {
            names.insert(at, name.to_owned());
            true
        }
    }
}

/// What is known of two flows of one conversation; `first` began earlier.
pub(crate) fn join(first: Content, second: Content) -> Content {
    let mut cut = first.tls_names_cut.saturating_add(second.tls_names_cut);
    let mut tls_names = first.tls_names;
    for name in &second.tls_names {
        cut = cut.saturating_add(u32::from(!insert_name(&mut tls_names, name)));
    }
    Content {
        app: first.app.or(second.app),
        tls_names,
        tls_names_cut: cut,
        http: both(first.http, second.http, |first, second| {
            first.requests = first.requests.saturating_add(second.requests);
            let named = second
                .host
                .iter()
                .filter(|host| first.host.as_ref() != Some(host));
            for host in named.chain(&second.hosts) {
                insert_name(&mut first.hosts, host);
            }
        }),
        ssh: both(first.ssh, second.ssh, |first, second| {
            first.failed = first.failed.saturating_add(second.failed);
            first.succeeded = first.succeeded.saturating_add(second.succeeded);
            first.client = first.client.take().or(second.client);
            first.server = first.server.take().or(second.server);
        }),
        stratum: both(first.stratum, second.stratum, |first, second| {
            first.login = first.login.take().or(second.login);
            first.agent = first.agent.take().or(second.agent);
        }),
        socks: both(first.socks, second.socks, |first, second| {
            first.requests = first.requests.saturating_add(second.requests);
        }),
        smtp: both(first.smtp, second.smtp, |first, second| {
            first.messages = first.messages.saturating_add(second.messages);
            first.starttls |= second.starttls;
            first.greeting = first.greeting.take().or(second.greeting);
            first.sender_domain = first.sender_domain.take().or(second.sender_domain);
        }),
        logins: both(first.logins, second.logins, |first, second| {
            first.failed = first.failed.saturating_add(second.failed);
            first.succeeded = first.succeeded.saturating_add(second.succeeded);
        }),
    }
}

fn both<T>(first: Option<T>, second: Option<T>, add: impl FnOnce(&mut T, T)) -> Option<T> {
    match (first, second) {
        (Some(mut first), Some(second)) => {
            add(&mut first, second);
            Some(first)
        }
        (first, second) => first.or(second),
    }
}

/// What flows said, bounded.
#[derive(Debug, Default)]
pub(crate) struct Sayings {
    // In boxes, so that the room a table keeps free is small.
    flows: HashMap<FlowKey, Box<Said>, RandomState>,
}

impl Sayings {
    /// Takes a message. Returns whether there was room.
    pub(crate) fn take(&mut self, record: &Record, app: Option<App>) -> bool {
        let protocol = match app {
            Some(App::Quic) => Protocol::UDP,
            _ => Protocol::TCP,
        };
        let (flow, sender) = FlowKey::new(record.src, record.dst, protocol, record.tunnel);
        if self.flows.len() >= SAID_FLOWS_MAX && !self.flows.contains_key(&flow) {
            return false;
        }
        let ts_ns = record.ts_ns;
        let said = self
            .flows
            .entry(flow)
            .or_insert_with(|| Box::new(Said::new(ts_ns, app)));
        said.last_ns = said.last_ns.max(ts_ns);
        said.app = said.app.or(app);
        if let Decoded::ClientHello(hello) = &record.message {
            said.take_hello(Hello {
                ts_ns,
                name: hello.sni.as_deref().map(tls_name),
                ja4: hello.ja4.clone(),
            });
        } else {
            said.take(sender, &record.message);
        }
        true
    }

    pub(crate) fn of(&mut self, flow: &FlowKey) -> Option<&mut Said> {
        self.flows.get_mut(flow).map(Box::as_mut)
    }

    /// Flows of which something is held.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether so many are held that room should be made for others.
    pub(crate) fn crowded(&self) -> bool {
        self.flows.len() > SAID_FLOWS_MAX / 2
    }

    /// Forgets what a flow said.
    pub(crate) fn forget(&mut self, flow: &FlowKey) {
        self.flows.remove(flow);
    }

    /// Forgets flows that said nothing since `keep_from_ns` and are not `alive`.
    pub(crate) fn retain(&mut self, keep_from_ns: u64, alive: impl Fn(&FlowKey) -> bool) {
        self.flows
            .retain(|key, said| said.last_ns >= keep_from_ns || alive(key));
    }
}

/// A server name as it is compared and kept. A client that resolves the full name with its final
/// dot may send it along (RFC 6066 section 3 forbids it); it is the same server, and the lists know
/// it without.
pub(crate) fn tls_name(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut name = name.to_ascii_lowercase();
    name.truncate(name.floor_char_boundary(TLS_NAME_BYTES_MAX));
    name
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use picket_wire::{Conversation, ImdsClass, Summary};

    use super::*;
    use crate::testkit::*;

    /// Segments of flows from a client's ports to a server's; `true` marks the server's.
    struct Talk {
        server: Ipv4Addr,
        port: u16,
        packets: Vec<Vec<u8>>,
        next: HashMap<(u16, bool), u32, RandomState>,
    }

    impl Talk {
        fn to(server: Ipv4Addr, port: u16) -> Self {
            Self {
                server,
                port,
                packets: Vec::new(),
                next: HashMap::default(),
            }
        }

        fn say(mut self, client_port: u16, by_server: bool, flags: u8, data: &[u8]) -> Self {
            let next = self.next.entry((client_port, by_server)).or_insert(1);
            let (src, dst, ports) = if by_server {
                (self.server, CLIENT, (self.port, client_port))
            } else {
                (CLIENT, self.server, (client_port, self.port))
            };
            let segment = tcp(ports.0, ports.1, flags, *next, data);
            *next += data.len() as u32;
            self.packets.push(ipv4(src, dst, 6, &segment));
            self
        }

        fn client(self, data: &[u8]) -> Self {
            self.say(40_000, false, 0x18, data)
        }

        fn summary(&self) -> Summary {
            summary_of(&self.packets)
        }

        fn conversation(&self) -> Conversation {
            let mut conversations = self.summary().conversations;
            assert_eq!(conversations.len(), 1);
            conversations.remove(0)
        }

        fn content(&self) -> Content {
            *self.conversation().content.unwrap()
        }
    }

    #[test]
    fn further_server_names_are_kept_beside_the_first() {
        let hello = |name: &str| tls_record(&client_hello(name));
        let talk = Talk::to(SERVER, 443)
            .say(40_001, false, 0x18, &hello("b.example"))
            .say(40_002, false, 0x18, &hello("a.example"))
            .say(40_003, false, 0x18, &hello("b.example"))
            .say(40_001, false, 0x18, &hello("C.example."));
        let one = talk.conversation();
        assert_eq!(one.tls_name.as_deref(), Some("b.example"));
        let content = one.content.unwrap();
        assert_eq!(content.app, Some(App::Tls));
        assert_eq!(content.tls_names, ["a.example", "c.example"]);
        let many = (0..12).fold(Talk::to(SERVER, 443), |talk, at| {
            talk.say(
                41_000 + at,
                false,
                0x18,
                &hello(&format!("n{at:02}.example")),
            )
        });
        let content = many.content();
        assert_eq!(content.tls_names.len() + content.tls_names_cut as usize, 11);
        assert!(content.tls_names_cut >= 3);
    }

    #[test]
    fn requests_and_their_hosts() {
        let get = |host: &str| format!("GET /p?s3cret HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let talk = Talk::to(SERVER, 8_080)
            .client(get("a.example").as_bytes())
            .client(get("b.example").as_bytes())
            .say(40_001, false, 0x18, get("a.example").as_bytes());
        let content = talk.content();
        assert_eq!(content.app, Some(App::Http));
        let http = content.http.unwrap();
        assert_eq!(
            (http.requests, http.host.as_deref()),
            (3, Some("a.example"))
        );
        assert_eq!(
            (http.path.as_str(), http.hosts),
            ("/p", vec!["b.example".to_owned()])
        );
    }

    #[track_caller]
    fn check_login(from_server: &[usize], end: bool, expected: (u32, u32)) {
        let mut talk = Talk::to(SERVER, 2_222)
            .say(40_000, false, 0x02, b"")
            .client(b"SSH-2.0-Go\r\n")
            .say(40_000, true, 0x18, b"SSH-2.0-OpenSSH_9.6\r\n");
        // A SYN counts one.
        talk.next.insert((40_000, false), 2 + 12);
        for bytes in from_server {
            talk = talk.say(40_000, true, 0x18, &vec![7; *bytes]);
        }
        if end {
            talk = talk.say(40_000, false, 0x11, b"");
        }
        let ssh = talk.content().ssh.unwrap();
        assert_eq!((ssh.failed, ssh.succeeded), expected);
        assert_eq!(ssh.server.as_deref(), Some("OpenSSH_9.6"));
    }

    #[test]
    fn sizes_tell_how_a_login_went() {
        check_login(&[1_000, 1_100, 60, 80, 80], true, (1, 0));
        check_login(&[1_000, 1_100, 60, 80, 80], false, (0, 0));
        check_login(&[1_000, 1_100, 60, 1_400, 1_400], false, (0, 1));
        check_login(&[1_000, 1_100, 60, 1_400, 1_400], true, (0, 1));
        // Who looks whether the port answers; a command that said nothing.
        check_login(&[1_000], true, (0, 0));
        check_login(&[1_000, 1_100, 60, 1_200], true, (0, 0));
    }

    #[test]
    fn a_miner_behind_a_proxy() {
        let content = Talk::to(SERVER, 1_080)
            .client(b"\x05\x01\0")
            .client(b"\x05\x01\0\x03\x0cpool.example\x0d\x05")
            .client(b"{\"method\":\"mining.subscribe\",\"params\":[\"m/1\"]}\n")
            .client(b"{\"method\":\"mining.authorize\",\"params\":[\"w.rig\",\"x\"]}\n")
            .content();
        assert_eq!(content.app, Some(App::Socks));
        let socks = content.socks.unwrap();
        assert_eq!(
            (socks.target.as_str(), socks.target_port),
            ("pool.example", 3_333)
        );
        let miner = content.stratum.unwrap();
        assert_eq!(
            (miner.dialect.as_str(), miner.method.as_str()),
            ("stratum", "mining.subscribe")
        );
        assert_eq!(
            (miner.login.as_deref(), miner.agent.as_deref()),
            (Some("w.rig"), Some("m/1"))
        );
    }

    #[test]
    fn a_mail_client() {
        let content = Talk::to(SERVER, 25)
            .client(b"EHLO a.example\r\n")
            .client(b"MAIL FROM:<x@b.example>\r\n")
            .content();
        let mail = content.smtp.unwrap();
        assert_eq!(mail.greeting.as_deref(), Some("a.example"));
        assert_eq!(
            (mail.sender_domain.as_deref(), mail.messages),
            (Some("b.example"), 1)
        );
    }

    #[test]
    fn what_a_server_says_of_logins() {
        let content = Talk::to(SERVER, 2_121)
            .say(40_000, true, 0x18, b"220 ready\r\n")
            .say(
                40_000,
                true,
                0x18,
                b"331 password\r\n530 Login incorrect.\r\n",
            )
            .say(40_001, true, 0x18, b"220 ready\r\n230 welcome\r\n")
            .content();
        let logins = content.logins.unwrap();
        assert_eq!((content.app, logins.service.as_str()), (None, "ftp"));
        assert_eq!((logins.failed, logins.succeeded), (1, 1));
    }

    #[test]
    fn requests_to_the_metadata_service_with_their_status() {
        let service = Ipv4Addr::new(169, 254, 169, 254);
        let path = "/latest/meta-data/iam/security-credentials/web";
        let get = format!("GET {path} HTTP/1.1\r\n\r\n");
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let talk = Talk::to(service, 80)
            .client(get.as_bytes())
            .say(40_000, true, 0x18, ok)
            .client(get.as_bytes())
            .say(40_000, true, 0x18, ok)
            .client(get.as_bytes());
        let summary = talk.summary();
        let told: Vec<_> = summary
            .imds
            .iter()
            .map(|one| (one.count, one.status, one.version, one.role.as_deref()))
            .collect();
        assert_eq!(
            told,
            [(2, Some(200), 1, Some("web")), (1, None, 1, Some("web"))]
        );
        assert_eq!(summary.imds[0].class, Some(ImdsClass::Credentials));
        assert_eq!(summary.imds[0].path, path);
        let content = summary.conversations[0].content.as_ref().unwrap();
        assert_eq!(content.app, Some(App::Imds));
    }
}
