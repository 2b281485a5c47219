//! The syntax of `redis.conf` and `sentinel.conf`: lines of words, Redis's quoting, comments; and
//! the same from the command line (`--port 7000`). What the words mean is decided elsewhere.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::bytes::{self, decode};
use super::diagnostic::{Diagnostic, Severity};

/// One directive as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Line number, counted from 1; 0 for the command line.
    pub number: usize,
    /// The directive and its arguments, unquoted; never empty.
    pub words: Vec<Word>,
    /// The line as written, without its end.
    pub text: String,
}

/// A directive and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The directive.
    pub line: Line,
    /// The file it stands in; `None` for the command line.
    pub file: Option<Arc<Path>>,
    /// Whether it stands outside the main file, in a file that was included or on the command line:
    /// a rewrite may have written it into the main file, too.
    pub aside: bool,
}

impl Statement {
    /// A finding about word number `word` of this directive (0 is its name).
    pub fn finding(&self, severity: Severity, word: usize, message: &str) -> Diagnostic {
        let finding = Diagnostic::new(severity, message).at(&self.line, word);
        match &self.file {
            Some(file) => finding.in_file(file),
            None => finding,
        }
    }
}

/// One word of a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word, unquoted.
    pub text: String,
    /// Where it begins in the line, in characters, counted from 1.
    pub column: usize,
    /// How many characters it takes in the line, quotes included.
    pub width: usize,
}

impl Line {
    /// The directive's name in lower case, as Redis compares it.
    pub fn name(&self) -> String {
        self.words.first().map(|w| w.text.to_ascii_lowercase()).unwrap_or_default()
    }

    /// The words after the directive's name.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().skip(1).map(|w| w.text.as_str())
    }

    /// Word number `index` (0 is the directive).
    pub fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(|w| w.text.as_str())
    }

    /// Where the secret part of the line begins, if it has one: from there on it is never shown.
    pub(super) fn secret_column(&self) -> Option<usize> {
        let index = secret_index(self.words.iter().map(|w| w.text.as_str()))?;
        self.words.get(index).map(|w| w.column)
    }
}

/// Which word of a directive begins its secret part. Misspelt directives count too: an unknown
/// `requirepas hunter2` is shown in an error like any other.
fn secret_index<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<usize> {
    let name = words.next()?.to_ascii_lowercase();
    let secret =
        |name: &str| name.contains("pas") || name.ends_with("auth") || name.contains("secret");
    match name.as_str() {
        "sentinel" => secret(&words.next()?.to_ascii_lowercase()).then_some(2),
        "user" => Some(2),
        name => secret(name).then_some(1),
    }
}

/// Which word of a directive is the first that may be any bytes: passwords, and users.
fn bytes_index<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
    let mut names = words.clone().map(str::to_ascii_lowercase);
    match (names.next()?.as_str(), names.next().as_deref()) {
        ("user", _) => Some(1),
        ("sentinel", Some("sentinel-user")) => Some(2),
        ("sentinel", Some("auth-user")) => Some(3),
        _ => secret_index(words),
    }
}

