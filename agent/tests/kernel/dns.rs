//! DNS messages that we make.

/// A name as it stands in a message.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A message with these flags that asks one question of type A.
pub(crate) fn message(flags: u16, name: &[u8]) -> Vec<u8> {
    let flags = flags.to_be_bytes();
    let header = [0x12, 0x34, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], name, &[0, 1, 0, 1]].concat()
}

/// A query for a name, recursion desired.
pub(crate) fn query(name: &str) -> Vec<u8> {
    message(0x0100, &wire(name))
}

/// A message with its length before it, as TCP has it.
pub(crate) fn over_tcp(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&length.to_be_bytes()[..], message].concat()
}
