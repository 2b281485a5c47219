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
