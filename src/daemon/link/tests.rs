//! Links against real nodes, and against nodes as bad as they come.

use std::io;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::transport::{KeyPair, TlsSettings};
use crate::config::types::{Address, Secret};
use crate::net::tls::Tls;
use crate::resp::Value;
use crate::sentinel::{LostReason, hello};

/// TLS for links with a certificate that stands for itself, and how Debian's redis-server is told
/// to speak it.
fn tls(folder: &std::path::Path, port: u16) -> (Arc<Tls>, Vec<String>) {
    let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    let (cert, key) = (folder.join("crt"), folder.join("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let words = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let arguments = vec![
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        words(&cert),
        "--tls-key-file".to_owned(),
        words(&key),
        "--tls-ca-cert-file".to_owned(),
        words(&cert),
    ];
    let settings = TlsSettings {
        links: true,
        server: KeyPair { cert_file: Some(cert.clone()), key_file: Some(key), key_pass: None },
        ca_file: Some(cert),
        ..TlsSettings::default()
    };
    (Tls::open(&settings).unwrap(), arguments)
}

const DEADLINE: Duration = Duration::from_secs(20);

/// Debian's `redis-server` on a port of its own.
struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Redis {
    async fn start(arguments: &[&str]) -> Redis {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
        let child = Redis::spawn(port, &folder, &arguments);
        let redis = Redis { child, port, folder, arguments };
        redis.wait_until_it_listens().await;
        redis
    }

    fn spawn(port: u16, folder: &tempfile::TempDir, arguments: &[String]) -> Child {
        Process::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir")
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed")
    }

    async fn wait_until_it_listens(&self) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(start.elapsed() < DEADLINE, "redis-server does not start");
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.child = Redis::spawn(self.port, &self.folder, &self.arguments);
        self.wait_until_it_listens().await;
    }

    /// One inline request over a connection of its own; all of the answer that comes at once.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 64 << 10];
        let count = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A link and the place where its news arrives.
struct Linked {
    link: Link,
    news: mpsc::Receiver<News>,
}

fn target(port: u16) -> Target {
    Target {
        address: Address::new("127.0.0.1", port),
        kind: TargetKind::Sentinel,
        user: None,
        password: None,
        rename_commands: Arc::default(),
        client_name: "sentinel-0123abcd".into(),
    }
}

fn node(port: u16) -> Target {
    Target { kind: TargetKind::Node, ..target(port) }
}

impl Linked {
    fn open(target: Target) -> Linked {
        Linked::leaving(target, &Outgoing::default())
    }

    fn leaving(target: Target, outgoing: &Outgoing) -> Linked {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let looks = Looks::start();
        Linked { link: Link::open(LinkId(1), target, outgoing, &looks, sender), news }
    }

    async fn next(&mut self) -> LinkEvent {
        let news = timeout(DEADLINE, self.news.recv()).await.expect("news in time").unwrap();
        assert_eq!(news.link, LinkId(1));
        self.link.note(&news);
        news.event
    }

    /// The next event of which `pick` makes something; others are passed over.
    async fn until<T>(&mut self, mut pick: impl FnMut(LinkEvent) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < DEADLINE, "no such news");
            if let Some(picked) = pick(self.next().await) {
                return picked;
            }
        }
    }

    async fn up(&mut self) {
        self.until(|event| matches!(event, LinkEvent::Up { .. }).then_some(())).await;
    }

    async fn down(&mut self) -> LostReason {
        self.until(|event| match event {
            LinkEvent::Down { reason } => Some(reason),
            _ => None,
        })
        .await
    }

    async fn subscribed(&mut self) {
        self.until(|event| matches!(event, LinkEvent::Subscribed).then_some(())).await;
    }

    async fn reply(&mut self) -> (Command, Value) {
        self.until(|event| match event {
            LinkEvent::Reply { command, reply } => Some((command, reply)),
            _ => None,
        })
        .await
    }

    async fn ask(&mut self, command: Command) -> Value {
        self.link.send(command.clone());
        let (answered, reply) = self.reply().await;
        assert_eq!(answered, command);
        reply
    }
}

