//! Scene files are written once and played at any time: `{{now-120s}}` becomes a moment, and
//! `{{instance}}`, `{{account}}`, `{{region}}`, `{{address}}` the one that the scene is about.

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};

use crate::lab::topology::INSTANCE;

/// The instance that every scene happens to.
pub const INSTANCE_ID: &str = "i-0a1b2c3d4e5f60718";
/// The account it runs in; one that AWS uses in its documentation.
pub const ACCOUNT: &str = "111122223333";
/// The region it runs in.
pub const REGION: &str = "eu-central-1";

/// Fills in every `{{…}}` of `text`, with `now` as the moment of the play.
///
/// # Errors
/// Names a placeholder that is not known.
pub fn fill(text: &str, now: Timestamp) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after
            .split_once("}}")
            .context("a placeholder without an end")?;
        filled.push_str(before);
        filled.push_str(&value(name, now)?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(name: &str, now: Timestamp) -> Result<String> {
    Ok(match name {
        "instance" => INSTANCE_ID.to_owned(),
        "account" => ACCOUNT.to_owned(),
        "region" => REGION.to_owned(),
        "address" => INSTANCE.to_string(),
        "now" => moment(now, 0)?,
        _ => {
            let seconds = name
                .strip_prefix("now")
                .and_then(|shift| shift.strip_suffix('s'))
                .and_then(|shift| shift.parse().ok());
            match seconds {
                Some(seconds) => moment(now, seconds)?,
                None => bail!("unknown placeholder {{{{{name}}}}}"),
            }
        }
    })
}

/// CloudTrail writes whole seconds.
fn moment(now: Timestamp, seconds: i64) -> Result<String> {
    let then = now + SignedDuration::from_secs(seconds);
    Ok(then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let now: Timestamp = "2026-03-01T10:00:00.5Z".parse().unwrap();
        for (text, expected) in [
            ("plain {braces}", "plain {braces}"),
            ("a {{now}} b", "a 2026-03-01T10:00:00Z b"),
            ("{{now-120s}}", "2026-03-01T09:58:00Z"),
            ("{{now+5s}}{{account}}", "2026-03-01T10:00:05Z111122223333"),
        ] {
            assert_eq!(fill(text, now).unwrap(), expected, "{text}");
        }
        for text in ["{{noon}}", "{{now-2}}", "{{now"] {
            assert!(fill(text, now).is_err(), "{text}");
        }
    }
}
