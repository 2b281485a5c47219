//! Sentinels that keep their doors: users of docs/acl.md, in a quorum with Redis's own sentinel.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::support::client::{Client, Reply};
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{wait_for, wait_until};

/// The users of docs/acl.md, with their passwords.
fn users() -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/acl.md");
    let docs = std::fs::read_to_string(docs).expect("docs/acl.md");
    let lines = docs.lines().filter(|line| line.starts_with("user "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 4, "default, reader, peer, operator");
    lines.join("\n") + "\n"
}

fn start(program: Program, watch: &Watch) -> Sentinel {
    Sentinel::start_with(program, "sentinel.conf", |port, dir| {
        let own = watch.config(Syntax::Conf, port, dir);
        own + &users() + "sentinel sentinel-user peer\nsentinel sentinel-pass peer-secret\n"
    })
}

/// A connection of one of the users.
fn login(sentinel: &Sentinel, user: &str) -> Client {
    let mut client = sentinel.client();
    let password = format!("{user}-secret");
    let reply = client.call(&["AUTH", user, &password]).expect("it answers");
    assert_eq!(reply, Reply::Simple("OK".into()), "{user}");
    client
}

fn call(sentinel: &Sentinel, user: &str, line: &str) -> Reply {
    let words: Vec<&str> = line.split(' ').collect();
    login(sentinel, user).call(&words).expect("it answers")
}

#[test]
fn peers_with_users_of_their_own_fail_over_together() {
    let _slot = slots::one();
    let mut master = Node::start(Nodes::Redis, &[]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &[]);
    wait_until(20, "the replica follows", || replica.follows(master.port));
    let watch = Watch { down_after_ms: 2_500, ..Watch::of(master.port) };
    let programs = [Program::Watchfire, Program::Watchfire, Program::Redis];
    let mut sentinels: Vec<Sentinel> = programs.iter().map(|p| start(*p, &watch)).collect();
    wait_until(40, "they know each other", || {
        sentinels.iter().all(|s| {
            let entry = call(s, "reader", &format!("SENTINEL MASTER {GROUP}"));
            entry.field("num-other-sentinels").as_deref() == Some("2")
                && entry.field("num-slaves").as_deref() == Some("1")
                && call(s, "reader", &format!("SENTINEL CKQUORUM {GROUP}")).text().starts_with("OK")
        })
    });
    for sentinel in &sentinels {
        doors(sentinel);
        let others = call(sentinel, "reader", &format!("SENTINEL SENTINELS {GROUP}"));
        let errors: Vec<_> = others.items().iter().map(|of| of.field("config-errors")).collect();
        assert_eq!(errors, [None, None], "the documented rights are enough");
    }
    master.kill9();
    let replica_port = replica.port.to_string();
    wait_until(60, "all name the new master", || {
        sentinels.iter().all(|s| {
            let line = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {GROUP}");
            call(s, "reader", &line).items().get(1).map(Reply::text) == Some(replica_port.clone())
        })
    });
    changed_users_outlive_us_and_go_to_redis(&mut sentinels[0]);
}

/// Who may do what, on either program.
fn doors(sentinel: &Sentinel) {
    let refused = |reply: Reply| reply.text().starts_with("NOPERM ");
    let mut stranger = sentinel.client();
    let reply = stranger.call(&["PING"]).expect("it answers");
    assert_eq!(reply.text(), "NOAUTH Authentication required.");
    for line in ["PING", "ROLE", "INFO", "SENTINEL MASTERS", "SUBSCRIBE +switch-master"] {
        assert!(!call(sentinel, "reader", line).is_error(), "{line}");
    }
    for line in [
        "SENTINEL FAILOVER mymaster",
        "SENTINEL SET mymaster quorum 1",
        "SENTINEL RESET *",
        "PUBLISH __sentinel__:hello x",
        "ACL LIST",
        "SHUTDOWN",
        "CLIENT KILL TYPE normal",
    ] {
        assert!(refused(call(sentinel, "reader", line)), "reader: {line}");
        assert!(refused(call(sentinel, "peer", line)) || line.starts_with("PUBLISH"), "{line}");
    }
    assert!(refused(call(sentinel, "peer", "SENTINEL MASTERS")));
    assert!(refused(call(sentinel, "peer", "PUBLISH other x")));
    assert_eq!(call(sentinel, "operator", "SENTINEL RESET nothing"), Reply::Integer(0));
    assert!(refused(call(sentinel, "operator", "SHUTDOWN")));
    assert!(refused(call(sentinel, "operator", "ACL SETUSER x")));
}

