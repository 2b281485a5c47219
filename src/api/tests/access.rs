//! Users, renamed commands and CLIENT TRACKING, compared with a real sentinel where it has them.

use super::super::table;
use super::super::users::check;
use super::oracle::{Oracle, compare};
use super::*;

/// A reply as Redis 7.2 would give it where 7.0 differs, and without what no two processes share.
fn normal(value: Value) -> Value {
    let newer = ["entry-id", "timestamp-created", "timestamp-last-updated"];
    let masked = ["age-seconds", "client-info"];
    let list = |items: Vec<Value>| {
        let mut kept = Vec::new();
        let mut items = items.into_iter();
        // In RESP2 a map is a list, too.
        while let Some(item) = items.next() {
            let name = item.text().unwrap_or_default();
            if newer.contains(&name) {
                items.next();
            } else if masked.contains(&name) {
                items.next();
                kept.extend([normal(item), Value::Null]);
            } else if name != "sanitize-payload" {
                kept.push(normal(item));
            }
        }
        kept
    };
    let word = |text: &str| {
        let text = text.replace(" sanitize-payload", "");
        let text = text.replace("User bob has no", "this user has no");
        let text = text.replace("This user has no", "this user has no");
        if text.contains("@all") {
            // 7.0 shows rules about commands in an order of its own.
            let mut words: Vec<&str> = text.split(' ').collect();
            words.sort_unstable();
            return words.join(" ");
        }
        match text.strip_prefix("NOPERM ") {
            Some(rest) if rest.contains("channel") => "NOPERM channel".to_owned(),
            _ => text,
        }
    };
    match value {
        Value::Array(items) => Value::Array(list(items)),
        Value::Set(items) => Value::Set(list(items)),
        Value::Map(pairs) => {
            let pairs = pairs.into_iter().filter_map(|(key, value)| {
                let name = key.text().unwrap_or_default().to_owned();
                let value = if masked.contains(&name.as_str()) { Value::Null } else { value };
                (!newer.contains(&name.as_str())).then(|| (normal(key), normal(value)))
            });
            Value::Map(pairs.collect())
        }
        Value::Error(text) => Value::Error(word(&text)),
        Value::Bulk(_) => value.text().map_or(Value::Null, |text| Value::bulk(word(text))),
        other => other,
    }
}

