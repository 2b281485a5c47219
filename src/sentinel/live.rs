//! `SENTINEL CONFIG`: what of the whole sentinel, not of one group, is set while it runs. Each
//! parameter has one row; what is remembered of them across a restart is joined with the
//! configuration here, too.

use super::Sentinel;
use super::effect::Effect;
use super::timers::Subject;
use super::types::{RunId, Secret};
use crate::config::bytes::encode;
use crate::config::rules::valid_host;
use crate::config::settings::{LiveSettings, LogLevel};
use crate::config::state::LiveState;
use crate::resp::{Value, glob};

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameter {
    ResolveHostnames,
    AnnounceHostnames,
    AnnounceIp,
    AnnouncePort,
    SentinelUser,
    SentinelPass,
    Loglevel,
}

use Parameter::{
    AnnounceHostnames, AnnounceIp, AnnouncePort, Loglevel, ResolveHostnames, SentinelPass,
    SentinelUser,
};

/// All parameters, in the order in which Redis shows them.
const PARAMETERS: [(&str, Parameter); 7] = [
    ("resolve-hostnames", ResolveHostnames),
    ("announce-hostnames", AnnounceHostnames),
    ("announce-ip", AnnounceIp),
    ("announce-port", AnnouncePort),
    ("sentinel-user", SentinelUser),
    ("sentinel-pass", SentinelPass),
    ("loglevel", Loglevel),
];

impl Parameter {
    fn named(name: &str) -> Option<Parameter> {
        let row = PARAMETERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(row.1)
    }

    /// As CONFIG GET shows it, the password in clear as in Redis: an empty text is unset.
    fn value(self, live: &LiveSettings) -> String {
        let yes_no = |on: bool| if on { "yes" } else { "no" }.to_owned();
        match self {
            ResolveHostnames => yes_no(live.resolve_hostnames),
            AnnounceHostnames => yes_no(live.announce_hostnames),
            AnnounceIp => live.announce_ip.clone().unwrap_or_default(),
            AnnouncePort => live.announce_port.unwrap_or(0).to_string(),
            SentinelUser => live.sentinel_user.clone().unwrap_or_default(),
            SentinelPass => {
                live.sentinel_pass.as_ref().map_or(String::new(), |p| p.reveal().to_owned())
            }
            Loglevel => live.loglevel.as_str().to_owned(),
        }
    }

    /// `None` for a value that it cannot have. `announce-ip` must be an address or a name, since
    /// other sentinels ignore a hello that names none; empty unsets it, where Redis announces an
    /// empty address.
    fn set(self, live: &mut LiveSettings, value: &str) -> Option<()> {
        let given = Some(value.to_owned()).filter(|text| !text.is_empty());
        let yes = || match value.to_ascii_lowercase().as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        match self {
            ResolveHostnames => live.resolve_hostnames = yes()?,
            AnnounceHostnames => live.announce_hostnames = yes()?,
            AnnounceIp if given.as_ref().is_some_and(|ip| !valid_host(ip, true)) => return None,
            AnnounceIp => live.announce_ip = given,
            AnnouncePort => {
                let port = crate::resp::number::parse_int(value.as_bytes())?;
                live.announce_port = Some(u16::try_from(port).ok()?).filter(|port| *port != 0);
            }
            SentinelUser => live.sentinel_user = given,
            SentinelPass => live.sentinel_pass = given.map(Secret::new),
            Loglevel => live.loglevel = LogLevel::parse(value)?,
        }
        Some(())
    }
}

/// `SENTINEL CONFIG GET pattern ...`: each parameter once, by the first pattern that means it.
fn shown(live: &LiveSettings, patterns: &[String]) -> Value {
    let mut pairs = Vec::new();
    let mut told = Vec::new();
    for pattern in patterns.iter().map(|pattern| pattern.to_ascii_lowercase()) {
        for (name, parameter) in PARAMETERS {
            if glob::matches(pattern.as_bytes(), name.as_bytes()) && !told.contains(&parameter) {
                told.push(parameter);
                pairs.push((Value::bulk(name), Value::bulk(encode(&parameter.value(live)))));
            }
        }
    }
    Value::Map(pairs)
}

