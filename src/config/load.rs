//! The one place of `config` that reads files: the file itself, what it includes, and what a YAML
//! file keeps elsewhere. Tells the two syntaxes apart by content.
//!
//! A file is **YAML** if its lines look like `key:` or `- item`, and **sentinel.conf** if they look
//! like `directive value`; the majority of lines decides, so that one slip does not change the
//! syntax, and a tie is refused. A file without any setting is a sentinel.conf, since Redis starts
//! with one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::MatchOptions;
use rustix::fs::{Access, access};

use super::bytes;
use super::conf::{self, Line, Statement};
use super::diagnostic::{Diagnostic, Severity, os_words};
use super::own;
use super::sentinel_conf::{self, ConfState, Declared};
use super::settings::{GroupSettings, SentinelSettings};
use super::state::{GroupState, State};
use super::transport;
use super::types::Secret;
use super::users::UserLines;
use super::yaml;

/// Largest file that is read, in bytes. Ten thousand groups take about ten megabytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Largest password file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Largest ACL file, in bytes.
const ACL_BYTES_MAX: u64 = 16 << 20;
/// How many files one file may include, those that they include among them.
const INCLUDES_MAX: usize = 100;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Our own.
    Yaml,
    /// Redis's.
    Conf,
}

/// What a file configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sentinel, in our syntax.
    SentinelYaml,
    /// A sentinel, in Redis's syntax.
    SentinelConf,
    /// A data node.
    ServerConf,
}

/// Tells by its content what a file configures. A data node's file is one in Redis's syntax without
/// a line that begins with `sentinel`.
///
/// # Errors
/// What keeps the file from being read or told apart.
pub fn kind(path: &Path) -> Result<Kind, Diagnostic> {
    let text = read_text(path)?;
    let sentinel = |line: &str| {
        let first = line.split_ascii_whitespace().next();
        first.is_some_and(|word| word.eq_ignore_ascii_case("sentinel"))
    };
    Ok(match detect(&text).map_err(|d| d.in_file(path))? {
        Syntax::Yaml => Kind::SentinelYaml,
        Syntax::Conf if text.lines().any(sentinel) => Kind::SentinelConf,
        Syntax::Conf => Kind::ServerConf,
    })
}

/// A sentinel's configuration, read and found good.
#[derive(Clone)]
pub struct Loaded {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its text as it was read.
    pub text: String,
    /// How it is written.
    pub syntax: Syntax,
    /// What the process is told, command line included.
    pub settings: SentinelSettings,
    /// The groups as declared.
    pub groups: BTreeMap<String, GroupSettings>,
    /// The state lines of a `sentinel.conf`; `None` for YAML, which carries no state.
    pub conf_state: Option<ConfState>,
    /// What is worth telling: notes and warnings.
    pub notes: Vec<Diagnostic>,
    /// `dir`, absolute, as it was meant where the file was read.
    pub home: PathBuf,
    declared: Declared,
    /// The directives that more than their own line decides about.
    placed: Vec<Statement>,
    /// Where it was read: the folder that relative paths in it begin at.
    base: PathBuf,
    /// The options of the command line.
    overrides: Vec<String>,
}