async fn compare_normal(oracle: &Oracle, server: &Server, lines: &[&str]) {
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    let mut differences = Vec::new();
    for line in lines {
        theirs.say(line).await;
        ours.say(line).await;
        let (expected, got) = (normal(theirs.value().await), normal(ours.value().await));
        // The first word of HELLO's reply is enough here.
        if got != expected && !line.starts_with("hello") {
            differences.push(format!("{line}: {got:?} instead of {expected:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

const USERS: &[&str] = &[
    "acl cat",
    "acl cat nothing",
    "acl cat pubsub x",
    "acl list",
    "acl getuser default",
    "acl getuser nobody",
    "acl users",
    "acl whoami",
    "acl setuser bob",
    "acl list",
    "acl getuser bob",
    "acl setuser bob on >pw +ping +acl|whoami %R~a ~b %RW~c &ch &d*",
    "acl list",
    "acl getuser bob",
    "acl setuser bob +foo",
    "acl setuser bob off ~* ~a",
    "acl setuser bob allchannels &a",
    "acl setuser bob <x",
    "acl setuser bob #12",
    "acl setuser bob !12",
    "acl setuser bob foo",
    "acl setuser bob (+get",
    "acl setuser bob +ping|",
    "acl setuser bob +sentinel|foo",
    "acl setuser bob +sentinel|masters|x",
    "acl setuser bob %X~a",
    "acl setuser bob %~a",
    "acl setuser bob -ping|x",
    "acl setuser bob +@foo",
    "acl setuser bob (+foo)",
    "acl setuser",
    "acl setuser a\tb on",
    "acl setuser bob (+ping ~a) (+role &x)",
    "acl list",
    "acl getuser bob",
    "acl setuser bob clearselectors",
    "acl getuser bob",
    "acl setuser carl reset on nopass allcommands allkeys resetchannels &x",
    "acl getuser carl",
    "acl setuser carl #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4",
    "acl list",
    "acl deluser",
    "acl deluser default",
    "acl deluser carl nope",
    "acl users",
    "acl genpass x",
    "acl genpass 0",
    "acl genpass 4097",
    "acl genpass 1 2",
    "acl load",
    "acl save",
    "acl load x",
    "acl dryrun",
    "acl dryrun nope ping",
    "acl dryrun default nope",
    "acl dryrun default sentinel masters x",
    "acl dryrun default sentinel foo",
    "acl dryrun default ping",
    "acl dryrun bob ping",
    "acl dryrun bob sentinel masters",
    "acl dryrun bob auth x",
    "acl setuser bob +subscribe +psubscribe +publish +unsubscribe",
    "acl dryrun bob subscribe ch zzz",
    "acl dryrun bob psubscribe ch",
    "acl dryrun bob psubscribe c",
    "acl dryrun bob publish dx y",
    "acl log",
    "acl log x",
    "acl log -1",
    "acl log 1 2",
    "client kill user nobody",
    "client kill user bob",
    "auth bob bad",
    "auth nobody bad",
    "auth bob bad",
    "acl log 1",
    "acl log",
    "auth bob pw",
    "ping",
    "acl whoami",
    "acl list",
    "sentinel masters",
    "role",
    "subscribe ch",
    "unsubscribe ch",
    "subscribe ch other",
    "psubscribe ch*",
    "publish ch x",
    "publish other x",
    "command count",
    "auth default x",
    "acl log",
    "acl log 2",
    "acl log reset",
    "acl log",
    "hello 3 auth bob bad",
    "acl log",
    "hello 3 auth bob pw",
    "acl whoami",
    "acl log",
    "hello 3 auth default x",
    "acl getuser default",
    "acl getuser nobody",
    "acl log",
    "acl cat",
];

#[tokio::test]
async fn users_are_made_shown_and_denied_as_redis_does() {
    let (oracle, server) = (Oracle::start("").await, Server::start());
    compare_normal(&oracle, &server, USERS).await;
}

#[tokio::test]
async fn denials_are_told_in_the_words_of_redis_7_2() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.ask("acl setuser bob on >pw +subscribe +acl|dryrun &a").await;
    wire.ask("auth bob pw").await;
    for (line, expected) in [
        (
            "sentinel masters",
            "-NOPERM User bob has no permissions to run the 'sentinel|masters' command\r\n",
        ),
        ("ping", "-NOPERM User bob has no permissions to run the 'ping' command\r\n"),
        ("subscribe a b", "-NOPERM No permissions to access a channel\r\n"),
        (
            "acl dryrun bob subscribe b",
            "$54\r\nUser bob has no permissions to access the 'b' channel\r\n",
        ),
        ("acl dryrun bob ping", "$52\r\nUser bob has no permissions to run the 'ping' command\r\n"),
    ] {
        let expected = match expected.strip_prefix('$') {
            Some(text) => bulk(text.split_once("\r\n").unwrap().1.trim_end()),
            None => expected.to_owned(),
        };
        assert_eq!(wire.ask(line).await, expected, "{line}");
    }
    let info = server.connect().await.ask("info stats").await;
    let shown = fields(&info, "\r\n", ':');
    let counted = ["auth", "cmd", "key", "channel"]
        .map(|kind| shown[&format!("acl_access_denied_{kind}")].clone());
    assert_eq!(counted, ["0", "2", "0", "1"]);
}

#[test]
fn a_user_without_rules_may_use_no_command_but_the_open_ones() {
    let settings = SentinelSettings::default();
    let (users, _) = Users::open(&settings, UserLines::default()).unwrap();
    users.change(|acl| acl.set("bob", &["on", "nopass"])).unwrap();
    users.change(|acl| acl.set("root", &["+@all", "&*"])).unwrap();
    let mut open = std::collections::BTreeSet::new();
    for found in table::every() {
        let words = found.command.arity.unsigned_abs() as usize;
        let args: Vec<_> = (0..words.max(3)).map(|_| bytes::Bytes::from("x")).collect();
        if check(&users.acl(), b"bob", &found, &args).is_ok() {
            open.insert(found.name());
        }
        assert_eq!(check(&users.acl(), b"root", &found, &args), Ok(()), "{}", found.name());
    }
    assert_eq!(open, ["auth", "hello", "quit", "reset"].map(str::to_owned).into());
}

#[tokio::test]
async fn categories_have_the_commands_that_redis_has_in_them() {
    let (oracle, server) = (Oracle::start("").await, Server::start());
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    async fn names(wire: &mut Wire, line: &str) -> std::collections::BTreeSet<String> {
        wire.say(line).await;
        let Value::Array(names) = wire.value().await else { panic!("an array") };
        names.iter().map(|name| name.text().unwrap().to_owned()).collect()
    }
    let known = names(&mut theirs, "command list").await;
    let both: Vec<String> =
        names(&mut ours, "command list").await.intersection(&known).cloned().collect();
    for category in crate::acl::CATEGORIES {
        let line = format!("acl cat {category}");
        let (mut expected, mut got) =
            (names(&mut theirs, &line).await, names(&mut ours, &line).await);
        expected.retain(|name| both.contains(name));
        got.retain(|name| both.contains(name));
        assert_eq!(got, expected, "{category}");
    }
}

#[tokio::test]
async fn requirepass_and_the_default_user_are_tied_as_in_redis() {
    for conf in [
        "requirepass sesame",
        "user default on >sesame ~* &* +@all",
        "requirepass other\nuser default on >sesame ~* &* +@all",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, conf).unwrap();
        let loaded = crate::config::load::load_sentinel(&file, &[]).unwrap();
        let server = Server::with(|settings| *settings = loaded.settings);
        let oracle = Oracle::start(conf).await;
        compare_normal(
            &oracle,
            &server,
            &[
                "ping",
                "hello",
                "auth bad",
                "auth sesame",
                "ping",
                "auth default sesame",
                "acl whoami",
                "auth bob pw",
                "acl whoami",
                "acl list",
                "acl setuser default on nopass",
                "auth x",
                "auth default x",
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn renamed_commands_answer_to_their_new_names() {
    let conf = "rename-command shutdown halt\nrename-command role \"\"\n\
                rename-command ping pong\nrename-command publish greet";
    let oracle = Oracle::start(conf).await;
    let renamed = [("shutdown", "halt"), ("role", ""), ("ping", "pong"), ("publish", "greet")];
    let server = Server::with(|settings| {
        settings.renamed_commands = renamed.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    });
    compare(
        &oracle,
        &server,
        &[
            "shutdown",
            "halt foo",
            "HALT abort",
            "role",
            "ping",
            "pong",
            "pong a",
            "greet",
            "greet a b",
            "command info halt",
            "command info shutdown",
            "command info role",
            "command list filterby pattern sh*",
            "command list filterby pattern ha*",
            "command docs role",
            "command docs shutdown",
            "acl dryrun default halt",
            "acl dryrun default shutdown",
        ],
    )
    .await;
    let mut wire = server.connect().await;
    // Rules know the original names.
    wire.ask("acl setuser bob on nopass +shutdown +ping &*").await;
    wire.ask("auth bob x").await;
    assert_eq!(wire.ask("pong").await, "+PONG\r\n");
    assert!(wire.ask("greet a b").await.ends_with(" run the 'publish' command\r\n"));
}

#[tokio::test]
async fn client_tracking_is_answered_as_redis_does() {
    let (oracle, server) = (Oracle::start("").await, Server::start());
    compare(
        &oracle,
        &server,
        &[
            "client tracking",
            "client tracking foo",
            "client tracking on foo",
            "client tracking off",
            "client tracking on",
            "client trackinginfo",
            "client tracking on bcast",
            "client tracking on noloop",
            "client trackinginfo",
            "client getredir",
            "client caching yes",
            "client tracking off",
            "client getredir",
            "client tracking on optin optout",
            "client tracking on bcast optin",
            "client tracking on prefix a",
            "client tracking on bcast prefix a prefix ab",
            "client tracking on bcast prefix a prefix b",
            "client tracking on bcast prefix bc",
            "client tracking on bcast prefix c",
            "client trackinginfo",
            "client tracking off",
            "client tracking on redirect 9999",
            "client tracking on redirect x",
            "client tracking on redirect",
            "client tracking on optin",
            "client tracking on optout",
            "client caching no",
            "client caching foo",
            "client caching yes",
            "client trackinginfo",
            "ping",
            "client trackinginfo",
            "hello 3",
            "client trackinginfo",
            "client tracking off",
            "client trackinginfo",
        ],
    )
    .await;
    let mut wire = server.connect().await;
    wire.ask("client tracking on bcast").await;
    let list = wire.ask("client info").await;
    assert!(list.contains(" flags=tB ") && list.contains(" redir=0 "), "{list}");
    assert!(wire.ask("info clients").await.contains("tracking_clients:1\r\n"));
}

/// A connection of this user, whose password is `x`.
async fn as_user(server: &Server, name: &str) -> Wire {
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(&format!("auth {name} x")).await, "+OK\r\n");
    wire
}

#[tokio::test]
async fn who_loses_the_right_to_be_connected_is_disconnected() {
    let server = Server::start();
    let mut admin = server.connect().await;
    for name in ["bob", "carl", "dave"] {
        let made = format!("acl setuser {name} on nopass +@all &+a &+b &p*");
        assert_eq!(admin.ask(&made).await, "+OK\r\n");
    }
    let mut bob = as_user(&server, "bob").await;
    let mut listener = as_user(&server, "carl").await;
    let mut fine = as_user(&server, "carl").await;
    let mut talker = as_user(&server, "carl").await;
    listener.ask("subscribe +a").await;
    fine.ask("psubscribe p*").await;
    assert!(admin.ask("client list").await.contains(" user=bob "));
    assert_eq!(admin.ask("acl deluser bob").await, ":1\r\n");
    assert_eq!(bob.rest().await, "");
    assert_eq!(admin.ask("acl setuser carl resetchannels &+b &p* -ping").await, "+OK\r\n");
    assert_eq!(listener.rest().await, "");
    // Who may still hear what it hears stays, and is held to the new rules.
    assert!(fine.ask("subscribe +b").await.starts_with("*3\r\n$9\r\nsubscribe\r\n"));
    assert!(talker.ask("ping").await.starts_with("-NOPERM User carl"));
    // Turned off: who is in stays in, as in Redis.
    assert_eq!(admin.ask("acl setuser carl off").await, "+OK\r\n");
    assert_eq!(talker.ask("client getname").await, "$-1\r\n");
    assert!(server.connect().await.ask("auth carl x").await.starts_with("-WRONGPASS"));
    // CLIENT KILL USER.
    until("two connections of carl", async || {
        admin.ask("client list").await.matches(" user=carl ").count() == 2
    })
    .await;
    assert_eq!(admin.ask("client kill user carl").await, ":2\r\n");
    assert_eq!(talker.rest().await, "");
    assert_eq!(admin.ask("client kill maxage 1000").await, ":0\r\n");
    // Who deletes itself gets its reply first.
    let mut dave = as_user(&server, "dave").await;
    dave.say("acl deluser dave").await;
    assert_eq!(dave.rest().await, ":1\r\n");
}

#[tokio::test]
async fn the_events_of_late_are_told_to_those_who_might_have_heard_them() {
    let server = Server::start();
    let mut admin = server.connect().await;
    let rules = "reset on nopass +sentinel|events resetchannels &+switch-master";
    assert_eq!(admin.ask(&format!("acl setuser bob {rules}")).await, "+OK\r\n");
    server.announce(EventKind::SwitchMaster, "mymaster 1.1.1.1 1 2.2.2.2 2");
    server.announce(EventKind::NewEpoch, "7");
    let all = admin.ask("sentinel events").await;
    assert!(all.contains("+new-epoch") && all.contains("+switch-master"), "{all}");
    let mut bob = as_user(&server, "bob").await;
    let told = bob.ask("sentinel events").await;
    assert!(told.contains("+switch-master") && !told.contains("+new-epoch"), "{told}");
    // Of those it may hear, so many; not of so many, those that it may hear.
    let run_id = told.split_once('-').map(|(head, _)| head[head.len() - 40..].to_owned()).unwrap();
    for line in ["sentinel events count 1", &format!("sentinel events since {run_id}-0 count 1")] {
        let told = bob.ask(line).await;
        assert!(told.contains("+switch-master"), "{line}: {told}");
    }
}

#[tokio::test]
async fn an_acl_file_is_read_written_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.acl");
    std::fs::write(&file, "user bob on nopass +@all &*\nuser carl on nopass +@all\n").unwrap();
    let (shown, path) = (file.display().to_string(), file.clone());
    let server = Server::with(|settings| settings.acl_file = Some(path));
    let mut admin = server.connect().await;
    let (mut bob, mut carl) = (as_user(&server, "bob").await, as_user(&server, "carl").await);
    assert_eq!(admin.ask("acl setuser dave on >pw +ping").await, "+OK\r\n");
    assert_eq!(bob.ask("acl save").await, "+OK\r\n");
    let written = std::fs::read_to_string(&file).unwrap();
    let hash = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4";
    assert_eq!(
        written,
        format!(
            "user bob on nopass sanitize-payload resetchannels &* +@all\n\
             user carl on nopass sanitize-payload resetchannels +@all\n\
             user dave on sanitize-payload #{hash} resetchannels -@all +ping\n\
             user default on nopass sanitize-payload ~* &* +@all\n"
        )
        .replace("resetchannels &*", "&*")
    );
    // A bad file changes nothing.
    std::fs::write(&file, "user bob off\nuser x +nope\n").unwrap();
    let error = admin.ask("acl load").await;
    assert!(error.starts_with(&format!("-ERR {shown}:2: Error in applying operation '+nope'")));
    assert_eq!(bob.ask("ping").await, "+PONG\r\n");
    // A good one ends the connections of those whom it changes, after the reply.
    std::fs::write(&file, written.replace("user bob on", "user bob off")).unwrap();
    bob.say("acl load").await;
    assert_eq!(bob.rest().await, "+OK\r\n");
    assert_eq!(carl.ask("ping").await, "+PONG\r\n");
    std::fs::remove_file(&file).unwrap();
    let gone =
        format!("-ERR Error loading ACLs, opening file '{shown}': No such file or directory\r\n");
    assert_eq!(admin.ask("acl load").await, gone);
    assert_eq!(carl.ask("acl save").await, "+OK\r\n");
    assert!(file.exists());
    drop(directory);
    assert!(carl.ask("acl save").await.starts_with("-ERR There was an error trying to save"));
}

#[tokio::test]
async fn an_acl_log_is_bounded() {
    let server = Server::with(|settings| settings.acllog_max_len = 3);
    let mut wire = server.connect().await;
    for n in 0..5 {
        wire.ask(&format!("auth user{n} x")).await;
    }
    wire.say("acl log").await;
    let Value::Array(entries) = wire.value().await else { panic!("an array") };
    assert_eq!(entries.len(), 3);
}
