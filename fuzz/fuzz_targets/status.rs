//! What an agent answers over its socket: whoever asks takes nothing for a status that is none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_agent::status::Status;

fuzz_target!(|line: &str| {
    if let Ok(status) = serde_json::from_str::<Status>(line) {
        let again = serde_json::to_string(&status).expect("a status is JSON");
        let read: Status = serde_json::from_str(&again).expect("our own JSON");
        assert_eq!(read, status);
    }
});
