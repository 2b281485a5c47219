//! What was seen during one round, each fact with its time, and what follows from it. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Something that was seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    pub(super) at: Instant,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// The bench is subscribed to this sentinel's events.
    Listening { sentinel: usize },
    /// A sentinel published an event.
    Event { sentinel: usize, name: String, payload: String },
    /// A node's answer to ROLE differs from its last one; `None`: it does not answer.
    Role { node: usize, role: Option<Role> },
    /// A client had its first write accepted by another node than before.
    Wrote { client: usize, node: SocketAddr },
    /// The bench itself was held up, and most likely everybody on this machine.
    Stalled { by: Duration },
}

/// What a node says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Replica { of: Option<SocketAddr>, link_up: bool },
}

/// All facts of a round, in the order in which they came in.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The first of them is the master at first.
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) sentinels: usize,
    pub(super) clients: usize,
    pub(super) facts: Vec<Fact>,
    /// When the fault was done.
    pub(super) fault: Option<Instant>,
    /// When the sentinels that were frozen, for there to be no majority, were thawed.
    pub(super) thawed: Option<Instant>,
    /// When the fault was undone.
    pub(super) undone: Option<Instant>,
}

impl Timeline {
    pub(super) fn new(nodes: Vec<SocketAddr>, sentinels: usize, clients: usize) -> Timeline {
        Timeline {
            nodes,
            sentinels,
            clients,
            facts: Vec::new(),
            fault: None,
            thawed: None,
            undone: None,
        }
    }

    /// The bench sees everybody, and all clients write to the master.
    pub(super) fn has_begun(&self) -> bool {
        let seen = |what: &dyn Fn(&What) -> bool| self.facts.iter().any(|fact| what(&fact.what));
        (0..self.sentinels)
            .all(|at| seen(&|what| matches!(what, What::Listening { sentinel } if *sentinel == at)))
            && (0..self.nodes.len()).all(|at| {
                seen(&|what| matches!(what, What::Role { node, role: Some(_) } if *node == at))
            })
            && (0..self.clients)
                .all(|at| seen(&|what| matches!(what, What::Wrote { client, .. } if *client == at)))
    }

    /// When something happened for the first time after the fault.
    fn first(&self, happened: impl Fn(&What) -> bool) -> Option<Instant> {
        self.first_since(self.fault?, happened)
    }

    fn first_since(&self, since: Instant, happened: impl Fn(&What) -> bool) -> Option<Instant> {
        let mut later = self.facts.iter().filter(|fact| fact.at >= since);
        later.find(|fact| happened(&fact.what)).map(|fact| fact.at)
    }

    /// When an event about the first master was published by any sentinel.
    pub(super) fn event(&self, name: &str) -> Option<Instant> {
        let first = *self.nodes.first()?;
        self.first(|what| is_about_master(what, name, first))
    }

    /// The first master did not answer, after the fault.
    pub(super) fn silent(&self) -> Option<Instant> {
        self.first(|what| matches!(what, What::Role { node: 0, role: None }))
    }

    /// Where the sentinels first announced the master to be.
    pub(super) fn successor(&self) -> Option<SocketAddr> {
        self.switches().next()
    }

    /// All announcements since the fault of where the master is.
    fn switches(&self) -> impl Iterator<Item = SocketAddr> {
        let fault = self.fault;
        self.facts
            .iter()
            .filter(move |fact| fault.is_some_and(|fault| fact.at >= fault))
            .filter_map(|fact| match &fact.what {
                What::Event { name, payload, .. } if name == "+switch-master" => {
                    switched_to(payload)
                }
                _ => None,
            })
    }

    /// A node other than the first master says that it is one.
    pub(super) fn promoted(&self) -> Option<Instant> {
        self.first(|what| matches!(what, What::Role { node: 1.., role: Some(Role::Master) }))
    }

    pub(super) fn switched_first(&self) -> Option<Instant> {
        self.first(named("+switch-master"))
    }

    /// Every sentinel has announced the successor.
    pub(super) fn switched_all(&self) -> Option<Instant> {
        let successor = self.successor()?;
        (0..self.sentinels)
            .map(|at| {
                self.first(|what| {
                    matches!(what, What::Event { sentinel, name, payload } if *sentinel == at
                    && name == "+switch-master" && switched_to(payload) == Some(successor))
                })
            })
            .try_fold(None, latest)?
    }

