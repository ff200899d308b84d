//! How the service logs: lines on stderr. The journal of systemd stamps each line with the time
//! itself and reads how grave it is from a number before it (sd-daemon(3)).

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Logs what `PICKET_LOG` asks for, else what `filter` does.
pub(crate) fn begin(filter: &str) {
    let filter = EnvFilter::try_from_env("PICKET_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter);
    if goes_to_journal() {
        let lines = Format::default().without_time().with_ansi(false);
        log.with_ansi(false).event_format(Journal(lines)).init();
    } else {
        log.with_ansi(io::stderr().is_terminal()).init();
    }
}

/// Whether stderr is the journal: systemd tells which file that is by its numbers.
fn goes_to_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| told == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Lines for the journal.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Numbers of syslog(3).
        let gravity = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{gravity}>")?;
        self.0.format_event(context, writer, event)
    }
}
