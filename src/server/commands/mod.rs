//! The commands: one table that says how each is named, what it takes, when it may run and what
//! runs it. The flags, key positions and categories are those that Redis's `COMMAND` shows.

mod admin;
mod client;
mod introspect;
mod keys;
mod pubsub;
mod replication;
mod strings;
mod transactions;

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::resp::Value;

use super::client::{Client, ClientId};
use super::node::Node;

/// What a command answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// One reply.
    Value(Value),
    /// The handler has replied itself, or there is no reply.
    Done,
    /// The client waits; its reply comes later.
    Wait,
}

/// A reply, or the text of an error with its code word.
pub(super) type Answer = Result<Reply, Cow<'static, str>>;

/// What becomes of a command that has changed data.
#[derive(Debug)]
pub(super) enum Effect {
    /// Replicas execute it as it came.
    AsSent,
    /// Replicas execute this instead.
    Instead(Vec<Bytes>),
}

/// One execution of one command.
pub(super) struct Call<'a> {
    pub(super) node: &'a mut Node,
    pub(super) id: ClientId,
    /// The database that the client had selected.
    pub(super) db: usize,
    /// The command's name and its arguments.
    pub(super) args: &'a [Bytes],
    pub(super) effect: Effect,
}

impl Call<'_> {
    /// The client that sent it.
    pub(super) fn client(&mut self) -> &mut Client {
        self.node
            .clients
            .get_mut(&self.id)
            .expect("a client is forgotten only between its commands")
    }

    /// The arguments from `first` on as text; bytes that are no UTF-8 are replaced.
    pub(super) fn words(&self, first: usize) -> Vec<String> {
        self.args[first..].iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect()
    }

    /// Whether argument `index` is this word, in any case.
    pub(super) fn is(&self, index: usize, word: &str) -> bool {
        self.args.get(index).is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
    }

    pub(super) fn int(&self, index: usize) -> Result<i64, Cow<'static, str>> {
        int(&self.args[index])
    }

    /// Lets replicas execute one other command instead of this one.
    pub(super) fn replicate(&mut self, args: Vec<Bytes>) {
        self.effect = Effect::Instead(args);
    }
}

pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NOT_INT: &str = "ERR value is not an integer or out of range";

/// Reads an integer argument.
pub(super) fn int(text: &[u8]) -> Result<i64, Cow<'static, str>> {
    crate::resp::number::parse_int(text).ok_or(Cow::Borrowed(NOT_INT))
}

fn refuse(text: &'static str) -> Answer {
    Err(Cow::Borrowed(text))
}

fn value(value: Value) -> Answer {
    Ok(Reply::Value(value))
}

fn ok() -> Answer {
    value(Value::ok())
}

fn number(number: impl TryInto<i64>) -> Answer {
    value(Value::Integer(number.try_into().unwrap_or(i64::MAX)))
}

fn text(text: impl AsRef<[u8]>) -> Answer {
    value(Value::bulk(text))
}

fn null() -> Answer {
    value(Value::Null)
}

/// `Null` or a bulk.
fn maybe(bytes: Option<Bytes>) -> Value {
    bytes.map_or(Value::Null, Value::Bulk)
}

/// Lines of `HELP`.
fn help(lines: &[&str]) -> Answer {
    value(Value::Array(lines.iter().map(|l| Value::Simple(l.to_string())).collect()))
}

/// A set of [`Command`] flags.
pub(super) type Flags = u32;
pub(super) const WRITE: Flags = 1;
pub(super) const READONLY: Flags = 1 << 1;
pub(super) const DENYOOM: Flags = 1 << 2;
pub(super) const ADMIN: Flags = 1 << 3;
pub(super) const PUBSUB: Flags = 1 << 4;
pub(super) const NOSCRIPT: Flags = 1 << 5;
pub(super) const LOADING: Flags = 1 << 6;
pub(super) const STALE: Flags = 1 << 7;
pub(super) const FAST: Flags = 1 << 8;
pub(super) const NO_AUTH: Flags = 1 << 9;
pub(super) const NO_MULTI: Flags = 1 << 10;
/// Not shown by `COMMAND`: it can reach replicas although it is no write, so a write pause stops
/// it.
pub(super) const MAY_REPLICATE: Flags = 1 << 11;