/// What ACL SETUSER changed is in the file after the next save, and Redis reads it.
fn changed_users_outlive_us_and_go_to_redis(sentinel: &mut Sentinel) {
    assert!(refused_by_rules(call(sentinel, "operator", "ACL SETUSER new on")));
    let text = std::fs::read_to_string(sentinel.file()).expect("the file");
    assert!(text.contains("user reader on >reader-secret "), "nothing was changed yet:\n{text}");
    // The operator of docs/acl.md may not do this; somebody with more rights, who is in the file.
    sentinel.process().terminate();
    let text = text + "user root on >root-secret ~* &* +@all\n";
    std::fs::write(sentinel.file(), text).expect("the file");
    sentinel.restart();
    wait_for(20, "it is up", || {
        let mut client = Client::connect(sentinel.port).ok()?;
        client.call(&["PING"]).ok()
    });
    let rules = "ACL SETUSER new on >new-secret resetchannels &+odown +ping +sentinel|myid (+role)";
    assert_eq!(call(sentinel, "root", rules).text(), "OK");
    assert_eq!(call(sentinel, "root", "ACL DELUSER operator"), Reply::Integer(1));
    assert_eq!(call(sentinel, "root", "SENTINEL FLUSHCONFIG").text(), "OK");
    let shown = |sentinel: &Sentinel| {
        let list = call(sentinel, "root", "ACL LIST");
        let lines = list.items().iter().map(|line| line.text().replace("sanitize-payload ", ""));
        lines.collect::<Vec<_>>()
    };
    let (id, before) = (call(sentinel, "new", "SENTINEL MYID"), shown(sentinel));
    assert!(!before.iter().any(|line| line.starts_with("user operator")), "{before:?}");
    let text = std::fs::read_to_string(sentinel.file()).expect("the file");
    assert!(!text.contains("-secret ~") && !text.contains("new-secret"), "{text}");
    for program in [Program::Redis, Program::Watchfire] {
        sentinel.process().terminate();
        sentinel.restart_as(program);
        assert_eq!(call(sentinel, "new", "SENTINEL MYID"), id, "{program:?}");
        let mut lines = shown(sentinel);
        // Redis 7.0 shows rules about commands in an order of its own.
        let sort = |line: &mut String| {
            let mut words: Vec<&str> = line.split(' ').collect();
            words.sort_unstable();
            *line = words.join(" ");
        };
        let mut expected = before.clone();
        lines.iter_mut().chain(&mut expected).for_each(sort);
        let new = |lines: &[String]| lines.iter().find(|l| l.contains("new")).cloned();
        assert_eq!(new(&lines), new(&expected), "{program:?}");
        assert_eq!(lines.len(), expected.len(), "{program:?}");
    }
}

fn refused_by_rules(reply: Reply) -> bool {
    reply.text().starts_with("NOPERM ")
}

/// `s\xe9same` of a file older than UTF-8.
const LATIN: &[u8] = b"s\xe9same";

