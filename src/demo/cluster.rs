//! The processes of the group: one master, two replicas and three sentinels on free loopback ports,
//! with their files in one directory, and the faults that can be done to them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{Child, Program, place, tail};
use super::failure::Failure;
use super::model::{Board, Node, Run, Sentinel, Who};
use super::proxy::{Cuts, Proxy};

/// The name of the master group.
pub(super) const GROUP: &str = "demo";
/// The first of them starts as the master.
pub(super) const NODES: usize = 3;
pub(super) const SENTINELS: usize = 3;
/// How many sentinels must agree that the master is down.
const QUORUM: usize = 2;
/// An attempt that is stuck is given up after this time and tried again after twice as long.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the group is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) node: Program,
    pub(super) sentinel: Program,
    /// `down-after-milliseconds`
    pub(super) down_after: Duration,
    /// Put a proxy in front of each node, so that it can be cut off.
    pub(super) proxies: bool,
}

/// The group's processes. Its state is shown on the board; dropped, it kills what still runs.
#[derive(Debug)]
pub(super) struct Cluster {
    board: Board,
    plan: Plan,
    nodes: Vec<Member>,
    sentinels: Vec<Member>,
    proxies: Vec<Proxy>,
    cuts: Cuts,
}

#[derive(Debug)]
struct Member {
    /// Where the process itself listens; a node's proxy has another port.
    port: u16,
    conf: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Takes free ports and writes the configuration files below `dir`; nothing runs yet.
    ///
    /// The ports are free at this moment only: a child that finds its port taken is a
    /// [`Failure::is_port_taken`], and the thing to do is to lay out another cluster.
    pub(super) async fn lay_out(
        dir: &Path,
        plan: &Plan,
        board: &Board,
    ) -> Result<Cluster, Failure> {
        let ports = free_ports(NODES + SENTINELS).map_err(Failure::io("find free ports"))?;
        let (node_ports, sentinel_ports) = ports.split_at(NODES);
        let cuts = Cuts::default();
        let mut proxies = Vec::new();
        if plan.proxies {
            for port in node_ports {
                let proxy = Proxy::open(*port, &cuts).await.map_err(Failure::io("open a proxy"))?;
                proxies.push(proxy);
            }
        }
        let public: Vec<u16> = match proxies.as_slice() {
            [] => node_ports.to_vec(),
            proxies => proxies.iter().map(Proxy::port).collect(),
        };
        let mut cluster = Cluster {
            board: board.clone(),
            plan: plan.clone(),
            nodes: Vec::new(),
            sentinels: Vec::new(),
            proxies,
            cuts,
        };
        for (at, port) in node_ports.iter().enumerate() {
            let conf = node_conf(*port, public[at], (at > 0).then_some(public[0]));
            cluster.nodes.push(Member::lay_out(dir, Who::Node(at), *port, &conf)?);
        }
        for (at, port) in sentinel_ports.iter().enumerate() {
            let conf = sentinel_conf(*port, public[0], plan.down_after);
            cluster.sentinels.push(Member::lay_out(dir, Who::Sentinel(at), *port, &conf)?);
        }
        board.send_modify(|model| {
            model.nodes =
                public.iter().map(|port| Node { port: *port, ..Node::default() }).collect();
            model.sentinels = sentinel_ports
                .iter()
                .map(|port| Sentinel { port: *port, ..Sentinel::default() })
                .collect();
        });
        Ok(cluster)
    }

