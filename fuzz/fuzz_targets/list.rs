//! Indicator lists: any bytes under any list's name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_intel::SetBuilder;

fuzz_target!(|bytes: &[u8]| {
    for file in ["c2-ips.txt", "custom-domains.txt"] {
        let mut builder = SetBuilder::default();
        let report = builder
            .read_file(file, bytes)
            .expect("a known name and a small file");
        let set = builder.build();
        assert_eq!(set.len(), report.taken);
    }
});
