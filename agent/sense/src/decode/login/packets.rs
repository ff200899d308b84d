//! Servers that answer in packets.
//!
//! ```text
//! MySQL       | length (3, little) | number | 0x0a, version …     greeting
//!             | length | number | 0xff | code (2, little) | …     refused: 1045, 1698
//!             | length | number | 0x00 | …                        granted
//! PostgreSQL  | 'R' | length (4) | kind (4) | …                   kind 0: granted
//!             | 'E' | length (4) | fields: letter, text, 0 | 0 |  field C: 28P01, 28000
//! VNC         "RFB 003.00x\n" | count | kinds | challenge (16) | result (4)
//! SMB         | 0 | length (3) | 0xff or 0xfe "SMB" | … command, status …
//! RDP         | 3 | 0 | length (2) | rest | 0xd0 | …              X.224 Connection Confirm
//! ```
//!
//! MySQL: "Connection Phase" of its internals manual; PostgreSQL: "Message Formats" of its manual, and its
//! table of error codes; VNC: RFC 6143 7.1; SMB: MS-CIFS 2.2.3.1, MS-SMB2 2.2.1; RDP: MS-RDPBCGR 2.2.1.2.

use super::{ANSWERS_MAX, Outcome, Service, told};
use crate::decode::Decoded;
use crate::decode::bytes::Bytes;
use crate::decode::stream::{Claim, Step, StreamProtocol, StreamView};

/// Bytes of an answer that is looked into, and of the longest that is passed over. Errors are shorter than the
/// first, and nothing before a login is longer than the second. Chosen by hand.
const ERROR_BYTES_MAX: usize = 4_096;
const PACKET_BYTES_MAX: usize = 64 << 10;

const MYSQL_GREETING: u8 = 0x0a;
const MYSQL_ERROR: u8 = 0xff;
/// `ER_ACCESS_DENIED_ERROR`, `ER_ACCESS_DENIED_NO_PASSWORD_ERROR`.
const MYSQL_DENIED: [u16; 2] = [1_045, 1_698];

/// The highest kind of request for authentication, `AuthenticationSASLFinal`.
const POSTGRES_KIND_MAX: u32 = 12;
/// `invalid_password`, `invalid_authorization_specification`.
const POSTGRES_DENIED: [&[u8]; 2] = [b"28P01", b"28000"];

const VNC_START: &[u8] = b"RFB 003.0";
const VNC_VERSION_BYTES: usize = 12;
const VNC_CHALLENGE_BYTES: usize = 16;
/// The security type "VNC Authentication" (RFC 6143 7.2.2).
const VNC_PASSWORD: u8 = 2;

/// Header of the transport, and of what is read of a message behind it.
const SMB_TRANSPORT_BYTES: usize = 4;
const SMB_HEAD_BYTES: usize = 20;
const SMB1_SESSION_SETUP: u8 = 0x73;
const SMB2_SESSION_SETUP: u16 = 1;
/// Statuses of NT that refuse a login (MS-ERREF 2.3.1): no such user, wrong password, logon failure, account
/// restriction, hours, workstation, password expired, disabled, locked out.
const SMB_DENIED: [u32; 9] = [
    0xc000_0064,
    0xc000_006a,
    0xc000_006d,
    0xc000_006e,
    0xc000_006f,
    0xc000_0070,
    0xc000_0071,
    0xc000_0072,
    0xc000_0234,
];

/// Any of them: known by how the server begins.
pub(in crate::decode) struct Packets;

impl StreamProtocol for Packets {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        // A client begins alike in some of them.
        if !view.first || view.src.port >= view.dst.port {
            return Claim::No;
        }
        match *view.bytes {
            [b'R', b'F', ..] => of_vnc(view.bytes),
            [0, ..] => of_smb(view.bytes),
            [3] | [3, 0] | [3, 0, 0] | [3, 0, 0, _] | [3, 0, 0, _, _] => Claim::Unsure,
            [3, 0, 0, _, _, 0xd0, ..] => Claim::Yes,
            [b'N' | b'R' | b'E'] | [b'N', b'R' | b'E'] => Claim::Unsure,
            [b'N', ref rest @ ..] => match of_postgres(rest) {
                Claim::No => of_mysql(view.bytes),
                claim => claim,
            },
            [b'R' | b'E', 0, ..] => match of_postgres(view.bytes) {
                Claim::No => of_mysql(view.bytes),
                claim => claim,
            },
            _ => of_mysql(view.bytes),
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        if view.messages >= ANSWERS_MAX {
            return Step::Leave;
        }
        let answer = match view.bytes {
            [b'R', b'F', ..] if view.first => vnc(view.bytes),
            [3, ..] if view.first => Answer::Last(Service::Rdp, Outcome::Asked),
            [b'N', ..] if view.first && of_mysql(view.bytes) == Claim::No => Answer::Took(1),
            [0, ..] => smb(view.bytes),
            [b'R' | b'E', ..] => match of_postgres(view.bytes) {
                Claim::Unsure => Answer::Wait,
                Claim::Yes => postgres(view.bytes),
                _ => mysql(view.bytes),
            },
            _ => mysql(view.bytes),
        };
        match answer {
            Answer::Wait => Step::Wait,
            Answer::Over => Step::Leave,
            Answer::Took(count) => Step::Took(count),
            Answer::Refused(service, count) => {
                out(told(service, Outcome::Failed));
                Step::Took(count)
            }
            Answer::Last(service, outcome) => {
                out(told(service, outcome));
                Step::Leave
            }
        }
    }
}

