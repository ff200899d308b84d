//! Rules against events: a table per modifier, the faults, correlations, filters, and what is shared.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fault::Why;
use super::testing::{good, load, matches, rule};
use super::{Placeholders, RuleSet};

/// An event in which rules can be wrong in many ways.
fn event() -> Value {
    json!({
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateAccessKey",
        "eventTime": "2026-11-22T16:38:05Z",
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "10.1.2.3",
        "userAgent": "aws-cli/2.0 Python/3.11 \"quoted\" C:\\path",
        "errorCode": null,
        "readOnly": false,
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/Eve",
            "userName": "Eve"},
        "requestParameters": {"userName": "eve", "count": 12, "empty": "", "text": "-enc cwBoAA==",
            "tags": [{"key": "a", "value": "one"}, {"key": "b", "value": "Two"}],
            "policy": "{\"Action\":\"s3:GetObject\"}", "none": null,
            "dotted.key": "d", "ipv6": "2001:db8::5", "mapped": "::ffff:10.9.9.9", "long": "äÖ line\nend"},
    })
}

/// Checks a detection whose condition is its one search.
#[track_caller]
fn check(fields: &str, expected: bool) {
    let detection = format!("s:\n    {fields}\n  condition: s");
    let rules = good(&rule("t", &detection));
    assert_eq!(
        matches(&rules, &event()).len(),
        usize::from(expected),
        "{fields}"
    );
}

#[track_caller]
fn yes(fields: &str) {
    check(fields, true);
}

#[track_caller]
fn no(fields: &str) {
    check(fields, false);
}

#[test]
fn plain_values() {
    yes("eventName: CreateAccessKey");
    yes("eventName: createaccesskey");
    no("eventName: CreateAccess");
    yes("eventName: [DeleteUser, CreateAccessKey]");
    no("eventName: [DeleteUser, CreateUser]");
    yes("{eventName: CreateAccessKey, eventSource: iam.amazonaws.com}");
    no("{eventName: CreateAccessKey, eventSource: ec2.amazonaws.com}");
    yes("requestParameters.count: 12");
    yes("requestParameters.count: '12'");
    no("requestParameters.count: 1");
    yes("readOnly: false");
    yes("readOnly: 'False'");
    yes("readOnly|cased: False");
    no("readOnly: true");
    no("EventName: CreateAccessKey");
}

#[test]
fn wildcards_and_escapes() {
    yes("eventName: Create*");
    yes("eventName: '*key'");
    yes("eventName: C*Access*y");
    no("eventName: C*access*x");
    yes("eventName: 'CreateAccessKe?'");
    no("eventName: 'CreateAccessKey?'");
    yes(r"userAgent: '*c:\path'");
    yes(r"userAgent: '*c:\\path'");
    no(r"userAgent: '*c:\\\\path'");
    no(r"eventName: 'Create\*'");
    yes("requestParameters.long: 'ÄÖ*'");
    yes("requestParameters.long: 'äö line?END'");
}

#[test]
fn contains_startswith_endswith() {
    yes("eventName|contains: ACCESS");
    no("eventName|contains: secret");
    yes("eventName|startswith: create");
    no("eventName|startswith: access");
    yes("eventName|endswith: KEY");
    no("eventName|endswith: access");
    yes("eventName|contains: [nothing, Key]");
    yes("eventName|contains|all: [Create, Key]");
    no("eventName|contains|all: [Create, User]");
    yes("eventName|contains: 'a*k'");
    yes("requestParameters.long|contains: 'Ö LINE'");
    yes("requestParameters.count|contains: 2");
    no("requestParameters.absent|contains: '*'");
    yes("requestParameters.text|contains: '*'");
    yes("requestParameters.empty|contains: '*'");
}

#[test]
fn upper_and_lower_case() {
    yes("eventName|cased: CreateAccessKey");
    no("eventName|cased: createAccessKey");
    yes("eventName|contains|cased: Access");
    no("eventName|contains|cased: access");
    yes("requestParameters.long|startswith|cased: äÖ");
    no("requestParameters.long|startswith|cased: äö");
    no("eventName|cased: 'c*Key?'");
    yes("eventName|cased: 'C*Ke?'");
}

