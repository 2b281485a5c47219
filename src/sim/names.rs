//! Which node an address meant, where nodes have names and sentinels show addresses instead
//! (`announce-hostnames no`): whoever watches reads names everywhere, and so compares what is said
//! with what is remembered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::state::State;
use crate::resp::Value;
use crate::sentinel::types::Address;
use crate::sentinel::{Command, Effect, Event, Input, LinkEvent, Request};

/// All addresses at which nodes ever were, with their names. Empty where nothing is to be read
/// otherwise.
#[derive(Debug, Default)]
pub(super) struct Names {
    nodes: BTreeMap<Address, Address>,
}

impl Names {
    /// From now on this address means that node.
    pub(super) fn learn(&mut self, at: Address, node: Address) {
        self.nodes.insert(at, node);
    }

    /// Nothing is to be read otherwise.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node at an address; any other address is itself.
    pub(super) fn node(&self, at: &Address) -> Address {
        self.nodes.get(at).unwrap_or(at).clone()
    }

    /// Texts: events, hellos, INFO. An address is two words, the host and, next or after one other,
    /// the port.
    pub(super) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.nodes.is_empty() || !text.contains("10.") {
            return Cow::Borrowed(text);
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let mut words = Vec::new();
        let mut rest = 0;
        for part in text.split(|c| !is_word(c)) {
            words.push((rest, part));
            // What parts words is one byte, or has no part in addresses.
            rest += part.len() + text[rest + part.len()..].chars().next().map_or(0, char::len_utf8);
        }
        let words: Vec<_> = words.into_iter().filter(|(_, word)| !word.is_empty()).collect();
        let mut read = String::new();
        let mut copied = 0;
        for (n, (at, host)) in words.iter().enumerate().filter(|(_, (_, host))| is_ip(host)) {
            let ports = words.iter().skip(n + 1).take(2);
            let mut ports = ports.filter_map(|(_, word)| word.parse().ok());
            let node = ports.find_map(|port| self.nodes.get(&Address::new(*host, port)));
            if let Some(node) = node {
                read += &text[copied..*at];
                read += &node.host;
                copied = at + host.len();
            }
        }
        match copied {
            0 => Cow::Borrowed(text),
            _ => Cow::Owned(read + &text[copied..]),
        }
    }

