//! The scripted run: raise the group, write, kill the master, watch the failover, bring the old
//! master back, judge. Every wait is for a condition, has a deadline, and can say what it lacks.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, NODES, Plan, SENTINELS};
use super::failover::Failover;
use super::failure::Failure;
use super::model::{Board, Model, Role, Run, Who, names};
use super::verdict::{Verdict, judge};
use super::watch::watch;
use super::writer::{Writer, read_back};

/// How often ports are tried that turn out to be taken.
const PORT_ATTEMPTS: usize = 5;
/// Until the port of a node that was killed is tried again, if it was taken.
const PORT_FREE_AFTER: Duration = Duration::from_secs(1);
/// How long the data nodes may take to start and to synchronise.
const NODES_WITHIN: Duration = Duration::from_secs(20);
/// How long the sentinels may take to find the replicas and each other.
const SENTINELS_WITHIN: Duration = Duration::from_secs(30);
/// How long the client writes before the master is killed.
const WRITE_FOR: Duration = Duration::from_secs(2);
const WRITES_WITHIN: Duration = Duration::from_secs(12);
/// How long the failover may take, beyond `down-after`.
const FAILOVER_WITHIN: Duration = Duration::from_secs(40);
/// How long the old master may take to be a replica (Redis's sentinels take their time: about 10
/// s).
const RETURN_WITHIN: Duration = Duration::from_secs(40);
/// How long the rest may take to be at peace.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);
/// How often a wait looks for children that have died, at least.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The running group and the eyes on it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) cluster: Cluster,
    _watchers: JoinSet<()>,
    board: Board,
}

/// What a condition still lacks, and whose log may tell why.
pub(super) struct Lack {
    what: String,
    who: Who,
}

fn lack(who: Who, what: impl Into<String>) -> Result<(), Lack> {
    Err(Lack { what: what.into(), who })
}