    /// A client had a write accepted by another node than the first master.
    pub(super) fn wrote(&self, client: usize) -> Option<Instant> {
        let first = *self.nodes.first()?;
        self.first(|what| {
            matches!(what, What::Wrote { client: by, node } if *by == client && *node != first)
        })
    }

    /// All other nodes but the first master follow the successor, their links up.
    pub(super) fn followed(&self) -> Option<Instant> {
        let successor = self.successor()?;
        let others = self.nodes.iter().enumerate().skip(1).filter(|(_, node)| **node != successor);
        others
            .map(|(at, _)| {
                self.first(|what| {
                    let What::Role { node, role: Some(Role::Replica { of, link_up: true }) } = what
                    else {
                        return false;
                    };
                    *node == at && *of == Some(successor)
                })
            })
            .try_fold(None, latest)?
    }

    /// The first master says that it is a replica, after the fault.
    pub(super) fn demoted(&self) -> Option<Instant> {
        self.first(is_demoted)
    }

    /// From the first answer of the first master, once the fault was undone, until it said that it
    /// is a replica.
    pub(super) fn demoted_after_return(&self) -> Option<Duration> {
        let undone = self.undone?;
        let back =
            self.first_since(undone, |what| matches!(what, What::Role { node: 0, role: Some(_) }))?;
        Some(self.first_since(undone, is_demoted)? - back)
    }

    /// The sentinels moved on to yet another master although nothing was wrong with the successor.
    pub(super) fn failed_over_again(&self) -> bool {
        let successor = self.successor();
        self.switches().any(|to| Some(to) != successor)
    }

    /// A sentinel called the successor down.
    pub(super) fn successor_called_down(&self) -> bool {
        self.successor().is_some_and(|successor| {
            self.first(|what| is_about_master(what, "+sdown", successor)).is_some()
        })
    }

    /// A candidate did not get the votes.
    pub(super) fn lost_an_election(&self) -> bool {
        self.first(named("-failover-abort-not-elected")).is_some()
    }

    /// From when a majority could be had again until a leader was elected.
    pub(super) fn elected_after_thaw(&self) -> Option<Duration> {
        let thawed = self.thawed?;
        Some(self.first_since(thawed, named("+elected-leader"))? - thawed)
    }

    /// All events since the fault, for whoever wants to know where the time went.
    pub(super) fn told(&self) -> Vec<Told> {
        let Some(fault) = self.fault else { return Vec::new() };
        let of = |fact: &Fact| {
            let text = match &fact.what {
                What::Event { sentinel, name, payload } => {
                    format!("sentinel-{} {name} {payload}", sentinel + 1)
                }
                What::Role { node, role } => {
                    let role = match role {
                        None => "does not answer".into(),
                        Some(Role::Master) => "is a master".into(),
                        Some(Role::Replica { of, link_up }) => {
                            let of = of.map_or("nobody".into(), |of| of.to_string());
                            format!("follows {of}, link {}", if *link_up { "up" } else { "down" })
                        }
                    };
                    format!("node-{} {role}", node + 1)
                }
                What::Wrote { client, node } => format!("client-{} writes to {node}", client + 1),
                What::Stalled { by } => format!("the bench stood still for {:.0} ms", ms(*by)),
                What::Listening { .. } => return None,
            };
            (fact.at >= fault).then(|| Told { ms: ms(fact.at - fault), text })
        };
        self.facts.iter().filter_map(of).collect()
    }
}

/// A fact in words, `ms` after the fault.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Told {
    ms: f64,
    text: String,
}

/// Milliseconds, with microseconds behind the point.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// For `try_fold`: the later one, and nothing if one is missing.
fn latest(so_far: Option<Instant>, next: Option<Instant>) -> Option<Option<Instant>> {
    next.map(|next| Some(so_far.map_or(next, |so_far| so_far.max(next))))
}

/// An event about the master at `address`: `master NAME IP PORT`, and perhaps more. Of replicas and
/// sentinels it is also said which master they belong to, but behind themselves.
fn is_about_master(what: &What, wanted: &str, address: SocketAddr) -> bool {
    let What::Event { name, payload, .. } = what else { return false };
    let mut words = payload.split(' ');
    let is_master = words.next() == Some("master");
    let place = words.skip(1).take(2);
    name == wanted
        && is_master
        && place.eq([&*address.ip().to_string(), &address.port().to_string()])
}

/// An event of this name, whomever it is about.
fn named(wanted: &str) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Event { name, .. } if name == wanted)
}

fn is_demoted(what: &What) -> bool {
    matches!(what, What::Role { node: 0, role: Some(Role::Replica { .. }) })
}

