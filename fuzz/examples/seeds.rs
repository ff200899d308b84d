//! Writes a corpus for each target to start from: what sound speakers of each protocol send, made
//! here. `cargo +nightly run --manifest-path fuzz/Cargo.toml --example seeds`; files that are there stay.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use picket_fuzz::packet::{CLIENT, SERVER, ipv4, ipv6, tcp, udp};
use picket_wire::enrol::{Proof, Request, server_of};
use picket_wire::{Net, Order, Orders, Signer};

/// A rule with a modifier of each kind.
const RULE: &str = r#"title: A key was made
id: 0e95725d-0000-4000-8000-000000000001
logsource: {product: aws, service: cloudtrail}
detection:
  selection:
    eventName: [CreateUser, 'Create*Key']
    userAgent|contains|all: ['aws', "cli"]
    sourceIPAddress|cidr: 10.0.0.0/8
    requestParameters.a.b|re|i: '^c.*$'
    requestParameters.n|gte: 5
  filter_main_x:
    - errorCode|exists: true
    - userIdentity.userName|fieldref: requestParameters.userName
    - userAgent|wide|base64offset|contains: sh
  condition: selection and not 1 of filter_main_*
level: high
"#;

/// A flow log with a header, and lines as they come without one.
const FLOW_LOG: &str = "\
account-id interface-id instance-id pkt-srcaddr srcaddr dstaddr srcport dstport protocol packets bytes start end action tcp-flags flow-direction log-status
111122223333 eni-0a i-0a 198.51.100.7 10.0.0.5 192.0.2.1 49152 443 6 10 840 1700000000 1700000060 ACCEPT 3 egress OK
111122223333 eni-0a - - 2001:db8::7 2001:db8::5 53 40000 17 1 90 1700000001 1700000060 REJECT - ingress OK
111122223333 eni-0a - - - - - - - - - 1700000001 1700000060 - - - SKIPDATA
";

/// A finding of GuardDuty's as an event.
const GUARDDUTY: &str = r#"{"detail-type":"GuardDuty Finding","detail":{"accountId":"111122223333","id":"f","type":"Recon:EC2/Portscan","severity":5,"service":{"eventLastSeen":"2023-11-14T22:13:20Z"},"resource":{"instanceDetails":{"instanceId":"i-0abc"}}}}"#;