#[test]
fn regular_expressions() {
    yes("eventName|re: '^Create.*Key$'");
    no("eventName|re: '^create.*key$'");
    yes("eventName|re|i: '^create.*key$'");
    yes("eventName|re: Access");
    yes("requestParameters.long|re|m: '^end$'");
    no("requestParameters.long|re: '^end$'");
    yes("requestParameters.long|re|s: 'line.end'");
    no("requestParameters.long|re: 'line.end'");
    yes("eventName|re: ['^X', 'Key$']");
    no("eventName|re|all: ['^X', 'Key$']");
}

#[test]
fn networks() {
    yes("sourceIPAddress|cidr: 10.0.0.0/8");
    yes("sourceIPAddress|cidr: 10.1.2.3/32");
    no("sourceIPAddress|cidr: 10.1.2.4/31");
    yes("sourceIPAddress|cidr: 0.0.0.0/0");
    no("sourceIPAddress|cidr: '::/0'");
    yes("requestParameters.ipv6|cidr: '2001:db8::/32'");
    no("requestParameters.ipv6|cidr: '2001:db9::/32'");
    yes("requestParameters.mapped|cidr: 10.9.0.0/16");
    no("eventName|cidr: 0.0.0.0/0");
    yes("sourceIPAddress|cidr: [192.0.2.0/24, 10.1.0.0/16]");
}

#[test]
fn numbers() {
    yes("requestParameters.count|gt: 11");
    no("requestParameters.count|gt: 12");
    yes("requestParameters.count|gte: 12");
    no("requestParameters.count|gte: 12.5");
    yes("requestParameters.count|lt: 12.5");
    no("requestParameters.count|lt: 12");
    yes("requestParameters.count|lte: 12");
    no("requestParameters.count|lte: -12");
    no("eventName|gte: 0");
    no("requestParameters.absent|lt: 5");
}

#[test]
fn parts_of_times() {
    yes("eventTime|hour: 16");
    no("eventTime|hour: 17");
    yes("eventTime|minute: [1, 38]");
    yes("eventTime|day: 22");
    yes("eventTime|week: 47");
    yes("eventTime|month: 11");
    yes("eventTime|year: 2026");
    yes("eventTime|hour|gte: 16");
    no("eventTime|hour|lt: 16");
    no("eventName|hour: 16");
}

#[test]
fn null_and_exists() {
    yes("errorCode: null");
    yes("errorCode:");
    yes("errorMessage: ~");
    no("eventName: null");
    yes("requestParameters.none: null");
    no("requestParameters.empty: null");
    yes("requestParameters.empty: ''");
    no("eventName: ''");
    no("errorMessage: ''");
    yes("errorCode: [null, AccessDenied]");
    no("eventName: [null, DeleteUser]");
    yes("errorCode|exists: true");
    yes("eventName|exists: true");
    no("eventName|exists: false");
    yes("errorMessage|exists: false");
    no("errorMessage|exists: true");
    yes("requestParameters.none|exists: true");
    yes("requestParameters.dotted.key|exists: true");
}

#[test]
fn not_equal() {
    yes("eventName|neq: DeleteUser");
    no("eventName|neq: createaccesskey");
    yes("eventName|neq: [DeleteUser, CreateUser]");
    no("eventName|neq: [DeleteUser, CreateAccessKey]");
    yes("requestParameters.count|neq: 13");
    no("requestParameters.count|neq: 12");
    yes("userIdentity.userName|fieldref|neq: eventName");
    no("userIdentity.userName|fieldref|neq: requestParameters.userName");
    no("errorCode|neq: null");
}

#[test]
fn other_fields() {
    yes("userIdentity.userName|fieldref: requestParameters.userName");
    no("userIdentity.userName|fieldref|cased: requestParameters.userName");
    no("userIdentity.userName|fieldref: eventName");
    yes("userIdentity.arn|fieldref|endswith: requestParameters.userName");
    yes("userIdentity.arn|fieldref|contains: userIdentity.userName");
    no("userIdentity.arn|fieldref|startswith: userIdentity.userName");
    no("requestParameters.absent|fieldref: requestParameters.gone");
}

