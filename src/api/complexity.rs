//! How long each command takes, in the words of Redis's documentation, for COMMAND DOCS.

/// A text, and the commands that it is said of.
type Row = (&'static str, &'static [&'static str]);

#[rustfmt::skip]
const TEXTS: &[Row] = &[
    ("O(1)", &[
        "acl|genpass", "acl|help", "acl|whoami", "client|caching", "client|getname",
        "client|getredir", "client|help", "client|id", "client|info", "client|no-evict",
        "client|no-touch", "client|pause", "client|reply", "client|setinfo", "client|setname",
        "client|trackinginfo", "command|count", "command|help", "hello", "info", "ping", "quit",
        "reset", "role", "sentinel|config", "sentinel|flushconfig",
        "sentinel|get-master-addr-by-name", "sentinel|help", "sentinel|is-master-down-by-addr",
        "sentinel|master", "sentinel|monitor", "sentinel|myid", "sentinel|remove", "sentinel|set",
    ]),
    ("Depends on subcommand.", &["acl", "client", "sentinel"]),
    ("O(1).", &["acl|dryrun"]),
    ("O(1) amortized time considering the typical user.", &["acl|deluser"]),
    ("O(1) since the categories and commands are a fixed set.", &["acl|cat"]),
    ("O(1). Some options may introduce additional complexity.", &["client|tracking"]),
    ("O(N) with N being the number of entries shown.", &["acl|log"]),
    ("O(N). Where N is the number of configured users.", &[
        "acl|list", "acl|load", "acl|save", "acl|users",
    ]),
    ("O(N). Where N is the number of rules provided.", &["acl|setuser"]),
    (
        "O(N). Where N is the number of password, command and pattern rules that the user has.",
        &["acl|getuser"],
    ),
    ("O(N) where N is the number of passwords defined for the user", &["auth"]),
    ("O(log N) where N is the number of client connections", &["client|unblock"]),
    ("O(N) where N is the number of client connections", &["client|kill", "client|list"]),
    ("O(N) Where N is the number of paused clients", &["client|unpause"]),
    ("O(N) where N is the total number of Redis commands", &["command", "command|list"]),
    ("O(N) where N is the number of commands to look up", &["command|docs", "command|info"]),
    ("O(N) where N is the number of arguments to the command", &[
        "command|getkeys", "command|getkeysandflags",
    ]),
    (
        "O(N) where N is the number of patterns the client is already subscribed to.",
        &["psubscribe"],
    ),
    (
        "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the \
         total number of subscribed patterns (by any client).",
        &["publish"],
    ),
    (
        "O(N+M) where N is the number of patterns the client is already subscribed and M is the \
         number of total patterns subscribed in the system (by any client).",
        &["punsubscribe"],
    ),
    ("O(N) where N is the number of Sentinels", &["sentinel|sentinels"]),
    ("O(N) where N is the number of masters", &["sentinel|masters"]),
    ("O(N) where N is the number of instances", &["sentinel|info-cache"]),
    ("O(N) where N is the number of slaves", &["sentinel|slaves"]),
    ("O(N) where N is the number of replicas", &["sentinel|replicas"]),
    ("O(N) where N is the number of configurable parameters", &["sentinel|debug"]),
    ("O(N) where N is the number of monitored masters", &["sentinel|reset"]),
    ("O(N) where N is the number of events told", &["sentinel|events"]),
    (
        "O(N) when saving, where N is the total number of keys in all databases when saving data, \
         otherwise O(1)",
        &["shutdown"],
    ),
    ("O(N) where N is the number of channels to subscribe to.", &["subscribe"]),
    (
        "O(N) where N is the number of clients already subscribed to a channel.",
        &["unsubscribe"],
    ),
];

/// What is said of a command; Redis says nothing of some.
pub(crate) fn of(name: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(_, names)| names.contains(&name)).map(|(text, _)| *text)
}