/// A node of a few lines: what it does with each connection is the caller's.
async fn fake<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

#[tokio::test]
async fn commands_are_answered_in_order() {
    let redis = Redis::start(&[]).await;
    let mut linked = Linked::open(target(redis.port));
    let LinkEvent::Up { local_ip, remote_ip } = linked.next().await else { panic!() };
    assert_eq!((local_ip.as_str(), remote_ip.as_str()), ("127.0.0.1", "127.0.0.1"));

    let hello = Command::Hello { payload: "a,b".into() };
    linked.link.send(Command::Ping);
    linked.link.send(hello.clone());
    linked.link.send(Command::Info);
    assert_eq!(linked.reply().await, (Command::Ping, Value::Simple("PONG".into())));
    assert_eq!(linked.reply().await, (hello, Value::Integer(0)));
    let (command, info) = linked.reply().await;
    assert_eq!(command, Command::Info);
    assert!(info.text().unwrap().contains("role:master"));
    let clients = redis.ask("CLIENT LIST").await;
    assert!(clients.contains("name=sentinel-0123abcd-cmd"), "{clients}");
}

#[tokio::test]
async fn a_transaction_gives_all_replies_with_the_errors_inside() {
    let redis = Redis::start(&[]).await;
    let mut linked = Linked::open(target(redis.port));
    linked.up().await;
    let follow = Command::Follow { master: Address::new("127.0.0.1", 1) };
    let Value::Array(replies) = linked.ask(follow).await else { panic!() };
    assert_eq!(replies.len(), 7);
    assert_eq!(replies[0], Value::ok());
    let Value::Array(executed) = &replies[5] else { panic!("{:?}", replies[5]) };
    assert_eq!(executed[0], Value::ok());
    // Redis was started without a file: CONFIG REWRITE fails inside of EXEC, the rest is done.
    let no_file = "ERR The server is running without a config file";
    assert_eq!(executed[1], Value::error(no_file));
    assert!(replies[6].text().unwrap().contains("role:slave"));
    assert_eq!(linked.ask(Command::ScriptKill).await, {
        Value::error("NOTBUSY No scripts in execution right now.")
    });
}

#[tokio::test]
async fn a_killed_node_is_noticed_at_once_and_a_restarted_one_found_again() {
    let mut redis = Redis::start(&[]).await;
    let mut linked = Linked::open(target(redis.port));
    linked.up().await;
    linked.ask(Command::Ping).await;
    redis.kill();
    let killed = Instant::now();
    assert_eq!(linked.down().await, LostReason::Closed);
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!(linked.down().await, LostReason::Refused);
    // Not sent on the next connection: what was decided for this one may be obsolete.
    linked.link.send(Command::Promote);
    redis.restart().await;
    linked.up().await;
    assert_eq!(linked.ask(Command::Ping).await, Value::Simple("PONG".into()));
}

#[tokio::test]
async fn a_connection_that_the_node_closes_is_made_anew() {
    let redis = Redis::start(&[]).await;
    let mut linked = Linked::open(node(redis.port));
    linked.subscribed().await;
    linked.ask(Command::Ping).await;
    assert!(redis.ask("CLIENT KILL TYPE pubsub").await.starts_with(':'));
    assert_eq!(linked.down().await, LostReason::Closed);
    linked.up().await;
    linked.ask(Command::Ping).await;
}

#[tokio::test]
async fn a_command_belongs_to_its_connection() {
    let redis = Redis::start(&[]).await;
    let mut linked = Linked::open(target(redis.port));
    linked.up().await;
    redis.ask("CLIENT KILL TYPE normal").await;
    let start = Instant::now();
    while !redis.ask("CLIENT LIST").await.contains("-cmd") {
        assert!(start.elapsed() < DEADLINE, "it does not come back");
        sleep(Duration::from_millis(5)).await;
    }
    // The core has not heard of the loss, and still speaks to the first connection.
    linked.link.send(Command::Promote);
    assert_eq!(linked.down().await, LostReason::Closed);
    linked.up().await;
    linked.link.send(Command::Ping);
    assert_eq!(linked.reply().await.0, Command::Ping);
}

