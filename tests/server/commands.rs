//! The same commands, sent to this node and to redis-server, get the same replies.

use crate::support::*;
use watchfire::resp::Value;

/// Runs a script on both; each line is one command. Replies must be equal in type and bytes.
fn compare(script: &str) {
    let (ours, real) = (Ours::start(""), redis("--enable-debug-command yes"));
    for protocol in ["2", "3"] {
        let (mut a, mut b) = (ours.client(), real.client());
        for client in [&mut a, &mut b] {
            client.call(&format!("HELLO {protocol}"));
            client.call("FLUSHALL");
        }
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (got, expected) = (a.call(line), b.call(line));
            let is_sorted = line.to_ascii_uppercase().starts_with("KEYS");
            let norm = |v: Value| match v {
                Value::Array(mut items) if is_sorted => {
                    items.sort_by_key(|v| v.text().map(str::to_string));
                    Value::Array(items)
                }
                other => other,
            };
            assert_eq!(norm(got), norm(expected), "HELLO {protocol}: {line}");
        }
    }
}

#[test]
fn strings() {
    compare(
        "SET a 1
        GET a
        GET missing
        SET a 2 NX
        SET a 2 XX GET
        SET b 2 XX
        SET b 2 NX GET
        SET b 3 GET
        SET c x PXAT 99999999999999
        PEXPIRETIME c
        SET c y KEEPTTL
        PEXPIRETIME c
        EXPIRETIME c
        SET c y EXAT 99999999999
        EXPIRETIME c
        SET c z
        PTTL c
        SET a 1 EX 0
        SET a 1 EX -1
        SET a 1 EX x
        SET a 1 EX 10 PX 10
        SET a 1 EX 9223372036854775807
        SET a 1 PX 9223372036854775807
        SET a 1 KEEPTTL EX 10
        SET a 1 NX XX
        SET a 1 EX
        SET a 1 BOGUS
        SET a
        SETNX a 5
        SETNX n 5
        SETEX a 0 v
        SETEX a x v
        SETEX a 100 v
        PSETEX a 100000 v
        PSETEX a -1 v
        GETSET a new
        GETSET none new
        GETDEL none
        GETDEL none
        GETEX a
        GETEX a PERSIST
        GETEX a EX 0
        GETEX a BOGUS
        GETEX a PXAT 1
        GET a
        GETEX a EX 10
        MSET a 1 b 2 c 3
        MSET a 1 b
        MGET a b nothing c
        MSETNX a 1 z 2
        MSETNX y 1 z 2
        MSETNX y
        MGET y z
        APPEND app one
        APPEND app two
        GET app
        STRLEN app
        STRLEN none
        GETRANGE app 0 2
        GETRANGE app -3 -1
        GETRANGE app -100 100
        GETRANGE app 5 2
        GETRANGE app -1 -5
        GETRANGE app 100 200
        GETRANGE app 0 x
        SUBSTR app 1 3
        SETRANGE app 1 XX
        GET app
        SETRANGE app 10 tail
        GET app
        SETRANGE fresh 3 x
        GET fresh
        SETRANGE fresh2 0 \"\"
        EXISTS fresh2
        SETRANGE app -1 x
        SETRANGE app 536870911 xx
        SETRANGE app x y",
    );
}

#[test]
fn counters() {
    compare(
        "INCR n
        INCRBY n 41
        DECR n
        DECRBY n 10
        GET n
        OBJECT ENCODING n
        INCRBY n x
        INCRBY n 1.5
        INCRBY n 9223372036854775807
        DECRBY n -9223372036854775808
        SET n 9223372036854775807
        INCR n
        SET n -9223372036854775808
        DECR n
        SET n abc
        INCR n
        SET f 10.50
        INCRBYFLOAT f 0.1
        INCRBYFLOAT f -5
        SET f 5.0e3
        INCRBYFLOAT f 2.0e2
        INCRBYFLOAT f x
        INCRBYFLOAT f nan
        INCRBYFLOAT f inf
        INCRBYFLOAT new 3.0
        INCRBYFLOAT new 0.0001
        SET n 5 EX 100
        INCR n
        PERSIST n
        PERSIST n",
    );
}

