//! Our own syntax: YAML with times as people write them (`5s`), no runtime state, and passwords
//! that may live elsewhere. All problems of a file are found at once, each with its place.

mod node;
#[cfg(test)]
mod tests;
mod transport;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Severity};
use super::own;
use super::rules::{GROUP_NAME_RULE, closest, remarks, valid_group_name};
use super::settings::{GroupSettings, HelloKey, SentinelSettings};
use super::types::{Address, Secret};
use node::{Key, Lines, Node, Place, Value};
pub(super) use transport::point;

/// Where the state is kept if the file does not say.
const STATE_DIR: &str = "./state";

const TOP: &[&str] = &[
    "listen",
    "state_dir",
    "tls",
    "bind_source",
    "log",
    "pid_file",
    "daemonize",
    "supervised",
    "announce",
    "hostnames",
    "peers",
    "hello",
    "scripts",
    "users",
    "acl_file",
    "groups",
];
const LISTEN: &[&str] = &[
    "bind",
    "port",
    "tls_port",
    "unix_socket",
    "unix_socket_mode",
    "unix_socket_group",
    "protected_mode",
    "password",
    "password_file",
    "password_env",
    "max_clients",
    "idle_timeout",
    "keepalive",
    "backlog",
];
const LOG: &[&str] = &["level", "file", "syslog", "syslog_ident", "syslog_facility"];
const ANNOUNCE: &[&str] = &["ip", "port"];
const HOSTNAMES: &[&str] = &["resolve", "announce"];
const AUTH: &[&str] = &["user", "password", "password_file", "password_env"];
const HELLO: &[&str] = &["secret_file", "signed_only"];
const SCRIPTS: &[&str] = &["allow_reconfig"];
const GROUP: &[&str] = &[
    "master",
    "quorum",
    "down_after",
    "failover_timeout",
    "parallel_syncs",
    "auth",
    "notification_script",
    "client_reconfig_script",
    "rename_commands",
    "master_reboot_down_after",
    "refused_after",
    "flap_pause",
];

/// What Redis's directives are called here.
const FROM_REDIS: &[(&str, &str)] = &[
    ("port", "listen: {port: ...}"),
    ("tls-port", "listen: {tls_port: ...}"),
    ("unixsocket", "listen: {unix_socket: ...}"),
    ("unixsocketperm", "listen: {unix_socket_mode: ...}"),
    ("unixsocketgroup", "listen: {unix_socket_group: ...}"),
    ("protected-mode", "listen: {protected_mode: ...}"),
    ("tls-cert-file", "tls: {cert_file: ...}"),
    ("tls-key-file", "tls: {key_file: ...}"),
    ("tls-key-file-pass", "tls: {key_password: ...}"),
    ("tls-ca-cert-file", "tls: {ca_file: ...}"),
    ("tls-ca-cert-dir", "tls: {ca_dir: ...}"),
    ("tls-auth-clients", "tls: {auth_clients: ...}"),
    ("tls-replication", "tls: {links: ...}"),
    ("tls-protocols", "tls: {protocols: ...}"),
    ("bind-source-addr", "bind_source"),
    ("syslog-enabled", "log: {syslog: ...}"),
    ("syslog-ident", "log: {syslog_ident: ...}"),
    ("syslog-facility", "log: {syslog_facility: ...}"),
    ("bind", "listen: {bind: ...}"),
    ("maxclients", "listen: {max_clients: ...}"),
    ("timeout", "listen: {idle_timeout: ...}"),
    ("tcp-keepalive", "listen: {keepalive: ...}"),
    ("tcp-backlog", "listen: {backlog: ...}"),
    ("requirepass", "listen: {password: ...}"),
    ("user", "users"),
    ("aclfile", "acl_file"),
    ("dir", "state_dir"),
    ("logfile", "log: {file: ...}"),
    ("loglevel", "log: {level: ...}"),
    ("pidfile", "pid_file"),
    ("announce-ip", "announce: {ip: ...}"),
    ("announce-port", "announce: {port: ...}"),
    ("resolve-hostnames", "hostnames: {resolve: ...}"),
    ("announce-hostnames", "hostnames: {announce: ...}"),
    ("sentinel-user", "peers: {user: ...}"),
    ("sentinel-pass", "peers: {password: ...}"),
    ("deny-scripts-reconfig", "scripts: {allow_reconfig: ...}"),
    ("sentinel", "groups"),
    ("monitor", "groups"),
    ("masters", "groups"),
    ("down-after-milliseconds", "down_after"),
    ("failover-timeout", "failover_timeout"),
    ("parallel-syncs", "parallel_syncs"),
    ("auth-user", "auth: {user: ...}"),
    ("auth-pass", "auth: {password: ...}"),
    ("rename-command", "rename_commands"),
    ("notification-script", "notification_script"),
    ("client-reconfig-script", "client_reconfig_script"),
    ("master-reboot-down-after-period", "master_reboot_down_after"),
];

