//! Configuration over real files: what is read, what is refused and how, and that Redis Sentinel
//! and Watchfire read each other's `sentinel.conf`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use watchfire::config::diagnostic::Diagnostic;
use watchfire::config::load::{Loaded, Syntax, load_conf, load_sentinel};
use watchfire::config::state::State;
use watchfire::config::types::{Address, RunId, Secret};

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const PEER: &str = "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb";

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn args(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn good(path: &Path, options: &str) -> Loaded {
    load_sentinel(path, &args(options)).unwrap_or_else(|found| panic!("{}", shown(&found)))
}

fn refused(path: &Path) -> Vec<Diagnostic> {
    match load_sentinel(path, &[]) {
        Ok(loaded) => panic!("{} is accepted: {loaded:?}", path.display()),
        Err(found) => found,
    }
}

fn shown(found: &[Diagnostic]) -> String {
    found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

fn state_of(loaded: &Loaded) -> State {
    let conf = loaded.conf_state.clone().unwrap();
    State {
        my_id: conf.my_id.unwrap_or_else(|| RunId::parse(ID).unwrap()),
        current_epoch: conf.current_epoch,
        groups: conf.groups.into(),
        removed: Default::default(),
        live: None,
    }
}

#[test]
fn the_examples_are_good_as_they_are() {
    for (name, syntax) in [("sentinel.yaml", Syntax::Yaml), ("sentinel.conf", Syntax::Conf)] {
        let loaded = good(&Path::new("config").join(name), "");
        assert_eq!(loaded.syntax, syntax);
        assert_eq!(shown(&loaded.notes), "");
        assert_eq!(loaded.settings.bind, ["127.0.0.1"]);
        assert_eq!(loaded.groups["mymaster"].quorum, 2);
    }
    let (_, statements) = load_conf(Path::new("config/server.conf"), &[]).unwrap();
    assert!(statements.iter().any(|s| s.line.text.starts_with("bind 127.0.0.1")));
}

#[test]
fn check_tells_all_and_writes_nothing() {
    let check = |path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_watchfire")).arg("check").arg(path).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for name in ["sentinel.yaml", "sentinel.conf", "server.conf"] {
        let (code, said) = check(&Path::new("config").join(name));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("It would start"), "{said}");
    }
    let dir = Dir::new();
    let file = dir.write("bad.yaml", "listen: {port: 0}\ngroups: {m: {quorum: 0}}\n");
    let (code, said) = check(&file);
    assert_eq!(code, Some(1));
    let errors = [":1:16", ":2:10", "has no 'master'", ":2:22", "not start: 3 errors"];
    assert!(errors.iter().all(|part| said.contains(part)), "{said}");
    assert_eq!(fs::read_dir(dir.0.path()).unwrap().count(), 1);
}