    /// Replies: addresses are two entries of an array, or two fields.
    pub(super) fn value<'a>(&self, value: &'a Value) -> Cow<'a, Value> {
        if self.nodes.is_empty() {
            return Cow::Borrowed(value);
        }
        Cow::Owned(match value {
            Value::Array(items) => Value::Array(self.values(items)),
            Value::Map(pairs) => {
                let flat: Vec<Value> =
                    pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
                let flat = self.values(&flat);
                Value::Map(flat.chunks(2).map(|two| (two[0].clone(), two[1].clone())).collect())
            }
            Value::Bulk(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::bulk(self.text(text).into_owned()),
                Err(_) => value.clone(),
            },
            Value::Verbatim(text) => Value::Verbatim(self.text(text).into_owned()),
            other => other.clone(),
        })
    }

    fn values(&self, items: &[Value]) -> Vec<Value> {
        let read = |n: usize| {
            let host = items[n].text().filter(|host| is_ip(host))?;
            let mut ports =
                items[n + 1..].iter().take(2).filter_map(|port| port.text()?.parse().ok());
            ports.find_map(|port| self.nodes.get(&Address::new(host, port)))
        };
        let read = |n: usize| match read(n) {
            Some(node) => Value::bulk(node.host.clone()),
            None => self.value(&items[n]).into_owned(),
        };
        (0..items.len()).map(read).collect()
    }

    pub(super) fn command<'a>(&self, command: &'a Command) -> Cow<'a, Command> {
        if self.nodes.is_empty() {
            return Cow::Borrowed(command);
        }
        Cow::Owned(match command {
            Command::Hello { payload } => {
                Command::Hello { payload: self.text(payload).into_owned() }
            }
            Command::IsMasterDown { master, epoch, candidate } => Command::IsMasterDown {
                master: self.node(master),
                epoch: *epoch,
                candidate: candidate.clone(),
            },
            Command::AskVote { master, asker } => {
                Command::AskVote { master: self.node(master), asker: asker.clone() }
            }
            Command::Follow { master } => Command::Follow { master: self.node(master) },
            other => other.clone(),
        })
    }

    pub(super) fn request<'a>(&self, request: &'a Request) -> Cow<'a, Request> {
        if self.nodes.is_empty() {
            return Cow::Borrowed(request);
        }
        Cow::Owned(match request {
            Request::Hello(payload) => Request::Hello(self.text(payload).into_owned()),
            Request::IsMasterDown { host, port, epoch, candidate } => {
                let master = u16::try_from(*port).ok().map(|port| Address::new(host, port));
                let host = master.map_or_else(|| host.clone(), |master| self.node(&master).host);
                let (port, epoch, candidate) = (*port, *epoch, candidate.clone());
                Request::IsMasterDown { host, port, epoch, candidate }
            }
            other => other.clone(),
        })
    }

    pub(super) fn effect<'a>(&self, effect: &'a Effect) -> Cow<'a, Effect> {
        if self.nodes.is_empty() {
            return Cow::Borrowed(effect);
        }
        Cow::Owned(match effect {
            Effect::Send { link, command } => {
                Effect::Send { link: *link, command: self.command(command).into_owned() }
            }
            Effect::Reply { id, reply } => {
                Effect::Reply { id: *id, reply: self.value(reply).into_owned() }
            }
            Effect::Announce(event) => Effect::Announce(Event {
                payload: self.text(&event.payload).into_owned(),
                ..event.clone()
            }),
            Effect::Say { level, group, text } => Effect::Say {
                level: *level,
                group: group.clone(),
                text: self.text(text).into_owned(),
            },
            Effect::Persist { revision, state, whole } => Effect::Persist {
                revision: *revision,
                state: Box::new(self.state(state).into_owned()),
                whole: *whole,
            },
            other => other.clone(),
        })
    }

    pub(super) fn input<'a>(&self, input: &'a Input) -> Cow<'a, Input> {
        if self.nodes.is_empty() {
            return Cow::Borrowed(input);
        }
        Cow::Owned(match input {
            Input::Link { link, event: LinkEvent::Hello { payload } } => Input::Link {
                link: *link,
                event: LinkEvent::Hello { payload: self.text(payload).into_owned() },
            },
            Input::Link { link, event: LinkEvent::Reply { command, reply } } => Input::Link {
                link: *link,
                event: LinkEvent::Reply {
                    command: self.command(command).into_owned(),
                    reply: self.value(reply).into_owned(),
                },
            },
            Input::Request { id, request } => {
                Input::Request { id: *id, request: self.request(request).into_owned() }
            }
            other => other.clone(),
        })
    }

    pub(super) fn state<'a>(&self, state: &'a State) -> Cow<'a, State> {
        if self.nodes.is_empty() {
            return Cow::Borrowed(state);
        }
        let is_shown = |at: &Address| self.nodes.contains_key(at);
        let mut groups = state.groups.values();
        if !groups.any(|g| is_shown(&g.settings.master) || g.replicas.iter().any(is_shown)) {
            return Cow::Borrowed(state);
        }
        let mut read = state.clone();
        for group in read.groups.values_mut() {
            group.settings.master = self.node(&group.settings.master);
            group.replicas = group.replicas.iter().map(|at| self.node(at)).collect();
        }
        Cow::Owned(read)
    }
}

/// It may be an address of a machine of the model.
fn is_ip(host: &str) -> bool {
    host.starts_with("10.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_names_wherever_they_stand() {
        let mut names = Names::default();
        names.learn(Address::new("10.0.0.4", 6379), Address::new("node0.test", 6379));
        for (text, read) in [
            (
                "+slave 10.0.0.4:6379 10.0.0.4 6379 @ g0",
                "+slave node0.test:6379 node0.test 6379 @ g0",
            ),
            ("10.0.0.4,26379,id,0,g0,10.0.0.4,6379,0", "10.0.0.4,26379,id,0,g0,node0.test,6379,0"),
            (
                "master_host:10.0.0.4\r\nmaster_port:6379\r\n",
                "master_host:node0.test\r\nmaster_port:6379\r\n",
            ),
            ("10.0.0.40 6379 10.0.0.4 6380 ünd", "10.0.0.40 6379 10.0.0.4 6380 ünd"),
        ] {
            assert_eq!(names.text(text), read);
        }
        let bulk = |text: &str| Value::bulk(text);
        let fields = ["name", "10.0.0.4:6379", "ip", "10.0.0.4", "port", "6379"].map(bulk);
        let read = ["name", "node0.test:6379", "ip", "node0.test", "port", "6379"].map(bulk);
        assert_eq!(*names.value(&Value::Array(fields.into())), Value::Array(read.into()));
    }
}
