//! Waiting for a condition, with a deadline: the only synchronisation in the lab.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at again. Short against every deadline in use, long against
/// what looking costs (a file, a local request). Chosen by hand.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Asks `ready` until it gives a value, and returns it.
///
/// # Errors
/// Names `what` when `limit` has passed; an error of `ready` ends the wait at once.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if began.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_or_names_what_was_missing() {
        let mut left = 3;
        let value = wait_until("the count", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(value.unwrap(), "done");
        let never = wait_until::<()>("the end of time", Duration::ZERO, || Ok(None));
        assert_eq!(
            never.unwrap_err().to_string(),
            "waited 0 s for the end of time"
        );
    }
}