/// Reads the whole line before any of it is applied. The error is a complete reply.
fn read(live: &LiveSettings, words: &[String]) -> Result<LiveSettings, String> {
    let mut new = live.clone();
    let mut told = Vec::new();
    for pair in words.chunks(2) {
        let name = &pair[0];
        let Some(parameter) = Parameter::named(name) else {
            return Err(format!("ERR Invalid argument '{name}' to SENTINEL CONFIG SET"));
        };
        if told.contains(&parameter) {
            return Err(format!("ERR Duplicate argument '{name}' to SENTINEL CONFIG SET"));
        }
        told.push(parameter);
        let Some(value) = pair.get(1) else {
            return Err(format!("ERR Missing argument '{name}' value"));
        };
        if parameter.set(&mut new, value).is_none() {
            return Err(format!("ERR Invalid value '{value}' to SENTINEL CONFIG SET '{name}'"));
        }
    }
    Ok(new)
}

impl Sentinel {
    /// What of the process-wide settings must survive a crash.
    pub(super) fn live_state(&self) -> Option<LiveState> {
        let settings = self.core.settings.live();
        let declared = self.declared_live.clone();
        (settings != declared).then_some(LiveState { settings, declared })
    }

    /// `SENTINEL CONFIG GET`
    pub(super) fn config_get(&self, patterns: &[String]) -> Value {
        shown(&self.core.settings.live(), patterns)
    }

    /// `SENTINEL CONFIG SET`
    pub(super) fn config_set(&mut self, words: &[String]) -> Value {
        let old = self.core.settings.live();
        let new = match read(&old, words) {
            Ok(new) => new,
            Err(error) => return Value::error(error),
        };
        if old.resolve_hostnames
            && !new.resolve_hostnames
            && let Some((host, group)) = self.known_by_name()
        {
            // What is written then could not be read at the next start.
            return Value::error(format!(
                "ERR Invalid value 'no' to SENTINEL CONFIG SET 'resolve-hostnames': {host} of \
                 {group} is known by its name only"
            ));
        }
        let own = self.core.own_address("");
        self.core.settings.set_live(new.clone());
        if self.core.own_address("") != own {
            self.core.moved_from = Some((own, self.core.now()));
        }
        if new.loglevel != old.loglevel {
            self.core.out.emit(Effect::SetLogLevel(new.loglevel));
        }
        if (&new.sentinel_user, &new.sentinel_pass) != (&old.sentinel_user, &old.sentinel_pass) {
            self.reopen_peers();
        }
        self.core.out.touch();
        for (name, group) in &mut self.groups {
            group.hasten_hellos(&self.core);
            self.timers.set(Subject::Group(name.clone()), Some(self.core.now()));
        }
        Value::ok()
    }

    /// A node or sentinel that is configured with a host name, and its group.
    fn known_by_name(&self) -> Option<(&str, &str)> {
        self.groups.iter().find_map(|(group, members)| {
            let nodes = std::iter::once(&members.master).chain(members.replicas.values());
            let peers = members.peers.values().map(|peer| &peer.address);
            let mut hosts = nodes.map(|node| &node.address).chain(peers).map(|at| &*at.host);
            hosts.find(|host| !valid_host(host, false)).map(|host| (host, &**group))
        })
    }

    /// Opens all links to other sentinels anew, with the credentials in force now. Nobody counts
    /// as down for that: the silence of a healthy one begins with the new connection.
    fn reopen_peers(&mut self) {
        for id in self.core.peers.keys().cloned().collect::<Vec<RunId>>() {
            if let Some(mut link) = self.core.peers.remove(&id) {
                let address = link.address.clone();
                link.reopen(&mut self.core, &id, address);
                self.core.peers.insert(id, link);
            }
        }
        self.touch(Subject::Peers);
    }
}

