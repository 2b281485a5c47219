//! Channels and patterns.

use bytes::Bytes;

use crate::resp::Value;

use super::{Answer, Call, Reply, help, number, value};

pub(super) fn subscribe(call: &mut Call<'_>) -> Answer {
    add(call, false)
}

pub(super) fn psubscribe(call: &mut Call<'_>) -> Answer {
    add(call, true)
}

pub(super) fn unsubscribe(call: &mut Call<'_>) -> Answer {
    remove(call, false)
}

pub(super) fn punsubscribe(call: &mut Call<'_>) -> Answer {
    remove(call, true)
}

/// Says what was done and how many subscriptions there are now.
fn confirm(call: &mut Call<'_>, what: &str, name: Value) {
    let count = call.client().subscriptions() as i64;
    let id = call.id;
    call.node.reply(id, &Value::Push(vec![Value::bulk(what), name, Value::Integer(count)]));
}

fn add(call: &mut Call<'_>, patterns: bool) -> Answer {
    let what = if patterns { "psubscribe" } else { "subscribe" };
    for name in &call.args[1..] {
        let name = Bytes::copy_from_slice(name);
        let client = call.client();
        let own = if patterns { &mut client.patterns } else { &mut client.channels };
        own.insert(name.clone());
        call.node.pubsub.subscribe(patterns, &name, call.id);
        confirm(call, what, Value::Bulk(name));
    }
    Ok(Reply::Done)
}

fn remove(call: &mut Call<'_>, patterns: bool) -> Answer {
    let what = if patterns { "punsubscribe" } else { "unsubscribe" };
    let client = call.client();
    let own = if patterns { &client.patterns } else { &client.channels };
    let all: Vec<Bytes> = own.iter().cloned().collect();
    let names = if call.args.len() == 1 { all } else { call.args[1..].to_vec() };
    if names.is_empty() {
        confirm(call, what, Value::Null);
    }
    for name in names {
        let client = call.client();
        let own = if patterns { &mut client.patterns } else { &mut client.channels };
        own.remove(&name);
        call.node.pubsub.unsubscribe(patterns, &name, call.id);
        confirm(call, what, Value::Bulk(name));
    }
    Ok(Reply::Done)
}

/// A message published on a master reaches the subscribers of its replicas too.
pub(super) fn publish(call: &mut Call<'_>) -> Answer {
    let receivers = call.node.publish(&call.args[1], &call.args[2]);
    call.node.effects.push((call.db, call.args.to_vec()));
    number(receivers)
}

pub(super) fn channels(call: &mut Call<'_>) -> Answer {
    let names = call.node.pubsub.channels(call.args.get(2));
    value(Value::Array(names.cloned().map(Value::Bulk).collect()))
}

pub(super) fn numsub(call: &mut Call<'_>) -> Answer {
    let count = |name: &Bytes| Value::Integer(call.node.pubsub.subscriber_count(name) as i64);
    let pairs = call.args[2..].iter().flat_map(|name| [Value::Bulk(name.clone()), count(name)]);
    value(Value::Array(pairs.collect()))
}

pub(super) fn numpat(call: &mut Call<'_>) -> Answer {
    number(call.node.pubsub.pattern_count())
}

pub(super) fn pubsub_help(_: &mut Call<'_>) -> Answer {
    help(&[
        "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CHANNELS [<pattern>]",
        "    Return the currently active channels matching a <pattern> (default: '*').",
        "NUMPAT",
        "    Return number of subscriptions to patterns.",
        "NUMSUB [<channel> ...]",
        "    Return the number of subscribers for the specified channels.",
        "HELP",
        "    Prints this help.",
    ])
}
