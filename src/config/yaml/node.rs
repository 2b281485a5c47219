//! YAML as a tree in which every value knows its place, so that all problems of a file can be found
//! at once. What the values mean is decided in the parent.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Location, Spanned};

use super::super::diagnostic::Diagnostic;

/// Most parser events of a file, aliases unfolded: ten thousand groups with ten settings take a
/// quarter of it.
const EVENTS_MAX: usize = 1_000_000;
/// Most parser events that come from aliases.
const REPLAYED_MAX: usize = 100_000;
/// Most uses of anchors: every group may take its defaults from one.
const GROUPS_MAX: usize = 50_000;

/// Most levels of nesting: a good file has five. The parser calls itself for each, on its stack.
const DEPTH_MAX: usize = 16;

/// Where a value stands: line, column and width, the first two counted from 1; width 0 where it is
/// not known.
pub(super) type Place = (usize, usize, usize);

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A YAML value.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing behind the colon, `~` or `null`.
    Null,
    /// `true` or `false`, as text.
    Flag(String),
    /// A number without quotes, as it is written.
    Number(String),
    /// Anything else that is one word or text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and their values in the order of the file; a key may occur twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
}

/// Reads a file of one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, Diagnostic> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_events: EVENTS_MAX,
            max_nodes: EVENTS_MAX,
            max_depth: DEPTH_MAX,
            max_aliases: GROUPS_MAX,
            max_merge_keys: GROUPS_MAX,
            // A thousand groups may share one anchor of defaults.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: REPLAYED_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Ok(node(root, text)),
        Err(error) => {
            let message = error.without_snippet().to_string();
            let place = error.location().map_or((0, 0, 0), |l| place(&l, 1));
            // The parser repeats the place in its text; ours is shown with the line.
            let message = message.split([';', '\n']).next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or_default();
            let finding = Diagnostic::error(format!("This is not YAML: {message}"))
                .help("quotes, brackets and indentation must match, also in the lines above");
            Err(Lines::of(text).point(finding, place))
        }
    }
}

/// The lines of a file, to be shown in findings.
pub(super) struct Lines<'a>(Vec<&'a str>);

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Lines<'a> {
        // As YAML counts them: a lone CR ends a line, too.
        Lines(text.lines().flat_map(|line| line.split('\r')).collect())
    }

    /// Points a finding at a place.
    pub(super) fn point(&self, finding: Diagnostic, place: Place) -> Diagnostic {
        let line = place.0.checked_sub(1).and_then(|n| self.0.get(n)).copied().unwrap_or_default();
        finding.at_place(line, place, self.secret_column(place.0))
    }

    /// Where the secret part of a line begins: behind a key that speaks of a password, or at its
    /// first letter if it belongs to such a key above.
    fn secret_column(&self, number: usize) -> Option<usize> {
        let at = number.checked_sub(1)?;
        let line = self.0.get(at)?;
        let indent = |l: &str| l.len() - l.trim_start().len();
        let is_parent = |l: &&&str| !l.trim().is_empty() && indent(l) < indent(line);
        // Redis's rule `>password`.
        let rule = line.chars().position(|c| matches!(c, '>' | '<')).map(|at| at + 1);
        behind_secret_key(line).into_iter().chain(rule).min().or_else(|| {
            let parent = self.0[..at].iter().rev().find(is_parent)?;
            let blanks = line.chars().take_while(|c| c.is_whitespace()).count();
            behind_secret_key(parent).map(|_| blanks + 1)
        })
    }
}

/// The column behind `...pass...:`, but not behind the name of a file or a variable; also behind
/// `auth:` if a mere word follows, which must be a password.
fn behind_secret_key(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(colon) = line[from..].find(':').map(|at| from + at) {
        let key = line[..colon].rsplit([' ', '{', ',', '\t']).next().unwrap_or_default();
        let key = key.to_ascii_lowercase();
        let value = line[colon + 1..].trim_start();
        let elsewhere = key.contains("_file") || key.contains("_env");
        let word = !value.is_empty() && !value.starts_with(['{', '#', '&', '*']);
        let secret = key.contains("pas") || key.contains("secret");
        if (secret && !elsewhere) || (key.ends_with("auth") && word) {
            let blanks = line[colon + 1..].chars().take_while(|c| *c == ' ').count();
            return Some(line[..=colon].chars().count() + blanks + 1);
        }
        from = colon + 1;
    }
    None
}

fn place(location: &Location, width: usize) -> Place {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    (number(location.line()), number(location.column()), width)
}

/// Gives every value its place, and numbers and flags the text that they were written as.
fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let span = raw.referenced.span();
    let written = |location: &Location| {
        let start = usize::try_from(location.span().byte_offset()?).ok()?;
        let len = usize::try_from(location.span().byte_len()?).ok()?;
        text.get(start..start.checked_add(len)?)
    };
    let width = usize::try_from(span.len()).unwrap_or(1);
    let plain = |fallback: String| match written(&raw.defined) {
        Some(written) => written.trim().to_owned(),
        None => fallback,
    };
    let (value, width) = match raw.value {
        Raw::Null => (Value::Null, width),
        Raw::Flag(on) => (Value::Flag(plain(on.to_string())), width),
        Raw::Number(number) => (Value::Number(plain(number)), width),
        Raw::Text(text) => (Value::Text(text), width),
        Raw::List(items) => (Value::List(items.into_iter().map(|i| node(i, text)).collect()), 1),
        Raw::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                let width = key.value.chars().count();
                let place = place(&key.referenced, width);
                (Key { name: key.value, place }, node(value, text))
            };
            (Value::Map(entries.into_iter().map(entry).collect()), 1)
        }
    };
    Node { value, place: place(&raw.referenced, width) }
}

/// A YAML value as the parser gives it.
enum Raw {
    Null,
    Flag(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Raw, E> {
        Ok(Raw::Flag(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