#[test]
fn encodings() {
    // "sh" in UTF-16 is s\0h\0.
    yes("requestParameters.text|wide|base64|contains: sh");
    no("requestParameters.text|base64|contains: sh");
    yes("requestParameters.text|utf16le|base64offset|contains: s");
    no("requestParameters.text|utf16be|base64|contains: sh");
    let of_text = |text: &str| json!({"eventName": text});
    let offset = good(&rule(
        "t",
        "s:\n    eventName|base64offset|contains: PassRole\n  condition: s",
    ));
    for text in ["UGFzc1JvbGU=", "eFBhc3NSb2xl", "eHhQYXNzUm9sZXk="] {
        assert_eq!(matches(&offset, &of_text(text)), ["t"], "{text}");
    }
    assert_eq!(matches(&offset, &of_text("UGFzc1VzZXI=")), [""; 0]);
    yes("requestParameters.text|windash|startswith: '/enc'");
    no("requestParameters.text|startswith: '/enc'");
    yes("requestParameters.text|contains|windash: '–enc'");
}

#[test]
fn lists_within_events() {
    yes("requestParameters.tags.value: two");
    yes("requestParameters.tags.value|contains|all: [on, tw]");
    no("requestParameters.tags.value: three");
    yes("requestParameters.dotted.key: d");
    yes("requestParameters|contains: 's3:GetObject'");
    yes(r#"requestParameters|contains: '"Action":"s3:GetObject"'"#);
    no("requestParameters|contains: 's3:PutObject'");
}

#[test]
fn keywords() {
    yes("- s3:getobject");
    yes("- two");
    no("- CreateUser");
    yes("'|all': [eve, two]");
    no("'|all': [eve, three]");
    yes("- 'create*key'");
    yes("- eventName: DeleteUser\n    - eventName: CreateAccessKey");
    no("- eventName: DeleteUser\n    - eventName: CreateUser");
    yes("- nothing\n    - eventName: CreateAccessKey");
    yes("'|re': 'Access[A-Z]'");
}

#[test]
fn conditions_over_searches() {
    let text = rule(
        "t",
        "selection:\n    eventName: CreateAccessKey\n  filter_main_a:\n    userIdentity.type: Root\n  \
         filter_main_b:\n    awsRegion: eu-west-1\n  condition: selection and not 1 of filter_main_*",
    );
    let rules = good(&text);
    assert_eq!(matches(&rules, &event()), [""; 0]);
    let mut other = event();
    other["awsRegion"] = "us-east-1".into();
    assert_eq!(matches(&rules, &other), ["t"]);
    let any = rule(
        "t",
        "a:\n    eventName: X\n  b:\n    awsRegion: eu-west-1\n  condition: [a, b]",
    );
    assert_eq!(matches(&good(&any), &event()), ["t"]);
}

#[test]
fn placeholders() {
    let text = rule(
        "t",
        "s:\n    userIdentity.userName|expand: '%people%'\n  condition: s",
    );
    let fault = load(&text).faults.remove(0);
    assert_eq!(
        fault.why,
        Why::Unsupported("placeholder %people% without values".into())
    );
    let mut values = Placeholders::new();
    values.insert("people".into(), vec!["bob".into(), "eve".into()]);
    let loaded = RuleSet::load([("f", &*text)], &values);
    assert_eq!(matches(&loaded.rules, &event()), ["t"]);
}

#[track_caller]
fn check_fault(text: &str, line: usize, words: &[&str]) {
    let loaded = load(text);
    let fault = loaded.faults.first().unwrap();
    let told = fault.to_string();
    for word in words {
        assert!(told.contains(word), "{told} lacks {word}");
    }
    assert_eq!(fault.line, line, "{told}");
    assert!(loaded.rules.is_empty());
}

#[test]
fn what_cannot_be_in_force_is_named_with_its_place() {
    let of = |fields: &str| rule("t", &format!("s:\n    {fields}\n  condition: s"));
    check_fault(
        &of("a|nonsense: b"),
        8,
        &["test.yml:8: rule t:", "nonsense", "not supported"],
    );
    check_fault(&of("a|re: '(?=x)'"), 8, &["(?=x)", "not supported"]);
    check_fault(&of("a|re: 'a{1000}{1000}'"), 8, &["not supported"]);
    check_fault(&of("a|cidr: x"), 8, &["no network"]);
    check_fault(&of("a|gt: x"), 8, &["no number"]);
    check_fault(&of("a|exists: x"), 8, &["true or false"]);
    check_fault(&of("a|contains|startswith: x"), 8, &["two of"]);
    check_fault(&of("a|re|contains: x"), 8, &["no text"]);
    check_fault(&of("a|re|cidr: x"), 8, &["otherwise"]);
    check_fault(&of("a|i: x"), 8, &["without re"]);
    check_fault(&of("a|base64: 'x*'"), 8, &["wildcards"]);
    check_fault(&of("a|wide: é"), 8, &["not supported"]);
    check_fault(&of("a: []"), 8, &["empty list"]);
    check_fault(&of("a: {b: c}"), 8, &["value is expected"]);
    check_fault(&of("'|cidr': 10.0.0.0/8"), 8, &["keyword"]);
    check_fault(
        &rule("t", "s:\n    a: b\n  condition: s | count() > 5"),
        9,
        &["aggregation"],
    );
    check_fault(
        &rule("t", "s:\n    a: b\n  timeframe: 5m\n  condition: s"),
        9,
        &["timeframe"],
    );
    check_fault(&rule("t", "s:\n    a: b"), 7, &["no condition"]);
    check_fault(&rule("t", "s:\n    a: b\n  condition: 1 of x*"), 9, &["x*"]);
    check_fault(
        "title: t\naction: global\n",
        2,
        &["action: global", "not supported"],
    );
    check_fault("title: t\n", 1, &["logsource"]);
    check_fault("- a\n", 1, &["no map"]);
    check_fault(
        &of("a: b").replace("service: cloudtrail", "service: route53"),
        4,
        &["aws route53", "not supported"],
    );
    check_fault(
        &of("a: b").replace("product: aws", "category: process_creation"),
        4,
        &["process_creation"],
    );
    let leveled = format!("level: severe\n{}", of("a: b"));
    check_fault(&leveled, 1, &["severe"]);
    check_fault(
        &of(&format!("a{}: b", ".b".repeat(20))),
        8,
        &["names in a field"],
    );
}

#[test]
fn a_bad_rule_does_not_stop_the_others() {
    let good = rule("good", "s:\n    eventName: CreateAccessKey\n  condition: s");
    let bad = rule("bad", "s:\n    eventName|odd: x\n  condition: s");
    let text = format!("{bad}---\n{good}---\n{}", good.replace("good", "other"));
    let loaded = load(&text);
    assert_eq!(loaded.faults.len(), 1);
    assert_eq!(loaded.faults[0].rule.as_deref(), Some("bad"));
    assert_eq!(matches(&loaded.rules, &event()), ["good", "other"]);
    let named = format!("id: one\n{good}");
    let twice = load(&format!("{named}---\n{named}"));
    assert_eq!(twice.rules.rules().len(), 1);
    assert!(
        twice.faults[0]
            .to_string()
            .contains("another rule has this id")
    );
}

#[test]
fn filters_narrow_the_rules_they_name() {
    let first = rule(
        "first",
        "s:\n    eventName: CreateAccessKey\n  condition: s",
    );
    let second = first.replace("first", "second");
    let filter = |rules: &str| {
        format!(
            "title: ours\nlogsource:\n  product: aws\n  service: cloudtrail\nfilter:\n  rules: {rules}\n  \
             known:\n    userIdentity.userName: eve\n  condition: not known\n"
        )
    };
    let all = |rules: &str| good(&format!("{first}---\n{second}---\n{}", filter(rules)));
    assert_eq!(matches(&all("[first]"), &event()), ["second"]);
    assert_eq!(matches(&all("any"), &event()), [""; 0]);
    let mut other = event();
    other["userIdentity"]["userName"] = "bob".into();
    assert_eq!(matches(&all("[first]"), &other), ["first", "second"]);
    let loaded = load(&format!("{first}---\n{}", filter("[third]")));
    assert!(loaded.faults[0].to_string().contains("third"));
}

#[test]
fn rules_share_their_tests_and_are_met_by_what_they_can_match_alone() {
    let mut text = String::new();
    for number in 0..200 {
        text.push_str(&rule(
            &format!("r{number}"),
            &format!(
                "s:\n    eventSource: iam.amazonaws.com\n    eventName: [Call{number}, CreateAccessKey]\n    \
                 userAgent|contains: aws-cli\n  condition: s"
            ),
        ));
        text.push_str("---\n");
    }
    text.push_str(&rule(
        "loose",
        "s:\n    userAgent|contains: aws-cli\n  condition: s",
    ));
    let rules = good(&text);
    // 200 names, one name, one source and one agent that all have.
    assert_eq!(rules.program.tests(), 203);
    assert_eq!(rules.program.always(), 1);
    assert_eq!(matches(&rules, &event()).len(), 201);
}

#[test]
fn a_negated_or_optional_value_does_not_hide_a_rule() {
    let rules = good(
        &[
            rule("not", "s:\n    eventName: X\n  condition: not s"),
            rule(
                "either",
                "a:\n    eventName: X\n  b:\n    userAgent|contains: cli\n  condition: a or b",
            ),
            rule("absent", "s:\n    errorCode: [null, X]\n  condition: s"),
            rule("empty", "s:\n    errorMessage: ''\n  condition: not s"),
            rule("glob", "s:\n    eventName: 'Create*'\n  condition: s"),
            rule(
                "both",
                "a:\n    eventName: CREATEACCESSKEY\n  b:\n    eventName: Y\n  condition: a or b",
            ),
        ]
        .join("---\n"),
    );
    assert_eq!(
        matches(&rules, &event()),
        ["not", "either", "absent", "empty", "glob", "both"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any text is read or refused, and what is in force can be asked.
    #[test]
    fn any_text_is_read_or_refused(text in "[-a-z:|*?\\\\'\"\\[\\]{}&!#% \n]{0,200}") {
        let loaded = load(&text);
        matches(&loaded.rules, &event());
        let wrapped = load(&rule("t", &format!("s: {}\n  condition: s", text.replace('\n', "\n    "))));
        matches(&wrapped.rules, &event());
    }

    /// Bytes of a good rule that change make another rule or none, and no panic.
    #[test]
    fn a_damaged_rule_is_a_rule_or_a_fault(at in 0usize..400, by in any::<u8>()) {
        let text = rule("t", "s:\n    a|contains|all: ['*x?', \"y\"]\n    b|re|i: '^a+$'\n    \
            c|base64offset|contains: abc\n  f:\n    - d: null\n    - e|cidr: 10.0.0.0/8\n  \
            condition: s and not (1 of f* or all of them)");
        let mut bytes = text.into_bytes();
        let at = at % bytes.len();
        bytes[at] = by;
        let loaded = load(&String::from_utf8_lossy(&bytes));
        prop_assert!(loaded.rules.rules().len() + loaded.faults.len() >= 1);
        matches(&loaded.rules, &event());
    }

    /// A text fits itself, escaped, whatever it holds, and what it is compared with by the automaton
    /// is what a plain comparison says.
    #[test]
    fn compiled_patterns_say_what_plain_ones_say(
        word in "[aAbÄä*?\\\\ -]{0,6}", text in "[aAbBÄä*?\\\\ -]{0,10}", cased in any::<bool>(), place in 0..4
    ) {
        use super::pattern::{Part, Pattern};
        let modifier = ["", "|contains", "|startswith", "|endswith"][place as usize];
        let modifier = format!("{modifier}{}", if cased { "|cased" } else { "" });
        let quoted = serde_json::to_string(&word).unwrap();
        let rules = good(&rule("t", &format!("s:\n    x{modifier}: {quoted}\n  condition: s")));
        let mut parts = Pattern::parse(&word);
        if matches!(place, 1 | 3) { parts.insert(0, Part::Many); }
        if matches!(place, 1 | 2) { parts.push(Part::Many); }
        let expected = Pattern::new(parts, cased).fits(&text);
        let event = json!({"x": text});
        prop_assert_eq!(!matches(&rules, &event).is_empty(), expected);
    }
}

/// The public rules for CloudTrail, where they are at hand: every one loads as it is.
#[test]
fn the_public_rules_load_unedited() {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        Into::into,
    );
    let folder = shared.join("data/sigma-aws/cloudtrail");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no {}", folder.display());
        return;
    };
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    let count = files.len();
    let texts = files.iter().map(|(name, text)| (&**name, &**text));
    let loaded = RuleSet::load(texts, &Placeholders::new());
    assert_eq!(loaded.faults, []);
    assert_eq!(loaded.rules.rules().len(), count);
    // All but a few are met by the events they name alone.
    assert!(
        loaded.rules.program.always() <= 2,
        "{}",
        loaded.rules.program.always()
    );
}
