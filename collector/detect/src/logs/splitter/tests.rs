//! Every shape, every cut, and what is kept behind a fault.

use super::*;

/// Event number `n`, as CloudTrail writes it.
fn event(n: usize) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"Root","arn":"a\\\"}}b"}},"eventTime":"2023-07-10T11:42:{n:02}Z","eventName":"E{n}","requestParameters":{{"list":[1,{{"detail":{{}}}}],"text":"{{[\"Records\":"}}}}"#
    )
}

/// What came out: the number of an event, `foreign`, or a fault's text.
fn read(splitter: &mut Splitter, out: &mut Vec<String>) {
    while let Some(piece) = splitter.next_piece() {
        out.push(match piece {
            Piece::Event(event) => {
                let value: serde_json::Value = serde_json::from_slice(event.json).unwrap();
                let name = value["eventName"].as_str().unwrap().to_owned();
                let time = value["eventTime"].as_str().and_then(event_time::parse);
                assert_eq!(event.time_ns, time, "{name}");
                name
            }
            Piece::Foreign(_) => "foreign".to_owned(),
            Piece::Fault(_, why) => why.to_string(),
        });
    }
}

fn split(bytes: &[u8], chunk: usize) -> Vec<String> {
    let (mut splitter, mut out) = (Splitter::default(), Vec::new());
    for part in bytes.chunks(chunk) {
        splitter.push(part);
        read(&mut splitter, &mut out);
    }
    splitter.end();
    read(&mut splitter, &mut out);
    out
}

