//! The connection itself: who it is, how it speaks, what it may do; and what operators do to
//! others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::resp::number::parse_int;
use crate::resp::{Protocol, Value};
use crate::server::client::{Client, ClientId, ReplyMode};
use crate::server::dispatch::Pause;
use crate::server::info::VERSION;

use super::{Answer, Call, Reply, SYNTAX, help, null, number, ok, refuse, transactions, value};

const NO_SUCH_CLIENT: &str = "ERR No such client";

pub(super) fn ping(call: &mut Call<'_>) -> Answer {
    let payload = call.args.get(1).cloned();
    if call.args.len() > 2 {
        return refuse("ERR wrong number of arguments for 'ping' command");
    }
    let client = call.client();
    if client.subscriptions() > 0 && client.protocol == Protocol::Resp2 {
        let parts = [Bytes::from_static(b"pong"), payload.unwrap_or_default()];
        return value(Value::Array(parts.map(Value::Bulk).into()));
    }
    value(payload.map_or(Value::Simple("PONG".into()), Value::Bulk))
}

pub(super) fn echo(call: &mut Call<'_>) -> Answer {
    value(Value::Bulk(call.args[1].clone()))
}

pub(super) fn quit(call: &mut Call<'_>) -> Answer {
    let id = call.id;
    call.node.reply(id, &Value::ok());
    call.node.close_after_reply(id);
    Ok(Reply::Done)
}

pub(super) fn reset(call: &mut Call<'_>) -> Answer {
    let needs_password = call.node.config.requirepass.is_some();
    let Some(mut client) = call.node.clients.remove(&call.id) else { return Ok(Reply::Done) };
    transactions::leave(call.node, &mut client);
    call.node.pubsub.forget(client.id, &client.channels, &client.patterns);
    client.channels.clear();
    client.patterns.clear();
    client.name = Bytes::new();
    client.db = 0;
    client.protocol = Protocol::Resp2;
    client.reply_mode = ReplyMode::On;
    client.no_evict = false;
    client.no_touch = false;
    set_authenticated(&mut client, !needs_password);
    call.node.clients.insert(call.id, client);
    value(Value::Simple("RESET".into()))
}

fn set_authenticated(client: &mut Client, yes: bool) {
    client.authenticated = yes;
    client.outbox.shared.authenticated.store(yes, Ordering::Relaxed);
}

pub(super) fn auth(call: &mut Call<'_>) -> Answer {
    match call.args {
        [_, password] => {
            if call.node.config.requirepass.is_none() {
                return refuse(
                    "ERR AUTH <password> called without any password configured for the default \
                     user. Are you sure your configuration is correct?",
                );
            }
            log_in(call, b"default", password)?;
        }
        [_, user, password] => log_in(call, user, password)?,
        _ => return refuse(SYNTAX),
    }
    ok()
}

fn log_in(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> Result<(), &'static str> {
    let expected = call.node.config.requirepass.as_ref();
    let is_right = expected.is_none_or(|p| same_bytes(&p.bytes(), password));
    if user != b"default" || !is_right {
        return Err("WRONGPASS invalid username-password pair or user is disabled.");
    }
    set_authenticated(call.client(), true);
    Ok(())
}

/// Compares in a time that tells nothing of where the first difference is.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

pub(super) fn hello(call: &mut Call<'_>) -> Answer {
    let protocol = match call.args.get(1).map(|version| parse_int(version)) {
        None => None,
        Some(Some(2)) => Some(Protocol::Resp2),
        Some(Some(3)) => Some(Protocol::Resp3),
        Some(Some(_)) => return refuse("NOPROTO unsupported protocol version"),
        Some(None) => return refuse("ERR Protocol version is not an integer or out of range"),
    };
    let mut name = None;
    let mut i = 2;
    while i < call.args.len() {
        match call.args.len() - i {
            3.. if call.is(i, "AUTH") => {
                log_in(call, &call.args[i + 1], &call.args[i + 2])?;
                i += 3;
            }
            2.. if call.is(i, "SETNAME") => {
                name = Some(check_name(&call.args[i + 1])?);
                i += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(&call.args[i]);
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        }
    }
    if !call.client().authenticated {
        return refuse(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        );
    }
    let role = if call.node.is_replica() { "replica" } else { "master" };
    let client = call.client();
    client.protocol = protocol.unwrap_or(client.protocol);
    client.name = name.unwrap_or_else(|| std::mem::take(&mut client.name));
    let version = if client.protocol == Protocol::Resp3 { 3 } else { 2 };
    let fields = [
        ("server", Value::bulk("redis")),
        ("version", Value::bulk(VERSION)),
        ("proto", Value::Integer(version)),
        ("id", Value::Integer(call.id as i64)),
        ("mode", Value::bulk("standalone")),
        ("role", Value::bulk(role)),
        ("modules", Value::Array(Vec::new())),
    ];
    value(Value::Map(fields.map(|(name, field)| (Value::bulk(name), field)).into()))
}

pub(super) fn id(call: &mut Call<'_>) -> Answer {
    number(call.id)
}

pub(super) fn getname(call: &mut Call<'_>) -> Answer {
    let name = call.client().name.clone();
    if name.is_empty() { null() } else { value(Value::Bulk(name)) }
}

fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|b| (b'!'..=b'~').contains(b))
}

