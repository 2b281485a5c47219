//! One master with its replicas and three sentinels, as child processes with files in one
//! directory.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::answers::{ask_once, fields};
use super::blackhole::Wall;
use crate::demo::child::{Child, Program, place, tail};
use crate::demo::cluster::free_ports;
use crate::demo::failure::Failure;
use crate::demo::model::Who;
use crate::resp::Value;

/// The name of the group.
pub(super) const GROUP: &str = "bench";
pub(super) const SENTINELS: usize = 3;
/// `failover-timeout`
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the group may take until everybody knows everybody.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks whether something is so.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// What a group is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) server: Program,
    pub(super) sentinel: Program,
    pub(super) replicas: usize,
    pub(super) quorum: usize,
    pub(super) down_after: Duration,
    /// Directives of Watchfire's own for this group: `("refused-after", "200")`.
    pub(super) own_directives: Vec<(&'static str, &'static str)>,
    /// Give the master a host of its own, which can be cut off.
    pub(super) own_host: bool,
}

/// The group's processes; dropped, it kills what still runs.
#[derive(Debug)]
pub(super) struct Group {
    nodes: Vec<Member>,
    sentinels: Vec<Member>,
    /// Around the host of the first node.
    wall: Option<Wall>,
    started: Instant,
}

#[derive(Debug)]
struct Member {
    who: Who,
    program: Program,
    address: SocketAddr,
    conf: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Group {
    /// Starts everybody. To be called on the main thread, as [`Child::start`] is.
    pub(super) async fn start(dir: &Path, plan: &Plan) -> Result<Group, Failure> {
        let nodes = plan.replicas + 1;
        let ports = free_ports(nodes + SENTINELS).map_err(Failure::io("find free ports"))?;
        let (here, there) = match plan.own_host {
            true => (Wall::INSIDE, Wall::OUTSIDE),
            false => (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
        };
        let address = |at: usize| SocketAddr::from((if at == 0 { there } else { here }, ports[at]));
        let master = address(0);
        let mut group =
            Group { nodes: vec![], sentinels: vec![], wall: None, started: Instant::now() };
        for at in 0..nodes {
            let conf = node_conf(address(at), (at > 0).then_some(master));
            let program = plan.server.clone();
            let program = if plan.own_host && at == 0 { program.in_own_network() } else { program };
            group.nodes.push(Member::lay_out(dir, Who::Node(at), program, address(at), &conf)?);
        }
        for at in 0..SENTINELS {
            let address = address(nodes + at);
            let conf = sentinel_conf(address, master, plan);
            let program = plan.sentinel.clone();
            let member = Member::lay_out(dir, Who::Sentinel(at), program, address, &conf)?;
            group.sentinels.push(member);
        }
        let first = &mut group.nodes[0];
        first.start()?;
        if let (true, Some(pid)) = (plan.own_host, first.child.as_ref().and_then(Child::pid)) {
            group.wall = Some(Wall::raise(pid).await?);
        }
        for member in group.nodes.iter_mut().skip(1).chain(&mut group.sentinels) {
            member.start()?;
        }
        Ok(group)
    }

    pub(super) fn nodes(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|member| member.address).collect()
    }

    pub(super) fn sentinels(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(|member| member.address).collect()
    }

    /// Since its processes were started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until every sentinel knows all nodes and all sentinels and finds them well.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        for at in 0..SENTINELS {
            let address = self.sentinels[at].address;
            loop {
                let lacking = match lacking(address, self.nodes.len() - 1).await {
                    Ok(None) => break,
                    Ok(Some(lacking)) => lacking,
                    Err(error) => error.to_string(),
                };
                self.nobody_died()?;
                if Instant::now() >= deadline {
                    let log = self.sentinels[at].log.clone();
                    return Err(Failure::Awaited {
                        what: format!("sentinel-{} finds everybody well", at + 1),
                        lacking,
                        within: SETTLES_WITHIN,
                        tail: tail(&log),
                        log,
                    });
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Fails if a process ended although nobody killed it.
    pub(super) fn nobody_died(&mut self) -> Result<(), Failure> {
        for member in self.nodes.iter_mut().chain(&mut self.sentinels) {
            let Some(status) = member.child.as_mut().and_then(Child::ended) else { continue };
            member.child = None;
            let (who, log) = (member.who, member.log.clone());
            return Err(Failure::Died { who, status, tail: tail(&log), log });
        }
        Ok(())
    }

    /// `kill -9` of the first node.
    pub(super) fn kill_master(&mut self) {
        if let Some(child) = &mut self.nodes[0].child {
            child.kill();
        }
    }

    /// SIGSTOP, or SIGCONT, to the first node.
    pub(super) fn freeze_master(&self, frozen: bool) {
        if let Some(child) = &self.nodes[0].child {
            child.freeze(frozen);
        }
    }

    /// SIGSTOP, or SIGCONT, to a sentinel.
    pub(super) fn freeze_sentinel(&self, at: usize, frozen: bool) {
        if let Some(child) = &self.sentinels[at].child {
            child.freeze(frozen);
        }
    }

    /// Cuts the host of the first node off, or heals the cut.
    pub(super) async fn cut_off_master(&self, cut: bool) -> Result<(), Failure> {
        match &self.wall {
            Some(wall) => wall.close(cut).await,
            None => Err(Failure::Program("the master has no host of its own to cut off".into())),
        }
    }

    /// Starts the first node anew, once its old process is gone, with the files that it had.
    pub(super) async fn restart_master(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.nodes[0].child.take() {
            child.end().await;
        }
        self.nodes[0].start()
    }

    /// Kills everything and waits until it is gone.
    pub(super) async fn stop(&mut self) {
        for member in self.nodes.iter_mut().chain(&mut self.sentinels) {
            if let Some(child) = &mut member.child {
                child.kill();
            }
        }
        for member in self.nodes.iter_mut().chain(&mut self.sentinels) {
            if let Some(mut child) = member.child.take() {
                child.end().await;
            }
        }
        if let Some(wall) = self.wall.take() {
            wall.raze().await;
        }
    }
}

impl Member {
    fn lay_out(
        dir: &Path,
        who: Who,
        program: Program,
        address: SocketAddr,
        text: &str,
    ) -> Result<Member, Failure> {
        let (conf, log) = (place(dir, who, "conf"), place(dir, who, "log"));
        let write = || -> io::Result<()> {
            fs::create_dir(conf.parent().unwrap_or(dir))?;
            fs::write(&conf, text)
        };
        write().map_err(Failure::io(format!("write {}", conf.display())))?;
        Ok(Member { who, program, address, conf, log, child: None })
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.child = Some(Child::start(&self.program, &self.conf, &self.log)?);
        Ok(())
    }
}

/// What a sentinel does not know yet, or finds ill; `None` if all is well.
async fn lacking(sentinel: SocketAddr, replicas: usize) -> io::Result<Option<String>> {
    let ask =
        async |kind: &str| ask_once(sentinel, &["SENTINEL", kind, GROUP], ANSWER_WITHIN).await;
    for (kind, flags, count) in
        [("replicas", "slave", replicas), ("sentinels", "sentinel", SENTINELS - 1)]
    {
        let answer = ask(kind).await?;
        let Value::Array(instances) = &answer else { return Ok(Some(format!("{answer:?}"))) };
        let is_well = |instance: &&Value| {
            fields(instance).is_some_and(|fields| {
                let linked = fields.get("master-link-status").is_none_or(|status| *status == "ok");
                fields.get("flags") == Some(&flags) && linked
            })
        };
        let well = instances.iter().filter(is_well).count();
        if well != count || instances.len() != count {
            return Ok(Some(format!("{well} of {count} {kind} are known and well")));
        }
    }
    let master = ask("master").await?;
    let flags = fields(&master).and_then(|fields| fields.get("flags").map(|f| f.to_string()));
    Ok(match flags.as_deref() {
        Some("master") => None,
        other => Some(format!("the master's flags are {other:?}")),
    })
}

/// `redis.conf`; the node runs in the directory of its file.
fn node_conf(address: SocketAddr, master: Option<SocketAddr>) -> String {
    let own = common_conf(address);
    let replicaof = master.map(|master| format!("replicaof {} {}\n", master.ip(), master.port()));
    format!("{own}save \"\"\nrepl-diskless-sync-delay 0\n{}", replicaof.unwrap_or_default())
}

/// `sentinel.conf`, which Watchfire and Redis both take.
fn sentinel_conf(address: SocketAddr, master: SocketAddr, plan: &Plan) -> String {
    let (ip, port, quorum) = (master.ip(), master.port(), plan.quorum);
    let mut text = common_conf(address);
    text += &format!("sentinel monitor {GROUP} {ip} {port} {quorum}\n");
    let directives = [
        ("down-after-milliseconds", plan.down_after.as_millis().to_string()),
        ("failover-timeout", FAILOVER_TIMEOUT.as_millis().to_string()),
        ("parallel-syncs", "1".to_string()),
    ];
    for (name, value) in &directives {
        text += &format!("sentinel {name} {GROUP} {value}\n");
    }
    for (name, value) in &plan.own_directives {
        text += &format!("# watchfire-{name} {GROUP} {value}\n");
    }
    text
}

/// A host of its own is reached by its address, but has it only once the process runs.
fn common_conf(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => format!("port {port}\nbind 127.0.0.1\n"),
        Wall::OUTSIDE_IP => format!("port {port}\nbind 0.0.0.0\nprotected-mode no\n"),
        other => format!("port {port}\nbind {other}\nprotected-mode no\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_names_its_master() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let conf = node_conf(address(7002), Some(address(7001)));
        assert!(conf.starts_with("port 7002\nbind 127.0.0.1\n"), "{conf}");
        assert!(conf.ends_with("replicaof 127.0.0.1 7001\n"), "{conf}");
        assert!(!node_conf(address(7001), None).contains("replicaof"));
    }
}
