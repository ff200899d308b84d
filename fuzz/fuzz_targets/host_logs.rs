//! Logs about hosts: any lines as VPC flow logs and as resolver query logs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_detect::logs::{Columns, FlowLine, Gather, Query};
use picket_wire::Summary;

fuzz_target!(|bytes: &[u8]| {
    let mut columns = Columns::default();
    let mut gather = Gather::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(query) = Query::parse(line) {
            gather.query(query);
        }
        let line = String::from_utf8_lossy(line);
        if let Some(Ok(named)) = Columns::named(&line) {
            columns = named;
        }
        if let Ok(FlowLine::Record(record)) = columns.read(&line) {
            gather.flow(*record);
        }
    }
    for summary in gather.take() {
        let bytes = summary.to_bytes();
        let read = Summary::from_bytes(&bytes).expect("what is gathered is a summary");
        assert_eq!(read.to_bytes(), bytes);
    }
});
