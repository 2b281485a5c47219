//! `watchfire check`: tells all that is wrong with a configuration, and whether a start would find
//! what it needs. Starts nothing and writes nothing.

use std::fmt::Write as _;
use std::io;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::api::Users;
use crate::config::diagnostic::{Diagnostic, Severity, os_words};
use crate::config::load::{Kind, Loaded, Syntax, kind, load_sentinel};
use crate::config::users::UserLines;
use crate::daemon;
use crate::net;
use crate::net::tls::{Tls, TlsError};
use crate::server;

/// How long a listener may take to answer before its port counts as free.
const PROBE_WAIT: Duration = Duration::from_millis(300);

/// Look for mistakes in a configuration without starting anything.
///
/// FILE is a sentinel's YAML file, a sentinel.conf, or a data node's redis.conf; its content tells
/// which. All problems are shown at once, with their places and how to mend them.
///
/// Exit code 0: it would start (there may be warnings). 1: it would not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration
    file: PathBuf,
    /// What it configures, where a file in Redis's syntax has no 'sentinel' line to tell by
    #[arg(long, value_enum, value_name = "WHAT")]
    r#for: Option<Subject>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Subject {
    Sentinel,
    Server,
}

pub(super) fn run(args: Args) -> ExitCode {
    let report = check(&args.file, args.r#for);
    // Who reads may be gone: the exit code still tells.
    let _ = write!(std::io::stdout(), "{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is found out about a file.
struct Report {
    file: PathBuf,
    /// What kind of file it is; empty where that cannot be told.
    what: &'static str,
    found: Vec<Diagnostic>,
    /// What would start, if the file is good.
    would_start: String,
}

impl Report {
    fn is_good(&self) -> bool {
        !self.found.iter().any(Diagnostic::is_error)
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.what.is_empty() {
            writeln!(f, "{} is {}.", self.file.display(), self.what)?;
        }
        for finding in &self.found {
            writeln!(f, "\n{finding}")?;
        }
        if !self.found.is_empty() {
            writeln!(f)?;
        }
        let mut counts = String::new();
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let (count, comma) =
                (self.count(severity), if counts.is_empty() { ": " } else { ", " });
            if count > 0 {
                let plural = if count == 1 { "" } else { "s" };
                write!(counts, "{comma}{count} {severity}{plural}")?;
            }
        }
        if self.is_good() {
            writeln!(f, "It would start{counts}. {}", self.would_start)
        } else {
            writeln!(f, "It would not start{counts}.")
        }
    }
}

fn check(file: &Path, subject: Option<Subject>) -> Report {
    let mut report =
        Report { file: file.to_owned(), what: "", found: Vec::new(), would_start: String::new() };
    let kind = match (kind(file), subject) {
        (Ok(Kind::SentinelYaml), _) => Kind::SentinelYaml,
        (Ok(_), Some(Subject::Sentinel)) => Kind::SentinelConf,
        (Ok(_), Some(Subject::Server)) => Kind::ServerConf,
        (Ok(kind), None) => kind,
        (Err(problem), _) => {
            report.found.push(problem);
            return report;
        }
    };
    report.what = match kind {
        Kind::SentinelYaml => "a sentinel's YAML file",
        Kind::SentinelConf => "a sentinel.conf",
        Kind::ServerConf if subject.is_some() => "a data node's file",
        Kind::ServerConf => "a data node's file, for no line begins with 'sentinel'",
    };
    match kind {
        Kind::SentinelYaml | Kind::SentinelConf => check_sentinel(&mut report),
        Kind::ServerConf => check_server(&mut report),
    }
    report.found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

fn check_sentinel(report: &mut Report) {
    match load_sentinel(&report.file, &[]) {
        Err(found) => report.found = found,
        Ok(mut loaded) => {
            report.found = std::mem::take(&mut loaded.notes);
            report.found.extend(users(&loaded));
            sentinel_files(&loaded, &mut report.found);
            let settings = &loaded.settings;
            let tls_port = settings.transport.tls.port;
            for number in [settings.port, tls_port].into_iter().filter(|port| *port != 0) {
                port(&settings.bind, number, &mut report.found);
            }
            let doors = match (settings.port, tls_port) {
                (0, 0) => "A Unix socket only".to_owned(),
                (port, 0) => format!("Port {port}"),
                (0, port) => format!("Port {port} with TLS"),
                (port, tls_port) => format!("Port {port}, and {tls_port} with TLS"),
            };
            let groups: Vec<&str> = loaded.groups.keys().map(String::as_str).collect();
            report.would_start = match groups[..] {
                [] => format!("{doors}, no group"),
                [_, _, _, _, _, _, ..] => format!("{doors}, watching {} groups", groups.len()),
                _ => format!("{doors}, watching {}", groups.join(", ")),
            };
        }
    }
}

/// What is to be said of the users and the ACL file.
fn users(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut settings = loaded.settings.clone();
    if let (Syntax::Conf, Some(file)) = (loaded.syntax, &settings.acl_file) {
        settings.acl_file = Some(settings.dir.join(file));
    }
    let mut found =
        Users::open(&settings, UserLines::default()).map_or_else(|found| found, |(_, found)| found);
    if loaded.syntax == Syntax::Conf {
        found.extend(Users::not_for_redis(&settings));
    }
    found
}

/// The files and folders that a sentinel writes.
fn sentinel_files(loaded: &Loaded, found: &mut Vec<Diagnostic>) {
    let settings = &loaded.settings;
    let mut base = PathBuf::new();
    match loaded.syntax {
        Syntax::Yaml => {
            if let Err((place, why)) = can_make(&settings.dir) {
                let problem = format!("State can't be kept in {}: {why}", place.display());
                found.push(Diagnostic::error(problem).help(
                    "set 'state_dir' to a folder that this user may write to, or let it be made",
                ));
            }
        }
        Syntax::Conf => {
            let file = &loaded.path;
            let folder = file.parent().unwrap_or(Path::new("/"));
            let replaceable = writable(file).and_then(|()| writable(folder));
            if let Err(why) = replaceable.and_then(|()| not_mounted(file)) {
                found.push(unwritable(loaded, &why));
            }
            found.extend(daemon::journal_left(loaded));
            working_folder(&settings.dir, found);
            base.clone_from(&settings.dir);
        }
    }
    tls_files(loaded, &base, found);
    if let Some(socket) = &settings.transport.unix.path
        && let Err(why) = can_make_socket(&base.join(socket))
    {
        let problem = format!("Failed opening Unix socket: {}: {why}", socket.display());
        let finding = Diagnostic::error(problem);
        let help = "give a path in a folder that this user may write to";
        found.push(loaded.point("unixsocket", finding.help(help)));
    }
    if let Some(log) = &settings.logfile
        && let Err(why) = can_write(&base.join(log))
    {
        let problem = format!("Can't open the log file {}: {why}", log.display());
        found.push(Diagnostic::error(problem).help("give a path that this user may write to"));
    }
    if let Some(pid) = &settings.pidfile
        && let Err(why) = can_write(&base.join(pid))
    {
        let problem = format!("Failed to write PID file {}: {why}", pid.display());
        found.push(Diagnostic::new(Severity::Warning, problem).help("it starts without the file"));
    }
}

/// Certificates and keys, as a start would read them in the folder `base`.
fn tls_files(loaded: &Loaded, base: &Path, found: &mut Vec<Diagnostic>) {
    let mut tls = loaded.settings.transport.tls.clone();
    if !tls.is_used() {
        return;
    }
    let (server, client) = (&mut tls.server, &mut tls.client);
    for file in [
        &mut server.cert_file,
        &mut server.key_file,
        &mut client.cert_file,
        &mut client.key_file,
        &mut tls.ca_file,
        &mut tls.ca_dir,
    ] {
        *file = file.take().map(|file| base.join(file));
    }
    match Tls::open(&tls) {
        Ok(tls) => found.extend(tls.warnings().into_iter().map(|(directive, warning)| {
            loaded.point(directive, Diagnostic::new(Severity::Warning, warning))
        })),
        Err(TlsError { directive, message, help }) => {
            found.push(loaded.point(directive, Diagnostic::error(message).help(help)));
        }
    }
}

/// What becomes of a sentinel.conf that cannot be written.
fn unwritable(loaded: &Loaded, why: &str) -> Diagnostic {
    let file = loaded.path.display();
    let mut refusals = Vec::new();
    for folder in daemon::state_folders(loaded) {
        match can_make(&folder) {
            Ok(()) => {
                let folder = folder.display();
                let problem = format!(
                    "Config file {file} cannot be written ({why}): state would be kept in {folder}"
                );
                return Diagnostic::new(Severity::Warning, problem).help(
                    "to go back to Redis Sentinel, make the file and its folder writable, and \
                     start this program once more",
                );
            }
            Err((place, why)) => refusals.push(format!("{}: {why}", place.display())),
        }
    }
    let problem = format!("Sentinel config file {file} is not writable: {why}. Exiting...");
    let refusals = refusals.join("; ");
    Diagnostic::error(problem).help(format!(
        "make it and its folder writable, or one of the folders that may keep its state: {refusals}"
    ))
}

/// A file that is a mount of its own cannot be renamed over.
fn not_mounted(file: &Path) -> Result<(), String> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Blanks and the like are written as three octal digits there.
    let name = file.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    let mounted = mounts.lines().any(|line| line.split(' ').nth(4) == Some(name.as_str()));
    if mounted { Err("it is a mount of its own".to_owned()) } else { Ok(()) }
}

/// A data node's directives are known to its own table.
fn check_server(report: &mut Report) {
    let file = report.file.display().to_string();
    match server::Config::from_args(&[file]) {
        Err(found) => report.found = found,
        Ok((config, found)) => {
            report.found = found;
            working_folder(Path::new(&config.dir), &mut report.found);
            port(&config.bind, config.port, &mut report.found);
            report.would_start = match &config.replicaof {
                Some(master) => format!("Port {}, a replica of {master}", config.port),
                None => format!("Port {}, a master", config.port),
            };
        }
    }
}

/// Redis's `dir`, which must be there.
fn working_folder(dir: &Path, found: &mut Vec<Diagnostic>) {
    let why = match dir.metadata() {
        Ok(metadata) if metadata.is_dir() => match access(dir, Access::EXEC_OK) {
            Ok(()) => return,
            Err(errno) => os_words(&errno.into()),
        },
        Ok(_) => "Not a directory".to_owned(),
        Err(error) => os_words(&error),
    };
    let problem = format!("Can't chdir to '{}': {why}", dir.display());
    found.push(Diagnostic::error(problem).help("create it, or correct 'dir'"));
}

/// Whether a node could listen there. The address is tried with a port that the system chooses, and
/// the port by asking who answers: a start at this very moment is not disturbed.
fn port(bind: &[String], port: u16, found: &mut Vec<Diagnostic>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Ok(runtime) = runtime
        && let Err(error) = runtime.block_on(async { net::listen(bind, 0, 1) })
    {
        let (address, call, why) = (&error.address, error.call, os_words(&error.cause));
        let problem =
            format!("Could not create server TCP listening socket {address}:{port}: {call}: {why}");
        found.push(Diagnostic::error(problem).help("correct 'bind': addresses of this machine"));
        return;
    }
    let everywhere = ["*".to_owned()];
    let bind = if bind.is_empty() { &everywhere[..] } else { bind };
    let in_use = bind.iter().find(|entry| {
        let address = probe_address(entry.trim_start_matches('-'), port);
        address.is_some_and(|a| TcpStream::connect_timeout(&a, PROBE_WAIT).is_ok())
    });
    if let Some(entry) = in_use {
        let problem = format!("Port {port} of '{entry}' is in use");
        found.push(
            Diagnostic::new(Severity::Warning, problem)
                .help("stop the process that listens there first, or choose another port"),
        );
    }
}

/// Where a listener bound by this entry of `bind` would answer.
fn probe_address(entry: &str, port: u16) -> Option<SocketAddr> {
    let ip = match entry {
        "*" | "0.0.0.0" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
        "::*" | "::" => Some(IpAddr::from(Ipv6Addr::LOCALHOST)),
        name => name.parse().ok(),
    };
    match ip {
        Some(ip) => Some((ip, port).into()),
        None => (entry, port).to_socket_addrs().ok()?.next(),
    }
}

/// Whether this user may write to a file or into a folder that exists.
fn writable(path: &Path) -> Result<(), String> {
    access(path, Access::WRITE_OK).map_err(|errno| os_words(&errno.into()))
}

/// Whether a file can be written, or made.
fn can_write(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err("Is a directory".to_owned()),
        Ok(_) => writable(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            writable(folder.unwrap_or(Path::new(".")))
        }
        Err(error) => Err(os_words(&error)),
    }
}

/// Whether a socket can be made there, in place of an old one or anew.
fn can_make_socket(path: &Path) -> Result<(), String> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err("there is a file that is no socket".to_owned())
        }
        _ => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            writable(folder.unwrap_or(Path::new(".")))
        }
    }
}

