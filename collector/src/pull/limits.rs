//! Bounds on what is pulled from buckets and queues, with the reason for each.

use std::time::Duration;

/// Parts of an object that wait to be read, some 16 to 64 KB each.
pub(super) const PARTS_WAITING: usize = 16;

/// Objects of a back-fill asked for ahead of the one that is read, so that the way to S3 and back is not
/// waited for each time. Their bytes wait in the connections.
pub(super) const OBJECTS_AHEAD: usize = 8;

/// Notices within notices: a notification of SNS holding one of S3 is two.
pub(super) const NOTICE_DEPTH_MAX: usize = 3;

/// Objects that one message may announce. S3 sends one, CloudTrail's own notifications a few (chosen
/// by hand above that).
pub(super) const OBJECTS_PER_NOTICE_MAX: usize = 1_000;

/// First pause after a queue or a bucket could not be reached; it doubles.
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// Longest such pause: what is set right is noticed within a minute.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Objects of one day that are put in order, some 250 bytes each: 120 MB. A hundred accounts with 17
/// regions and a file every five minutes have as many.
pub(super) const OBJECTS_PER_DAY_MAX: usize = 500_000;

/// Folders with days below one prefix: accounts by regions.
pub(super) const FOLDERS_MAX: usize = 20_000;

/// Folders within folders above those of years. `prefix/AWSLogs/o-1/1/CloudTrail/region/` has six.
pub(super) const FOLDER_DEPTH_MAX: usize = 12;

/// Days of all folders together, some 110 bytes each: 110 MB, ten years of 270 accounts by regions.
pub(super) const DAYS_MAX: usize = 1_000_000;

/// Objects between two words about progress in the log, and the pause between them at least.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(30);