/// What a packet says.
enum Answer {
    Wait,
    Over,
    /// Nothing of a login, in so many bytes.
    Took(usize),
    /// A login was refused, in so many bytes; others may follow.
    Refused(Service, usize),
    /// Nothing follows.
    Last(Service, Outcome),
}

fn of_mysql(bytes: &[u8]) -> Claim {
    match *bytes {
        [_] | [_, 0] | [_, 0, 0] | [_, 0, 0, 0] | [_, 0, 0, 0, MYSQL_GREETING] => Claim::Unsure,
        [_, 0, 0, 0, MYSQL_GREETING, b'0'..=b'9', ..] => Claim::Yes,
        _ => Claim::No,
    }
}

fn mysql(bytes: &[u8]) -> Answer {
    let Some(&[a, b, c, number]) = bytes.first_chunk::<4>() else {
        return Answer::Wait;
    };
    let taken = 4 + u32::from_le_bytes([a, b, c, 0]) as usize;
    if taken > PACKET_BYTES_MAX || taken == 4 {
        return Answer::Over;
    }
    let body = bytes.get(4..).unwrap_or_default();
    match *body {
        [] => Answer::Wait,
        _ if number == 0 => Answer::Took(taken),
        [MYSQL_ERROR] | [MYSQL_ERROR, _] => Answer::Wait,
        [MYSQL_ERROR, low, high, ..] => {
            if MYSQL_DENIED.contains(&u16::from_le_bytes([low, high])) {
                Answer::Refused(Service::Mysql, taken)
            } else {
                Answer::Over
            }
        }
        [0, ..] => Answer::Last(Service::Mysql, Outcome::Succeeded),
        _ => Answer::Took(taken),
    }
}

fn of_postgres(bytes: &[u8]) -> Claim {
    let mut fields = Bytes::new(bytes);
    let (Some(letter), Some(length)) = (fields.u8(), fields.u32()) else {
        let front = bytes.get(1..).unwrap_or_default();
        let small = front.iter().take(2).all(|byte| *byte == 0);
        return if small { Claim::Unsure } else { Claim::No };
    };
    if length < 8 || length as usize > ERROR_BYTES_MAX {
        return Claim::No;
    }
    match letter {
        b'R' => match fields.u32() {
            Some(kind) if kind <= POSTGRES_KIND_MAX => Claim::Yes,
            Some(_) => Claim::No,
            None => Claim::Unsure,
        },
        b'E' => match fields.u8() {
            Some(b'S') => Claim::Yes,
            Some(_) => Claim::No,
            None => Claim::Unsure,
        },
        _ => Claim::No,
    }
}

/// A message that [`of_postgres`] has accepted.
fn postgres(bytes: &[u8]) -> Answer {
    let mut fields = Bytes::new(bytes);
    let (Some(letter), Some(length)) = (fields.u8(), fields.u32()) else {
        return Answer::Wait;
    };
    if letter == b'R' {
        return match fields.u32() {
            Some(0) => Answer::Last(Service::Postgresql, Outcome::Succeeded),
            _ => Answer::Took(1 + length as usize),
        };
    }
    let Some(body) = fields.take((length as usize).saturating_sub(4)) else {
        return Answer::Wait;
    };
    let mut fields = Bytes::new(body);
    while let (Some(letter), Some(text)) = (fields.u8(), fields.zero_ended()) {
        if letter == b'C' && POSTGRES_DENIED.contains(&text) {
            return Answer::Last(Service::Postgresql, Outcome::Failed);
        }
    }
    Answer::Over
}

fn of_vnc(bytes: &[u8]) -> Claim {
    let front = bytes.get(..VNC_START.len()).unwrap_or(bytes);
    if !VNC_START.starts_with(front) {
        Claim::No
    } else if front.len() < VNC_START.len() {
        Claim::Unsure
    } else {
        Claim::Yes
    }
}

