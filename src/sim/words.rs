//! The world, what sentinels do and what is asked of them, in words for the story.

use super::plan::Shape;
use super::wire::Proc;
use crate::config::state::State;
use crate::resp::Value;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Command, Effect, Level, Request};

/// An effect as a line of the story; `None` for the everyday. `disk` is what the sentinel's disk
/// holds so far.
pub(super) fn told(
    effect: &Effect,
    to: Option<&Address>,
    question: Option<&Request>,
    disk: Option<&State>,
) -> Option<String> {
    Some(match effect {
        Effect::Persist { revision, state, .. } => {
            let mut news = promises(state);
            let before = disk.map(promises).unwrap_or_default();
            news.retain(|promise| !before.contains(promise));
            let news = if news.is_empty() { "known nodes".to_owned() } else { news.join("; ") };
            format!("writes revision {}: {news}", revision.0)
        }
        Effect::Announce(event) if event.kind.level() > Level::Debug => {
            format!("{} {}", event.kind.name(), event.payload)
        }
        Effect::Say { text, .. } => format!("\"{text}\""),
        Effect::Send { command, .. } => {
            let what = sent(command)?;
            match to {
                Some(to) => format!("sends {what} to {to}"),
                None => format!("sends {what} nowhere"),
            }
        }
        Effect::Reply { reply: Value::Array(items), .. } => match question {
            Some(Request::IsMasterDown { candidate: Some(id), epoch, .. }) => {
                let vote = items.get(1).and_then(Value::text).unwrap_or("?");
                let of = items.last().map_or_else(String::new, reply);
                let whom = match epoch {
                    0 => id.clone(),
                    _ => format!("{id}, who stands in epoch {epoch}"),
                };
                format!("answers {whom}: {vote} in epoch {of}")
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// What a state promises, a line for the epoch and for each group.
fn promises(state: &State) -> Vec<String> {
    let groups = state.groups.iter().map(|(name, g)| {
        let vote = g.voted_for.as_ref().map_or("nobody", RunId::as_str);
        format!(
            "{name}: master {}, config epoch {}, vote in epoch {} for {vote}",
            g.settings.master, g.config_epoch, g.leader_epoch
        )
    });
    std::iter::once(format!("epoch {}", state.current_epoch)).chain(groups).collect()
}

/// A command as it goes out; `None` for the everyday.
fn sent(command: &Command) -> Option<String> {
    Some(match command {
        Command::Ping
        | Command::Info
        | Command::Hello { .. }
        | Command::AskId { word: None }
        | Command::IsMasterDown { candidate: None, .. } => return None,
        Command::IsMasterDown { master, epoch, candidate: Some(id) } => {
            format!("\"vote for {id} in epoch {epoch}, to replace {master}\"")
        }
        Command::AskVote { .. } => "\"for whom did you vote last?\"".into(),
        Command::GiveUp(given_up) => format!("\"I gave up epoch {}\"", given_up.epoch),
        Command::Promote => "SLAVEOF NO ONE".into(),
        Command::HoldWrites { ms, .. } => format!("CLIENT PAUSE {ms} WRITE"),
        Command::FreeWrites => "CLIENT UNPAUSE".into(),
        Command::HandOver { to, .. } => format!("FAILOVER TO {} {}", to.host, to.port),
        Command::HandedOver => "CONFIG REWRITE, CLIENT KILL".into(),
        Command::Follow { master } => format!("SLAVEOF {} {}", master.host, master.port),
        Command::AskId { .. } => "SENTINEL MYID".into(),
        Command::ScriptKill => "SCRIPT KILL".into(),
    })
}

/// A request as an operator types it.
pub(super) fn typed(request: &Request) -> String {
    match request {
        Request::Masters => "SENTINEL MASTERS".into(),
        Request::Master(name) => format!("SENTINEL MASTER {name}"),
        Request::Replicas(name) => format!("SENTINEL REPLICAS {name}"),
        Request::Sentinels(name) => format!("SENTINEL SENTINELS {name}"),
        Request::MasterAddress(name) => format!("SENTINEL GET-MASTER-ADDR-BY-NAME {name}"),
        Request::IsMasterDown { host, port, epoch, candidate } => {
            let candidate = candidate.as_deref().unwrap_or("*");
            format!("SENTINEL IS-MASTER-DOWN-BY-ADDR {host} {port} {epoch} {candidate}")
        }
        Request::MyId => "SENTINEL MYID".into(),
        Request::CkQuorum(name) => format!("SENTINEL CKQUORUM {name}"),
        Request::Failover(name) => format!("SENTINEL FAILOVER {name}"),
        Request::HandOver(name) => format!("SENTINEL FAILOVER {name} COORDINATED"),
        Request::ConfigGet(words) => format!("SENTINEL CONFIG GET {}", words.join(" ")),
        Request::ConfigSet(words) => format!("SENTINEL CONFIG SET {}", words.join(" ")),
        Request::InfoCache(names) => format!("SENTINEL INFO-CACHE {}", names.join(" ")),
        Request::SimulateFailure(w) => format!("SENTINEL SIMULATE-FAILURE {}", w.join(" ")),
        Request::Debug(words) => format!("SENTINEL DEBUG {}", words.join(" ")),
        Request::Reset(pattern) => format!("SENTINEL RESET {pattern}"),
        Request::Monitor { name, host, port, quorum } => {
            format!("SENTINEL MONITOR {name} {host} {port} {quorum}")
        }
        Request::Remove(name) => format!("SENTINEL REMOVE {name}"),
        Request::Set { name, options } => format!("SENTINEL SET {name} {}", options.join(" ")),
        Request::FlushConfig => "SENTINEL FLUSHCONFIG".into(),
        Request::Hello(payload) => format!("PUBLISH __sentinel__:hello {payload}"),
        Request::Role => "ROLE".into(),
        Request::Info { .. } => "INFO".into(),
    }
}

/// A reply, short.
pub(super) fn reply(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(reply).collect::<Vec<String>>().join(" "),
        Value::Integer(number) => number.to_string(),
        Value::Error(text) => text.clone(),
        other => other.text().map_or_else(|| format!("{other:?}"), str::to_owned),
    }
}

/// Who is who in a world, and what it is like; a line each.
pub(super) fn legend(seed: u64, shape: &Shape) -> Vec<String> {
    let Shape { sentinels, groups, nodes_per_group, quorum, .. } = shape;
    let mut lines = vec![
        format!(
            "seed {seed}: {sentinels} sentinels, {groups} x {nodes_per_group} nodes; \
             quorum {quorum}, down-after {} ms, failover-timeout {} ms, parallel-syncs {}{}",
            shape.down_after_ms,
            shape.failover_timeout_ms,
            shape.parallel_syncs,
            match shape.refused_after_ms {
                0 => String::new(),
                ms => format!(", refused-after {ms} ms"),
            } + &match shape.flap_pause_ms {
                0 => String::new(),
                ms => format!(", flap-pause {ms} ms"),
            }
        ),
        format!(
            "a packet takes {} ms; a connection that is stuck is given up after {} ms",
            match shape.jitter_ms {
                0 => "1".to_owned(),
                more => format!("1 to {}", more + 1),
            },
            shape.patience_ms
        ),
    ];
    for n in 0..*sentinels {
        let late = if shape.late.contains(&n) { ", joins later" } else { "" };
        let stock = if shape.stock.contains(&n) { ", a stock sentinel" } else { "" };
        let machine = shape.machine_of(Proc::Sentinel(n));
        let address = shape.sentinel_address(n);
        lines.push(format!("sentinel {n}: machine {machine}, {address}{late}{stock}"));
    }
    for n in 0..shape.nodes() {
        let group = shape.group_of(n);
        let role = if n == shape.nodes_of(group).start { "master" } else { "replica" };
        let machine = shape.machine_of(Proc::Node(n));
        let address = shape.node_address(n);
        lines.push(format!("node {n}: machine {machine}, {address}, {role} of g{group}"));
    }
    lines
}