/// Whether a folder can be written to, or made; if not, which folder is in the way, and why.
fn can_make(folder: &Path) -> Result<(), (PathBuf, String)> {
    let error = |why| (folder.to_owned(), why);
    match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => writable(folder).map_err(error),
        Ok(_) => Err(error("Not a directory".to_owned())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => can_make(parent),
            _ => can_make(Path::new(".")),
        },
        Err(cause) => Err(error(os_words(&cause))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(content: &str, subject: Option<Subject>) -> (tempfile::TempDir, Report) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, content.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        let report = check(&file, subject);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is written");
        (folder, report)
    }

    fn messages(report: &Report) -> Vec<String> {
        report.found.iter().map(|d| format!("{} {}", d.severity, d.message)).collect()
    }

    #[test]
    fn good_files_of_each_kind() {
        let groups = "groups: {a: {master: '127.0.0.1:1', quorum: 2}}";
        let yaml = format!("listen: {{bind: 127.0.0.1}}\nstate_dir: FOLDER/x/y\n{groups}\n");
        let conf = "bind 127.0.0.1\nsentinel monitor a 127.0.0.1 1 2\ndir FOLDER\nlogfile log\n";
        let node = "bind 127.0.0.1\nreplicaof 127.0.0.1 7000\n";
        for (content, what, starts) in [
            (yaml.as_str(), "a sentinel's YAML file", "watching a"),
            (conf, "a sentinel.conf", "watching a"),
            (node, "a data node's file", "a replica of 127.0.0.1:7000"),
        ] {
            let (_folder, report) = report(content, None);
            let shown = report.to_string();
            assert!(report.is_good(), "{shown}");
            assert!(shown.contains(what) && shown.trim_end().ends_with(starts), "{shown}");
        }
        let (_folder, report) = report("port 26379\nbind 127.0.0.1\n", Some(Subject::Sentinel));
        assert_eq!(report.what, "a sentinel.conf");
    }

    #[test]
    fn what_a_start_would_miss() {
        let (_folder, report) = report(
            "bind 192.0.2.1\nsentinel monitor a 127.0.0.1 1 2\ndir FOLDER/none\nlogfile FOLDER\n\
             pidfile FOLDER/none/pid\n",
            None,
        );
        let found = messages(&report);
        for (at, begins) in [
            "error Can't chdir to",
            "error Can't open the log file",
            "error Could not create server TCP listening socket 192.0.2.1:26379: bind",
            "warning Failed to write PID file",
        ]
        .into_iter()
        .enumerate()
        {
            assert!(found[at].starts_with(begins), "{found:?}");
        }
        assert!(report.to_string().ends_with("It would not start: 3 errors, 1 warning.\n"));
    }

    #[test]
    fn users_with_which_redis_would_not_start_are_named() {
        let text = "sentinel monitor m 127.0.0.1 6379 2\nuser a on +ping\n\
                    user b on >x +sentinel|EVENTS\nuser c on (+client|setinfo +ping)\n\
                    user d on +sentinel|primary\n";
        let (_dir, report) = report(text, None);
        assert!(report.is_good());
        let told: Vec<_> = report.found.iter().filter(|f| f.message.contains("of user")).collect();
        let places: Vec<_> = told.iter().map(|finding| finding.line).collect();
        assert_eq!(places, [3, 4, 5], "{report}");
        assert!(told[0].message.starts_with("The rule +sentinel|EVENTS of user b names"));
        assert!(!report.to_string().contains(">x"), "{report}");

        let dir = tempfile::tempdir().unwrap();
        let users = dir.path().join("users.acl");
        std::fs::write(&users, "user default on nopass +@all\nuser e on +client|no-touch\n")
            .unwrap();
        let text = format!("sentinel monitor m 127.0.0.1 1 2\naclfile {}\n", users.display());
        let (_dir, report) = self::report(&text, None);
        let place = format!("{}:2", users.display());
        assert!(report.to_string().contains(&place), "{report}");
    }

    #[test]
    fn a_state_folder_that_cannot_be_made() {
        let groups = "groups: {a: {master: '127.0.0.1:1', quorum: 2}}";
        let yaml = format!("listen: {{bind: 127.0.0.1}}\nstate_dir: FOLDER/file/x\n{groups}\n");
        let (_folder, report) = report(&yaml, None);
        assert!(messages(&report)[0].contains("Not a directory"), "{report}");
    }

    #[test]
    fn tls_files_are_read_and_named_with_their_lines() {
        let conf = "bind 127.0.0.1\ntls-port 26380\ntls-cert-file a.crt\ntls-key-file a.key\n\
                    tls-auth-clients no\nsentinel monitor a 127.0.0.1 1 2\ndir FOLDER\n";
        let (folder, missing) = report(conf, None);
        let shown = missing.to_string();
        assert!(shown.contains("Failed to load certificate"), "{shown}");
        assert!(
            shown.contains("No such file or directory") && shown.contains("file:3:15"),
            "{shown}"
        );

        let [first, second] = [(), ()].map(|()| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        });
        let file = folder.path().join("file");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            check(&file, None)
        };
        write("a.crt", &first.0);
        let mismatch = write("a.key", &second.1).to_string();
        assert!(mismatch.contains("it is not the key of the certificate"), "{mismatch}");
        assert!(mismatch.contains("file:4:14"), "{mismatch}");
        let expired = write("a.key", &first.1);
        assert!(expired.is_good(), "{expired}");
        let shown = expired.to_string();
        assert!(shown.contains("a.crt has expired") && shown.contains("file:3:15"), "{shown}");
        assert!(shown.contains("Port 26379, and 26380 with TLS, watching a"), "{shown}");
    }

    #[test]
    fn what_tls_lacks_is_found_in_both_syntaxes() {
        let yaml = "listen: {bind: 127.0.0.1, port: 0, tls_port: 26380}\n\
                    tls: {key_file: FOLDER/key}\nstate_dir: FOLDER\n\
                    groups: {a: {master: '127.0.0.1:1', quorum: 2}}\n";
        let (_folder, yaml) = report(yaml, None);
        let conf = "bind 127.0.0.1\nport 0\ntls-port 26380\ntls-key-file /key\n\
                    sentinel monitor a 127.0.0.1 1 2\n";
        let (_folder, conf) = report(conf, None);
        for (report, place, key_place) in [(yaml, ":1:46", ":2:17"), (conf, ":3:10", ":4:14")] {
            let shown = report.to_string();
            for wanted in [
                "error: No tls-cert-file configured!",
                "error: Either tls-ca-cert-file or tls-ca-cert-dir must be specified",
                "warning: This sentinel listens with TLS only",
                place,
                key_place,
            ] {
                assert!(shown.contains(wanted), "{wanted} is missing:\n{shown}");
            }
        }
    }

    #[test]
    fn a_port_in_use_is_a_warning() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let content = format!("bind 127.0.0.1\nport {port}\nsentinel monitor a 127.0.0.1 1 2\n");
        let (_folder, report) = report(&content, None);
        assert_eq!(messages(&report), [format!("warning Port {port} of '127.0.0.1' is in use")]);
        assert!(report.is_good());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let (_folder, report) = report("sentinel monitor a b c d\nprot 1\nbind \"x\n", None);
        assert_eq!(report.count(Severity::Error), 3, "{report}");
    }

    #[test]
    fn a_data_node_is_asked_about_its_own_directives() {
        let (_folder, report) = report("prot 1\nport 70000\n", None);
        assert_eq!(report.count(Severity::Error), 2, "{report}");
    }
}
