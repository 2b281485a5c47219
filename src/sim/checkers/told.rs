//! What a sentinel was told over its links, written down beside it: by this, and not by what it
//! made of that, its choices and repairs are judged.

use std::collections::BTreeMap;

use super::super::wire::Ms;
use super::{CREDIBLE_EPOCH, Epoch};
use crate::resp::Value;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Command, Effect, EventKind, LostReason};

/// A node counts its uptime and the age of its links by cached clocks: so far apart, in s, they may
/// be.
const UPTIME_SLACK_S: i64 = 60;

/// So long after a hello of an absurd epoch, in ms, whoever heard it may hold back.
const FAR_MS: Ms = 20_000;

/// What came over all links of a sentinel's life to one address.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Ear {
    /// The connection for commands stands.
    pub(super) up: bool,
    /// When the present link was opened, and when its connection last stood anew.
    pub(super) opened_at: Ms,
    pub(super) connected_at: Ms,
    /// Of a sentinel: when it was last asked for its last vote in the group of this master, and the
    /// epoch that it last told, with the time at which it was asked for that.
    last_votes: BTreeMap<Address, (Ms, Option<(Ms, Epoch)>)>,
    /// The last attempts in a row to connect to it that were all refused.
    closed_port: Option<ClosedPort>,
    /// When the last link was closed.
    closed_at: Option<Ms>,
    /// When the sentinel first met it, or met it again after it had forgotten it.
    pub(super) met_at: Ms,
    /// What is asked to hear whether it is there, and not answered yet.
    asked: Option<Question>,
    /// It answered its last PING well, over the present connection.
    well: bool,
    /// When it last answered such a question: well, or that we may not ask.
    pub(super) alive_at: Option<Ms>,
    /// When it last answered a PING as no PING is answered: that may pass for a sign of life.
    pub(super) odd_at: Ms,
    /// When the last questions were answered by a node that is well, the latest first.
    pub(super) pongs: [Option<Ms>; 3],
    /// Its last INFO.
    pub(super) info: Option<Info>,
    /// Since when its INFO has named the same role, and the same master.
    pub(super) role_since: Ms,
    pub(super) steady_since: Ms,
    /// When it was last seen to be another process.
    pub(super) born_at: Ms,
    /// Processes that were seen there, and the histories of those that were masters: since when.
    shown: BTreeMap<String, Ms>,
    /// The process that was last seen to be a replica.
    followed: Option<String>,
    /// Whom it last said to follow, and when.
    pub(super) followed_last: Option<(Address, Ms)>,
    /// The last order to become a master.
    pub(super) promotion: Option<Promotion>,
    /// The last order to follow another, until it does: when, and whom.
    pub(super) repointed: Option<(Ms, Address)>,
    /// It refused the last order.
    pub(super) refused: bool,
    /// It answered the last PING that we may not ask.
    pub(super) locked: bool,
    /// Of a sentinel: the id that it last gave for its own.
    pub(super) goes_by: Option<String>,
    /// Until when it was another one.
    pub(super) another_until: Ms,
    /// Its last INFO names its master in a way that this sentinel cannot know to be one of its
    /// nodes.
    pub(in crate::sim) puzzles: bool,
    /// What its name was told to mean by the last connection, and by the last lookup.
    meanings: [Option<String>; 2],
}

/// PING, or a hello that takes the place of one: where the last PING was answered well, and none is
/// asked before the hello is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Ping,
    Hello,
}

/// Attempts to connect in a row that were all refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClosedPort {
    first: Ms,
    last: Ms,
    /// When something else came.
    ended_at: Option<Ms>,
}

/// An order to become a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct Promotion {
    pub(super) at: Ms,
    /// When its INFO first said so.
    pub(super) shown_at: Option<Ms>,
}

/// What an INFO says, as far as a choice may hang on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::sim) struct Info {
    /// When it came.
    pub(super) at: Ms,
    pub(super) is_master: bool,
    pub(super) run_id: String,
    pub(super) histories: Vec<String>,
    pub(super) follows: Option<Address>,
    pub(super) linked: bool,
    /// For how long it has not been, in ms; `None` if it never was since the node started.
    pub(super) unlinked_ms: Option<Ms>,
    pub(super) has_data: bool,
    pub(super) priority: u32,
    pub(super) offset: u64,
}