/// Leaves the text out, which may hold passwords.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("path", &self.path)
            .field("syntax", &self.syntax)
            .field("settings", &self.settings)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// The text of a `sentinel.conf` with these settings and this state, whose
    /// [`live`](State::live) settings count where it has some: comments, order and unknown lines of
    /// `original` (the file as it is now) stay, and Redis Sentinel can read it. `journal` is the id
    /// of a journal that will add to it.
    pub fn render(
        &self,
        original: &str,
        settings: &SentinelSettings,
        state: &State,
        journal: Option<&str>,
    ) -> String {
        let mut settings = settings.clone();
        if let Some(live) = &state.live {
            settings.set_live(live.settings.clone());
        }
        sentinel_conf::render(original, &self.declared, &settings, state, journal)
    }

    /// Gives a finding the place of the directive that it is about (its last line counts), or of
    /// the setting that means the same in YAML.
    pub fn point(&self, directive: &str, finding: Diagnostic) -> Diagnostic {
        if let Some(line) = self.placed.iter().rfind(|s| s.line.name() == directive) {
            let placed = line.finding(finding.severity, 1, &finding.message);
            return Diagnostic { help: finding.help, ..placed };
        }
        let placed = match self.syntax {
            Syntax::Yaml => yaml::point(&self.text, directive, finding),
            Syntax::Conf => finding,
        };
        placed.in_file(&self.path)
    }

    fn remember_places(&mut self, statements: &[Statement]) {
        let placed = statements.iter().filter(|s| sentinel_conf::is_placed(&s.line.name()));
        self.placed = placed.cloned().collect();
    }

    /// Takes in that the file, which said `before`, says `now`, since somebody edited it:
    /// [`render`](Loaded::render) will add what the new text lacks. True if it says something else,
    /// not only in comments and in lines that mean nothing to a sentinel.
    ///
    /// # Errors
    /// All that is wrong with the new text; nothing has changed then.
    pub fn edited(&mut self, before: &str, now: &str) -> Result<bool, Vec<Diagnostic>> {
        let read = |text: &str| {
            let (base, path) = (&self.base, &self.path);
            load_in(base, path, text.to_owned(), Options::Written(&self.overrides))
        };
        let after = read(now)?;
        if after.syntax != Syntax::Conf {
            return Err(vec![Diagnostic::error("The file is YAML now").in_file(&self.path)]);
        }
        let same = read(before).is_ok_and(|before| {
            before.settings == after.settings && before.conf_state == after.conf_state
        });
        self.declared = after.declared;
        Ok(!same)
    }

    /// The id of the journal that adds to this `sentinel.conf`, if the file names one.
    pub fn journal(&self) -> Option<&str> {
        own::journal(&self.text)
    }

    /// The same with text and state of a `sentinel.conf` as they are by now; `None` if the file is
    /// as it was read, or cannot be read any more.
    pub fn again(&self) -> Option<Loaded> {
        let text = read_text(&self.path).ok().filter(|text| *text != self.text)?;
        let options = Options::New(&self.overrides);
        let again = load_in(&self.base, &self.path, text, options).ok()?;
        let Loaded { text, conf_state, syntax, .. } = again;
        (syntax == Syntax::Conf).then(|| Loaded { text, conf_state, ..self.clone() })
    }

    /// Where users that change at run time are told to whoever writes the file.
    pub fn user_lines(&self) -> UserLines {
        self.declared.user_lines.clone()
    }
}

