//! What is said about the input on stderr, and how often it was bad.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use picket_detect::logs::Place;

use crate::source::limits::FAULTS_SHOWN_MAX;

/// Tells faults and notices as they come, a bounded number per file, and counts all of them.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    faults: u64,
    /// Faults of the file that is being read.
    file_faults: u64,
    file_notices: u64,
}

impl<'a> Report<'a> {
    /// Reports to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            faults: 0,
            file_faults: 0,
            file_notices: 0,
        }
    }

    /// Something was bad: the command will fail at its end.
    pub fn fault(&mut self, file: &Path, place: Option<Place>, why: impl Display) {
        self.faults += 1;
        self.file_faults += 1;
        if self.file_faults <= FAULTS_SHOWN_MAX {
            self.say(file, place, &why);
        }
    }

    /// Something a person should know and nothing went wrong.
    pub fn notice(&mut self, file: &Path, place: Option<Place>, why: impl Display) {
        self.file_notices += 1;
        if self.file_notices <= FAULTS_SHOWN_MAX {
            self.say(file, place, &why);
        }
    }

    /// Ends a file: says what was not told of it.
    pub fn end_of_file(&mut self, file: &Path) {
        for (count, what) in [(self.file_faults, "faults"), (self.file_notices, "notices")] {
            if count > FAULTS_SHOWN_MAX {
                let more = count - FAULTS_SHOWN_MAX;
                self.say(file, None, &format_args!("{more} more {what} not shown"));
            }
        }
        self.file_faults = 0;
        self.file_notices = 0;
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    fn say(&mut self, file: &Path, place: Option<Place>, why: &dyn Display) {
        let file = shown(&file.to_string_lossy());
        let why = shown(&why.to_string());
        // A closed stderr leaves nobody to tell; the exit code still says it.
        let _ = match place {
            Some(Place { byte, line: 0 }) => writeln!(self.out, "{file}: byte {byte}: {why}"),
            Some(Place { byte, line }) => {
                writeln!(self.out, "{file}: line {line}, byte {byte}: {why}")
            }
            None => writeln!(self.out, "{file}: {why}"),
        };
    }
}

/// Names of files and words about their content may hold anything: what a terminal must not get
/// becomes an escape.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_only() {
        let mut told = Vec::new();
        let mut report = Report::new(&mut told);
        let place = Place { byte: 4, line: 2 };
        report.fault(
            Path::new("a\u{1b}[2J.json"),
            Some(place),
            "grüße\nand \u{7}",
        );
        report.notice(Path::new("b"), None, "fine");
        assert_eq!(report.faults(), 1);
        let told = String::from_utf8(told).unwrap();
        let expected = "a\\u{1b}[2J.json: line 2, byte 4: grüße\\nand \\u{7}\nb: fine\n";
        assert_eq!(told, expected);
    }
}
