//! TLS on every listener and link, next to the TLS of Debian's redis-server and redis-cli: nothing
//! here listens without it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::process::Process;
use crate::support::sentinel::{GROUP, Program};
use crate::support::slots;
use crate::support::wait::{free_port, wait_for, wait_until};

/// A node or sentinel that speaks TLS only.
struct Peer {
    port: u16,
    process: Process,
    dir: TempDir,
}

impl Peer {
    /// Starts a program with a configuration file of these lines behind `port 0` and `tls-port`.
    fn start(program: &str, args: &[&str], lines: &str, authority: &Authority) -> Peer {
        let dir = tempfile::Builder::new().prefix("tls-").tempdir().expect("a folder");
        let file = dir.path().join("its.conf");
        let port = free_port();
        let own = dir.path().display();
        let text = format!(
            "port 0\ntls-port {port}\nbind 127.0.0.1\ndir {own}\ntls-replication yes\n{lines}"
        );
        std::fs::write(&file, text).expect("a configuration file");
        let args: Vec<&str> = args
            .iter()
            .map(|arg| if *arg == "FILE" { file.to_str().expect("a plain name") } else { *arg })
            .collect();
        let process = Process::start("peer", program, &args, dir.path());
        let mut peer = Peer { port, process, dir };
        wait_until(20, "it answers redis-cli --tls", || {
            assert!(peer.process.exit().is_none(), "it ended:\n{}", peer.process.log());
            peer.cli(authority, &["PING"]) == "PONG"
        });
        peer
    }

    fn node(authority: &Authority, more: &str) -> Peer {
        let lines = format!("save \"\"\n{}{more}", authority.directives("node"));
        Peer::start("redis-server", &["FILE"], &lines, authority)
    }

    fn sentinel(program: Program, authority: &Authority, master: u16) -> Peer {
        let lines = format!(
            "{}sentinel monitor {GROUP} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {GROUP} 2000\n\
             sentinel failover-timeout {GROUP} 6000\n",
            authority.directives("node")
        );
        Peer::start(program.path(), &program.args("FILE"), &lines, authority)
    }

    /// What redis-cli prints for a command.
    fn cli(&self, authority: &Authority, words: &[&str]) -> String {
        let output =
            self.redis_cli(authority).args(words).output().expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Lets redis-cli send these lines over one connection.
    fn pipe(&self, authority: &Authority, lines: &str) {
        let mut cli = self.redis_cli(authority);
        let cli = cli.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut cli = cli.spawn().expect("redis-cli is installed");
        let mut input = cli.stdin.take().expect("a pipe");
        input.write_all(lines.as_bytes()).expect("it reads");
        drop(input);
        cli.wait().expect("it ends");
    }

    fn redis_cli(&self, authority: &Authority) -> Command {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string(), "--tls", "--cacert"])
            .arg(authority.path("ca.crt"))
            .arg("--cert")
            .arg(authority.path("node.crt"))
            .arg("--key")
            .arg(authority.path("node.key"));
        cli
    }

    /// The port of the master that this sentinel names.
    fn master(&self, authority: &Authority) -> Option<u16> {
        let reply = self.cli(authority, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]);
        reply.lines().nth(1)?.parse().ok()
    }

    /// A field of `SENTINEL MASTER`.
    fn field(&self, authority: &Authority, name: &str) -> Option<String> {
        let reply = self.cli(authority, &["SENTINEL", "MASTER", GROUP]);
        let mut lines = reply.lines();
        lines.find(|line| *line == name)?;
        lines.next().map(str::to_owned)
    }
}

fn authority() -> Authority {
    let authority = Authority::new("The Authority");
    authority.sign("node", "first");
    authority
}

#[test]
fn a_quorum_that_speaks_tls_only_fails_over() {
    fail_over(&[Program::under_test(); 3]);
}

#[test]
fn ours_and_a_sentinel_of_redis_fail_over_together() {
    fail_over(&[Program::Watchfire, Program::Redis, Program::Watchfire]);
}