#[test]
fn a_password_may_be_any_bytes() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &["protected-mode no"]);
    let set = |name: &str, value: &[u8]| {
        let mut client = node.client();
        let login: &[&[u8]] = &[b"AUTH", b"default", LATIN];
        client.call(login).expect("an answer, if only that there is no password");
        let words: &[&[u8]] = &[b"CONFIG", b"SET", name.as_bytes(), value];
        client.call(words).expect("it answers")
    };
    assert_eq!(set("requirepass", LATIN).text(), "OK");
    let mut sentinel = Sentinel::start_with(Program::Watchfire, "sentinel.conf", |port, dir| {
        let watch = Watch { quorum: 1, ..Watch::of(node.port) };
        // As Redis writes it.
        watch.config(Syntax::Conf, port, dir)
            + "sentinel auth-pass mymaster \"s\\xe9same\"\nrequirepass \"s\\xe9same\"\n"
    });
    let ask = |sentinel: &Sentinel, words: &[&[u8]]| {
        let mut client = sentinel.client();
        let login: &[&[u8]] = &[b"AUTH", LATIN];
        assert_eq!(client.call(login).expect("it answers").text(), "OK");
        client.call(words).expect("it answers")
    };
    let is_up = |sentinel: &Sentinel| {
        let entry = ask(sentinel, &[b"SENTINEL", b"MASTER", GROUP.as_bytes()]);
        let field = |name| entry.field(name).unwrap_or_default();
        field("flags") == "master" && field("runid").len() == 40
    };
    wait_until(20, "it speaks with the node", || is_up(&sentinel));

    // Given at run time, and written so that the other program reads it.
    let other = b"\xff\xfe \"'\xc3\xa9".as_slice();
    let set_pass = |sentinel: &Sentinel, password: &[u8]| {
        ask(sentinel, &[b"SENTINEL", b"SET", GROUP.as_bytes(), b"auth-pass", password]).text()
    };
    assert_eq!(set("requirepass", other).text(), "OK");
    assert_eq!(set_pass(&sentinel, other), "OK");
    let config = |sentinel: &Sentinel, words: &[&[u8]]| {
        ask(sentinel, &[&[b"SENTINEL".as_slice(), b"CONFIG"], words].concat())
    };
    assert_eq!(config(&sentinel, &[b"SET", b"sentinel-pass", LATIN]).text(), "OK");
    assert!(is_up(&sentinel));
    for program in [Program::Redis, Program::Watchfire] {
        sentinel.process().terminate();
        sentinel.restart_as(program);
        wait_until(20, "it answers again", || Client::connect(sentinel.port).is_ok());
        wait_until(20, "it speaks with the node again", || is_up(&sentinel));
    }

    // And the bytes themselves in the file, as an editor leaves them.
    sentinel.process().terminate();
    let text = std::fs::read(sentinel.file()).expect("the file");
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with("requirepass"));
    let text = lines.collect::<Vec<_>>().join("\n") + "\nrequirepass ";
    std::fs::write(sentinel.file(), [text.as_bytes(), LATIN, b"\n"].concat()).expect("written");
    sentinel.restart();
    wait_until(20, "it answers with the password of the bytes", || {
        let Ok(mut client) = Client::connect(sentinel.port) else { return false };
        let login: &[&[u8]] = &[b"AUTH", LATIN];
        client.call(login).is_ok_and(|reply| reply.text() == "OK")
    });
    let got = config(&sentinel, &[b"GET", b"sentinel-pass"]);
    assert_eq!(got.field("sentinel-pass").as_deref(), Some("s\u{fffd}same"));
}

/// The bytes of all replies to these requests of a user.
fn replies(sentinel: &Sentinel, user: &[u8], requests: &[&[&[u8]]]) -> Vec<u8> {
    const END: &[u8] = b"$3\r\nEND\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", sentinel.port)).expect("it is reachable");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let first: &[&[u8]] = &[b"AUTH", user, b"pw"];
    for words in [&[first], requests, &[&[b"PING", b"END"]]].concat() {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes().chain(word.iter().copied()));
            request.extend(b"\r\n");
        }
        stream.write_all(&request).expect("it listens");
    }
    let mut answer = Vec::new();
    while !answer.ends_with(END) {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).expect("an answer in time");
        assert!(count > 0, "it hangs up: {}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..count]);
    }
    assert!(answer.starts_with(b"+OK\r\n"), "{}", String::from_utf8_lossy(&answer));
    answer
}

