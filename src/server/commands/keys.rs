//! Keys of any type, and the databases.

use bytes::Bytes;

use crate::resp::Value;
use crate::resp::glob;
use crate::resp::number::parse_int;
use crate::server::keyspace;

use super::{Answer, Call, NOT_INT, SYNTAX, help, maybe, null, number, ok, refuse, text, value};

const NO_KEY: &str = "ERR no such key";
const NO_DB: &str = "ERR DB index is out of range";

pub(super) fn del(call: &mut Call<'_>) -> Answer {
    let keys = call.args[1..].iter();
    number(keys.filter(|key| call.node.keyspace.remove(call.db, key).is_some()).count())
}

pub(super) fn exists(call: &mut Call<'_>) -> Answer {
    let keys = call.args[1..].iter();
    number(keys.filter(|key| call.node.keyspace.exists(call.db, key)).count())
}

fn type_name(of: &keyspace::Value) -> &'static str {
    match of {
        keyspace::Value::String(_) => "string",
    }
}

pub(super) fn type_of(call: &mut Call<'_>) -> Answer {
    let found = call.node.keyspace.get(call.db, &call.args[1]).map_or("none", type_name);
    value(Value::Simple(found.into()))
}

pub(super) fn keys(call: &mut Call<'_>) -> Answer {
    let pattern = &call.args[1];
    let all = call.node.keyspace.visible(call.db).filter(|e| glob::matches(pattern, &e.key));
    value(Value::Array(all.map(|e| Value::Bulk(e.key.clone())).collect()))
}

pub(super) fn scan(call: &mut Call<'_>) -> Answer {
    let cursor = std::str::from_utf8(&call.args[1]).ok().and_then(|t| t.parse::<u64>().ok());
    let Some(cursor) = cursor else { return refuse("ERR invalid cursor") };
    let (mut pattern, mut count, mut of_type) = (None, 10, None);
    for option in call.args[2..].chunks(2) {
        let [name, argument] = option else { return refuse(SYNTAX) };
        match name.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = Some(argument),
            b"TYPE" => of_type = Some(argument.to_ascii_lowercase()),
            b"COUNT" => {
                let number = parse_int(argument).ok_or(NOT_INT)?;
                count = usize::try_from(number).ok().filter(|n| *n > 0).ok_or(SYNTAX)?;
            }
            _ => return refuse(SYNTAX),
        }
    }
    let (next, mut found) = call.node.keyspace.scan(call.db, cursor, count);
    found.retain(|e| pattern.is_none_or(|p| glob::matches(p, &e.key)));
    found.retain(|e| of_type.as_ref().is_none_or(|t| t == type_name(&e.value).as_bytes()));
    let found = found.into_iter().map(|e| Value::Bulk(e.key.clone())).collect();
    value(Value::Array(vec![Value::bulk(next.to_string()), Value::Array(found)]))
}

pub(super) fn randomkey(call: &mut Call<'_>) -> Answer {
    value(maybe(call.node.keyspace.random(call.db).map(|e| e.key.clone())))
}

pub(super) fn rename(call: &mut Call<'_>) -> Answer {
    let (from, to) = (&call.args[1], &call.args[2]);
    if !call.node.keyspace.exists(call.db, from) {
        return refuse(NO_KEY);
    }
    rename_to(call, from, to);
    ok()
}

pub(super) fn renamenx(call: &mut Call<'_>) -> Answer {
    let (from, to) = (&call.args[1], &call.args[2]);
    if !call.node.keyspace.exists(call.db, from) {
        return refuse(NO_KEY);
    }
    if call.node.keyspace.exists(call.db, to) {
        return number(0);
    }
    rename_to(call, from, to);
    number(1)
}

fn rename_to(call: &mut Call<'_>, from: &Bytes, to: &Bytes) {
    if from == to {
        return;
    }
    if let Some(entry) = call.node.keyspace.remove(call.db, from) {
        call.node.keyspace.set(call.db, to, entry.value, entry.expire_at_ms);
    }
}

