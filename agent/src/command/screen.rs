//! The terminal, for a page that is drawn again and again: a screen of its own, without a cursor, on
//! which a key is heard at once. What was there before is back when this is dropped.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;
use std::time::Duration;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

/// To the other screen and without the cursor; back (xterm's private modes 1049 and 25).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// `q`, `Q`, Ctrl-C.
const QUIT: [u8; 3] = [b'q', b'Q', 3];

/// A terminal that is drawn on.
pub(super) struct Screen {
    /// How keys were taken before; `None` where the input is no terminal.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal over. Waiting for a key lasts for `wait`, in tenths of a second.
    pub(super) fn enter(wait: Duration) -> io::Result<Self> {
        let stdin = io::stdin();
        let before = match stdin.is_terminal() {
            false => None,
            true => {
                let before = tcgetattr(&stdin)?;
                let mut keys = before.clone();
                // Ctrl-C is a key among others, so that the screen is given back.
                keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
                keys.special_codes[SpecialCodeIndex::VMIN] = 0;
                let tenths = u8::try_from(wait.as_millis() / 100).unwrap_or(u8::MAX);
                keys.special_codes[SpecialCodeIndex::VTIME] = tenths;
                tcsetattr(&stdin, OptionalActions::Now, &keys)?;
                Some(before)
            }
        };
        let screen = Self { before };
        put(ENTER)?;
        Ok(screen)
    }

    /// Draws a page over the one before: home, each line to its end, nothing below.
    pub(super) fn draw(&self, page: &str) -> io::Result<()> {
        put(&drawn(page))
    }

    /// Waits for a key or the time to be up, and says whether to end.
    pub(super) fn wait(&self, wait: Duration) -> io::Result<bool> {
        if self.before.is_none() {
            thread::sleep(wait);
            return Ok(false);
        }
        let mut key = [0];
        let read = io::stdin().lock().read(&mut key)?;
        Ok(read > 0 && QUIT.contains(&key[0]))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        drop(put(LEAVE));
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Columns and rows; `None` where there is no terminal.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// No line break after the last line: on a full screen that would push the first one out.
fn drawn(page: &str) -> String {
    let lines = page.lines().map(|line| format!("{line}\x1b[K"));
    format!("\x1b[H{}\x1b[J", lines.collect::<Vec<_>>().join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_drawn_over_the_one_before() {
        assert_eq!(drawn("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
    }
}
