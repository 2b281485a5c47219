//! A master, replica or peer as a stock sentinel sees it: its link, its PINGs, whether it is down,
//! and what its INFO said last.

use super::core::{Core, Owner};
use crate::config::settings::GroupSettings;
use crate::resp::Value;
use crate::sentinel::hello::Hello;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Command, Epoch, EventKind, GroupName, Instant, LinkId};

pub(super) const PING_PERIOD_MS: u64 = 1_000;
pub(super) const INFO_PERIOD_MS: u64 = 10_000;
/// INFO to replicas while it matters.
pub(super) const FAST_INFO_PERIOD_MS: u64 = 1_000;
pub(super) const HELLO_PERIOD_MS: u64 = 2_000;
/// A link younger than this is not given up.
const RECONNECT_MIN_MS: u64 = 15_000;
const PENDING_MAX: u32 = 100;

/// What an instance says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Slave,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Slave => "slave",
        }
    }
}

/// How long ago that was, in ms; `None` is long ago.
pub(super) fn age(now: Instant, at: Option<Instant>) -> u64 {
    at.map_or(u64::MAX, |at| now.since(at))
}

/// What a hello of one group says, whoever is told.
pub(super) struct Saying<'a> {
    pub(super) group: &'a GroupName,
    pub(super) master: &'a Address,
    pub(super) config_epoch: Epoch,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) address: Address,
    pub(super) run_id: Option<String>,
    pub(super) link: LinkId,
    pub(super) up: bool,
    local_ip: String,
    up_at: Instant,
    subscribed_at: Option<Instant>,
    /// When the subscription last brought something.
    pub(super) heard_at: Instant,
    tried_at: Option<Instant>,
    pub(super) pending: u32,
    /// Since when a PING waits for an acceptable answer; set from the beginning, so that one who
    /// cannot be reached at all is down in time.
    pub(super) ping_at: Option<Instant>,
    last_ping: Option<Instant>,
    pub(super) last_ok: Instant,
    pub(super) last_reply: Instant,
    pub(super) hello_sent_at: Option<Instant>,
    pub(super) sdown: bool,
    /// Stays when it is up again: `NoDownFor` looks at it.
    pub(super) sdown_since: Option<Instant>,
    script_killed: bool,
    pub(super) rebooted_at: Option<Instant>,
    pub(super) info_at: Option<Instant>,
    pub(super) role: Role,
    pub(super) role_since: Instant,
    pub(super) follows: Option<(String, u16)>,
    pub(super) follows_since: Instant,
    pub(super) link_up: bool,
    pub(super) link_down_ms: i64,
    pub(super) priority: i64,
    pub(super) offset: u64,
}

impl Instance {
    pub(super) fn new(
        core: &mut Core,
        owner: Owner,
        address: Address,
        settings: &GroupSettings,
        role: Role,
    ) -> Instance {
        let now = core.now;
        Instance {
            link: core.connect(owner, &address, settings),
            address,
            run_id: None,
            up: false,
            local_ip: String::new(),
            up_at: now,
            subscribed_at: None,
            heard_at: now,
            tried_at: Some(now),
            pending: 0,
            ping_at: Some(now),
            last_ping: None,
            last_ok: now,
            last_reply: now,
            hello_sent_at: Some(now),
            sdown: false,
            sdown_since: None,
            script_killed: false,
            rebooted_at: None,
            info_at: None,
            role,
            role_since: now,
            follows: None,
            follows_since: now,
            link_up: false,
            link_down_ms: 0,
            priority: 100,
            offset: 0,
        }
    }

    pub(super) fn came_up(&mut self, core: &mut Core, local_ip: String) {
        self.up = true;
        self.up_at = core.now;
        self.tried_at = Some(core.now);
        self.local_ip = local_ip;
        self.pending = 0;
        self.ping(core);
    }

    pub(super) fn went_down(&mut self) {
        self.up = false;
        self.pending = 0;
    }

    pub(super) fn subscribed(&mut self, now: Instant) {
        self.subscribed_at = Some(now);
        self.heard_at = now;
    }

    pub(super) fn unsubscribed(&mut self) {
        self.subscribed_at = None;
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed_at.is_some()
    }

    /// Closes the link and opens it anew, to where the instance is now.
    pub(super) fn reopen(&mut self, core: &mut Core, settings: &GroupSettings) {
        self.link = core.reopen(self.link, &self.address, settings);
        self.went_down();
        self.unsubscribed();
    }

    pub(super) fn send(&mut self, core: &mut Core, command: Command) {
        self.pending += 1;
        core.send(self.link, command);
    }

    fn ping(&mut self, core: &mut Core) {
        self.send(core, Command::Ping);
        self.last_ping = Some(core.now);
        self.ping_at.get_or_insert(core.now);
    }

