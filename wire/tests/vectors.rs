//! Vectors for whoever implements the format from `docs/envelope.md`: a summary with every field,
//! and an envelope around it that must verify and open. The envelope's payload is compressed, and
//! a compressor may change its mind, so ours need not seal to the same bytes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use picket_wire::*;

fn process() -> Process {
    Process {
        pid: 4_242,
        start_ns: 1_699_999_000_000_000_000,
        name: "curl".into(),
        exe: Some("/usr/bin/curl".into()),
        uid: Some(1_000),
        container: Some("0123456789abcdef".repeat(4)),
        parent: Some(Box::new(Parent {
            pid: 4_000,
            name: "bash".into(),
            exe: Some("/usr/bin/bash".into()),
        })),
        runtime: Some("docker".into()),
        unit: Some("web.service".into()),
        via: Some(Box::new(Via {
            pid: 600,
            start_ns: 1_699_990_000_000_000_000,
            name: "dnsmasq".into(),
            exe: Some("/usr/sbin/dnsmasq".into()),
        })),
    }
}

fn health() -> Health {
    Health {
        interfaces: vec![Watched {
            index: 2,
            name: "ens5".into(),
            attached: "tcx".into(),
        }],
        canary: Some(Canary {
            sent: 2,
            counted: 2,
            hit: 1,
            copied: 2,
            last_ns: 1_699_999_999_990_000_000,
            refused: Some("operation not permitted".into()),
            named: Some(1),
        }),
        detached: vec![Detached {
            time_ns: 1_700_000_010_000_000_000,
            interface: "ens5".into(),
            direction: "in".into(),
            again: true,
        }],
    }
}

/// Every field filled in.
fn full() -> Summary {
    let client = Ipv4Addr::new(10, 0, 0, 5).into();
    let resolver = Ipv4Addr::new(10, 0, 0, 2).into();
    Summary {
        version: 1,
        immediate: false,
        host: Host {
            instance: "i-0123456789abcdef0".into(),
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            hostname: Some("web-1".into()),
            agent_version: "0.1.0".into(),
            capture: "tcx".into(),
            local: vec![Net {
                address: client,
                prefix: 32,
            }],
            indicators: 7,
        },
        window: Window {
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_010_000_000_000,
        },
        conversations: vec![Conversation {
            client,
            server: "2001:db8::7".parse().unwrap(),
            server_port: 443,
            client_port: 40_000,
            protocol: 6,
            opened: Opened::Seen,
            local: Side::Client,
            flows: 3,
            attempts: 2,
            accepted: 2,
            refused: 1,
            packets_out: 30,
            packets_in: 25,
            bytes_out: 4_000,
            bytes_in: 70_000,
            flags_out: 0x1b,
            flags_in: 0x1f,
            first_ns: 1_700_000_000_100_000_000,
            last_ns: 1_700_000_009_000_000_000,
            tls_name: Some("www.example.com".into()),
            ja4: Some("t13d1516h2_8daaf6152771_02713d6af862".into()),
            dns_name: Some("www.example.com".into()),
            process: Some(process().into()),
            content: Some(Box::new(content())),
            tunnel: Some(TunnelKind::Vxlan),
            tunnel_id: Some(5_569_041),
            processes: Some(2),
            starts_ms: vec![0, 2_200, 70_000],
        }],
        questions: vec![Question {
            client,
            resolver,
            transport: Transport::Udp,
            name: "www.example.com".into(),
            qtype: 28,
            asked: 2,
            answered: 1,
            nxdomain: 0,
            rcode: Some(0),
            answers: vec![Answer {
                rtype: 28,
                data: "2001:db8::7".into(),
            }],
            first_ns: 1_700_000_000_050_000_000,
            last_ns: 1_700_000_000_060_000_000,
            bytes: 120,
            process: Some(process().into()),
            unanswered: 1,
            failed: 0,
            truncated: 0,
            edns_bytes: Some(1_232),
            latency: Some(Latency {
                count: 1,
                min_ns: 10_000_000,
                max_ns: 10_000_000,
                sum_ns: 10_000_000,
            }),
            tunnel: None,
            tunnel_id: None,
            also: vec![process()],
            asked_by_others: 4,
        }],
        hits: vec![Hit {
            time_ns: 1_700_000_000_050_000_000,
            kind: HitKind::Question,
            indicator: "example.com".into(),
            category: "c2".into(),
            list: "c2-domains".into(),
            version: 7,
            src: client,
            src_port: 5_353,
            dst: resolver,
            dst_port: 53,
            protocol: 17,
            local: Side::Client,
            source_listed: false,
            name: Some("www.example.com".into()),
            process: Some(process()),
            tunnel: Some(TunnelKind::Gre),
            tunnel_id: None,
        }],
        counters: vec![Counter {
            stage: "kernel".into(),
            reason: "seen".into(),
            count: 55,
            bytes: 74_000,
        }],
        cut: Cut {
            conversations: 1,
            packets: 2,
            bytes: 3,
            questions: 4,
            hits: 5,
        },
        gap: Some(Gap {
            from_ns: 1_699_999_990_000_000_000,
            to_ns: 1_700_000_000_000_000_000,
            why: "killed".into(),
        }),
        imds: vec![ImdsRequest {
            time_ns: 1_700_000_001_000_000_000,
            client,
            client_port: 40_001,
            server: IpAddr::from([169, 254, 169, 254]),
            process: Some(process()),
            count: 2,
            method: "GET".into(),
            class: Some(ImdsClass::Credentials),
            path: "/latest/meta-data/iam/security-credentials/web".into(),
            role: Some("web".into()),
            version: 1,
            status: Some(200),
            host: Some("rebound.example.com".into()),
            forwarded: true,
            user_agent: Some("curl/8.5.0".into()),
        }],
        blocks: vec![BlockEvent {
            time_ns: 1_700_000_000_050_000_000,
            act: BlockAct::Dropped,
            order: 9,
            net: Some(Net {
                address: client,
                prefix: 32,
            }),
            port: Some(443),
            expires_ns: Some(1_700_000_600_000_000_000),
            why: Some("by hand".into()),
            flow: Some(BlockedFlow {
                src: client,
                src_port: 40_000,
                dst: resolver,
                dst_port: 443,
                protocol: 6,
            }),
            dry_run: None,
        }],
        health: Some(health()),
        filtered: Some(Filtered {
            conversations: 2,
            packets: 30,
            bytes: 4_000,
            questions: 5,
            inner_packets: 6,
        }),
        privacy: Some("paths hashed".into()),
        listing: None,
    }
}