impl Info {
    fn read(at: Ms, text: &str) -> Option<Info> {
        let mut info = Info { at, unlinked_ms: Some(0), ..Info::default() };
        let (mut role, mut host, mut port) = (None, None, None);
        let (mut uptime_s, mut down_s) = (i64::MAX, 0);
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            match name {
                "run_id" => value.clone_into(&mut info.run_id),
                "master_replid" | "master_replid2" => info.histories.push(value.to_owned()),
                "uptime_in_seconds" => uptime_s = value.parse().ok()?,
                "role" => role = Some(value),
                "master_host" => host = Some(value),
                "master_port" => port = value.parse().ok(),
                "master_link_status" => info.linked = value == "up",
                "master_link_down_since_seconds" => down_s = value.parse::<i64>().ok()?,
                "slave_priority" => info.priority = value.parse().ok()?,
                "slave_repl_offset" => info.offset = value.parse().ok()?,
                "db0" => info.has_data = true,
                _ => {}
            }
        }
        info.is_master = role? == "master";
        info.follows = host.zip(port).map(|(host, port)| Address::new(host, port));
        // Older versions of Redis count from 1970.
        let never = down_s < 0 || down_s > uptime_s.saturating_add(UPTIME_SLACK_S);
        info.unlinked_ms = u64::try_from(down_s).ok().filter(|_| !never).map(|s| s * 1_000);
        Some(info)
    }
}

/// Whom the node follows that says this INFO.
pub(in crate::sim) fn followed_in(info: &Value) -> Option<Address> {
    Info::read(0, info.text()?)?.follows
}

impl Ear {
    /// Another link to the same address takes the place of the last one. Unless that was closed at
    /// this very moment the sentinel had forgotten who lives there.
    pub(in crate::sim) fn reopen(mut self, at: Ms) -> Ear {
        if self.closed_at != Some(at) {
            self.met_at = at;
            self.meanings = [None, None];
        }
        (self.up, self.opened_at) = (false, at);
        (self.asked, self.well) = (None, false);
        self.attempted(at, false);
        self
    }

    /// Its name means this address, as a connection tells or nobody but the resolver.
    pub(in crate::sim) fn means(&mut self, ip: &str, by_connection: bool) {
        self.meanings[usize::from(!by_connection)] = Some(ip.to_owned());
    }

    /// True if a connection told that this is what its name means, or a lookup.
    pub(in crate::sim) fn is_meant(&self, ip: &str) -> bool {
        self.meanings.iter().flatten().any(|meaning| meaning == ip)
    }

    pub(in crate::sim) fn closed(mut self, at: Ms) -> Ear {
        self.closed_at = Some(at);
        self
    }

    pub(in crate::sim) fn connected(&mut self, at: Ms) {
        (self.up, self.connected_at) = (true, at);
        (self.asked, self.well) = (None, false);
        self.attempted(at, false);
    }

    /// The connection is lost, or could not be made.
    pub(in crate::sim) fn lost(&mut self, at: Ms, reason: &LostReason) {
        self.up = false;
        self.attempted(at, *reason == LostReason::Refused);
    }

    fn attempted(&mut self, at: Ms, refused: bool) {
        match (&mut self.closed_port, refused) {
            (Some(row), true) if row.ended_at.is_none() => row.last = at,
            (row, true) => *row = Some(ClosedPort { first: at, last: at, ended_at: None }),
            (Some(row), false) => _ = row.ended_at.get_or_insert(at),
            (None, false) => {}
        }
    }

    /// The first and the last attempt of those in a row that were all refused, where nothing else
    /// came before `until`.
    pub(super) fn closed_port(&self, until: Ms) -> Option<(Ms, Ms)> {
        let row = self.closed_port?;
        row.ended_at.is_none_or(|at| at >= until).then_some((row.first, row.last))
    }

    /// A command goes to it.
    pub(in crate::sim) fn send(&mut self, at: Ms, command: &Command) {
        match command {
            Command::Ping => self.asked = Some(Question::Ping),
            Command::Hello { .. } if self.well && self.asked.is_none() => {
                self.asked = Some(Question::Hello);
            }
            Command::Promote => self.promotion = Some(Promotion { at, shown_at: None }),
            Command::Follow { master } => {
                (self.repointed, self.refused) = (Some((at, master.clone())), false);
            }
            Command::AskVote { master, .. } => {
                self.last_votes.entry(master.clone()).or_default().0 = at;
            }
            _ => {}
        }
    }

