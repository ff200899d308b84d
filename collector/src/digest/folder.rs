//! Digests in a folder that a bucket was copied to, as it lies there or all files in one place.

use std::io;
use std::path::{Path, PathBuf};

use picket_detect::{TrailEvent, TrailWord};

use super::{Digest, Keys, content, hash};
use crate::source::inflate::Input;

/// Checks the digest at `path`: the log files that it names, and the digest before it. What was not copied
/// is not missed: of a log file whose folder is not there nothing is said, and neither if none of those that
/// the digest names is. Returns what is wrong, or why it is no digest.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn check(path: &Path, keys: &Keys) -> io::Result<Result<Vec<TrailEvent>, String>> {
    let content_of = |path: &Path| content(Input::open(path));
    let digest = match content_of(path)?.and_then(|bytes| Digest::parse(&bytes)) {
        Ok(digest) => digest,
        Err(why) => return Ok(Err(why)),
    };
    let Some(layout) = Layout::of(path, &digest.object) else {
        return Ok(Err(format!(
            "lies under another name than {:?}",
            digest.object
        )));
    };
    let mut events = Vec::new();
    let places: Vec<Option<PathBuf>> = digest
        .logs
        .iter()
        .map(|log| layout.place(&log.object))
        .collect();
    let is_any_there = places.iter().flatten().any(|place| place.exists());
    for (log, place) in digest.logs.iter().zip(&places) {
        let Some(place) = place else {
            continue;
        };
        if !place.exists() {
            if is_any_there {
                events.push(digest.event(&log.object, TrailWord::Missing));
            }
            continue;
        }
        if hash(Input::open(place))?.as_ref() != Some(&log.hash) {
            events.push(digest.event(&log.object, TrailWord::Altered));
        }
    }
    if let Some(previous) = &digest.previous
        && let Some(place) = layout
            .place(&previous.object)
            .filter(|place| place.exists())
    {
        let judged = match content_of(&place)? {
            Ok(bytes) => digest.judge_previous(keys, &bytes),
            Err(why) => Err(why),
        };
        if let Err(why) = judged {
            events.push(digest.event(&previous.object, TrailWord::Chain { why }));
        }
    }
    Ok(Ok(events))
}

/// How keys of a bucket became paths.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    folder: PathBuf,
    /// What keys begin with and paths do not; `None` if all files lie in the folder itself.
    dropped: Option<String>,
}

impl Layout {
    /// By a file whose key is known.
    fn of(path: &Path, key: &str) -> Option<Self> {
        let mut folder = path.to_owned();
        let mut keys: Vec<&str> = key.split('/').collect();
        let mut same = 0;
        while let Some(last) = keys.last()
            && folder
                .file_name()
                .is_some_and(|name| name.to_str() == Some(last))
        {
            keys.pop();
            folder.pop();
            same += 1;
        }
        match same {
            0 => None,
            1 => Some(Self {
                folder,
                dropped: None,
            }),
            _ => {
                let mut dropped = keys.join("/");
                if !dropped.is_empty() {
                    dropped.push('/');
                }
                Some(Self {
                    folder,
                    dropped: Some(dropped),
                })
            }
        }
    }

    /// Where the object of a key lies, if it was copied. Never outside the folder.
    fn place(&self, key: &str) -> Option<PathBuf> {
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let rest = match &self.dropped {
            Some(dropped) => key.strip_prefix(dropped.as_str())?,
            None => key.rsplit('/').next()?,
        };
        rest.split('/')
            .all(is_plain)
            .then(|| self.folder.join(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_paths_and_stay_in_their_folder() {
        let key = "logs/AWSLogs/1/CloudTrail-Digest/r/2026/01/31/d.json.gz";
        let log = "logs/AWSLogs/1/CloudTrail/r/2026/01/31/l.json.gz";
        for (path, expected) in [
            (format!("/x/{key}"), Some(format!("/x/{log}"))),
            (
                "/x/AWSLogs/1/CloudTrail-Digest/r/2026/01/31/d.json.gz".to_owned(),
                Some("/x/AWSLogs/1/CloudTrail/r/2026/01/31/l.json.gz".to_owned()),
            ),
            ("/x/d.json.gz".to_owned(), Some("/x/l.json.gz".to_owned())),
            // Only the folder of the day was copied.
            ("/x/31/d.json.gz".to_owned(), None),
        ] {
            let layout = Layout::of(Path::new(&path), key).unwrap();
            assert_eq!(layout.place(log), expected.map(PathBuf::from), "{path}");
        }
        assert_eq!(Layout::of(Path::new("/x/other.json.gz"), key), None);
        let layout = Layout::of(Path::new(&format!("/x/{key}")), key).unwrap();
        for escape in ["../../etc/passwd", "a//b", "a/./b", ""] {
            assert_eq!(layout.place(escape), None, "{escape}");
        }
    }
}
