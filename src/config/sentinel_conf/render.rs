//! Writes settings and state back into a `sentinel.conf`, so that Redis Sentinel reads it too. Only
//! what changed since the file was read is added; what is there is kept up to date in place.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use super::super::conf::{Line, parse};
use super::super::own::{GROUP_TIMES, JOURNAL, SECRET_FILE, SIGNED_ONLY};
use super::super::rewrite::{Setting, VOTE, rewrite};
use super::super::settings::{GroupSettings, SentinelSettings};
use super::super::state::{GroupState, State};
use super::Declared;

/// What a group, or the state as a whole, may have lines about; those that nobody wants go.
const GROUP_KEYS: &[&str] = &[
    "sentinel monitor",
    "sentinel down-after-milliseconds",
    "sentinel failover-timeout",
    "sentinel parallel-syncs",
    "sentinel notification-script",
    "sentinel client-reconfig-script",
    "sentinel auth-user",
    "sentinel auth-pass",
    "sentinel rename-command",
    "sentinel master-reboot-down-after-period",
    "sentinel config-epoch",
    "sentinel leader-epoch",
    "sentinel known-replica",
    "sentinel known-sentinel",
    "# watchfire-vote",
    "# watchfire-journal",
];

/// What `SENTINEL CONFIG SET` may give and take back: a line that an earlier write put there is not
/// among those that the files had at the start, and goes all the same.
const LIVE_KEYS: &[&str] = &[
    "sentinel announce-ip",
    "sentinel announce-port",
    "sentinel sentinel-user",
    "sentinel sentinel-pass",
];

/// The text of the file with the settings and the state in force. `declared` is what a start takes
/// from the files alone, `journal` the id of a journal that adds to the file.
pub(in super::super) fn render(
    original: &str,
    declared: &Declared,
    settings: &SentinelSettings,
    state: &State,
    journal: Option<&str>,
) -> String {
    let mut lines = Lines::default();
    let before = setting_lines(&declared.settings);
    lines.0.extend(before.iter().map(Fact::absent));
    lines.changes(&before, setting_lines(settings), &declared.own);
    lines.overrides(&declared.overrides);
    lines.users(declared, settings);
    lines.renames(original, &declared.overrides);
    lines.add(["sentinel", "myid", state.my_id.as_str()]);
    let epoch = state.current_epoch.to_string();
    lines.add(["sentinel", "current-epoch", &epoch]);
    lines.0.extend(journal.map(|id| Setting::line(["#", JOURNAL, id])));
    lines.0.extend(GROUP_KEYS.iter().chain(LIVE_KEYS).map(|key| Setting::absent(key)));
    lines.0.extend(
        GROUP_TIMES.iter().map(|time| Setting::absent_like(&["#".into(), time.name.into()])),
    );
    for (name, group) in state.groups.iter() {
        // A new group is compared with the defaults; no group has quorum 0.
        let fresh = GroupSettings::new(group.settings.master.clone(), 0);
        let before = declared.groups.get(&**name).unwrap_or(&fresh);
        let before = group_lines(name, before);
        lines.changes(&before, group_lines(name, &group.settings), &declared.own);
        lines.group_state(name, group);
    }
    rewrite(original, &lines.0)
}

/// A line: words that say what it is about, so many as `about` says, and behind them its value.
#[derive(PartialEq)]
struct Fact<'a> {
    words: Vec<Cow<'a, str>>,
    about: usize,
}

impl<'a> Fact<'a> {
    /// No line about the same but those wanted otherwise.
    fn absent(&self) -> Setting<'a> {
        Setting::absent_like(&self.words[..self.about.min(2)])
    }
}

fn fact<'a, const N: usize>(about: [&'a str; N], value: impl Into<Cow<'a, str>>) -> Fact<'a> {
    let mut words = Vec::with_capacity(N + 1);
    words.extend(about.map(Cow::from));
    words.push(value.into());
    Fact { words, about: N }
}

/// The lines wanted in the file.
#[derive(Default)]
struct Lines<'a>(Vec<Setting<'a>>);

