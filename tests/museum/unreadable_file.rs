//! A sentinel rewrites its file and cannot read it any more: valkey 4530, redis 8313 and 8480.
//!
//! Users saw a sentinel that ran well until it was restarted: `FATAL CONFIG FILE ERROR`. Redis
//! writes values into its file as they are (a password with a blank becomes two words), and some
//! lines twice (`Duplicate hostname and port for replica`), and refuses them when it reads.
//!
//! Ours quotes what it writes. Whatever `SENTINEL SET` and `MONITOR` accept, a rewritten file
//! brings back, and a line that only remembers a node is never a reason not to start.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant as Time};

use proptest::prelude::*;
use watchfire::config::by_name::ByName;
use watchfire::config::load::{Loaded, load_sentinel};
use watchfire::config::state::State;
use watchfire::config::types::RunId;
use watchfire::sentinel::{Clock, Effect, Input, Instant, Request, RequestId, Sentinel};

const FILE: &str = "# mine\nsentinel deny-scripts-reconfig no\nsentinel resolve-hostnames yes\n\
                    sentinel monitor first 127.0.0.1 6379 2\n";

/// What ours does with the requests: the state to be written in the end.
fn state_after(loaded: &Loaded, requests: Vec<Request>) -> State {
    let found = loaded.conf_state.clone().expect("a sentinel.conf");
    let mut state = State {
        my_id: found.my_id.unwrap_or_else(|| RunId::from_bytes([7; 20])),
        current_epoch: found.current_epoch,
        groups: found.groups.into(),
        removed: Default::default(),
        live: None,
    };
    let clock = Clock { mono: Instant::from_ms(1), wall_ms: 1 };
    let mut sentinel = Sentinel::new(clock, loaded.settings.clone(), state.clone(), 1);
    for (n, request) in (1..).zip(requests) {
        sentinel.handle(clock, Input::Request { id: RequestId(n), request });
        while let Some(effect) = sentinel.poll() {
            if let Effect::Persist { revision, state: written, .. } = effect {
                state = *written;
                sentinel.handle(clock, Input::Persisted { revision });
            }
        }
    }
    state
}

/// Text as hostile as text can be.
fn text() -> impl Strategy<Value = String> {
    let sharp = prop::sample::select(
        "\"'\\# \t\n\r\0%\u{85}\u{a0}\u{2028}\u{feff}x".chars().collect::<Vec<_>>(),
    );
    let any = prop_oneof![2 => sharp, 1 => any::<char>()];
    prop::collection::vec(any, 0..8).prop_map(|chars| chars.into_iter().collect())
}

fn host() -> impl Strategy<Value = String> {
    let hosts = &["10.0.0.1", "::1", "fe80::1%eth0", "node-1.example", "UPPER.example", "a.b."][..];
    prop_oneof![4 => prop::sample::select(hosts).prop_map(str::to_owned), 1 => text()]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("first".to_owned()),
        2 => prop::sample::select(&["#x", "second", "SENTINEL", "\\x41", "ä"][..])
            .prop_map(str::to_owned),
        1 => text(),
    ]
}

fn option() -> impl Strategy<Value = Vec<String>> {
    let numbers = &[
        "quorum",
        "parallel-syncs",
        "down-after-milliseconds",
        "failover-timeout",
        "master-reboot-down-after-period",
    ][..];
    let number = prop_oneof![0..9_u64, Just(i32::MAX as u64), Just(u32::MAX.into()), any::<u64>()];
    let number = (prop::sample::select(numbers), number);
    let scripts = &["notification-script", "client-reconfig-script"][..];
    prop_oneof![
        number.prop_map(|(option, n)| vec![option.to_owned(), n.to_string()]),
        (prop::sample::select(&["auth-pass", "auth-user"][..]), text())
            .prop_map(|(option, value)| vec![option.to_owned(), value]),
        prop::sample::select(scripts)
            .prop_map(|option| vec![option.to_owned(), "/bin/sh".to_owned()]),
        (text(), text()).prop_map(|(from, to)| vec!["rename-command".to_owned(), from, to]),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        3 => (name(), option()).prop_map(|(name, options)| Request::Set { name, options }),
        1 => (name(), host(), 1..9_u16).prop_map(|(name, host, port)| Request::Monitor {
            name,
            host,
            port: port.to_string(),
            quorum: "2".into(),
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn what_is_accepted_is_read_back(requests in prop::collection::vec(request(), 1..12)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sentinel.conf");
        fs::write(&path, FILE).expect("written");
        let loaded = load_sentinel(&path, &[]).expect("a good file");
        let state = state_after(&loaded, requests);
        let text = loaded.render(&loaded.text, &loaded.settings, &state, None);
        fs::write(&path, &text).expect("written");
        let again = load_sentinel(&path, &[]).map_err(|found| {
            TestCaseError::fail(format!("{found:?}\n{text}"))
        })?;
        let found = again.conf_state.expect("a sentinel.conf");
        prop_assert_eq!(ByName::from(found.groups), state.groups.clone(), "{}", text);
        prop_assert_eq!(again.settings, loaded.settings);
    }
}

#[test]
fn a_file_that_valkey_made_unreadable_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sentinel.conf");
    let lines = "sentinel known-replica m node-0.svc 6379\n".repeat(2);
    let text =
        format!("sentinel resolve-hostnames yes\nsentinel monitor m node-0.svc 6379 2\n{lines}");
    fs::write(&path, text).expect("written");
    let loaded = load_sentinel(&path, &[]).expect("no reason not to start");
    assert!(!loaded.notes.is_empty(), "but it says so");
}

/// Ends a process, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis_sentinel(file: &Path) -> Running {
    let mut command = Command::new("redis-server");
    command.arg(file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().expect("Debian's redis-server is installed"))
}

/// Sends one command to a sentinel that has just been started, and returns the first line it says.
fn ask(port: u16, words: &[&str]) -> String {
    let deadline = Time::now() + Duration::from_secs(10);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Time::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(request.as_bytes()).expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    line
}

#[test]
fn a_password_with_a_blank_keeps_redis_sentinel_from_starting_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sentinel.conf");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("bound").port();
    let dir = folder.path().display();
    fs::write(&path, format!("port {port}\ndir {dir}\nsentinel monitor first 127.0.0.1 1 2\n"))
        .expect("written");
    let password = "correct horse battery";
    let running = redis_sentinel(&path);
    assert_eq!(ask(port, &["SENTINEL", "SET", "first", "auth-pass", password]), "+OK\r\n");
    drop(running);
    let deadline = Time::now() + Duration::from_secs(10);
    let mut again = redis_sentinel(&path);
    let ended = loop {
        match again.0.try_wait().expect("a child of ours") {
            Some(status) => break status,
            None => assert!(Time::now() < deadline, "it has started after all"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!ended.success(), "FATAL CONFIG FILE ERROR");

    fs::write(&path, FILE).expect("written");
    let loaded = load_sentinel(&path, &[]).expect("a good file");
    let options = ["auth-pass", password].map(str::to_owned).to_vec();
    let state = state_after(&loaded, vec![Request::Set { name: "first".into(), options }]);
    fs::write(&path, loaded.render(&loaded.text, &loaded.settings, &state, None)).expect("written");
    let again = load_sentinel(&path, &[]).expect("ours reads what it wrote");
    let found = again.groups["first"].auth_pass.as_ref().map(|secret| secret.reveal());
    assert_eq!(found, Some(password));
}
