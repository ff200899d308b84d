//! Which part of a file is to be read: what is new, if the file is the one that was read before.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::source::limits::LINE_BYTES_MAX;
use crate::store::sources::{FileState, MARK_BYTES};

/// What is to be read of a file without identities.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Where it begins.
    pub(super) start: u64,
    /// Portions of it that are stored.
    pub(super) done: u64,
    /// What is stored with each portion, if not the file as it is.
    pub(super) state: Option<FileState>,
}

impl Part {
    /// The whole file, if it is not known or was begun: one that was begun has portions of it stored, one that is read
    /// has none to go on at. What is stored of a file that has changed since is in its beginning all the same.
    pub(super) fn once(known: Option<&FileState>) -> Option<Self> {
        let done = known.map_or(0, |known| known.read_to);
        (known.is_none() || done > 0).then_some(Self {
            done,
            ..Self::default()
        })
    }

    /// What was added to a file since it was read, or all of one that is another by now. While a part is read,
    /// the size that is stored is where it begins.
    pub(super) fn next(
        path: &Path,
        known: Option<&FileState>,
        bytes: u64,
    ) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let (mut start, mut done) = (0, 0);
        if let Some(known) = known {
            if is_packed(&mut file)? {
                return Ok(Self::once(Some(known)));
            }
            let before = FileState {
                read_to: known.bytes,
                ..known.clone()
            };
            start = resume_at(&mut file, Some(&before))?.min(bytes);
            // A part that begins elsewhere is another.
            done = if start == known.bytes {
                known.read_to
            } else {
                0
            };
        }
        Ok(Some(Self {
            start,
            done,
            state: Some(FileState {
                bytes: start,
                modified_ms: 0,
                read_to: 0,
                mark: mark_before(&mut file, start)?,
            }),
        }))
    }
}

/// Says whether a file is what was read of it, or more.
pub(super) fn goes_on(file: &mut File, known: &FileState) -> io::Result<bool> {
    let before = FileState {
        read_to: known.bytes,
        ..known.clone()
    };
    Ok(known.bytes == 0 || resume_at(file, Some(&before))? > 0)
}

/// Says whether a file holds lines, neither packed nor an export's objects.
pub(super) fn is_lines(file: &mut File) -> io::Result<bool> {
    let mut first = [0];
    file.seek(SeekFrom::Start(0))?;
    let is_empty = read_some(file, &mut first)? == 0;
    Ok(!is_empty && !matches!(first[0], b'{' | b'[') && !is_packed(file)?)
}

/// Where the last whole line ends between these places, or the first of them. Looks at the last bytes only, of which a
/// line has fewer.
pub(super) fn lines_end(file: &mut File, start: u64, end: u64) -> io::Result<u64> {
    let from = end.saturating_sub(LINE_BYTES_MAX as u64).max(start);
    file.seek(SeekFrom::Start(from))?;
    let mut last = Vec::new();
    file.take(end - from).read_to_end(&mut last)?;
    let line_feed = last.iter().rposition(|byte| *byte == b'\n');
    Ok(line_feed.map_or(start, |at| from + at as u64 + 1))
}

/// Says whether a file is packed with gzip.
pub(super) fn is_packed(file: &mut File) -> io::Result<bool> {
    let mut magic = [0; 2];
    file.seek(SeekFrom::Start(0))?;
    Ok(read_some(file, &mut magic)? == 2 && magic == [0x1f, 0x8b])
}

/// The bytes before a place of a file, to know it by.
pub(super) fn mark_before(file: &mut File, place: u64) -> io::Result<Vec<u8>> {
    let mut mark = vec![0; usize::try_from(place).unwrap_or(MARK_BYTES).min(MARK_BYTES)];
    file.seek(SeekFrom::Start(place - mark.len() as u64))?;
    let count = read_some(file, &mut mark)?;
    mark.truncate(count);
    Ok(mark)
}

/// Where to go on in a file: where it was read to, if what stands before is what stood there.
pub(super) fn resume_at(file: &mut File, known: Option<&FileState>) -> io::Result<u64> {
    let Some(known) = known.filter(|known| known.read_to > 0 && !known.mark.is_empty()) else {
        return Ok(0);
    };
    let Some(mark_at) = known.read_to.checked_sub(known.mark.len() as u64) else {
        return Ok(0);
    };
    file.seek(SeekFrom::Start(mark_at))?;
    let mut mark = vec![0; known.mark.len()];
    let count = read_some(file, &mut mark)?;
    let is_same = count == mark.len() && mark == known.mark;
    Ok(if is_same { known.read_to } else { 0 })
}

/// Fills `buffer` as far as the file goes.
fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
