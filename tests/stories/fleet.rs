//! The stage of the rolling replacement: several groups under load, all watched by the same
//! sentinels; and the accounts that must be clear in the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::client::{Reply, ask};
use crate::support::events::Recorder;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{Program, Sentinel};
use crate::support::slots::{self, Slot};
use crate::support::wait::{wait_for, wait_until};
use crate::support::writer::{Write, Writer, missing};

/// The groups that the sentinels watch, with the number of their replicas.
pub(crate) const GROUPS: [(&str, usize); 3] = [("orders", 2), ("sessions", 1), ("cache", 1)];

/// Redis's sentinel reconnects no sooner than 1 s after a switch, so a shorter time lets it see the
/// new master down at once.
const DOWN_AFTER_MS: u64 = 2_500;

/// Replication is asynchronous: what was acknowledged so shortly before a kill may be lost.
const MAY_BE_LOST: Duration = Duration::from_secs(1);

/// Several groups, their sentinels, and everything that was done to them.
pub(crate) struct Fleet {
    sentinels: Vec<Sentinel>,
    /// Their ids, which must never change.
    ids: BTreeSet<String>,
    groups: Vec<Group>,
    events: Recorder,
    /// How often each sentinel was stopped, which ends the subscriptions to it.
    stops: Vec<usize>,
    exchanges: usize,
    reader: Reader,
    _slot: Slot,
}

struct Group {
    name: &'static str,
    nodes: Vec<Node>,
    master: u16,
    writer: Writer,
    /// When each of its masters was killed.
    kills: Vec<(Instant, u16)>,
}

impl Group {
    fn start((name, replicas): (&'static str, usize)) -> (&'static str, Vec<Node>) {
        let quick = "repl-diskless-sync-delay 0";
        let mut nodes = vec![Node::start(Nodes::Redis, &[quick])];
        let master = nodes[0].port;
        nodes.extend((0..replicas).map(|_| Node::replica_of(Nodes::Redis, master, &[quick])));
        (name, nodes)
    }

    fn node(&mut self, port: u16) -> &mut Node {
        self.nodes.iter_mut().find(|n| n.port == port).expect("a node of this group")
    }

    /// The port of the master that a sentinel tells its clients.
    fn told_by(&self, sentinel: u16) -> Option<u16> {
        let reply = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name])?;
        reply.items().get(1)?.text().parse().ok()
    }

    fn may_be_lost(&self, write: &Write) -> bool {
        self.kills.iter().any(|(kill, port)| {
            write.by == *port && write.at + MAY_BE_LOST > *kill && write.at < *kill + MAY_BE_LOST
        })
    }
}

impl Fleet {
    /// Starts everything with redis-sentinels, and load on each group.
    pub(crate) fn start(sentinels: usize) -> Fleet {
        let slot = slots::one();
        let groups = GROUPS.map(Group::start);
        let quorum = sentinels / 2 + 1;
        let text = |port: u16, dir: &Path| {
            let dir = dir.display();
            let mut text = format!("# Ours to read.\nport {port}\nbind 127.0.0.1\ndir {dir}\n");
            for (name, nodes) in &groups {
                text += &format!(
                    "# The group {name}.\n\
                     sentinel monitor {name} 127.0.0.1 {} {quorum}\n\
                     sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}\n\
                     sentinel failover-timeout {name} 6000\n",
                    nodes[0].port
                );
            }
            text
        };
        let start = |_| Sentinel::start_with(Program::Redis, "sentinel.conf", text);
        let sentinels: Vec<Sentinel> = (0..sentinels).map(start).collect();
        let ports: Vec<u16> = sentinels.iter().map(|s| s.port).collect();
        let events = Recorder::start(&ports);
        let under_load = |(name, nodes): (&'static str, Vec<Node>)| Group {
            name,
            master: nodes[0].port,
            nodes,
            writer: Writer::start_on(name, &ports),
            kills: Vec::new(),
        };
        let fleet = Fleet {
            ids: sentinels.iter().map(Sentinel::id).collect(),
            groups: groups.map(under_load).into_iter().collect(),
            events,
            stops: vec![0; ports.len()],
            exchanges: 0,
            reader: Reader::start(&sentinels),
            sentinels,
            _slot: slot,
        };
        fleet.wait_until_whole();
        fleet
    }

    /// Ends one sentinel and starts another program on its file; waits until that is a full member.
    pub(crate) fn replace(&mut self, at: usize, next: Program) {
        let epochs = epochs_in(self.sentinels[at].file());
        let began = Instant::now();
        self.exchanges += 1;
        self.stops[at] += 1;
        assert!(self.sentinels[at].process().terminate().success(), "SIGTERM is a clean end");
        self.sentinels[at].restart_as(next);
        self.wait_until_whole();
        assert_eq!(epochs_in(self.sentinels[at].file()), epochs, "epochs outlive the exchange");
        println!("sentinel {at} is {next:?} now: a full member after {:?}", began.elapsed());
    }

