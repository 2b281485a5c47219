//! Strings and counters.

use bytes::{Bytes, BytesMut};

use crate::resp::Value;
use crate::resp::number::parse_int;
use crate::server::decimal;
use crate::server::keyspace::{self, owned};

use super::{
    Answer, Call, NOT_INT, Reply, SYNTAX, int, maybe, null, number, ok, refuse, text, value,
};

const NOT_FLOAT: &str = "ERR value is not a valid float";
const TOO_BIG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// The string at a key, counted as a hit or a miss.
fn read(call: &mut Call<'_>, key: &Bytes) -> Option<Bytes> {
    let found = peek(call, key);
    match found {
        Some(_) => call.node.stats.hits += 1,
        None => call.node.stats.misses += 1,
    }
    found
}

fn peek(call: &mut Call<'_>, key: &Bytes) -> Option<Bytes> {
    call.node.keyspace.get(call.db, key).map(|keyspace::Value::String(s)| s.clone())
}

/// Stores a string and takes away the key's deadline, or gives it a new one.
fn store(call: &mut Call<'_>, key: &Bytes, string: &Bytes, expire_at_ms: Option<u64>) {
    let string = keyspace::Value::String(owned(string));
    call.node.keyspace.set(call.db, key, string, expire_at_ms);
}

pub(super) fn get(call: &mut Call<'_>) -> Answer {
    let found = read(call, &call.args[1]);
    value(maybe(found))
}

pub(super) fn mget(call: &mut Call<'_>) -> Answer {
    let found = call.args[1..].iter().map(|key| maybe(read(call, key))).collect();
    value(Value::Array(found))
}

pub(super) fn strlen(call: &mut Call<'_>) -> Answer {
    number(read(call, &call.args[1]).map_or(0, |s| s.len()))
}

/// How an expiry is given.
#[derive(Clone, Copy)]
enum Unit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

/// Computes the deadline in Unix ms; `command` names it in the error.
fn deadline(call: &Call<'_>, unit: Unit, amount: &[u8], command: &str) -> Result<u64, String> {
    let invalid = || format!("ERR invalid expire time in '{command}' command");
    let amount = parse_int(amount).ok_or(NOT_INT)?;
    if amount <= 0 {
        return Err(invalid());
    }
    let now = i64::try_from(call.node.keyspace.now_ms).unwrap_or(i64::MAX);
    let at = match unit {
        Unit::Ex => amount.checked_mul(1000).and_then(|ms| ms.checked_add(now)),
        Unit::Px => amount.checked_add(now),
        Unit::ExAt => amount.checked_mul(1000),
        Unit::PxAt => Some(amount),
    };
    at.and_then(|at| u64::try_from(at).ok()).ok_or_else(invalid)
}

fn unit(word: &[u8]) -> Option<Unit> {
    let units = [("EX", Unit::Ex), ("PX", Unit::Px), ("EXAT", Unit::ExAt), ("PXAT", Unit::PxAt)];
    units.into_iter().find(|(n, _)| word.eq_ignore_ascii_case(n.as_bytes())).map(|(_, u)| u)
}

