//! An EC2 instance identity: whatever is changed, either it is refused or it says what was signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_detect::identity::{Certificate, Document, verify};

const HERE: &[u8] = include_bytes!("../../collector/detect/src/identity/testdata/here.der");
const DOCUMENT: &[u8] = include_bytes!("../../collector/detect/src/identity/testdata/document.json");

fuzz_target!(|bytes: &[u8]| {
    let here = Certificate::read("eu-central-1", HERE).expect("our own certificate");
    let signed = Document::read(DOCUMENT).expect("our own document");
    if let Ok(believed) = verify(bytes, std::slice::from_ref(&here)) {
        assert_eq!(believed, signed);
    }
    let _ = Document::read(bytes);
    if let Ok(certificate) = Certificate::read("eu-central-1", bytes) {
        let _ = certificate.is_self_signed(bytes);
    }
});