/// The flags by name, in the order in which `COMMAND` lists them.
pub(super) const FLAG_NAMES: [(Flags, &str); 11] = [
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (NO_MULTI, "no_multi"),
];

/// First key, last key (from the end if negative), step; 0 for a command without keys.
type Keys = (i32, i32, i32);

/// One row of the table.
#[derive(Debug)]
pub(super) struct Command {
    /// Lower case; a subcommand has its container in front: `client|kill`.
    pub(super) name: &'static str,
    /// Words with the name; at least so many if negative.
    pub(super) arity: i32,
    pub(super) flags: Flags,
    pub(super) keys: Keys,
    /// Categories beyond those that follow from the flags.
    pub(super) group: &'static [&'static str],
    run: fn(&mut Call<'_>) -> Answer,
    pub(super) subcommands: &'static [Command],
}

impl Command {
    pub(super) fn is(&self, flag: Flags) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn takes(&self, words: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { words >= arity } else { words == arity }
    }

    pub(super) fn run(&self, call: &mut Call<'_>) -> Answer {
        (self.run)(call)
    }

    /// The keys among a command's words.
    pub(super) fn keys_of<'a>(&self, args: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> {
        let (first, last, step) = self.keys;
        let last = if last < 0 { args.len() as i32 + last } else { last };
        let step = usize::try_from(step).unwrap_or(1).max(1);
        let range = if first > 0 { first as usize..(last + 1).max(0) as usize } else { 0..0 };
        range.step_by(step).filter_map(|i| args.get(i))
    }
}

/// Looks a command up by its first word, and by the second if the first names a container.
pub(super) fn find(args: &[Bytes]) -> Result<&'static Command, Cow<'static, str>> {
    let unknown = || -> Cow<'static, str> {
        let shown = |b: &Bytes| String::from_utf8_lossy(&b[..b.len().min(128)]).into_owned();
        let mut rest = String::new();
        for arg in &args[1..] {
            if rest.len() >= 128 {
                break;
            }
            rest.push_str(&format!("'{}' ", shown(arg)));
        }
        let name = shown(&args[0]);
        format!("ERR unknown command '{name}', with args beginning with: {rest}").into()
    };
    let command = by_name(&args[0]).ok_or_else(unknown)?;
    if command.subcommands.is_empty() || args.len() < 2 {
        return Ok(command);
    }
    let is_meant = |sub: &&Command| {
        sub.name.split('|').nth(1).is_some_and(|n| args[1].eq_ignore_ascii_case(n.as_bytes()))
    };
    command.subcommands.iter().find(is_meant).ok_or_else(|| {
        let (sub, name) = (String::from_utf8_lossy(&args[1]), command.name.to_ascii_uppercase());
        let sub: String = sub.chars().take(128).collect();
        format!("ERR unknown subcommand '{sub}'. Try {name} HELP.").into()
    })
}

/// Looks a command up by its name in any case; containers are not looked into.
pub(super) fn by_name(name: &[u8]) -> Option<&'static Command> {
    const LONGEST: usize = 16;
    static INDEX: LazyLock<HashMap<&'static [u8], &'static Command>> =
        LazyLock::new(|| TABLE.iter().map(|c| (c.name.as_bytes(), c)).collect());
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    INDEX.get(&lower[..]).copied()
}

/// Runs a container without a subcommand; its arity has refused that already.
fn container(_: &mut Call<'_>) -> Answer {
    refuse("ERR wrong number of arguments")
}

const fn plain(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: Keys,
    group: &'static [&'static str],
    run: fn(&mut Call<'_>) -> Answer,
) -> Command {
    Command { name, arity, flags, keys, group, run, subcommands: &[] }
}

const fn group(name: &'static str, subcommands: &'static [Command]) -> Command {
    Command { name, arity: -2, flags: 0, keys: NONE, group: &[], run: container, subcommands }
}

