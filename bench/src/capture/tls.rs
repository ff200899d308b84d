//! A ClientHello as a browser sends it, RFC 8446 section 4.1.2, for decoders to work on.

/// The record, for a server name.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let mut extensions = Vec::with_capacity(256);
    // server_name: a list of one host_name.
    let host = [
        &[0][..],
        &(name.len() as u16).to_be_bytes(),
        name.as_bytes(),
    ]
    .concat();
    extension(&mut extensions, 0, &listed(&host));
    // supported_groups: x25519, secp256r1, secp384r1.
    extension(&mut extensions, 10, &listed(&[0, 0x1d, 0, 0x17, 0, 0x18]));
    // signature_algorithms.
    extension(
        &mut extensions,
        13,
        &listed(&[4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1]),
    );
    // application_layer_protocol_negotiation: h2, http/1.1.
    extension(&mut extensions, 16, &listed(b"\x02h2\x08http/1.1"));
    // supported_versions: 1.3, 1.2.
    extension(&mut extensions, 43, &[4, 3, 4, 3, 3]);
    // psk_key_exchange_modes.
    extension(&mut extensions, 45, &[1, 1]);
    // key_share: x25519.
    let share = [&[0, 0x1d, 0, 32][..], &[0x42; 32]].concat();
    extension(&mut extensions, 51, &listed(&share));

    let mut hello = vec![3, 3];
    hello.extend([0x17; 32]);
    // A session id of 32 bytes.
    hello.push(32);
    hello.extend([0x23; 32]);
    let ciphers = [
        0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30,
    ];
    hello.extend(listed(&ciphers));
    hello.extend([1, 0]);
    hello.extend(listed(&extensions));

    let length = hello.len() as u16;
    let mut record = vec![0x16, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(hello);
    record
}

fn extension(out: &mut Vec<u8>, kind: u16, content: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(listed(content));
}

/// Content with its length before it.
fn listed(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}