#[test]
fn keys_and_databases() {
    compare(
        "MSET a 1 b 2 c 3 abc 4
        DEL a nothing
        UNLINK b
        EXISTS c c nothing
        TOUCH c abc nothing
        TYPE c
        TYPE nothing
        KEYS *
        KEYS a?c
        DBSIZE
        RENAME c d
        RENAME c d
        RENAME d d
        RENAMENX d abc
        RENAMENX d e
        RENAMENX nothing e
        COPY e f
        COPY e f
        COPY e f REPLACE
        COPY e g DB 3
        COPY e e
        COPY nothing x
        COPY e f DB 99
        COPY e f BOGUS
        EXPIRE e 100
        TTL e
        EXPIRE e 50 GT
        EXPIRE e 200 GT
        TTL e
        EXPIRE e 300 LT
        EXPIRE e 100 LT
        EXPIRE e 100 NX
        EXPIRE e 100 XX
        EXPIRE f 100 XX
        EXPIRE f 100 GT
        EXPIRE f 100 LT
        EXPIRE f 1 NX XX
        EXPIRE f 1 GT LT
        EXPIRE f 1 BOGUS
        EXPIRE f x
        EXPIRE f 9223372036854775807
        PEXPIRE f 9223372036854775807
        EXPIREAT f 9999999999
        EXPIRETIME f
        PEXPIREAT f 9999999999999
        PEXPIRETIME f
        TTL nothing
        PTTL nothing
        PERSIST abc
        TTL abc
        EXPIRETIME abc
        EXPIRE f -1
        EXISTS f
        EXPIRE nothing 10
        PEXPIREAT abc 1
        EXISTS abc
        SELECT 1
        SET one 1
        SELECT 0
        SELECT 99
        SELECT x
        SELECT -1
        SWAPDB 0 1
        GET one
        SWAPDB 0 99
        SWAPDB x 1
        MOVE one 2
        MOVE one 2
        MOVE one 0
        MOVE one 99
        SELECT 2
        GET one
        OBJECT ENCODING one
        OBJECT ENCODING nothing
        OBJECT REFCOUNT nothing
        SET long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        OBJECT ENCODING long
        SET short hello
        OBJECT ENCODING short
        SCAN 0 COUNT 100 MATCH sh*
        SCAN 0 COUNT 100 MATCH none*
        SCAN 0 COUNT 1000 MATCH sh* TYPE string
        SCAN 0 COUNT 1000 TYPE list
        SCAN x
        SCAN 0 COUNT 0
        SCAN 0 COUNT x
        SCAN 0 BOGUS 1
        SCAN 0 MATCH
        FLUSHDB BOGUS
        FLUSHDB
        DBSIZE
        RANDOMKEY
        SET only 1
        RANDOMKEY
        FLUSHALL ASYNC
        FLUSHALL SYNC
        DBSIZE",
    );
}

#[test]
fn errors_and_connections() {
    compare(
        "NOSUCH
        NOSUCH a b c
        GET
        GET a b
        CLIENT BOGUS
        CLIENT KILL
        CLIENT
        CONFIG
        OBJECT BOGUS a
        PING
        PING hello
        PING a b
        ECHO hi
        CLIENT GETNAME
        CLIENT SETNAME me
        CLIENT GETNAME
        CLIENT KILL 1.1.1.1:1
        CLIENT KILL ID x
        CLIENT KILL TYPE bogus
        CLIENT KILL TYPE master
        CLIENT KILL TYPE replica SKIPME no
        CLIENT KILL ADDR 1.2.3.4:5 TYPE normal
        CLIENT KILL BOGUS 1
        CLIENT PAUSE x
        CLIENT PAUSE -1
        CLIENT UNPAUSE
        CLIENT REPLY BOGUS
        CLIENT NO-EVICT ON
        CLIENT NO-EVICT BOGUS
        HELLO 9
        HELLO x
        HELLO 2 BOGUS
        AUTH x
        AUTH a b
        AUTH default anything
        AUTH a b c
        SCRIPT KILL
        DEBUG SLEEP 0
        WAIT 0 0
        WAIT 0 100
        WAIT x 0
        WAIT 0 x
        WAIT 0 -1
        ROLE
        REPLICAOF NO ONE
        SLAVEOF no one
        REPLICAOF host port
        REPLICAOF 127.0.0.1 99999
        REPLCONF a
        REPLCONF bogus 1
        REPLCONF capa eof capa bogus
        CONFIG GET maxclients
        CONFIG GET nosuchthing
        CONFIG SET maxclients x
        CONFIG SET nosuchthing 1
        CONFIG SET replica-read-only maybe
        CONFIG SET maxclients 500
        CONFIG GET maxclients
        CONFIG SET maxclients 10000
        CONFIG SET repl-backlog-size 2mb
        CONFIG GET repl-backlog-size
        CONFIG SET repl-backlog-size 1mb
        CONFIG SET databases 3
        CONFIG GET slave-priority
        CONFIG REWRITE
        COMMAND GETKEYS MSET a 1 b 2
        COMMAND INFO nosuch
        RESET",
    );
}