const NONE: Keys = (0, 0, 0);
const ONE: Keys = (1, 1, 1);
const ALL: Keys = (1, -1, 1);
const PAIRS: Keys = (1, -1, 2);
const TWO: Keys = (1, 2, 1);

const STRING: &[&str] = &["string"];
const KEYSPACE: &[&str] = &["keyspace"];
const KEYSPACE_DANGEROUS: &[&str] = &["keyspace", "dangerous"];
const CONNECTION: &[&str] = &["connection"];
const TRANSACTION: &[&str] = &["transaction"];
const PLAIN: &[&str] = &[];

const GROW: Flags = WRITE | DENYOOM;
const SESSION: Flags = NOSCRIPT | LOADING | STALE;
const OPERATOR: Flags = ADMIN | SESSION;
const ANYTIME: Flags = LOADING | STALE;
const LISTEN: Flags = PUBSUB | SESSION;

/// All commands.
#[rustfmt::skip]
pub(super) static TABLE: &[Command] = &[
    plain("get", 2, READONLY | FAST, ONE, STRING, strings::get),
    plain("set", -3, GROW, ONE, STRING, strings::set),
    plain("setnx", 3, GROW | FAST, ONE, STRING, strings::setnx),
    plain("setex", 4, GROW, ONE, STRING, strings::setex),
    plain("psetex", 4, GROW, ONE, STRING, strings::psetex),
    plain("getset", 3, GROW | FAST, ONE, STRING, strings::getset),
    plain("getdel", 2, WRITE | FAST, ONE, STRING, strings::getdel),
    plain("getex", -2, WRITE | FAST, ONE, STRING, strings::getex),
    plain("mget", -2, READONLY | FAST, ALL, STRING, strings::mget),
    plain("mset", -3, GROW, PAIRS, STRING, strings::mset),
    plain("msetnx", -3, GROW, PAIRS, STRING, strings::msetnx),
    plain("append", 3, GROW | FAST, ONE, STRING, strings::append),
    plain("strlen", 2, READONLY | FAST, ONE, STRING, strings::strlen),
    plain("getrange", 4, READONLY, ONE, STRING, strings::getrange),
    plain("substr", 4, READONLY, ONE, STRING, strings::getrange),
    plain("setrange", 4, GROW, ONE, STRING, strings::setrange),
    plain("incr", 2, GROW | FAST, ONE, STRING, strings::incr),
    plain("decr", 2, GROW | FAST, ONE, STRING, strings::decr),
    plain("incrby", 3, GROW | FAST, ONE, STRING, strings::incrby),
    plain("decrby", 3, GROW | FAST, ONE, STRING, strings::decrby),
    plain("incrbyfloat", 3, GROW | FAST, ONE, STRING, strings::incrbyfloat),
    plain("del", -2, WRITE, ALL, KEYSPACE, keys::del),
    plain("unlink", -2, WRITE | FAST, ALL, KEYSPACE, keys::del),
    plain("exists", -2, READONLY | FAST, ALL, KEYSPACE, keys::exists),
    plain("type", 2, READONLY | FAST, ONE, KEYSPACE, keys::type_of),
    plain("keys", 2, READONLY, NONE, KEYSPACE_DANGEROUS, keys::keys),
    plain("scan", -2, READONLY, NONE, KEYSPACE, keys::scan),
    plain("randomkey", 1, READONLY, NONE, KEYSPACE, keys::randomkey),
    plain("rename", 3, WRITE, TWO, KEYSPACE, keys::rename),
    plain("renamenx", 3, WRITE | FAST, TWO, KEYSPACE, keys::renamenx),
    plain("copy", -3, GROW, TWO, KEYSPACE, keys::copy),
    plain("touch", -2, READONLY | FAST, ALL, KEYSPACE, keys::exists),
    plain("expire", -3, WRITE | FAST, ONE, KEYSPACE, keys::expire),
    plain("pexpire", -3, WRITE | FAST, ONE, KEYSPACE, keys::pexpire),
    plain("expireat", -3, WRITE | FAST, ONE, KEYSPACE, keys::expireat),
    plain("pexpireat", -3, WRITE | FAST, ONE, KEYSPACE, keys::pexpireat),
    plain("ttl", 2, READONLY | FAST, ONE, KEYSPACE, keys::ttl),
    plain("pttl", 2, READONLY | FAST, ONE, KEYSPACE, keys::pttl),
    plain("expiretime", 2, READONLY | FAST, ONE, KEYSPACE, keys::expiretime),
    plain("pexpiretime", 2, READONLY | FAST, ONE, KEYSPACE, keys::pexpiretime),
    plain("persist", 2, WRITE | FAST, ONE, KEYSPACE, keys::persist),
    plain("dbsize", 1, READONLY | FAST, NONE, KEYSPACE, keys::dbsize),
    plain("flushdb", -1, WRITE, NONE, KEYSPACE_DANGEROUS, keys::flushdb),
    plain("flushall", -1, WRITE, NONE, KEYSPACE_DANGEROUS, keys::flushall),
    plain("select", 2, ANYTIME | FAST, NONE, CONNECTION, keys::select),
    plain("swapdb", 3, WRITE | FAST, NONE, KEYSPACE_DANGEROUS, keys::swapdb),
    plain("move", 3, WRITE | FAST, ONE, KEYSPACE, keys::move_key),
    group("object", &[
        plain("object|encoding", 3, READONLY, (2, 2, 1), KEYSPACE, keys::object_encoding),
        plain("object|refcount", 3, READONLY, (2, 2, 1), KEYSPACE, keys::object_refcount),
        plain("object|help", 2, ANYTIME, NONE, KEYSPACE, keys::object_help),
    ]),
    plain("multi", 1, SESSION | FAST, NONE, TRANSACTION, transactions::multi),
    plain("exec", 1, SESSION, NONE, TRANSACTION, transactions::exec),
    plain("discard", 1, SESSION | FAST, NONE, TRANSACTION, transactions::discard),
    plain("watch", -2, SESSION | FAST, ALL, TRANSACTION, transactions::watch),
    plain("unwatch", 1, SESSION | FAST, NONE, TRANSACTION, transactions::unwatch),
    plain("subscribe", -2, LISTEN, NONE, PLAIN, pubsub::subscribe),
    plain("psubscribe", -2, LISTEN, NONE, PLAIN, pubsub::psubscribe),
    plain("unsubscribe", -1, LISTEN, NONE, PLAIN, pubsub::unsubscribe),
    plain("punsubscribe", -1, LISTEN, NONE, PLAIN, pubsub::punsubscribe),
    plain("publish", 3, PUBSUB | ANYTIME | FAST | MAY_REPLICATE, NONE, PLAIN, pubsub::publish),
    group("pubsub", &[
        plain("pubsub|channels", -2, PUBSUB | ANYTIME, NONE, PLAIN, pubsub::channels),
        plain("pubsub|numsub", -2, PUBSUB | ANYTIME, NONE, PLAIN, pubsub::numsub),
        plain("pubsub|numpat", 2, PUBSUB | ANYTIME, NONE, PLAIN, pubsub::numpat),
        plain("pubsub|help", 2, ANYTIME, NONE, PLAIN, pubsub::pubsub_help),
    ]),
    plain("ping", -1, FAST, NONE, CONNECTION, client::ping),
    plain("echo", 2, ANYTIME | FAST, NONE, CONNECTION, client::echo),
    plain("quit", -1, SESSION | FAST | NO_AUTH, NONE, CONNECTION, client::quit),
    plain("reset", 1, SESSION | FAST | NO_AUTH, NONE, CONNECTION, client::reset),
    plain("hello", -1, SESSION | FAST | NO_AUTH, NONE, CONNECTION, client::hello),
    plain("auth", -2, SESSION | FAST | NO_AUTH, NONE, CONNECTION, client::auth),
    group("client", &[
        plain("client|id", 2, SESSION, NONE, CONNECTION, client::id),
        plain("client|getname", 2, SESSION, NONE, CONNECTION, client::getname),
        plain("client|setname", 3, SESSION, NONE, CONNECTION, client::setname),
        plain("client|setinfo", 4, SESSION, NONE, CONNECTION, client::setinfo),
        plain("client|info", 2, SESSION, NONE, CONNECTION, client::info),
        plain("client|list", -2, OPERATOR, NONE, CONNECTION, client::list),
        plain("client|kill", -3, OPERATOR, NONE, CONNECTION, client::kill),
        plain("client|pause", -3, OPERATOR, NONE, CONNECTION, client::pause),
        plain("client|unpause", 2, OPERATOR, NONE, CONNECTION, client::unpause),
        plain("client|reply", 3, SESSION, NONE, CONNECTION, client::reply),
        plain("client|no-evict", 3, OPERATOR, NONE, CONNECTION, client::no_evict),
        plain("client|no-touch", 3, SESSION, NONE, CONNECTION, client::no_touch),
        plain("client|help", 2, ANYTIME, NONE, CONNECTION, client::client_help),
    ]),
    group("config", &[
        plain("config|get", -3, OPERATOR, NONE, PLAIN, admin::config_get),
        plain("config|set", -4, OPERATOR, NONE, PLAIN, admin::config_set),
        plain("config|rewrite", 2, OPERATOR, NONE, PLAIN, admin::config_rewrite),
        plain("config|resetstat", 2, OPERATOR, NONE, PLAIN, admin::config_resetstat),
        plain("config|help", 2, ANYTIME, NONE, PLAIN, admin::config_help),
    ]),
    plain("info", -1, ANYTIME, NONE, &["dangerous"], admin::info),
    plain("role", 1, SESSION | FAST, NONE, &["admin", "dangerous"], replication::role),
    Command {
        name: "command", arity: -1, flags: ANYTIME, keys: NONE, group: CONNECTION,
        run: introspect::all,
        subcommands: &[
            plain("command|count", 2, ANYTIME, NONE, CONNECTION, introspect::count),
            plain("command|info", -2, ANYTIME, NONE, CONNECTION, introspect::info),
            plain("command|list", -2, ANYTIME, NONE, CONNECTION, introspect::list),
            plain("command|docs", -2, ANYTIME, NONE, CONNECTION, introspect::docs),
            plain("command|getkeys", -3, ANYTIME, NONE, CONNECTION, introspect::getkeys),
            plain("command|help", 2, ANYTIME, NONE, CONNECTION, introspect::command_help),
        ],
    },
    plain("time", 1, ANYTIME | FAST, NONE, PLAIN, admin::time),
    plain("debug", -2, OPERATOR, NONE, PLAIN, admin::debug),
    plain("shutdown", -1, OPERATOR | NO_MULTI, NONE, PLAIN, admin::shutdown),
    plain("lastsave", 1, ANYTIME | FAST, NONE, &["admin", "dangerous"], admin::lastsave),
    plain("save", 1, ADMIN | NOSCRIPT | NO_MULTI, NONE, PLAIN, admin::save),
    plain("bgsave", -1, ADMIN | NOSCRIPT, NONE, PLAIN, admin::save),
    plain("bgrewriteaof", 1, ADMIN | NOSCRIPT, NONE, PLAIN, admin::save),
    group("script", &[
        plain("script|kill", 2, NOSCRIPT, NONE, &["scripting"], admin::script_kill),
    ]),
    plain("wait", 3, NOSCRIPT, NONE, CONNECTION, replication::wait),
    plain("slaveof", 3, ADMIN | NOSCRIPT | STALE, NONE, PLAIN, replication::replicaof),
    plain("replicaof", 3, ADMIN | NOSCRIPT | STALE, NONE, PLAIN, replication::replicaof),
    plain("replconf", -1, OPERATOR, NONE, PLAIN, replication::replconf),
    plain("psync", -3, ADMIN | NOSCRIPT | NO_MULTI, NONE, PLAIN, replication::psync),
    plain("sync", 1, ADMIN | NOSCRIPT | NO_MULTI, NONE, PLAIN, replication::psync),
];
