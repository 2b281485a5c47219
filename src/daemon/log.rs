//! The log: one event a line, `time level text`, with Redis's signs for the levels.
//!
//! Redis's four levels are those of `tracing` from `TRACE` (debug) to `WARN` (warning).

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, Layer, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::syslog::Syslog;
use crate::config::settings::LogLevel;

/// Starts the log of this process: to a file, or to the standard output as Redis does.
///
/// # Errors
/// The file cannot be opened. A second log of one process is an error, too.
pub fn init(level: LogLevel, file: Option<&Path>) -> io::Result<()> {
    init_with(level, file, None)
}

/// The same, with the system's log beside it.
///
/// # Errors
/// As [`init`].
pub fn init_with(level: LogLevel, file: Option<&Path>, syslog: Option<Syslog>) -> io::Result<()> {
    let handle = match file {
        Some(path) => {
            let file = LogFile::open(path)?;
            let (subscriber, handle) = subscriber(level, Mutex::new(file), syslog);
            subscriber.try_init().map(|()| handle)
        }
        None => {
            let (subscriber, handle) = subscriber(level, io::stdout, syslog);
            subscriber.try_init().map(|()| handle)
        }
    }
    .map_err(io::Error::other)?;
    // A second log has failed above.
    let _ = LEVEL.set(handle);
    Ok(())
}

/// From now on the log of this process tells this much. Nothing happens where no log was started.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // Fails only if the log is gone.
        let _ = handle.reload(targets(level));
    }
}

/// The way to the level of this process's log.
static LEVEL: OnceLock<Handle> = OnceLock::new();

type Handle = reload::Handle<Targets, Registry>;

fn subscriber<W>(
    level: LogLevel,
    writer: W,
    syslog: Option<Syslog>,
) -> (impl Subscriber + Send + Sync, Handle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (targets, handle) = reload::Layer::new(targets(level));
    // If it cannot be written, the error output may be gone, too, and to write there would panic.
    let layer = Layer::new().with_ansi(false).log_internal_errors(false).event_format(Line);
    let plain = syslog.map(|to| {
        let layer = Layer::new().with_ansi(false).log_internal_errors(false);
        layer.event_format(Plain).with_writer(to)
    });
    let registry = tracing_subscriber::registry().with(targets);
    (registry.with(layer.with_writer(writer)).with(plain), handle)
}

fn targets(level: LogLevel) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), filter(level))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Opened anew as soon as it is no longer what its path leads to: whoever rotates logs need not
/// tell us. Redis opens it for each line, which costs much where a thousand groups fail over.
struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and number of the file.
    is: (u64, u64),
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        let file = open(path)?;
        let is = identity(&file.metadata()?);
        Ok(LogFile { path: path.to_owned(), file, is })
    }
}

fn identity(of: &Metadata) -> (u64, u64) {
    (of.dev(), of.ino())
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let there = std::fs::metadata(&self.path);
        if there.map_or(true, |there| identity(&there) != self.is) {
            *self = LogFile::open(&self.path)?;
        }
        self.file.write_all(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The form of a line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
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
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        write!(writer, "{time} {} ", sign(*event.metadata().level()))?;
        Plain.format_event(context, writer, event)
    }
}

/// The same without time and sign: a system's log has its own.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
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
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        // What others had a hand in begins no line of its own.
        writeln!(writer, "{}", text.replace(char::is_control, " "))
    }
}

fn sign(level: Level) -> char {
    match level {
        Level::ERROR | Level::WARN => '#',
        Level::INFO => '*',
        Level::DEBUG => '-',
        Level::TRACE => '.',
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, _) = subscriber(level, move || writer.clone(), None);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!("debug");
            tracing::debug!("verbose");
            tracing::info!(port = 1, "notice");
            tracing::warn!("two\nlines\x1b[1m");
            tracing::error!(target: "elsewhere", "not ours");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_a_line_with_its_time_and_sign() {
        let log = logged(LogLevel::Debug);
        let lines: Vec<&str> =
            log.lines().map(|line| &line["2025-01-01T00:00:00.000Z".len()..]).collect();
        assert_eq!(lines, [" . debug", " - verbose", " * notice port=1", r" # two lines\x1b[1m"]);
    }

    #[test]
    fn the_level_changes_while_the_log_is_written() {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, handle) = subscriber(LogLevel::Warning, move || writer.clone(), None);
        let tell = || tracing::info!("notice");
        tracing::subscriber::with_default(subscriber, || {
            tell();
            handle.reload(targets(LogLevel::Notice)).unwrap();
            tell();
            handle.reload(targets(LogLevel::Warning)).unwrap();
            tell();
        });
        assert_eq!(String::from_utf8_lossy(&page.0.lock().unwrap()).lines().count(), 1);
    }

    #[test]
    fn the_level_decides_what_is_told() {
        use LogLevel::{Debug, Nothing, Notice, Verbose, Warning};
        for (level, lines) in [(Debug, 4), (Verbose, 3), (Notice, 2), (Warning, 1), (Nothing, 0)] {
            assert_eq!(logged(level).lines().count(), lines, "{level:?}");
        }
    }
}
