//! Bounds on what is asked of AWS and taken from it, with the reason for each.

use std::time::Duration;

/// Time for the connection and TLS (chosen by hand: another region under load).
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Longest pause in the middle of an answer. A long poll of SQS is silent for 20 s at most.
pub(super) const READ_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Bytes of an answer that is held whole: ten messages of 1 MiB (SQS developer guide, "Amazon SQS
/// message quotas"), each character escaped in JSON. A page of 1,000 keys takes 4 MB at most.
pub(super) const ANSWER_BYTES_MAX: usize = 24 << 20;

/// Bytes of an answer that says why something was refused.
pub(super) const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Bytes of the text that says why something was refused, in logs.
pub(super) const WHY_BYTES_MAX: usize = 300;

/// Times that a call is made if the service is overloaded or the network fails, and the pauses
/// between (chosen by hand: whoever calls comes again by itself).
pub(super) const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1_000)];

/// Bytes of an answer of the metadata service or of a container's; credentials take 2 KB.
pub(super) const LOCAL_ANSWER_BYTES_MAX: usize = 64 << 10;

/// Longest wait for those. They are on this machine; where there is none, nobody answers.
pub(super) const LOCAL_WAIT: Duration = Duration::from_secs(2);

/// Bytes of a configuration file of AWS tools, and of a web identity token.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// How long before their end credentials are renewed: as AWS's own libraries do.
pub(super) const RENEW_BEFORE_S: i64 = 5 * 60;

/// Profiles that lead to one another.
pub(super) const PROFILES_MAX: usize = 8;

/// Levels of an XML answer; those that are read have four.
pub(super) const XML_DEPTH_MAX: usize = 16;

/// Bytes of an object's key (S3 user guide, "Naming Amazon S3 objects").
pub(crate) const KEY_BYTES_MAX: usize = 1_024;
