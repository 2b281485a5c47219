//! The table of commands: names, arity, flags and arguments, and who answers.

use bytes::Bytes;

use super::session::{Outcome, Session};
use super::table::{Arg, Command, Kind, Run};
use super::{acl, catalog, client, commands, events, info, pubsub, sentinel, tracking};
use crate::resp::Value;
use crate::sentinel::Request;

const fn arg(name: &'static str) -> Arg {
    Arg { name, kind: "string", optional: false, multiple: false, parts: &[] }
}

const fn integer(name: &'static str) -> Arg {
    Arg { kind: "integer", ..arg(name) }
}

const fn pattern(name: &'static str) -> Arg {
    Arg { kind: "pattern", ..arg(name) }
}

const fn token(name: &'static str) -> Arg {
    Arg { kind: "pure-token", ..arg(name) }
}

const fn block(name: &'static str, parts: &'static [Arg]) -> Arg {
    Arg { kind: "block", parts, ..arg(name) }
}

impl Arg {
    const fn optional(self) -> Arg {
        Arg { optional: true, ..self }
    }

    const fn multiple(self) -> Arg {
        Arg { multiple: true, ..self }
    }
}

const fn command(
    (name, arity): (&'static str, i64),
    kind: &'static Kind,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    let (alias, same_as, replaced) = (false, None, None);
    let (args, tips, subcommands): (&[Arg], &[&str], &[Command]) = (&[], &[], &[]);
    Command {
        name,
        arity,
        kind,
        since,
        summary,
        args,
        tips,
        alias,
        same_as,
        replaced,
        subcommands,
        run,
    }
}

impl Command {
    const fn args(self, args: &'static [Arg]) -> Command {
        Command { args, ..self }
    }

    const fn tips(self, tips: &'static [&'static str]) -> Command {
        Command { tips, ..self }
    }

    const fn holds(self, subcommands: &'static [Command]) -> Command {
        Command { subcommands, ..self }
    }

    /// The same command under a name that has been replaced since `version` by `by`.
    const fn old(self, name: &'static str, version: &'static str, by: &'static str) -> Command {
        Command { name, since: "2.8.0", alias: true, replaced: Some((version, by)), ..self }
    }

    /// The same command under the name that Valkey gave it.
    const fn valkey(self, name: &'static str) -> Command {
        Command { name, since: "8.0.0", alias: true, same_as: Some(self.name), ..self }
    }
}

const CONNECTION_SUB: Kind = Kind {
    group: "connection",
    flags: &["noscript", "loading", "stale"],
    categories: &["@slow", "@connection"],
};
const CONNECTION_ADMIN: Kind = Kind {
    group: "connection",
    flags: &["admin", "noscript", "loading", "stale"],
    categories: &["@admin", "@slow", "@dangerous", "@connection"],
};
const CONNECTION_HELP: Kind = Kind {
    group: "connection",
    flags: &["loading", "stale"],
    categories: &["@slow", "@connection"],
};
const CONNECTION_CONTAINER: Kind = Kind { group: "connection", flags: &[], categories: &["@slow"] };
const CATALOG: Kind = Kind { group: "server", ..CONNECTION_HELP };
const OPEN: Kind = Kind {
    group: "connection",
    flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
    categories: &["@fast", "@connection"],
};
const PING: Kind =
    Kind { group: "connection", flags: &["fast"], categories: &["@fast", "@connection"] };
const PUBSUB: Kind = Kind {
    group: "pubsub",
    flags: &["pubsub", "noscript", "loading", "stale"],
    categories: &["@pubsub", "@slow"],
};
const PUBLISH: Kind = Kind {
    group: "pubsub",
    flags: &["pubsub", "loading", "stale", "fast"],
    categories: &["@pubsub", "@fast"],
};
const ROLE: Kind = Kind {
    group: "server",
    flags: &["noscript", "loading", "stale", "fast"],
    categories: &["@admin", "@fast", "@dangerous"],
};
const INFO: Kind =
    Kind { group: "server", flags: &["loading", "stale"], categories: &["@slow", "@dangerous"] };
const SHUTDOWN: Kind = Kind {
    group: "server",
    flags: &["admin", "noscript", "loading", "stale", "no_multi", "allow_busy"],
    categories: &["@admin", "@slow", "@dangerous"],
};
const ACL: Kind = Kind { group: "server", flags: &[], categories: &["@slow"] };
const ACL_SUB: Kind =
    Kind { group: "server", flags: &["noscript", "loading", "stale"], categories: &["@slow"] };
