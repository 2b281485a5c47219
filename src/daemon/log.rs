//! The log: one event a line, `time level text`, with Redis's signs for the levels.
//!
//! Redis's four levels are those of `tracing` from `TRACE` (debug) to `WARN` (warning).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, Layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::settings::LogLevel;

/// Starts the log of this process: to a file, or to the standard output as Redis does.
///
/// # Errors
/// The file cannot be opened. A second log of one process is an error, too.
pub fn init(level: LogLevel, file: Option<&Path>) -> io::Result<()> {
    let targets = Targets::new().with_target(env!("CARGO_CRATE_NAME"), filter(level));
    let layer = Layer::new().event_format(Line);
    let started = match file {
        Some(path) => {
            open(path)?;
            let path = path.to_owned();
            let writer = move || LogFile(path.clone());
            tracing_subscriber::registry().with(targets).with(layer.with_writer(writer)).try_init()
        }
        None => tracing_subscriber::registry()
            .with(targets)
            .with(layer.with_writer(io::stdout))
            .try_init(),
    };
    started.map_err(io::Error::other)
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

/// Opened for each line, as Redis does: whoever rotates logs need not tell us.
struct LogFile(PathBuf);

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        open(&self.0)?.write_all(line).map(|()| line.len())
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
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
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