    /// It answers a command.
    pub(in crate::sim) fn answer(&mut self, at: Ms, command: &Command, reply: &Value) {
        if *command == Command::Ping {
            (self.asked, self.well) = (None, false);
            let refuses = |text: &str| {
                ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|code| text.starts_with(code))
            };
            self.locked = matches!(reply, Value::Error(text) if refuses(text));
            if self.locked {
                self.alive_at = Some(at);
            }
        }
        match (command, reply) {
            (Command::Ping, Value::Simple(text) | Value::Error(text))
                if ["PONG", "LOADING", "MASTERDOWN"].iter().any(|good| text.starts_with(good)) =>
            {
                self.well = true;
                self.lives(at);
            }
            (Command::Hello { .. }, reply) if self.asked == Some(Question::Hello) => {
                self.asked = None;
                if matches!(reply, Value::Integer(_)) {
                    self.lives(at);
                }
            }
            (Command::Ping, Value::Error(_)) => {}
            (Command::Ping, _) => self.odd_at = at,
            (Command::AskId { .. }, reply) => {
                let told = reply.text().map(str::to_owned);
                if told != self.goes_by {
                    (self.goes_by, self.another_until) = (told, at);
                }
            }
            (Command::Info, reply) => self.read(at, reply.text()),
            (Command::AskVote { master, .. }, Value::Array(items)) => {
                if let (Some((asked_at, told)), [_, _, Value::Integer(epoch)]) =
                    (self.last_votes.get_mut(master), &items[..])
                {
                    *told = Epoch::try_from(*epoch).ok().map(|epoch| (*asked_at, epoch));
                }
            }
            (Command::Promote | Command::Follow { .. }, Value::Array(replies)) => {
                let errs = |reply: &Value| match reply {
                    Value::Error(_) => true,
                    Value::Array(done) => matches!(done.first(), Some(Value::Error(_))),
                    _ => false,
                };
                match replies.split_last() {
                    Some((info, replies)) if !replies.iter().any(errs) => {
                        self.read(at, info.text())
                    }
                    _ => self.refused = true,
                }
            }
            _ => {}
        }
    }

    fn lives(&mut self, at: Ms) {
        self.pongs = [Some(at), self.pongs[0], self.pongs[1]];
        self.alive_at = Some(at);
    }

    fn read(&mut self, at: Ms, text: Option<&str>) {
        let Some(info) = text.and_then(|text| Info::read(at, text)) else { return };
        let before = self.info.as_ref();
        if before.is_some_and(|before| before.run_id != info.run_id) {
            // What the process before it was sent is no order to this one.
            self.repointed = None;
            self.born_at = at;
        }
        if before.is_none_or(|before| before.is_master != info.is_master) {
            (self.role_since, self.steady_since) = (at, at);
        } else if before.is_none_or(|before| before.follows != info.follows) {
            self.steady_since = at;
        }
        self.shown.entry(info.run_id.clone()).or_insert(at);
        match info.is_master {
            true => {
                for history in &info.histories {
                    self.shown.entry(history.clone()).or_insert(at);
                }
                if let Some(order) = &mut self.promotion {
                    order.shown_at.get_or_insert(at);
                }
            }
            false => {
                self.followed = Some(info.run_id.clone());
                match &mut self.followed_last {
                    Some((master, last)) if info.follows.as_ref() == Some(master) => *last = at,
                    last => *last = info.follows.clone().map(|master| (master, at)),
                }
            }
        }
        self.info = Some(info);
        if self.repointed.as_ref().is_some_and(|(_, master)| self.is_in_sync_with(master)) {
            self.repointed = None;
        }
    }

    /// This process was seen there.
    pub(in crate::sim) fn has_been(&self, run_id: &RunId) -> bool {
        self.shown.contains_key(run_id.as_str())
    }

    /// When this process or history was first seen there.
    pub(super) fn shown_at(&self, name: &str) -> Option<Ms> {
        self.shown.get(name).copied()
    }

    /// It says that it is a master, and this process never said that it was anything else.
    pub(super) fn is_stray(&self) -> bool {
        let info = self.info.as_ref().filter(|info| info.is_master);
        info.is_some_and(|info| self.followed.as_ref() != Some(&info.run_id))
    }

    /// This process has said, later than at that time, that it follows this master.
    pub(super) fn came_from(&self, master: &Address, since: Ms) -> bool {
        let same = self.followed_last.as_ref().filter(|(whom, _)| whom == master);
        let since = since.max(self.met_at);
        !self.is_stray() && same.is_some_and(|(_, at)| *at > since)
    }

    /// Asked later than at that time, it said that it has voted in no later epoch in the group of
    /// this master.
    pub(super) fn has_no_news(&self, master: &Address, config: Epoch, since: Ms) -> bool {
        let told = self.last_votes.get(master).and_then(|(_, told)| *told);
        told.is_some_and(|(at, epoch)| at > since && (1..=config).contains(&epoch))
    }

    /// It follows this master, over a link that works.
    pub(super) fn is_in_sync_with(&self, master: &Address) -> bool {
        let linked = self.info.as_ref().filter(|info| !info.is_master && info.linked);
        linked.is_some_and(|info| info.follows.as_ref() == Some(master))
    }
}