/// Reads a database number.
fn db_index(call: &Call<'_>, index: usize, invalid: &'static str) -> Result<usize, &'static str> {
    let number = parse_int(&call.args[index]).ok_or(invalid)?;
    let databases = call.node.config.databases as usize;
    usize::try_from(number).ok().filter(|n| *n < databases).ok_or(NO_DB)
}

pub(super) fn copy(call: &mut Call<'_>) -> Answer {
    let (from, to) = (&call.args[1], &call.args[2]);
    let (mut db, mut replace, mut i) = (call.db, false, 3);
    while i < call.args.len() {
        match i {
            _ if call.is(i, "REPLACE") => replace = true,
            _ if call.is(i, "DB") && i + 1 < call.args.len() => {
                i += 1;
                db = db_index(call, i, NOT_INT)?;
            }
            _ => return refuse(SYNTAX),
        }
        i += 1;
    }
    if db == call.db && from == to {
        return refuse("ERR source and destination objects are the same");
    }
    let Some(entry) = call.node.keyspace.entry(call.db, from).cloned() else { return number(0) };
    if !replace && call.node.keyspace.exists(db, to) {
        return number(0);
    }
    call.node.keyspace.set(db, to, entry.value, entry.expire_at_ms);
    number(1)
}

pub(super) fn expire(call: &mut Call<'_>) -> Answer {
    let now = call.node.keyspace.now_ms;
    expire_at(call, 1000, now, "expire")
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Answer {
    let now = call.node.keyspace.now_ms;
    expire_at(call, 1, now, "pexpire")
}

pub(super) fn expireat(call: &mut Call<'_>) -> Answer {
    expire_at(call, 1000, 0, "expireat")
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> Answer {
    expire_at(call, 1, 0, "pexpireat")
}

#[derive(Default)]
struct When {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl When {
    fn read(options: &[Bytes]) -> Result<When, String> {
        let mut when = When::default();
        for option in options {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => when.nx = true,
                b"XX" => when.xx = true,
                b"GT" => when.gt = true,
                b"LT" => when.lt = true,
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(format!("ERR Unsupported option {option}"));
                }
            }
        }
        if when.nx && (when.xx || when.gt || when.lt) {
            return Err(
                "ERR NX and XX, GT or LT options at the same time are not compatible".into()
            );
        }
        if when.gt && when.lt {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(when)
    }

    /// No deadline counts as one in the infinite future.
    fn allows(&self, old: Option<u64>, new: i64) -> bool {
        let old_ms = old.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old_ms.is_none_or(|at| new <= at)
            || self.lt && old_ms.is_some_and(|at| new >= at))
    }
}

fn expire_at(call: &mut Call<'_>, unit_ms: i64, since_ms: u64, command: &str) -> Answer {
    let key = &call.args[1];
    let amount = call.int(2)?;
    let since = i64::try_from(since_ms).unwrap_or(i64::MAX);
    let at = amount.checked_mul(unit_ms).and_then(|ms| ms.checked_add(since));
    let Some(at) = at else {
        return Err(format!("ERR invalid expire time in '{command}' command").into());
    };
    let when = When::read(&call.args[3..])?;
    let Some(old) = call.node.keyspace.entry(call.db, key).map(|e| e.expire_at_ms) else {
        return number(0);
    };
    if !when.allows(old, at) {
        return number(0);
    }
    let is_past = at <= i64::try_from(call.node.keyspace.now_ms).unwrap_or(i64::MAX);
    // A replica keeps the key: its master will say when to delete it.
    if is_past && !call.node.is_replica() {
        call.node.keyspace.remove(call.db, key);
        call.replicate(vec![Bytes::from_static(b"DEL"), key.clone()]);
        return number(1);
    }
    let at_ms = u64::try_from(at).unwrap_or(0);
    call.node.keyspace.set_deadline(call.db, key, Some(at_ms));
    let at = Bytes::from(at_ms.to_string());
    call.replicate(vec![Bytes::from_static(b"PEXPIREAT"), key.clone(), at]);
    number(1)
}

/// -2 for no key, -1 for no deadline, else what `show` makes of deadline and present time.
fn deadline(call: &mut Call<'_>, show: fn(u64, u64) -> u64) -> Answer {
    let now_ms = call.node.keyspace.now_ms;
    match call.node.keyspace.entry(call.db, &call.args[1]).map(|e| e.expire_at_ms) {
        None => number(-2),
        Some(None) => number(-1),
        Some(Some(at_ms)) => number(show(at_ms, now_ms)),
    }
}

pub(super) fn ttl(call: &mut Call<'_>) -> Answer {
    deadline(call, |at, now| (at.saturating_sub(now) + 500) / 1000)
}

pub(super) fn pttl(call: &mut Call<'_>) -> Answer {
    deadline(call, |at, now| at.saturating_sub(now))
}

pub(super) fn expiretime(call: &mut Call<'_>) -> Answer {
    deadline(call, |at, _| (at + 500) / 1000)
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> Answer {
    deadline(call, |at, _| at)
}

pub(super) fn persist(call: &mut Call<'_>) -> Answer {
    let key = &call.args[1];
    let entry = call.node.keyspace.entry(call.db, key);
    if entry.is_none_or(|e| e.expire_at_ms.is_none()) {
        return number(0);
    }
    call.node.keyspace.set_deadline(call.db, key, None);
    number(1)
}

pub(super) fn dbsize(call: &mut Call<'_>) -> Answer {
    number(call.node.keyspace.dbs()[call.db].len())
}

/// Empties databases; freeing what they held is left to another thread.
fn flush(call: &mut Call<'_>, dbs: std::ops::Range<usize>) -> Answer {
    let is_known = call.is(1, "SYNC") || call.is(1, "ASYNC");
    if call.args.len() > 2 || (call.args.len() == 2 && !is_known) {
        return refuse(SYNTAX);
    }
    let old: Vec<keyspace::Db> = dbs.map(|db| call.node.keyspace.clear(db)).collect();
    crate::server::free_elsewhere(old);
    ok()
}

pub(super) fn flushdb(call: &mut Call<'_>) -> Answer {
    flush(call, call.db..call.db + 1)
}

pub(super) fn flushall(call: &mut Call<'_>) -> Answer {
    let databases = call.node.config.databases as usize;
    flush(call, 0..databases)
}

pub(super) fn select(call: &mut Call<'_>) -> Answer {
    let db = db_index(call, 1, NOT_INT)?;
    call.client().db = db;
    ok()
}

pub(super) fn swapdb(call: &mut Call<'_>) -> Answer {
    let first = db_index(call, 1, "ERR invalid first DB index")?;
    let second = db_index(call, 2, "ERR invalid second DB index")?;
    call.node.keyspace.swap(first, second);
    ok()
}

pub(super) fn move_key(call: &mut Call<'_>) -> Answer {
    let (key, to) = (&call.args[1], db_index(call, 2, NOT_INT)?);
    if to == call.db {
        return refuse("ERR source and destination objects are the same");
    }
    let keyspace = &mut call.node.keyspace;
    if !keyspace.exists(call.db, key) || keyspace.exists(to, key) {
        return number(0);
    }
    if let Some(entry) = keyspace.remove(call.db, key) {
        keyspace.set(to, key, entry.value, entry.expire_at_ms);
    }
    number(1)
}

/// Redis's limit for a string that lies in one piece with its header.
const EMBEDDED: usize = 44;

pub(super) fn object_encoding(call: &mut Call<'_>) -> Answer {
    match call.node.keyspace.get(call.db, &call.args[2]) {
        None => null(),
        Some(keyspace::Value::String(s)) if parse_int(s).is_some() => text("int"),
        Some(keyspace::Value::String(s)) if s.len() <= EMBEDDED => text("embstr"),
        Some(keyspace::Value::String(_)) => text("raw"),
    }
}

pub(super) fn object_refcount(call: &mut Call<'_>) -> Answer {
    match call.node.keyspace.exists(call.db, &call.args[2]) {
        true => number(1),
        false => null(),
    }
}

pub(super) fn object_help(_: &mut Call<'_>) -> Answer {
    help(&[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation of the value at <key>.",
        "REFCOUNT <key>",
        "    Return the number of references of the value at <key>.",
        "HELP",
        "    Prints this help.",
    ])
}