/// Where a node speaks RESP3 the hellos come over the connection that there is anyway.
#[tokio::test]
async fn hellos_are_heard_and_the_subscription_outlives_its_connection() {
    hear_twice(&[], "cmd", 1).await;
    // As before Redis 6.0, or for a user who may not say HELLO.
    hear_twice(&["--rename-command", "HELLO", ""], "pubsub", 2).await;
}

/// Hears hellos over the connection that is called so, before and after that is lost; there are as
/// many connections as that.
async fn hear_twice(arguments: &[&str], name: &str, connections: usize) {
    let redis = Redis::start(arguments).await;
    let mut linked = Linked::open(node(redis.port));
    let heard = |event| match event {
        LinkEvent::Hello { payload } => Some(payload),
        _ => None,
    };
    for round in ["one", "two"] {
        linked.subscribed().await;
        assert_eq!(redis.ask(&format!("PUBLISH {} {round}", hello::CHANNEL)).await, ":1\r\n");
        assert_eq!(linked.until(heard).await, round);
        let clients = redis.ask("CLIENT LIST").await;
        let of_ours = clients.lines().filter(|line| line.contains("name=sentinel-0123abcd-"));
        assert_eq!(of_ours.clone().filter(|line| !line.contains("-check")).count(), connections);
        let heard_by = of_ours.filter(|line| line.contains(" sub=1 ")).collect::<Vec<_>>();
        assert_eq!(heard_by.len(), 1, "{clients}");
        assert!(heard_by[0].contains(&format!("abcd-{name} ")), "{clients}");
        redis.ask("CLIENT KILL TYPE pubsub").await;
        let lost = |event| match event {
            LinkEvent::Unsubscribed { reason } => Some(reason),
            _ => None,
        };
        assert_eq!(linked.until(lost).await, "Server closed the connection");
    }
}