#[test]
fn transactions() {
    compare(
        "EXEC
        DISCARD
        MULTI
        MULTI
        SET a 1
        EXEC
        MULTI
        SET a 1
        INCR a
        GET a
        EXEC
        MULTI
        NOSUCH
        SET a 5
        EXEC
        GET a
        MULTI
        INCR a
        DISCARD
        GET a
        SET text abc
        MULTI
        INCR text
        SET after 1
        EXEC
        GET after
        WATCH a
        SET a 9
        MULTI
        SET a 10
        EXEC
        WATCH a
        UNWATCH
        SET a 11
        MULTI
        SET a 12
        EXEC
        WATCH a b
        MULTI
        WATCH c
        GET a
        EXEC
        WATCH gone
        SET gone 1
        DEL gone
        MULTI
        PING
        EXEC
        MULTI
        SELECT 3
        SET x 1
        SELECT 0
        EXEC
        EXISTS x
        MULTI
        WAIT 5 0
        EXEC",
    );
}

#[test]
fn publish_and_subscribe() {
    let (ours, real) = (Ours::start(""), redis(""));
    for protocol in ["2", "3"] {
        let told = [&ours as &dyn Node, &real].map(|node| {
            let (mut ear, mut mouth) = (node.client(), node.client());
            ear.call(&format!("HELLO {protocol}"));
            let mut told = vec![ear.call("SUBSCRIBE a b"), ear.read(), ear.call("PSUBSCRIBE a* x")];
            told.push(ear.read());
            told.push(mouth.call("PUBLISH a hello"));
            told.extend([ear.read(), ear.read()]);
            told.push(mouth.call("PUBLISH nobody hello"));
            for line in
                ["PUBSUB CHANNELS", "PUBSUB NUMPAT", "PUBSUB NUMSUB a c", "PUBSUB CHANNELS c*"]
            {
                let mut reply = mouth.call(line);
                if let Value::Array(items) = &mut reply
                    && line == "PUBSUB CHANNELS"
                {
                    items.sort_by_key(|v| v.text().map(str::to_string));
                }
                told.push(reply);
            }
            for line in
                ["PING", "PING hi", "GET a", "UNSUBSCRIBE a", "UNSUBSCRIBE b", "PUNSUBSCRIBE a*"]
            {
                told.push(ear.call(line));
            }
            told.extend([ear.call("PUNSUBSCRIBE x"), ear.call("UNSUBSCRIBE"), ear.call("GET a")]);
            told
        });
        assert_eq!(told[0], told[1], "HELLO {protocol}");
    }
}

#[test]
fn a_write_pause_holds_writes_and_lets_reads_pass() {
    let node = Ours::start("");
    let (mut writer, mut other) = (node.client(), node.client());
    assert_eq!(other.call("CLIENT PAUSE 60000 WRITE"), Value::ok());
    writer.send(&[b"SET", b"a", b"1"]);
    assert_eq!(other.call("GET a"), Value::Null);
    assert_eq!(other.call("CLIENT UNPAUSE"), Value::ok());
    assert_eq!(writer.read(), Value::ok());
    assert_eq!(other.text("GET a"), "1");
}

#[test]
fn keys_expire_without_being_asked_for() {
    let node = Ours::start("");
    let mut client = node.client();
    client.call("SET a 1 PX 20");
    client.call("SET b 1 PX 30");
    client.call("SET c 1 PX 99999");
    wait_until("two keys are gone", || client.int("DBSIZE") == 1);
    assert!(client.text("INFO stats").contains("expired_keys:2\r\n"));
}

#[test]
fn a_watched_key_that_expires_breaks_the_transaction() {
    let node = Ours::start("");
    let (mut client, mut other) = (node.client(), node.client());
    client.call("SET a 1 PX 30");
    client.call("WATCH a");
    wait_until("the key is gone", || other.int("EXISTS a") == 0);
    client.call("MULTI");
    client.call("PING");
    assert_eq!(client.call("EXEC"), Value::NullArray);
}

#[test]
fn a_password_is_asked_for_and_kept_secret() {
    let (ours, real) = (Ours::start("--requirepass foobared"), redis("--requirepass foobared"));
    let told = [&ours as &dyn Node, &real].map(|node| {
        let mut client = node.client();
        ["GET a", "AUTH wrong", "AUTH other foobared", "AUTH foobared", "GET a"]
            .map(|line| client.call(line))
    });
    assert_eq!(told[0], told[1]);
    let mut client = ours.client();
    let many = format!("*{}\r\n", 11);
    client.send_raw(many.as_bytes());
    let told = client.read();
    assert_eq!(
        told.clone(),
        Value::Error("ERR Protocol error: unauthenticated multibulk length".into())
    );
    assert_eq!(client.try_read(), None);
}