impl<'a> Lines<'a> {
    fn add<const N: usize>(&mut self, words: [impl Into<Cow<'a, str>>; N]) {
        self.0.push(Setting::line(words));
    }

    /// Lines for all facts of `now`, added only where the files do not say so already. What stood
    /// in the file itself (`own`) may have been removed since, and stands there again when it is
    /// true again.
    fn changes(&mut self, before: &[Fact<'_>], now: Vec<Fact<'a>>, own: &BTreeSet<String>) {
        for fact in now {
            let said = before.contains(&fact);
            let line = Setting::line(fact.words);
            let elsewhere = said && !own.contains(&line.text());
            self.0.push(if elsewhere { line.by_default() } else { line });
        }
    }

    /// Options of the command line that are no settings of ours stand in the file too.
    fn overrides(&mut self, overrides: &'a [Line]) {
        // Settings of which every line shows: their names are those written by `changes`.
        let settings = SentinelSettings {
            logfile: Some("x".into()),
            pidfile: Some("x".into()),
            ..SentinelSettings::default()
        };
        let ours = setting_lines(&settings);
        for line in overrides {
            let name = line.name();
            let elsewhere =
                ["sentinel", "user", "include", "bind", "requirepass", "rename-command"];
            let elsewhere = elsewhere.contains(&name.as_str());
            if !elsewhere && !ours.iter().any(|fact| fact.words[0] == name) {
                self.0.push(words_of(line));
            }
        }
    }

    /// Users that were changed at run time, or by the command line; an included file keeps its own.
    fn users(&mut self, declared: &Declared, settings: &'a SentinelSettings) {
        if let Some(users) = declared.user_lines.get() {
            let open =
                |line: &String| line.starts_with("user default ") && line.contains(" nopass ");
            if users.iter().any(open) {
                // Otherwise the next start would take it for the default user's password.
                self.0.retain(|setting| !setting.is("requirepass"));
            }
            self.0.push(Setting::absent("user"));
            let words = |line: String| Setting::line(line.split(' ').map(str::to_owned));
            self.0.extend(users.into_iter().map(words));
        } else if settings.users != declared.settings.users {
            let here = settings.users.iter().filter(|user| !user.included);
            self.0.push(Setting::absent("user"));
            self.0.extend(here.map(|user| Setting::line(user.words())));
        }
    }

    /// Those of the command line come behind those of the file, as they were read.
    fn renames(&mut self, original: &str, overrides: &[Line]) {
        let renames = |lines: &[Line]| {
            let lines = lines.iter().filter(|line| line.name() == "rename-command");
            lines.map(words_of).collect::<Vec<_>>()
        };
        let added = renames(overrides);
        if !added.is_empty() {
            let mut wanted = renames(&parse(original).0);
            wanted.retain(|setting| !added.contains(setting));
            self.0.extend(wanted.into_iter().chain(added));
        }
    }

    fn group_state(&mut self, name: &'a str, group: &'a GroupState) {
        let number = |number: u64| Cow::from(number.to_string());
        let about = |directive| [Cow::from("sentinel"), Cow::from(directive), Cow::from(name)];
        let [first, directive, of] = about("config-epoch");
        self.add([first, directive, of, number(group.config_epoch)]);
        let [first, directive, of] = about("leader-epoch");
        self.add([first, directive, of, number(group.leader_epoch)]);
        if let Some(id) = &group.voted_for {
            let epoch = number(group.leader_epoch);
            self.add(["#".into(), VOTE.into(), name.into(), epoch, id.as_str().into()]);
        }
        for replica in &group.replicas {
            let [first, directive, of] = about("known-replica");
            let host = Cow::from(&*replica.host);
            self.add([first, directive, of, host, number(replica.port.into())]);
        }
        for (id, peer) in &group.sentinels {
            let [first, directive, of] = about("known-sentinel");
            let (host, port) = (Cow::from(&*peer.host), number(peer.port.into()));
            self.add([first, directive, of, host, port, id.as_str().into()]);
        }
    }
}

/// The lines that settings amount to, defaults included.
fn setting_lines(settings: &SentinelSettings) -> Vec<Fact<'_>> {
    let mut facts = vec![
        fact(["port"], settings.port.to_string()),
        fact(["dir"], path_text(&settings.dir)),
        fact(["loglevel"], settings.loglevel.as_str()),
        fact(["tcp-backlog"], settings.tcp_backlog.to_string()),
        fact(["tcp-keepalive"], settings.tcp_keepalive_s.to_string()),
        fact(["timeout"], settings.timeout_s.to_string()),
        fact(["maxclients"], settings.maxclients.to_string()),
        fact(["sentinel", "resolve-hostnames"], yes_no(settings.resolve_hostnames)),
        fact(["sentinel", "announce-hostnames"], yes_no(settings.announce_hostnames)),
        fact(["sentinel", "deny-scripts-reconfig"], yes_no(settings.deny_scripts_reconfig)),
    ];
    if !settings.bind.is_empty() {
        let addresses = settings.bind.iter().map(|address| Cow::from(&**address));
        let words = std::iter::once(Cow::from("bind")).chain(addresses).collect();
        facts.push(Fact { words, about: 1 });
    }
    facts.extend(settings.logfile.as_ref().map(|p| fact(["logfile"], path_text(p))));
    facts.extend(settings.pidfile.as_ref().map(|p| fact(["pidfile"], path_text(p))));
    facts.extend(settings.requirepass.as_ref().map(|p| fact(["requirepass"], p.reveal())));
    if let Some(key) = &settings.hello_key {
        facts.push(fact(["#", SECRET_FILE], path_text(&key.file)));
        if key.signed_only {
            facts.push(fact(["#", SIGNED_ONLY], "yes"));
        }
    }
    let about = |directive| ["sentinel", directive];
    facts.extend(settings.announce_ip.as_ref().map(|ip| fact(about("announce-ip"), ip)));
    let port = settings.announce_port.map(|p| fact(about("announce-port"), p.to_string()));
    facts.extend(port);
    facts.extend(settings.sentinel_user.as_ref().map(|u| fact(about("sentinel-user"), u)));
    let pass = settings.sentinel_pass.as_ref();
    facts.extend(pass.map(|p| fact(about("sentinel-pass"), p.reveal())));
    facts
}

/// The lines that a group's settings amount to, defaults included.
fn group_lines<'a>(name: &'a str, group: &'a GroupSettings) -> Vec<Fact<'a>> {
    let about = |directive| ["sentinel", directive, name];
    let (port, quorum) = (group.master.port.to_string(), group.quorum.to_string());
    let reboot = group.master_reboot_down_after_ms;
    let mut monitor = fact(about("monitor"), &*group.master.host);
    monitor.words.extend([Cow::from(port), Cow::from(quorum)]);
    let mut facts = vec![
        monitor,
        fact(about("down-after-milliseconds"), group.down_after_ms.to_string()),
        fact(about("failover-timeout"), group.failover_timeout_ms.to_string()),
        fact(about("parallel-syncs"), group.parallel_syncs.to_string()),
        fact(about("master-reboot-down-after-period"), reboot.to_string()),
    ];
    for (directive, path) in [
        ("notification-script", &group.notification_script),
        ("client-reconfig-script", &group.client_reconfig_script),
    ] {
        facts.extend(path.as_ref().map(|p| fact(about(directive), path_text(p))));
    }
    facts.extend(group.auth_user.as_ref().map(|u| fact(about("auth-user"), u)));
    facts.extend(group.auth_pass.as_ref().map(|p| fact(about("auth-pass"), p.reveal())));
    for (command, renamed) in &group.rename_commands {
        facts.push(fact(["sentinel", "rename-command", name, command], renamed));
    }
    for time in GROUP_TIMES {
        let ms = (time.get)(group);
        facts.extend((ms != time.default_ms).then(|| fact(["#", time.name, name], ms.to_string())));
    }
    facts
}

fn words_of<'a>(line: &Line) -> Setting<'a> {
    Setting::line([line.name()].into_iter().chain(line.args().map(str::to_owned)))
}

/// A path as text. Paths come from text, so nothing is lost.
fn path_text(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

fn yes_no(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}
