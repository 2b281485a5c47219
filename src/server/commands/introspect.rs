//! `COMMAND`: the table of commands shown to clients.

use bytes::Bytes;

use crate::resp::Value;

use super::{
    ADMIN, Answer, Call, Command, FAST, FLAG_NAMES, PUBSUB, READONLY, TABLE, WRITE, find, help,
    number, refuse, value,
};

/// Categories in the order in which Redis lists them.
const CATEGORIES: [&str; 12] = [
    "keyspace",
    "read",
    "write",
    "string",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// What follows from the flags, and the command's own categories.
fn categories(command: &Command) -> impl Iterator<Item = &'static str> {
    CATEGORIES.into_iter().filter(|name| {
        let by_flag = match *name {
            "read" => command.is(READONLY),
            "write" => command.is(WRITE),
            "pubsub" => command.is(PUBSUB),
            "admin" | "dangerous" => command.is(ADMIN),
            "fast" => command.is(FAST),
            "slow" => !command.is(FAST),
            _ => false,
        };
        by_flag || command.group.contains(name)
    })
}

fn describe(command: &Command) -> Value {
    let flags = FLAG_NAMES.iter().filter(|(flag, _)| command.is(*flag));
    let (first, last, step) = command.keys;
    let mut key_specs = Vec::new();
    if first > 0 {
        key_specs.push(key_spec(command));
    }
    Value::Array(vec![
        Value::bulk(command.name),
        Value::Integer(command.arity.into()),
        Value::Set(flags.map(|(_, name)| Value::Simple(name.to_string())).collect()),
        Value::Integer(first.into()),
        Value::Integer(last.into()),
        Value::Integer(step.into()),
        Value::Set(categories(command).map(|c| Value::Simple(format!("@{c}"))).collect()),
        Value::Array(Vec::new()),
        Value::Array(key_specs),
        Value::Array(command.subcommands.iter().map(describe).collect()),
    ])
}

fn key_spec(command: &Command) -> Value {
    let (first, last, step) = command.keys;
    let pair = |name: &str, v: Value| (Value::bulk(name), v);
    let access = if command.is(WRITE) { "RW" } else { "RO" };
    // Counted from the first key, as the end of a range is.
    let last = if last < 0 { last } else { last - first };
    let numbers = |pairs: &[(&str, i32)]| {
        Value::Map(pairs.iter().map(|(n, v)| pair(n, Value::Integer((*v).into()))).collect())
    };
    Value::Map(vec![
        pair("flags", Value::Set(vec![Value::Simple(access.into())])),
        pair(
            "begin_search",
            Value::Map(vec![
                pair("type", Value::bulk("index")),
                pair("spec", numbers(&[("index", first)])),
            ]),
        ),
        pair(
            "find_keys",
            Value::Map(vec![
                pair("type", Value::bulk("range")),
                pair("spec", numbers(&[("lastkey", last), ("keystep", step), ("limit", 0)])),
            ]),
        ),
    ])
}

fn by_full_name(name: &Bytes) -> Option<&'static Command> {
    let words: Vec<Bytes> =
        name.split(|b| *b == b'|').map(Bytes::copy_from_slice).take(2).collect();
    find(&words).ok()
}

pub(super) fn all(_: &mut Call<'_>) -> Answer {
    value(Value::Array(TABLE.iter().map(describe).collect()))
}

pub(super) fn count(_: &mut Call<'_>) -> Answer {
    number(TABLE.len())
}

pub(super) fn info(call: &mut Call<'_>) -> Answer {
    if call.args.len() == 2 {
        return all(call);
    }
    let found = call.args[2..].iter().map(|n| by_full_name(n).map_or(Value::Null, describe));
    value(Value::Array(found.collect()))
}

pub(super) fn list(call: &mut Call<'_>) -> Answer {
    if call.args.len() > 2 {
        return refuse("ERR FILTERBY is not supported");
    }
    value(Value::Array(TABLE.iter().map(|c| Value::bulk(c.name)).collect()))
}

pub(super) fn docs(call: &mut Call<'_>) -> Answer {
    let group = |c: &Command| match c.group.first() {
        Some(&"keyspace") => "generic",
        Some(&"transaction") => "transactions",
        Some(&name) if name != "dangerous" && name != "admin" => name,
        _ if c.is(PUBSUB) => "pubsub",
        _ => "server",
    };
    let doc = |c: &'static Command| {
        (Value::bulk(c.name), Value::Map(vec![(Value::bulk("group"), Value::bulk(group(c)))]))
    };
    let docs: Vec<(Value, Value)> = match call.args.len() {
        2 => TABLE.iter().map(doc).collect(),
        _ => call.args[2..].iter().filter_map(by_full_name).map(doc).collect(),
    };
    value(Value::Map(docs))
}

pub(super) fn getkeys(call: &mut Call<'_>) -> Answer {
    let words = &call.args[2..];
    let Ok(command) = find(words) else { return refuse("ERR Invalid command specified") };
    if command.keys.0 == 0 {
        return refuse("ERR The command has no key arguments");
    }
    if !command.takes(words.len()) {
        return refuse("ERR Invalid number of arguments specified for command");
    }
    value(Value::Array(command.keys_of(words).cloned().map(Value::Bulk).collect()))
}

pub(super) fn command_help(_: &mut Call<'_>) -> Answer {
    help(&[
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the total number of commands in this server.",
        "LIST",
        "    Return a list of all commands in this server.",
        "INFO [<command-name> ...]",
        "    Return details about multiple commands.",
        "DOCS [<command-name> ...]",
        "    Return documentation details about multiple commands.",
        "GETKEYS <full-command>",
        "    Return the keys from a full command.",
        "HELP",
        "    Prints this help.",
    ])
}
