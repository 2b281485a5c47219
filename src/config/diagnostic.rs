//! What is wrong with a configuration, where, and how to mend it: shown with the line and a caret
//! under the offending word. A password never shows: the line is masked when it is taken in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::bytes::raw;
use super::conf::Line;

/// What stands in place of a password.
pub const MASK: &str = "******";
/// Longest part of a line that is shown, in characters; more is cut around the caret.
const SHOWN_CHARS_MAX: usize = 160;

/// The system's words for an error, without the number that Rust puts behind them.
pub fn os_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Accepted; worth knowing.
    Note,
    /// Accepted, but probably not what was meant.
    Warning,
    /// Does not start with this.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One finding about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file it was read from; `None` for the command line and for text that has no file.
    pub file: Option<PathBuf>,
    /// Line, counted from 1; 0 where no single line is meant, and for the command line.
    pub line: usize,
    /// Column of the offending word in characters, counted from 1; 0 where no word is meant.
    pub column: usize,
    /// Width of the offending word in characters.
    pub width: usize,
    /// The offending line, passwords masked; empty where none is meant.
    pub text: Box<str>,
    /// What is wrong, in Redis's words where Redis has them.
    pub message: String,
    /// How to mend it.
    pub help: Option<Box<str>>,
}

impl Diagnostic {
    /// A finding that is about no single line.
    pub fn new(severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            file: None,
            line: 0,
            column: 0,
            width: 0,
            text: Box::default(),
            message: message.into(),
            help: None,
        }
    }

    /// An error that is about no single line.
    pub fn error(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, message)
    }

    /// Points at word number `word` of a line (0 is the directive), or at its last word where there
    /// are not that many.
    #[must_use]
    pub fn at(mut self, line: &Line, word: usize) -> Diagnostic {
        if let Some(word) = line.words.get(word).or(line.words.last()) {
            self.column = word.column;
            self.width = word.width;
        }
        self.line = line.number;
        self.set_text(&line.text, line.secret_column());
        self
    }

    /// Points at a place of a text by line and column, both counted from 1. What follows
    /// `secret_column` is masked.
    #[must_use]
    pub(super) fn at_place(
        mut self,
        text: &str,
        (line, column, width): (usize, usize, usize),
        secret_column: Option<usize>,
    ) -> Diagnostic {
        (self.line, self.column, self.width) = (line, column, width);
        self.set_text(text, secret_column);
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<Box<str>>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Names the file, unless one is named already.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Diagnostic {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }

    /// Whether this keeps a start from happening.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn set_text(&mut self, text: &str, secret_column: Option<usize>) {
        let Some(secret) = secret_column else {
            self.text = text.into();
            return;
        };
        self.text = text.chars().take(secret - 1).chain(MASK.chars()).collect();
        if self.column >= secret {
            (self.column, self.width) = (secret, MASK.len());
        } else {
            self.width = self.width.min(secret - self.column);
        }
    }

    /// The part of the line that is shown and the column of the caret in it: control characters
    /// replaced, an over-long line cut.
    fn shown(&self) -> (String, usize) {
        let skipped = match self.column.saturating_sub(1) {
            at if at > SHOWN_CHARS_MAX / 2 => at - SHOWN_CHARS_MAX / 2,
            _ => 0,
        };
        let plain = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() || raw(c).is_some() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        let mut rest = self.text.chars().map(plain).skip(skipped);
        let mut text: String = rest.by_ref().take(SHOWN_CHARS_MAX).collect();
        if rest.next().is_some() {
            text.push('…');
        }
        (text, self.column - skipped)
    }
}

/// The form of rustc's messages: what, where, the line with a caret, the mend.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        let number = if self.line > 0 { self.line.to_string() } else { " ".to_owned() };
        let gutter = " ".repeat(number.len());
        let file = match &self.file {
            Some(file) => file.display().to_string(),
            None if self.line == 0 && !self.text.is_empty() => "command line".to_owned(),
            None if self.line > 0 => "line ".to_owned(),
            None => String::new(),
        };
        let place = match (&self.file, self.line, self.column) {
            (_, 0, _) => file,
            (None, line, 0) => format!("{file}{line}"),
            (None, line, column) => format!("{file}{line}:{column}"),
            (Some(_), line, 0) => format!("{file}:{line}"),
            (Some(_), line, column) => format!("{file}:{line}:{column}"),
        };
        if !place.is_empty() {
            write!(f, "\n{gutter}--> {place}")?;
        }
        if !self.text.is_empty() {
            let (text, column) = self.shown();
            write!(f, "\n{gutter} |\n{number} | {text}")?;
            if column > 0 {
                let room = (text.chars().count() + 2).saturating_sub(column).max(1);
                let carets = "^".repeat(self.width.clamp(1, room));
                write!(f, "\n{gutter} | {}{carets}", " ".repeat(column - 1))?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n{gutter} = help: {help}")?;
        }
        Ok(())
    }
}