fn decimal_bytes(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

/// Replicas set a deadline by the clock, so that it does not depend on when they hear of it.
fn replicate_set(call: &mut Call<'_>, key: &Bytes, string: &Bytes, expire_at_ms: u64) {
    let words = [Bytes::from_static(b"SET"), key.clone(), string.clone()];
    let expiry = [Bytes::from_static(b"PXAT"), decimal_bytes(expire_at_ms)];
    call.replicate(words.into_iter().chain(expiry).collect());
}

#[derive(Default)]
struct SetOptions {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    expire_at_ms: Option<u64>,
}

fn set_options(call: &Call<'_>) -> Result<SetOptions, String> {
    let mut options = SetOptions::default();
    let mut expiry = None;
    let mut i = 3;
    while i < call.args.len() {
        let no_expiry = expiry.is_none();
        match unit(&call.args[i]) {
            Some(unit) if no_expiry && !options.keep_ttl && i + 1 < call.args.len() => {
                expiry = Some((unit, &call.args[i + 1]));
                i += 1;
            }
            _ if call.is(i, "NX") && !options.xx => options.nx = true,
            _ if call.is(i, "XX") && !options.nx => options.xx = true,
            _ if call.is(i, "GET") => options.get = true,
            _ if call.is(i, "KEEPTTL") && no_expiry => options.keep_ttl = true,
            _ => return Err(SYNTAX.into()),
        }
        i += 1;
    }
    if let Some((unit, amount)) = expiry {
        options.expire_at_ms = Some(deadline(call, unit, amount, "set")?);
    }
    Ok(options)
}

pub(super) fn set(call: &mut Call<'_>) -> Answer {
    let options = set_options(call)?;
    let [_, key, string, ..] = call.args else { return refuse(SYNTAX) };
    let old = options.get.then(|| read(call, key));
    let reply = |done: bool| match &old {
        Some(old) => value(maybe(old.clone())),
        None if done => ok(),
        None => null(),
    };
    let exists = call.node.keyspace.entry(call.db, key).map(|e| e.expire_at_ms);
    if (options.nx && exists.is_some()) || (options.xx && exists.is_none()) {
        return reply(false);
    }
    let kept = if options.keep_ttl { exists.flatten() } else { None };
    store(call, key, string, options.expire_at_ms.or(kept));
    if let Some(at) = options.expire_at_ms {
        replicate_set(call, key, string, at);
    }
    reply(true)
}

pub(super) fn setnx(call: &mut Call<'_>) -> Answer {
    let (key, string) = (&call.args[1], &call.args[2]);
    if call.node.keyspace.exists(call.db, key) {
        return number(0);
    }
    store(call, key, string, None);
    number(1)
}

pub(super) fn setex(call: &mut Call<'_>) -> Answer {
    set_for(call, Unit::Ex, "setex")
}

pub(super) fn psetex(call: &mut Call<'_>) -> Answer {
    set_for(call, Unit::Px, "psetex")
}

fn set_for(call: &mut Call<'_>, unit: Unit, command: &str) -> Answer {
    let (key, string) = (&call.args[1], &call.args[3]);
    let at = deadline(call, unit, &call.args[2], command)?;
    store(call, key, string, Some(at));
    replicate_set(call, key, string, at);
    ok()
}

pub(super) fn getset(call: &mut Call<'_>) -> Answer {
    let (key, string) = (&call.args[1], &call.args[2]);
    let old = read(call, key);
    store(call, key, string, None);
    call.replicate(vec![Bytes::from_static(b"SET"), key.clone(), string.clone()]);
    value(maybe(old))
}

pub(super) fn getdel(call: &mut Call<'_>) -> Answer {
    let key = &call.args[1];
    let old = read(call, key);
    if old.is_some() {
        call.node.keyspace.remove(call.db, key);
        call.replicate(vec![Bytes::from_static(b"DEL"), key.clone()]);
    }
    value(maybe(old))
}

pub(super) fn getex(call: &mut Call<'_>) -> Answer {
    let key = &call.args[1];
    let change = match call.args.len() {
        2 => None,
        3 if call.is(2, "PERSIST") => Some(None),
        4 => {
            let unit = unit(&call.args[2]).ok_or(SYNTAX)?;
            Some(Some(deadline(call, unit, &call.args[3], "getex")?))
        }
        _ => return refuse(SYNTAX),
    };
    let Some(found) = read(call, key) else { return null() };
    let now_ms = call.node.keyspace.now_ms;
    match change {
        Some(Some(at)) if at <= now_ms => {
            call.node.keyspace.remove(call.db, key);
            call.replicate(vec![Bytes::from_static(b"DEL"), key.clone()]);
        }
        Some(Some(at)) => {
            call.node.keyspace.set_deadline(call.db, key, Some(at));
            let name = Bytes::from_static(b"PEXPIREAT");
            call.replicate(vec![name, key.clone(), decimal_bytes(at)]);
        }
        Some(None) if has_deadline(call, key) => {
            call.node.keyspace.set_deadline(call.db, key, None);
            call.replicate(vec![Bytes::from_static(b"PERSIST"), key.clone()]);
        }
        _ => {}
    }
    value(Value::Bulk(found))
}

fn has_deadline(call: &mut Call<'_>, key: &Bytes) -> bool {
    call.node.keyspace.entry(call.db, key).is_some_and(|e| e.expire_at_ms.is_some())
}

fn pairs<'a>(call: &Call<'a>) -> Result<Vec<(&'a Bytes, &'a Bytes)>, String> {
    if call.args.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(&call.args[0]).to_ascii_lowercase();
        return Err(format!("ERR wrong number of arguments for '{name}' command"));
    }
    Ok(call.args[1..].chunks(2).map(|pair| (&pair[0], &pair[1])).collect())
}

pub(super) fn mset(call: &mut Call<'_>) -> Answer {
    for (key, string) in pairs(call)? {
        store(call, key, string, None);
    }
    ok()
}

pub(super) fn msetnx(call: &mut Call<'_>) -> Answer {
    let pairs = pairs(call)?;
    if pairs.iter().any(|(key, _)| call.node.keyspace.exists(call.db, key)) {
        return number(0);
    }
    for (key, string) in pairs {
        store(call, key, string, None);
    }
    number(1)
}