#[tokio::test]
async fn odd_hellos_are_dropped() {
    let redis = Redis::start(&[]).await;
    let mut linked = Linked::open(node(redis.port));
    linked.subscribed().await;
    let long = "x".repeat(4097);
    for payload in ["\"\\xff\"", &long, "good"] {
        redis.ask(&format!("PUBLISH {} {payload}", hello::CHANNEL)).await;
    }
    linked
        .until(|event| match event {
            LinkEvent::Hello { payload } => (payload == "good").then_some(()),
            LinkEvent::Unsubscribed { reason } => panic!("{reason}"),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_flood_of_hellos_fills_only_the_places_of_its_link() {
    let redis = Redis::start(&[]).await;
    let (sender, mut news) = mpsc::channel(NEWS_MAX);
    let (outgoing, looks) = (Outgoing::default(), Looks::start());
    let _link = Link::open(LinkId(1), node(redis.port), &outgoing, &looks, sender);
    let start = Instant::now();
    while !redis.ask("PUBSUB NUMSUB __sentinel__:hello").await.contains(":1") {
        assert!(start.elapsed() < DEADLINE, "no subscription");
        sleep(Duration::from_millis(5)).await;
    }
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
    let flood = format!("PUBLISH {} x\r\n", hello::CHANNEL).repeat(5_000);
    stream.write_all(flood.as_bytes()).await.unwrap();
    let mut answers = vec![0; 5_000 * ":1\r\n".len()];
    stream.read_exact(&mut answers).await.unwrap();
    // All were sent; the link has no more places than it had.
    let mut hellos = 0;
    while let Ok(Some(one)) = timeout(Duration::from_millis(300), news.recv()).await {
        hellos += usize::from(matches!(one.event, LinkEvent::Hello { .. }));
        std::mem::forget(one);
        assert!(hellos <= HELLOS_MAX);
    }
    assert_eq!(hellos, HELLOS_MAX);
}

#[tokio::test]
async fn the_password_is_given_and_a_wrong_one_leaves_the_link_up() {
    let redis = Redis::start(&["--requirepass", "secret"]).await;
    let mut right =
        Linked::open(Target { password: Some(Secret::new("secret")), ..node(redis.port) });
    right.up().await;
    assert_eq!(right.ask(Command::Ping).await, Value::Simple("PONG".into()));
    let mut wrong = Linked::open(Target {
        user: Some("nobody".into()),
        password: Some(Secret::new("wrong")),
        ..node(redis.port)
    });
    let no = "NOAUTH Authentication required.";
    let mut unsubscribed = false;
    wrong.up().await;
    wrong.link.send(Command::Ping);
    let mut reply = None;
    while reply.is_none() || !unsubscribed {
        match wrong.next().await {
            LinkEvent::Unsubscribed { reason } => {
                assert_eq!(reason, no);
                unsubscribed = true;
            }
            LinkEvent::Reply { reply: answer, .. } => reply = Some(answer),
            // Nothing of its words, which might repeat the password.
            LinkEvent::Right { command, refused } if command == "AUTH" => {
                assert_eq!(refused.as_deref(), Some("WRONGPASS"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reply, Some(Value::error(no)));
}

#[tokio::test]
async fn renamed_commands_are_called_by_their_new_names() {
    let redis = Redis::start(&[
        "--requirepass",
        "secret",
        "--rename-command",
        "PING",
        "GNIP",
        "--rename-command",
        "AUTH",
        "HTUA",
        "--rename-command",
        "CLIENT",
        "TNEILC",
        "--rename-command",
        "SUBSCRIBE",
        "EBIRCSBUS",
    ])
    .await;
    let names =
        [("PING", "GNIP"), ("AUTH", "HTUA"), ("CLIENT", "TNEILC"), ("SUBSCRIBE", "EBIRCSBUS")];
    let rename_commands = names.map(|(old, new)| (old.to_owned(), new.to_owned()));
    let mut linked = Linked::open(Target {
        password: Some(Secret::new("secret")),
        rename_commands: Arc::new(rename_commands.into_iter().collect()),
        ..node(redis.port)
    });
    linked.subscribed().await;
    let mut linked = Linked::open(Target {
        rename_commands: Arc::new([("PING".into(), "GNIP".into())].into()),
        ..target(redis.port)
    });
    linked.up().await;
    assert!(matches!(linked.ask(Command::Ping).await, Value::Error(_)), "no password given");
}

#[tokio::test]
async fn a_full_node_tells_why_it_refuses() {
    let redis = Redis::start(&["--maxclients", "1"]).await;
    // The one place may still be held by whoever looked whether the node is up.
    let taken = async {
        loop {
            let mut first = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
            let mut answer = [0; 5];
            // A full node may have ended the connection before the request is written.
            if first.write_all(b"PING\r\n").await.is_ok()
                && first.read_exact(&mut answer).await.is_ok()
                && &answer == b"+PONG"
            {
                return first;
            }
        }
    };
    let _first = timeout(DEADLINE, taken).await.expect("a place");
    let mut linked = Linked::open(target(redis.port));
    let full = LostReason::Rejected("ERR max number of clients reached".into());
    linked.until(|e| (e == LinkEvent::Down { reason: full.clone() }).then_some(())).await;
}

/// A node in protected mode says so at once and ends the connection, mostly before it has read our
/// greeting; then the end comes as a reset, in which what was said before must not get lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_heard_however_soon_the_connection_ends() {
    const ATTEMPTS: usize = 100;
    const DENIED: &str = "DENIED Redis is running in protected mode";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = std::thread::spawn(move || {
        for (attempt, stream) in listener.incoming().flatten().take(ATTEMPTS).enumerate() {
            // Sooner or later than the greeting.
            std::thread::sleep(Duration::from_micros(20 * (attempt as u64 % 10)));
            let _ = io::Write::write_all(&mut &stream, format!("-{DENIED}\r\n").as_bytes());
        }
    });
    let mut unheard = Vec::new();
    for _ in 0..ATTEMPTS {
        let reason = Linked::open(target(port)).down().await;
        if reason != LostReason::Rejected(DENIED.into()) {
            unheard.push(reason);
        }
    }
    assert!(unheard.is_empty(), "{} of {ATTEMPTS}: {unheard:?}", unheard.len());
    node.join().unwrap();
}

#[tokio::test]
async fn a_refused_port_is_tried_again_without_spinning() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut linked = Linked::open(target(port));
    let start = Instant::now();
    for _ in 0..7 {
        assert_eq!(linked.down().await, LostReason::Refused);
    }
    // 10 + 20 + 40 + 80 + 160 + 320 ms, each a quarter less at the least.
    assert!(start.elapsed() > Duration::from_millis(450), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_node_that_accepts_and_never_answers_is_up_and_silent() {
    let port = fake(|mut stream| async move {
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let mut linked = Linked::open(Target { password: Some(Secret::new("p")), ..node(port) });
    assert!(matches!(linked.next().await, LinkEvent::Up { .. }));
    // More than may be unanswered or wait: the rest is dropped, and nothing else happens.
    for _ in 0..1_000 {
        linked.link.send(Command::Ping);
    }
    assert!(linked.link.dropped.count > 0);
    assert!(linked.news.try_recv().is_err(), "silence is the core's to judge");
}

#[tokio::test]
async fn a_node_that_never_accepts_times_out() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    let mut linked = Linked::open(target(address.port()));
    let start = Instant::now();
    assert_eq!(linked.down().await, LostReason::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_late_answer_is_still_news() {
    let port = fake(|mut stream| async move {
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await;
        sleep(Duration::from_secs(2)).await;
        let _ = stream.write_all(b"+OK\r\n+PONG\r\n").await;
        sleep(DEADLINE).await;
    })
    .await;
    let mut linked = Linked::open(target(port));
    linked.up().await;
    assert_eq!(linked.ask(Command::Ping).await, Value::Simple("PONG".into()));
}

/// Answers with `first`, and then without end with `again`.
async fn babbler(first: &'static [u8], again: &'static [u8]) -> u16 {
    fake(move |mut stream| async move {
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(first).await;
        while !again.is_empty() && stream.write_all(again).await.is_ok() {}
        sleep(DEADLINE).await;
    })
    .await
}

#[tokio::test]
async fn garbage_ends_a_connection_and_never_the_link() {
    let unasked = "Protocol error: a reply came that nothing was asked for";
    let too_big = "Protocol error: more than 1048576 bytes";
    let cases: [(&[u8], &[u8], &str); 7] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", "Protocol error: "),
        (b"$1000000000\r\n", b"0123456789abcdef", too_big),
        (b"*1000000000\r\n", b":1\r\n:2\r\n:3\r\n", "Protocol error: "),
        (b"+OK\r\n", b"+nobody asked\r\n", unasked),
        (b"+", b"a line without an end ", "Protocol error: a line is longer than 65536 bytes"),
        (b"", b"*1\r\n", "Protocol error: nested deeper than 8"),
        (b"$99999999999999999999\r\n", b"", "Protocol error: "),
    ];
    for (bytes, again, expected) in cases {
        let mut linked = Linked::open(node(babbler(bytes, again).await));
        let shown = String::from_utf8_lossy(bytes).into_owned();
        linked.up().await;
        let LostReason::Other(reason) = linked.down().await else { panic!("{shown}") };
        assert!(reason.starts_with(expected), "{shown}: {reason}");
        assert!(reason.len() < 300 && !reason.contains('\n'), "{reason}");
        linked.up().await;
    }
}

#[tokio::test]
async fn values_of_every_kind_survive() {
    const REPLIES: [&[u8]; 9] = [
        b"+OK\r\n",
        b"%1\r\n+k\r\n~1\r\n#t\r\n",
        b",1.5\r\n",
        b"=5\r\ntxt:a\r\n",
        b"(12\r\n",
        b"-X\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"$1\r\n\xff\r\n",
    ];
    let port = fake(|mut stream| async move {
        let mut buffer = [0; 1024];
        for reply in REPLIES {
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(reply).await;
        }
        sleep(DEADLINE).await;
    })
    .await;
    let mut linked = Linked::open(target(port));
    linked.up().await;
    for expected in [
        Value::Map(vec![(Value::Simple("k".into()), Value::Set(vec![Value::Boolean(true)]))]),
        Value::Double(1.5),
        Value::Verbatim("a".into()),
        Value::bulk("12"),
        Value::error("X"),
        Value::NullArray,
        Value::Null,
        Value::bulk(b"\xff"),
    ] {
        assert_eq!(linked.ask(Command::Ping).await, expected);
    }
}

#[test]
fn a_password_that_a_node_repeats_does_not_reach_the_log() {
    let target = Target { password: Some(Secret::new("secret")), ..target(1) };
    let error = "ERR unknown command 'AUTH', with args beginning with: 'secret' \r\n";
    let shown = fit_for_log(error, &target);
    assert_eq!(shown, "ERR unknown command 'AUTH', with args beginning with: '******'   ");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_link_speaks_tls_and_says_what_is_wrong_with_it() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let (trusted, arguments) = tls(folder.path(), port);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut redis = Redis::start(&arguments).await;
    let through = |tls: &Arc<Tls>| Outgoing { tls: Some(tls.clone()), ..Outgoing::default() };
    let mut linked = Linked::leaving(node(port), &through(&trusted));
    linked.up().await;
    linked.link.send(Command::Ping);
    assert_eq!(linked.reply().await.1, Value::Simple("PONG".into()));
    linked.link.send(Command::Info);
    assert!(linked.reply().await.1.text().is_some_and(|info| info.starts_with("# Server")));
    let mut listening = Linked::leaving(node(port), &through(&trusted));
    listening.subscribed().await;

    // A stranger on either side; in TLS 1.3 a client learns only after its handshake that it is
    // not wanted.
    let (stranger, _) = tls(other.path(), port);
    let mut unknown = Linked::leaving(node(port), &through(&stranger));
    let LostReason::Untrusted(why) = unknown.down().await else { panic!("named") };
    assert!(why.contains("its certificate is not accepted"), "{why}");
    let settings = TlsSettings {
        links: true,
        ca_file: Some(folder.path().join("crt")),
        ..TlsSettings::default()
    };
    let bare = Tls::open(&settings).unwrap();
    let mut unknown = Linked::leaving(node(port), &through(&bare));
    let LostReason::Untrusted(why) = unknown.down().await else { panic!("named") };
    assert!(why.contains("it wants a certificate"), "{why}");

    // TLS where there is none: Redis takes the handshake for a command without an end.
    let mut clear = Linked::leaving(node(redis.port), &through(&trusted));
    let LostReason::Other(why) = clear.down().await else { panic!("named") };
    assert!(why.contains("does this port speak TLS?"), "{why}");
    redis.kill();
    assert_eq!(linked.down().await, LostReason::Closed);
    assert_eq!(linked.down().await, LostReason::Refused);
}

#[tokio::test]
async fn a_silent_handshake_counts_as_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (trusted, _) = tls(folder.path(), 1);
    // The kernel accepts, and nobody answers: a frozen node.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let outgoing = Outgoing { tls: Some(trusted), ..Outgoing::default() };
    let began = Instant::now();
    let mut linked = Linked::leaving(node(port), &outgoing);
    let LostReason::Other(why) = linked.down().await else { panic!("named") };
    assert!(why.starts_with("TLS handshake: no answer within 1 s"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(5), "it has a deadline");
}
