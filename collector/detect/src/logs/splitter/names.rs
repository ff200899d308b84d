//! The members that tell events, their wrappers and the texts they are folded into apart.

/// Members whose object or list holds events.
const WRAPPERS: [&[u8]; 11] = [
    b"Records",
    b"QueryResultRows",
    b"records",
    b"Events",
    b"events",
    b"logEvents",
    b"detail",
    b"hits",
    b"_source",
    b"event",
    b"result",
];

/// Members whose text is an event written as JSON.
const FOLDS: [&[u8]; 8] = [
    b"CloudTrailEvent",
    b"eventJson",
    b"message",
    b"@message",
    b"Message",
    b"body",
    b"_raw",
    b"original",
];

/// Members that make an object an event. None of them stands in a wrapper.
const MEMBERS: [&[u8]; 17] = [
    b"eventVersion",
    b"eventTime",
    b"eventSource",
    b"eventName",
    b"eventID",
    b"eventId",
    b"eventType",
    b"eventCategory",
    b"userIdentity",
    b"awsRegion",
    b"sourceIPAddress",
    b"requestParameters",
    b"recipientAccountId",
    b"additionalEventData",
    b"apiVersion",
    b"errorCode",
    b"addendum",
];

/// Longest of [`MEMBERS`] with its closing quote.
const MEMBER_BYTES_MAX: usize = 20;

/// White space allowed between a brace and its first member when looking for the next event.
const INDENT_BYTES_MAX: usize = 64;

/// What the value that comes next is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A name comes first.
    Name,
    Plain,
    Time,
    Wrapper,
    Fold,
}

impl Role {
    /// The role of the value behind `name` in something that is not an event.
    pub(super) fn of(name: &[u8]) -> Self {
        if WRAPPERS.contains(&name) {
            Self::Wrapper
        } else if FOLDS.contains(&name) {
            Self::Fold
        } else {
            Self::Plain
        }
    }
}

/// Says whether an object with this member is an event.
pub(super) fn is_of_event(name: &[u8]) -> bool {
    MEMBERS.contains(&name)
}

/// Says whether `bytes`, which start with a brace, go on with a member of an event; `None` if they
/// end before that is plain.
pub(super) fn opens_event(bytes: &[u8]) -> Option<bool> {
    let indent = bytes[1..].iter().take(INDENT_BYTES_MAX);
    let indent = indent.take_while(|byte| byte.is_ascii_whitespace()).count();
    let rest = &bytes[1 + indent..];
    match rest.first() {
        None => return None,
        Some(b'"') => {}
        Some(_) => return Some(false),
    }
    let name = &rest[1..rest.len().min(1 + MEMBER_BYTES_MAX)];
    match name.iter().position(|&byte| byte == b'"') {
        Some(end) => Some(is_of_event(&name[..end])),
        None => (name.len() == MEMBER_BYTES_MAX).then_some(false),
    }
}

/// Says whether a string, given with its quotes, looks like an object or a list of objects.
pub(super) fn folds(quoted: &[u8]) -> bool {
    let mut shown = quoted[1..]
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace());
    match shown.next() {
        Some(b'{') => true,
        Some(b'[') => shown.next() == Some(&b'{'),
        _ => false,
    }
}