/// Refuses a string that would be longer than `proto-max-bulk-len`.
fn check_length(call: &Call<'_>, length: usize) -> Result<(), &'static str> {
    if length as u64 > call.node.config.proto_max_bulk_len.0 { Err(TOO_BIG) } else { Ok(()) }
}

/// Changes a string in place, without copying it where nobody else holds it; gives its new length.
fn edit(call: &mut Call<'_>, key: &Bytes, change: impl FnOnce(&mut BytesMut)) -> usize {
    let mut length = 0;
    call.node.keyspace.update(call.db, key, |keyspace::Value::String(string)| {
        let whole = std::mem::take(string);
        let mut buffer = whole.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        change(&mut buffer);
        length = buffer.len();
        *string = buffer.freeze();
    });
    length
}

pub(super) fn append(call: &mut Call<'_>) -> Answer {
    let (key, more) = (&call.args[1], &call.args[2]);
    let Some(old) = peek(call, key).map(|s| s.len()) else {
        store(call, key, more, None);
        return number(more.len());
    };
    check_length(call, old + more.len())?;
    number(edit(call, key, |string| string.extend_from_slice(more)))
}

pub(super) fn setrange(call: &mut Call<'_>) -> Answer {
    let (key, part) = (&call.args[1], &call.args[3]);
    let Ok(offset) = usize::try_from(call.int(2)?) else {
        return refuse("ERR offset is out of range");
    };
    let old = peek(call, key).map(|s| s.len());
    if part.is_empty() {
        return number(old.unwrap_or(0));
    }
    let end = offset.saturating_add(part.len());
    check_length(call, end)?;
    if old.is_none() {
        store(call, key, &Bytes::new(), None);
    }
    number(edit(call, key, |string| {
        if string.len() < end {
            string.resize(end, 0);
        }
        string[offset..end].copy_from_slice(part);
    }))
}

pub(super) fn getrange(call: &mut Call<'_>) -> Answer {
    let (start, end) = (call.int(2)?, call.int(3)?);
    let Some(string) = read(call, &call.args[1]) else { return text("") };
    let length = string.len() as i64;
    if start < 0 && end < 0 && start > end {
        return text("");
    }
    let from_end = |i: i64| if i < 0 { (i + length).max(0) } else { i };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end || length == 0 {
        return text("");
    }
    value(Value::Bulk(string.slice(start as usize..end as usize + 1)))
}

pub(super) fn incr(call: &mut Call<'_>) -> Answer {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Answer {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Answer {
    let by = call.int(2)?;
    add(call, by)
}

pub(super) fn decrby(call: &mut Call<'_>) -> Answer {
    match call.int(2)?.checked_neg() {
        Some(by) => add(call, by),
        None => refuse("ERR decrement would overflow"),
    }
}

fn add(call: &mut Call<'_>, by: i64) -> Answer {
    let key = &call.args[1];
    let entry = call.node.keyspace.entry(call.db, key);
    let (old, deadline) = match entry {
        Some(e) => {
            let keyspace::Value::String(string) = &e.value;
            (int(string)?, e.expire_at_ms)
        }
        None => (0, None),
    };
    let Some(new) = old.checked_add(by) else {
        return refuse("ERR increment or decrement would overflow");
    };
    let digits = Bytes::copy_from_slice(itoa::Buffer::new().format(new).as_bytes());
    call.node.keyspace.set(call.db, key, keyspace::Value::String(digits), deadline);
    number(new)
}

pub(super) fn incrbyfloat(call: &mut Call<'_>) -> Answer {
    let (key, by) = (&call.args[1], &call.args[2]);
    let entry = call.node.keyspace.entry(call.db, key);
    let (old, deadline) = match entry {
        Some(e) => {
            let keyspace::Value::String(string) = &e.value;
            (string.clone(), e.expire_at_ms)
        }
        None => (Bytes::from_static(b"0"), None),
    };
    let sum = decimal::add_floats(&old, by).map_err(|e| match e {
        "" => NOT_FLOAT,
        other => other,
    })?;
    let sum = Bytes::from(sum);
    call.node.keyspace.set(call.db, key, keyspace::Value::String(sum.clone()), deadline);
    // The sum, not the step: replicas must not add floats by another rule.
    let words = [Bytes::from_static(b"SET"), key.clone(), sum.clone()];
    call.replicate(words.into_iter().chain([Bytes::from_static(b"KEEPTTL")]).collect());
    Ok(Reply::Value(Value::Bulk(sum)))
}
