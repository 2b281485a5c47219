//! A data node as one sentinel sees it: health, INFO, role.

use std::net::IpAddr;

use super::core::{Core, Moment};
use super::effect::Command;
use super::event::Level;
use super::health::{Health, NEXT_ATTEMPT_MS};
use super::info::{Info, Role};
use super::input::LostReason;
use super::mutant::Guard;
use super::origins::Stranger;
use super::packed::Packed;
use super::rights::{Refusal, Refusals};
use super::types::{Address, GroupName, Instant, LinkId, RunId};
use crate::config::settings::GroupSettings;
use crate::resp::Value;

/// Pause between the hello messages of a sentinel to one instance, in ms, as far as others can
/// know: see [`Tunables`](super::tunables::Tunables) for our own.
pub(super) const HELLO_PERIOD_MS: u64 = 2_000;
/// A subscription on which nothing was heard for so long, although we published there, is opened
/// anew, in ms.
const DEAF_MS: u64 = 3 * HELLO_PERIOD_MS;
/// INFO may go out early by this share of its period, in a step that is under way anyway.
const INFO_SLACK: u64 = 100;
/// Pause between INFOs while something is wrong with the group or the node, in ms.
pub(super) const INFO_PERIOD_TROUBLE_MS: u64 = 1_000;
/// Pause between INFOs to a node on which something waits right now, in ms.
pub(super) const INFO_PERIOD_AWAITED_MS: u64 = 50;
/// Pause before the first INFO to a replica that was sent to another master, in ms; it grows with
/// time.
pub(super) const INFO_PERIOD_RECONF_MS: u64 = 2;

/// So many answers in a row that no PING gives show that it is another command; fewer may be
/// rubbish.
const ODD_PONGS: u32 = 2;
/// An INFO so old, in ms, is that of the node as it is: two periods.
const INFO_FRESH_MS: u64 = 20_000;
/// Least pause between two looks at a node that is being refused, in ms.
const COUNT_BEAT_MS: u64 = 10;
/// Pause between two complaints about a node that refuses us, in ms.
const COMPLAINT_PERIOD_MS: u64 = 60_000;

/// A master or replica.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) health: Health,
    /// Since when its hello channel is subscribed to.
    pub(super) subscribed_since: Option<Instant>,
    /// What its name was resolved to at the last connection.
    pub(super) resolved: Option<String>,
    /// What its name means by the last lookup, which may lie: good enough to be asked after, and
    /// where no connection has told, to see who follows it, as long as the lookup says so, and that
    /// other groups should keep their hands off; for nothing else.
    pub(super) looked_up: Vec<String>,
    /// Our own IP on the connection to it.
    pub(super) local_ip: Option<String>,
    pub(super) run_id: Option<RunId>,
    pub(super) info: Option<Info>,
    /// The text of that, for `SENTINEL INFO-CACHE`.
    pub(super) info_text: Packed,
    pub(super) info_at: Option<Instant>,
    info_asked_at: Option<Instant>,
    info_in_flight: bool,
    /// How many times it has answered INFO.
    pub(super) infos: u64,
    /// Replies to INFO that were none.
    pub(super) bad_infos: u64,
    /// Since when it has reported its present role.
    pub(super) role_since: Instant,
    /// Since when its role, its master and its reachability have been as they are.
    pub(super) settled_since: Instant,
    pub(super) sdown_since: Option<Instant>,
    /// The last attempts to connect: its host answered, and nobody listened on its port.
    pub(super) closed_port: Option<ClosedPort>,
    /// When it was seen to have restarted, until it says PONG again.
    pub(super) rebooted_at: Option<Instant>,
    pub(super) script_killed: bool,
    /// The error code with which it last answered PING, and when that was told.
    pub(super) complaint: Option<(String, Instant)>,
    /// When it was last seen not to be the very process any more that the master is, or to have
    /// handed its role over to the master.
    pub(super) parted_at: Option<Instant>,
    /// It answered its last PING with an error.
    pub(super) unwell: bool,
    hello_in_flight: bool,
    next_hello: Instant,
    /// When a hello of ours was last published on it, and when one was last heard there.
    published_at: Instant,
    heard_at: Instant,
    /// It has followed the group's present master: its data are of this history.
    pub(super) followed: bool,
    /// Its run id when it was last seen to follow a master of this group, by that master's
    /// configured address or what a connection told of its name: that node is ours.
    pub(super) own_run_id: Option<RunId>,
    /// Its run id and whom it followed when it last said, under this configuration, that it follows
    /// somebody: what that means is judged when it is asked.
    pub(super) last_followed: Option<(RunId, Address)>,
    /// The run id of the foreign node at this address of which it was said that it is left alone.
    pub(super) left_alone: Option<RunId>,
    /// Another group's process that has come to live at this address.
    pub(super) stranger: Option<Stranger>,
    pub(super) reconf: Option<Reconf>,
    /// It holds writes for us until then, if nobody frees them: see `hand_over`.
    pub(super) held_until: Option<Instant>,
    /// Commands that it does not let us send.
    pub(super) refusals: Refusals,
    /// Why it refused the last SLAVEOF transaction.
    pub(super) refused: Option<String>,
    /// When it refused one: it is not asked again at once.
    pub(super) refused_at: Option<Instant>,
}

