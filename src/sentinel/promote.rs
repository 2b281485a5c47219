//! The choice of the replica that becomes master.

use std::cmp::Reverse;

use super::core::Core;
use super::group::Group;
use super::info::{Info, Role};
use super::mutant::Guard;
use super::node::Node;
use super::repair::IF_THAT_IS_THE_MASTER;
use super::rights::FOR_FAILOVER;
use super::types::Address;

/// How much longer than the master's silence a replica's link to it may have been down, in ms,
/// beyond `down-after`, so that the replica still counts as one that kept up: INFO counts in whole
/// seconds.
const KEPT_UP_SLACK_MS: u64 = 2_000;
/// Oldest acceptable answer to a PING, and oldest INFO while the master is down, in ms.
const FRESH_MS: u64 = 5_000;

impl Group {
    /// The best replica, or a sentence for each why it cannot be chosen.
    ///
    /// A replica that already says master while it was ours comes first: an earlier leader promoted
    /// it and was lost before it could tell. One that lost its link well before the master fell
    /// silent comes last: it lacks what was written since, and that would be lost with it. Else as
    /// in Redis: smaller priority, larger offset, smaller run id.
    ///
    /// A configured master that was made a replica is a candidate, too. Where all nodes follow each
    /// other in a circle nobody else may be left, and Redis's sentinels would wait for ever. But
    /// where one that nobody elected follows a stranger, and that works, there is a master already:
    /// one that nobody has told us of, or somebody else's.
    ///
    /// Where an operator asked for it (`forced`) and there is no master, old data are his decision.
    pub(super) fn best_replica(&self, core: &Core, forced: bool) -> Result<Address, Vec<String>> {
        if let Some(master) = self.led_away(core) {
            let (name, quorum) = (&self.name, self.settings.quorum);
            return Err(vec![format!(
                "{} follows {master}, which works and is no node of this group: \
                 {IF_THAT_IS_THE_MASTER} {name} and SENTINEL MONITOR {name} {} {} {quorum}",
                self.master.address, master.host, master.port
            )]);
        }
        let mut reasons = Vec::new();
        let mut good = Vec::new();
        let health = &self.master.health;
        let lives = health.silent_since.is_none() && health.locked_out.is_none();
        let lives = lives && self.master.stranger.is_none();
        let wanted = self.master.info.as_ref().is_some_and(|info| info.priority > 0);
        if self.demoted().is_some() && lives {
            match wanted || !core.holds(Guard::PriorityZero) {
                true => good.push(&self.master),
                false => {
                    reasons.push(format!("{}: its replica-priority is 0", self.master.address))
                }
            }
        }
        for node in self.replicas.values() {
            let forced = forced && self.master.sdown_since.is_some();
            let reason = self.why_unfit(core, node);
            match reason.or_else(|| self.why_too_old(core, node).filter(|_| !forced)) {
                Some(reason) => reasons.push(format!("{}: {reason}", node.address)),
                None => good.push(node),
            }
        }
        let rank = |node: &&&Node| {
            let info = node.info.as_ref();
            let promoted =
                info.is_some_and(|i| i.role == Role::Master) && core.holds(Guard::PromotedFirst);
            let priority = info.map_or(u32::MAX, |i| i.priority);
            let offset = info.filter(|_| core.holds(Guard::OffsetCounts)).map_or(0, |i| i.offset);
            let run_id = node.run_id.clone();
            let behind = self.fell_behind(core, node) && core.holds(Guard::LaggardLast);
            // One node under two addresses may as well be one name that means another's machine.
            let double = self.is_double(node) && core.holds(Guard::DoubleNotPromoted);
            (double, !promoted, behind, priority, Reverse(offset), run_id.is_none(), run_id)
        };
        match good.iter().min_by_key(rank) {
            Some(node) if core.holds(Guard::CandidateFound) => Ok(node.address.clone()),
            _ => Err(reasons),
        }
    }

