//! ACL: users shown, changed, kept and tried out.

use std::sync::Arc;

use bytes::Bytes;

use super::Api;
use super::session::{Outcome, Session, integer};
use super::table;
use super::users::{self, Users};
use crate::acl::{Acl, CATEGORIES, Denial, Entry, RuleError, Selector, User, join_selectors};
use crate::daemon;
use crate::resp::Value;
use crate::sentinel::Request;
use crate::wall_clock::unix_ms;

/// Bits of ACL GENPASS at most, and unless it is told.
const PASSWORD_BITS_MAX: i64 = 4096;
const PASSWORD_BITS: i64 = 256;
/// Entries of ACL LOG, unless it is told.
const LOG_SHOWN: usize = 10;
/// Mode of an ACL file that is new.
const FILE_MODE: u32 = 0o600;

const NO_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want \
     to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you \
     have a Redis configuration file set) in order to store users in the Redis configuration.";
const NOT_SAVED: &str = "ERR There was an error trying to save the ACLs. Please check the server \
     logs for more information";

/// `ACL WHOAMI`
pub(crate) fn whoami(session: &mut Session, _: &[Bytes]) -> Outcome {
    Value::bulk(&session.client.state().user).into()
}

/// `ACL CAT [category]`
pub(crate) fn cat(session: &mut Session, args: &[Bytes]) -> Outcome {
    let acl = session.api.users.acl();
    let names: Vec<Value> = match &args[2..] {
        [] => CATEGORIES.iter().map(Value::bulk).collect(),
        [name] => {
            let name = table::quoted(name, 128);
            let Some(commands) = acl.catalog().category(&name) else {
                return Value::error(format!("ERR Unknown category '{name}'")).into();
            };
            commands.map(|id| Value::bulk(acl.catalog().name(id))).collect()
        }
        _ => return wrong_subcommand("cat"),
    };
    Value::Array(names).into()
}

fn wrong_subcommand(name: &str) -> Outcome {
    let text = "ERR unknown subcommand or wrong number of arguments for";
    Value::error(format!("{text} '{name}'. Try ACL HELP.")).into()
}

/// `ACL USERS`
pub(crate) fn users(session: &mut Session, _: &[Bytes]) -> Outcome {
    let acl = session.api.users.acl();
    Value::Array(acl.users().map(|(name, _)| Value::bulk(name)).collect()).into()
}

/// `ACL LIST`
pub(crate) fn list(session: &mut Session, _: &[Bytes]) -> Outcome {
    let lines = session.api.users.acl().lines();
    Value::Array(lines.iter().map(Value::bulk).collect()).into()
}

/// `ACL GETUSER name`
pub(crate) fn getuser(session: &mut Session, args: &[Bytes]) -> Outcome {
    let acl = session.api.users.acl();
    acl.get(&args[2]).map_or(Value::Null, shown).into()
}

fn shown(user: &User) -> Value {
    let permissions = |selector: &Selector| {
        [
            ("commands", selector.commands().into_bytes()),
            ("keys", selector.key_patterns()),
            ("channels", selector.channel_patterns()),
        ]
        .map(|(key, value)| (Value::bulk(key), Value::bulk(value)))
    };
    let selectors = user.selectors().iter().map(|s| Value::Map(permissions(s).into()));
    let mut pairs = vec![
        (Value::bulk("flags"), Value::Set(user.flags().iter().map(Value::bulk).collect())),
        (Value::bulk("passwords"), Value::Array(user.password_hashes().map(Value::bulk).collect())),
    ];
    pairs.extend(permissions(user.root()));
    pairs.push((Value::bulk("selectors"), Value::Array(selectors.collect())));
    Value::Map(pairs)
}

/// `ACL SETUSER name [rule ...]`: all rules count, or none.
pub(crate) fn setuser(session: &mut Session, args: &[Bytes]) -> Outcome {
    match set(&session.api.users, args) {
        Ok(()) => end_the_deprived(session, Value::ok()),
        Err(error) => error.into(),
    }
}

