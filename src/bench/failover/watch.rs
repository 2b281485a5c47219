//! The bench's eyes: asks each node in short turns for its role, and listens to every event of
//! every sentinel.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::timeline::{Fact, Role, What, switched_to};
use crate::bench::wire::{Wire, within};
use crate::resp::Value;

/// Between two questions to a node: how exact its times are.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// How long a node may take to answer. One that is cut off shows its return so much later.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
/// A bench that is so late is worth a word: not all time that passes is the sentinels' then.
const LATE: Duration = Duration::from_millis(10);
/// How many facts may wait to be looked at.
const MAX_FACTS: usize = 10_000;

/// Where facts go.
pub(super) type Facts = mpsc::Sender<Fact>;

/// What is watched, until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) facts: mpsc::Receiver<Fact>,
    /// For those who write facts of their own.
    pub(super) tell: Facts,
    /// For each sentinel, where it last announced that the master has moved to.
    pub(super) switches: Vec<watch::Receiver<Option<SocketAddr>>>,
    _tasks: JoinSet<()>,
}

impl Watch {
    pub(super) fn start(nodes: &[SocketAddr], sentinels: &[SocketAddr]) -> Watch {
        let (tell, facts) = mpsc::channel(MAX_FACTS);
        let mut tasks = JoinSet::new();
        for (at, address) in nodes.iter().enumerate() {
            tasks.spawn(ask_for_role(at, *address, tell.clone()));
        }
        tasks.spawn(notice_stalls(tell.clone()));
        let mut switches = Vec::new();
        for (at, address) in sentinels.iter().enumerate() {
            let (moved, switched) = watch::channel(None);
            switches.push(switched);
            tasks.spawn(listen(at, *address, tell.clone(), moved));
        }
        Watch { facts, tell, switches, _tasks: tasks }
    }
}

/// Says `what` was seen just now. That nobody looks any more is no error.
pub(super) async fn tell(facts: &Facts, what: What) {
    let _ = facts.send(Fact { at: Instant::now(), what }).await;
}

async fn ask_for_role(node: usize, address: SocketAddr, facts: Facts) {
    let mut last = None;
    let mut turn = interval(ASK_EVERY);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wire = None;
    loop {
        turn.tick().await;
        let was_open = wire.is_some();
        let mut role = role_of(&mut wire, address).await.ok();
        if role.is_none() && was_open {
            // A node that becomes master sends its clients away: there is no time to lose.
            wire = None;
            role = role_of(&mut wire, address).await.ok();
        }
        if role.is_none() {
            wire = None;
        }
        if last != Some(role) {
            last = Some(role);
            tell(&facts, What::Role { node, role }).await;
        }
    }
}

async fn notice_stalls(facts: Facts) {
    loop {
        let begun = Instant::now();
        sleep(ASK_EVERY).await;
        let by = begun.elapsed().saturating_sub(ASK_EVERY);
        if by >= LATE {
            tell(&facts, What::Stalled { by }).await;
        }
    }
}

async fn role_of(wire: &mut Option<Wire>, address: SocketAddr) -> io::Result<Role> {
    let open = match wire.take() {
        Some(open) => open,
        None => within(ANSWER_WITHIN, Wire::open(address)).await?,
    };
    let answer = within(ANSWER_WITHIN, wire.insert(open).ask(&["ROLE"])).await?;
    role_in(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What an answer to ROLE says.
fn role_in(answer: &Value) -> Option<Role> {
    let Value::Array(parts) = answer else { return None };
    match parts.first()?.text()? {
        "master" => Some(Role::Master),
        "slave" => {
            let ip: Option<IpAddr> = parts.get(1)?.text()?.parse().ok();
            let Value::Integer(port) = parts.get(2)? else { return None };
            let of = ip.zip(u16::try_from(*port).ok()).map(SocketAddr::from);
            let link_up = parts.get(3)?.text()? == "connected";
            Some(Role::Replica { of, link_up })
        }
        _ => None,
    }
}

async fn listen(
    at: usize,
    address: SocketAddr,
    facts: Facts,
    moved: watch::Sender<Option<SocketAddr>>,
) {
    loop {
        // Ends when the sentinel goes away, and begins anew when it is back.
        let _: io::Result<Infallible> = hear(at, address, &facts, &moved).await;
        sleep(ASK_EVERY).await;
    }
}

async fn hear(
    sentinel: usize,
    address: SocketAddr,
    facts: &Facts,
    moved: &watch::Sender<Option<SocketAddr>>,
) -> io::Result<Infallible> {
    let mut wire = within(ANSWER_WITHIN, Wire::open(address)).await?;
    wire.send(&["PSUBSCRIBE", "*"]).await?;
    loop {
        let message = wire.next().await?;
        let Value::Array(parts) = &message else { continue };
        let words: Vec<&str> = parts.iter().filter_map(Value::text).collect();
        match words.as_slice() {
            ["pmessage", _, name, payload] => {
                if *name == "+switch-master" {
                    moved.send_replace(switched_to(payload));
                }
                let (name, payload) = (name.to_string(), payload.to_string());
                tell(facts, What::Event { sentinel, name, payload }).await;
            }
            ["psubscribe", ..] => tell(facts, What::Listening { sentinel }).await,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let master = Value::Array(vec![Value::bulk("master"), Value::Integer(7), Value::NullArray]);
        assert_eq!(role_in(&master), Some(Role::Master));
        let replica = |state: &str| {
            let words = ["slave", "127.0.0.1"].map(Value::bulk).into_iter();
            let rest = [Value::Integer(7001), Value::bulk(state), Value::Integer(14)];
            role_in(&Value::Array(words.chain(rest).collect()))
        };
        let of = "127.0.0.1:7001".parse().ok();
        assert_eq!(replica("connected"), Some(Role::Replica { of, link_up: true }));
        assert_eq!(replica("sync"), Some(Role::Replica { of, link_up: false }));
        assert_eq!(role_in(&Value::error("LOADING")), None);
    }
}