fn check_name(name: &Bytes) -> Result<Bytes, &'static str> {
    match is_plain(name) {
        true => Ok(Bytes::copy_from_slice(name)),
        false => Err("ERR Client names cannot contain spaces, newlines or special characters."),
    }
}

pub(super) fn setname(call: &mut Call<'_>) -> Answer {
    let name = check_name(&call.args[2])?;
    call.client().name = name;
    ok()
}

pub(super) fn setinfo(call: &mut Call<'_>) -> Answer {
    let (option, text) = (&call.args[2], Bytes::copy_from_slice(&call.args[3]));
    let shown = String::from_utf8_lossy(option).into_owned();
    if !is_plain(&text) {
        let error = format!("ERR {shown} cannot contain spaces, newlines or special characters.");
        return Err(error.into());
    }
    match option.to_ascii_uppercase().as_slice() {
        b"LIB-NAME" => call.client().lib_name = text,
        b"LIB-VER" => call.client().lib_version = text,
        _ => return Err(format!("ERR Unrecognized option '{shown}'").into()),
    }
    ok()
}

pub(super) fn info(call: &mut Call<'_>) -> Answer {
    value(Value::Verbatim(call.client().line() + "\n"))
}

/// The word of `TYPE`: `slave` means `replica`.
fn client_type(word: &Bytes) -> Result<&'static str, String> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok("normal"),
        b"master" => Ok("master"),
        b"replica" | b"slave" => Ok("replica"),
        b"pubsub" => Ok("pubsub"),
        _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word))),
    }
}

pub(super) fn list(call: &mut Call<'_>) -> Answer {
    let mut wanted: Box<dyn Fn(&Client) -> bool> = Box::new(|_| true);
    match call.args.len() {
        2 => {}
        4 if call.is(2, "TYPE") => {
            let word = client_type(&call.args[3])?;
            wanted = Box::new(move |c| c.type_name() == word);
        }
        4.. if call.is(2, "ID") => {
            let ids: Option<Vec<i64>> = call.args[3..].iter().map(|a| parse_int(a)).collect();
            let ids = ids.ok_or("ERR Invalid client ID")?;
            wanted = Box::new(move |c| ids.contains(&(c.id as i64)));
        }
        _ => return refuse(SYNTAX),
    }
    let mut clients: Vec<&Client> = call.node.clients.values().filter(|c| wanted(c)).collect();
    clients.sort_by_key(|c| c.id);
    value(Value::Verbatim(clients.iter().map(|c| c.line() + "\n").collect()))
}

/// Which clients `CLIENT KILL` means; all conditions must hold.
#[derive(Default)]
struct Filter {
    id: Option<i64>,
    addr: Option<Bytes>,
    laddr: Option<Bytes>,
    type_name: Option<&'static str>,
    other_user: bool,
    spare_self: bool,
}

impl Filter {
    fn read(call: &Call<'_>) -> Result<Filter, String> {
        let mut filter = Filter { spare_self: true, ..Filter::default() };
        for option in call.args[2..].chunks(2) {
            let [name, argument] = option else { return Err(SYNTAX.into()) };
            match name.to_ascii_uppercase().as_slice() {
                b"ID" => {
                    let id = parse_int(argument).filter(|id| *id > 0);
                    filter.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
                }
                b"ADDR" => filter.addr = Some(argument.clone()),
                b"LADDR" => filter.laddr = Some(argument.clone()),
                b"TYPE" => filter.type_name = Some(client_type(argument)?),
                b"USER" => filter.other_user = argument[..] != b"default"[..],
                b"SKIPME" => match argument.to_ascii_lowercase().as_slice() {
                    b"yes" => filter.spare_self = true,
                    b"no" => filter.spare_self = false,
                    _ => return Err(SYNTAX.into()),
                },
                _ => return Err(SYNTAX.into()),
            }
        }
        Ok(filter)
    }

