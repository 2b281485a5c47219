//! HAProxy in front of the nodes and of the sentinels, with the health checks of its manual and of
//! common recipes, through a planned switch and a `kill -9`.

use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::client::{Reply, ask};
use crate::support::events::Recorder;
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::process::Process;
use crate::support::sentinel::GROUP;
use crate::support::wait::{free_port, wait_until};
use crate::support::writer::{Write, Writer, missing};

over_both_nodes!(haproxy_follows_by_role_and_by_the_sentinels_word);

fn haproxy_follows_by_role_and_by_the_sentinels_word(nodes: Nodes) {
    let mut group = Plan::over(nodes).quick_syncs().alone().start();
    let mut proxy = Proxy::start(&group);
    let first = group.watch.master;
    proxy.wait_until_up("by_role", &[first]);
    proxy.wait_until_up("sentinels", &group.sentinel_ports());
    let checks = proxy.checks("sentinels");
    assert!(checks.iter().all(|c| c.last == "L7OK"), "option redis-check hears PONG: {checks:?}");
    let writers = [(proxy.by_role, 0), (proxy.by_word, 1_000_000)];
    let mut writers = writers.map(|(port, number)| Writer::through(port, number));
    let events = Recorder::start(&[proxy.sentinels]);
    writers.iter().for_each(|writer| writer.wait_for_more(100));

    let switched = Instant::now();
    let asked = ask(proxy.sentinels, &["SENTINEL", "FAILOVER", GROUP]);
    assert_eq!(asked, Some(Reply::Simple("OK".into())));
    let second = group.wait_for_new_master(first, 30);
    proxy.wait_until_up("by_role", &[second]);
    writers.iter().for_each(|writer| writer.wait_for_more(100));
    group.wait_until_they_follow(second, &group.ports_but(second), 30);
    group.wait_until_seen();

    let killed = Instant::now();
    group.node(second).kill9();
    let third = group.wait_for_new_master(second, 30);
    proxy.wait_until_up("by_role", &[third]);
    writers.iter().for_each(|writer| writer.wait_for_more(100));

    for (writer, check) in writers.iter_mut().zip(["role:master", "the sentinels' word"]) {
        writer.end();
        let pauses = [(switched, killed), (killed, Instant::now())].map(|(since, until)| {
            let writes = writer.writes();
            let pairs = writes.windows(2).filter(|w| w[1].at > since && w[1].at < until);
            pairs.map(|w| (w[1].at - w[0].at).as_millis()).max().unwrap_or_default()
        });
        let lost = missing(third, &writer.writes());
        println!(
            "HAProxy by {check} over {nodes:?}: {} writes acknowledged, {} lost; longest pause \
             {} ms (switch), {} ms (kill -9, down-after {} ms)",
            writer.writes().len(),
            lost.len(),
            pauses[0],
            pauses[1],
            group.watch.down_after_ms
        );
        // Replication is asynchronous: only what was acknowledged near a fault may be lost.
        let near = |w: &Write| {
            [switched, killed].iter().any(|fault| {
                let apart = if w.at > *fault { w.at - *fault } else { *fault - w.at };
                apart.as_millis() < 1_500
            })
        };
        let far: Vec<Write> = writer.writes().into_iter().filter(|w| !near(w)).collect();
        assert_eq!(missing(third, &far), Vec::<u64>::new(), "{check}");
    }
    let heard = events.since(switched, "+switch-master");
    let heard: Vec<&str> = heard.iter().map(|h| &h.text[..]).collect();
    let words = |from, to| format!("{GROUP} 127.0.0.1 {from} 127.0.0.1 {to}");
    assert_eq!(heard, [words(first, second), words(second, third)]);
    assert_eq!(events.lost(proxy.sentinels), 0, "the subscription through HAProxy");

    // A dead sentinel is seen, and the others go on.
    group.sentinels[0].kill9();
    proxy.wait_until_up("sentinels", &group.sentinel_ports()[1..]);
    let told = ask(proxy.sentinels, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]);
    assert_eq!(told.expect("it answers").items()[1].text(), third.to_string());
}

/// A running HAProxy and its ports.
struct Proxy {
    /// Goes to the node that says `role:master` itself.
    by_role: u16,
    /// Goes to the node that most sentinels name.
    by_word: u16,
    /// Goes to any sentinel.
    sentinels: u16,
    process: Process,
    socket: PathBuf,
    _dir: TempDir,
}

impl Proxy {
    fn start(group: &Group) -> Proxy {
        let dir = tempfile::Builder::new().prefix("haproxy-").tempdir().expect("a folder");
        let (file, socket) = (dir.path().join("haproxy.cfg"), dir.path().join("stats"));
        // Another program may take a port before it is used; then HAProxy ends, and we try again.
        for _ in 0..5 {
            let [by_role, by_word, sentinels] = [(); 3].map(|()| free_port());
            let text = config(group, [by_role, by_word, sentinels], &socket.display().to_string());
            std::fs::write(&file, text).expect("a configuration file");
            let program = match std::path::Path::new("/usr/sbin/haproxy").exists() {
                true => "/usr/sbin/haproxy",
                false => "haproxy",
            };
            let args = ["-db", "-f", file.to_str().expect("temporary folders have plain names")];
            let mut process = Process::start("haproxy", program, &args, dir.path());
            wait_until(10, "HAProxy listens", || {
                UnixStream::connect(&socket).is_ok() || process.exit().is_some()
            });
            if process.exit().is_none() {
                return Proxy { by_role, by_word, sentinels, process, socket, _dir: dir };
            }
            let log = process.log();
            assert!(log.to_lowercase().contains("cannot bind"), "HAProxy ended:\n{log}");
        }
        panic!("five times a port that was free a moment ago was taken");
    }