#[test]
fn syntaxes_are_told_apart_by_content() {
    let dir = Dir::new();
    let conf = "sentinel monitor m 127.0.0.1 6379 2\n";
    let yaml = "groups:\n  m: {master: 127.0.0.1:6379, quorum: 2}\n";
    for (text, syntax) in [
        (conf.to_owned(), Syntax::Conf),
        (format!("# groups:\n\n  {conf}"), Syntax::Conf),
        (format!("\u{feff}{conf}"), Syntax::Conf),
        (conf.replace('\n', "\r\n"), Syntax::Conf),
        (String::new(), Syntax::Conf),
        ("# nothing\n".to_owned(), Syntax::Conf),
        (yaml.to_owned(), Syntax::Yaml),
        (format!("---\n# sentinel monitor\n{yaml}"), Syntax::Yaml),
        (yaml.replace('\n', "\r\n"), Syntax::Yaml),
        ("{groups: {m: {master: '127.0.0.1:6379', quorum: 2}}}".to_owned(), Syntax::Yaml),
    ] {
        // The name says the contrary.
        let name = if syntax == Syntax::Conf { "x.yaml" } else { "x.conf" };
        assert_eq!(good(&dir.write(name, &text), "").syntax, syntax, "{text}");
    }
    let one_slip = dir.write("slip", format!("{conf}dir .\nport: 5000\n"));
    assert!(shown(&refused(&one_slip)).contains("did you mean 'port'?"));
    let half = dir.write("half", format!("port: 5000\n{conf}"));
    let half = shown(&refused(&half));
    assert!(half.contains("line 1 looks like YAML") && half.contains("line 2 like"), "{half}");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = Dir::new();
    let missing = dir.path("missing.conf");
    assert_eq!(
        refused(&missing)[0].message,
        format!(
            "Fatal error, can't open config file '{}': No such file or directory",
            missing.display()
        )
    );
    assert!(refused(dir.0.path())[0].message.ends_with("': Is a directory"));
    let binary = refused(&dir.write("binary", b"port 1\n\xff\xfe\n"));
    assert_eq!((binary[0].line, binary[0].message.as_str()), (2, "The file is not UTF-8 text"));
    let old = dir.write("old", b"# gr\xfc\xdfe\nsentinel monitor m 127.0.0.1 1 2\n");
    assert_eq!(good(&old, "").groups.len(), 1, "a comment may be older than UTF-8");
    let secret = dir.write("secret", b"requirepass gr\xfc\xdfe\nport 1\n");
    assert_eq!(good(&secret, "").settings.requirepass.unwrap().bytes(), b"gr\xfc\xdfe");
    let yaml = refused(&dir.write("yaml", b"# \xfc\nauth: {password: \xfc}\n"));
    assert_eq!((yaml[0].line, yaml[0].message.as_str()), (2, "The file is not UTF-8 text"));
    assert!(yaml[0].help.as_ref().unwrap().contains("password_file"));
    let huge = dir.path("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    assert!(refused(&huge)[0].message.contains("more than 67108864 bytes"));
    let itself = dir.path("itself");
    fs::write(&itself, format!("include {0}\ninclude {0}.gone\n", itself.display())).unwrap();
    let found = refused(&itself);
    assert_eq!(found[0].message, "This file includes itself");
    assert!(found[1].message.starts_with("Fatal error, can't open config file"));
}

#[test]
fn included_files_and_the_command_line() {
    let dir = Dir::new();
    let more = dir.write("more", "port 5001\nsentinel auth-pass m hunter2\nmaxclients no\n");
    let text = format!(
        "port 5000\ninclude \"{}\"\nmaxclients 5\nsentinel monitor m 127.0.0.1 1 2\n",
        more.display()
    );
    let main = dir.write("main", &text);
    let found = refused(&main);
    assert_eq!((found[0].file.as_deref(), found[0].line), (Some(more.as_path()), 3));
    dir.write("more", "port 5001\nsentinel auth-pass m hunter2\n");
    let loaded = good(&main, "--maxclients 6 --loglevel debug");
    assert_eq!(loaded.path, main);
    assert_eq!((loaded.settings.port, loaded.settings.maxclients), (5001, 6));
    let written = loaded.render(&loaded.text, &loaded.settings, &state_of(&loaded), None);
    assert!(!written.contains("hunter2"), "{written}");
    assert!(written.contains("maxclients 6\n") && written.contains("loglevel debug\n"));
    let bad = load_sentinel(&main, &args("--port 1 --bnd x --sentinel monitor n x 1 1"));
    assert_eq!(
        shown(&bad.unwrap_err()),
        [
            "error: Bad directive or wrong number of arguments",
            " --> command line",
            "  |",
            "  | bnd x",
            "  | ^^^",
            "  = help: did you mean 'bind'?",
            "error: Can't resolve instance hostname.",
            " --> command line",
            "  |",
            "  | sentinel monitor n x 1 1",
            "  |                    ^",
            "  = help: write its IP address, or add the line: sentinel resolve-hostnames yes",
        ]
        .join("\n")
    );
}

/// As in Redis: the first start has written the group into the file.
#[test]
fn a_group_of_the_command_line_that_the_file_has_meanwhile() {
    let dir = Dir::new();
    let main = dir.write("main", "sentinel monitor m 127.0.0.1 1 2\n");
    let rest = "--sentinel rename-command n CONFIG c";
    let options = format!("--sentinel monitor n 127.0.0.1 2 1 {rest}");
    let mut loaded = good(&main, &options);
    let mut state = state_of(&loaded);
    state.groups.get_mut("n").unwrap().settings.master.port = 3;
    let written = loaded.render(&loaded.text, &loaded.settings, &state, None);
    let file = dir.write("main", &written);
    let found = shown(&load_sentinel(&file, &args(&options)).unwrap_err());
    assert!(found.contains("Duplicate master name.") && found.contains("leave the"), "{found}");
    assert_eq!(state_of(&good(&file, rest)), state);
    // Whoever edits the file while the sentinel runs edits one that has the group.
    let edited = format!("{written}# edited\n");
    assert!(!loaded.edited(&written, &edited).unwrap_or_else(|found| panic!("{}", shown(&found))));
}

#[test]
fn a_group_of_an_included_file_that_the_main_file_has_meanwhile() {
    let dir = Dir::new();
    dir.write("more", "sentinel monitor n 127.0.0.1 2 1\n");
    let include = format!("include {}\n", dir.path("more").display());
    let main = dir.write("main", format!("{include}sentinel monitor n 127.0.0.1 3 1\n"));
    let loaded = good(&main, "");
    assert_eq!(loaded.groups["n"].master.port, 3, "the main file follows the failovers");
    assert!(shown(&loaded.notes).contains("The main file says where 'n' is"), "{:?}", loaded.notes);
}

#[test]
fn wildcards_include_by_name_and_may_find_nothing() {
    let dir = Dir::new();
    fs::create_dir(dir.path("conf.d")).unwrap();
    dir.write("conf.d/b.conf", "port 5002\nsentinel parallel-syncs m 2\n");
    dir.write("conf.d/a.conf", "port 5001\n");
    dir.write("conf.d/.hidden.conf", "prot 1\n");
    dir.write("conf.d/c.txt", "prot 1\n");
    fs::create_dir(dir.path("conf.d/d.conf")).unwrap();
    let text = |include: &str| {
        let folder = dir.0.path().display();
        format!("dir {folder}\nsentinel monitor m 127.0.0.1 1 2\ninclude {include}\n")
    };
    for include in ["conf.d/*.conf", "conf.d/[ab].con?", "\"conf.d/*.conf\""] {
        let loaded = good(&dir.write("main", text(include)), "");
        assert_eq!((loaded.settings.port, loaded.groups["m"].parallel_syncs), (5002, 2));
    }
    assert_eq!(good(&dir.write("main", text("conf.d/*.none")), "").settings.port, 26379);
    let itself = shown(&refused(&dir.write("main", text("ma*"))));
    assert!(itself.contains("This file includes itself"), "{itself}");
    let missing = shown(&refused(&dir.write("main", text("conf.d/none"))));
    assert!(missing.contains("No such file or directory"), "{missing}");
    assert!(shown(&refused(&dir.write("main", text("a[")))).contains("wildcards are"));
}

/// The names of each version, by the version.
fn directives() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string("tests/fixtures/directives.txt").unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut versions: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match line.strip_prefix('[') {
            Some(version) => versions.push((version.trim_end_matches(']').to_owned(), Vec::new())),
            None if line.is_empty() => {}
            None => versions.last_mut().unwrap().1.extend(args(line)),
        }
    }
    versions
}