/// Splits whole, byte by byte, and in parts of 7.
fn check(name: &str, bytes: impl AsRef<[u8]>, expected: &[&str]) {
    for chunk in [1, 7, usize::MAX] {
        assert_eq!(split(bytes.as_ref(), chunk), expected, "{name}, by {chunk}");
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn indented(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn every_shape_gives_its_events() {
    let (one, two) = (event(1), event(2));
    let (text_one, text_two) = (quoted(&one), quoted(&two));
    let records = format!(r#"{{"Records":[{one},{two}]}}"#);
    let lookup = format!(
        r#"{{"Events":[{{"EventId":"x","EventName":"E1","Resources":[{{"a":1}}],"CloudTrailEvent":{text_one}}},{{"CloudTrailEvent":{text_two}}}],"NextToken":"t"}}"#
    );
    let lake = format!(
        r#"{{"QueryStatus":"FINISHED","QueryStatistics":{{"ResultsCount":2}},"QueryResultRows":[[{{"eventJson":{text_one}}}],[{{"eventJson":{text_two}}}]],"NextToken":"t"}}"#
    );
    let bridge = |event: &str| {
        format!(
            r#"{{"version":"0","detail-type":"AWS API Call via CloudTrail","resources":["r"],"detail":{event},"id":"i"}}"#
        )
    };
    let logs = format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"1","logEvents":[{{"id":"1","timestamp":1,"message":{text_one}}},{{"message":{text_two},"id":"2"}}]}}"#
    );
    let search = format!(
        r#"{{"took":1,"hits":{{"total":{{"value":2}},"hits":[{{"_index":"i","_source":{one}}},{{"_source":{two}}}]}}}}"#
    );
    let queue = format!(
        r#"{{"Records":[{{"messageId":"m","body":{},"eventSource":"aws:sqs"}},{{"body":{text_two}}}]}}"#,
        quoted(&format!(
            r#"{{"Type":"Notification","Message":{}}}"#,
            quoted(&bridge(&one))
        ))
    );
    for (name, bytes) in [
        ("delivered file", records.clone()),
        ("delivered file, indented", indented(&records)),
        (
            "delivered file, CRLF",
            indented(&records).replace('\n', "\r\n"),
        ),
        ("delivered file, BOM", format!("\u{feff}{records}\n")),
        ("JSON lines", format!("{one}\n{two}\n")),
        ("JSON lines, CRLF, no last end", format!("{one}\r\n{two}")),
        (
            "JSON lines with empty ones",
            format!("\n\n{one}\n\n{two}\n\n"),
        ),
        ("run together", format!("{one}{two}")),
        (
            "indented, one after the other",
            format!("{}\n{}", indented(&one), indented(&two)),
        ),
        ("list", format!("[{one},{two}]")),
        ("list, indented", indented(&format!("[{one},{two}]"))),
        ("list of lists", format!("[[{one}],[{two}]]")),
        ("list of texts", format!("[{text_one}, {text_two}]")),
        ("lines of texts", format!("{text_one}\n{text_two}\n")),
        ("lookup-events", lookup.clone()),
        ("Lake", lake),
        ("lookup-events, indented", indented(&lookup)),
        (
            "EventBridge lines",
            format!("{}\n{}\n", bridge(&one), bridge(&two)),
        ),
        ("subscription", logs),
        (
            "filter-log-events",
            format!(r#"{{"events":[{{"message":{text_one}}},{{"message":{text_two}}}]}}"#),
        ),
        ("search engine", search),
        (
            "search export lines",
            format!("{{\"_source\":{one}}}\n{{\"_source\":{two}}}"),
        ),
        ("queue of notifications", queue),
        (
            "wrapped cases",
            format!("{{\"case\":\"c\",\"event\":{one}}}\n{{\"event\":{two},\"n\":[1]}}"),
        ),
        (
            "raw field",
            format!(
                r#"{{"preview":false,"result":{{"_raw":{text_one}}}}} {{"result":{{"_raw":{text_two}}}}}"#
            ),
        ),
        (
            "files run together",
            format!("{{\"Records\":[{one}]}}{{\"Records\":[{two}]}}"),
        ),
        (
            "two lists in one object",
            format!(r#"{{"n":1,"Records":[{one}],"x":{{"y":[]}},"z":null,"Events":[{two}]}}"#),
        ),
    ] {
        check(name, &bytes, &["E1", "E2"]);
    }
    check("one", &one, &["E1"]);
    check("one, indented", indented(&one), &["E1"]);
    check("only a name", r#"{"eventName":"A"}"#, &["A"]);
    check(
        "a message beside",
        r#"{"eventName":"A","message":"done"}"#,
        &["A"],
    );
}

#[test]
fn nothing_is_found_where_nothing_is() {
    check("empty", "", &[]);
    check("white space", " \n\u{feff}\n", &[]);
    check("no records", r#"{"Records":[]}"#, &[]);
    check("empty list", "[]", &[]);
    check(
        "other object",
        r#"{"digestStartTime":"x","logFiles":[{"a":1}]}"#,
        &["foreign"],
    );
    check("wrapped other", r#"{"detail":{"a":1}}"#, &["foreign"]);
    check(
        "plain text in a wrapper",
        r#"{"logEvents":[{"message":"hello {"}]}"#,
        &["foreign"],
    );
    check(
        "a text that only looks folded",
        r#"{"message":"[INFO] a"}"#,
        &["foreign"],
    );
    check("words", "hello world\nmore\n", &["not JSON"]);
    check(
        "UTF-16",
        [0xff, 0xfe, b'{', 0, b'"', 0],
        &["UTF-16 text; convert it to UTF-8"],
    );
    check("not UTF-16", [0xff, b'{'], &["not JSON"]);
}

#[test]
fn a_time_is_read_however_it_stands() {
    for (json, expected) in [
        (r#"{"eventName":"A","eventTime" : 5 }"#, Some(5_000_000_000)),
        (r#"{"eventTime":5,"eventName":"A"}"#, Some(5_000_000_000)),
        (r#"{"eventTime":"...","eventName":"A"}"#, None),
        (r#"{"eventTime":{"a":1},"eventName":"A"}"#, None),
        (
            r#"{"eventName":"A","requestParameters":{"eventTime":"1970-01-01T00:00:05Z"}}"#,
            None,
        ),
    ] {
        let mut splitter = Splitter::default();
        splitter.push(json.as_bytes());
        let Some(Piece::Event(event)) = splitter.next_piece() else {
            panic!("no event in {json}");
        };
        assert_eq!(event.time_ns, expected, "{json}");
    }
}

#[test]
fn what_stands_before_a_cut_is_kept() {
    let folded = format!(
        r#"{{"Events":[{{"CloudTrailEvent":{}}}]}}"#,
        quoted(&event(1))
    );
    for text in [
        format!(r#"{{"Records":[{},{},{}]}}"#, event(1), event(2), event(3)),
        format!("{}\n{}\n{}\n", event(1), event(2), event(3)),
        indented(&format!("[{},{},{}]", event(1), event(2), event(3))),
        format!("{}{}", folded, event(2)),
    ] {
        let mut most = 0;
        for cut in 0..text.len() {
            let out = split(&text.as_bytes()[..cut], 4096);
            let events: Vec<_> = out.iter().filter(|piece| piece.starts_with('E')).collect();
            let expected = ["E1", "E2", "E3"];
            assert_eq!(events, expected[..events.len()], "cut at {cut} of {text}");
            assert!(events.len() >= most, "cut at {cut} of {text}");
            let faults = out.len() - events.len();
            assert!(faults <= 1, "cut at {cut} of {text}: {out:?}");
            most = events.len();
        }
        assert!(most >= 1);
    }
}

#[test]
fn goes_on_behind_a_fault() {
    let (one, two, three) = (event(1), event(2), event(3));
    let cut = |bytes| &two[..bytes];
    for (name, bytes, expected) in [
        (
            "line cut in a name",
            format!("{one}\n{}\n{three}\n", cut(9)),
            "control character in a string, at byte 203",
        ),
        (
            "line cut between members",
            format!("{one}\n{}\n{three}\n", cut(22)),
            "string or bracket out of place, at byte 217",
        ),
        (
            "line with a brace too many",
            format!("{one}\n{two}}}\n{three}\n"),
            "not JSON",
        ),
        (
            "list with a bracket for a brace",
            format!("[{one},{{\"eventName\":\"X\"],{three}]"),
            "closing bracket does not match, at byte 211",
        ),
        (
            "words between lines",
            format!("{one}\nno JSON {{here}}\n{three}\n"),
            "not JSON",
        ),
        (
            "null in a list",
            format!("[{one},null,{three}]"),
            "not JSON",
        ),
        (
            "folded text that is none",
            format!("{one}\n{{\"message\":\"{{\\u12\"}}\n{three}\n"),
            "text does not unfold to an event",
        ),
    ] {
        let out = split(bytes.as_bytes(), usize::MAX);
        assert!(out.contains(&expected.to_owned()), "{name}: {out:?}");
        let faults = out.iter().filter(|piece| !piece.starts_with('E')).count();
        assert_eq!(faults, 1, "{name}: {out:?}");
        for kept in ["E1", "E3"] {
            assert!(out.contains(&kept.to_owned()), "{name}: {out:?}");
        }
        assert_eq!(split(bytes.as_bytes(), 5), out, "{name}");
    }
}

#[test]
fn bounds_hold() {
    let large = format!(
        r#"{{"eventName":"A","userAgent":"{}"}}"#,
        "x".repeat(EVENT_BYTES_MAX)
    );
    let deep = format!("{{\"eventName\":\"B\",\"x\":{}", "[".repeat(200));
    let bytes = format!("{}\n{large}\n{deep}\n{}\n", event(1), event(3));
    let expected = [
        "E1",
        "event larger than 1048576 bytes",
        "nested deeper than 127 levels",
        "E3",
    ];
    assert_eq!(split(bytes.as_bytes(), 65_536), expected);
    assert_eq!(split(bytes.as_bytes(), usize::MAX), expected);
    let most = "[".repeat(EVENT_DEPTH_MAX as usize - 1) + &"]".repeat(EVENT_DEPTH_MAX as usize - 1);
    check(
        "deepest",
        format!(r#"{{"eventName":"C","x":{most}}}"#),
        &["C"],
    );
    // What stands beside the wanted list may be of any size.
    let beside = format!(
        r#"{{"Records":[{}],"x":["{}"],"#,
        event(1),
        "y".repeat(EVENT_BYTES_MAX)
    );
    let bytes = format!("{beside}\"Events\":[{}]}}", event(2));
    assert_eq!(split(bytes.as_bytes(), 65_536), ["E1", "E2"]);
}

#[test]
fn memory_stays_at_one_chunk_and_one_event() {
    let mut splitter = Splitter::default();
    splitter.push(br#"{"Records":["#);
    let chunk = format!("{},\n", event(1)).repeat(100);
    for _ in 0..1_000 {
        splitter.push(chunk.as_bytes());
        while splitter.next_piece().is_some() {}
    }
    assert!(splitter.buffer.capacity() < 4 * chunk.len());
}

#[test]
fn folding_and_wrapping_have_a_bottom() {
    let mut text = event(1);
    for _ in 0..FOLDS_MAX {
        text = format!(r#"{{"message":{}}}"#, quoted(&text));
    }
    check("folded as often as allowed", &text, &["E1"]);
    let once_more = format!(r#"{{"message":{}}}"#, quoted(&text));
    check(
        "once more",
        once_more,
        &["text does not unfold to an event"],
    );
    let wrapped = format!("{}{}", r#"{"detail":"#.repeat(1_000), event(1));
    assert_eq!(
        split(wrapped.as_bytes(), 4096),
        ["E1", "ends in the middle"]
    );
}

#[test]
fn places_are_told() {
    let mut splitter = Splitter::default();
    let first = format!("\n{}\n", indented(&event(1)));
    let lines = first.lines().count() as u64;
    splitter.push(format!("{first}{{\"a\":1}}\n]\n{}", event(2)).as_bytes());
    splitter.end();
    let mut places = Vec::new();
    while let Some(piece) = splitter.next_piece() {
        places.push(match piece {
            Piece::Event(event) => event.place,
            Piece::Foreign(place) | Piece::Fault(place, _) => place,
        });
    }
    let at = |line, byte| Place { line, byte };
    let after = first.len() as u64;
    assert_eq!(
        places,
        [
            at(2, 1),
            at(lines + 1, after),
            at(lines + 2, after + 8),
            at(lines + 3, after + 10)
        ]
    );
}

/// A file made to be reread again and again must not take longer than one that is not.
#[test]
fn faults_cannot_make_it_read_without_end() {
    // Each line stays open, so that every scan goes on to the bound and comes back to the next.
    let bytes = "{\"a\":[\n".repeat(100).into_bytes();
    let filler = "{},\n".repeat(1 << 18).into_bytes();
    let mut splitter = Splitter::default();
    let (mut fed, mut pieces) = (0, 0);
    for _ in 0..20 {
        for part in [&bytes, &filler] {
            fed += part.len() as u64;
            splitter.push(part);
            while splitter.next_piece().is_some() {
                pieces += 1;
            }
        }
    }
    assert!(pieces > 0);
    assert!(splitter.reread <= REREAD_BYTES_FREE + REREAD_FACTOR * fed);
}

#[test]
fn any_bytes_are_taken() {
    // A small generator is enough: what matters is that brackets, quotes and names meet in every
    // order.
    let words: [&[u8]; 16] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b",",
        b":",
        b"\n",
        b" ",
        b"\"eventName\":",
        b"\"Records\":",
        b"\"message\":",
        b"\"{\\\"eventTime\\\":1}\"",
        b"\xef\xbb\xbf",
        b"a\x00\xff",
    ];
    let mut state = 1u64;
    for round in 0..3_000 {
        let mut bytes = Vec::new();
        for _ in 0..60 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(words[(state >> 60) as usize]);
        }
        let run = |chunk| {
            let (mut splitter, mut out) = (Splitter::default(), Vec::new());
            let mut take = |splitter: &mut Splitter| {
                while let Some(piece) = splitter.next_piece() {
                    out.push(format!("{piece:?}"));
                }
            };
            for part in bytes.chunks(chunk) {
                splitter.push(part);
                take(&mut splitter);
            }
            splitter.end();
            take(&mut splitter);
            out
        };
        assert_eq!(run(3), run(1_000), "round {round}");
    }
}

/// One byte changed anywhere in the middle event may cost that event, never its neighbours.
#[test]
fn a_changed_byte_costs_at_most_its_event() {
    let (one, two, three) = (event(1), event(2), event(3));
    for (name, before, after) in [
        ("lines", format!("{one}\n"), format!("\n{three}\n")),
        (
            "records",
            format!(r#"{{"Records":[{one},"#),
            format!(",{three}]}}"),
        ),
    ] {
        for at in 0..two.len() {
            for byte in *b"\0\n\"\\{}[],:x" {
                let mut middle = two.clone().into_bytes();
                middle[at] = byte;
                let bytes = [before.as_bytes(), &middle, after.as_bytes()].concat();
                let mut splitter = Splitter::default();
                splitter.push(&bytes);
                splitter.end();
                let (mut found, mut pieces) = (Vec::new(), 0);
                while let Some(piece) = splitter.next_piece() {
                    pieces += 1;
                    if let Piece::Event(event) = piece {
                        found.push(event.json.to_vec());
                    }
                }
                let mutated = String::from_utf8_lossy(&middle);
                assert!(
                    found.contains(&one.clone().into_bytes()),
                    "{name}: {mutated}"
                );
                assert!(
                    found.contains(&three.clone().into_bytes()),
                    "{name}: {mutated}"
                );
                assert!(pieces <= 6, "{name}: {mutated}");
            }
        }
    }
}