/// Attempts to connect in a row that were all refused (watched clock): the process is gone, and its
/// host is there to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClosedPort {
    pub(super) first: Instant,
    pub(super) last: Instant,
}

/// A replica on its way to a new master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reconf {
    pub(super) sent_at: Instant,
    /// Its INFO names the new master.
    pub(super) in_progress: bool,
}

impl Node {
    pub(super) fn new(
        core: &mut Core,
        group: &GroupName,
        settings: &GroupSettings,
        address: Address,
    ) -> Node {
        let link = core.connect_node(group, &address, settings);
        let now = core.now();
        Node {
            health: Health::new(core, link),
            address,
            subscribed_since: None,
            resolved: None,
            looked_up: Vec::new(),
            local_ip: None,
            run_id: None,
            info: None,
            info_text: Packed::default(),
            info_at: None,
            info_asked_at: None,
            info_in_flight: false,
            infos: 0,
            bad_infos: 0,
            role_since: now,
            settled_since: now,
            sdown_since: None,
            closed_port: None,
            rebooted_at: None,
            script_killed: false,
            complaint: None,
            parted_at: None,
            unwell: false,
            hello_in_flight: false,
            next_hello: now,
            published_at: now,
            heard_at: now,
            followed: false,
            own_run_id: None,
            last_followed: None,
            left_alone: None,
            stranger: None,
            reconf: None,
            held_until: None,
            refusals: Refusals::default(),
            refused: None,
            refused_at: None,
        }
    }

    pub(super) fn link(&self) -> LinkId {
        self.health.link
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.info.as_ref().map(|info| info.role)
    }

    /// True if this node is meant by that address: the configured one, or what its name resolves
    /// to.
    pub(super) fn is_at(&self, address: &Address) -> bool {
        let same_host = || {
            self.address.host.eq_ignore_ascii_case(&address.host)
                || self.resolved.as_deref() == Some(address.host.as_str())
        };
        self.address.port == address.port && same_host()
    }

    /// By the last lookup this node is meant by that address, and no connection has told what its
    /// name means.
    pub(super) fn seems_at(&self, address: &Address) -> bool {
        self.resolved.is_none() && self.may_be_at(address)
    }

    /// What its name means, by the last connection, or by the last lookup where none has told.
    pub(super) fn meaning(&self) -> &[String] {
        self.resolved.as_ref().map_or(&self.looked_up, std::slice::from_ref)
    }

    /// Its name has not been looked up yet, or not with success: only the name itself means it.
    pub(super) fn is_unknown_name(&self) -> bool {
        self.resolved.is_none()
            && self.looked_up.is_empty()
            && self.address.host.parse::<IpAddr>().is_err()
    }

    /// It is the very process that was seen to follow a master of this group.
    pub(super) fn is_ours(&self) -> bool {
        self.own_run_id.is_some() && self.own_run_id == self.run_id
    }