/// What the YAML refers to outside itself.
pub(super) struct Outside<'a> {
    /// Whether a script can be run.
    pub(super) executable: &'a dyn Fn(&Path) -> bool,
    /// The content of a small file, or why it cannot be had.
    pub(super) file: &'a dyn Fn(&Path) -> Result<String, String>,
    /// An environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads a file. The result is whole even if there are errors; it must not be used then.
pub(super) fn read(
    text: &str,
    outside: &Outside<'_>,
) -> (SentinelSettings, BTreeMap<String, GroupSettings>, Vec<Diagnostic>) {
    let mut settings =
        SentinelSettings { dir: PathBuf::from(STATE_DIR), ..SentinelSettings::default() };
    let mut groups = BTreeMap::new();
    let mut reader =
        Reader { lines: Lines::of(text), outside, found: Vec::new(), resolve_hostnames: false };
    match node::parse(text) {
        Ok(root) => reader.top(&root, &mut settings, &mut groups),
        Err(diagnostic) => reader.found.push(diagnostic),
    }
    reader.found.sort_by_key(|d| (d.line, d.column));
    (settings, groups, reader.found)
}

/// The keys of one mapping that are known, with their values.
type Section<'n> = BTreeMap<&'static str, &'n Node>;

struct Reader<'a> {
    lines: Lines<'a>,
    outside: &'a Outside<'a>,
    found: Vec<Diagnostic>,
    resolve_hostnames: bool,
}