/// All that one sentinel heard of the other sentinels: the last hello of each for each group.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Hellos {
    last: Vec<Heard>,
    /// When one of an epoch was heard that lies absurdly far ahead.
    absurd_at: Option<Ms>,
}

#[derive(Debug, Clone)]
struct Heard {
    group: String,
    id: String,
    at: Ms,
    current: Epoch,
    config: Epoch,
}

impl Hellos {
    /// A hello is heard.
    pub(in crate::sim) fn hear(&mut self, at: Ms, payload: &str) {
        let mut fields = payload.split(',').skip(2);
        let (Some(id), Some(current), Some(group)) = (fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let config = fields.nth(2).and_then(|epoch| epoch.parse().ok());
        let (Ok(current), Some(config)) = (current.parse(), config) else { return };
        if current > CREDIBLE_EPOCH {
            // A stock sentinel's, which nobody believes, or not all can follow.
            self.absurd_at = Some(at);
        }
        match self.last.iter_mut().find(|last| last.id == id && last.group == group) {
            Some(last) => (last.at, last.current, last.config) = (at, current, config),
            None => {
                let (group, id) = (group.to_owned(), id.to_owned());
                self.last.push(Heard { group, id, at, current, config });
            }
        }
    }

    /// Others have elected masters in epochs that this sentinel may not have reached.
    pub(super) fn lead_far(&self, now: Ms) -> bool {
        self.absurd_at.is_some_and(|at| now - at < FAR_MS)
    }

    /// The others that have said after `since` that they know this configuration of the group, and
    /// no epoch after it.
    pub(super) fn confirm(
        &self,
        group: &str,
        config: Epoch,
        own: &RunId,
        since: Ms,
    ) -> impl Iterator<Item = &str> {
        let of_others =
            move |last: &&Heard| last.group == group && last.id != own.as_str() && last.at >= since;
        let same = move |last: &&Heard| last.current == config && last.config == config;
        self.last.iter().filter(of_others).filter(same).map(|last| last.id.as_str())
    }
}

/// All that a sentinel was told when it says something.
pub(in crate::sim) struct Seat<'a> {
    /// By the address of a node. One to which there are two links, for two groups, is left out.
    pub(in crate::sim) ears: BTreeMap<&'a Address, &'a Ear>,
    /// The same of other sentinels.
    pub(in crate::sim) peers: BTreeMap<&'a Address, &'a Ear>,
    pub(in crate::sim) hellos: &'a Hellos,
    /// Nothing that it decided waits for its disk: it has said all that it knows.
    pub(in crate::sim) settled: bool,
}

/// True for what is judged by what the sentinel was told.
pub(in crate::sim) fn is_weighed(effect: &Effect) -> bool {
    match effect {
        Effect::Send { command: Command::Promote | Command::Follow { .. }, .. } => true,
        Effect::Announce(event) => {
            !matches!(event.kind, EventKind::Sentinel | EventKind::NewEpoch | EventKind::RoleChange)
        }
        // Where the master is.
        Effect::Reply { reply: Value::Array(items), .. } => items.len() == 2,
        // That there is nobody to promote.
        Effect::Reply { reply: Value::Error(text), .. } => text.starts_with("NOGOODSLAVE"),
        _ => false,
    }
}