/// Takes a file apart. Lines that cannot be read are reported and left out; the rest is returned.
pub fn parse(text: &str) -> (Vec<Line>, Vec<Diagnostic>) {
    let mut lines = Vec::new();
    let mut diagnostics = Vec::new();
    for (index, text) in text.split('\n').enumerate() {
        match parse_line(text, index + 1) {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => {}
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    (lines, diagnostics)
}

/// Takes one line apart; `None` for a blank line and for a comment.
pub(super) fn parse_line(text: &str, number: usize) -> Result<Option<Line>, Diagnostic> {
    let text = text.trim_end_matches([' ', '\t', '\r', '\n']);
    if text.trim_start_matches(is_blank).starts_with('#') {
        return Ok(None);
    }
    let words = split(text).map_err(|fault| fault.diagnostic(text, number))?;
    if words.is_empty() {
        return Ok(None);
    }
    let begins = bytes_index(words.iter().map(|w| w.text.as_str())).unwrap_or(words.len());
    if let Some(word) = words.iter().take(begins).find(|word| !bytes::is_utf8(&word.text)) {
        return Err(Fault::NotUtf8(word.column - 1).diagnostic(text, number));
    }
    Ok(Some(Line { number, words, text: text.to_owned() }))
}

/// The number, counted from 1, of the first line with bytes that are no UTF-8 where only text can
/// stand: neither in a comment nor in a password or user.
pub(super) fn not_utf8(text: &str) -> Option<usize> {
    let mut lines = text.split('\n').enumerate();
    let bad = |line: &str| !bytes::is_utf8(line) && parse_line(line, 0).is_err();
    lines.find(|(_, line)| bad(line)).map(|(index, _)| index + 1)
}

/// Reads options from the command line as redis-server does: `--name value ...`, also `"--name
/// value"` in one argument, `--save` alone for `--save ""`, and `--sentinel` alone for nothing. The
/// first value of an option may begin with `--`.
///
/// # Errors
/// An option that cannot be split into words.
pub fn from_args(args: &[String]) -> Result<Vec<Line>, Diagnostic> {
    let mut options: Vec<String> = Vec::new();
    let mut wants_value = false;
    for (at, arg) in args.iter().enumerate() {
        match (arg.strip_prefix("--"), options.last_mut()) {
            (Some(option), _) if !wants_value => {
                let next_is_option = args.get(at + 1).is_none_or(|next| next.starts_with("--"));
                let alone = option.trim_matches(is_blank);
                let stands_alone = next_is_option
                    && ["save", "sentinel"].iter().any(|n| alone.eq_ignore_ascii_case(n));
                if stands_alone && alone.eq_ignore_ascii_case("save") {
                    options.push("save \"\"".to_owned());
                } else {
                    options.push(option.to_owned());
                }
                wants_value = !stands_alone && !alone.contains(is_blank);
            }
            (_, Some(option)) => {
                option.push(' ');
                option.push_str(&quote(arg));
                wants_value = false;
            }
            // Redis takes words that no option precedes for a line of their own.
            (_, None) => options.push(quote(arg).into_owned()),
        }
    }
    let mut lines = Vec::new();
    for option in options.iter().filter(|o| !o.trim().eq_ignore_ascii_case("sentinel")) {
        // One option must stay one line, even if its name carries a line break.
        let option = option.replace(['\n', '\r'], " ");
        lines.extend(parse_line(&option, 0)?);
    }
    Ok(lines)
}

/// Writes a word so that [`parse`] and Redis read it back as one word: quoted only where it must
/// be.
pub fn quote(word: &str) -> Cow<'_, str> {
    let must =
        |c: char| matches!(c, ' ' | '"' | '\'') || c.is_ascii_control() || bytes::raw(c).is_some();
    if !word.is_empty() && !word.starts_with('#') && !word.contains(must) {
        return word.into();
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => match bytes::raw(c) {
                Some(byte) => quoted.push_str(&format!("\\x{byte:02x}")),
                None => quoted.push(c),
            },
        }
    }
    quoted.push('"');
    quoted.into()
}

/// A line that cannot be split, and the column (counted from 0) of what is wrong.
enum Fault {
    /// A quote without its end, or text glued to a closing quote.
    Unbalanced(usize),
    /// Bytes, or `\xHH` escapes, that make no UTF-8, where only a password or a user may have such.
    NotUtf8(usize),
}

impl Fault {
    fn diagnostic(&self, text: &str, number: usize) -> Diagnostic {
        let (column, message, help) = match self {
            Fault::Unbalanced(at) => (
                at + 1,
                "Unbalanced quotes in configuration line",
                "close the quote, with a blank behind it; a quote inside double quotes is \\\"",
            ),
            Fault::NotUtf8(at) => (
                at + 1,
                "This word is not UTF-8 text",
                "write it in UTF-8; only passwords and users may be else",
            ),
        };
        let rough: Vec<&str> = text.split_ascii_whitespace().collect();
        let secret = secret_index(rough.iter().copied()).and_then(|index| nth_word(text, index));
        Diagnostic::error(message).at_place(text, (number, column, 1), secret).help(help)
    }
}