    /// Why this replica cannot be promoted, whatever its data are; `None` if it can.
    pub(super) fn why_unfit(&self, core: &Core, node: &Node) -> Option<String> {
        if let Some((code, _)) =
            node.complaint.as_ref().filter(|_| node.health.locked_out.is_some())
        {
            return Some(format!("it answers {code}: our password or user is wrong"));
        }
        if let Some((command, refusal)) = node.refusals.among(FOR_FAILOVER)
            && core.holds(Guard::RightsNeeded)
        {
            return Some(format!("it refuses {command} ({})", refusal.code()));
        }
        let Some(info) = &node.info else { return Some("no INFO from it yet".into()) };
        if node.sdown_since.is_some() && core.holds(Guard::CandidateLives) {
            return Some("down".into());
        }
        if !node.health.up && core.holds(Guard::CandidateLives) {
            return Some("not connected".into());
        }
        let answered_ms = core.now().since(node.health.last_ok);
        if answered_ms > FRESH_MS && core.holds(Guard::CandidateLives) {
            return Some("no answer to PING for more than 5 s".into());
        }
        if info.priority == 0 && core.holds(Guard::PriorityZero) {
            return Some("its replica-priority is 0".into());
        }
        if !info.announced {
            return Some(
                "it is hidden from clients (replica-announced no); send it CONFIG SET \
                 replica-announced yes if it may be promoted"
                    .into(),
            );
        }
        let info_ms = match self.master.sdown_since {
            Some(_) => FRESH_MS,
            None => 3 * core.tune.info_period_ms,
        };
        if !node.info_within(core, info_ms) && core.holds(Guard::CandidateInfoFresh) {
            return Some("its INFO is too old".into());
        }
        if let Some(stranger) = &node.stranger {
            return Some(format!("it {}", Group::of_whom(stranger)));
        }
        if let (Role::Slave, Some(master)) = (info.role, &info.master)
            && self.is_foreign(core, node)
            && core.holds(Guard::ForeignNotPromoted)
        {
            return Some(format!("it follows {master}, {}", self.no_node_of_ours(core, master)));
        }
        if let Some(group) = self.has_copied(core, info)
            && core.holds(Guard::CopiedNotPromoted)
        {
            return Some(format!("it holds the data of {group}, which it has copied"));
        }
        let heads = self.demoted_to(core).is_some_and(|master| node.is_at(master));
        let stray = info.role == Role::Master && !self.has_followed(core, node) && !heads;
        if stray && core.holds(Guard::StrayNotPromoted) {
            return Some("it is a master of its own, not a replica of this group".into());
        }
        None
    }

    /// Why its data must not become the group's unless somebody says so; `None` if they may.
    fn why_too_old(&self, core: &Core, node: &Node) -> Option<String> {
        let info = node.info.as_ref()?;
        if self.demoted_to(core).is_some() || info.role == Role::Master {
            return None;
        }
        let force = format!("; SENTINEL FAILOVER {} promotes it all the same", self.name);
        let sdown_ms = self.master.sdown_since.map_or(0, |since| core.now().since(since));
        // A RESET does not make the master any younger.
        let master_down_ms = sdown_ms.max(core.now().since(self.master.health.last_ok));
        let limit_ms = master_down_ms.saturating_add(10 * self.settings.down_after_ms);
        if info.link_down_ms > limit_ms as i64 && core.holds(Guard::CandidateLinkTime) {
            let s = info.link_down_ms / 1000;
            return Some(format!("its link to the master has been down for {s} s: too old{force}"));
        }
        // Once it is master, the old one would copy its emptiness.
        if info.link_down_ms < 0 && !info.has_keys && core.holds(Guard::EmptyNotPromoted) {
            return Some(format!(
                "it started without data and has not reached the master since{force}"
            ));
        }
        None
    }

    /// True for a replica whose link broke while there was still a master to follow, or that never
    /// had one.
    fn fell_behind(&self, core: &Core, node: &Node) -> bool {
        let Some(info) = &node.info else { return true };
        if info.role == Role::Master || info.link_up || self.demoted_to(core).is_some() {
            return false;
        }
        let silent_ms = self.master.health.silent_ms(core.moment());
        let slack_ms = self.settings.down_after_ms.saturating_add(KEPT_UP_SLACK_MS);
        match u64::try_from(info.link_down_ms) {
            Ok(down_ms) => down_ms > silent_ms.saturating_add(slack_ms),
            Err(_) => true,
        }
    }

    /// The master that our master follows over a link that works, if we do not know it, and no
    /// sentinel has elected ours: then our file may be older than what was elected since.
    fn led_away(&self, core: &Core) -> Option<&Address> {
        let stranger = self.master.stranger.is_some();
        if self.config_epoch > 0 || stranger || !core.holds(Guard::LedAwayLeft) {
            return None;
        }
        let info = self.demoted()?;
        let master = info.master.as_ref().filter(|_| info.link_up && self.master.health.up)?;
        let known = self.replicas.values().any(|node| node.is_at(master));
        let known = known || self.seems_to_hold(core, master);
        (!known && !self.master.is_at(master)).then_some(master)
    }

    /// Whom our master follows, if it lives and says that it is a replica (it restarted from a file
    /// that says so). Then there is no master that others could lag behind: if that node is a
    /// master, our master's data are its data already; and that replicas lost their link says
    /// nothing about their age.
    fn demoted_to(&self, core: &Core) -> Option<&Address> {
        let lives = self.master.health.up && self.master.info_within(core, FRESH_MS);
        let lives = lives && self.master.stranger.is_none();
        let info = self.demoted().filter(|_| lives)?;
        info.master.as_ref().filter(|_| core.holds(Guard::DemotedTells))
    }

    /// What our master says, if that it is a replica: said since it is the master, not before.
    fn demoted(&self) -> Option<&Info> {
        let master = &self.master;
        let told = master.info_at.is_some_and(|at| at >= master.role_since);
        master.info.as_ref().filter(|info| told && info.role == Role::Slave)
    }
}
