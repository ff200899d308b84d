//! GuardDuty's findings: any bytes as a finding, an event, or a list of findings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_detect::logs::Reported;

fuzz_target!(|bytes: &[u8]| {
    for one in Reported::parse(bytes).into_iter().flatten().flatten() {
        assert!(one.first_ns <= one.last_ns);
        assert!((0.0..=10.0).contains(&one.severity));
        let again = Reported::parse(&one.to_bytes()).expect("what was kept is a finding");
        let again = again
            .into_iter()
            .next()
            .expect("one of them")
            .expect("the same");
        assert_eq!(
            (again.id, again.type_name, again.last_ns),
            (one.id, one.type_name, one.last_ns)
        );
    }
});
