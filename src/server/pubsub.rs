//! Who listens to what, and the messages they get.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use crate::resp::{Protocol, Value, encode};

use super::client::ClientId;
use super::node::Node;
use crate::resp::glob;

type Listeners = BTreeMap<Bytes, BTreeSet<ClientId>>;

/// The subscriptions of all clients.
#[derive(Debug, Default)]
pub(super) struct PubSub {
    channels: Listeners,
    patterns: Listeners,
}

impl PubSub {
    pub(super) fn listeners(&mut self, patterns: bool) -> &mut Listeners {
        if patterns { &mut self.patterns } else { &mut self.channels }
    }

    pub(super) fn subscribe(&mut self, patterns: bool, name: &Bytes, id: ClientId) {
        self.listeners(patterns).entry(name.clone()).or_default().insert(id);
    }

    pub(super) fn unsubscribe(&mut self, patterns: bool, name: &Bytes, id: ClientId) {
        let listeners = self.listeners(patterns);
        if let Some(ids) = listeners.get_mut(name) {
            ids.remove(&id);
            if ids.is_empty() {
                listeners.remove(name);
            }
        }
    }

    pub(super) fn forget(
        &mut self,
        id: ClientId,
        channels: &BTreeSet<Bytes>,
        patterns: &BTreeSet<Bytes>,
    ) {
        channels.iter().for_each(|name| self.unsubscribe(false, name, id));
        patterns.iter().for_each(|name| self.unsubscribe(true, name, id));
    }

    pub(super) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// `PUBSUB CHANNELS`.
    pub(super) fn channels<'a>(
        &'a self,
        pattern: Option<&'a Bytes>,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.channels.keys().filter(move |name| pattern.is_none_or(|p| glob::matches(p, name)))
    }

    /// `PUBSUB NUMSUB`.
    pub(super) fn subscriber_count(&self, channel: &Bytes) -> usize {
        self.channels.get(channel).map_or(0, BTreeSet::len)
    }
}

/// A message in both versions of the protocol, encoded once for all who get it.
struct Message {
    resp2: Bytes,
    resp3: Bytes,
}

impl Message {
    fn new(parts: Vec<Value>) -> Message {
        let value = Value::Push(parts);
        let bytes = |protocol| {
            let mut out = BytesMut::new();
            encode(&value, protocol, &mut out);
            out.freeze()
        };
        Message { resp2: bytes(Protocol::Resp2), resp3: bytes(Protocol::Resp3) }
    }
}

impl Node {
    /// Delivers a message to everyone who listens; gives how many that were.
    pub(super) fn publish(&mut self, channel: &Bytes, payload: &Bytes) -> usize {
        let mut receivers = 0;
        if let Some(ids) = self.pubsub.channels.get(channel).cloned() {
            let parts = [Bytes::from_static(b"message"), channel.clone(), payload.clone()];
            receivers += self.send_message(&ids, parts.map(Value::Bulk).into());
        }
        let hits = |(pattern, _): &(&Bytes, &BTreeSet<ClientId>)| glob::matches(pattern, channel);
        let hits: Vec<(Bytes, BTreeSet<ClientId>)> =
            self.pubsub.patterns.iter().filter(hits).map(|(p, i)| (p.clone(), i.clone())).collect();
        for (pattern, ids) in hits {
            let parts =
                [Bytes::from_static(b"pmessage"), pattern, channel.clone(), payload.clone()];
            receivers += self.send_message(&ids, parts.map(Value::Bulk).into());
        }
        receivers
    }

    fn send_message(&mut self, ids: &BTreeSet<ClientId>, parts: Vec<Value>) -> usize {
        let message = Message::new(parts);
        for &id in ids {
            let Some(client) = self.clients.get(&id) else { continue };
            let bytes = match client.protocol {
                Protocol::Resp2 => message.resp2.clone(),
                Protocol::Resp3 => message.resp3.clone(),
            };
            self.send(id, bytes);
        }
        ids.len()
    }
}