/// The options of the command line.
#[derive(Clone, Copy)]
pub(super) enum Options<'a> {
    /// They are given at a start.
    New(&'a [String]),
    /// The sentinel that was started with them has written them into its file.
    Written(&'a [String]),
}

/// Reads a sentinel's configuration, with options of the command line over it (`--port`, `7000`).
///
/// # Errors
/// All that is wrong with it, notes and warnings among the errors; at least one is an error.
pub fn load_sentinel(path: &Path, overrides: &[String]) -> Result<Loaded, Vec<Diagnostic>> {
    let base = std::env::current_dir().unwrap_or_default();
    load_in(&base, path, read_text(path).map_err(|d| vec![d])?, Options::New(overrides))
}

/// The same for a file whose text is known, as if it were read in the folder `base`.
pub(super) fn load_in(
    base: &Path,
    path: &Path,
    text: String,
    given: Options<'_>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let syntax = detect(&text).map_err(|d| vec![d.in_file(path)])?;
    let (Options::New(overrides) | Options::Written(overrides)) = given;
    let mut options = Reading::new(base);
    options.options(overrides);
    if let Options::Written(_) = given {
        options.leave_groups_to(&text);
    }
    let mut loaded = Loaded {
        path: std::path::absolute(base.join(path)).unwrap_or_else(|_| base.join(path)),
        home: PathBuf::new(),
        base: base.to_owned(),
        overrides: overrides.to_vec(),
        syntax,
        settings: SentinelSettings::default(),
        groups: BTreeMap::new(),
        conf_state: None,
        notes: Vec::new(),
        declared: Declared::default(),
        placed: Vec::new(),
        text,
    };
    let mut found = match syntax {
        Syntax::Yaml => loaded.read_yaml(path, options),
        Syntax::Conf => loaded.read_conf(path, options),
    };
    let whole = transport::findings(&loaded.settings);
    found.extend(whole.into_iter().map(|(directive, finding)| loaded.point(directive, finding)));
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    // Without the `.` of `dir .`.
    loaded.home = base.join(&loaded.settings.dir).components().collect();
    loaded.notes = found;
    Ok(loaded)
}

impl Loaded {
    /// Takes in a YAML file, the command line over it. Returns all findings.
    fn read_yaml(&mut self, path: &Path, options: Reading) -> Vec<Diagnostic> {
        let outside =
            yaml::Outside { executable: &is_executable, file: &read_secret, variable: &variable };
        let (settings, groups, diagnostics) = yaml::read(&self.text, &outside);
        let mut found: Vec<_> = diagnostics.into_iter().map(|d| d.in_file(path)).collect();
        let fresh = |(name, group)| (name, GroupState::fresh(group, None));
        let state =
            ConfState { groups: groups.into_iter().map(fresh).collect(), ..ConfState::default() };
        let (mut settings, state, diagnostics) =
            sentinel_conf::read((settings, state), &options.statements, &is_executable);
        self.remember_places(&options.statements);
        found.extend(options.found.into_iter().chain(diagnostics));
        for user in &mut settings.users {
            user.place.file.get_or_insert_with(|| path.to_owned());
        }
        self.settings = settings;
        self.groups = group_settings(&state);
        found
    }

    /// Takes in a `sentinel.conf`, the command line over it. Returns all findings.
    fn read_conf(&mut self, path: &Path, options: Reading) -> Vec<Diagnostic> {
        let mut reading = Reading::new(&self.base);
        reading.file(path, &self.text);
        let nothing = || (SentinelSettings::default(), ConfState::default());
        // Redis is in its `dir` by the time it looks for a script.
        let dir = reading.statements.iter().chain(&options.statements).rev().find_map(dir_of);
        let home = self.base.join(dir.unwrap_or_default());
        let executable = |script: &Path| is_executable(&home.join(script));
        let read = |statements: &[_]| sentinel_conf::read(nothing(), statements, &executable);
        let (settings, mut state, diagnostics) = read(&reading.statements);
        let from_files = (settings.clone(), state.clone(), diagnostics);
        own::read_groups(&self.text, &mut state.groups);
        let own = reading.statements.iter().filter(|statement| !statement.aside);
        let own = own.map(|statement| sentinel_conf::plain(&statement.line));
        self.declared = Declared {
            settings,
            groups: group_settings(&state),
            overrides: options.statements.iter().map(|s| s.line.clone()).collect(),
            own: own.chain(own::lines(&self.text).map(own::plain)).collect(),
            user_lines: self.declared.user_lines.clone(),
        };
        let has_options = !options.statements.is_empty();
        reading.statements.extend(options.statements);
        let (mut settings, mut state, diagnostics) = match has_options {
            true => read(&reading.statements),
            false => from_files,
        };
        if settings.requirepass != self.declared.settings.requirepass {
            give_password(&mut settings);
        }
        sentinel_conf::read_votes(&self.text, &mut state);
        self.remember_places(&reading.statements);
        let mut found: Vec<_> =
            reading.found.into_iter().chain(options.found).chain(diagnostics).collect();
        let (hello_key, own) = own::read(&self.text, &|path| read_secret(&home.join(path)));
        let of_groups = own::read_groups(&self.text, &mut state.groups);
        found.extend(own.into_iter().chain(of_groups).map(|finding| finding.in_file(path)));
        if state.groups.is_empty() && !found.iter().any(Diagnostic::is_error) {
            found.push(
                Diagnostic::new(Severity::Note, "No group is watched")
                    .in_file(path)
                    .help("add a line: sentinel monitor <name> <host> <port> <quorum>"),
            );
        }
        self.declared.settings.hello_key.clone_from(&hello_key);
        self.settings = SentinelSettings { hello_key, ..settings };
        self.groups = group_settings(&state);
        self.conf_state = Some(state);
        found
    }
}

/// A `requirepass` of the command line is the password of the default user, whatever the file says.
fn give_password(settings: &mut SentinelSettings) {
    let Some(password) = &settings.requirepass else { return };
    if let Some(default) = settings.users.iter_mut().find(|user| user.name == "default") {
        let add = Secret::new(format!(">{}", password.reveal()));
        default.rules.extend([Secret::new("resetpass"), add]);
    }
}

fn group_settings(state: &ConfState) -> BTreeMap<String, GroupSettings> {
    state.groups.iter().map(|(name, group)| (name.clone(), group.settings.clone())).collect()
}

/// Reads a file in Redis's syntax, what it includes, and options of the command line behind it.
/// Returns its text and its directives; what they mean is the caller's matter.
///
/// # Errors
/// All that cannot be read.
pub fn load_conf(
    path: &Path,
    overrides: &[String],
) -> Result<(String, Vec<Statement>), Vec<Diagnostic>> {
    let text = read_text(path).map_err(|d| vec![d])?;
    let mut reading = Reading::new(&std::env::current_dir().unwrap_or_default());
    reading.file(path, &text);
    reading.options(overrides);
    if reading.found.is_empty() { Ok((text, reading.statements)) } else { Err(reading.found) }
}

/// The directives of a file and of what it includes, while they are read.
struct Reading {
    statements: Vec<Statement>,
    found: Vec<Diagnostic>,
    /// Where relative paths of `include` begin: the folder of the start, then each `dir` that was
    /// read, since Redis enters that at once.
    base: PathBuf,
    /// The files that are being read, each included by the one before it.
    open: Vec<PathBuf>,
    included: usize,
}

impl Reading {
    fn new(base: &Path) -> Reading {
        Reading {
            statements: Vec::new(),
            found: Vec::new(),
            base: base.to_owned(),
            open: Vec::new(),
            included: 0,
        }
    }

    fn file(&mut self, path: &Path, text: &str) {
        let (lines, diagnostics) = conf::parse(text);
        self.found.extend(diagnostics.into_iter().map(|d| d.in_file(path)));
        self.open.push(self.base.join(path));
        self.lines(Some(path.into()), lines);
        self.open.pop();
    }

    fn options(&mut self, overrides: &[String]) {
        match conf::from_args(overrides) {
            Ok(lines) => self.lines(None, lines),
            Err(diagnostic) => self.found.push(diagnostic),
        }
    }

    /// Forgets the groups that a file has, too.
    fn leave_groups_to(&mut self, text: &str) {
        fn group(line: &Line) -> Option<&str> {
            let is_monitor = line.word(1).is_some_and(|w| w.eq_ignore_ascii_case("monitor"));
            (line.name() == "sentinel" && is_monitor).then(|| line.word(2)).flatten()
        }
        let (lines, _) = conf::parse(text);
        let known: Vec<&str> = lines.iter().filter_map(group).collect();
        self.statements.retain(|s| group(&s.line).is_none_or(|name| !known.contains(&name)));
    }

    fn lines(&mut self, file: Option<Arc<Path>>, lines: Vec<Line>) {
        let aside = self.open.len() != 1;
        for line in lines {
            let statement = Statement { line, file: file.clone(), aside };
            if statement.line.name() == "include" {
                self.include(&statement);
                continue;
            }
            if let Some(dir) = dir_of(&statement) {
                self.base.push(dir);
            }
            self.statements.push(statement);
        }
    }

    /// Puts the lines of other files in place of an `include`.
    fn include(&mut self, statement: &Statement) {
        let error = |message: &str, help: &str| {
            statement.finding(Severity::Error, 1, message).help(help.to_owned())
        };
        let [path] = statement.line.args().collect::<Vec<_>>()[..] else {
            let mend = "write: include <file>, one line for each";
            let message = "Bad directive or wrong number of arguments";
            return self.found.push(error(message, mend));
        };
        let files = match included_files(&self.base, path) {
            Ok(files) => files,
            Err(why) => return self.found.push(error(&why, "the wildcards are *, ? and [a-z]")),
        };
        for path in files {
            let trouble = if self.open.contains(&path) {
                error("This file includes itself", "remove the line, or name the files one by one")
            } else if self.included == INCLUDES_MAX {
                error("Too many files are included", "does a file include itself?")
            } else {
                self.included += 1;
                match read_text(&path) {
                    Ok(text) => {
                        self.file(&path, &text);
                        continue;
                    }
                    Err(reason) => error(
                        &reason.message,
                        "a relative path begins where the program starts, or at a 'dir' above it",
                    ),
                }
            };
            self.found.push(trouble);
        }
    }
}

/// The files that an `include` names: one, or with wildcards those that match, by name, which may
/// be none.
fn included_files(base: &Path, path: &str) -> Result<Vec<PathBuf>, String> {
    if !path.contains(['*', '?', '[']) {
        return Ok(vec![base.join(path)]);
    }
    let base = glob::Pattern::escape(&base.to_string_lossy());
    let pattern = Path::new(&base).join(path);
    let rules = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let found = glob::glob_with(&pattern.to_string_lossy(), rules).map_err(|e| e.to_string())?;
    Ok(found.flatten().filter(|file| !file.is_dir()).collect())
}

/// The folder of a `dir` directive.
fn dir_of(statement: &Statement) -> Option<&str> {
    let line = &statement.line;
    (line.words.len() == 2 && line.name() == "dir").then(|| line.word(1))?
}

/// The content of an ACL file.
///
/// # Errors
/// Redis's words: why it cannot be read.
pub fn read_acl_file(path: &Path) -> Result<Vec<u8>, String> {
    let error =
        |why: String| format!("Error loading ACLs, opening file '{}': {why}", path.display());
    read_limited(path, ACL_BYTES_MAX).map_err(|cause| match cause.kind() {
        io::ErrorKind::FileTooLarge => error(format!("it has more than {ACL_BYTES_MAX} bytes")),
        _ => error(os_words(&cause)),
    })
}

/// The text of a file, or what keeps it from being read, in Redis's words where it has them.
fn read_text(path: &Path) -> Result<String, Diagnostic> {
    let shown = path.display();
    let cannot = |reason: String| {
        Diagnostic::error(format!("Fatal error, can't open config file '{shown}': {reason}"))
    };
    let bytes = read_limited(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => cannot(os_words(&error))
            .help("give the path of a file that exists; the examples are in config/"),
        io::ErrorKind::IsADirectory => {
            cannot(os_words(&error)).help("give the path of the file in it")
        }
        io::ErrorKind::PermissionDenied => cannot(os_words(&error))
            .help("let the user who starts this read the file and enter its directories"),
        io::ErrorKind::FileTooLarge => cannot(format!("it has more than {FILE_BYTES_MAX} bytes"))
            .help("a configuration is a small text; is this the right file?"),
        _ => cannot(os_words(&error)),
    })?;
    let text = bytes::decode(&bytes);
    let is_yaml = detect(&text).is_ok_and(|syntax| syntax == Syntax::Yaml);
    let bad = |line: &str| !bytes::is_utf8(line) && !line.trim_start().starts_with('#');
    let (bad, help) = match is_yaml {
        true => (
            text.lines().position(bad).map(|index| index + 1),
            "save it as UTF-8; a password of other bytes may be kept in a file (password_file)",
        ),
        false => (conf::not_utf8(&text), "save it as UTF-8; is this the right file?"),
    };
    if let Some(line) = bad {
        let finding = Diagnostic::error("The file is not UTF-8 text").in_file(path).help(help);
        return Err(Diagnostic { line, ..finding });
    }
    // Some editors of Windows begin a file with an invisible mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Reads a file up to a limit.
fn read_limited(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn read_secret(path: &Path) -> Result<String, String> {
    let bytes = read_limited(path, SECRET_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => format!("it has more than {SECRET_BYTES_MAX} bytes"),
        _ => os_words(&error),
    })?;
    Ok(bytes::decode(&bytes))
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| bytes::decode(value.as_bytes()))
}