fn set(users: &Users, args: &[Bytes]) -> Result<(), Value> {
    let name = &args[2];
    if !Acl::is_name(name) {
        return Err(Value::error("ERR Usernames can't contain spaces or null characters"));
    }
    let rules = join_selectors(&args[3..]).map_err(|at| {
        let word = table::quoted(&args[3 + at], 128);
        Value::error(format!("ERR Unmatched parenthesis in acl selector starting at '{word}'."))
    })?;
    // Its sender sees the rule again, but not who reads the log.
    let error = |rule: &[u8], error: RuleError| {
        let rule = table::quoted(rule, 128);
        Value::error(format!("ERR Error in ACL SETUSER modifier '{rule}': {error}"))
    };
    let outcome = users.change(|acl| acl.set(name, &rules));
    outcome.map_err(|bad| error(&rules[bad.index], bad.error))
}

/// `ACL DELUSER name ...`
pub(crate) fn deluser(session: &mut Session, args: &[Bytes]) -> Outcome {
    if args[2..].iter().any(|name| name == crate::acl::DEFAULT_USER) {
        return Value::error("ERR The 'default' user cannot be removed").into();
    }
    let names = args[2..].iter();
    let deleted = session.api.users.change(|acl| names.filter(|name| acl.delete(name)).count());
    end_the_deprived(session, Value::Integer(deleted as i64))
}

/// Ends the connections of users that are gone, and subscriptions that are not allowed any more, as
/// Redis does; a connection that stays is held to the new rules with its next command.
fn end_the_deprived(session: &Session, reply: Value) -> Outcome {
    let own = end_where(session, is_deprived);
    let client = session.client.clone();
    let handle = session.api.handle.clone();
    // What was allowed must not come back with the next start. If it cannot be written the log says
    // so, and the change is in force all the same.
    Outcome::Later(Box::pin(async move {
        handle.ask(Request::FlushConfig).await;
        if own {
            // Behind the reply.
            client.leave.cancel();
        }
        reply
    }))
}

/// Its user is gone, or may not hear any more what it listens to.
fn is_deprived(client: &super::clients::Client, acl: &Acl) -> bool {
    let state = client.state();
    let Some(user) = acl.get(&state.user) else { return true };
    let heard = &state.subscriptions;
    !heard.channels.iter().all(|name| user.may_hear(name, false))
        || !heard.patterns.iter().all(|name| user.may_hear(name, true))
}

/// Ends all other connections of which this is true; returns whether it is true of this one.
fn end_where(session: &Session, is_due: impl Fn(&super::clients::Client, &Acl) -> bool) -> bool {
    end(&session.api, session.client.id, is_due)
}

fn end(api: &Api, own: u64, is_due: impl Fn(&super::clients::Client, &Acl) -> bool) -> bool {
    let acl = api.users.acl();
    let due = api.clients.all().into_iter().filter(|client| is_due(client, &acl));
    let (mine, others): (Vec<_>, Vec<_>) = due.partition(|client| client.id == own);
    others.iter().for_each(|client| client.kill.cancel());
    !mine.is_empty()
}

/// `ACL DRYRUN name command [arg ...]`
pub(crate) fn dryrun(session: &mut Session, args: &[Bytes]) -> Outcome {
    let acl = session.api.users.acl();
    let name = &args[2];
    if acl.get(name).is_none() {
        let shown = table::quoted(name, 128);
        return Value::error(format!("ERR User '{shown}' not found")).into();
    }
    let asked = &args[3..];
    let Ok(found) = session.api.names.look_up(asked) else {
        let command = table::quoted(&asked[0], 128);
        return Value::error(format!("ERR Command '{command}' not found")).into();
    };
    if let Err(error) = session.api.names.find(asked) {
        return error.into();
    }
    let (command, channels) = (found.name(), users::channels(&found, asked).0);
    match users::check(&acl, name, &found, asked) {
        Ok(()) => Value::ok(),
        Err(Denial::Command) => denied(name, &format!("run the '{command}' command")),
        Err(Denial::Channel(at)) => {
            denied(name, &format!("access the '{}' channel", table::quoted(channels[at], 128)))
        }
    }
    .into()
}

fn denied(name: &[u8], what: &str) -> Value {
    Value::bulk([b"User ", name, b" has no permissions to ", what.as_bytes()].concat())
}

