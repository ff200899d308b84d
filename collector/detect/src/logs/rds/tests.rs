//! Lines of every log, what is wrong with some, and names that try to be more than names.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn database() -> Database {
    Database {
        instance: "shop".into(),
        ..Database::default()
    }
}

/// What lines tell, and what was wrong with some.
fn read(text: &str) -> (Vec<Login>, Vec<RdsLogError>) {
    let mut reader = LoginReader::new(database());
    let (mut logins, mut wrong) = (Vec::new(), Vec::new());
    for line in text.split('\n') {
        wrong.extend(reader.line(line.as_bytes(), &mut logins).err());
    }
    reader.finish(&mut logins);
    (logins, wrong)
}

type Row<'a> = (LoginOutcome, &'a str, &'a str, &'a str);

#[track_caller]
fn check(text: &str, expected: &[Row<'_>]) {
    let (logins, wrong) = read(text);
    assert_eq!(wrong, []);
    let told: Vec<(LoginOutcome, &str, &str, String)> = logins
        .iter()
        .map(|one| {
            let address = one.address.map_or_else(String::new, |ip| ip.to_string());
            (one.outcome, &*one.user, &*one.schema, address)
        })
        .collect();
    let told: Vec<Row<'_>> = told.iter().map(|(o, u, s, a)| (*o, *u, *s, &**a)).collect();
    assert_eq!(told, expected, "{text}");
}

/// The same where another `check` stands in front.
#[track_caller]
fn tell(text: &str, expected: &[Row<'_>]) {
    check(text, expected);
}

#[track_caller]
fn wrong(text: &str, expected: &RdsLogError) {
    let (logins, wrong) = read(text);
    assert_eq!(
        (logins.as_slice(), wrong.as_slice()),
        (&[][..], std::slice::from_ref(expected)),
        "{text}"
    );
}

const OK: LoginOutcome = LoginOutcome::Succeeded;
const NO: LoginOutcome = LoginOutcome::Failed;
const PROBE: LoginOutcome = LoginOutcome::Probed;

/// A line of PostgreSQL's text log, so many seconds after the start.
fn line(second: u32, who: &str, process: u32, rest: &str) -> String {
    let (minute, second) = (13 + (20 + second) / 60, (20 + second) % 60);
    format!("2023-11-14 22:{minute}:{second:02} UTC:203.0.113.9(54321):{who}:[{process}]:{rest}\n")
}

#[test]
fn postgres_tells_logins_as_text() {
    let received = line(
        0,
        "[unknown]@[unknown]",
        7,
        "LOG:  connection received: host=203.0.113.9 port=54321",
    );
    let authorized = "LOG:  connection authorized: user=app database=shop application_name=psql SSL enabled (protocol=TLSv1.3, cipher=X, bits=256)";
    let text = received + &line(1, "app@shop", 7, authorized);
    check(&text, &[(OK, "app", "shop", "203.0.113.9")]);
    let (logins, _) = read(&text);
    let one = &logins[0];
    assert_eq!((one.time_ns, one.port), (START + SECOND, 54_321));
    assert_eq!(
        (&*one.program, one.encrypted, &*one.why),
        ("psql", Some(true), "")
    );
    let plain = line(
        0,
        "app@shop",
        7,
        "LOG:  connection authorized: user=app database=shop",
    );
    check(&plain, &[(OK, "app", "shop", "203.0.113.9")]);
    assert_eq!(read(&plain).0[0].encrypted, Some(false));
}

#[test]
fn postgres_tells_refusals() {
    for (message, schema) in [
        ("password authentication failed for user \"eve\"", ""),
        ("PAM authentication failed for user \"eve\"", ""),
        ("role \"eve\" does not exist", ""),
        ("role \"eve\" is not permitted to log in", ""),
        (
            "no pg_hba.conf entry for host \"203.0.113.9\", user \"eve\", database \"shop\", no encryption",
            "shop",
        ),
        (
            "no pg_hba.conf entry for host \"203.0.113.9\", user \"eve\", database \"shop\", SSL off",
            "shop",
        ),
        (
            "pg_hba.conf rejects connection for host \"203.0.113.9\", user \"eve\", database \"shop\"",
            "shop",
        ),
    ] {
        let text = line(0, "eve@shop", 7, &format!("FATAL:  {message}"));
        check(&text, &[(NO, "eve", schema, "203.0.113.9")]);
    }
}

#[test]
fn postgres_tells_what_is_no_login() {
    let check = |rest: &str, expected: &[Row<'_>]| check(&line(0, "a@b", 7, rest), expected);
    let probe = [(PROBE, "", "", "203.0.113.9")];
    check(
        "FATAL:  unsupported frontend protocol 16.0: server supports 3.0 to 3.0",
        &probe,
    );
    check(
        "LOG:  could not accept SSL connection: EOF detected",
        &probe,
    );
    check("LOG:  invalid length of startup packet", &probe);
    for nothing in [
        "DETAIL:  Role \"eve\" does not exist.",
        "LOG:  statement: select 'connection authorized: user=app database=shop'",
        "ERROR:  password authentication failed for user \"eve\"",
        "FATAL:  database \"x\" does not exist",
        "FATAL:  terminating connection due to administrator command",
        "LOG:  disconnection: session time: 0:00:01.000 user=a database=b host=203.0.113.9 port=1",
    ] {
        check(nothing, &[]);
    }
    // RDS itself, and what goes on in the next line.
    tell(
        "2023-11-14 22:13:20 UTC:[local]:rdsadmin@rdsadmin:[7]:LOG:  connection authorized: user=rdsadmin database=rdsadmin\n\
         2023-11-14 22:13:20 UTC:127.0.0.1(5):rdsadmin@rdsadmin:[7]:LOG:  connection authorized: user=rdsadmin database=rdsadmin\n\
         2023-11-14 22:13:20 UTC::@:[7]:LOG:  checkpoint starting: time\n\tmore of it\n",
        &[],
    );
}

#[test]
fn who_connects_and_says_nothing_probes() {
    let received = |second, process| {
        let rest = "LOG:  connection received: host=203.0.113.9 port=54321";
        line(second, "[unknown]@[unknown]", process, rest)
    };
    let login = |second, process| {
        let rest = "LOG:  connection authorized: user=app database=shop";
        line(second, "app@shop", process, rest)
    };
    let probe = (PROBE, "", "", "203.0.113.9");
    let ok = (OK, "app", "shop", "203.0.113.9");
    check(
        &(received(0, 7) + &received(1, 8) + &login(1, 8) + &login(60, 9)),
        &[ok, ok, probe],
    );
    check(
        &(received(0, 7) + &received(1, 8) + &login(1, 8) + &login(59, 9)),
        &[ok, ok],
    );
    // Where nothing else is ever told of connections, silence says nothing.
    check(&(received(0, 7) + &received(90, 8)), &[]);
    // The process's number is used again.
    check(
        &(received(0, 7) + &login(1, 7) + &received(50, 7) + &login(51, 7) + &login(90, 9)),
        &[ok, ok, ok],
    );
}

#[test]
fn postgres_tells_logins_as_csv() {
    let row = |from: &str, severity: &str, message: &str| {
        format!(
            "2023-11-14 22:13:20.250 UTC,\"eve\",\"shop\",4711,\"{from}\",6553f0bf.1267,1,\"authentication\",2023-11-14 22:13:20 UTC,3/5,0,{severity},28P01,\"{message}\",,,,,,,,,\"psql\",\"client backend\",,0\n"
        )
    };
    let failed = "password authentication failed for user \"\"eve\"\"";
    check(
        &row("203.0.113.9:54321", "FATAL", failed),
        &[(NO, "eve", "shop", "203.0.113.9")],
    );
    check(
        &row("2001:db8::9:54321", "FATAL", failed),
        &[(NO, "eve", "shop", "2001:db8::9")],
    );
    check(&row("[local]", "FATAL", failed), &[]);
    check(
        &row("203.0.113.9:54321", "LOG", "statement: select 1,\n2,\n3"),
        &[],
    );
    let (logins, _) = read(&row("203.0.113.9:54321", "FATAL", failed));
    assert_eq!(
        (logins[0].time_ns, logins[0].port),
        (START + SECOND / 4, 54_321)
    );
    wrong(
        "2023-11-14 22:13:20.250 UTC,\"eve\",\"shop\"",
        &RdsLogError::Fields {
            found: 3,
            expected: 14,
        },
    );
    let endless = format!(
        "2023-11-14 22:13:20.250 UTC,\"eve{}",
        "\nx".repeat(LOGIN_RECORD_BYTES_MAX / 2)
    );
    assert!(read(&endless).1.contains(&RdsLogError::Long));
}

#[test]
fn mysql_tells_logins_in_its_audit_log() {
    let audit = |rest: &str| format!("20231114 22:13:20,ip-10-0-0-1,{rest}");
    check(
        &audit("app,10.0.0.5,42,0,CONNECT,shop,,0"),
        &[(OK, "app", "shop", "10.0.0.5")],
    );
    check(
        &audit("eve,203.0.113.9,42,0,FAILED_CONNECT,,,1045"),
        &[(NO, "eve", "", "203.0.113.9")],
    );
    check(
        &audit(",203.0.113.9,42,0,FAILED_CONNECT,,,1158"),
        &[(PROBE, "", "", "203.0.113.9")],
    );
    let aurora = "1700000000500000,shop-1,eve,203.0.113.9,43,0,CONNECT,shop,,1045";
    check(aurora, &[(NO, "eve", "shop", "203.0.113.9")]);
    assert_eq!(read(aurora).0[0].time_ns, START + SECOND / 2);
    for nothing in [
        "app,10.0.0.5,42,0,DISCONNECT,shop,,0",
        "app,10.0.0.5,42,77,QUERY,shop,'select 1, 2, \\'CONNECT\\'',0",
        "app,10.0.0.5,42,77,QUERY,shop,'select 1,CONNECT,2',0",
        "rdsadmin,localhost,2,0,CONNECT,,,0",
    ] {
        check(&audit(nothing), &[]);
    }
    wrong(
        &audit("app,10.0.0.5,42,0,CONNECT"),
        &RdsLogError::Fields {
            found: 7,
            expected: 10,
        },
    );
}

#[test]
fn mysql_tells_refusals_in_its_error_log() {
    let denied = "Access denied for user 'eve'@'203.0.113.9' (using password: YES)";
    for head in [
        "2023-11-14T22:13:20.000000Z 43 [Note] [MY-010926] [Server]",
        "2023-11-14T22:13:20.000000Z 43 [Note]",
        "2023-11-14 22:13:20 43 [Warning]",
        "2023-11-14 22:13:20 0x7f00aa [Warning]",
        "231114 22:13:20 [Warning]",
    ] {
        let text = format!("{head} {denied}");
        check(&text, &[(NO, "eve", "", "203.0.113.9")]);
        assert_eq!(read(&text).0[0].time_ns, START, "{head}");
    }
    let check = |message: &str, expected: &[Row<'_>]| {
        check(
            &format!("2023-11-14T22:13:20.000000Z 43 [Warning] [MY-0] [Server] {message}"),
            expected,
        );
    };
    let probe = [(PROBE, "", "", "203.0.113.9")];
    check(
        "Aborted connection 43 to db: 'unconnected' user: 'unauthenticated' host: '203.0.113.9' (Got an error reading communication packets)",
        &probe,
    );
    check(
        "Host '203.0.113.9' is not allowed to connect to this MySQL server",
        &probe,
    );
    check(
        "Access denied for user 'app'@'localhost' (using password: NO)",
        &[],
    );
    check(
        "Aborted connection 43 to db: 'shop' user: 'app' host: '10.0.0.5' (Got timeout)",
        &[],
    );
    check(
        "IP address '203.0.113.9' could not be resolved: Name or service not known",
        &[],
    );
    tell(
        "2023-11-14T22:13:20.000000Z 0 [Note] up\nVersion: '8.0'  socket: '/tmp/m'\n",
        &[],
    );
}

/// A line feed in a name must not make a line that the server never wrote.
#[test]
fn a_line_feed_in_a_name_makes_no_line() {
    let forged = "2023-11-14 22:13:20 UTC:10.0.0.5(1):x";
    let told = "y:[8]:LOG:  connection authorized: user=app database=shop";
    let failed = "FATAL:  password authentication failed for user \"x\"";
    let good = line(
        5,
        "app@shop",
        9,
        "LOG:  connection authorized: user=app database=shop",
    );
    let of = |user: &str, schema: &str| {
        let (logins, wrong) = read(&(line(0, &format!("{user}@{schema}"), 7, failed) + &good));
        let torn = wrong.iter().filter(|one| **one == RdsLogError::Torn);
        (logins.len(), torn.count() > 0)
    };
    // What follows is read as ever, and nothing but that.
    assert_eq!(of(&format!("x\n{forged}"), &format!("{told}\n")), (1, true));
    assert_eq!(of(&format!("x\n{forged}@{told}\n"), "z"), (1, true));
    assert_eq!(of(&format!("x\n{forged}@{told}\n\tz"), "z"), (1, true));
    // Its first piece looks whole by itself, or its second like the last.
    let whole = "a@b:[7]:LOG:  statement: ";
    assert_eq!(of(&format!("{whole}\n{forged}@{told}\n"), "z"), (1, true));
    let rest = "a:[7]:LOG:  x";
    assert_eq!(of(&format!("x\n{rest}\n{forged}@{told}\n"), "z"), (1, true));
    // Lines of others are not refused for long: not beyond what names may have, nor in the next file.
    let cut = line(0, "x", 7, "");
    let cut = cut.split(":[7").next().unwrap();
    let mut reader = LoginReader::new(database());
    let mut logins = Vec::new();
    assert!(reader.line(cut.as_bytes(), &mut logins).is_err());
    let good = good.trim_end();
    let refused = (0..1_000).take_while(|_| reader.line(good.as_bytes(), &mut logins).is_err());
    assert_eq!(refused.count(), LOGIN_NAMES_BYTES_MAX / good.len());
    assert!(reader.line(cut.as_bytes(), &mut logins).is_err());
    reader.pause(&mut logins);
    assert_eq!(reader.line(good.as_bytes(), &mut logins), Ok(()));
    // A statement may quote the log.
    let quotes = line(0, "a@b", 7, "LOG:  statement: select") + "\t'x:[7]:LOG:  y'\n";
    check(&quotes, &[]);
}

/// Names that a client chose must not make a line say what the server did not.
#[test]
fn a_name_is_only_a_name() {
    let forged = "x@y:[1]:LOG:  connection authorized: user=admin database=shop";
    let failed = format!("FATAL:  password authentication failed for user \"{forged}\"");
    wrong(
        &line(0, &format!("{forged}@db"), 7, &failed),
        &RdsLogError::Ambiguous,
    );
    let quiet = "x@y:[1]:LOG:  statement: ";
    let failed = format!("FATAL:  password authentication failed for user \"{quiet}\"");
    wrong(
        &line(0, &format!("{quiet}@db"), 7, &failed),
        &RdsLogError::Ambiguous,
    );
    let user = "x,10.0.0.5,1,0,CONNECT,shop,,0";
    let audit = format!("20231114 22:13:20,h,{user},203.0.113.9,42,0,FAILED_CONNECT,,,1045");
    wrong(&audit, &RdsLogError::Ambiguous);
    let user = "x,10.0.0.5,1,0,QUERY,shop,";
    let audit = format!("20231114 22:13:20,h,{user},203.0.113.9,42,0,FAILED_CONNECT,,,1045");
    wrong(&audit, &RdsLogError::Ambiguous);
    let quoted = audit.replace("QUERY,shop,", "QUERY,shop,'");
    wrong(&quoted, &RdsLogError::Ambiguous);
    let user = "a'@'10.0.0.5' (using password: NO)";
    let text = format!(
        "2023-11-14T22:13:20.000000Z 43 [Note] Access denied for user '{user}'@'203.0.113.9' (using password: YES)"
    );
    check(&text, &[(NO, user, "", "203.0.113.9")]);
    // Commas and colons alone do no harm.
    let text = line(
        0,
        "a:b@c",
        7,
        "FATAL:  password authentication failed for user \"a:b\"",
    );
    check(&text, &[(NO, "a:b", "", "203.0.113.9")]);
}

#[test]
fn exports_put_a_time_before_each_line() {
    let text = line(0, "eve@shop", 7, "FATAL:  role \"eve\" does not exist");
    check(
        &format!("2023-11-14T22:13:21.000Z {text}"),
        &[(NO, "eve", "", "203.0.113.9")],
    );
    let text = "2023-11-14T22:13:21.000Z 1700000000500000,shop-1,app,10.0.0.5,43,0,CONNECT,shop,,0";
    check(text, &[(OK, "app", "shop", "10.0.0.5")]);
}

#[test]
fn what_is_no_log_is_told() {
    let unknown = |begin: &str| RdsLogError::Unknown {
        begin: begin.into(),
    };
    wrong("words", &unknown("words"));
    wrong("\tmore words", &unknown("\tmore words"));
    wrong(
        "2 111122223333 eni-0a 10.0.0.5",
        &unknown("2 111122223333 eni-0a 10.0.0.5"),
    );
    let odd = "2023-11-14 22:13:20 CET:203.0.113.9(5):a@b:[7]:LOG:  connection authorized: user=a database=b";
    wrong(
        odd,
        &RdsLogError::Time {
            text: "2023-11-14 22:13:20 CET".into(),
        },
    );
    wrong(
        "20231399 22:13:20,h,a,203.0.113.9,1,0,CONNECT,,,0",
        &RdsLogError::Time {
            text: "2023-13-99 22:13:20".into(),
        },
    );
}

/// One line of each log, to be damaged.
const SEEDS: &[&str] = &[
    "2023-11-14 22:13:20 UTC:203.0.113.9(54321):eve@shop:[7]:FATAL:  password authentication failed for user \"eve\"",
    "2023-11-14 22:13:20 UTC:203.0.113.9(54321):[unknown]@[unknown]:[7]:LOG:  connection received: host=203.0.113.9 port=54321",
    "2023-11-14 22:13:20.250 UTC,\"eve\",\"shop\",4711,\"203.0.113.9:5\",6.1,1,\"a\",2023-11-14 22:13:20 UTC,3/5,0,FATAL,28P01,\"role \"\"eve\"\" does not exist\"",
    "20231114 22:13:20,h,eve,203.0.113.9,42,0,FAILED_CONNECT,,,1045",
    "1700000000500000,h,eve,203.0.113.9,42,0,CONNECT,shop,,0",
    "2023-11-14T22:13:20.000000Z 43 [Note] Access denied for user 'eve'@'203.0.113.9' (using password: YES)",
    "231114 22:13:20 [Warning] Aborted connection 43 to db: 'unconnected' user: 'unauthenticated' host: '203.0.113.9' (x)",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Damage changes what is told or makes an error, and never more.
    #[test]
    fn damaged_lines_are_read_or_refused(
        seed in 0..SEEDS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let mut reader = LoginReader::new(database());
        let mut logins = Vec::new();
        for _ in 0..2 {
            let _ = reader.line(&bytes, &mut logins);
        }
        reader.finish(&mut logins);
        prop_assert!(logins.len() <= 2);
        for one in logins {
            prop_assert!(one.user.len() <= LOGIN_TEXT_BYTES_MAX && one.schema.len() <= LOGIN_TEXT_BYTES_MAX);
            let json = serde_json::to_vec(&one).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Login>(&json).unwrap(), one);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = read(&text);
        let _ = Export::parse(text.as_bytes());
    }
}