#[test]
fn a_user_may_have_any_name() {
    let _slot = slots::one();
    const ONE: &[u8] = b"\xff\xfe";
    const OTHER: &[u8] = b"\xc3\xa9\xe9";
    let text = |port: u16, dir: &Path| {
        let own = Watch::of(1).config(Syntax::Conf, port, dir);
        own + "user \"\\xff\\xfe\" on >pw ~* &* +@all\n"
    };
    let start = |program| Sentinel::start_with(program, "sentinel.conf", text);
    let mut both = [start(Program::Redis), start(Program::Watchfire)];
    let new: &[&[u8]] =
        &[b"ACL", b"SETUSER", OTHER, b"on", b">pw", b"%R~\xfe", b"&\xff*", b"+acl", b"+ping"];
    let set = both.each_ref().map(|sentinel| replies(sentinel, ONE, &[new]));
    assert_eq!(set[0], set[1]);
    let questions: &[&[&[u8]]] = &[
        &[b"ACL", b"WHOAMI"],
        &[b"ACL", b"USERS"],
        &[b"ACL", b"GETUSER", "\u{fffd}\u{fffd}".as_bytes()],
        &[b"ACL", b"DRYRUN", OTHER, b"ping"],
        &[b"ACL", b"DELUSER", b"\xfe"],
        &[b"AUTH", b"\xfd", b"pw"],
    ];
    let ask = |both: &[Sentinel; 2], user| {
        let all = both.each_ref().map(|sentinel| replies(sentinel, user, questions));
        let shown = all.each_ref().map(|answer| answer.escape_ascii().to_string());
        assert_eq!(shown[0], shown[1]);
        // In these the versions of Redis differ.
        let more: &[&[&[u8]]] = &[&[b"ACL", b"LIST"], &[b"ACL", b"GETUSER", OTHER]];
        for sentinel in both {
            let answer = replies(sentinel, user, more);
            for part in [&b"user \xff\xfe on "[..], b" %R~\xfe resetchannels &\xff* -@all +"] {
                assert!(answer.windows(part.len()).any(|some| some == part), "{part:?}");
            }
            assert_eq!(answer.windows(4).filter(|some| some == b"&\xff*\r").count(), 1);
        }
        all[0].clone()
    };
    let told = [ONE, OTHER].map(|user| ask(&both, user));
    // Each reads what the other has written, Redis the bytes as they are; and back.
    for [first, second] in
        [[Program::Watchfire, Program::Redis], [Program::Redis, Program::Watchfire]]
    {
        for (sentinel, program) in both.iter_mut().zip([first, second]) {
            assert_eq!(sentinel.call(&["SENTINEL", "FLUSHCONFIG"]).text(), "OK");
            sentinel.process().terminate();
            sentinel.restart_as(program);
        }
        assert_eq!([ONE, OTHER].map(|user| ask(&both, user)), told);
    }
    let kill: &[&[u8]] = &[b"CLIENT", b"KILL", b"USER", OTHER];
    // A connection that has just ended may still be counted.
    wait_until(10, "nobody is logged in as that user", || {
        replies(&both[1], ONE, &[kill]).starts_with(b"+OK\r\n:0\r\n")
    });
    let end: &[&[u8]] = &[b"ACL", b"DELUSER", OTHER];
    assert!(replies(&both[1], ONE, &[end]).starts_with(b"+OK\r\n:1\r\n"));
}

#[test]
fn a_sentinel_may_log_in_as_any_user() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let user: &[&[u8]] = &[b"ACL", b"SETUSER", b"s\xe9", b"on", b">pw", b"~*", b"&*", b"+@all"];
    let other: &[&[u8]] = &[b"ACL", b"SETUSER", b"\xfe", b"on", b">pw", b"~*", b"&*", b"+@all"];
    for words in [user, other] {
        assert_eq!(node.client().call(words).expect("it answers").text(), "OK");
    }
    let mut sentinel = Sentinel::start_with(Program::Watchfire, "sentinel.conf", |port, dir| {
        Watch::of(node.port).config(Syntax::Conf, port, dir)
            + "sentinel auth-pass mymaster pw\nsentinel auth-user mymaster \"s\\xe9\"\n\
               sentinel sentinel-pass pw\nsentinel sentinel-user \"\\xfd\"\n"
    });
    let is_in_as = |shown: &str| {
        let clients = node.call(&["CLIENT", "LIST"]).text();
        let mut links = clients.lines().filter(|line| line.contains("-cmd "));
        links.any(|line| line.contains(&format!(" user={shown} ")))
    };
    wait_until(20, "it has logged in", || is_in_as("s\u{fffd}"));
    for program in [Program::Redis, Program::Watchfire] {
        sentinel.process().terminate();
        sentinel.restart_as(program);
        wait_until(20, "it has logged in again", || is_in_as("s\u{fffd}"));
        let got = sentinel.call(&["SENTINEL", "CONFIG", "GET", "sentinel-user"]);
        assert_eq!(got.field("sentinel-user").as_deref(), Some("\u{fffd}"));
    }
    let set: &[&[u8]] = &[b"SENTINEL", b"SET", GROUP.as_bytes(), b"auth-user", b"\xfe"];
    assert_eq!(sentinel.client().call(set).expect("it answers").text(), "OK");
    wait_until(20, "it has logged in as the other", || is_in_as("\u{fffd}"));
    let text = std::fs::read(sentinel.file()).expect("the file");
    assert!(String::from_utf8_lossy(&text).contains("auth-user mymaster \"\\xfe\""));
}