#[test]
fn clients_are_listed_and_killed() {
    let node = Ours::start("");
    let (mut operator, mut ear, mut other) = (node.client(), node.client(), node.client());
    ear.call("SUBSCRIBE c");
    other.call("CLIENT SETNAME other");
    let list = operator.text("CLIENT LIST");
    assert_eq!(list.lines().count(), 3);
    assert!(list.contains("name=other") && list.contains("flags=P"), "{list}");
    assert_eq!(operator.int("CLIENT KILL TYPE pubsub"), 1);
    assert_eq!(ear.try_read(), None);
    assert_eq!(operator.int("CLIENT KILL TYPE normal"), 1);
    assert_eq!(other.try_read(), None);
    assert_eq!(operator.int("CLIENT KILL TYPE normal SKIPME no"), 1);
    assert_eq!(operator.try_read(), None);
}

#[test]
fn broken_requests_end_their_connection_and_nothing_else() {
    let (ours, real) = (Ours::start(""), redis(""));
    for bytes in [
        "*1\r\n$99999999999\r\n",
        "*1\r\n$-5\r\n",
        "*99999999999\r\n",
        "*1\r\n:5\r\n",
        "SET \"a\r\n",
        "*2\r\n$3\r\nGET\r\n$x\r\n",
    ] {
        let told = [&ours as &dyn Node, &real].map(|node| {
            let mut client = node.client();
            client.send_raw(b"PING\r\n");
            client.send_raw(bytes.as_bytes());
            (client.read(), client.read(), client.try_read())
        });
        assert_eq!(told[0], told[1], "{bytes:?}");
    }
    // A gigabyte announced and half a frame sent cost nothing.
    let mut half = ours.client();
    half.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nabc");
    assert_eq!(ours.client().call("PING"), pong());
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped() {
    let node = Ours::start("--client-output-buffer-limit pubsub 1mb 0 0");
    let mut ear = node.client();
    ear.call("SUBSCRIBE c");
    let mut mouth = node.client();
    let payload = vec![b'x'; 256 * 1024];
    wait_until("the subscriber is gone", || {
        mouth.send(&[b"PUBLISH", b"c", &payload]);
        mouth.read() == Value::Integer(0)
    });
    assert_eq!(mouth.call("PING"), pong());
}

#[test]
fn connections_above_maxclients_are_refused() {
    let node = Ours::start("--maxclients 1");
    let mut first = node.client();
    assert_eq!(first.call("PING"), pong());
    let mut second = node.client();
    assert_eq!(second.read(), Value::Error("ERR max number of clients reached".into()));
    assert_eq!(second.try_read(), None);
}

/// Flags that say nothing about a node without scripts, modules and a slow log.
const NOT_HERE: [&str; 4] = ["allow_busy", "skip_slowlog", "no_async_loading", "movablekeys"];

/// Name, arity, flags, key positions and categories of a row of COMMAND, and of its subcommands.
fn rows(of: &Value) -> Vec<String> {
    let Value::Array(parts) = of else { return Vec::new() };
    let list = |value: &Value| match value {
        Value::Array(items) => items.iter().filter_map(|v| v.text().map(str::to_string)).collect(),
        _ => Vec::<String>::new(),
    };
    let flags = list(&parts[2]).into_iter().filter(|f| !NOT_HERE.contains(&f.as_str()));
    let flags: Vec<String> = flags.collect();
    let (name, keys, groups) = (parts[0].text().unwrap_or(""), &parts[3..6], list(&parts[6]));
    let mut found = vec![format!("{name} {:?} {flags:?} {keys:?} {groups:?}", parts[1])];
    if let Value::Array(subcommands) = &parts[9] {
        found.extend(subcommands.iter().flat_map(rows));
    }
    found
}

#[test]
fn the_table_of_commands_is_that_of_redis() {
    let (ours, real) = (Ours::start(""), redis(""));
    let Value::Array(table) = ours.client().call("COMMAND") else { panic!("no array") };
    assert_eq!(table.len() as i64, ours.client().int("COMMAND COUNT"));
    let Value::Array(expected) = real.client().call("COMMAND") else { panic!("no array") };
    let expected: Vec<String> = expected.iter().flat_map(rows).collect();
    // Newer than the server at hand.
    let newer = ["client|setinfo", "client|no-touch", "command|getkeys"];
    for row in table.iter().flat_map(rows) {
        let is_newer = newer.iter().any(|name| row.starts_with(name));
        assert!(is_newer || expected.contains(&row), "redis-server does not list {row}");
    }
}