/// All of it is kept until it is decided: it is short.
fn vnc(bytes: &[u8]) -> Answer {
    let Some((version, mut rest)) = bytes.split_at_checked(VNC_VERSION_BYTES) else {
        return Answer::Wait;
    };
    let refused = Answer::Last(Service::Vnc, Outcome::Failed);
    if version.ends_with(b"3\n") {
        // The server decides on the kind.
        match rest.split_first_chunk::<4>() {
            None => return Answer::Wait,
            Some((&[0, 0, 0, VNC_PASSWORD], behind)) => rest = behind,
            Some(([0, 0, 0, 0], _)) => return refused,
            Some(_) => return Answer::Over,
        }
    } else {
        let Some((&count, behind)) = rest.split_first() else {
            return Answer::Wait;
        };
        // No kinds but a reason: too many attempts before.
        if count == 0 {
            return refused;
        }
        let Some((kinds, behind)) = behind.split_at_checked(usize::from(count)) else {
            return Answer::Wait;
        };
        if !kinds.contains(&VNC_PASSWORD) {
            return Answer::Over;
        }
        rest = behind;
    }
    let Some(result) = rest.get(VNC_CHALLENGE_BYTES..) else {
        return Answer::Wait;
    };
    match result.first_chunk::<4>() {
        None => Answer::Wait,
        Some([0, 0, 0, 0]) => Answer::Last(Service::Vnc, Outcome::Succeeded),
        Some([0, 0, 0, 1 | 2]) => refused,
        Some(_) => Answer::Over,
    }
}

/// What is read of a message of SMB: whether the server sent it, its command if that is the setup of a session,
/// its status.
struct SmbHead {
    by_server: bool,
    is_setup: bool,
    status: u32,
}

impl SmbHead {
    /// `None` if it is none; the bytes behind the transport's header, as many as are read.
    fn read(head: &[u8; SMB_HEAD_BYTES]) -> Option<Self> {
        match *head {
            [0xff, b'S', b'M', b'B', command, a, b, c, d, flags, ..] => Some(Self {
                by_server: flags & 0x80 != 0,
                is_setup: command == SMB1_SESSION_SETUP,
                status: u32::from_le_bytes([a, b, c, d]),
            }),
            [
                0xfe,
                b'S',
                b'M',
                b'B',
                _,
                _,
                _,
                _,
                a,
                b,
                c,
                d,
                low,
                high,
                _,
                _,
                flags,
                ..,
            ] => Some(Self {
                by_server: flags & 1 != 0,
                is_setup: u16::from_le_bytes([low, high]) == SMB2_SESSION_SETUP,
                status: u32::from_le_bytes([a, b, c, d]),
            }),
            _ => None,
        }
    }
}

fn of_smb(bytes: &[u8]) -> Claim {
    let known = match *bytes {
        [0, _, _, _, first, ref rest @ ..] => {
            let name = rest.get(..3).unwrap_or(rest);
            matches!(first, 0xfe | 0xff) && b"SMB".starts_with(name)
        }
        _ => true,
    };
    let head = bytes.get(SMB_TRANSPORT_BYTES..).unwrap_or_default();
    match head.first_chunk() {
        _ if !known => Claim::No,
        None => Claim::Unsure,
        Some(head) => match SmbHead::read(head) {
            Some(SmbHead {
                by_server: true, ..
            }) => Claim::Yes,
            _ => Claim::No,
        },
    }
}