/// Starts the group below `dir` and waits until it is healthy. It is put into `slot` from the first
/// process on, so that the caller can end it even if this is cancelled.
pub(super) async fn raise<'a>(
    dir: &Path,
    plan: &Plan,
    board: &Board,
    slot: &'a mut Option<Group>,
) -> Result<&'a mut Group, Failure> {
    let mut attempts_left = PORT_ATTEMPTS;
    loop {
        attempts_left -= 1;
        let cluster = Cluster::lay_out(dir, plan, board).await?;
        let watchers = watch(&cluster, board);
        let group = slot.insert(Group { cluster, _watchers: watchers, board: board.clone() });
        match group.start().await {
            Ok(()) => break,
            Err(failure) if failure.is_port_taken() && attempts_left > 0 => {
                group.say("a port was taken meanwhile: trying others");
                group.cluster.stop().await;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(slot.as_mut().expect("inserted in the loop above"))
}

impl Group {
    async fn start(&mut self) -> Result<(), Failure> {
        for at in 0..NODES {
            self.cluster.start(Who::Node(at))?;
        }
        self.until("the replicas follow the master", NODES_WITHIN, replicas_follow).await?;
        self.say("the master answers, and both replicas follow it with their links up");
        for at in 0..SENTINELS {
            self.cluster.start(Who::Sentinel(at))?;
        }
        let what = "every sentinel knows 2 replicas and 2 other sentinels";
        self.until(what, SENTINELS_WITHIN, sentinels_know).await?;
        self.say(what);
        Ok(())
    }

    fn say(&self, text: impl Into<String>) {
        self.board.send_modify(|model| model.say(text));
    }

    /// Starts the old master again and waits until it is a replica.
    async fn bring_back(&mut self, old: usize) -> Result<(), Failure> {
        let mut attempts_left = PORT_ATTEMPTS;
        loop {
            attempts_left -= 1;
            self.cluster.start(Who::Node(old))?;
            let what = "the old master is a replica";
            match self.until(what, RETURN_WITHIN, |model| returned(model, old)).await {
                Ok(_) => break,
                // A passing connection of another program may have it; it must be this port.
                Err(failure) if failure.is_port_taken() && attempts_left > 0 => {
                    self.say(format!("port taken meanwhile: {} starts again", Who::Node(old)));
                    sleep(PORT_FREE_AFTER).await;
                }
                Err(failure) => return Err(failure),
            }
        }
        note_return(&self.board);
        self.say("the old master is a replica of the new one, its link is up");
        Ok(())
    }

    /// Waits until the condition holds, and returns the model for which it did. Fails when a child
    /// dies by itself, and after `within`.
    async fn until(
        &mut self,
        what: &str,
        within: Duration,
        condition: impl Fn(&Model) -> Result<(), Lack>,
    ) -> Result<Model, Failure> {
        let deadline = Instant::now() + within;
        let mut changes = self.board.subscribe();
        loop {
            if let Some(death) = self.cluster.death() {
                return Err(death);
            }
            let lack = {
                let model = changes.borrow_and_update();
                match condition(&model) {
                    Ok(()) => return Ok(model.clone()),
                    Err(lack) => lack,
                }
            };
            // No news to anybody who waits for the model to change: it is for the eyes only.
            self.board.send_if_modified(|model| {
                model.status = format!("waiting until {what}: {}", lack.what);
                false
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let ((log, tail), what) = (self.cluster.log(lack.who), what.to_string());
                return Err(Failure::Awaited { what, lacking: lack.what, within, log, tail });
            }
            // Running into the time-out is the occasion to look for deaths.
            let _ = timeout(LOOK_EVERY.min(left), changes.changed()).await;
        }
    }
}

/// Tells the whole story with a group that is healthy.
pub(super) async fn tell(group: &mut Group, down_after: Duration) -> Result<Verdict, Failure> {
    let board = group.board.clone();
    let writer = Writer::start(group.cluster.sentinel_ports(), board.clone());
    group.say("a client writes; acknowledged means: on at least one replica, too (WAIT 1)");
    let since = Instant::now();
    let what = format!("the client has written for {} s", WRITE_FOR.as_secs());
    group.until(&what, WRITES_WITHIN, |model| has_written(model, since)).await?;

    let old = board.borrow().named_master().unwrap_or(0);
    let acknowledged = board.borrow().writes.acknowledged;
    group.say(format!("{acknowledged} writes are acknowledged"));
    begin_failover(&board, "kill -9", old);
    group.cluster.kill(Who::Node(old)).await;
    let within = FAILOVER_WITHIN + down_after;
    group.until("the failover is done", within, |model| failed_over(model, old)).await?;
    group.say("all sentinels name the new master, and it takes writes");

    group.bring_back(old).await?;
    board.send_modify(|model| model.status = "reading all keys back".into());
    let ledger = writer.stop().await.unwrap_or_default();
    let new = board.borrow().named_master();
    let found = match new.map(|new| board.borrow().nodes[new].port) {
        Some(port) => read_back(port, ledger.keys.len()).await.map_err(|error| error.to_string()),
        None => Err("no master is known".into()),
    };
    let what = "all follow the new master";
    let model = match group.until(what, SETTLE_WITHIN, |model| settled(model, old)).await {
        // The verdict tells what is wrong, and more.
        Err(Failure::Awaited { .. }) => board.borrow().clone(),
        outcome => outcome?,
    };
    Ok(judge(&model, &ledger, found))
}

/// Notes that a fault is being done to the master `old` now, so that a timeline begins.
pub(super) fn begin_failover(board: &Board, fault: &str, old: usize) {
    let cause = format!("{fault} of {}", Who::Node(old));
    board.send_modify(|model| {
        let said = format!("{cause}, the master");
        model.failover = Some(Failover::new(cause, old, Instant::now(), SENTINELS));
        model.say(said);
    });
}

/// Notes the return of the old master, if it follows the new one.
pub(super) fn note_return(board: &Board) {
    board.send_if_modified(|model| {
        let Some(old) = model.failover.as_ref().map(|failover| failover.old) else { return false };
        let is_back = returned(model, old).is_ok();
        if let Some(failover) = model.failover.as_mut().filter(|_| is_back) {
            failover.old_master_returned(Instant::now());
        }
        is_back
    });
}

fn replicas_follow(model: &Model) -> Result<(), Lack> {
    if model.nodes[0].role() != Some(Role::Master) {
        return lack(Who::Node(0), "node-1 does not answer as a master yet");
    }
    for (at, node) in model.nodes.iter().enumerate().skip(1) {
        let who = Who::Node(at);
        if node.info.is_none() {
            return lack(who, format!("{who} does not answer yet"));
        }
        if !node.follows(model.nodes[0].port) {
            return lack(who, format!("{who} has no link to node-1 yet"));
        }
    }
    Ok(())
}

fn sentinels_know(model: &Model) -> Result<(), Lack> {
    let (replicas, peers) = (NODES - 1, SENTINELS - 1);
    for (at, sentinel) in model.sentinels.iter().enumerate() {
        let who = Who::Sentinel(at);
        let Some(info) = sentinel.info.as_ref().filter(|_| sentinel.listening) else {
            return lack(who, format!("{who} does not answer yet"));
        };
        if info.master != Some(model.nodes[0].port) {
            return lack(who, format!("{who} does not name node-1 as the master"));
        }
        if (info.replicas, info.replicas_well) != (replicas, replicas) {
            let (known, well) = (info.replicas, info.replicas_well);
            return lack(who, format!("{who} knows {known} of {replicas} replicas, {well} well"));
        }
        if (info.peers, info.peers_well) != (peers, peers) {
            let (known, well) = (info.peers, info.peers_well);
            return lack(who, format!("{who} knows {known} of {peers} sentinels, {well} well"));
        }
    }
    Ok(())
}

fn has_written(model: &Model, since: Instant) -> Result<(), Lack> {
    let acknowledged = model.writes.acknowledged;
    if acknowledged == 0 || since.elapsed() < WRITE_FOR {
        let accepted = model.writes.accepted;
        let what = format!("{accepted} writes accepted, {acknowledged} acknowledged so far");
        return lack(Who::Node(0), what);
    }
    Ok(())
}

/// All sentinels name another master than `old`, and writes flow to it.
fn failed_over(model: &Model, old: usize) -> Result<(), Lack> {
    let Some(failover) = &model.failover else { return lack(Who::Node(old), "no fault yet") };
    let stage = failover.missing_stage();
    let leader = stage.map_or(0, |(_, leader)| leader);
    let new = model.named_master().filter(|new| *new != old);
    let Some(new) = new else {
        let stage = stage.map_or("announced", |(stage, _)| stage);
        return lack(Who::Sentinel(leader), format!("'{stage}' has not been seen yet"));
    };
    let port = model.nodes[new].port;
    if let Some(at) = model.sentinels.iter().position(|sentinel| !names(sentinel, port)) {
        let who = Who::Sentinel(at);
        return lack(who, format!("{who} does not name {} yet", Who::Node(new)));
    }
    if !failover.writes_flow() {
        let who = Who::Node(new);
        return lack(who, format!("no write is accepted by {who} and on its replica yet"));
    }
    Ok(())
}

/// The old master follows the one that most sentinels name.
fn returned(model: &Model, old: usize) -> Result<(), Lack> {
    let new = model.named_master().filter(|new| *new != old);
    let Some(new) = new else { return lack(Who::Sentinel(0), "no new master is named") };
    let (who, node) = (Who::Node(old), &model.nodes[old]);
    if node.run != Run::Running {
        return lack(who, format!("{who} does not run"));
    }
    if node.follows(model.nodes[new].port) {
        return Ok(());
    }
    let what = match &node.info {
        None => format!("{who} does not answer yet"),
        Some(info) if info.role == Role::Master => format!("{who} is still a master"),
        Some(info) => format!(
            "{who} is a replica of {}, its link is {}",
            info.master_port.map_or("nobody".into(), |port| model.name_or_port(port)),
            if info.link_up { "up" } else { "down" }
        ),
    };
    lack(who, what)
}

/// One master, named by all sentinels; all others follow it.
fn settled(model: &Model, old: usize) -> Result<(), Lack> {
    returned(model, old)?;
    failed_over(model, old)?;
    let Some(new) = model.named_master() else { return lack(Who::Sentinel(0), "no master") };
    for (at, node) in model.nodes.iter().enumerate() {
        let (who, master) = (Who::Node(at), Who::Node(new));
        if at == new && node.role() != Some(Role::Master) {
            return lack(who, format!("{who} does not say that it is a master"));
        }
        if at != new && !node.follows(model.nodes[new].port) {
            return lack(who, format!("{who} does not follow {master} yet"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::child::Program;
    use super::super::model::healthy_model;
    use super::*;

    fn lacking(outcome: Result<(), Lack>) -> Option<String> {
        outcome.err().map(|lack| lack.what)
    }

    #[test]
    fn a_healthy_group_lacks_nothing_and_each_ailment_is_named() {
        let mut model = healthy_model();
        assert_eq!(lacking(replicas_follow(&model)), None);
        assert_eq!(lacking(sentinels_know(&model)), None);
        model.nodes[2].info.as_mut().expect("healthy").link_up = false;
        assert_eq!(
            lacking(replicas_follow(&model)).as_deref(),
            Some("node-3 has no link to node-1 yet")
        );
        model.nodes[1].info = None;
        assert_eq!(lacking(replicas_follow(&model)).as_deref(), Some("node-2 does not answer yet"));
        let info = model.sentinels[1].info.as_mut().expect("healthy");
        info.peers_well = 1;
        assert_eq!(
            lacking(sentinels_know(&model)).as_deref(),
            Some("sentinel-2 knows 2 of 2 sentinels, 1 well")
        );
        model.sentinels[0].listening = false;
        assert_eq!(
            lacking(sentinels_know(&model)).as_deref(),
            Some("sentinel-1 does not answer yet")
        );
    }

    #[tokio::test]
    async fn a_wait_in_vain_says_what_it_lacked() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plan = Plan {
            node: Program::bundled("server").expect("this program"),
            sentinel: Program::bundled("sentinel").expect("this program"),
            down_after: Duration::from_secs(1),
            proxies: false,
        };
        let board = Board::new(healthy_model());
        let cluster = Cluster::lay_out(dir.path(), &plan, &board).await.expect("is laid out");
        let mut group = Group { cluster, _watchers: JoinSet::new(), board };
        std::fs::write(group.cluster.log(Who::Node(0)).0, "its last words\n").expect("writes");
        let within = Duration::from_millis(20);
        let error = group.until("the replicas follow", within, replicas_follow).await;
        let text = error.expect_err("nothing was started").to_string();
        assert!(text.starts_with(
            "waited 20ms until the replicas follow, in vain: \
             node-1 does not answer as a master yet\nthe end of "
        ));
        assert!(text.ends_with("its last words"), "{text}");
    }

    #[test]
    fn the_return_is_followed_step_by_step() {
        let mut model = healthy_model();
        assert_eq!(lacking(returned(&model, 0)).as_deref(), Some("no new master is named"));
        for sentinel in &mut model.sentinels {
            sentinel.info.as_mut().expect("healthy").master = Some(7002);
        }
        assert_eq!(lacking(returned(&model, 0)).as_deref(), Some("node-1 is still a master"));
        let info = model.nodes[0].info.as_mut().expect("healthy");
        (info.role, info.master_port) = (Role::Replica, Some(7002));
        assert_eq!(
            lacking(returned(&model, 0)).as_deref(),
            Some("node-1 is a replica of node-2, its link is down")
        );
        model.nodes[0].info.as_mut().expect("healthy").link_up = true;
        assert_eq!(lacking(returned(&model, 0)), None);
        assert_eq!(lacking(settled(&model, 0)).as_deref(), Some("no fault yet"));
    }
}