    /// It is the very process that was seen to follow the present master.
    pub(super) fn has_followed(&self) -> bool {
        self.followed && self.is_ours()
    }

    /// It does not count as down any more, and if it is again, its script may be killed again.
    pub(super) fn forget_sdown(&mut self) {
        self.sdown_since = None;
        self.script_killed = false;
    }

    /// Its INFO is not older than `ms`.
    pub(super) fn info_within(&self, core: &Core, ms: u64) -> bool {
        self.info_at.is_some_and(|at| core.now().since(at) <= ms)
    }

    pub(super) fn connected(&mut self, core: &Core, local_ip: String, remote_ip: String) {
        self.health.connected(core.moment());
        self.port_answered(core, false);
        self.info_in_flight = false;
        self.hello_in_flight = false;
        self.info_asked_at = None;
        self.local_ip = Some(local_ip);
        self.resolved = Some(remote_ip);
    }

    /// True if a question about this address may mean it: so its name was last looked up, whether
    /// or not a connection has confirmed that.
    pub(super) fn may_be_at(&self, address: &Address) -> bool {
        self.address.port == address.port && self.looked_up.contains(&address.host)
    }

    pub(super) fn lost(&mut self, core: &Core, reason: &LostReason) {
        self.health.lost(core.moment());
        self.port_answered(core, *reason == LostReason::Refused);
        self.info_in_flight = false;
        self.hello_in_flight = false;
    }

    /// An attempt to connect, or a connection, came to something: nobody listens there, or anything
    /// else, which ends the row.
    fn port_answered(&mut self, core: &Core, closed: bool) {
        let now = core.watched();
        let before = self.closed_port.filter(|_| closed || !core.holds(Guard::RefusalsInARow));
        let row = |first| ClosedPort { first, last: now };
        self.closed_port = match (closed, before) {
            (true, before) => Some(row(before.map_or(now, |before| before.first))),
            (false, before) => before,
        };
    }

    /// For how long, in ms, all attempts to connect have been refused, the last one included; 0 if
    /// it was not. What was heard longer ago than any attempt takes says nothing any more.
    pub(super) fn refused_ms(&self, core: &mut Core) -> u64 {
        match self.closed_port {
            Some(ClosedPort { first, last }) if !core.due_watched(last.plus(NEXT_ATTEMPT_MS)) => {
                last.since(first)
            }
            _ => 0,
        }
    }

    /// Its port has refused all connections for as long as the group wants to see that before it
    /// believes that the process is gone. Redis waits for `down-after` all the same.
    pub(super) fn is_gone(&self, core: &mut Core, settings: &GroupSettings) -> bool {
        let after_ms = settings.refused_after_ms;
        if after_ms == 0 || self.closed_port.is_none() || !core.holds(Guard::RefusedIsDown) {
            return false;
        }
        let gone = self.refused_ms(core) >= after_ms;
        if !gone {
            // Looked at meanwhile, too, so that time in which this process does not run is noticed.
            core.due(core.now().plus((after_ms / 4).max(COUNT_BEAT_MS)));
        }
        gone
    }

    /// It refused us, and lives: with us something is wrong, or with what it was told of us.
    /// Redis's sentinels take that for silence, and fail over a healthy master again and again.
    /// Nobody but an operator can put it right, so the log hears of it again and again. `lost`: it
    /// ended the connection.
    pub(super) fn shut_out(
        &mut self,
        core: &mut Core,
        group: &GroupName,
        refusal: Refusal,
        lost: Option<&LostReason>,
    ) {
        if core.holds(Guard::RefusalLives) {
            self.health.shut_out(core.moment());
        }
        let code = refusal.code();
        let told = self
            .complaint
            .as_ref()
            .is_some_and(|(told, at)| told == code && core.now().since(*at) < COMPLAINT_PERIOD_MS);
        if told {
            return;
        }
        let (at, mend) = (&self.address, refusal.mend("PING"));
        let what = match lost {
            Some(LostReason::Untrusted(_)) => lost.map(|why| format!("{at}: {why}")),
            Some(LostReason::OwnLimit(_)) => lost.map(|why| format!("{at}: {why} ({mend})")),
            other => other.map(|why| format!("{at} ends our connections: {why} ({mend})")),
        };
        let what = what.unwrap_or_else(|| format!("{at} answers PING with {code} ({mend})"));
        let lives = match lost {
            Some(LostReason::OwnLimit(_)) => "whether it lives is not known here",
            _ => "it lives",
        };
        let why = format!(
            "{what}; {lives}, so no failover comes of it; but until this is put right it can be \
             neither watched nor promoted nor demoted"
        );
        core.say(Level::Warning, Some(group), why);
        self.complaint = Some((code.to_owned(), core.now()));
    }