fn smb(bytes: &[u8]) -> Answer {
    let mut front = Bytes::new(bytes);
    let (Some(0), Some(length)) = (front.u8(), front.u24()) else {
        return Answer::Wait;
    };
    let taken = SMB_TRANSPORT_BYTES + length as usize;
    let Some(head) = front.array() else {
        return Answer::Wait;
    };
    let Some(head) = SmbHead::read(&head).filter(|_| taken <= PACKET_BYTES_MAX) else {
        return Answer::Over;
    };
    match head {
        SmbHead {
            is_setup: true,
            status: 0,
            ..
        } => Answer::Last(Service::Smb, Outcome::Succeeded),
        SmbHead {
            is_setup: true,
            status,
            ..
        } if SMB_DENIED.contains(&status) => Answer::Refused(
            Service::Smb,
            taken.max(SMB_TRANSPORT_BYTES + SMB_HEAD_BYTES),
        ),
        _ => Answer::Took(taken.max(SMB_TRANSPORT_BYTES + SMB_HEAD_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::Outcome::{Asked, Failed, Succeeded};
    use super::Service::*;

    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        [&[body.len() as u8, 0, 0, number][..], body].concat()
    }

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        [&[letter][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn mysql_refuses_and_grants() {
        let greeting = packet(0, b"\x0a8.0.36\0more of it");
        let denied = packet(2, b"\xff\x15\x04#28000Access denied");
        let busy = packet(2, b"\xff\x10\x04Too many connections");
        check(3_307, &[&greeting, &denied], &[(Mysql, Failed)]);
        let switch = packet(2, b"\xfemysql_native_password\0");
        check(
            3_306,
            &[&greeting, &switch, &packet(4, b"\0\0\0\x02")],
            &[(Mysql, Succeeded)],
        );
        check(3_306, &[&greeting, &busy], &[]);
        check(3_306, &[&packet(0, b"\x098.0.36\0"), &denied], &[]);
        check(3_306, &[&denied], &[]);
        check(
            3_306,
            &[&greeting, b"\x16\x03\x03\x01\0 tls of the server"],
            &[],
        );
    }

    #[test]
    fn postgresql_refuses_and_grants() {
        let ask = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let denied = message(b'E', b"SFATAL\0VFATAL\0C28P01\0Mno\0\0");
        check(5_433, &[&ask, &denied], &[(Postgresql, Failed)]);
        check(5_432, &[b"N", &ask, &denied], &[(Postgresql, Failed)]);
        check(5_432, &[&denied], &[(Postgresql, Failed)]);
        check(
            5_432,
            &[&ask, &message(b'R', b"\0\0\0\0")],
            &[(Postgresql, Succeeded)],
        );
        check(
            5_432,
            &[&ask, &message(b'E', b"SFATAL\0C53300\0Mfull\0\0")],
            &[],
        );
        check(5_432, &[b"S", &ask, &denied], &[]);
        check(5_432, &[&message(b'R', b"\0\0\0\x63"), &denied], &[]);
        check(5_432, &[&denied[..20]], &[]);
    }

    #[test]
    fn vnc_refuses_and_grants() {
        let newer = |result: &[u8]| [&b"RFB 003.008\n\x01\x02"[..], &[9; 16], result].concat();
        check(5_901, &[&newer(b"\0\0\0\x01")], &[(Vnc, Failed)]);
        check(5_900, &[&newer(b"\0\0\0\0")], &[(Vnc, Succeeded)]);
        check(5_900, &[b"RFB 003.008\n\0\0\0\0\x04many"], &[(Vnc, Failed)]);
        let older = [&b"RFB 003.003\n\0\0\0\x02"[..], &[9; 16], b"\0\0\0\x01"].concat();
        check(5_900, &[&older], &[(Vnc, Failed)]);
        check(5_900, &[&newer(b"\0\0")], &[]);
        check(5_900, &[b"RFB 003.008\n\x01\x13", &[9; 24]], &[]);
        // The client's side.
        check(50_000, &[&newer(b"\0\0\0\x01")], &[]);
        check(5_900, &[b"RFB 004.008\n\x01\x02", &[9; 24]], &[]);
    }

    fn smb2(command: u8, status: u32, flags: u8) -> Vec<u8> {
        let mut head = vec![0, 0, 0, 64, 0xfe, b'S', b'M', b'B', 64, 0, 0, 0];
        head.extend(status.to_le_bytes());
        head.extend([command, 0, 1, 0, flags]);
        head.resize(68, 0);
        head
    }

    #[test]
    fn smb_refuses_and_grants() {
        let negotiated = smb2(0, 0, 1);
        let go_on = smb2(1, 0xc000_0016, 1);
        let denied = smb2(1, 0xc000_006d, 1);
        check(445, &[&negotiated, &go_on, &denied], &[(Smb, Failed)]);
        check(
            4_455,
            &[&negotiated, &go_on, &smb2(1, 0, 1)],
            &[(Smb, Succeeded)],
        );
        let mut old = vec![
            0, 0, 0, 35, 0xff, b'S', b'M', b'B', 0x73, 0x6d, 0, 0, 0xc0, 0x98,
        ];
        old.resize(39, 0);
        check(445, &[&old, &old], &[(Smb, Failed), (Smb, Failed)]);
        // Others than the setup of a session are refused too; the client's side.
        check(445, &[&negotiated, &smb2(3, 0xc000_0022, 1)], &[]);
        check(445, &[&smb2(1, 0xc000_006d, 0)], &[]);
        check(445, &[&go_on], &[]);
    }

    #[test]
    fn rdp_says_that_it_is_one() {
        let confirm = b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\x1f\x08\0\x02\0\0\0";
        check(3_390, &[confirm, b"\x16\x03\x03"], &[(Rdp, Asked)]);
        let request = b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0";
        check(3_389, &[request], &[]);
    }
}