#[test]
fn every_directive_of_every_version_is_known() {
    let dir = Dir::new();
    let versions = directives();
    assert_eq!(versions.len(), 5);
    for (version, names) in versions {
        assert!(names.len() > 150, "{version}");
        let lines: String = names.iter().map(|name| format!("{name} 1\n")).collect();
        let file = dir.write("all", lines);
        let found = match load_sentinel(&file, &[]) {
            Ok(loaded) => loaded.notes,
            Err(found) => found,
        };
        // Some values are bad; no name may be.
        let unknown = found.iter().filter(|finding| finding.message.starts_with("Bad directive"));
        assert_eq!(shown(&unknown.cloned().collect::<Vec<_>>()), "", "{version}");
    }
    let manual = fs::read_to_string("docs/sentinel-conf.md").unwrap();
    for (version, names) in directives() {
        for name in names {
            assert!(manual.contains(&format!("`{name}`")), "{name} of {version} is not documented");
        }
    }
    let file = dir.write("more", "loadmodule /x.so a\nsearch.timeout 5\nsave\nsentinel\n");
    let found = refused(&file);
    assert_eq!(found.iter().filter(|finding| finding.is_error()).count(), 1, "save: no value");
    assert!(shown(&refused(&dir.write("bad", "prot 1\n"))).contains("did you mean 'port'?"));
}