    /// A master is killed when no more than a majority of the sentinels is left, the sentinel `at`
    /// among them: without its vote there is no failover.
    pub(crate) fn prove_its_vote(&mut self, at: usize, group: &str) {
        let count = self.sentinels.len();
        let away: Vec<usize> = (1..=(count - 1) / 2).map(|n| (at + n) % count).collect();
        for other in &away {
            self.stops[*other] += 1;
            self.sentinels[*other].kill9();
        }
        let old = self.fail_over(group, &away);
        for other in away {
            self.sentinels[other].restart();
        }
        self.bring_back(group, old);
    }

    /// Kills the master of a group while all sentinels run.
    pub(crate) fn kill_a_master(&mut self, group: &str) {
        let old = self.fail_over(group, &[]);
        self.bring_back(group, old);
    }

    /// Kills the master of a group; waits until all running sentinels have announced one new master
    /// and it is written to. Returns the old one.
    fn fail_over(&mut self, name: &str, away: &[usize]) -> u16 {
        let running = self.sentinels.iter().enumerate().filter(|(at, _)| !away.contains(at));
        let running: Vec<(usize, u16)> = running.map(|(at, s)| (at, s.port)).collect();
        let group = self.groups.iter_mut().find(|g| g.name == name).expect("a group of ours");
        let (old, killed) = (group.master, Instant::now());
        group.node(old).kill9();
        group.kills.push((killed, old));
        let new = wait_for(60, "all running sentinels name one new master", || {
            let told = running.iter().map(|(_, port)| group.told_by(*port));
            let told = told.collect::<Option<BTreeSet<u16>>>()?;
            told.first().copied().filter(|new| told.len() == 1 && *new != old)
        });
        group.master = new;
        let written = group.writer.first_elsewhere(old, killed, 30).at - killed;
        let words = format!("{name} 127.0.0.1 {old} 127.0.0.1 {new}");
        wait_until(30, "every running sentinel announces the switch", || {
            let heard = self.events.since(killed, "+switch-master");
            running.iter().all(|(_, p)| heard.iter().any(|h| h.by == *p && h.text == words))
        });
        let at: Vec<usize> = running.iter().map(|(at, _)| *at).collect();
        println!("{name}: master killed, sentinels {at:?} run: written to after {written:?}");
        old
    }

    /// Starts a killed master again and waits until all is well.
    fn bring_back(&mut self, name: &str, old: u16) {
        let group = self.groups.iter_mut().find(|g| g.name == name).expect("a group of ours");
        group.node(old).restart();
        let new = group.master;
        wait_until(60, "the killed master follows the new one", || group.node(old).follows(new));
        self.wait_until_whole();
    }