    /// Where the node itself listens, behind its proxy.
    pub(super) fn node_ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|member| member.port).collect()
    }

    pub(super) fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|member| member.port).collect()
    }

    /// Starts a process that does not run, with the files that it had before.
    pub(super) fn start(&mut self, who: Who) -> Result<(), Failure> {
        let program = match who {
            Who::Node(_) => self.plan.node.clone(),
            Who::Sentinel(_) => self.plan.sentinel.clone(),
        };
        let member = self.member(who);
        let child = Child::start(&program, &member.conf, &member.log)?;
        let (pid, port) = (child.pid().unwrap_or_default(), member.port);
        member.child = Some(child);
        self.show(who, Run::Running);
        self.board.send_modify(|model| {
            let listens = format!("{who} starts (pid {pid}, port {port}");
            match who {
                Who::Node(at) if model.nodes[at].port != port => {
                    model.say(format!("{listens}, proxy port {})", model.nodes[at].port));
                }
                _ => model.say(format!("{listens})")),
            }
        });
        Ok(())
    }

    /// `kill -9`
    pub(super) async fn kill(&mut self, who: Who) {
        if let Some(mut child) = self.member(who).child.take() {
            child.end().await;
        }
        self.show(who, Run::Dead);
    }

    /// SIGSTOP, or SIGCONT.
    pub(super) fn freeze(&mut self, who: Who, frozen: bool) {
        if let Some(child) = &self.member(who).child {
            child.freeze(frozen);
            self.show(who, if frozen { Run::Frozen } else { Run::Running });
        }
    }

    /// Cuts a node off from all others, or heals the cut. Does nothing to a node without a proxy.
    pub(super) fn cut(&mut self, node: usize, cut: bool) {
        let Some(port) = self.proxies.get(node).map(Proxy::port) else { return };
        self.cuts.send_modify(|cuts| {
            if cut {
                cuts.insert(port)
            } else {
                cuts.remove(&port)
            };
        });
        self.board.send_modify(|model| model.nodes[node].cut = cut);
    }

    /// A process that ended although nobody killed it, once for each.
    pub(super) fn death(&mut self) -> Option<Failure> {
        for who in everybody() {
            let member = self.member(who);
            let Some(status) = member.child.as_mut().and_then(Child::ended) else { continue };
            member.child = None;
            let (log, tail) = (member.log.clone(), tail(&member.log));
            self.show(who, Run::Dead);
            return Some(Failure::Died { who, status, log, tail });
        }
        None
    }

    /// The log of a process and its last lines.
    pub(super) fn log(&self, who: Who) -> (PathBuf, Vec<String>) {
        let member = match who {
            Who::Node(at) => &self.nodes[at],
            Who::Sentinel(at) => &self.sentinels[at],
        };
        (member.log.clone(), tail(&member.log))
    }

    /// Kills everything and waits until it is gone.
    pub(super) async fn stop(&mut self) {
        for who in everybody() {
            if let Some(child) = &mut self.member(who).child {
                child.kill();
            }
        }
        for who in everybody() {
            self.kill(who).await;
        }
    }

    fn member(&mut self, who: Who) -> &mut Member {
        match who {
            Who::Node(at) => &mut self.nodes[at],
            Who::Sentinel(at) => &mut self.sentinels[at],
        }
    }

    /// Shows what became of a process, and forgets what it said before.
    fn show(&self, who: Who, run: Run) {
        self.board.send_modify(|model| match who {
            Who::Node(at) => {
                model.nodes[at].run = run;
                model.nodes[at].info = None;
            }
            Who::Sentinel(at) => {
                model.sentinels[at].run = run;
                model.sentinels[at].info = None;
            }
        });
    }
}

impl Member {
    fn lay_out(dir: &Path, who: Who, port: u16, text: &str) -> Result<Member, Failure> {
        let (conf, log) = (place(dir, who, "conf"), place(dir, who, "log"));
        let write = || -> io::Result<()> {
            let own_dir = conf.parent().unwrap_or(dir);
            // An earlier layout may have left its files.
            match fs::remove_dir_all(own_dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir(own_dir)?;
            fs::write(&conf, text)
        };
        write().map_err(Failure::io(format!("write {}", conf.display())))?;
        Ok(Member { port, conf, log, child: None })
    }
}

/// All processes, nodes first.
pub(super) fn everybody() -> impl Iterator<Item = Who> {
    (0..NODES).map(Who::Node).chain((0..SENTINELS).map(Who::Sentinel))
}

/// Ports that the system calls free, all different.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All are held until the last one is known.
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// `redis.conf` of a data node. It runs in the directory of its file, so no `dir` is needed.
fn node_conf(port: u16, public: u16, master: Option<u16>) -> String {
    let mut conf = format!("port {port}\nbind 127.0.0.1\nsave \"\"\nrepl-diskless-sync-delay 0\n");
    if public != port {
        let _ = writeln!(conf, "replica-announce-ip 127.0.0.1\nreplica-announce-port {public}");
    }
    if let Some(master) = master {
        let _ = writeln!(conf, "replicaof 127.0.0.1 {master}");
    }
    conf
}

/// `sentinel.conf`, which Watchfire and Redis both take.
fn sentinel_conf(port: u16, master: u16, down_after: Duration) -> String {
    let (down_after_ms, timeout_ms) = (down_after.as_millis(), FAILOVER_TIMEOUT.as_millis());
    format!(
        "port {port}\n\
         bind 127.0.0.1\n\
         sentinel monitor {GROUP} 127.0.0.1 {master} {QUORUM}\n\
         sentinel down-after-milliseconds {GROUP} {down_after_ms}\n\
         sentinel failover-timeout {GROUP} {timeout_ms}\n\
         sentinel parallel-syncs {GROUP} 1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_behind_a_proxy_announces_the_proxy() {
        assert_eq!(
            node_conf(7001, 7001, None),
            "port 7001\nbind 127.0.0.1\nsave \"\"\nrepl-diskless-sync-delay 0\n"
        );
        let behind_proxy = node_conf(7002, 8002, Some(8001));
        assert!(behind_proxy.ends_with(
            "replica-announce-ip 127.0.0.1\nreplica-announce-port 8002\nreplicaof 127.0.0.1 8001\n"
        ));
    }

    #[test]
    fn free_ports_differ() {
        let ports = free_ports(20).expect("free ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 20);
    }
}