/// A line of each log of a database, and one that CloudWatch Logs wrapped.
const DATABASE_LOG: &str = r#"2023-11-14 22:13:20 UTC:203.0.113.9(54321):eve@shop:[7]:FATAL:  password authentication failed for user "eve"
2023-11-14 22:13:20 UTC:203.0.113.9(54321):[unknown]@[unknown]:[8]:LOG:  connection received: host=203.0.113.9 port=54321
2023-11-14 22:13:21 UTC:203.0.113.9(54321):app@shop:[8]:LOG:  connection authorized: user=app database=shop SSL enabled (protocol=TLSv1.3)
2023-11-14 22:13:20.250 UTC,"eve","shop",7,"203.0.113.9:5",6.1,1,"a",2023-11-14 22:13:20 UTC,3/5,0,FATAL,28P01,"role ""eve"" does not exist"
20231114 22:13:20,h,eve,203.0.113.9,42,0,FAILED_CONNECT,,,1045
1700000000500000,h,app,203.0.113.9,42,0,CONNECT,shop,,0
2023-11-14T22:13:20.000000Z 43 [Note] Access denied for user 'eve'@'203.0.113.9' (using password: YES)
{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/rds/instance/shop/postgresql","logStream":"shop.0","logEvents":[{"message":"a"}]}
"#;

/// A line of a resolver query log.
const QUERY_LOG: &str = r#"{"account_id":"111122223333","region":"eu-west-1","vpc_id":"vpc-0a","query_timestamp":"2023-11-14T22:13:20Z","query_name":"c2.example.","query_type":"TXT","rcode":"NXDOMAIN","answers":[{"Rdata":"203.0.113.9","Type":"A","Class":"IN"}],"srcaddr":"10.0.0.5","transport":"UDP","srcids":{"instance":"i-0a"}}"#;

/// A rule and a correlation of it.
const CORRELATION: &str = "title: t
name: t
logsource: {product: aws, service: cloudtrail}
detection: {a: {eventName: CreateUser}, condition: a}
---
title: many
correlation:
  type: value_count
  rules: [t]
  group-by: [sourceIPAddress]
  timespan: 5m
  condition: {field: userIdentity.arn, gte: 3}
";

/// A target and an input for it.
type Seed = (&'static str, Vec<u8>);

/// Puts the four bytes in front that decide how a stream is cut.
fn cut(bytes: &[u8]) -> Vec<u8> {
    [&[1, 2, 3, 4], bytes].concat()
}

fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let [high, low] = kind.to_be_bytes();
    let head = [0xc0, 12, high, low, 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
    [&head[..], data].concat()
}

/// A query and answers to it with each kind of record that is read.
fn dns_messages() -> Vec<Vec<u8>> {
    let question = [&name("www.Example.com")[..], &[0, 1, 0, 1]].concat();
    let message = |flags: [u8; 2], answers: &[Vec<u8>], additional: &[u8]| {
        let head = [0, 9, flags[0], flags[1], 0, 1, 0, answers.len() as u8, 0, 0];
        let count = [0, u8::from(!additional.is_empty())];
        [&head[..], &count, &question, &answers.concat(), additional].concat()
    };
    let soa = [&name("ns.a")[..], &name("root.a"), &[0, 0, 0, 1].repeat(5)].concat();
    let svcb = [&[0, 1, 0][..], &[0, 1, 0, 3, 2, b'h', b'2']].concat();
    let digest = [&[0, 1, 8, 2][..], &[7; 32]].concat();
    let signature = [&[0, 1, 8, 2][..], &[0; 12], &[0, 7], &name("com"), &[9; 64]].concat();
    let records = [
        record(1, &[192, 0, 2, 1]),
        record(2, b"\x02ns\xc0\x10"),
        record(5, b"\x03WWW\xc0\x10"),
        record(6, &soa),
        record(12, b"\xc0\x0c"),
        record(15, b"\0\x0a\x02mx\xc0\x10"),
        record(16, b"\x03txt\x05words"),
        record(
            28,
            &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
        record(33, b"\0\x01\0\x02\0\x50\x01s\0"),
        record(39, b"\x01d\0"),
        record(43, &digest),
        record(46, &signature),
        record(47, &[&name("a.com")[..], &[0, 1, 0x40]].concat()),
        record(48, &[&[1, 1, 3, 8][..], &[5; 32]].concat()),
        record(52, &[3, 1, 1, 7, 7, 7]),
        record(65, &svcb),
        record(99, b"\x01x"),
        record(257, b"\0\x05issueca.example"),
    ];
    let opt = [
        0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2,
    ];
    let mut messages = vec![
        message([1, 0], &[], &[]),
        message([1, 0], &[], &opt),
        message([0x81, 0x83], &[], &opt),
        message([0x83, 0x80], &[], &[]),
        message([0x81, 0x80], &records, &opt),
    ];
    messages.extend(
        records
            .iter()
            .map(|one| message([0x81, 0x80], &[one.clone()], &[])),
    );
    messages
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [
        &kind.to_be_bytes()[..],
        &(data.len() as u16).to_be_bytes(),
        data,
    ]
    .concat()
}

/// Bodies of ClientHellos.
fn hellos() -> Vec<Vec<u8>> {
    let server = |name: &str| {
        let entry = [
            &[0][..],
            &(name.len() as u16).to_be_bytes(),
            name.as_bytes(),
        ]
        .concat();
        extension(
            0,
            &[&(entry.len() as u16).to_be_bytes()[..], &entry].concat(),
        )
    };
    let common = [
        extension(0x1a1a, &[]),
        extension(10, &[0, 4, 0x2a, 0x2a, 0, 0x1d]),
        extension(11, &[1, 0]),
        extension(13, &[0, 4, 4, 3, 8, 4]),
        extension(16, b"\0\x0c\x02h2\x08http/1.1"),
        extension(43, &[6, 0x3a, 0x3a, 3, 4, 3, 3]),
        extension(51, &[&[0, 36, 0, 0x1d, 0, 32][..], &[7; 32]].concat()),
        extension(0xfe0d, &[0; 20]),
    ]
    .concat();
    let body = |extensions: &[u8]| {
        let head = [&[3, 3][..], &[7; 32], &[0]].concat();
        let suites = [0, 6, 0x0a, 0x0a, 0x13, 1, 0xc0, 0x2f, 1, 0];
        let length = (extensions.len() as u16).to_be_bytes();
        [&head[..], &suites, &length, extensions].concat()
    };
    vec![
        body(&[server("www.example.com"), common.clone()].concat()),
        body(&common),
        body(&[]),
        body(&server("a.b")),
    ]
}

fn handshake(body: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    [&[1][..], &length, body].concat()
}

fn tls_record(data: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &(data.len() as u16).to_be_bytes(), data].concat()
}

/// Streams of each protocol over TCP.
fn streams() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    let texts: &[(&str, &[&str])] = &[
        (
            "http",
            &[
                "GET /a?b=c HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: curl/8\r\n\r\n",
                "POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
                "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n",
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            ],
        ),
        (
            "imds",
            &[
                "GET /latest/meta-data/iam/security-credentials/role HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
                "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 404 Not Found\r\n\r\n",
                "GET /latest/meta-data/ HTTP/1.1",
            ],
        ),
        (
            "login",
            &[
                "220 ready\r\n331 password\r\n530 Login incorrect.\r\n230 in\r\n",
                "220 mx ESMTP\r\n250 AUTH\r\n535 5.7.8 no\r\n",
                "+OK ready\r\n+OK\r\n-ERR [AUTH] invalid password\r\n",
                "* OK ready\r\na1 NO [AUTHENTICATIONFAILED] no\r\na2 OK Logged in\r\n",
                "-WRONGPASS invalid\r\n+OK\r\n",
                "\u{5}\0\0\0\nx8.0\0",
                "E\0\0\0\x14SFATAL\0C28P01\0\0\0",
                "RFB 003.008\n\x01\x020123456789abcdef\0\0\0\x01",
            ],
        ),
        (
            "smtp",
            &[
                "220 a ESMTP\r\n",
                "EHLO host\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nSTARTTLS\r\n",
            ],
        ),
        (
            "ssh",
            &[
                "SSH-2.0-OpenSSH_9.2 Debian\r\nrest",
                "hello\r\nSSH-1.99-x\n",
            ],
        ),
        (
            "stratum",
            &[
                "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"cgminer/4\"]}\n{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"wallet.worker\",\"x\"]}\n",
                "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{\"login\":\"4A\",\"pass\":\"x\",\"agent\":\"XMRig/6\"}}\n",
                "{\"id\":1,\"method\":\"eth_submitLogin\",\"params\":[\"0xabc\"]}\n",
                "{\"id\":1,\"result\":{\"id\":\"x\",\"job\":{\"blob\":\"00\"},\"status\":\"OK\"},\"error\":null}\n",
            ],
        ),
    ];
    for (target, lines) in texts {
        for line in *lines {
            seeds.push((target, cut(line.as_bytes())));
            if *target == "stratum" {
                let one = line.lines().next().unwrap_or_default();
                seeds.push(("stratum_line", one.as_bytes().to_vec()));
            }
        }
    }
    for lines in [FLOW_LOG, QUERY_LOG] {
        seeds.push(("host_logs", lines.as_bytes().to_vec()));
    }
    seeds.push(("guardduty", GUARDDUTY.as_bytes().to_vec()));
    seeds.push(("rds_logs", DATABASE_LOG.as_bytes().to_vec()));
    for rules in [RULE, CORRELATION] {
        seeds.push(("rules", rules.as_bytes().to_vec()));
    }
    let hello = tls_record(&handshake(&hellos()[0]));
    for greeting in [
        &b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb"[..],
        b"\x05\x02\x00\x02\x01\x01a\x01b\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50",
        b"\x04\x01\x01\xbb\x00\x00\x00\x01user\x00host.example\x00",
    ] {
        seeds.push(("socks", cut(greeting)));
        seeds.push(("socks", cut(&[greeting, &hello].concat())));
    }
    for body in hellos() {
        let message = handshake(&body);
        let (front, back) = message.split_at(message.len() / 2);
        seeds.push(("tls", cut(&tls_record(&message))));
        let two = [tls_record(front), tls_record(back), vec![20, 3, 3, 0, 1, 1]];
        seeds.push(("tls", cut(&two.concat())));
        seeds.push(("quic", cut(&body)));
        seeds.push(("hello", body));
    }
    let framed = dns_messages()
        .into_iter()
        .map(|message| [&(message.len() as u16).to_be_bytes()[..], &message].concat());
    let framed: Vec<Vec<u8>> = framed.collect();
    seeds.push(("dns_tcp", cut(&framed.concat())));
    seeds.extend(framed.iter().map(|one| ("dns_tcp", cut(one))));
    seeds
}

/// Datagrams, fragments, tunnels and frames.
fn packets() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for message in dns_messages() {
        seeds.push(("fragments", cut(&message)));
        seeds.push(("tunnels", cut(&message)));
        seeds.push(("dns", message));
    }
    let query = &dns_messages()[0];
    let datagram = udp([40_000, 53], query);
    let chain = [
        &[43, 0, 0, 0, 0, 0, 0, 0][..],
        &[17, 0, 0, 0, 0, 0, 0, 0],
        &datagram,
    ]
    .concat();
    let ends = [CLIENT, SERVER];
    let whole = [
        ipv4(ends, 17, &datagram),
        ipv4(ends, 6, &tcp([40_000, 443], 2, 1, &[])),
        ipv4(ends, 1, &[8, 0, 0, 0, 0, 7, 0, 1]),
        ipv4(ends, 1, &[3, 3, 0, 0, 0, 0, 0, 0]),
        ipv4(ends, 132, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
        ipv4(
            ends,
            47,
            &[&[0, 0, 8, 0], &ipv4(ends, 17, &datagram)[..]].concat(),
        ),
        ipv6(17, &datagram),
        ipv6(0, &chain),
        ipv6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &datagram].concat()),
        ipv6(
            51,
            &[
                &[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &tcp([1, 2], 16, 9, b"x"),
            ]
            .concat(),
        ),
        ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for packet in whole {
        let kind = if packet[0] >> 4 == 4 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        for tags in [
            &[][..],
            &[0x81, 0, 0, 1],
            &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2],
        ] {
            let frame = [&[2; 12][..], tags, &kind, &packet].concat();
            let length = (frame.len() as u16).to_le_bytes();
            seeds.push(("frames", [&[1][..], &length, &frame].concat()));
            seeds.push(("headers", frame));
        }
        seeds.push(("copies", packet));
    }
    seeds.push(("headers", [&[2; 12][..], &[8, 6], &[0; 28]].concat()));
    seeds
}

