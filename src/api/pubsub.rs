//! SUBSCRIBE and its kin, and how an event reaches a subscriber.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::session::{Outcome, Session};
use crate::resp::{Value, glob};
use crate::sentinel::{Event, Level};

/// Channels and patterns that one connection may subscribe to; there are fewer than a hundred
/// events.
const SUBSCRIPTIONS_MAX: usize = 1024;

/// What one connection listens to.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// By name.
    pub(crate) channels: BTreeSet<Bytes>,
    /// By glob pattern, in the order in which they came.
    pub(crate) patterns: Vec<Bytes>,
}

impl Subscriptions {
    /// Channels and patterns.
    pub(crate) fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// The messages that an event makes for this subscriber. Debug events are for nobody.
    pub(crate) fn messages(&self, event: &Event) -> Vec<Value> {
        if event.kind.level() == Level::Debug {
            return Vec::new();
        }
        let channel = event.kind.name().as_bytes();
        let body = [channel, event.payload.as_bytes()].map(Value::bulk);
        let push = |head: &[&[u8]]| {
            Value::Push(head.iter().map(Value::bulk).chain(body.clone()).collect())
        };
        let direct = self.channels.contains(channel).then(|| push(&[b"message"]));
        let by_pattern = self.patterns.iter().filter(|pattern| glob::matches(pattern, channel));
        direct.into_iter().chain(by_pattern.map(|pattern| push(&[b"pmessage", pattern]))).collect()
    }
}

/// `SUBSCRIBE channel ...`
pub(crate) fn subscribe(session: &mut Session, args: &[Bytes]) -> Outcome {
    add(session, args, "subscribe", |subscriptions, name| {
        subscriptions.channels.insert(name);
    })
}

/// `PSUBSCRIBE pattern ...`
pub(crate) fn psubscribe(session: &mut Session, args: &[Bytes]) -> Outcome {
    add(session, args, "psubscribe", |subscriptions, pattern| {
        if !subscriptions.patterns.contains(&pattern) {
            subscriptions.patterns.push(pattern);
        }
    })
}

/// `UNSUBSCRIBE [channel ...]`
pub(crate) fn unsubscribe(session: &mut Session, args: &[Bytes]) -> Outcome {
    let all = session.client.state().subscriptions.channels.iter().cloned().collect();
    remove(session, args, "unsubscribe", all, |subscriptions, name| {
        subscriptions.channels.remove(name);
    })
}

/// `PUNSUBSCRIBE [pattern ...]`
pub(crate) fn punsubscribe(session: &mut Session, args: &[Bytes]) -> Outcome {
    let all = session.client.state().subscriptions.patterns.clone();
    remove(session, args, "punsubscribe", all, |subscriptions, pattern| {
        subscriptions.patterns.retain(|kept| kept != pattern);
    })
}

fn add(
    session: &mut Session,
    args: &[Bytes],
    kind: &str,
    insert: impl Fn(&mut Subscriptions, Bytes),
) -> Outcome {
    let events = &mut session.events;
    let listen = || session.api.handle.events();
    let mut state = session.client.state();
    let mut replies = Vec::new();
    for name in &args[1..] {
        if state.subscriptions.count() >= SUBSCRIPTIONS_MAX {
            replies.push(Value::error(format!(
                "ERR A connection may have at most {SUBSCRIPTIONS_MAX} subscriptions"
            )));
            break;
        }
        events.get_or_insert_with(listen);
        // A copy, since the argument would keep the whole request in memory.
        insert(&mut state.subscriptions, Bytes::copy_from_slice(name));
        replies.push(confirmation(kind, Value::bulk(name), &state.subscriptions));
    }
    Outcome::Reply(replies)
}

fn remove(
    session: &mut Session,
    args: &[Bytes],
    kind: &str,
    all: Vec<Bytes>,
    take: impl Fn(&mut Subscriptions, &Bytes),
) -> Outcome {
    let names = if args.len() > 1 { &args[1..] } else { &all };
    let mut state = session.client.state();
    let mut replies = Vec::new();
    for name in names {
        take(&mut state.subscriptions, name);
        replies.push(confirmation(kind, Value::bulk(name), &state.subscriptions));
    }
    if names.is_empty() {
        replies.push(confirmation(kind, Value::Null, &state.subscriptions));
    }
    if state.subscriptions.count() == 0 {
        session.events = None;
    }
    Outcome::Reply(replies)
}

fn confirmation(kind: &str, name: Value, subscriptions: &Subscriptions) -> Value {
    let count = Value::Integer(subscriptions.count() as i64);
    Value::Push(vec![Value::bulk(kind), name, count])
}