#[test]
fn what_redis_says_of_its_own_settings_is_accepted_as_it_is() {
    let dir = Dir::new();
    let socket = dir.path("s");
    let file = dir.write("redis.conf", format!("port 0\nunixsocket {}\n", socket.display()));
    let child = Command::new("redis-server").arg(&file).stdout(Stdio::null()).spawn().unwrap();
    let _redis = RedisSentinel(child, 0);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.write_all(b"config get *\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    // Bulk strings: each second line is its length.
    let words: Vec<&str> = reply.lines().skip(2).step_by(2).collect();
    let known = &directives()[1];
    assert_eq!(known.0, "redis-7.0");
    let mut lines = String::new();
    for pair in words.chunks_exact(2) {
        let [name, value] = pair else { unreachable!() };
        assert!(known.1.iter().any(|k| k == name), "{name} is not in the list");
        // What is empty stands for nothing; the rest is written as a rewrite would.
        let elsewhere = ["port", "unixsocket", "dir", "daemonize"].contains(name);
        if !value.is_empty() && !elsewhere {
            let several = matches!(*name, "bind" | "save" | "oom-score-adj-values")
                || name.contains("buffer-limit")
                || name.contains("percentiles");
            let quote = if several { "" } else { "\"" };
            lines += &format!("{name} {quote}{value}{quote}\n");
        }
    }
    assert!(lines.lines().count() > 120, "{lines}");
    good(&dir.write("sentinel.conf", lines), "");
}

#[test]
fn yaml_takes_options_and_secrets_from_elsewhere() {
    let dir = Dir::new();
    let secret = dir.write("secret", "from file\n");
    let text = format!(
        "listen: {{port: 5000, password_file: '{}'}}\n\
         groups: {{m: {{master: '127.0.0.1:1', quorum: 2, auth: {{password_env: PATH}}}}}}\n",
        secret.display()
    );
    let file = dir.write("s.yaml", &text);
    let loaded = good(&file, "--port 6000 --sentinel down-after-milliseconds m 100");
    assert_eq!(loaded.settings.port, 6000);
    assert_eq!(loaded.settings.requirepass, Some(Secret::new("from file")));
    assert_eq!(loaded.groups["m"].down_after_ms, 100);
    assert_eq!(loaded.groups["m"].auth_pass, std::env::var("PATH").ok().map(Secret::new));
    assert_eq!(loaded.conf_state, None);
    assert!(!format!("{loaded:?}").contains("from file"));
    fs::remove_file(&secret).unwrap();
    assert!(shown(&refused(&file)).contains("Can't read the password file: No such file"));
}

/// A real sentinel, ended with the test.
struct RedisSentinel(Child, u16);

impl RedisSentinel {
    fn start(conf: &Path, port: u16) -> RedisSentinel {
        // `redis-server --sentinel` is what redis-sentinel is, and is there without that package.
        let child = Command::new("redis-server")
            .args([conf.as_os_str(), "--sentinel".as_ref()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed: the README's test command does that");
        RedisSentinel(child, port)
    }

    /// Sends an inline command once the sentinel answers; gives what it says.
    fn ask(&mut self, command: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.1)) {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
                let mut reply = vec![0; 64 * 1024];
                let len = stream.read(&mut reply).unwrap();
                return String::from_utf8_lossy(&reply[..len]).into_owned();
            }
            if let Some(status) = self.0.try_wait().unwrap() {
                let mut log = String::new();
                self.0.stdout.take().unwrap().read_to_string(&mut log).unwrap();
                panic!("Redis ended with {status}: {log}");
            }
            assert!(Instant::now() < deadline, "Redis does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn scripts_must_be_files_that_can_be_run_where_the_sentinel_works() {
    let dir = Dir::new();
    fs::create_dir(dir.path("there")).unwrap();
    for (name, mode) in [("there/run.sh", 0o755), ("there/plain.sh", 0o644), ("here.sh", 0o755)] {
        let path = dir.write(name, "#!/bin/sh\n");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let folder = dir.path("there");
    let text = |script: &str| {
        format!(
            "sentinel monitor m 127.0.0.1 1 1\nsentinel notification-script m {script}\n\
             sentinel client-reconfig-script m {script}\ndir {}\n",
            folder.display()
        )
    };
    let absolute = dir.path("here.sh").display().to_string();
    for script in ["run.sh", "./run.sh", "../here.sh", &absolute] {
        let loaded = good(&dir.write("sentinel.conf", text(script)), "");
        let group = &loaded.groups["m"];
        for path in [&group.notification_script, &group.client_reconfig_script] {
            assert_eq!(path.as_deref(), Some(Path::new(script)));
        }
    }
    // Folders can be "executed", too, in the eyes of the system.
    for script in ["plain.sh", "here.sh", "missing.sh", ".", "/tmp"] {
        let found = shown(&refused(&dir.write("sentinel.conf", text(script))));
        for kind in ["Notification", "Client reconfiguration"] {
            let expected = format!("{kind} script seems non existing or non executable.");
            assert!(found.contains(&expected), "{script}: {found}");
        }
    }
    // The command line has the last word on the folder.
    let file = dir.write("sentinel.conf", text("here.sh"));
    good(&file, &format!("--dir {}", dir.0.path().display()));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn redis_sentinel_and_watchfire_read_each_others_file() {
    let dir = Dir::new();
    let port = free_port();
    let original = format!(
        "# kept\nport {port}\nbind 127.0.0.1\nsentinel resolve-hostnames yes\n\
         sentinel monitor mymaster 127.0.0.1 1 2\nsentinel known-slave mymaster 127.0.0.1 2\n"
    );
    let file = dir.write("sentinel.conf", &original);

    // Watchfire writes, with everything that it may write.
    let loaded = good(&file, "--supervised no");
    let mut state = state_of(&loaded);
    state.current_epoch = 5;
    let group = state.groups.get_mut("mymaster").unwrap();
    let settings = &mut group.settings;
    (settings.down_after_ms, settings.failover_timeout_ms) = (60_000, 7_000);
    (settings.parallel_syncs, settings.master_reboot_down_after_ms) = (3, 9);
    settings.auth_user = Some("us\"er".to_owned());
    settings.auth_pass = Some(Secret::new("with 'blanks' and\nmore \\ é"));
    settings.rename_commands.insert("CONFIG".to_owned(), "guess me".to_owned());
    settings.notification_script = Some("/bin/true".into());
    (group.config_epoch, group.leader_epoch) = (4, 5);
    group.voted_for = RunId::parse(PEER);
    group.replicas.push(Address::new("::1", 3));
    group.sentinels.insert(RunId::parse(PEER).unwrap(), Address::new("127.0.0.1", 4));
    let mut now = loaded.settings.clone();
    (now.announce_ip, now.announce_port) = (Some("127.0.0.1".to_owned()), Some(5));
    now.sentinel_pass = Some(Secret::new("a b"));
    fs::write(&file, loaded.render(&loaded.text, &now, &state, None)).unwrap();
    assert_eq!(state_of(&good(&file, "")), state);

    // Redis reads it and writes it. Values with blanks it would write as it does not read them, so
    // they are replaced first.
    let mut redis = RedisSentinel::start(&file, port);
    assert_eq!(redis.ask("sentinel myid"), format!("${}\r\n{ID}\r\n", ID.len()));
    let master = redis.ask("sentinel master mymaster");
    for field in ["config-epoch\r\n$1\r\n4", "num-slaves\r\n$1\r\n2", "parallel-syncs\r\n$1\r\n3"] {
        assert!(master.contains(field), "{field} is not in {master}");
    }
    assert!(redis.ask("sentinel sentinels mymaster").contains(PEER));
    for command in [
        "sentinel config set sentinel-pass ab",
        "sentinel set mymaster auth-pass p auth-user u parallel-syncs 4 rename-command CONFIG cfg",
        "sentinel flushconfig",
    ] {
        assert_eq!(redis.ask(command), "+OK\r\n", "{command}");
    }
    drop(redis);

    // Watchfire reads what Redis wrote.
    let back = good(&file, "");
    assert_eq!(shown(&back.notes), "");
    assert!(back.text.starts_with("# kept\n"), "{}", back.text);
    let settings = &mut state.groups.get_mut("mymaster").unwrap().settings;
    settings.parallel_syncs = 4;
    settings.auth_pass = Some(Secret::new("p"));
    settings.auth_user = Some("u".to_owned());
    settings.rename_commands.insert("CONFIG".to_owned(), "cfg".to_owned());
    let mut read = state_of(&back);
    for group in read.groups.values_mut().chain(state.groups.values_mut()) {
        group.replicas.sort();
    }
    assert_eq!(read, state, "{}", back.text);
}

#[test]
fn redis_sentinel_and_watchfire_read_the_same_out_of_odd_numbers() {
    let dir = Dir::new();
    let port = free_port();
    let file = dir.write(
        "sentinel.conf",
        format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor m 127.0.0.1 01 4294967299\n\
             sentinel down-after-milliseconds m 30s\nsentinel failover-timeout m 5.5\n\
             sentinel parallel-syncs m 2.5\nsentinel config-epoch m +7th\n\
             sentinel current-epoch ' 9'\nsentinel announce-port {port}tcp\n"
        ),
    );
    let loaded = good(&file, "");
    assert_eq!(loaded.notes.len(), 7, "{}", shown(&loaded.notes));
    let state = loaded.conf_state.clone().unwrap();
    let group = &state.groups["m"];
    let settings = &group.settings;
    let mut redis = RedisSentinel::start(&file, port);
    let master = redis.ask("sentinel master m");
    for (field, value) in [
        ("port", u64::from(settings.master.port)),
        ("quorum", settings.quorum.into()),
        ("down-after-milliseconds", settings.down_after_ms),
        ("failover-timeout", settings.failover_timeout_ms),
        ("parallel-syncs", settings.parallel_syncs.into()),
        ("config-epoch", group.config_epoch),
    ] {
        let value = value.to_string();
        let expected = format!("{field}\r\n${}\r\n{value}\r\n", value.len());
        assert!(master.contains(&expected), "{field} {value} is not in {master}");
    }
    assert_eq!((settings.quorum, settings.failover_timeout_ms), (3, 5));
    assert_eq!((state.current_epoch, loaded.settings.announce_port), (9, Some(port)));
}