const ACL_ADMIN: Kind = Kind {
    group: "server",
    flags: &["admin", "noscript", "loading", "stale"],
    categories: &["@admin", "@slow", "@dangerous"],
};
const ACL_HELP: Kind =
    Kind { group: "server", flags: &["loading", "stale"], categories: &["@slow"] };
const SENTINEL: Kind =
    Kind { group: "sentinel", flags: &["admin"], categories: &["@admin", "@slow", "@dangerous"] };
const SENTINEL_HELP: Kind = Kind { group: "sentinel", ..ACL_HELP };

const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];
const ANY_OUTPUT: &[&str] = &["nondeterministic_output"];
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const INFO_TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
const HELP: &str = "Prints this help.";

/// Every command, by name.
pub(super) static COMMANDS: &[Command] = &[
    command(("acl", -2), &ACL, "6.0.0", "Access control lists.", Run::Container).holds(ACL_TABLE),
    command(
        ("auth", -2),
        &OPEN,
        "1.0.0",
        "Authenticates the connection.",
        Run::Here(commands::auth),
    )
    .args(&[arg("username").optional(), arg("password")]),
    command(("client", -2), &CONNECTION_CONTAINER, "2.4.0", "Connections.", Run::Container)
        .holds(CLIENT_TABLE),
    command(("command", -1), &CATALOG, "2.8.13", "Describes commands.", Run::Here(catalog::info))
        .tips(ANY_ORDER)
        .holds(COMMAND_TABLE),
    command(("hello", -1), &OPEN, "6.0.0", "Greets, and chooses RESP2 or RESP3.", HELLO).args(&[
        integer("protover").optional(),
        block("auth", &[token("auth"), arg("username"), arg("password")]).optional(),
        block("setname", &[token("setname"), arg("clientname")]).optional(),
    ]),
    command(("info", -1), &INFO, "1.0.0", "Shows facts and figures.", Run::Here(info::info))
        .args(&[arg("section").optional().multiple()])
        .tips(INFO_TIPS),
    command(("ping", -1), &PING, "1.0.0", "Answers PONG.", Run::Here(commands::ping))
        .args(&[arg("message").optional()])
        .tips(ALL_SHARDS),
    command(
        ("psubscribe", -2),
        &PUBSUB,
        "2.0.0",
        "Listens to the events whose names match.",
        Run::Here(pubsub::psubscribe),
    )
    .args(&[pattern("pattern").multiple()]),
    command(("publish", 3), &PUBLISH, "2.0.0", "Takes another sentinel's hello.", PUBLISH_RUN)
        .args(&[arg("channel"), arg("message")]),
    command(
        ("punsubscribe", -1),
        &PUBSUB,
        "2.0.0",
        "Ends subscriptions to patterns.",
        Run::Here(pubsub::punsubscribe),
    )
    .args(&[pattern("pattern").optional().multiple()]),
    command(("quit", -1), &OPEN, "1.0.0", "Closes the connection.", Run::Here(commands::quit)),
    command(("reset", 1), &OPEN, "6.2.0", "Starts the connection afresh.", RESET),
    command(("role", 1), &ROLE, "2.8.12", "Names the masters watched.", Run::Core(sentinel::role)),
    command(("sentinel", -2), &SENTINEL, "2.8.4", "Watches masters.", Run::Container)
        .holds(SENTINEL_TABLE),
    command(
        ("shutdown", -1),
        &SHUTDOWN,
        "1.0.0",
        "Ends the sentinel; there is nothing to save.",
        Run::Here(commands::shutdown),
    )
    .args(&[
        token("nosave").optional(),
        token("save").optional(),
        token("now").optional(),
        token("force").optional(),
        token("abort").optional(),
    ]),
    command(
        ("subscribe", -2),
        &PUBSUB,
        "2.0.0",
        "Listens to events by name.",
        Run::Here(pubsub::subscribe),
    )
    .args(&[arg("channel").multiple()]),
    command(
        ("unsubscribe", -1),
        &PUBSUB,
        "2.0.0",
        "Ends subscriptions.",
        Run::Here(pubsub::unsubscribe),
    )
    .args(&[arg("channel").optional().multiple()]),
];

const HELLO: Run = Run::Here(commands::hello);
const RESET: Run = Run::Here(commands::reset);
const PUBLISH_RUN: Run = Run::Core(sentinel::publish);