    /// Any answer is an answer, but only some end the wait: NOAUTH, MISCONF or BUSY are silence.
    pub(super) fn pong(&mut self, core: &mut Core, reply: &Value) {
        self.last_reply = core.now;
        let (Value::Simple(text) | Value::Error(text)) = reply else { return };
        if ["PONG", "LOADING", "MASTERDOWN"].iter().any(|word| text.starts_with(word)) {
            self.last_ok = core.now;
            self.ping_at = None;
            if text.starts_with("PONG") {
                self.rebooted_at = None;
            }
        } else if text.starts_with("BUSY") && self.sdown && !self.script_killed {
            self.script_killed = true;
            self.send(core, Command::ScriptKill);
        }
    }

    /// The monitoring half of a tick. `info_ms` is `None` for peers.
    pub(super) fn tend(
        &mut self,
        core: &mut Core,
        down_after_ms: u64,
        info_ms: Option<u64>,
        saying: &Saying<'_>,
    ) {
        let now = core.now;
        if !self.up {
            // Redis tries to connect once a second, each time with a PING in the buffer.
            if age(now, self.tried_at) >= PING_PERIOD_MS {
                self.tried_at = Some(now);
                self.ping_at.get_or_insert(now);
            }
            return;
        }
        if self.pending >= PENDING_MAX {
            return;
        }
        // Asked again with each tick until an answer is there: the INFO storm.
        if info_ms.is_some_and(|period| age(now, self.info_at) > period) {
            self.send(core, Command::Info);
        }
        let period = down_after_ms.min(PING_PERIOD_MS);
        if now.since(self.last_reply) > period && age(now, self.last_ping) > period / 2 {
            self.ping(core);
        }
        if age(now, self.hello_sent_at) > HELLO_PERIOD_MS {
            let payload = self.hello(core, saying);
            self.send(core, Command::Hello { payload });
        }
    }

    fn hello(&self, core: &Core, saying: &Saying<'_>) -> String {
        let own = &core.settings;
        let host = own.announce_ip.as_deref().unwrap_or(&self.local_ip);
        let port = own.announce_port.filter(|port| *port != 0).unwrap_or(own.port);
        let hello = Hello {
            sender: Address::new(host, port),
            id: core.my_id.clone(),
            current_epoch: core.current_epoch,
            group: saying.group.to_string(),
            master: saying.master.clone(),
            config_epoch: saying.config_epoch,
        };
        hello.payload()
    }

    /// `sentinelCheckSubjectivelyDown`: the event, if something changed. `unfit` is what makes a
    /// master down although it answers.
    pub(super) fn check_down(
        &mut self,
        core: &mut Core,
        settings: &GroupSettings,
        unfit: bool,
    ) -> Option<EventKind> {
        let now = core.now;
        let elapsed = match self.ping_at {
            Some(at) => now.since(at),
            None if !self.up => now.since(self.last_ok),
            None => 0,
        };
        self.give_up_dead_link(core, settings);
        let down = unfit || elapsed > settings.down_after_ms;
        if down == self.sdown {
            return None;
        }
        self.sdown = down;
        if down {
            self.sdown_since = Some(now);
            return Some(EventKind::Sdown);
        }
        self.script_killed = false;
        Some(EventKind::SdownEnd)
    }

    fn give_up_dead_link(&mut self, core: &mut Core, settings: &GroupSettings) {
        let now = core.now;
        let half = settings.down_after_ms / 2;
        let commands = self.up
            && now.since(self.up_at) > RECONNECT_MIN_MS
            && self.ping_at.is_some_and(|at| now.since(at) > half)
            && now.since(self.last_reply) > half;
        let subscription = self.subscribed_at.is_some_and(|at| now.since(at) > RECONNECT_MIN_MS)
            && now.since(self.heard_at) > 3 * HELLO_PERIOD_MS;
        if commands || subscription {
            self.reopen(core, settings);
        }
    }

    /// `sentinelRedisInstanceNoDownFor`
    pub(super) fn not_down_for(&self, now: Instant, ms: u64) -> bool {
        age(now, self.sdown_since) > ms
    }

    /// The master's share of `sentinelResetMaster`. The time of the last INFO stays, although that
    /// was perhaps the INFO of another node.
    pub(super) fn forget(&mut self, core: &mut Core, settings: &GroupSettings) {
        let now = core.now;
        self.reopen(core, settings);
        self.sdown = false;
        self.script_killed = false;
        self.rebooted_at = None;
        self.run_id = None;
        self.follows = None;
        self.ping_at = Some(now);
        self.last_ping = None;
        self.last_ok = now;
        self.last_reply = now;
        self.role = Role::Master;
        self.role_since = now;
    }
}

/// `master <name> <ip> <port>`
pub(super) fn master_details(group: &GroupName, at: &Address) -> String {
    format!("master {group} {} {}", at.host, at.port)
}

/// `slave <ip>:<port> <ip> <port> @ <name> <ip> <port>`
pub(super) fn replica_details(at: &Address, group: &GroupName, master: &Address) -> String {
    format!("slave {at} {} {} @ {group} {} {}", at.host, at.port, master.host, master.port)
}

/// `sentinel <id> <ip> <port> @ <name> <ip> <port>`
pub(super) fn peer_details(
    id: &RunId,
    at: &Address,
    group: &GroupName,
    master: &Address,
) -> String {
    format!("sentinel {id} {} {} @ {group} {} {}", at.host, at.port, master.host, master.port)
}