fn fail_over(programs: &[Program]) {
    let _slot = slots::one();
    let authority = authority();
    let mut master = Peer::node(&authority, "");
    let follow = format!("replicaof 127.0.0.1 {}\n", master.port);
    let replicas = [Peer::node(&authority, &follow), Peer::node(&authority, &follow)];
    let up = |replica: &Peer| {
        replica.cli(&authority, &["INFO", "replication"]).contains("master_link_status:up")
    };
    wait_until(20, "the replicas follow", || replicas.iter().all(up));
    let start = |program: &Program| Peer::sentinel(*program, &authority, master.port);
    let sentinels: Vec<Peer> = programs.iter().map(start).collect();
    wait_until(30, "everybody knows everybody", || {
        sentinels.iter().all(|sentinel| {
            sentinel.field(&authority, "num-slaves").as_deref() == Some("2")
                && sentinel.field(&authority, "num-other-sentinels").as_deref() == Some("2")
                && sentinel.cli(&authority, &["SENTINEL", "CKQUORUM", GROUP]).starts_with("OK 3")
        })
    });
    let reached = sentinels[0].cli(&authority, &["SENTINEL", "SENTINELS", GROUP]);
    for other in &sentinels[1..] {
        assert!(
            reached.contains(&format!("\n{}\n", other.port)),
            "hellos name tls-port: {reached}"
        );
    }

    master.process.kill9();
    let new = wait_for(40, "all name one new master", || {
        let named = sentinels.iter().map(|s| s.master(&authority)).collect::<Option<Vec<_>>>()?;
        let one = named.iter().all(|port| *port == named[0] && *port != master.port);
        one.then_some(named[0])
    });
    let promoted = replicas.iter().find(|replica| replica.port == new).expect("one of the two");
    wait_until(20, "the new master is one and has the other as its replica", || {
        let told = promoted.cli(&authority, &["INFO", "replication"]);
        told.contains("role:master") && told.contains("connected_slaves:1")
    });
}

/// The common name in the certificate that a server shows.
fn shown(port: u16, authority: &Authority) -> String {
    let (cert, key) = (authority.path("node.crt"), authority.path("node.key"));
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-cert"])
        .arg(cert)
        .arg("-key")
        .arg(key)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let subject = said.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_default();
    subject.to_owned()
}

#[test]
fn a_new_certificate_is_served_and_no_link_is_dropped() {
    let _slot = slots::one();
    let authority = authority();
    let master = Peer::node(&authority, "");
    let sentinel = Peer::sentinel(Program::Watchfire, &authority, master.port);
    let links = || -> Vec<String> {
        let clients = master.cli(&authority, &["CLIENT", "LIST"]);
        let ours = clients.lines().filter(|line| line.contains("-cmd "));
        ours.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
    };
    wait_until(20, "the link is up", || links().len() == 1);
    let before = links();
    assert!(shown(sentinel.port, &authority).contains("first"));

    authority.sign("node", "second");
    wait_until(20, "the new certificate is served", || {
        shown(sentinel.port, &authority).contains("second")
    });
    let reads = || sentinel.process.log().matches("certificates and keys were read again").count();
    let before_it = reads();
    assert!(before_it > 0);

    // SIGHUP has them read though no file has changed.
    let hangup = Command::new("kill").args(["-HUP", &sentinel.process.pid().to_string()]).status();
    assert!(hangup.expect("kill is there").success());
    wait_until(20, "they are read once more", || reads() > before_it);

    // A broken file changes nothing, and is named once.
    std::fs::write(authority.path("node.crt"), "broken").expect("a file");
    let named = "goes on with the certificates that it has: Failed to load certificate";
    wait_until(20, "the broken file is named", || sentinel.process.log().contains(named));
    let still = Instant::now();
    wait_until(20, "two more looks at the files", || still.elapsed() > Duration::from_secs(5));
    assert_eq!(sentinel.process.log().matches(named).count(), 1);

    authority.sign("node", "third");
    wait_until(20, "it is mended", || shown(sentinel.port, &authority).contains("third"));
    assert_eq!(links(), before, "the links are the same connections");
    assert_eq!(sentinel.field(&authority, "flags").as_deref(), Some("master"));
}