/// Every part at once, which no conversation has.
fn content() -> Content {
    Content {
        app: Some(App::Socks),
        tls_names: vec!["api.example.com".into()],
        tls_names_cut: 1,
        http: Some(Box::new(Http {
            requests: 2,
            method: "GET".into(),
            host: Some("www.example.com".into()),
            path: "/index.html".into(),
            user_agent: Some("curl/8.5.0".into()),
            hosts: vec!["img.example.com".into()],
        })),
        ssh: Some(Box::new(Ssh {
            client: Some("OpenSSH_9.6".into()),
            server: Some("OpenSSH_8.9p1".into()),
            failed: 1,
            succeeded: 2,
        })),
        stratum: Some(Box::new(Stratum {
            dialect: "xmrig".into(),
            method: "login".into(),
            login: Some("wallet.worker".into()),
            agent: Some("XMRig/6.26.0".into()),
        })),
        socks: Some(Box::new(Socks {
            version: 5,
            requests: 1,
            target: "pool.example.com".into(),
            target_port: 3_333,
        })),
        smtp: Some(Box::new(Smtp {
            greeting: Some("mail.example.com".into()),
            sender_domain: Some("example.com".into()),
            messages: 1,
            starttls: true,
        })),
        logins: None,
    }
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(file)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes();
    let pairs = digits
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn bless(file: &str, bytes: &[u8]) {
    if std::env::var_os("PICKET_BLESS").is_some() {
        fs::write(path(file), hex(bytes) + "\n").unwrap();
    }
}

fn agent() -> AgentId {
    AgentId::of_key(&Signer::development().public_key().0)
}

#[test]
fn a_full_summary_is_written_in_one_way() {
    bless("vector-summary.hex", &full().to_bytes());
    let vector = fs::read_to_string(path("vector-summary.hex")).unwrap();
    assert_eq!(hex(&full().to_bytes()), vector.trim());
    assert_eq!(Summary::from_bytes(&unhex(&vector)).unwrap(), full());
}

#[test]
fn the_envelope_of_the_vector_opens() {
    let mut chain = Chain::new(agent(), BootId([2; 16]));
    let sealed = chain.seal(&full(), 1_700_000_010_500, &Signer::development());
    bless("vector-envelope.hex", &sealed);
    let vector = unhex(&fs::read_to_string(path("vector-envelope.hex")).unwrap());
    let verified = Sealed::parse(&vector)
        .unwrap()
        .verify(&Signer::development().public_key())
        .unwrap();
    let header = verified.header();
    assert_eq!(
        (header.agent, header.boot, header.sequence),
        (agent(), BootId([2; 16]), 0)
    );
    assert_eq!(
        (header.previous, header.signed_at_ms),
        (Digest::default(), 1_700_000_010_500)
    );
    assert_eq!(verified.open().unwrap(), full());
}

/// What the page quotes is what the code says.
#[test]
fn the_page_quotes_the_vectors() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/envelope.md");
    let page = fs::read_to_string(page).unwrap();
    let key = hex(&Signer::development().public_key().0);
    let replayed = AgentId::of_replay("000000000000", "local", "web-1").to_string();
    for quoted in [
        key,
        agent().to_string(),
        replayed,
        "vector-summary.hex".into(),
    ] {
        assert!(
            page.contains(&quoted),
            "docs/envelope.md does not quote {quoted}"
        );
    }
}