/// Whether a script is a file that this process may execute.
pub fn is_executable(path: &Path) -> bool {
    access(path, Access::EXEC_OK).is_ok() && fs::metadata(path).is_ok_and(|m| m.is_file())
}

/// Tells the two syntaxes apart, as the head of this module says.
pub(super) fn detect(text: &str) -> Result<Syntax, Diagnostic> {
    let (mut yaml, mut conf) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let first = line.split_ascii_whitespace().next().unwrap_or("#");
        let indented = line.starts_with([' ', '\t']);
        if first.starts_with('#') {
            continue;
        }
        let yaml_like = first.contains(':')
            || matches!(first, "-" | "---" | "...")
            || first.starts_with(['{', '}', '[', ']', '%', '&', '*', '?']);
        if yaml_like {
            yaml.push((index + 1, line));
        } else if !indented || first == "sentinel" {
            conf.push((index + 1, line));
        }
    }
    match yaml.len().cmp(&conf.len()) {
        std::cmp::Ordering::Greater => Ok(Syntax::Yaml),
        std::cmp::Ordering::Less => Ok(Syntax::Conf),
        std::cmp::Ordering::Equal if yaml.is_empty() => Ok(Syntax::Conf),
        std::cmp::Ordering::Equal => {
            let (y, c) = (yaml[0].0, conf[0].0);
            Err(Diagnostic::error("This file is half YAML, half sentinel.conf").help(format!(
                "line {y} looks like YAML (key: value), line {c} like sentinel.conf \
                 (directive value); write all of it one way"
            )))
        }
    }
}