    fn means(&self, client: &Client, caller: ClientId) -> bool {
        self.id.is_none_or(|id| id == client.id as i64)
            && self.addr.as_ref().is_none_or(|a| a == client.addr.as_bytes())
            && self.laddr.as_ref().is_none_or(|a| a == client.laddr.as_bytes())
            && self.type_name.is_none_or(|t| t == client.type_name())
            && !self.other_user
            && !(self.spare_self && client.id == caller)
    }
}

pub(super) fn kill(call: &mut Call<'_>) -> Answer {
    let is_old_form = call.args.len() == 3;
    let filter = match is_old_form {
        true => Filter { addr: Some(call.args[2].clone()), ..Filter::default() },
        false => Filter::read(call)?,
    };
    let caller = call.id;
    let meant = call.node.clients.values().filter(|c| filter.means(c, caller));
    let ids: Vec<ClientId> = meant.map(|c| c.id).collect();
    for &id in &ids {
        if id == caller {
            // It still gets the answer to this.
            call.client().kill_after_reply = true;
        } else {
            call.node.kill(id);
        }
    }
    match (is_old_form, ids.is_empty()) {
        (true, true) => refuse(NO_SUCH_CLIENT),
        (true, false) => ok(),
        (false, _) => number(ids.len()),
    }
}

pub(super) fn pause(call: &mut Call<'_>) -> Answer {
    let writes_only = match call.args.len() {
        3 => false,
        4 if call.is(3, "WRITE") => true,
        4 if call.is(3, "ALL") => false,
        _ => return refuse("ERR CLIENT PAUSE mode must be WRITE or ALL"),
    };
    let Some(ms) = parse_int(&call.args[2]) else {
        return refuse("ERR timeout is not an integer or out of range");
    };
    let Ok(ms) = u64::try_from(ms) else { return refuse("ERR timeout is negative") };
    // A century is enough, and cannot overflow the clock.
    let length = Duration::from_millis(ms.min(100 * 365 * 24 * 3_600_000));
    let until = call.node.now + length;
    let old = call.node.pause.take();
    let until = old.as_ref().map_or(until, |p| p.until.max(until));
    let writes_only = writes_only && old.is_none_or(|p| p.writes_only);
    call.node.pause = Some(Pause { until, writes_only });
    ok()
}

pub(super) fn unpause(call: &mut Call<'_>) -> Answer {
    // Clients that waited go on after this event, when time is passed.
    if let Some(pause) = &mut call.node.pause {
        pause.until = call.node.now;
    }
    ok()
}

pub(super) fn reply(call: &mut Call<'_>) -> Answer {
    match call.args[2].to_ascii_uppercase().as_slice() {
        b"ON" => {
            call.client().reply_mode = ReplyMode::On;
            return ok();
        }
        b"OFF" => call.client().reply_mode = ReplyMode::Off,
        b"SKIP" if call.client().reply_mode != ReplyMode::Off => {
            call.client().reply_mode = ReplyMode::SkipNext;
        }
        b"SKIP" => {}
        _ => return refuse(SYNTAX),
    }
    Ok(Reply::Done)
}

fn on_or_off(call: &Call<'_>) -> Result<bool, &'static str> {
    match call.args[2].to_ascii_uppercase().as_slice() {
        b"ON" => Ok(true),
        b"OFF" => Ok(false),
        _ => Err(SYNTAX),
    }
}

pub(super) fn no_evict(call: &mut Call<'_>) -> Answer {
    let on = on_or_off(call)?;
    call.client().no_evict = on;
    ok()
}

pub(super) fn no_touch(call: &mut Call<'_>) -> Answer {
    let on = on_or_off(call)?;
    call.client().no_touch = on;
    ok()
}

pub(super) fn client_help(_: &mut Call<'_>) -> Answer {
    help(&[
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETNAME",
        "    Return the name of the current connection.",
        "ID",
        "    Return the ID of the current connection.",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections by ID, ADDR, LADDR, TYPE, USER; SKIPME (YES|NO), default: yes.",
        "LIST [TYPE <type> | ID <id> ...]",
        "    Return information about client connections.",
        "NO-EVICT (ON|OFF)",
        "    Protect current client connection from eviction.",
        "NO-TOUCH (ON|OFF)",
        "    Accepted; keys carry no access time.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Suspend all, or just write, clients for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Control the replies sent to the current connection.",
        "SETINFO <option> <value>",
        "    Set client meta attr: LIB-NAME, LIB-VER.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "UNPAUSE",
        "    Stop the current client pause, resuming traffic.",
        "HELP",
        "    Prints this help.",
    ])
}