/// The column, counted from 1, of a blank-separated word.
fn nth_word(text: &str, index: usize) -> Option<usize> {
    let chars: Vec<char> = text.chars().collect();
    let begins = |&at: &usize| !is_blank(chars[at]) && (at == 0 || is_blank(chars[at - 1]));
    (0..chars.len()).filter(begins).nth(index).map(|at| at + 1)
}

/// C's `isspace`, by which Redis separates words.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// The words of a line that has nothing to be unquoted or decoded, as most lines are, each with the
/// column, counted from 0, at which it begins; `None` for any other line.
pub(super) fn plain_words(text: &str) -> Option<impl Iterator<Item = (usize, &str)>> {
    let text = text.trim_end_matches(['\r', '\n']);
    let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\'';
    let words = text.split(' ').scan(0, |next, word| {
        let begins = *next;
        *next += word.len() + 1;
        Some((begins, word))
    });
    text.bytes().all(is_plain).then(|| words.filter(|(_, word)| !word.is_empty()))
}

/// Redis's `sdssplitargs`.
fn split(text: &str) -> Result<Vec<Word>, Fault> {
    if let Some(words) = plain_words(text) {
        let word = |(at, word): (usize, &str)| Word {
            text: word.to_owned(),
            column: at + 1,
            width: word.len(),
        };
        return Ok(words.map(word).collect());
    }
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while chars.get(at).copied().is_some_and(is_blank) {
            at += 1;
        }
        if at == chars.len() {
            return Ok(words);
        }
        let (bytes, end) = split_word(&chars, at)?;
        words.push(Word { text: decode(&bytes), column: at + 1, width: end - at });
        at = end;
    }
}

/// Reads the word that begins at `start`; returns its bytes and where it ends.
fn split_word(chars: &[char], start: usize) -> Result<(Vec<u8>, usize), Fault> {
    let mut word = Vec::new();
    let mut at = start;
    while let Some(&c) = chars.get(at) {
        match c {
            ' ' | '\t' | '\n' | '\r' => break,
            '"' | '\'' => {
                at = split_quoted(chars, at, &mut word)?;
                break;
            }
            c => bytes::push(&mut word, c),
        }
        at += 1;
    }
    Ok((word, at))
}

/// Reads a quoted part that begins at `start`, its quote; returns where it ends. A closing quote
/// ends the word.
fn split_quoted(chars: &[char], start: usize, word: &mut Vec<u8>) -> Result<usize, Fault> {
    let quote = chars[start];
    let mut at = start + 1;
    loop {
        match (chars.get(at).copied(), chars.get(at + 1).copied()) {
            (None, _) => return Err(Fault::Unbalanced(start)),
            (Some('\\'), Some(escaped)) if quote == '"' => {
                let digits = chars.get(at + 2..at + 4).and_then(hex_byte);
                match (escaped, digits) {
                    ('x', Some(byte)) => {
                        word.push(byte);
                        at += 3;
                    }
                    _ => {
                        bytes::push(word, unescape(escaped));
                        at += 1;
                    }
                }
            }
            (Some('\\'), Some('\'')) => {
                word.push(b'\'');
                at += 1;
            }
            (Some(c), next) if c == quote => {
                return match next {
                    Some(glued) if !is_blank(glued) => Err(Fault::Unbalanced(at + 1)),
                    _ => Ok(at + 1),
                };
            }
            (Some(c), _) => bytes::push(word, c),
        }
        at += 1;
    }
}

