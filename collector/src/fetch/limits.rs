//! Bounds on what is fetched, with the reason for each.

use std::time::Duration;

/// Feeds in one configuration. MISP ships 84; chosen by hand above that.
pub(super) const FEEDS_MAX: usize = 256;

/// Bytes of a feed's name: it names files, and stands in every finding.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Redirects followed for one answer. Browsers follow 20; a feed that moves more than a few times
/// is in a loop.
pub(super) const REDIRECTS_MAX: usize = 5;

/// Time for the connection and TLS (chosen by hand: a far server under load).
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(15);

/// Longest pause in the middle of an answer.
pub(super) const READ_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Bytes of a validator (ETag, date) that is kept; a longer one is not sent back.
pub(super) const VALIDATOR_BYTES_MAX: usize = 1_024;

/// Bytes of the file with a feed's key.
pub(super) const KEY_BYTES_MAX: u64 = 4_096;

/// Events of a MISP feed, the latest. CIRCL's has 1,500 (chosen by hand above that).
pub(super) const EVENTS_MAX: usize = 2_000;

/// Collections read of one TAXII server.
pub(super) const COLLECTIONS_MAX: usize = 32;

/// Pages of one TAXII collection in one round: at the usual 100 objects a page, 100,000 objects.
pub(super) const PAGES_MAX: usize = 1_000;

/// Bytes of the text that says why a feed was not taken.
pub(super) const WHY_BYTES_MAX: usize = 500;

/// First pause after a failure; it doubles with each further one.
pub(super) const RETRY_FIRST_S: u64 = 60;

/// Longest pause after a failure: a quarter of a day, so that a feed is back within hours.
pub(super) const RETRY_MAX_S: u64 = 6 * 3_600;

/// Longest pause that a server may ask for.
pub(super) const RETRY_AFTER_MAX_S: u64 = 24 * 3_600;

/// Longest sleep between two looks at the clock, so that a clock that was set does not keep a feed
/// waiting.
pub(super) const SLEEP_MAX: Duration = Duration::from_secs(60);
