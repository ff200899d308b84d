//! Logs of databases: any lines as PostgreSQL's and MySQL's logs, and as what CloudWatch Logs wraps.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use picket_detect::logs::rds::{Cut, Export, Objects};
use picket_detect::logs::{Database, Login, LoginReader};

fuzz_target!(|bytes: &[u8]| {
    let mut reader = LoginReader::new(Database::default());
    let mut logins = Vec::new();
    let mut lines = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        lines += 1;
        let _ = reader.line(line, &mut logins);
    }
    reader.finish(&mut logins);
    assert!(
        logins.len() <= lines,
        "a line tells of one connection at most"
    );
    for login in logins {
        let json = serde_json::to_vec(&login).expect("a login is written");
        let read: Login = serde_json::from_slice(&json).expect("what was written is read");
        assert_eq!(read, login);
    }
    let cut = |part: usize| {
        let mut objects = Objects::default();
        let mut told: Vec<Vec<u8>> = Vec::new();
        let mut each = |_, cut: Cut<'_>| -> Result<(), Infallible> {
            if let Cut::Object(json) = cut {
                let _ = Export::parse(json);
                told.push(json.to_vec());
            }
            Ok(())
        };
        for part in bytes.chunks(part) {
            let Ok(()) = objects.push(part, &mut each);
        }
        let Ok(()) = objects.finish(&mut each);
        told
    };
    assert_eq!(cut(1), cut(4_096), "however the stream is cut");
});