fn hex_byte(digits: &[char]) -> Option<u8> {
    let high = digits.first()?.to_digit(16)?;
    let low = digits.get(1)?.to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn unescape(c: char) -> char {
    match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\x08',
        'a' => '\x07',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let (lines, diagnostics) = parse(text);
        assert_eq!(diagnostics, []);
        lines.into_iter().flat_map(|l| l.words).map(|w| w.text).collect()
    }

    fn from(args: &str) -> Vec<Vec<String>> {
        let args: Vec<String> = args.split('|').map(str::to_owned).collect();
        let lines = from_args(&args).unwrap();
        lines.into_iter().map(|l| l.words.into_iter().map(|w| w.text).collect()).collect()
    }

    #[test]
    fn lines_words_and_columns() {
        let (lines, diagnostics) = parse("# port 1\r\n\r\n  port\t7000 \r\nbind * -::*");
        assert_eq!(diagnostics, []);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].number, lines[0].text.as_str()), (3, "  port\t7000"));
        assert_eq!(lines[0].words[1], Word { text: "7000".into(), column: 8, width: 4 });
        assert_eq!(lines[1].args().collect::<Vec<_>>(), ["*", "-::*"]);
    }

    #[test]
    fn quoting_is_that_of_redis() {
        assert_eq!(words(r#"a "b c" 'd e' "" f"#), ["a", "b c", "d e", "", "f"]);
        assert_eq!(words(r#"a "\x41\n\"\\\q\xZZ" 'it\'s \n'"#), ["a", "A\n\"\\qxZZ", "it's \\n"]);
        assert_eq!(words(r#"a pre"fix ed""#), ["a", "prefix ed"]);
        assert_eq!(words(r"a C:\new #b"), ["a", r"C:\new", "#b"]);
        assert_eq!(words("a \"\\xc3\\xa9\""), ["a", "é"]);
    }

    #[test]
    fn bad_quotes_are_shown_with_a_caret_and_without_the_password() {
        let (lines, diagnostics) = parse("port 1\nlogfile \"a\"b\nrequirepass \"hunter2\n");
        assert_eq!(lines.len(), 1);
        assert_eq!(
            diagnostics[0].to_string(),
            [
                "error: Unbalanced quotes in configuration line",
                " --> line 2:12",
                "  |",
                "2 | logfile \"a\"b",
                "  |            ^",
                "  = help: close the quote, with a blank behind it; \
                 a quote inside double quotes is \\\"",
            ]
            .join("\n")
        );
        assert_eq!(&*diagnostics[1].text, "requirepass ******");
        assert_eq!(parse("a \"\\xff\"").1[0].column, 3);
    }

    #[test]
    fn a_password_and_nothing_else_may_be_bytes() {
        for text in ["requirepass \"\\xff\"", &decode(b"sentinel auth-pass m \xff")] {
            let (lines, found) = parse(text);
            assert_eq!(found, []);
            let password = &lines[0].words.last().unwrap().text;
            assert_eq!(bytes::encode(password), b"\xff");
            assert_eq!(quote(password), "\"\\xff\"");
        }
        let found = parse(&decode(b"logfile gr\xfcn")).1[0].to_string();
        assert!(found.contains("1 | logfile gr\u{fffd}n\n  |         ^"), "{found}");
    }

    #[test]
    fn options_of_the_command_line() {
        assert_eq!(
            from("--port|7000|--save|60|1"),
            [vec!["port", "7000"], vec!["save", "60", "1"]]
        );
        assert_eq!(from("--port 7000|--save"), [vec!["port", "7000"], vec!["save", ""]]);
        assert_eq!(from("--save|--port|1"), [vec!["save", ""], vec!["port", "1"]]);
        assert_eq!(from("--sentinel|--port|1"), [["port", "1"]]);
        assert_eq!(from("--requirepass|--a b"), [["requirepass", "--a b"]]);
        assert_eq!(
            from("--sentinel|monitor|mm|127.0.0.1|7000|1"),
            [["sentinel", "monitor", "mm", "127.0.0.1", "7000", "1"]]
        );
        assert_eq!(from("port|7000"), [["port", "7000"]]);
        assert_eq!(from("--|--port|1"), [["--port", "1"]]);
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in "\\PC*|[ \"'\\\\x0-9a#\\n\\r\\t\u{e9}]{0,40}") {
            let (lines, diagnostics) = parse(&text);
            for diagnostic in diagnostics {
                prop_assert!(diagnostic.to_string().contains('^'));
            }
            prop_assert!(lines.iter().all(|l| !l.words.is_empty()));
        }

        #[test]
        fn a_quoted_word_is_read_back(a in any::<String>(), b in any::<String>()) {
            let line = format!("{} {}", quote(&a), quote(&b));
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(words(&line), [a, b]);
        }
    }
}
