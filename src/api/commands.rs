//! The commands of a connection about itself and the server: PING, AUTH, HELLO, QUIT, RESET,
//! SHUTDOWN.

use bytes::Bytes;

use super::REDIS_VERSION;
use super::clients::{Client, NAME_ERROR, is_printable};
use super::session::{Outcome, Replies, Session, integer, syntax_error};
use super::table;
use crate::acl::DEFAULT_USER;
use crate::resp::{Protocol, Value};

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the \
     default user. Are you sure your configuration is correct?";
const HELLO_NEEDS_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, \
     otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client \
     and select the RESP protocol version at the same time";

/// `PING [message]`
pub(crate) fn ping(session: &mut Session, args: &[Bytes]) -> Outcome {
    let message = args.get(1).cloned();
    if args.len() > 2 {
        return wrong_arity("ping").into();
    }
    if session.is_confined() {
        let message = Value::Bulk(message.unwrap_or_default());
        return Value::Array(vec![Value::bulk("pong"), message]).into();
    }
    message.map_or_else(|| Value::Simple("PONG".into()), Value::Bulk).into()
}

/// The error for a number of arguments that only the command itself can find wrong.
pub(crate) fn wrong_arity(name: &str) -> Value {
    Value::error(format!("ERR wrong number of arguments for '{name}' command"))
}

/// `AUTH [username] password`
pub(crate) fn auth(session: &mut Session, args: &[Bytes]) -> Outcome {
    let open = || {
        let acl = session.api.users.acl();
        acl.get(DEFAULT_USER).is_some_and(|user| user.needs_no_password())
    };
    let (user, password) = match &args[1..] {
        [_] if open() => return Value::error(NO_PASSWORD).into(),
        [password] => (DEFAULT_USER.as_bytes(), password),
        [user, password] => (&user[..], password),
        _ => return syntax_error().into(),
    };
    session.authenticate(user, password, &args[0]).map(|()| Value::ok()).into()
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`. Nothing is changed if anything
/// in it is wrong.
pub(crate) fn hello(session: &mut Session, args: &[Bytes]) -> Outcome {
    greet(session, args).into()
}

fn greet(session: &mut Session, args: &[Bytes]) -> Result<Value, Value> {
    let protocol = match args.get(1) {
        None => None,
        Some(version) => {
            match integer(version, "ERR Protocol version is not an integer or out of range")? {
                2 => Some(Protocol::Resp2),
                3 => Some(Protocol::Resp3),
                _ => return Err(Value::error("NOPROTO unsupported protocol version")),
            }
        }
    };
    // Each option is done when it is read, as in Redis: what stands before a bad one counts.
    let mut rest = args.get(2..).unwrap_or_default();
    while let [option, values @ ..] = rest {
        rest = match values {
            [user, password, more @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                session.authenticate(user, password, &args[0])?;
                more
            }
            [value, more @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                if !is_printable(value) {
                    return Err(Value::error(NAME_ERROR));
                }
                session.client.state().name = String::from_utf8_lossy(value).into_owned();
                more
            }
            _ => {
                let option = table::quoted(option, 128);
                return Err(Value::error(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        };
    }
    if !session.authenticated && session.api.users.acl().auth_required() {
        return Err(Value::error(HELLO_NEEDS_AUTH));
    }
    let mut state = session.client.state();
    state.protocol = protocol.unwrap_or(state.protocol);
    Ok(greeting(&session.client, state.protocol))
}

fn greeting(client: &Client, protocol: Protocol) -> Value {
    let proto = if protocol == Protocol::Resp3 { 3 } else { 2 };
    let pairs = [
        ("server", Value::bulk("redis")),
        ("version", Value::bulk(REDIS_VERSION)),
        ("proto", Value::Integer(proto)),
        ("id", Value::Integer(client.id as i64)),
        ("mode", Value::bulk("sentinel")),
        ("modules", Value::Array(Vec::new())),
    ];
    Value::Map(pairs.map(|(key, value)| (Value::bulk(key), value)).into())
}

/// `QUIT`: Redis's sentinels know it no more, but clients and health checks send it.
pub(crate) fn quit(_: &mut Session, _: &[Bytes]) -> Outcome {
    Outcome::Close(Some(Value::ok()))
}

/// `RESET`: the connection is as new.
pub(crate) fn reset(session: &mut Session, _: &[Bytes]) -> Outcome {
    session.authenticated = !session.api.users.acl().auth_required();
    session.events = None;
    session.replies = Replies::On;
    session.silent = false;
    session.client.state().reset();
    Value::Simple("RESET".into()).into()
}

/// `SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]`: the sentinel ends, without a reply. There is
/// nothing to save and nothing to wait for, so all words but ABORT mean the same.
pub(crate) fn shutdown(session: &mut Session, args: &[Bytes]) -> Outcome {
    let (mut save, mut nosave, mut abort, mut other) = (false, false, false, false);
    for word in &args[1..] {
        match &word.to_ascii_lowercase()[..] {
            b"save" => save = true,
            b"nosave" => nosave = true,
            b"abort" => abort = true,
            b"now" | b"force" => other = true,
            _ => return syntax_error().into(),
        }
    }
    if (save && nosave) || (abort && (save || nosave || other)) {
        return syntax_error().into();
    }
    if abort {
        return Value::error("ERR No shutdown in progress.").into();
    }
    tracing::warn!("User requested shutdown...");
    session.api.stop.cancel();
    Outcome::Close(None)
}