/// The new address in `NAME OLD-IP OLD-PORT NEW-IP NEW-PORT`.
pub(super) fn switched_to(payload: &str) -> Option<SocketAddr> {
    let mut words = payload.split(' ').skip(3);
    let (ip, port) = (words.next()?, words.next()?);
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "g 127.0.0.1 1 127.0.0.1 2";

    fn node(at: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], at as u16 + 1))
    }

    fn event(sentinel: usize, name: &str, payload: &str) -> What {
        What::Event { sentinel, name: name.into(), payload: payload.into() }
    }

    fn follows(at: usize, of: usize, link_up: bool) -> What {
        What::Role { node: at, role: Some(Role::Replica { of: Some(node(of)), link_up }) }
    }

    /// A round in which each fact comes 1 ms after the one before; the first is the fault.
    fn round(facts: Vec<What>) -> (Timeline, impl Fn(Instant) -> u128) {
        let mut timeline = Timeline::new((0..3).map(node).collect(), 2, 1);
        let start = Instant::now();
        timeline.fault = Some(start);
        for (at, what) in facts.into_iter().enumerate() {
            timeline.facts.push(Fact { at: start + Duration::from_millis(at as u64 + 1), what });
        }
        (timeline, move |at| (at - start).as_millis())
    }

    #[test]
    fn a_failover_by_its_stages() {
        let (mut timeline, after) = round(vec![
            event(1, "+sdown", "slave 127.0.0.1:2 127.0.0.1 2 @ g 127.0.0.1 1"),
            event(1, "+sdown", "master g 127.0.0.1 1"),
            event(0, "+odown", "master g 127.0.0.1 1 #quorum 2/2"),
            What::Role { node: 1, role: Some(Role::Master) },
            event(0, "+switch-master", NEW),
            What::Wrote { client: 0, node: node(1) },
            follows(2, 1, false),
            event(1, "+switch-master", NEW),
            follows(2, 1, true),
            What::Role { node: 0, role: Some(Role::Master) },
            follows(0, 1, false),
        ]);
        let at = |moment: Option<Instant>| moment.map(&after);
        assert_eq!(at(timeline.event("+sdown")), Some(2));
        assert_eq!(at(timeline.event("+odown")), Some(3));
        assert_eq!(at(timeline.promoted()), Some(4));
        assert_eq!(at(timeline.switched_first()), Some(5));
        assert_eq!(at(timeline.wrote(0)), Some(6));
        assert_eq!(at(timeline.switched_all()), Some(8));
        assert_eq!(at(timeline.followed()), Some(9));
        assert_eq!(at(timeline.demoted()), Some(11));
        timeline.undone = timeline.fault.map(|fault| fault + Duration::from_millis(9));
        assert_eq!(timeline.demoted_after_return(), Some(Duration::from_millis(1)));
        assert!(!timeline.failed_over_again() && !timeline.successor_called_down());
    }

    #[test]
    fn what_did_not_come_to_pass_has_no_time() {
        let (timeline, _) = round(vec![event(0, "+switch-master", NEW), follows(2, 0, true)]);
        assert_eq!(timeline.switched_all(), None);
        assert_eq!(timeline.followed(), None);
        assert_eq!(timeline.promoted(), None);
        assert_eq!(timeline.demoted_after_return(), None);
    }

    #[test]
    fn a_second_failover_is_seen() {
        let (timeline, _) = round(vec![
            event(0, "+switch-master", NEW),
            event(1, "+switch-master", NEW),
            event(1, "+sdown", "master g 127.0.0.1 2"),
            event(0, "+switch-master", "g 127.0.0.1 2 127.0.0.1 3"),
        ]);
        assert!(timeline.failed_over_again() && timeline.successor_called_down());
    }

    #[test]
    fn a_lost_election_and_one_with_a_majority() {
        let (mut timeline, _) = round(vec![
            event(0, "+try-failover", "master g 127.0.0.1 1"),
            event(0, "-failover-abort-not-elected", "master g 127.0.0.1 1"),
            event(0, "+try-failover", "master g 127.0.0.1 1"),
            event(0, "+elected-leader", "master g 127.0.0.1 1"),
        ]);
        assert!(timeline.lost_an_election());
        assert_eq!(timeline.elected_after_thaw(), None);
        timeline.thawed = timeline.fault.map(|fault| fault + Duration::from_millis(2));
        assert_eq!(timeline.elected_after_thaw(), Some(Duration::from_millis(2)));
    }
}