    /// What an answer to PING says of our standing. PING goes by a wrong name only where INFO is
    /// answered as it should be, and no PING ever was over this connection: a node that answers
    /// rubbish is not well.
    pub(super) fn refusal_of_ping(&self, core: &Core, reply: &Value) -> Option<Refusal> {
        let told = self.info_at.is_some_and(|at| at >= self.health.opened_at);
        // On a new connection INFO has not come yet.
        let was_so = self.health.locked_out.is_some() && self.info_within(core, INFO_FRESH_MS);
        let again = self.health.odd_pongs >= ODD_PONGS || was_so;
        let misnamed = (told || was_so) && again && !self.health.ponged;
        match Refusal::of_ping(reply) {
            Some(Refusal::Misnamed) if !misnamed => None,
            // After a password that is wrong it wants one again.
            Some(Refusal::NoAuth) => self.refusals.of("AUTH").or(Some(Refusal::NoAuth)),
            refusal => refusal,
        }
    }

    /// It has refused us for longer than `down-after`: entries show it as down then, as Redis does,
    /// and nothing else comes of it. Since when.
    pub(super) fn shown_down_since(&self, core: &Core, down_after_ms: u64) -> Option<Instant> {
        let refused = self.health.locked_out.map(|since| since.plus(down_after_ms));
        self.sdown_since.or(refused.filter(|since| core.now() > *since))
    }

    /// Tells the log once of an answer that is not well, to PING or to a connection, or of a name
    /// that means nothing.
    pub(super) fn complain(&mut self, core: &mut Core, group: &GroupName, error: &str) {
        const CHARS_MAX: usize = 100;
        let error: String = error.chars().take(CHARS_MAX).collect();
        let told = self.complaint.as_ref().is_some_and(|(told, _)| *told == error);
        if told || ["LOADING", "MASTERDOWN", "BUSY"].iter().any(|code| error.starts_with(code)) {
            return;
        }
        let why = format!("{}: {error}; that counts as silence", self.address);
        core.say(Level::Warning, Some(group), why);
        self.complaint = Some((error, core.now()));
    }

    /// A hello was published on it, or was not.
    pub(super) fn hello_answered(&mut self, core: &Core, reply: &Value) {
        self.hello_in_flight = false;
        if core.holds(Guard::PongCounts) {
            let published = matches!(reply, Value::Integer(_));
            self.health.hello_answered(core.moment(), published);
        }
        if !matches!(reply, Value::Error(_)) {
            self.published_at = core.now();
        }
    }

    /// Something was heard on its hello channel.
    pub(super) fn heard(&mut self, core: &Core) {
        self.heard_at = core.now();
    }

    /// True if the subscription looks half-open: what we publish there does not come back.
    fn is_deaf(&self, core: &Core) -> bool {
        let patience_ms = DEAF_MS.max(core.tune.publish_period_ms.saturating_mul(3));
        self.subscribed_since.is_some() && self.published_at.since(self.heard_at) > patience_ms
    }

    pub(super) fn info_answered(&mut self) {
        self.info_in_flight = false;
    }

    /// The next hello goes out at once.
    pub(super) fn hasten_hello(&mut self, core: &Core) {
        self.next_hello = core.now();
    }

