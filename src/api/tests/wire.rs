//! What is said on the wire, byte for byte, without subscriptions.

use super::*;

/// Asks each line on one connection and compares the bytes of the reply.
async fn dialogue(server: &Server, lines: &[(&str, &str)]) {
    let mut wire = server.connect().await;
    for (line, expected) in lines {
        assert_eq!(wire.ask(line).await, *expected, "{line}");
    }
}

#[tokio::test]
async fn entries_are_flat_arrays_in_resp2_and_maps_in_resp3() {
    let server = Server::start();
    let entry: String =
        ["name", "mymaster", "ip", "127.0.0.1", "port", "6379"].iter().map(|w| bulk(w)).collect();
    let address = "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n";
    let mut wire = server.connect().await;
    for name in ["masters", "PRIMARIES"] {
        assert_eq!(wire.ask(&format!("sentinel {name}")).await, format!("*1\r\n*6\r\n{entry}"));
    }
    for name in ["Master", "primary"] {
        assert_eq!(wire.ask(&format!("SENTINEL {name} mymaster")).await, format!("*6\r\n{entry}"));
    }
    for name in ["get-master-addr-by-name", "GET-PRIMARY-ADDR-BY-NAME"] {
        assert_eq!(wire.ask(&format!("sentinel {name} mymaster")).await, address);
        assert_eq!(wire.ask(&format!("sentinel {name} nobody")).await, "*-1\r\n");
    }
    let hello = wire.ask("hello 3").await;
    assert!(hello.starts_with("%6\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    assert_eq!(wire.ask("sentinel masters").await, format!("*1\r\n%3\r\n{entry}"));
    assert_eq!(wire.ask("sentinel get-master-addr-by-name nobody").await, "_\r\n");
    for name in ["is-master-down-by-addr", "is-primary-down-by-addr"] {
        let reply = wire.ask(&format!("sentinel {name} 127.0.0.1 6379 7 *")).await;
        assert_eq!(reply, "*3\r\n:0\r\n$1\r\n*\r\n:0\r\n");
    }
    assert_eq!(wire.ask("sentinel slaves mymaster").await, "*0\r\n");
    assert_eq!(wire.ask("role").await, "*2\r\n$8\r\nsentinel\r\n*1\r\n$8\r\nmymaster\r\n");
}

#[tokio::test]
async fn the_core_is_asked_what_the_client_said() {
    let (server, mut asked) = Server::unanswered(|_| {});
    let mut wire = server.connect().await;
    let text = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    for (line, expected) in [
        ("sentinel replicas a", Request::Replicas("a".into())),
        ("sentinel slaves a", Request::Replicas("a".into())),
        ("sentinel sentinels a", Request::Sentinels("a".into())),
        ("sentinel myid", Request::MyId),
        ("sentinel ckquorum a", Request::CkQuorum("a".into())),
        ("sentinel failover a", Request::Failover("a".into())),
        ("sentinel reset a*", Request::Reset("a*".into())),
        ("sentinel remove a", Request::Remove("a".into())),
        ("sentinel flushconfig", Request::FlushConfig),
        ("publish __sentinel__:hello a,b", Request::Hello("a,b".into())),
        (
            "sentinel is-master-down-by-addr ::1 7 -1 me",
            Request::IsMasterDown {
                host: "::1".into(),
                port: 7,
                epoch: -1,
                candidate: Some("me".into()),
            },
        ),
        (
            "sentinel monitor a 10.0.0.9 70000 two",
            Request::Monitor {
                name: "a".into(),
                host: "10.0.0.9".into(),
                port: "70000".into(),
                quorum: "two".into(),
            },
        ),
        (
            "sentinel set a Quorum 2 auth-pass",
            Request::Set { name: "a".into(), options: text(&["Quorum", "2", "auth-pass"]) },
        ),
    ] {
        wire.say(line).await;
        let (request, answer) = within(asked.recv()).await.unwrap();
        assert_eq!(request, expected);
        answer.send(Value::Simple("FINE".into())).unwrap();
        assert_eq!(wire.bytes().await, "+FINE\r\n");
    }
}

#[tokio::test]
async fn replies_keep_the_order_of_requests_while_the_core_is_slow() {
    let (server, mut asked) = Server::unanswered(|_| {});
    let mut wire = server.connect().await;
    wire.say("sentinel master a").await;
    wire.say("sentinel master b").await;
    wire.say("nonsense").await;
    wire.say("ping").await;
    wire.say("sentinel master c").await;
    wire.say("hello 3").await;
    wire.say("sentinel master d").await;
    let (first, answer_first) = within(asked.recv()).await.unwrap();
    let (second, answer_second) = within(asked.recv()).await.unwrap();
    assert_eq!((first, second), (Request::Master("a".into()), Request::Master("b".into())));
    // The later answer is there first, and waits.
    answer_second.send(Value::Map(Vec::new())).unwrap();
    answer_first.send(Value::Null).unwrap();
    assert_eq!(wire.bytes().await, "$-1\r\n");
    assert_eq!(wire.bytes().await, "*0\r\n");
    assert!(wire.bytes().await.starts_with("-ERR unknown command 'nonsense'"));
    assert_eq!(wire.bytes().await, "+PONG\r\n");
    let (_, answer) = within(asked.recv()).await.unwrap();
    answer.send(Value::Map(Vec::new())).unwrap();
    // Asked in RESP2, answered in RESP2, though HELLO 3 had come already.
    assert_eq!(wire.bytes().await, "*0\r\n");
    assert!(wire.bytes().await.starts_with('%'));
    let (_, answer) = within(asked.recv()).await.unwrap();
    answer.send(Value::Map(Vec::new())).unwrap();
    assert_eq!(wire.bytes().await, "%0\r\n");
}

#[tokio::test]
async fn a_connection_has_only_so_many_requests_under_way() {
    let (server, mut asked) = Server::unanswered(|_| {});
    let mut wire = server.connect().await;
    for _ in 0..100 {
        wire.say("sentinel myid").await;
    }
    let mut open = Vec::new();
    until("32 requests", async || {
        open.extend(asked.try_recv());
        open.len() == 32
    })
    .await;
    // The others come only as answers go out, one by one.
    let mut other = server.connect().await;
    assert_eq!(other.ask("ping").await, "+PONG\r\n");
    assert!(asked.try_recv().is_err());
    for n in 0..100 {
        let (_, answer) = open.remove(0);
        answer.send(Value::Integer(n)).unwrap();
        assert_eq!(wire.bytes().await, format!(":{n}\r\n"));
        if n < 68 {
            open.push(within(asked.recv()).await.unwrap());
        }
    }
}

#[tokio::test]
async fn client_reply_silences_the_next_or_all() {
    let server = Server::start();
    let mut wire = server.connect().await;
    for line in ["client reply skip", "client reply skip", "sentinel myid", "ping a"] {
        wire.say(line).await;
    }
    assert_eq!(wire.bytes().await, bulk("a"));
    for line in ["client reply off", "ping b", "sentinel myid", "client reply skip", "foo"] {
        wire.say(line).await;
    }
    assert_eq!(wire.ask("client reply on").await, "+OK\r\n");
    assert_eq!(wire.ask("client reply maybe").await, "-ERR syntax error\r\n");
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let server = Server::with(|settings| settings.requirepass = Some(Secret::new("sesame")));
    let needs_auth = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    dialogue(
        &server,
        &[
            ("ping", needs_auth),
            ("auth default no", wrong),
            ("auth sesam", wrong),
            ("auth other sesame", wrong),
            ("ping", needs_auth),
            ("auth sesame", "+OK\r\n"),
            ("ping", "+PONG\r\n"),
            ("acl whoami", "$7\r\ndefault\r\n"),
            ("auth no", wrong),
            ("ping", "+PONG\r\n"),
            ("reset", "+RESET\r\n"),
            ("ping", needs_auth),
            ("auth default sesame", "+OK\r\n"),
            ("role", "*2\r\n$8\r\nsentinel\r\n*1\r\n$8\r\nmymaster\r\n"),
        ],
    )
    .await;
    let mut wire = server.connect().await;
    assert!(wire.ask("hello 3").await.starts_with("-NOAUTH HELLO must be called"));
    assert_eq!(wire.ask("hello 3 auth default no").await, wrong);
    let hello = wire.ask("hello 3 setname me auth default sesame").await;
    assert!(hello.starts_with("%6\r\n"), "{hello}");
    assert_eq!(wire.ask("client getname").await, bulk("me"));
    // Before AUTH a client may not fill our memory; after it, it may send more.
    wire.send(b"*2\r\n$4\r\nping\r\n$20000\r\n").await;
    wire.send(&[b"x".repeat(20_000), b"\r\n".to_vec()].concat()).await;
    assert_eq!(wire.bytes().await.len(), 20_000 + 10);
    let mut stranger = server.connect().await;
    stranger.send(b"*2\r\n$4\r\nping\r\n$20000\r\n").await;
    assert_eq!(stranger.rest().await, "-ERR Protocol error: unauthenticated bulk length\r\n");
}

#[tokio::test]
async fn quit_is_answered_and_closes() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.send(b"PING\r\nQUIT\r\nPING\r\n").await;
    assert_eq!(wire.rest().await, "+PONG\r\n+OK\r\n");
}

#[tokio::test]
async fn what_was_asked_before_the_client_closed_its_side_is_answered() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.send(b"sentinel myid\r\ninfo sentinel\r\nping\r\n").await;
    wire.stream.shutdown().await.unwrap();
    let all = wire.rest().await;
    assert!(all.starts_with("$40\r\n") && all.ends_with("\r\n\r\n+PONG\r\n"), "{all}");
}