/// Joins what `SENTINEL CONFIG SET` changed before a restart with what the configuration says now,
/// for a configuration that is not rewritten. The file is right about each parameter that somebody
/// changed in it since; of the others, what was set stays. Returns a sentence for each parameter of
/// which an operator should know.
pub fn reconcile_live(
    declared: LiveSettings,
    remembered: Option<LiveState>,
) -> (Option<LiveState>, Vec<String>) {
    let Some(LiveState { settings: set, declared: then }) = remembered else {
        return (None, Vec::new());
    };
    let mut settings = declared.clone();
    let mut notes = Vec::new();
    for (name, parameter) in PARAMETERS {
        let [set, then, now] = [&set, &then, &declared].map(|live| parameter.value(live));
        if set == then || set == now {
            continue;
        }
        if then != now {
            notes.push(format!(
                "{name} was set by SENTINEL CONFIG SET, and has been changed in the configuration \
                 since: that is taken"
            ));
        } else if parameter.set(&mut settings, &set).is_some() {
            notes.push(format!(
                "{name} is as SENTINEL CONFIG SET left it, and differs from the configuration"
            ));
        }
    }
    let live = (settings != declared).then_some(LiveState { settings, declared });
    (live, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::SentinelSettings;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(|word| if word == "''" { "" } else { word }.to_owned()).collect()
    }

    fn settings(line: &str) -> LiveSettings {
        read(&SentinelSettings::default().live(), &words(line)).expect("a good line")
    }

    #[test]
    fn a_line_is_read_to_its_end_or_not_at_all() {
        let live = SentinelSettings::default().live();
        for (line, expected) in [
            ("colour red", "ERR Invalid argument 'colour' to SENTINEL CONFIG SET"),
            (
                "Loglevel debug LOGLEVEL notice",
                "ERR Duplicate argument 'LOGLEVEL' to SENTINEL CONFIG SET",
            ),
            ("announce-ip 1.2.3.4 loglevel", "ERR Missing argument 'loglevel' value"),
            (
                "announce-port 65536",
                "ERR Invalid value '65536' to SENTINEL CONFIG SET 'announce-port'",
            ),
            ("loglevel loud", "ERR Invalid value 'loud' to SENTINEL CONFIG SET 'loglevel'"),
            ("announce-ip a,b", "ERR Invalid value 'a,b' to SENTINEL CONFIG SET 'announce-ip'"),
        ] {
            assert_eq!(read(&live, &words(line)), Err(expected.into()), "{line}");
        }
        let set = settings("Sentinel-Pass s3cret announce-ip ::1 announce-port 7 loglevel VERBOSE");
        assert_eq!(set.sentinel_pass, Some(Secret::new("s3cret")));
        assert!(!format!("{set:?}").contains("s3cret"));
        let unset = read(&set, &words("sentinel-pass '' announce-ip '' announce-port 0"));
        assert_eq!(unset, Ok(settings("loglevel verbose")));
    }

    #[test]
    fn patterns_show_each_parameter_once_in_the_order_of_redis() {
        let names = |patterns: &str| match shown(&settings("loglevel debug"), &words(patterns)) {
            Value::Map(pairs) => {
                pairs.iter().map(|(name, _)| name.text().unwrap_or_default().to_owned()).collect()
            }
            other => vec![format!("{other:?}")],
        };
        assert_eq!(names("*"), PARAMETERS.map(|(name, _)| name));
        assert_eq!(names("LOG* announce-p??t *level"), ["loglevel", "announce-port"]);
        assert!(names("nothing").is_empty());
    }

    #[test]
    fn what_was_set_stays_until_that_parameter_is_edited() {
        let file = settings("announce-port 7 loglevel notice");
        assert_eq!(reconcile_live(file.clone(), None), (None, vec![]));
        let set = settings("announce-port 9 loglevel debug sentinel-pass a");
        let remembered = LiveState { settings: set, declared: file.clone() };
        let (same, notes) = reconcile_live(file, Some(remembered.clone()));
        assert_eq!((same.as_ref(), notes.len()), (Some(&remembered), 3), "{notes:?}");

        let edited = settings("announce-port 8 loglevel notice sentinel-user joe");
        let (live, notes) = reconcile_live(edited.clone(), same);
        let live = live.expect("differs from the file");
        assert_eq!(live.declared, edited);
        let expected = settings("announce-port 8 loglevel debug sentinel-user joe sentinel-pass a");
        assert_eq!(live.settings, expected);
        assert!(notes[0].starts_with("announce-port was set"), "{notes:?}");
        assert!(notes.iter().all(|note| !note.contains("pass a")), "{notes:?}");

        // Edited to what was set: there is nothing left to remember.
        let (none, notes) = reconcile_live(expected, Some(live));
        assert_eq!((none, notes), (None, vec![]));
    }
}
