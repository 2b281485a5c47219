//! COMMAND and HELP: the table, told to clients.

use bytes::Bytes;

use super::complexity;
use super::session::{Outcome, Session, syntax_error};
use super::table::{self, Arg, Found};
use crate::resp::{Value, glob};

/// `COMMAND` and `COMMAND INFO [name ...]`
pub(crate) fn info(session: &mut Session, args: &[Bytes]) -> Outcome {
    let known = &session.api.names;
    let entries = match args.get(2..) {
        None | Some([]) => known.all().map(entry).collect(),
        Some(names) => {
            names.iter().map(|name| known.by_name(name).map_or(Value::Null, entry)).collect()
        }
    };
    Value::Array(entries).into()
}

/// Ten parts: name, arity, flags, first key, last key, step, ACL categories, tips, key
/// specifications, subcommands. A sentinel's commands have no keys.
fn entry(found: Found) -> Value {
    let simple =
        |words: &[&str]| Value::Set(words.iter().map(|w| Value::Simple((*w).into())).collect());
    let command = found.command;
    let subcommands: Vec<Value> = table::under(command).map(entry).collect();
    Value::Array(vec![
        Value::bulk(found.name()),
        Value::Integer(command.arity),
        simple(command.kind.flags),
        Value::Integer(0),
        Value::Integer(0),
        Value::Integer(0),
        simple(command.kind.categories),
        Value::Set(command.tips.iter().map(Value::bulk).collect()),
        Value::Set(Vec::new()),
        // Redis sends no set where there is something in it.
        if subcommands.is_empty() { Value::Set(subcommands) } else { Value::Array(subcommands) },
    ])
}

/// `COMMAND COUNT`
pub(crate) fn count(session: &mut Session, _: &[Bytes]) -> Outcome {
    Value::Integer(session.api.names.all().count() as i64).into()
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
pub(crate) fn list(session: &mut Session, args: &[Bytes]) -> Outcome {
    let (kind, value) = match &args[2..] {
        [] => (Vec::new(), &Bytes::new()),
        [word, kind, value] if word.eq_ignore_ascii_case(b"filterby") => {
            (kind.to_ascii_lowercase(), value)
        }
        _ => return syntax_error().into(),
    };
    let category = || [b"@", &value.to_ascii_lowercase()[..]].concat();
    let wanted: Box<dyn Fn(&Found) -> bool> = match &kind[..] {
        b"" => Box::new(|_| true),
        b"module" => Box::new(|_| false),
        b"pattern" => Box::new(|found| glob::matches(value, found.name().as_bytes())),
        b"aclcat" => {
            let category = category();
            Box::new(move |found| {
                let mut categories = found.command.kind.categories.iter();
                categories.any(|name| name.as_bytes() == category)
            })
        }
        _ => return syntax_error().into(),
    };
    let all = session.api.names.all();
    let all = all.flat_map(|top| std::iter::once(top).chain(table::under(top.command)));
    let names = all.filter(|found| wanted(found)).map(|found| Value::bulk(found.name()));
    Value::Array(names.collect()).into()
}

/// `COMMAND GETKEYS command [arg ...]` and `COMMAND GETKEYSANDFLAGS`
pub(crate) fn keys(session: &mut Session, args: &[Bytes]) -> Outcome {
    // How many words there are is asked later in Redis, where a command has keys.
    let text = match session.api.names.look_up(&args[2..]) {
        Ok(_) => "ERR The command has no key arguments",
        Err(_) => "ERR Invalid command specified",
    };
    Value::error(text).into()
}

/// `COMMAND DOCS [name ...]`: unknown names are left out.
pub(crate) fn docs(session: &mut Session, args: &[Bytes]) -> Outcome {
    let known = &session.api.names;
    let document = |found: Found| (Value::bulk(found.name()), document(found));
    let documents = match &args[2..] {
        [] => known.all().map(document).collect(),
        names => names.iter().filter_map(|name| known.by_name(name)).map(document).collect(),
    };
    Value::Map(documents).into()
}

fn document(found: Found) -> Value {
    let command = found.command;
    let group = found.container.unwrap_or(command).kind.group;
    let mut pairs = vec![
        ("summary", Value::bulk(command.summary)),
        ("since", Value::bulk(command.since)),
        ("group", Value::bulk(group)),
    ];
    let name = found.original().unwrap_or_else(|| found.name());
    pairs.extend(complexity::of(&name).map(|text| ("complexity", Value::bulk(text))));
    if let Some((version, by)) = command.replaced {
        pairs.push(("doc_flags", Value::Set(vec![Value::Simple("deprecated".into())])));
        pairs.push(("deprecated_since", Value::bulk(version)));
        pairs.push(("replaced_by", Value::bulk(by)));
    }
    if !command.args.is_empty() {
        pairs.push(("arguments", arguments(command.args)));
    }
    if !command.subcommands.is_empty() {
        let documents = table::under(command).map(|sub| (Value::bulk(sub.name()), document(sub)));
        pairs.push(("subcommands", Value::Map(documents.collect())));
    }
    map(pairs)
}

fn arguments(args: &[Arg]) -> Value {
    let argument = |arg: &Arg| {
        let mut pairs = vec![("name", Value::bulk(arg.name)), ("type", Value::bulk(arg.kind))];
        if arg.kind == "pure-token" {
            pairs.push(("token", Value::bulk(arg.name.to_ascii_uppercase())));
        }
        let flags = [(arg.optional, "optional"), (arg.multiple, "multiple")];
        let flags = flags.iter().filter(|(set, _)| *set);
        let flags: Vec<Value> = flags.map(|(_, flag)| Value::Simple((*flag).into())).collect();
        if !flags.is_empty() {
            pairs.push(("flags", Value::Set(flags)));
        }
        if !arg.parts.is_empty() {
            pairs.push(("arguments", arguments(arg.parts)));
        }
        map(pairs)
    };
    Value::Array(args.iter().map(argument).collect())
}

fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(key, value)| (Value::bulk(key), value)).collect())
}

/// `SENTINEL HELP`, `CLIENT HELP` and so on: a usage line and a sentence for each subcommand.
pub(crate) fn help(session: &mut Session, args: &[Bytes]) -> Outcome {
    let Some(container) = session.api.names.by_name(&args[0]) else { return syntax_error().into() };
    let name = container.command.name.to_ascii_uppercase();
    let head = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let listed = table::under(container.command).filter(|found| !found.command.alias);
    let (help, others): (Vec<Found>, Vec<Found>) = listed.partition(|f| f.command.name == "help");
    let lines = others.into_iter().chain(help).flat_map(|found| {
        let name = found.command.name.to_ascii_uppercase();
        let words = std::iter::once(name).chain(found.command.args.iter().map(Arg::usage));
        [words.collect::<Vec<_>>().join(" "), format!("    {}", found.command.summary)]
    });
    Value::Array(std::iter::once(head).chain(lines).map(Value::Simple).collect()).into()
}