    /// Waits until each sentinel is a full member in each group.
    fn wait_until_whole(&self) {
        let began = Instant::now();
        while let Some(lacking) = self.lacking() {
            assert!(began.elapsed() < Duration::from_secs(60), "not whole after 60 s: {lacking}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a sentinel lacks. It must know every other one, once and by its old id, and every node;
    /// see all of them healthy; say OK to CKQUORUM; and agree with the others on the master and its
    /// epoch.
    fn lacking(&self) -> Option<String> {
        for group in &self.groups {
            let mut epochs = BTreeSet::new();
            for sentinel in &self.sentinels {
                let call = |word| ask(sentinel.port, &["SENTINEL", word, group.name]);
                let entries = ["MASTER", "REPLICAS", "SENTINELS", "CKQUORUM"].map(call);
                let [Some(master), Some(replicas), Some(peers), Some(ckquorum)] = entries else {
                    return Some(format!("sentinel {} does not answer", sentinel.port));
                };
                let is = |name: &str, value: String| master.field(name) == Some(value);
                let healthy = |all: &Reply, flags| {
                    all.items().iter().all(|one| one.field("flags").as_deref() == Some(flags))
                };
                let names = peers.items().iter().filter_map(|peer| peer.field("name"));
                let known: BTreeSet<String> = names.chain([sentinel.id()]).collect();
                let whole = is("port", group.master.to_string())
                    && is("flags", "master".into())
                    && is("num-slaves", (group.nodes.len() - 1).to_string())
                    && is("num-other-sentinels", (self.sentinels.len() - 1).to_string())
                    && known == self.ids
                    && healthy(&replicas, "slave")
                    && healthy(&peers, "sentinel")
                    && ckquorum.text().starts_with("OK");
                if !whole {
                    let all = format!("{master}\n{replicas}\n{peers}\n{ckquorum}");
                    return Some(format!("{} of sentinel {}: {all}", group.name, sentinel.port));
                }
                epochs.insert(master.field("config-epoch"));
            }
            if epochs.len() != 1 {
                return Some(format!("{}: configuration epochs {epochs:?}", group.name));
            }
        }
        None
    }

    /// Closes the accounts: whatever happened was caused, and nothing was lost.
    pub(crate) fn end(self) {
        let Fleet { groups, events, sentinels, .. } = self;
        let heard = events.all();
        let kill = |group: &Group, port: u16| format!("{} 127.0.0.1 {port}", group.name);
        let kills = groups.iter().flat_map(|g| g.kills.iter().map(move |(_, p)| kill(g, *p)));
        let kills: Vec<String> = kills.collect();
        let said = |event| heard.iter().filter(move |h| h.event == event).map(|h| &h.text[..]);
        let failovers = said("+promoted-slave").count(); // the leader alone says it
        let switches: BTreeSet<&str> = said("+switch-master").collect();
        let uncaused = |text: &&str| !kills.iter().any(|kill| text.contains(kill));
        let false_odowns: BTreeSet<&str> = said("+odown").filter(uncaused).collect();
        let lost: usize = sentinels.iter().map(|s| events.lost(s.port)).sum();
        let stops: usize = self.stops.iter().sum();
        let reads = self.reader.end();

        let (mut writes, mut lost_at_kills, mut lost_else) = (0, 0, 0);
        for mut group in groups {
            group.writer.end();
            let all = group.writer.writes();
            let (near, far): (Vec<Write>, _) = all.iter().partition(|w| group.may_be_lost(w));
            writes += all.len();
            lost_at_kills += missing(group.master, &near).len();
            lost_else += missing(group.master, &far).len();
        }
        println!(
            "{} sentinels, {} exchanges, {} groups: {} kills, {failovers} failovers, \
             {} false ones, {} false ODOWNs; {stops} stops of sentinels, \
             {lost} subscriptions ended; files read {reads} times; \
             {writes} writes acknowledged, {lost_at_kills} lost at the kills, {lost_else} more",
            sentinels.len(),
            self.exchanges,
            GROUPS.len(),
            kills.len(),
            failovers.abs_diff(kills.len()),
            false_odowns.len(),
        );
        assert_eq!(failovers, kills.len(), "a failover for each kill: {switches:?}");
        for text in switches {
            let caused = kills.iter().filter(|kill| text.starts_with(&kill[..])).count();
            for sentinel in &sentinels {
                let own = heard.iter().filter(|h| h.by == sentinel.port);
                let own = own.filter(|h| h.event == "+switch-master" && h.text == text).count();
                assert!(own <= caused, "{} said {own} times: {text}", sentinel.port);
            }
        }
        assert!(false_odowns.is_empty(), "{false_odowns:?}");
        assert_eq!(lost, stops, "a subscription ends only with its sentinel");
        assert_eq!(lost_else, 0, "writes lost that were replicated");
    }
}

/// The epochs of a sentinel's file, in the order of its lines.
fn epochs_in(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).expect("a sentinel's file can be read");
    let epochs = text.lines().filter(|line| line.contains("-epoch "));
    epochs.map(str::to_owned).collect()
}

/// Reads the files of all sentinels all the time: each must be whole whenever it is looked at.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    thread: JoinHandle<Option<String>>,
}

impl Reader {
    fn start(sentinels: &[Sentinel]) -> Reader {
        let files: Vec<PathBuf> = sentinels.iter().map(|s| s.file().to_owned()).collect();
        let (stop, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, count) = (stop.clone(), reads.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for file in &files {
                    if let Some(fault) = fault_in(file) {
                        return Some(fault);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            None
        });
        Reader { stop, reads, thread }
    }

    /// How many times a file was read; fails if one of them was not whole.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let fault = self.thread.join().expect("the reader does not panic");
        assert_eq!(fault, None, "a file was not whole");
        self.reads.load(Ordering::Relaxed)
    }
}

/// What is wrong with a sentinel's file.
fn fault_in(file: &Path) -> Option<String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return Some(error.to_string()),
    };
    let starts = |words: &str| text.lines().filter(|line| line.starts_with(words)).count();
    let once = |(name, _): (&str, usize)| {
        [("monitor", name), ("config-epoch", name), ("leader-epoch", name)]
            .iter()
            .all(|(word, name)| starts(&format!("sentinel {word} {name} ")) == 1)
    };
    let whole = text.starts_with("# Ours to read.\n")
        && text.ends_with('\n')
        && GROUPS.into_iter().all(once)
        && starts("sentinel myid ") == 1
        && starts("sentinel current-epoch ") == 1;
    (!whole).then(|| format!("{}:\n{text}", file.display()))
}