#[tokio::test]
async fn shutdown_ends_the_server_without_a_word() {
    let server = Server::start();
    let mut wire = server.connect().await;
    let mut other = server.connect().await;
    assert_eq!(other.ask("ping").await, "+PONG\r\n");
    wire.say("shutdown nosave").await;
    assert_eq!(wire.rest().await, "");
    assert_eq!(other.rest().await, "");
    within(server.ended).await.unwrap();
    assert!(server.stop.is_cancelled());
    assert!(TcpStream::connect(("127.0.0.1", server.port)).await.is_err());
}

#[tokio::test]
async fn a_stopping_core_answers_with_an_error() {
    let (server, asked) = Server::unanswered(|_| {});
    drop(asked);
    let mut wire = server.connect().await;
    let stopping = "-ERR The sentinel is shutting down\r\n";
    assert_eq!(wire.ask("sentinel masters").await, stopping);
    assert_eq!(wire.ask("info").await, stopping);
    assert_eq!(wire.ask("ping").await, "+PONG\r\n");
}

#[tokio::test]
async fn clients_too_many_are_turned_away() {
    let server = Server::with(|settings| settings.maxclients = 2);
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.ask("ping").await, "+PONG\r\n");
    assert_eq!(second.ask("ping").await, "+PONG\r\n");
    let mut third = server.connect().await;
    assert_eq!(third.rest().await, "-ERR max number of clients reached\r\n");
    let shown = fields(&first.ask("info").await, "\r\n", ':');
    assert_eq!((&shown["rejected_connections"][..], &shown["connected_clients"][..]), ("1", "2"));
    second.say("quit").await;
    assert_eq!(second.rest().await, "+OK\r\n");
    drop(second);
    until("a free place", async || {
        let mut wire = server.connect().await;
        wire.send(b"ping\r\n").await;
        wire.stream.shutdown().await.unwrap();
        wire.rest().await == "+PONG\r\n"
    })
    .await;
}