    /// What HAProxy's statistics say of the servers of a backend.
    fn checks(&self, backend: &str) -> Vec<Check> {
        let mut stats = UnixStream::connect(&self.socket).expect("HAProxy runs");
        stats.write_all(b"show stat\n").expect("it listens");
        let mut text = String::new();
        stats.read_to_string(&mut text).expect("it answers");
        let mut rows = text.trim_start_matches("# ").lines().map(|l| l.split(',').collect());
        let names: Vec<&str> = rows.next().expect("a head line");
        let column = |name| names.iter().position(|n| *n == name).expect("a column of this name");
        let [of, server, status, last] = ["pxname", "svname", "status", "check_status"].map(column);
        let check = |row: Vec<&str>| {
            let port = row.get(server)?.strip_prefix('s')?.parse().ok()?;
            let (up, last) = (row[status] == "UP", row[last].trim_start_matches("* ").to_owned());
            (row[of] == backend).then_some(Check { port, up, last })
        };
        rows.filter_map(check).collect()
    }

    /// Waits until these servers of a backend are up, and no other one.
    fn wait_until_up(&mut self, backend: &str, expected: &[u16]) {
        wait_until(15, &format!("of {backend} these are up: {expected:?}"), || {
            assert!(self.process.exit().is_none(), "HAProxy ended");
            let checks = self.checks(backend);
            let up: Vec<u16> = checks.iter().filter(|c| c.up).map(|c| c.port).collect();
            up == expected
        });
    }
}

/// One server as HAProxy's checks see it.
#[derive(Debug)]
struct Check {
    port: u16,
    up: bool,
    /// What the last check found: `L7OK`, `L4CON`, ...
    last: String,
}

/// haproxy.cfg: the checks are those of HAProxy's manual and of common recipes, word by word. A
/// check that does not find its string fails after its interval; a busy sentinel gets more time,
/// since a failed check ends the subscriptions through it.
fn config(group: &Group, [by_role, by_word, sentinels]: [u16; 3], socket: &str) -> String {
    let server = |port: u16, check: &str| format!("    server s{port} 127.0.0.1:{port} {check}\n");
    let check = "check inter 100ms fall 1 rise 1 on-marked-down shutdown-sessions";
    let all = |ports: &[u16]| ports.iter().map(|port| server(*port, check)).collect::<String>();
    let nodes: Vec<u16> = group.nodes.iter().map(|n| n.port).collect();
    let mut text = format!(
        "global\n\
         \x20   stats socket {socket}\n\
         defaults\n\
         \x20   mode tcp\n\
         \x20   timeout connect 500ms\n\
         \x20   timeout client 1m\n\
         \x20   timeout server 1m\n\
         \n\
         listen by_role\n\
         \x20   bind 127.0.0.1:{by_role}\n\
         \x20   option tcp-check\n\
         \x20   tcp-check send PING\\r\\n\n\
         \x20   tcp-check expect string +PONG\n\
         \x20   tcp-check send info\\ replication\\r\\n\n\
         \x20   tcp-check expect string role:master\n\
         \x20   tcp-check send QUIT\\r\\n\n\
         \x20   tcp-check expect string +OK\n\
         {}\n\
         listen sentinels\n\
         \x20   bind 127.0.0.1:{sentinels}\n\
         \x20   option redis-check\n\
         \x20   timeout check 2s\n\
         {}\n\
         frontend by_word\n\
         \x20   bind 127.0.0.1:{by_word}\n",
        all(&nodes),
        all(&group.sentinel_ports())
    );
    for node in &nodes {
        text += &format!("    use_backend node_{node} if {{ nbsrv(names_{node}) ge 2 }}\n");
    }
    for node in &nodes {
        text += &format!(
            "\n\
             backend node_{node}\n\
             {}\n\
             backend names_{node}\n\
             \x20   option tcp-check\n\
             \x20   tcp-check send PING\\r\\n\n\
             \x20   tcp-check expect string +PONG\n\
             \x20   tcp-check send SENTINEL\\ get-master-addr-by-name\\ {GROUP}\\r\\n\n\
             \x20   tcp-check expect string \"127.0.0.1\\r\\n\\${}\\r\\n{node}\"\n\
             \x20   tcp-check send QUIT\\r\\n\n\
             \x20   tcp-check expect string +OK\n\
             {}",
            server(*node, ""),
            node.to_string().len(),
            all(&group.sentinel_ports())
        );
    }
    text
}