const fn acl_row(
    name_arity: (&'static str, i64),
    kind: &'static Kind,
    summary: &'static str,
    run: fn(&mut Session, &[Bytes]) -> Outcome,
) -> Command {
    command(name_arity, kind, "6.0.0", summary, Run::Here(run))
}

const USERNAME: &[Arg] = &[arg("username")];

const ACL_TABLE: &[Command] = &[
    acl_row(("cat", -2), &ACL_SUB, "Names all categories, or the commands of one.", acl::cat)
        .args(&[arg("category").optional()]),
    acl_row(("deluser", -3), &ACL_ADMIN, "Deletes users and ends their connections.", acl::deluser)
        .args(&[arg("username").multiple()]),
    Command {
        since: "7.0.0",
        ..acl_row(("dryrun", -4), &ACL_ADMIN, "Tells whether a user may do this.", acl::dryrun)
            .args(&[arg("username"), arg("command"), arg("arg").optional().multiple()])
    },
    acl_row(("genpass", -2), &ACL_SUB, "Makes a random password.", acl::genpass)
        .args(&[integer("bits").optional()]),
    acl_row(("getuser", 3), &ACL_ADMIN, "Shows one user.", acl::getuser).args(USERNAME),
    command(("help", 2), &ACL_HELP, "6.0.0", HELP, Run::Here(catalog::help)),
    acl_row(("list", 2), &ACL_ADMIN, "Shows all users as files have them.", acl::list),
    acl_row(("load", 2), &ACL_ADMIN, "Reads the ACL file again.", acl::load),
    acl_row(("log", -2), &ACL_ADMIN, "Shows what was denied, or forgets it.", acl::log)
        .args(&[integer("count").optional(), token("reset").optional()]),
    acl_row(("save", 2), &ACL_ADMIN, "Writes the ACL file.", acl::save),
    acl_row(("setuser", -3), &ACL_ADMIN, "Makes or changes a user by rules.", acl::setuser)
        .args(&[arg("username"), arg("rule").optional().multiple()]),
    acl_row(("users", 2), &ACL_ADMIN, "Names all users.", acl::users),
    acl_row(("whoami", 2), &ACL_SUB, "Names the user of this connection.", acl::whoami),
];

const COMMAND_TABLE: &[Command] = &[
    command(
        ("count", 2),
        &CATALOG,
        "2.8.13",
        "Counts the commands, without subcommands.",
        Run::Here(catalog::count),
    ),
    command(
        ("docs", -2),
        &CATALOG,
        "7.0.0",
        "Documents these commands, or all.",
        Run::Here(catalog::docs),
    )
    .args(&[arg("command-name").optional().multiple()])
    .tips(ANY_ORDER),
    command(
        ("getkeys", -3),
        &CATALOG,
        "2.8.13",
        "Names the keys in a command; no command of a sentinel has any.",
        Run::Here(catalog::keys),
    )
    .args(&[arg("command"), arg("arg").optional().multiple()]),
    command(
        ("getkeysandflags", -3),
        &CATALOG,
        "7.0.0",
        "Names the keys in a command and what becomes of them.",
        Run::Here(catalog::keys),
    )
    .args(&[arg("command"), arg("arg").optional().multiple()]),
    command(("help", 2), &CATALOG, "5.0.0", HELP, Run::Here(catalog::help)),
    command(
        ("info", -2),
        &CATALOG,
        "2.8.13",
        "Describes these commands, or all.",
        Run::Here(catalog::info),
    )
    .args(&[arg("command-name").optional().multiple()])
    .tips(ANY_ORDER),
    command(
        ("list", -2),
        &CATALOG,
        "7.0.0",
        "Names all commands, or those of a category or pattern.",
        Run::Here(catalog::list),
    )
    .args(&[block("filterby", &[token("filterby"), token("module|aclcat|pattern"), arg("value")])
        .optional()])
    .tips(ANY_ORDER),
];

const CLIENT_TABLE: &[Command] = &[
    command(
        ("caching", 3),
        &CONNECTION_SUB,
        "6.0.0",
        "Accepted where CLIENT TRACKING has OPTIN or OPTOUT.",
        Run::Here(tracking::caching),
    )
    .args(&[token("yes|no")]),
    command(
        ("getname", 2),
        &CONNECTION_SUB,
        "2.6.9",
        "Shows this connection's name.",
        Run::Here(client::getname),
    ),
    command(
        ("getredir", 2),
        &CONNECTION_SUB,
        "6.0.0",
        "Shows to whom CLIENT TRACKING redirects.",
        Run::Here(tracking::getredir),
    ),
    command(("help", 2), &CONNECTION_HELP, "5.0.0", HELP, Run::Here(catalog::help)),
    command(
        ("id", 2),
        &CONNECTION_SUB,
        "5.0.0",
        "Shows this connection's id.",
        Run::Here(client::id),
    ),
    command(
        ("info", 2),
        &CONNECTION_SUB,
        "6.2.0",
        "Describes this connection.",
        Run::Here(client::info),
    )
    .tips(ANY_OUTPUT),
    command(
        ("kill", -3),
        &CONNECTION_ADMIN,
        "2.4.0",
        "Closes the connection of this address, or all that match \
         (ID, TYPE, USER, ADDR, LADDR, MAXAGE, SKIPME yes|no).",
        Run::Here(client::kill),
    )
    .args(&[
        arg("ip:port").optional(),
        block("filter", &[arg("option"), arg("value")]).optional().multiple(),
    ]),
    command(
        ("list", -2),
        &CONNECTION_ADMIN,
        "2.4.0",
        "Describes all connections, those of a type, or those of these ids.",
        Run::Here(client::list),
    )
    .args(&[
        block("type", &[token("type"), token("normal|master|replica|pubsub")]).optional(),
        block("id", &[token("id"), integer("client-id").multiple()]).optional(),
    ])
    .tips(ANY_OUTPUT),
    command(
        ("no-evict", 3),
        &CONNECTION_ADMIN,
        "7.0.0",
        "Protects this connection from eviction, of which a sentinel has none.",
        Run::Here(client::no_evict),
    )
    .args(&[token("on|off")]),
    command(
        ("no-touch", 3),
        &CONNECTION_SUB,
        "7.2.0",
        "Accepted: a sentinel has no keys to touch.",
        Run::Here(client::no_touch),
    )
    .args(&[token("on|off")]),
    command(
        ("pause", -3),
        &CONNECTION_ADMIN,
        "3.0.0",
        "Holds all clients for so many milliseconds, and other sentinels are clients too.",
        Run::Here(client::pause),
    )
    .args(&[integer("timeout"), token("write|all").optional()]),
    command(
        ("reply", 3),
        &CONNECTION_SUB,
        "3.2.0",
        "Sends replies, none, or none to the next command.",
        Run::Here(client::reply),
    )
    .args(&[token("on|off|skip")]),
    command(
        ("setinfo", 4),
        &CONNECTION_SUB,
        "7.2.0",
        "Notes the client library's name or version.",
        Run::Here(client::setinfo),
    )
    .args(&[token("lib-name|lib-ver"), arg("value")]),
    command(
        ("setname", 3),
        &CONNECTION_SUB,
        "2.6.9",
        "Names this connection.",
        Run::Here(client::setname),
    )
    .args(&[arg("connection-name")]),
    command(
        ("tracking", -3),
        &CONNECTION_SUB,
        "6.0.0",
        "Accepted: a sentinel has no keys, so nothing is ever invalidated.",
        Run::Here(tracking::tracking),
    )
    .args(&[
        token("on|off"),
        block("redirect", &[token("redirect"), integer("client-id")]).optional(),
        block("prefix", &[token("prefix"), arg("prefix")]).optional().multiple(),
        token("bcast").optional(),
        token("optin").optional(),
        token("optout").optional(),
        token("noloop").optional(),
    ]),
    command(
        ("trackinginfo", 2),
        &CONNECTION_SUB,
        "6.2.0",
        "Shows what CLIENT TRACKING was told.",
        Run::Here(tracking::trackinginfo),
    ),
    command(
        ("unblock", -3),
        &CONNECTION_ADMIN,
        "5.0.0",
        "Answers 0: no client of a sentinel is ever blocked.",
        Run::Here(client::unblock),
    )
    .args(&[integer("client-id"), token("timeout|error").optional()]),
    command(
        ("unpause", 2),
        &CONNECTION_ADMIN,
        "6.2.0",
        "Ends CLIENT PAUSE.",
        Run::Here(client::unpause),
    ),
];

const fn ask(
    name: &'static str,
    arity: i64,
    since: &'static str,
    summary: &'static str,
    request: fn(&[Bytes]) -> Result<Request, Value>,
) -> Command {
    command((name, arity), &SENTINEL, since, summary, Run::Core(request))
}

const MASTER_NAME: &[Arg] = &[arg("master-name")];

const MASTERS: Command =
    ask("masters", 2, "2.8.4", "Shows all masters watched.", sentinel::masters);
const MASTER: Command =
    ask("master", 3, "2.8.4", "Shows one master.", sentinel::master).args(MASTER_NAME);
const REPLICAS: Command =
    ask("replicas", 3, "5.0.0", "Shows a master's replicas.", sentinel::replicas).args(MASTER_NAME);
const ADDRESS: Command = ask(
    "get-master-addr-by-name",
    3,
    "2.8.4",
    "Tells where the master of that name is.",
    sentinel::master_address,
)
.args(MASTER_NAME);
const IS_DOWN: Command = ask(
    "is-master-down-by-addr",
    6,
    "2.8.4",
    "Asked by other sentinels: is the master there down, and may the one of that id lead?",
    sentinel::is_master_down,
)
.args(&[arg("ip"), integer("port"), integer("current-epoch"), arg("runid")]);

const SENTINEL_TABLE: &[Command] = &[
    ask("ckquorum", 3, "2.8.4", "Tells whether a failover could be agreed.", sentinel::ckquorum)
        .args(MASTER_NAME),
    ask(
        "config",
        -4,
        "6.2.0",
        "Shows (GET) or changes (SET) what concerns the whole sentinel; SET is saved.",
        sentinel::config,
    )
    .args(&[token("get|set"), arg("parameter"), arg("value").optional().multiple()]),
    ask(
        "debug",
        -2,
        "7.0.0",
        "Shows or changes the times by which the sentinel works; not saved.",
        sentinel::debug,
    )
    .args(&[block("option_value", &[arg("option"), arg("value")]).optional().multiple()]),
    command(
        ("events", -2),
        &SENTINEL,
        "7.2.0",
        "Shows the last events, or those after one of them; only Watchfire has it.",
        Run::Here(events::events),
    )
    .args(&[
        block("since", &[token("since"), arg("event-id")]).optional(),
        block("count", &[token("count"), integer("count")]).optional(),
    ])
    .tips(ANY_OUTPUT),
    ask(
        "failover",
        -3,
        "2.8.4",
        "Promotes a replica now if a majority agrees; COORDINATED: only if nothing is lost.",
        sentinel::failover,
    )
    .args(&[arg("master-name"), token("coordinated").optional()]),
    ask("flushconfig", 2, "2.8.4", "Writes the state to disk.", sentinel::flushconfig),
    ADDRESS,
    ADDRESS.valkey("get-primary-addr-by-name"),
    command(("help", 2), &SENTINEL_HELP, "6.2.0", HELP, Run::Here(catalog::help)),
    ask(
        "info-cache",
        -3,
        "3.2.0",
        "Shows the last INFO of masters and their replicas, and how old it is.",
        sentinel::info_cache,
    )
    .args(&[arg("master-name").multiple()]),
    IS_DOWN,
    IS_DOWN.valkey("is-primary-down-by-addr"),
    MASTER,
    MASTER.valkey("primary"),
    MASTERS,
    MASTERS.valkey("primaries"),
    command(
        ("monitor", 6),
        &SENTINEL,
        "2.8.4",
        "Watches one more master.",
        Run::Here(sentinel::monitor),
    )
    .args(&[arg("name"), arg("ip"), integer("port"), integer("quorum")]),
    ask("myid", 2, "6.2.0", "Shows this sentinel's id.", sentinel::myid),
    command(
        ("pending-scripts", 2),
        &SENTINEL,
        "2.8.4",
        "Shows the scripts that run or wait to.",
        Run::Here(sentinel::pending_scripts),
    ),
    ask("remove", 3, "2.8.4", "Watches a master no longer.", sentinel::remove).args(MASTER_NAME),
    REPLICAS,
    ask(
        "reset",
        3,
        "2.8.4",
        "Forgets what was found out about the masters whose names match.",
        sentinel::reset,
    )
    .args(&[pattern("pattern")]),
    ask("sentinels", 3, "2.8.4", "Shows the other sentinels of a master.", sentinel::sentinels)
        .args(MASTER_NAME),
    command(
        ("set", -5),
        &SENTINEL,
        "2.8.4",
        "Changes how a master is watched.",
        Run::Here(sentinel::set),
    )
    .args(&[arg("master-name"), block("option_value", &[arg("option"), arg("value")]).multiple()]),
    ask(
        "simulate-failure",
        -3,
        "3.2.0",
        "Makes this sentinel crash in the next failover that it leads.",
        sentinel::simulate_failure,
    )
    .args(&[token("crash-after-election|crash-after-promotion|help").multiple()]),
    Command { since: "2.8.0", ..REPLICAS.old("slaves", "5.0.0", "`SENTINEL REPLICAS`") },
];
