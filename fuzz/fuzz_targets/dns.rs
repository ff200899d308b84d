//! DNS messages: names that read back, and no contradiction to hickory-proto where it can read them.
#![no_main]

use hickory_proto::op::{Message as Theirs, MessageType};
use libfuzzer_sys::fuzz_target;
use picket_fuzz::told;
use picket_sense::decode::dns::{Message, Service};

fuzz_target!(|bytes: &[u8]| {
    let ours = Message::read(Service::Dns, bytes);
    if let Ok(message) = &ours {
        told::dns(message);
    }
    let Ok(theirs) = Theirs::from_vec(bytes) else {
        return;
    };
    let ours = ours.expect("hickory-proto reads it");
    assert_eq!(ours.id, theirs.metadata.id);
    let response = theirs.metadata.message_type == MessageType::Response;
    assert_eq!(ours.response, response);
    let asked = ours.question.as_ref().map(|one| {
        let labels: Vec<&[u8]> = one.name.labels().collect();
        (labels.concat(), one.kind.0)
    });
    let their_question = theirs.queries.first().map(|one| {
        let labels: Vec<Vec<u8>> = one.name().iter().map(<[u8]>::to_ascii_lowercase).collect();
        (labels.concat(), one.query_type().into())
    });
    assert_eq!(asked, their_question);
});