/// `ACL GENPASS [bits]`
pub(crate) fn genpass(_: &mut Session, args: &[Bytes]) -> Outcome {
    let bits = match &args[2..] {
        [] => Ok(PASSWORD_BITS),
        [bits] => integer(bits, "ERR value is not an integer or out of range"),
        _ => return wrong_subcommand("genpass"),
    };
    let bits = match bits {
        Ok(bits) if (1..=PASSWORD_BITS_MAX).contains(&bits) => bits as usize,
        Ok(_) => {
            let text = "ERR ACL GENPASS argument must be the number of bits for the output \
                        password, a positive number up to 4096";
            return Value::error(text).into();
        }
        Err(error) => return error.into(),
    };
    let digits = bits.div_ceil(4);
    let mut password = String::new();
    while password.len() < digits {
        password += &format!("{:016x}", rand::random::<u64>());
    }
    password.truncate(digits);
    Value::bulk(password).into()
}

/// `ACL LOG [count|RESET]`
pub(crate) fn log(session: &mut Session, args: &[Bytes]) -> Outcome {
    let mut log = session.api.users.log();
    let count = match &args[2..] {
        [] => LOG_SHOWN,
        [word] if word.eq_ignore_ascii_case(b"reset") => {
            log.reset();
            return Value::ok().into();
        }
        [count] => match integer(count, "ERR value is not an integer or out of range") {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) => return error.into(),
        },
        _ => return wrong_subcommand("log"),
    };
    let now = unix_ms();
    Value::Array(log.entries().take(count).map(|entry| logged(entry, now)).collect()).into()
}

fn logged(entry: &Entry, now_ms: u64) -> Value {
    let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let denied = &entry.denied;
    let age_s = now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0;
    let pairs = [
        ("count", number(entry.count)),
        ("reason", Value::bulk(denied.reason.name())),
        ("context", Value::bulk("toplevel")),
        ("object", Value::bulk(&denied.object)),
        ("username", Value::bulk(&denied.username)),
        ("age-seconds", Value::Double(age_s)),
        ("client-info", Value::bulk(&denied.client)),
        ("entry-id", number(entry.id)),
        ("timestamp-created", number(entry.created_ms)),
        ("timestamp-last-updated", number(entry.updated_ms)),
    ];
    Value::Map(pairs.map(|(key, value)| (Value::bulk(key), value)).into())
}

/// `ACL LOAD`: connections of users that the file changes or does not have any more are ended.
pub(crate) fn load(session: &mut Session, _: &[Bytes]) -> Outcome {
    let (api, own) = (session.api.clone(), session.client.clone());
    let Some(file) = api.users.file.clone() else { return Value::error(NO_FILE).into() };
    Outcome::Later(Box::pin(async move {
        let reading = api.clone();
        let before = api.users.acl().clone();
        let read = tokio::task::spawn_blocking(move || reading.users.load(&file)).await;
        if let Err(error) = read.unwrap_or_else(|gone| Err(gone.to_string())) {
            return Value::error(format!("ERR {error}"));
        }
        let changed = |client: &super::clients::Client, acl: &Acl| {
            let user = client.state().user.clone();
            let changed =
                user != crate::acl::DEFAULT_USER.as_bytes() && acl.get(&user) != before.get(&user);
            changed || is_deprived(client, acl)
        };
        if end(&api, own.id, changed) {
            // Behind the reply.
            own.leave.cancel();
        }
        Value::ok()
    }))
}

/// `ACL SAVE`: the file is replaced as a whole.
pub(crate) fn save(session: &mut Session, _: &[Bytes]) -> Outcome {
    let users = session.api.users.clone();
    let Some(file) = users.file.clone() else { return Value::error(NO_FILE).into() };
    Outcome::Later(Box::pin(async move {
        let write = move || save_to(&users, &file);
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|_| Value::error(NOT_SAVED))
    }))
}

fn save_to(users: &Arc<Users>, file: &std::path::Path) -> Value {
    // A link leads to the file that is to be replaced.
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let text = users.acl().lines().into_iter().flat_map(|line| [line, b"\n".to_vec()]);
    match daemon::replace_file(&file, &text.collect::<Vec<_>>().concat(), FILE_MODE) {
        Ok(()) => Value::ok(),
        Err(error) => {
            tracing::warn!("ACL SAVE: {error}");
            Value::error(NOT_SAVED)
        }
    }
}
