//! Compared with a real sentinel of Redis 7.0, started by the test: errors, shapes and field names.

use std::process::{Child, Command, Stdio};

use super::*;

/// `redis-server --sentinel` on a free port, ended with the test.
pub(super) struct Oracle {
    child: Child,
    pub(super) port: u16,
    _directory: tempfile::TempDir,
}

impl Oracle {
    pub(super) async fn start(extra: &str) -> Oracle {
        // Another process may take a free port before the oracle does: then it ends, and we try
        // again.
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("sentinel.conf");
            let port = listen(&["127.0.0.1".into()], 0, 1).unwrap().port;
            let text = format!("port {port}\nbind 127.0.0.1\n{extra}\n");
            std::fs::write(&file, text).unwrap();
            let mut child = Command::new("redis-server")
                .arg(&file)
                .arg("--sentinel")
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is needed: apt-get install redis-server");
            if answers(port, &mut child).await {
                return Oracle { child, port, _directory: directory };
            }
        }
        panic!("redis-server does not start");
    }
}

/// Waits until the sentinel of this process listens; false if it ended, since another has its port.
async fn answers(port: u16, child: &mut Child) -> bool {
    let name = format!("process_id:{}\r\n", child.id());
    let mut up = false;
    until("a sentinel of Redis", async || {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            let mut wire = Wire { stream, input: BytesMut::new() };
            // Whichever of the two it accepts.
            let asked = b"info server\r\nauth sesame\r\ninfo server\r\n";
            let _ = within(wire.stream.write_all(asked)).await;
            let _ = wire.stream.shutdown().await;
            up = wire.rest().await.contains(&name);
        }
        up || child.try_wait().unwrap().is_some()
    })
    .await;
    up
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks both the same on one connection each, and compares the bytes.
pub(super) async fn compare(oracle: &Oracle, server: &Server, lines: &[&str]) {
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    let mut differences = Vec::new();
    for line in lines {
        let (expected, got) = (theirs.ask(line).await, ours.ask(line).await);
        if masked(&got) != masked(&expected) {
            differences.push(format!("{line}: {got:?} instead of {expected:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// HELLO shows the version and the number of the connection, which differ.
fn masked(reply: &str) -> String {
    let Some((head, rest)) = reply.split_once("$7\r\nversion\r\n") else { return reply.to_owned() };
    let (_, rest) = rest.split_once("$5\r\nproto").unwrap();
    let (middle, rest) = rest.split_once("id\r\n:").unwrap();
    let (_, tail) = rest.split_once("\r\n").unwrap();
    format!("{head}{middle}{tail}")
}

const ERRORS: &[&str] = &[
    "ping",
    "ping a",
    "ping a b",
    "echo",
    "echo hi there",
    "get a",
    "sentinel",
    "SENTINEL FOO",
    "Sentinel Masters x",
    "sentinel master",
    "sentinel master nobody",
    "sentinel masters|x",
    "sentinel|masters",
    "sentinel replicas",
    "sentinel slaves nobody",
    "sentinel slaves",
    "sentinel sentinels nobody",
    "sentinel get-master-addr-by-name",
    "sentinel remove nobody",
    "sentinel get-master-addr-by-name nobody",
    "sentinel ckquorum nobody",
    "sentinel set a b",
    "sentinel is-master-down-by-addr a b c d",
    "sentinel is-master-down-by-addr a 1 c d",
    "sentinel is-master-down-by-addr a 1 1",
    "sentinel is-master-down-by-addr a 1 1 *",
    "sentinel is-master-down-by-addr a 99999999 1 *",
    "sentinel failover nobody",
    "sentinel set nobody quorum 1",
    "sentinel set nobody quorum",
    "sentinel monitor a b c d",
    "sentinel monitor a",
    "sentinel reset",
    "sentinel reset nobody",
    "sentinel flushconfig x",
    "sentinel pending-scripts",
    "sentinel pending-scripts x",
    "sentinel myid x",
    "sentinel help x",
    "publish",
    "publish a b",
    "publish a b c",
    "publish __sentinel__:hello a,b",
    "role x",
    "info replication",
    "info nothing",
    "shutdown abort",
    "shutdown foo",
    "shutdown save nosave",
    "shutdown abort now",
    "shutdown nosave abort",
    "subscribe",
    "psubscribe",
    "auth",
    "auth a",
    "auth a b",
    "auth default b",
    "auth a b c",
    "auth default ''",
    "acl",
    "acl foo",
    "acl whoami",
    "acl whoami x",
    "hello x",
    "hello 4",
    "hello 3 auth default",
    "hello 2 setname",
    "hello 2 foo",
    "hello 2 setname a\nb",
    "hello",
    "hello 2 setname joe",
    "client getname",
    "client setname",
    "client setname a\tb",
    "client setname ''",
    "client getname",
    "client foo",
    "client",
    "client no-evict",
    "client no-evict x",
    "client no-evict on",
    "client kill",
    "client kill 1.2.3.4:5",
    "client kill id x",
    "client kill id 0",
    "client kill id 999",
    "client kill type foo",
    "client kill foo bar",
    "client kill user nope",
    "client kill id 3 addr",
    "client kill skipme maybe",
    "client kill addr 1:2 laddr 3:4",
    "client list id",
    "client list id x",
    "client list id 77 88",
    "client list type foo",
    "client list type pubsub",
    "client list type slave",
    "client list foo",
    "client pause",
    "client pause x",
    "client pause 1 foo",
    "client pause -1",
    "client unpause",
    "client unblock",
    "client unblock 1",
    "client unblock x",
    "client unblock 1 foo",
    "client caching yes",
    "client getredir",
    "client trackinginfo",
    "client reply",
    "client reply foo",
    "client id x",
    "command foo",
    "command count x",
    "command getkeys",
    "command getkeys get x",
    "command getkeys publish a b",
    "command getkeysandflags ping x",
    "command info nothing",
    "command info ping nothing sentinel|nothing sentinel|master",
    "command docs nothing",
    "command list filterby module x",
    "command list foo",
    "command list filterby foo bar",
    "command list filterby pattern nothing*",
    "command help x",
    "unsubscribe",
    "punsubscribe x",
    "hello 3",
    "ping",
    "ping a",
    "client getname",
    "client trackinginfo",
    "command info publish",
    "sentinel get-master-addr-by-name nobody",
    "unsubscribe",
    "subscribe a b",
    "psubscribe a*",
    "command docs nothing",
    "hello 2",
];

#[tokio::test]
async fn errors_and_small_replies_are_redis_s() {
    let oracle = Oracle::start("").await;
    let server = Server::start();
    compare(&oracle, &server, ERRORS).await;
}

#[tokio::test]
async fn authentication_is_redis_s() {
    let oracle = Oracle::start("requirepass sesame").await;
    let server = Server::with(|settings| settings.requirepass = Some(Secret::new("sesame")));
    compare(
        &oracle,
        &server,
        &[
            "ping",
            "foo",
            "sentinel foo",
            "sentinel",
            "sentinel masters",
            "hello 3 x",
            "hello",
            "hello 3",
            "hello 3 auth default bad",
            "hello 9 auth default sesame",
            "auth bad",
            "auth a b c",
            "auth default bad",
            "auth sesame",
            "ping",
            "auth bad",
            "ping",
            "hello 3 auth default sesame setname bob",
            "client getname",
            "acl whoami",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_resp2_subscriber_meets_redis_s_limits() {
    let oracle = Oracle::start("").await;
    let server = Server::start();
    compare(
        &oracle,
        &server,
        &[
            "subscribe a",
            "subscribe a",
            "psubscribe b",
            "ping",
            "ping a",
            "ping a b",
            "foo",
            "sentinel foo",
            "sentinel",
            "sentinel myid",
            "info",
            "client setname a",
            "publish a b",
            "client|id",
            "hello 3",
            "auth a",
            "command count",
            "unsubscribe x",
            "unsubscribe",
            "unsubscribe",
            "punsubscribe b",
            "punsubscribe",
            "ping",
        ],
    )
    .await;
}

#[tokio::test]
async fn commands_are_described_as_redis_describes_them() {
    let oracle = Oracle::start("").await;
    let server = Server::start();
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    // Redis 7.2 takes a command without arguments here, as we do.
    let newer = [
        "command|getkeys",
        "command|getkeysandflags",
        // 7.2 asks for a word more.
        "sentinel|config",
        // Valkey 9 takes a word more.
        "sentinel|failover",
    ];
    let Value::Array(known) = ({
        ours.say("command list").await;
        ours.value().await
    }) else {
        panic!("an array");
    };
    let known: Vec<&str> = known.iter().filter_map(Value::text).collect();
    for proto in ["hello 2", "hello 3"] {
        theirs.ask(proto).await;
        ours.ask(proto).await;
        let mut compared = 0;
        for name in &known {
            let line = format!("command info {name}");
            let expected = theirs.ask(&line).await;
            // What a later version or Valkey brought, and containers, whose contents differ.
            let subcommands = known.iter().any(|other| other.starts_with(&format!("{name}|")));
            if expected.len() > 10 && !subcommands && !newer.contains(name) {
                assert_eq!(ours.ask(&line).await, expected, "{name}");
                compared += 1;
            }
        }
        assert!(compared > 45, "only {compared} of {} commands compared", known.len());
    }
    theirs.ask("hello 2").await;
    for container in ["acl", "client", "command", "sentinel"] {
        let line = format!("command info {container}");
        theirs.say(&line).await;
        ours.say("hello 2").await;
        ours.value().await;
        ours.say(&line).await;
        let (Value::Array(theirs), Value::Array(ours)) = (theirs.value().await, ours.value().await)
        else {
            panic!("arrays");
        };
        let (Value::Array(theirs), Value::Array(ours)) = (&theirs[0], &ours[0]) else {
            panic!("arrays");
        };
        assert_eq!(theirs[..9], ours[..9], "{container}");
    }
}

#[tokio::test]
async fn commands_are_documented_as_redis_documents_them() {
    let oracle = Oracle::start("").await;
    let server = Server::start();
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    // Later versions of Redis correct these.
    let other_since = ["client|pause"];
    let other_args = ["command|getkeys", "command|getkeysandflags"];
    for proto in ["hello 2", "hello 3"] {
        let (expected, got) =
            (documents(&mut theirs, proto).await, documents(&mut ours, proto).await);
        let mut compared = 0;
        for (name, expected) in &expected {
            let Some(got) = got.get(name) else { continue };
            let value = |of: &Document, key: &str| {
                of.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
            };
            for key in
                ["since", "group", "complexity", "doc_flags", "deprecated_since", "replaced_by"]
            {
                if key != "since" || !other_since.contains(&name.as_str()) {
                    assert_eq!(value(got, key), value(expected, key), "{name}: {key}");
                }
            }
            let keys = |of: &Document| of.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            // What its history is is not told.
            let told = |key: &String| {
                key != "history" && (key != "arguments" || !other_args.contains(&name.as_str()))
            };
            let (mut shown, mut expected) = (keys(got), keys(expected));
            shown.retain(told);
            expected.retain(told);
            assert_eq!(shown, expected, "{name}");
            compared += 1;
        }
        assert!(compared > 60, "only {compared} commands compared");
    }
}

/// What COMMAND DOCS says of a command, in order.
type Document = Vec<(String, Value)>;

/// What COMMAND DOCS says of all commands and subcommands.
async fn documents(wire: &mut Wire, proto: &str) -> BTreeMap<String, Document> {
    wire.ask(proto).await;
    wire.say("command docs").await;
    let mut found = BTreeMap::new();
    let mut rest = vec![wire.value().await];
    while let Some(documents) = rest.pop() {
        for (name, document) in pairs(documents) {
            let document = pairs(document);
            let inner = document.iter().filter(|(key, _)| key == "subcommands");
            rest.extend(inner.map(|(_, documents)| documents.clone()));
            found.insert(name, document);
        }
    }
    found
}

/// The pairs of a map, which is a flat array in RESP2.
fn pairs(map: Value) -> Document {
    let text = |key: &Value| key.text().unwrap().to_owned();
    match map {
        Value::Map(pairs) => pairs.into_iter().map(|(k, v)| (text(&k), v)).collect(),
        Value::Array(items) => items.chunks_exact(2).map(|p| (text(&p[0]), p[1].clone())).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn info_and_client_list_have_all_fields_of_redis() {
    let oracle = Oracle::start("sentinel monitor mymaster 127.0.0.1 6379 2").await;
    let server = Server::start();
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    for section in ["server", "clients", "stats", "cpu", "sentinel", "everything"] {
        let line = format!("info {section}");
        let names = |text: String| {
            let lines = text.lines().skip(1).map(|line| line.split(':').next().unwrap().to_owned());
            lines.collect::<Vec<_>>()
        };
        let expected = names(theirs.ask(&line).await);
        let mut shown = names(ours.ask(&line).await);
        assert!(expected.len() > 5, "{section}");
        shown.retain(|name| expected.contains(name));
        assert_eq!(shown, expected, "{section}: names and order");
    }
    let names = |text: String| {
        let line = text.lines().nth(1).unwrap().to_owned();
        line.split(' ').map(|field| field.split('=').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (expected, mut shown) =
        (names(theirs.ask("client list").await), names(ours.ask("client list").await));
    assert_eq!(shown.split_off(expected.len()), ["lib-name", "lib-ver"]);
    assert_eq!(shown, expected);
}

/// redis-cli, which Redis's operators type into.
async fn redis_cli(port: u16, args: &[&str]) -> String {
    let output = tokio::process::Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(args)
        .output();
    let output = within(output).await.expect("redis-cli is needed: apt-get install redis-tools");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn documents_have_the_fields_of_redis() {
    /// All but what has words of its own, or what nobody needs of a sentinel.
    fn compare(path: &str, ours: &serde_json::Value, theirs: &serde_json::Value) -> Vec<String> {
        let mut differences = Vec::new();
        for (field, expected) in theirs.as_object().unwrap() {
            match field.as_str() {
                "summary" | "complexity" | "history" | "arguments" => {}
                "subcommands" => {
                    for (name, document) in expected.as_object().unwrap() {
                        differences.extend(compare(name, &ours[field][name], document));
                    }
                }
                // 7.0 names the version before the first with that name.
                "since" if path == "client|pause" => {}
                _ if ours[field] == *expected => {}
                _ => differences.push(format!("{path}: {field} {} {expected}", ours[field])),
            }
        }
        differences
    }
    let (oracle, server) = (Oracle::start("").await, Server::start());
    let docs = async |port: u16| {
        let text = redis_cli(port, &["-3", "--json", "command", "docs"]).await;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let (ours, theirs) = (docs(server.port).await, docs(oracle.port).await);
    let mut differences = Vec::new();
    for (name, document) in theirs.as_object().unwrap() {
        differences.extend(compare(name, &ours[name], document));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test]
async fn redis_cli_speaks_with_us() {
    let server = Server::start();
    let port = server.port;
    assert_eq!(redis_cli(port, &["ping"]).await, "PONG\n");
    let address = redis_cli(port, &["sentinel", "get-master-addr-by-name", "mymaster"]).await;
    assert_eq!(address, "127.0.0.1\n6379\n");
    let masters = redis_cli(port, &["-3", "--json", "sentinel", "masters"]).await;
    let masters: serde_json::Value = serde_json::from_str(&masters).unwrap();
    assert_eq!(masters[0]["port"], "6379");
    let docs = redis_cli(port, &["-3", "--json", "command", "docs"]).await;
    let docs: serde_json::Value = serde_json::from_str(&docs).unwrap();
    let monitor = &docs["sentinel"]["subcommands"]["sentinel|monitor"];
    assert_eq!(
        (&monitor["group"], &monitor["arguments"][3]["name"]),
        (&"sentinel".into(), &"quorum".into())
    );
    assert_eq!(
        docs["sentinel"]["subcommands"]["sentinel|slaves"]["replaced_by"],
        "`SENTINEL REPLICAS`"
    );
    // Valkey 8 calls this name the old one; Redis has no other.
    let masters = &docs["sentinel"]["subcommands"]["sentinel|masters"];
    assert!(masters["summary"].is_string() && masters["replaced_by"].is_null());
    let help = redis_cli(port, &["sentinel", "help"]).await;
    let mut lines = help.lines();
    assert_eq!(
        lines.next(),
        Some("SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
    );
    assert!(help.contains("\nSET <master-name> <option> <value> [<option> <value> ...]\n    "));
    assert!(help.ends_with("\nHELP\n    Prints this help.\n"), "{help}");
    for container in ["acl", "client", "command"] {
        let help = redis_cli(port, &[container, "help"]).await;
        assert!(help.starts_with(&container.to_uppercase()), "{help}");
    }
}