impl Reader<'_> {
    fn top(
        &mut self,
        root: &Node,
        settings: &mut SentinelSettings,
        groups: &mut BTreeMap<String, GroupSettings>,
    ) {
        let top = self.section(root, "the file", TOP);
        let section = |reader: &mut Self, name, keys| match top.get(name) {
            Some(node) => reader.section(node, name, keys),
            None => Section::new(),
        };
        let listen = section(self, "listen", LISTEN);
        let log = section(self, "log", LOG);
        let announce = section(self, "announce", ANNOUNCE);
        let hostnames = section(self, "hostnames", HOSTNAMES);
        let peers = section(self, "peers", AUTH);
        let scripts = section(self, "scripts", SCRIPTS);
        settings.hello_key = top.get("hello").and_then(|node| self.hello(node));
        self.listen(&listen, settings);
        self.transport(&top, &listen, &log, settings);
        self.set(&top, "state_dir", Self::path, |path| settings.dir = path);
        self.set(&top, "pid_file", Self::path, |path| settings.pidfile = Some(path));
        self.set(&log, "level", Self::log_level, |level| settings.loglevel = level);
        self.set(&log, "file", Self::path, |path| settings.logfile = Some(path));
        self.set(&announce, "ip", Self::announced, |ip| settings.announce_ip = Some(ip));
        self.set(&announce, "port", Self::port, |port| settings.announce_port = Some(port));
        self.set(&hostnames, "resolve", Self::flag, |on| settings.resolve_hostnames = on);
        self.set(&hostnames, "announce", Self::flag, |on| settings.announce_hostnames = on);
        self.set(&peers, "user", Self::text, |user| settings.sentinel_user = Some(user));
        settings.sentinel_pass = self.password(&peers);
        self.set(&scripts, "allow_reconfig", Self::flag, |on| {
            settings.deny_scripts_reconfig = !on;
        });
        self.set(&top, "users", Self::users, |users| settings.users = users);
        self.set(&top, "acl_file", Self::path, |path| settings.acl_file = Some(path));
        if let (Some(node), false) = (top.get("acl_file"), settings.users.is_empty()) {
            let help = "move the users into the file, or remove 'acl_file'";
            self.error(node.place, "'users' and 'acl_file' exclude each other", help);
        }
        self.resolve_hostnames = settings.resolve_hostnames;
        match top.get("groups") {
            Some(node) => self.groups(node, groups),
            None if matches!(root.value, Value::Map(_)) => self.no_groups(root.place),
            None => {}
        }
    }

    fn listen(&mut self, listen: &Section<'_>, settings: &mut SentinelSettings) {
        self.set(listen, "bind", Self::bind, |bind| settings.bind = bind);
        self.set(listen, "port", Self::port_or_none, |port| settings.port = port);
        self.set(listen, "max_clients", Self::count, |count| settings.maxclients = count);
        self.set(listen, "idle_timeout", Self::seconds, |s| settings.timeout_s = s);
        self.set(listen, "keepalive", Self::seconds, |s| settings.tcp_keepalive_s = s);
        self.set(listen, "backlog", Self::count, |count| settings.tcp_backlog = count);
        settings.requirepass = self.password(listen);
    }

    /// The secret with which hellos are signed.
    fn hello(&mut self, node: &Node) -> Option<HelloKey> {
        let hello = self.section(node, "hello", HELLO);
        let mut signed_only = false;
        self.set(&hello, "signed_only", Self::flag, |yes| signed_only = yes);
        let Some(file) = hello.get("secret_file") else {
            let help = "write: hello: {secret_file: <path>}";
            return self.refuse(node.place, "'hello' needs a 'secret_file'", help);
        };
        let path = self.text(file)?;
        let content = self.password_file(file.place, &path)?;
        match own::good_secret(content) {
            Ok(secret) => Some(HelloKey { secret, file: path.into(), signed_only }),
            Err(why) => self.refuse(file.place, why, "32 random hexadecimal digits are good"),
        }
    }

    fn no_groups(&mut self, place: Place) {
        let help = "name them under 'groups', for example: \
                    groups: {mymaster: {master: '127.0.0.1:6379', quorum: 2}}";
        self.report(Severity::Warning, place, "No group is watched", help);
    }

    fn groups(&mut self, node: &Node, groups: &mut BTreeMap<String, GroupSettings>) {
        let Value::Map(entries) = &node.value else {
            if matches!(node.value, Value::Null) {
                return self.no_groups(node.place);
            }
            self.error(
                node.place,
                "'groups' must map names to groups",
                "write each group's name, a colon, and its settings indented below",
            );
            return;
        };
        let mut places = BTreeMap::new();
        for (key, node) in entries {
            if !valid_group_name(&key.name) {
                self.error(key.place, "Invalid master name.", GROUP_NAME_RULE);
            }
            if places.insert(key.name.clone(), key.place).is_some() {
                self.error(key.place, "Duplicate master name.", "give every group one entry");
            }
            if let Some(group) = self.group(key, node) {
                groups.insert(key.name.clone(), group);
            }
        }
        for remark in remarks(groups, |_| 0) {
            let place = places.get(&remark.group).copied().unwrap_or_default();
            self.report(remark.severity, place, remark.message, remark.help);
        }
    }

    fn group(&mut self, key: &Key, node: &Node) -> Option<GroupSettings> {
        let section = self.section(node, "a group", GROUP);
        let master = self.required(&section, key, "master", Self::address);
        let quorum = self.required(&section, key, "quorum", Self::quorum);
        // The rest is looked at in any case, so that all problems show at once.
        let placeholder = Address::new("", 0);
        let whole = master.is_some() && quorum.is_some();
        let mut group =
            GroupSettings::new(master.unwrap_or(placeholder), quorum.unwrap_or_default());
        self.set(&section, "down_after", Self::time, |ms| group.down_after_ms = ms);
        self.set(&section, "failover_timeout", Self::time, |ms| {
            group.failover_timeout_ms = ms;
        });
        self.set(&section, "parallel_syncs", Self::count, |n| group.parallel_syncs = n);
        self.set(&section, "master_reboot_down_after", Self::time_or_zero, |ms| {
            group.master_reboot_down_after_ms = ms;
        });
        self.set(&section, "refused_after", Self::time_or_zero, |ms| group.refused_after_ms = ms);
        self.set(&section, "flap_pause", Self::time_or_zero, |ms| group.flap_pause_ms = ms);
        self.set(&section, "notification_script", Self::script, |path| {
            group.notification_script = Some(path);
        });
        self.set(&section, "client_reconfig_script", Self::script, |path| {
            group.client_reconfig_script = Some(path);
        });
        self.set(&section, "rename_commands", Self::renames, |r| group.rename_commands = r);
        if let Some(auth) = section.get("auth") {
            let auth = self.section(auth, "auth", AUTH);
            self.set(&auth, "user", Self::text, |user| group.auth_user = Some(user));
            group.auth_pass = self.password(&auth);
        }
        whole.then_some(group)
    }

    /// Takes a mapping apart; unknown and repeated keys are reported.
    fn section<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Section<'n> {
        let mut section = Section::new();
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                let keys = known.join(", ");
                self.error(
                    node.place,
                    format!("{what} must be a mapping of settings"),
                    format!("it may have: {keys}"),
                );
                &[]
            }
        };
        for (key, value) in entries {
            let Some(name) = known.iter().find(|k| **k == key.name) else {
                self.unknown_key(key, what, known);
                continue;
            };
            if section.insert(*name, value).is_some() {
                self.error(key.place, format!("'{name}' is given twice"), "keep one of them");
            }
        }
        section
    }

    fn unknown_key(&mut self, key: &Key, what: &str, known: &[&'static str]) {
        let plain = key.name.to_ascii_lowercase().replace('_', "-");
        let redis = FROM_REDIS.iter().find(|(directive, _)| *directive == plain);
        let help = match (redis, closest(&key.name, known.iter().copied())) {
            (Some((_, ours)), _) => format!("here it is called '{ours}'"),
            (None, Some(meant)) => format!("did you mean '{meant}'?"),
            (None, None) => format!("known here: {}", known.join(", ")),
        };
        self.error(key.place, format!("unknown setting '{}' in {what}", key.name), help);
    }

    /// Hands the value of a key on if it is there and good.
    fn set<T>(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        read: fn(&mut Self, &Node) -> Option<T>,
        take: impl FnOnce(T),
    ) {
        let Some(node) = section.get(key) else { return };
        if matches!(node.value, Value::Null) {
            let help = "give it one, or leave the line out".to_owned();
            return self.error(node.place, format!("'{key}' has no value"), help);
        }
        if let Some(value) = read(self, node) {
            take(value);
        }
    }

    fn required<T>(
        &mut self,
        section: &Section<'_>,
        group: &Key,
        key: &'static str,
        read: fn(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        match section.get(key) {
            Some(node) => read(self, node),
            None => {
                let example = if key == "master" { "master: 127.0.0.1:6379" } else { "quorum: 2" };
                let message = format!("group '{}' has no '{key}'", group.name);
                self.refuse(group.place, message, format!("add: {example}"))
            }
        }
    }

    /// A password given in the file, or kept in another file or in the environment.
    fn password(&mut self, section: &Section<'_>) -> Option<Secret> {
        self.secret(section, ["password", "password_file", "password_env"])
    }

    /// The same under other names, in this order.
    fn secret(&mut self, section: &Section<'_>, names: [&'static str; 3]) -> Option<Secret> {
        let [_, in_file, in_env] = names;
        let mut given = names.into_iter().filter_map(|key| Some((key, *section.get(key)?)));
        let (key, node) = given.next()?;
        if let Some((other, node)) = given.next() {
            self.error(
                node.place,
                format!("'{key}' and '{other}' exclude each other"),
                "keep one of them",
            );
        }
        let value = self.text(node)?;
        let secret = match key {
            key if key == in_file => self.password_file(node.place, &value)?,
            key if key == in_env => match (self.outside.variable)(&value) {
                Some(content) => content,
                None => {
                    let message = format!("the environment has no variable '{value}'");
                    return self.refuse(
                        node.place,
                        message,
                        "set it where the sentinel is started",
                    );
                }
            },
            _ => value,
        };
        if secret.is_empty() {
            return self.refuse(node.place, "this password is empty", "remove the line for none");
        }
        Some(Secret::new(secret))
    }

    fn password_file(&mut self, place: Place, path: &str) -> Option<String> {
        match (self.outside.file)(Path::new(path)) {
            Ok(content) => Some(content.trim_end_matches(['\n', '\r']).to_owned()),
            Err(reason) => self.refuse(
                place,
                format!("Can't read the password file: {reason}"),
                "the path is taken from the directory where the sentinel starts",
            ),
        }
    }

    fn report(
        &mut self,
        severity: Severity,
        place: Place,
        message: impl Into<String>,
        help: impl Into<Box<str>>,
    ) {
        let finding = Diagnostic::new(severity, message).help(help);
        self.found.push(self.lines.point(finding, place));
    }

    fn error(&mut self, place: Place, message: impl Into<String>, help: impl Into<Box<str>>) {
        self.report(Severity::Error, place, message, help);
    }

    /// Reports an error and gives nothing.
    fn refuse<T>(
        &mut self,
        place: Place,
        message: impl Into<String>,
        help: impl Into<Box<str>>,
    ) -> Option<T> {
        self.error(place, message, help);
        None
    }
}
