//! Events on their way to subscribers.

use super::*;

const SWITCH: &str = "mymaster 127.0.0.1 6379 127.0.0.1 6380";

#[tokio::test]
async fn a_subscriber_hears_its_channels_and_patterns() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.say("subscribe +switch-master other +switch-master").await;
    for count in [1, 2, 2] {
        let reply = wire.bytes().await;
        assert!(reply.ends_with(&format!(":{count}\r\n")), "{reply}");
    }
    assert_eq!(wire.ask("psubscribe +s*").await, "*3\r\n$10\r\npsubscribe\r\n$3\r\n+s*\r\n:3\r\n");
    server.announce(EventKind::NewEpoch, "7");
    // Debug events are not published.
    server.announce(EventKind::CmdLinkReconnection, "master");
    server.announce(EventKind::SwitchMaster, SWITCH);
    let body = bulk("+switch-master") + &bulk(SWITCH);
    assert_eq!(wire.bytes().await, format!("*3\r\n$7\r\nmessage\r\n{body}"));
    assert_eq!(wire.bytes().await, format!("*4\r\n$8\r\npmessage\r\n$3\r\n+s*\r\n{body}"));
    // Verbose events are, though the log leaves them out.
    wire.ask("psubscribe -role*").await;
    server.announce(EventKind::RoleMismatch, "x");
    let message = wire.bytes().await;
    assert_eq!(
        message,
        format!("*4\r\n{}{}$12\r\n-role-change\r\n$1\r\nx\r\n", bulk("pmessage"), bulk("-role*"))
    );
}

#[tokio::test]
async fn a_resp2_subscriber_may_do_little_else() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.ask("subscribe a").await;
    let refused = |name: &str| {
        format!(
            "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context\r\n"
        )
    };
    for (line, expected) in [
        ("sentinel myid", refused("sentinel|myid")),
        ("HELLO 3", refused("hello")),
        ("sentinel foo", "-ERR unknown subcommand 'foo'. Try SENTINEL HELP.\r\n".into()),
        ("ping", "*2\r\n$4\r\npong\r\n$0\r\n\r\n".into()),
        ("ping hi", "*2\r\n$4\r\npong\r\n$2\r\nhi\r\n".into()),
        ("unsubscribe", "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n".into()),
        ("unsubscribe", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n".into()),
        ("punsubscribe b", "*3\r\n$12\r\npunsubscribe\r\n$1\r\nb\r\n:0\r\n".into()),
        ("ping", "+PONG\r\n".into()),
        ("psubscribe *", "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n".into()),
        ("reset", "+RESET\r\n".into()),
        ("sentinel myid", bulk(&"a".repeat(40))),
    ] {
        assert_eq!(wire.ask(line).await, expected, "{line}");
    }
    wire.ask("subscribe a").await;
    wire.say("quit").await;
    assert_eq!(wire.rest().await, "+OK\r\n");
}

