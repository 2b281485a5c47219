//! CLIENT: what a connection may ask about itself and the others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Pause;
use super::clients::{Client, NAME_ERROR, Type, is_printable};
use super::session::{Outcome, Replies, Session, integer, syntax_error};
use super::table;
use crate::acl::Acl;
use crate::resp::Value;

/// `CLIENT ID`
pub(crate) fn id(session: &mut Session, _: &[Bytes]) -> Outcome {
    Value::Integer(session.client.id as i64).into()
}

/// `CLIENT GETNAME`
pub(crate) fn getname(session: &mut Session, _: &[Bytes]) -> Outcome {
    let state = session.client.state();
    if state.name.is_empty() { Value::Null.into() } else { Value::bulk(&state.name).into() }
}

/// `CLIENT SETNAME name`
pub(crate) fn setname(session: &mut Session, args: &[Bytes]) -> Outcome {
    if !is_printable(&args[2]) {
        return Value::error(NAME_ERROR).into();
    }
    session.client.state().name = String::from_utf8_lossy(&args[2]).into_owned();
    Value::ok().into()
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`
pub(crate) fn setinfo(session: &mut Session, args: &[Bytes]) -> Outcome {
    let mut state = session.client.state();
    let state = &mut *state;
    let (name, field) = match &args[2].to_ascii_lowercase()[..] {
        b"lib-name" => ("lib-name", &mut state.lib_name),
        b"lib-ver" => ("lib-ver", &mut state.lib_ver),
        _ => {
            let option = table::quoted(&args[2], 128);
            return Value::error(format!("ERR Unrecognized option '{option}'")).into();
        }
    };
    if !is_printable(&args[3]) {
        let text = format!("ERR {name} cannot contain spaces, newlines or special characters.");
        return Value::error(text).into();
    }
    *field = String::from_utf8_lossy(&args[3]).into_owned();
    Value::ok().into()
}

/// `CLIENT INFO`
pub(crate) fn info(session: &mut Session, _: &[Bytes]) -> Outcome {
    Value::Verbatim(session.client.line() + "\n").into()
}

/// `CLIENT LIST [TYPE type | ID id ...]`
pub(crate) fn list(session: &mut Session, args: &[Bytes]) -> Outcome {
    chosen(&args[2..])
        .map(|wanted| {
            let lines = session.api.clients.all().into_iter().filter(|client| wanted(client));
            Value::Verbatim(lines.map(|client| client.line() + "\n").collect())
        })
        .into()
}

type Filter = Box<dyn Fn(&Client) -> bool>;

fn chosen(args: &[Bytes]) -> Result<Filter, Value> {
    match args {
        [] => Ok(Box::new(|_| true)),
        [option, kind] if option.eq_ignore_ascii_case(b"type") => {
            let kind = client_type(kind)?;
            Ok(Box::new(move |client| client.is(kind)))
        }
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let ids = ids.iter().map(|id| integer(id, "ERR Invalid client ID"));
            let ids = ids.collect::<Result<BTreeSet<_>, _>>()?;
            Ok(Box::new(move |client| ids.contains(&(client.id as i64))))
        }
        _ => Err(syntax_error()),
    }
}

fn client_type(word: &[u8]) -> Result<Type, Value> {
    match &word.to_ascii_lowercase()[..] {
        b"normal" => Ok(Type::Normal),
        b"pubsub" => Ok(Type::Pubsub),
        b"master" | b"replica" | b"slave" => Ok(Type::Node),
        _ => {
            let word = table::quoted(word, 128);
            Err(Value::error(format!("ERR Unknown client type '{word}'")))
        }
    }
}

/// `CLIENT KILL ip:port`, or `CLIENT KILL option value ...` with ID, TYPE, USER, ADDR, LADDR,
/// MAXAGE (Valkey 8, Redis 8), SKIPME.
pub(crate) fn kill(session: &mut Session, args: &[Bytes]) -> Outcome {
    let (matches, skip_self): (Filter, bool) = match &args[2..] {
        [addr] => (by_addr(addr, |client| client.addr.to_string()), false),
        filters => match filters_of(filters, &session.api.users.acl()) {
            Ok(parsed) => parsed,
            Err(error) => return error.into(),
        },
    };
    let (mut killed, mut own) = (0, false);
    for client in session.api.clients.all().iter().filter(|client| matches(client)) {
        if client.id == session.client.id {
            if skip_self {
                continue;
            }
            own = true;
        } else {
            client.kill.cancel();
        }
        killed += 1;
    }
    let reply = match (args.len(), killed) {
        (3, 0) => Value::error("ERR No such client"),
        (3, _) => Value::ok(),
        _ => Value::Integer(killed),
    };
    if own { Outcome::Close(Some(reply)) } else { reply.into() }
}

fn by_addr(wanted: &[u8], of: impl Fn(&Client) -> String + 'static) -> Filter {
    let wanted = wanted.to_vec();
    Box::new(move |client| of(client).as_bytes() == wanted)
}

/// All filters together, and whether the connection that asks is spared.
fn filters_of(args: &[Bytes], users: &Acl) -> Result<(Filter, bool), Value> {
    let mut filters: Vec<Filter> = Vec::new();
    let mut skip_self = true;
    for pair in args.chunks(2) {
        let [option, value] = pair else { return Err(syntax_error()) };
        match &option.to_ascii_lowercase()[..] {
            b"id" => {
                const NOT_AN_ID: &str = "ERR client-id should be greater than 0";
                let id = integer(value, NOT_AN_ID)?;
                if id < 1 {
                    return Err(Value::error(NOT_AN_ID));
                }
                filters.push(Box::new(move |client| client.id as i64 == id));
            }
            b"type" => {
                let kind = client_type(value)?;
                filters.push(Box::new(move |client| client.is(kind)));
            }
            b"addr" => filters.push(by_addr(value, |client| client.addr.to_string())),
            b"laddr" => filters.push(by_addr(value, |client| client.laddr.to_string())),
            b"user" => {
                let user = value.to_vec();
                if users.get(&user).is_none() {
                    let shown = table::quoted(value, 128);
                    return Err(Value::error(format!("ERR No such user '{shown}'")));
                }
                filters.push(Box::new(move |client| client.state().user == user));
            }
            b"maxage" => {
                let error = "ERR maxage is not an integer or out of range";
                let age = u64::try_from(integer(value, error)?);
                let age = age.map_err(|_| Value::error(error))?;
                filters.push(Box::new(move |client| client.since.elapsed().as_secs() >= age));
            }
            b"skipme" => {
                skip_self = match &value.to_ascii_lowercase()[..] {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(syntax_error()),
                }
            }
            _ => return Err(syntax_error()),
        }
    }
    Ok((Box::new(move |client| filters.iter().all(|filter| filter(client))), skip_self))
}

/// `CLIENT REPLY ON|OFF|SKIP`
pub(crate) fn reply(session: &mut Session, args: &[Bytes]) -> Outcome {
    match &args[2].to_ascii_lowercase()[..] {
        b"on" => {
            session.replies = Replies::On;
            session.silent = false;
            return Value::ok().into();
        }
        b"off" => session.replies = Replies::Off,
        b"skip" if session.replies == Replies::Off => {}
        b"skip" => session.replies = Replies::SkipNext,
        _ => return syntax_error().into(),
    }
    Outcome::Reply(Vec::new())
}

/// `CLIENT NO-EVICT ON|OFF`
pub(crate) fn no_evict(session: &mut Session, args: &[Bytes]) -> Outcome {
    switch(&args[2], &mut session.client.state().no_evict)
}

/// `CLIENT NO-TOUCH ON|OFF`
pub(crate) fn no_touch(session: &mut Session, args: &[Bytes]) -> Outcome {
    switch(&args[2], &mut session.client.state().no_touch)
}

fn switch(word: &[u8], flag: &mut bool) -> Outcome {
    *flag = match &word.to_ascii_lowercase()[..] {
        b"on" => true,
        b"off" => false,
        _ => return syntax_error().into(),
    };
    Value::ok().into()
}

/// `CLIENT PAUSE timeout [WRITE|ALL]`: WRITE holds nothing, since a sentinel has nothing to write.
pub(crate) fn pause(session: &mut Session, args: &[Bytes]) -> Outcome {
    let all = match args.get(3) {
        None => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"all") => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"write") => false,
        Some(_) => return Value::error("ERR CLIENT PAUSE mode must be WRITE or ALL").into(),
    };
    if args.len() > 4 {
        return syntax_error().into();
    }
    let ms = match integer(&args[2], "ERR timeout is not an integer or out of range") {
        Ok(ms) => ms,
        Err(error) => return error.into(),
    };
    let Ok(ms) = u64::try_from(ms) else {
        return Value::error("ERR timeout is negative").into();
    };
    // Redis keeps the longer of two pauses.
    let until = Instant::now().checked_add(Duration::from_millis(ms)).filter(|_| all);
    session.api.pause.send_if_modified(|current: &mut Pause| {
        let longer = until > *current;
        if longer {
            *current = until;
        }
        longer
    });
    Value::ok().into()
}

/// `CLIENT UNPAUSE`
pub(crate) fn unpause(session: &mut Session, _: &[Bytes]) -> Outcome {
    session.api.pause.send_replace(None);
    Value::ok().into()
}

/// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`: there are no blocking commands here.
pub(crate) fn unblock(_: &mut Session, args: &[Bytes]) -> Outcome {
    let reason = args.get(3).map(|word| word.to_ascii_lowercase());
    if !matches!(reason.as_deref(), None | Some(b"timeout" | b"error")) {
        return Value::error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR").into();
    }
    let id = integer(&args[2], "ERR value is not an integer or out of range");
    id.map(|_| Value::Integer(0)).into()
}