    /// INFO is asked for at once: what it said was said under another configuration.
    pub(super) fn hasten_info(&mut self) {
        self.info_asked_at = None;
    }

    /// Closes its connection and opens another.
    pub(super) fn reopen(&mut self, core: &mut Core, group: &GroupName, settings: &GroupSettings) {
        core.disconnect(self.health.link);
        let link = core.connect_node(group, &self.address, settings);
        core.note_meaning(link, self.meaning());
        self.health.relink(core, link);
        self.closed_port = None;
        self.heard_at = core.now();
        self.info_in_flight = false;
        self.hello_in_flight = false;
        self.subscribed_since = None;
    }

    /// The hello that was under way has not gone, and will not.
    pub(super) fn hello_recalled(&mut self) {
        self.hello_in_flight = false;
        self.health.pending = self.health.pending.saturating_sub(1);
    }

    /// It has answered an INFO that was asked for after that time. If not, it is asked for one.
    pub(super) fn has_told_anew(&mut self, core: &mut Core, since: Instant) -> bool {
        let asked = self.info_asked_at.is_some_and(|at| at > since);
        if !asked {
            self.ask_info(core);
        }
        asked && !self.info_in_flight && self.info_at.is_some_and(|at| at > since)
    }

    /// Asks for INFO, unless one is under way.
    pub(super) fn ask_info(&mut self, core: &mut Core) {
        if self.health.up && !self.info_in_flight {
            self.info_in_flight = true;
            self.info_asked_at = Some(core.now());
            self.health.send(core, Command::Info);
        }
    }

    /// The same, if it was not asked within the last `ms`.
    pub(super) fn ask_info_after(&mut self, core: &mut Core, ms: u64) {
        if self.info_asked_at.is_none_or(|at| core.due(at.plus(ms))) {
            self.ask_info(core);
        }
    }

    /// Writes that it holds for us go on.
    pub(super) fn free_writes(&mut self, core: &mut Core) {
        if self.held_until.take().is_some_and(|until| core.now() < until) {
            self.health.send(core, Command::FreeWrites);
        }
    }

    /// Sends INFO as it falls due, and opens a half-open connection anew.
    pub(super) fn tend(
        &mut self,
        core: &mut Core,
        group: &GroupName,
        settings: &GroupSettings,
        info_period_ms: u64,
    ) {
        if self.health.wants_reopening(core, settings.down_after_ms) || self.is_deaf(core) {
            self.reopen(core, group, settings);
        }
        let info_due = match self.info_asked_at {
            Some(at) => core.due_about(at.plus(info_period_ms), info_period_ms / INFO_SLACK),
            None => true,
        };
        if info_due {
            self.ask_info(core);
        }
    }

    /// True if something regular would be due but for one of its kind that is under way: once that
    /// is answered, a step must follow.
    pub(super) fn is_late(&self, at: Moment) -> bool {
        self.health.ping_is_late(at) || at.now >= self.next_hello
    }

    /// True while it holds writes for us, and so would hold a hello, and all that comes behind it.
    fn is_holding(&mut self, core: &mut Core) -> bool {
        let until = self.held_until.filter(|_| core.holds(Guard::NoHelloBehindHold));
        until.is_some_and(|until| !core.due(until))
    }

    /// Its last PING was answered with PONG, and hellos are published: what there is to be learnt
    /// from the next PING can wait for the one after it.
    pub(super) fn is_well(&self) -> bool {
        let refused = self.refusals.of("PUBLISH").is_some();
        !self.unwell && self.rebooted_at.is_none() && self.complaint.is_none() && !refused
    }

    /// True if a hello is to be published on it now.
    pub(super) fn hello_due(&mut self, core: &mut Core) -> bool {
        let up = self.health.up && core.is_reachable();
        let due = up && core.due_about(self.next_hello, core.tune.hello_slack_ms());
        let due = due && !self.hello_in_flight && !self.is_holding(core);
        if due {
            self.hello_in_flight = true;
            self.next_hello = core.now().plus(core.tune.publish_period_ms);
            core.due(self.next_hello);
        }
        due
    }
}