#[tokio::test]
async fn a_resp3_subscriber_gets_pushes_and_may_do_everything() {
    let server = Server::start();
    let mut wire = server.connect().await;
    wire.ask("hello 3").await;
    assert_eq!(
        wire.ask("subscribe +new-epoch").await,
        ">3\r\n$9\r\nsubscribe\r\n$10\r\n+new-epoch\r\n:1\r\n"
    );
    assert_eq!(wire.ask("ping").await, "+PONG\r\n");
    server.announce(EventKind::NewEpoch, "7");
    assert_eq!(wire.bytes().await, ">3\r\n$7\r\nmessage\r\n$10\r\n+new-epoch\r\n$1\r\n7\r\n");
    // What the core announced before its answer comes before the answer; here, many times.
    for n in 0..50 {
        let message = bulk(&n.to_string());
        let pushed = wire.ask(&format!("publish __sentinel__:hello {n}")).await;
        assert_eq!(pushed, format!(">3\r\n$7\r\nmessage\r\n$10\r\n+new-epoch\r\n{message}"));
        assert_eq!(wire.bytes().await, ":1\r\n");
    }
    assert_eq!(
        wire.ask("unsubscribe").await,
        ">3\r\n$11\r\nunsubscribe\r\n$10\r\n+new-epoch\r\n:0\r\n"
    );
    assert_eq!(wire.ask("unsubscribe").await, ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
    // CLIENT REPLY OFF is for replies, not for messages.
    wire.ask("subscribe +reboot").await;
    wire.say("client reply off").await;
    wire.say("ping").await;
    wire.say("client reply on").await;
    assert_eq!(wire.bytes().await, "+OK\r\n");
}

#[tokio::test]
async fn a_message_never_precedes_the_confirmation_of_its_subscription() {
    let (server, mut asked) = Server::unanswered(|_| {});
    let mut wire = server.connect().await;
    wire.say("sentinel myid").await;
    wire.say("subscribe +reboot").await;
    let (_, answer) = within(asked.recv()).await.unwrap();
    server.announce(EventKind::Reboot, "too early");
    answer.send(Value::ok()).unwrap();
    assert_eq!(wire.bytes().await, "+OK\r\n");
    assert_eq!(wire.bytes().await, "*3\r\n$9\r\nsubscribe\r\n$7\r\n+reboot\r\n:1\r\n");
    server.announce(EventKind::Reboot, "in time");
    assert!(wire.bytes().await.ends_with("$7\r\nin time\r\n"));
}

#[tokio::test]
async fn hello_is_the_only_message_taken_and_goes_to_no_subscriber() {
    let server = Server::start();
    let mut listener = server.connect().await;
    listener.ask("subscribe __sentinel__:hello").await;
    let mut wire = server.connect().await;
    assert_eq!(wire.ask("publish __sentinel__:hello a").await, ":1\r\n");
    assert_eq!(
        wire.ask("publish a b").await,
        "-ERR Only HELLO messages are accepted by Sentinel instances.\r\n"
    );
    assert_eq!(listener.ask("ping x").await, "*2\r\n$4\r\npong\r\n$1\r\nx\r\n");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_holds_nobody() {
    let server = Server::start();
    let mut deaf = server.connect().await;
    deaf.ask("client setname deaf").await;
    deaf.ask("psubscribe *").await;
    let mut good = server.connect().await;
    good.ask("psubscribe +new-epoch +reboot").await;
    good.bytes().await;
    let payload = "x".repeat(1 << 20);
    let mut witness = server.connect().await;
    // More than our limit and the system's buffers together; the good one hears each in time.
    for sent in 0..512 {
        server.announce(EventKind::Sdown, &payload);
        server.announce(EventKind::NewEpoch, &sent.to_string());
        assert!(good.bytes().await.ends_with(&bulk(&sent.to_string())));
        if !witness.ask("client list").await.contains("name=deaf") {
            break;
        }
        assert!(sent < 511, "still connected");
    }
    deaf.rest().await;
    server.announce(EventKind::Reboot, "end");
    assert!(good.bytes().await.ends_with(&bulk("end")));
}

#[tokio::test]
async fn subscriptions_are_bounded_and_counted() {
    let server = Server::start();
    let mut wire = server.connect().await;
    let names: Vec<String> = (0..1025).map(|n| n.to_string()).collect();
    wire.say(&format!("subscribe {}", names.join(" "))).await;
    for _ in 0..1024 {
        assert!(wire.bytes().await.starts_with("*3\r\n$9\r\nsubscribe\r\n"));
    }
    assert_eq!(wire.bytes().await, "-ERR A connection may have at most 1024 subscriptions\r\n");
    let mut other = server.connect().await;
    let shown = fields(&other.ask("info stats").await, "\r\n", ':');
    assert_eq!((&shown["pubsub_channels"][..], &shown["pubsub_patterns"][..]), ("1024", "0"));
    drop(wire);
    until("no channels", async || {
        other.ask("info stats").await.contains("\r\npubsub_channels:0\r\n")
    })
    .await;
}

/// The entries of SENTINEL EVENTS: ids, and channels with payloads.
fn entries(reply: &Value) -> (Vec<String>, Vec<String>) {
    let Value::Array(entries) = reply else { panic!("{reply:?}") };
    let fields = entries.iter().map(|entry| {
        let Value::Map(pairs) = entry else { panic!("{entry:?}") };
        let names: Vec<_> = pairs.iter().filter_map(|(name, _)| name.text()).collect();
        assert_eq!(names, ["id", "time", "channel", "payload"]);
        assert!(matches!(pairs[1].1, Value::Integer(ms) if ms > 1_600_000_000_000), "{pairs:?}");
        let text = |at: usize| pairs[at].1.text().unwrap().to_owned();
        (text(0), format!("{} {}", text(2), text(3)))
    });
    fields.unzip()
}

#[tokio::test]
async fn who_comes_late_asks_for_what_was_missed() {
    let server = Server::start();
    let mut wire = server.connect().await;
    assert_eq!(wire.ask("sentinel events").await, "*0\r\n");
    for n in 1..=3 {
        server.announce(EventKind::Sdown, &n.to_string());
    }
    server.announce(EventKind::CmdLinkReconnection, "for the log only");
    server.announce(EventKind::SwitchMaster, "m 1 2 3 4");
    wire.ask("hello 3").await;
    let mut ask = async |line: &str| {
        wire.say(&format!("sentinel events {line}")).await;
        entries(&wire.value().await)
    };
    let (ids, told) = ask("count 10").await;
    assert_eq!(told, ["+sdown 1", "+sdown 2", "+sdown 3", "+switch-master m 1 2 3 4"]);
    let (run_id, first) = ids[0].split_once('-').unwrap();
    assert_eq!((run_id.len(), first), (40, "1"));
    assert_eq!(ids[3], format!("{run_id}-4"));
    assert_eq!(ask("COUNT 1").await.1, ["+switch-master m 1 2 3 4"], "the last one");
    let since = format!("since {}", ids[1]);
    assert_eq!(ask(&since).await.1, told[2..]);
    assert_eq!(ask(&format!("count 1 {since}")).await.1, told[2..3], "the first after it");
    assert!(ask(&format!("since {}", ids[3])).await.1.is_empty());
    let other_run = format!("Since {}-3", "0".repeat(40));
    assert_eq!(ask(&other_run).await.1, told, "of another run: everything");

    wire.ask("hello 2").await;
    for (line, error) in [
        ("since", "ERR syntax error"),
        ("count 1 count 2", "ERR syntax error"),
        ("count 0", "ERR COUNT must be a positive integer"),
        ("count x", "ERR COUNT must be a positive integer"),
        ("since 4", "ERR Invalid event id: give one that SENTINEL EVENTS has shown"),
        ("since x-4", "ERR Invalid event id: give one that SENTINEL EVENTS has shown"),
    ] {
        let reply = wire.ask(&format!("sentinel events {line}")).await;
        assert_eq!(reply, format!("-{error}\r\n"), "{line}");
    }
    let reply = wire.ask("sentinel events count 1").await;
    assert!(reply.starts_with("*1\r\n*8\r\n$2\r\nid\r\n$42\r\n"), "{reply}");
}

#[test]
fn every_event_stands_in_the_documentation_with_its_level() {
    let document = include_str!("../../../docs/events.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    for kind in EventKind::ALL {
        let name = format!("`{}`", kind.name());
        let row = rows.iter().find(|row| row[0].contains(&name));
        let row = row.unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(row[2].to_owned(), format!("{:?}", kind.level()).to_lowercase(), "{name}");
    }
}