/// What agents and collectors tell each other.
fn messages() -> Vec<Seed> {
    let signer = Signer::development();
    let order = Order {
        id: 7,
        net: Net {
            address: IpAddr::from([192, 0, 2, 1]),
            prefix: 32,
        },
        port: Some(443),
        expires_ms: 9,
        reason: "by hand".into(),
    };
    let orders = Orders {
        version: 1,
        orders: vec![order],
        ..Orders::default()
    };
    let envelope = hex(include_str!("../../wire/tests/vector-envelope.hex"));
    vec![
        (
            "bundle",
            hex(include_str!("../../wire/tests/vector-bundle.hex")),
        ),
        ("orders", orders.seal(&signer)),
        (
            "identity",
            include_bytes!("../../collector/detect/src/identity/testdata/identity.der").to_vec(),
        ),
        (
            "enrol",
            Request::new(
                [1; 32],
                server_of(&signer.public_key()),
                signer.public_key(),
                Proof::Known,
            )
            .seal(&signer),
        ),
        ("sequence", envelope.repeat(2)),
        ("envelope", envelope),
        (
            "summary",
            hex(include_str!("../../wire/tests/vector-summary.hex")),
        ),
        ("dns_name", b"www.Example.com".to_vec()),
        (
            "list",
            b"# a comment\n192.0.2.1\n10.0.0.0/8\nexample.com\n192.0.2.1:80\n".to_vec(),
        ),
        // One for each format, by its place in the list of formats.
        ("feeds", b"\x00[Adblock]\n||evil.example^$third-party\n".to_vec()),
        ("feeds", b"\x01192.0.2.1#4#2#Malicious Host#XA##1.5,2.5#3\n".to_vec()),
        ("feeds", b"\x02192.0.2.1,\"x\"\n".to_vec()),
        ("feeds", b"\x03[{\"ip_address\":\"192.0.2.1\",\"port\":443}]".to_vec()),
        ("feeds", b"\x04reportId, cidr, ip\n1, 192.0.2.0/24, 192.0.2.1\n".to_vec()),
        ("feeds", b"\x06127.0.0.1 evil.example # x\n".to_vec()),
        (
            "feeds",
            b"\x09{\"Event\":{\"Attribute\":[{\"type\":\"domain\",\"value\":\"evil.example\",\"to_ids\":true}]}}".to_vec(),
        ),
        ("feeds", b"\x0b192.0.2.1-192.0.2.9\nhxxp://evil[.]example/\n".to_vec()),
        ("feeds", b"\x0d@ SOA a b ( 1\n)\nevil.example CNAME .\n24.0.2.0.192.rpz-ip CNAME .\n".to_vec()),
        ("feeds", b"\x0e{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}\n".to_vec()),
        (
            "feeds",
            b"\x0f<STIX_Package><a:Address_Value condition=\"InclusiveBetween\">192.0.2.0##comma##192.0.2.9</a:Address_Value></STIX_Package>".to_vec(),
        ),
        (
            "feeds",
            b"\x10{\"objects\":[{\"type\":\"indicator\",\"pattern\":\"[ipv4-addr:value = '192.0.2.1']\"}]}".to_vec(),
        ),
        (
            "feeds",
            b"\x11{\"1\":[{\"ioc_value\":\"192.0.2.1:443\",\"ioc_type\":\"ip:port\"}]}".to_vec(),
        ),
        ("feeds", b"\x14#fields\tindicator\tindicator_type\n192.0.2.1\tIntel::ADDR\n".to_vec()),
        ("status", b"{\"version\":\"1\",\"agent_id\":\"a\"}".to_vec()),
    ]
}

/// The bytes of a vector of the wire format.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    let byte = |pair: &[u32]| (pair[0] << 4 | pair[1]) as u8;
    digits.chunks_exact(2).map(byte).collect()
}

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (at, (target, bytes)) in [streams(), packets(), messages()]
        .concat()
        .into_iter()
        .enumerate()
    {
        let folder = root.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{at:03}")), bytes)?;
    }
    Ok(())
}