#[tokio::test]
async fn an_idle_client_is_closed_and_a_subscriber_is_not() {
    let server = Server::with(|settings| settings.timeout_s = 1);
    let mut subscriber = server.connect().await;
    assert_eq!(subscriber.ask("subscribe a").await, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    let mut idle = server.connect().await;
    assert_eq!(idle.rest().await, "");
    assert_eq!(subscriber.ask("ping").await, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
}

#[tokio::test]
async fn garbage_closes_its_own_connection_only() {
    let server = Server::start();
    let mut witness = server.connect().await;
    let huge = format!("*1\r\n${}\r\n", 1 << 30);
    let million = [b"*2\r\n$4\r\nping\r\n$1048577\r\n".to_vec(), vec![b'x'; 1 << 20]].concat();
    let endless = vec![b'x'; 1 << 20];
    for (bytes, expected) in [
        (huge.as_bytes(), "-ERR Protocol error: invalid bulk length\r\n"),
        (&million, "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\nfoo\r\n", "-ERR Protocol error: expected '$', got 'f'\r\n"),
        (b"*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"ping \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"ping\r\n*x\r\n", "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
        (&endless, "-ERR Protocol error: too big inline request\r\n"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nping\r\n", ""),
    ] {
        let mut wire = server.connect().await;
        // The server may close before it has read all.
        let _ = within(wire.stream.write_all(bytes)).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        assert_eq!(wire.rest().await, expected, "{shown:?}");
        assert_eq!(witness.ask("ping").await, "+PONG\r\n");
    }
}

#[tokio::test]
async fn half_a_request_holds_nobody() {
    let server = Server::start();
    let mut halves = Vec::new();
    for bytes in [&b"*2\r\n$4\r\nping\r\n$3\r\na"[..], b"*1", b"*100000\r\n", b"$", b"PIN"] {
        let mut wire = server.connect().await;
        wire.send(bytes).await;
        halves.push(wire);
    }
    let mut wire = server.connect().await;
    assert_eq!(wire.ask("ping").await, "+PONG\r\n");
    halves[0].send(b"bc\r\n").await;
    assert_eq!(halves[0].bytes().await, bulk("abc"));
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_no_more_commands_carried_out() {
    let server = Server::start();
    let mut greedy = server.connect().await;
    let request = [&b"*2\r\n$4\r\nping\r\n$60000\r\n"[..], &[b'x'; 60_000], b"\r\n"].concat();
    // Sends until nothing is taken any more: neither our buffers nor the system's are endless.
    let mut sent = 0_usize;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_secs(1), greedy.stream.write(&request)).await
    {
        sent += written.unwrap();
        assert!(sent < 1 << 30, "the server takes everything");
    }
    let mut witness = server.connect().await;
    let all = witness.ask("client list").await;
    let line = all.lines().find(|line| line.contains("cmd=ping")).unwrap();
    let shown = fields(line, " ", '=');
    assert!(shown["tot-mem"].parse::<usize>().unwrap() < 256 << 10, "{line}");
    // It is served on as soon as it reads.
    assert_eq!(greedy.bytes().await.len(), 60_000 + 10);
}

#[tokio::test]
async fn names_that_are_not_text_are_refused() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.send(b"*3\r\n$8\r\nsentinel\r\n$6\r\nmaster\r\n$2\r\n\xff\n\r\n").await;
    assert_eq!(
        wire.bytes().await,
        "-ERR Invalid argument: names and values must be valid UTF-8\r\n"
    );
}

#[tokio::test]
async fn scripts_are_looked_at_before_the_core_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::File::create(&plain).unwrap().write_all(b"#!/bin/sh\n").unwrap();
    let plain = plain.display();
    let server = Server::with(|settings| settings.deny_scripts_reconfig = false);
    let notification = "-ERR Notification script seems non existing or non executable\r\n";
    let reconfig = "-ERR Client reconfiguration script seems non existing or non executable\r\n";
    let set = "sentinel set mymaster";
    dialogue(
        &server,
        &[
            (&format!("{set} notification-script /nope"), notification),
            (&format!("{set} notification-script {plain}"), notification),
            // Redis takes a folder, too, with which no sentinel would start again.
            (&format!("{set} notification-script /tmp"), notification),
            (&format!("{set} quorum 2 CLIENT-reconfig-script {plain}"), reconfig),
            (&format!("{set} notification-script /bin/sh"), "+OK\r\n"),
            (&format!("{set} notification-script ''"), "+OK\r\n"),
            (
                "sentinel set other notification-script /nope",
                "-ERR No such master with that name\r\n",
            ),
        ],
    )
    .await;
    let denied = Server::start();
    // The core knows the error that is due.
    dialogue(&denied, &[(&format!("{set} notification-script /nope"), "+OK\r\n")]).await;
}

#[tokio::test]
async fn scripts_that_wait_are_shown_in_resp2_and_resp3() {
    let server = Server::start();
    let mut wire = server.connect().await;
    assert_eq!(wire.ask("sentinel pending-scripts").await, "*0\r\n");
    // Nobody runs them here.
    for args in [&["+sdown", "master a 127.0.0.1 1"][..], &["a", "leader", "start"]] {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        server.handle.scripts().add("/bin/notify".into(), args);
    }
    let fields = |argv: &str| {
        let flags = bulk("flags") + &bulk("scheduled") + &bulk("pid") + &bulk("0");
        let times = bulk("run-delay") + &bulk("0") + &bulk("retry-num") + &bulk("0");
        bulk("argv") + argv + &flags + &times
    };
    let argv = |args: &[&str]| {
        let args: String = args.iter().map(|arg| bulk(arg)).collect();
        args
    };
    let first = format!("*3\r\n{}", argv(&["/bin/notify", "+sdown", "master a 127.0.0.1 1"]));
    let second = format!("*4\r\n{}", argv(&["/bin/notify", "a", "leader", "start"]));
    for (hello, head) in [("hello 2", "*10"), ("hello 3", "%5")] {
        wire.ask(hello).await;
        let (first, second) = (fields(&first), fields(&second));
        let expected = format!("*2\r\n{head}\r\n{first}{head}\r\n{second}");
        assert_eq!(wire.ask("sentinel pending-scripts").await, expected);
    }
    let arity = "-ERR wrong number of arguments for 'sentinel|pending-scripts' command\r\n";
    assert_eq!(wire.ask("sentinel pending-scripts x").await, arity);
}

#[tokio::test]
async fn connections_are_listed_named_and_killed() {
    let server = Server::start();
    let mut wire = server.connect().await;
    assert_eq!(wire.ask("client id").await, ":1\r\n");
    assert_eq!(wire.ask("client getname").await, "$-1\r\n");
    assert_eq!(wire.ask("client setname me").await, "+OK\r\n");
    assert_eq!(wire.ask("client setinfo LIB-NAME redis-py").await, "+OK\r\n");
    assert_eq!(wire.ask("client setinfo lib-ver 5").await, "+OK\r\n");
    assert_eq!(wire.ask("client setinfo lib a").await, "-ERR Unrecognized option 'lib'\r\n");
    let mut other = server.connect().await;
    assert_eq!(other.ask("subscribe a b").await, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    other.bytes().await;
    let shown = wire.ask("client list type pubsub").await;
    let shown = fields(shown.lines().nth(1).unwrap(), " ", '=');
    let own = other.stream.local_addr().unwrap().to_string();
    assert_eq!((&shown["id"][..], &shown["addr"], &shown["sub"][..]), ("2", &own, "2"));
    let shown = wire.ask("client info").await;
    let shown = fields(shown.lines().nth(1).unwrap(), " ", '=');
    let expected = [("name", "me"), ("flags", "N"), ("cmd", "client|info"), ("resp", "2")];
    for (field, value) in expected.into_iter().chain([("lib-name", "redis-py"), ("lib-ver", "5")]) {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(wire.ask("client kill type pubsub addr 1.2.3.4:5").await, ":0\r\n");
    assert_eq!(wire.ask("client kill type pubsub").await, ":1\r\n");
    assert_eq!(other.rest().await, "");
    until("one connection", async || !wire.ask("client list").await.contains("id=2 ")).await;
    assert_eq!(wire.ask("client kill id 1 skipme yes").await, ":0\r\n");
    let own = wire.stream.local_addr().unwrap();
    wire.say(&format!("client kill {own}")).await;
    assert_eq!(wire.rest().await, "+OK\r\n");
}

#[tokio::test]
async fn a_pause_holds_all_commands_until_its_end() {
    let server = Server::start();
    let mut wire = server.connect().await;
    let started = std::time::Instant::now();
    assert_eq!(wire.ask("client pause 300").await, "+OK\r\n");
    assert_eq!(wire.ask("ping").await, "+PONG\r\n");
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(wire.ask("client pause 600000 write").await, "+OK\r\n");
    assert_eq!(wire.ask("ping").await, "+PONG\r\n");
    assert_eq!(wire.ask("client unpause").await, "+OK\r\n");
}

#[tokio::test]
async fn info_names_mode_run_id_and_counts() {
    let server = Server::start();
    let mut wire = server.connect().await;
    let text = wire.ask("info").await;
    let shown = fields(&text, "\r\n", ':');
    for (field, value) in [
        ("redis_mode", "sentinel"),
        ("server_mode", "sentinel"),
        ("tcp_port", &server.port.to_string()),
        ("config_file", "/etc/sentinel.conf"),
        ("connected_clients", "1"),
        ("maxclients", "10000"),
        ("total_connections_received", "1"),
        ("total_commands_processed", "1"),
        ("master0", "name=mymaster,status=ok,address=127.0.0.1:6379,slaves=0,sentinels=1"),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(shown["run_id"].len(), 40);
    assert!(text.contains("\r\n\r\n# Clients\r\n"), "sections are parted by a blank line");
    assert_eq!(wire.ask("info replication").await, "$0\r\n\r\n");
    // Plain even in RESP3, as in a real sentinel.
    wire.ask("hello 3").await;
    assert!(wire.ask("info Sentinel nothing").await.starts_with('$'));
    assert!(wire.ask("client info").await.starts_with('='));
}

#[tokio::test]
async fn the_greetings_of_clients_are_understood() {
    let server = Server::start();
    // redis-py: HELLO 3 and pipelined remarks, of which one is unknown.
    let mut wire = server.connect().await;
    for line in [
        "HELLO 3",
        "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip",
        "CLIENT SETINFO LIB-NAME redis-py",
        "CLIENT SETINFO LIB-VER 8.1.0",
        "SENTINEL MASTERS",
    ] {
        wire.say(line).await;
    }
    assert!(matches!(wire.value().await, Value::Map(_)));
    assert_eq!(
        wire.value().await,
        Value::error("ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.")
    );
    assert_eq!(wire.value().await, Value::ok());
    assert_eq!(wire.value().await, Value::ok());
    assert!(matches!(&wire.value().await, Value::Array(masters) if masters.len() == 1));
    // A client of the next protocol falls back.
    dialogue(
        &server,
        &[
            ("hello 4", "-NOPROTO unsupported protocol version\r\n"),
            ("hello three", "-ERR Protocol version is not an integer or out of range\r\n"),
            ("ping", "+PONG\r\n"),
        ],
    )
    .await;
    // HAProxy's check.
    let mut wire = server.connect().await;
    wire.send(b"*1\r\n$4\r\nPING\r\n").await;
    assert_eq!(wire.bytes().await, "+PONG\r\n");
}