#[test]
fn a_wrong_authority_is_named_at_once_and_fails_nothing_over() {
    let _slot = slots::one();
    let (authority, other) = (authority(), Authority::new("Another"));
    other.sign("node", "stranger");
    let master = Peer::node(&authority, "");
    let began = Instant::now();
    let sentinel = Peer::sentinel(Program::Watchfire, &other, master.port);
    let named = format!(
        "node 127.0.0.1:{}: TLS handshake failed: its certificate is not accepted: no authority of",
        master.port
    );
    wait_until(5, "the fault is named", || sentinel.process.log().contains(&named));
    // down-after is 2 s.
    wait_until(20, "three times down-after", || began.elapsed() > Duration::from_secs(6));
    let flags = sentinel.field(&other, "flags").unwrap_or_default();
    assert_eq!(flags, "s_down,master,disconnected", "shown as Redis shows it");
    let log = sentinel.process.log();
    assert!(!log.contains("+sdown") && !log.contains("+odown"), "and no more than shown:\n{log}");
    let errors = sentinel.field(&other, "config-errors");
    assert_eq!(errors.as_deref(), Some("PING untrusted"));

    // The right one is taken without a restart.
    std::fs::copy(authority.path("ca.crt"), other.path("ca.crt")).expect("a file");
    for file in ["node.crt", "node.key"] {
        std::fs::copy(authority.path(file), other.path(file)).expect("a file");
    }
    wait_until(20, "it is put right", || {
        sentinel.field(&authority, "flags").as_deref() == Some("master")
    });
    assert!(sentinel.dir.path().exists());
}

#[test]
fn a_master_that_refuses_our_certificate_is_not_down() {
    let _slot = slots::one();
    let (authority, other) = (authority(), Authority::new("Another"));
    let mut master = Peer::node(&authority, "");
    let replica = Peer::node(&authority, &format!("replicaof 127.0.0.1 {}\n", master.port));
    let start = |_| Peer::sentinel(Program::Watchfire, &authority, master.port);
    let mut sentinels: Vec<Peer> = (0..3).map(start).collect();
    wait_until(30, "everybody knows everybody", || {
        sentinels.iter().all(|sentinel| {
            sentinel.cli(&authority, &["SENTINEL", "SET", GROUP, "down-after-milliseconds", "500"])
                == "OK"
                && sentinel.field(&authority, "num-slaves").as_deref() == Some("1")
                && sentinel.cli(&authority, &["SENTINEL", "CKQUORUM", GROUP]).starts_with("OK 3")
        })
    });
    // From now on the master trusts somebody else's certificates only: not this one's either.
    let ca = other.path("ca.crt");
    let script = format!(
        "CONFIG SET tls-ca-cert-file {}\nCLIENT KILL TYPE normal\nCLIENT KILL TYPE pubsub\n",
        ca.display()
    );
    master.pipe(&authority, &script);
    let began = Instant::now();
    wait_until(20, "it is named", || {
        sentinels.iter().all(|sentinel| {
            let errors = sentinel.field(&authority, "config-errors");
            errors.as_deref() == Some("PING untrusted")
        })
    });
    wait_until(20, "sixteen times down-after", || began.elapsed() > Duration::from_secs(8));
    for sentinel in &mut sentinels {
        let log = sentinel.process.log();
        assert!(!log.contains("+sdown") && !log.contains("+odown"), "{log}");
    }
    assert!(replica.cli(&authority, &["INFO", "replication"]).contains("role:slave"));
    // Its death is another matter.
    master.process.kill9();
    wait_until(30, "the replica is promoted", || {
        sentinels.iter().all(|sentinel| sentinel.master(&authority) == Some(replica.port))
    });
}
