//! Whose process is it? The masters of two groups may change places, and each still answers as a
//! master, with the data of the other group. What tells them apart is what processes have shown
//! before: their run ids, and the histories of the masters (`master_replid`, and after a restart
//! from a file `master_replid2`). It is not durable: a sentinel that starts believes what it sees.

use std::collections::BTreeMap;

use super::claims::Claims;
use super::core::Core;
use super::election::majority;
use super::event::Level;
use super::group::Group;
use super::info::{Info, Role};
use super::mutant::Guard;
use super::types::{Address, GroupName, Instant, RunId};

/// A stranger in our master's place whom a majority of all sentinels takes for the master is
/// believed to be it after so long, in ms: three of Sentinel's INFO periods. They may know better.
const BELIEVED_MS: u64 = 30_000;
/// Said of a stranger in the place of a group's master, and when that is over.
pub(crate) const NOT_THE_MASTER: &str = "is not the master of";
pub(crate) const THE_MASTER: &str = "is the master of";
/// So many histories are remembered for each group.
const HISTORIES_MAX: usize = 8;
/// So many processes are remembered for each address.
const FACES_MAX: usize = 4;
/// So many processes and histories are listed before they are sifted for the first time.
const LISTED_MIN: usize = 1_024;

/// What the processes of each group have shown, by the configured addresses of its nodes.
#[derive(Debug, Default)]
pub(super) struct Origins {
    families: BTreeMap<GroupName, Family>,
    /// The last histories of each group's masters, oldest first, also of those that a RESET forgot.
    data: BTreeMap<GroupName, Vec<RunId>>,
    /// Where to look for a process or a history: the groups that have shown it, and maybe do not
    /// any more.
    shown_by: BTreeMap<RunId, Vec<GroupName>>,
    /// At so many entries those that are of no use any more are thrown out.
    sifted_at: usize,
}

type Family = BTreeMap<Address, Place>;

/// An address, and who lived there.
#[derive(Debug, Default)]
struct Place {
    /// The last of them has answered over the connection that stands.
    up: bool,
    /// Oldest first.
    faces: Vec<Face>,
}

/// A process.
#[derive(Debug)]
struct Face {
    run_id: RunId,
    /// It was certainly the group's: it followed its master, or its replicas have its history.
    proven: bool,
    /// Of a master: its history, and the one that this went on from.
    histories: [Option<RunId>; 2],
    told_at: Instant,
}

/// A process of another group at the address of one of our nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stranger {
    run_id: RunId,
    /// Whose it is, and where it was.
    pub(super) group: GroupName,
    place: Address,
    since: Instant,
    /// Its group does not see it any more. Until then it may as well be a node of both groups.
    pub(super) sure: bool,
    /// Its group has seen it since: one process answers at two addresses. Where two masters trade
    /// places one after the other that is so for a moment.
    shared: bool,
}

impl Face {
    fn is_of(&self, info: &Info) -> bool {
        info.run_id.as_ref() == Some(&self.run_id)
            || info.role == Role::Master && self.is_of_any(&info.histories())
    }

    /// One of its histories is one of those.
    fn is_of_any(&self, histories: &[&RunId]) -> bool {
        self.histories.iter().flatten().any(|known| histories.contains(&known))
    }
}

impl Place {
    fn shows(&self, is_it: impl Fn(&Face) -> bool) -> bool {
        self.up && self.faces.last().is_some_and(is_it)
    }

    fn told_since(&self, at: Instant) -> bool {
        self.faces.last().is_some_and(|face| face.told_at > at)
    }
}

fn faces(family: &Family) -> impl Iterator<Item = &Face> {
    family.values().flat_map(|place| &place.faces)
}

/// The two groups have watched the same node, whatever each calls it. One that had just started
/// when it traded places is known to be neither's.
fn overlap(one: &Family, other: &Family) -> bool {
    let proven = |face: &&Face| face.proven;
    one.keys().any(|place| other.contains_key(place))
        || faces(one)
            .filter(proven)
            .any(|face| faces(other).filter(proven).any(|known| known.run_id == face.run_id))
}

impl Origins {
    /// A node of the group is what it said. Of its master, the history is the group's.
    fn note(
        &mut self,
        group: &GroupName,
        at: &Address,
        info: &Info,
        (is_master, is_proven): (bool, bool),
        now: Instant,
    ) {
        let Some(run_id) = &info.run_id else { return };
        let family = self.families.entry(group.clone()).or_default();
        let place = family.entry(at.clone()).or_default();
        let mut shown = Vec::new();
        place.up = true;
        if place.faces.last().is_none_or(|face| face.run_id != *run_id) {
            if place.faces.len() == FACES_MAX {
                place.faces.remove(0);
            }
            let run_id = run_id.clone();
            shown.push(run_id.clone());
            let (proven, histories) = (false, [None, None]);
            place.faces.push(Face { run_id, proven, histories, told_at: now });
        }
        if let Some(face) = place.faces.last_mut() {
            face.told_at = now;
            face.proven |= is_proven;
            if is_master && info.role == Role::Master {
                face.histories = [info.replid.clone(), info.replid_before.clone()];
                shown.extend(face.histories.iter().flatten().cloned());
                let data = self.data.entry(group.clone()).or_default();
                if let Some(history) = info.replid.as_ref().filter(|of| !data.contains(of)) {
                    data.drain(..(data.len() + 1).saturating_sub(HISTORIES_MAX));
                    data.push(history.clone());
                }
            }
        }
        shown.into_iter().for_each(|id| self.list(id, group));
    }

    /// A process or history is looked for in this group, too, from now on.
    fn list(&mut self, id: RunId, group: &GroupName) {
        let groups = self.shown_by.entry(id).or_default();
        if !groups.contains(group) {
            groups.push(group.clone());
        }
        if self.shown_by.len() > self.sifted_at.max(LISTED_MIN) {
            let families = &self.families;
            self.shown_by.retain(|id, groups| {
                let shows = |face: &Face| face.run_id == *id || face.is_of_any(&[id]);
                groups.retain(|group| families.get(group).is_some_and(|f| faces(f).any(shows)));
                !groups.is_empty()
            });
            self.sifted_at = 2 * self.shown_by.len();
        }
    }

    /// The groups other than this one that may have shown one of these processes or histories, in
    /// their order.
    fn others<'a, 'b>(
        &'a self,
        group: &GroupName,
        ids: impl IntoIterator<Item = &'b RunId>,
    ) -> BTreeMap<&'a GroupName, &'a Family> {
        let listed = ids.into_iter().filter_map(|id| self.shown_by.get(id)).flatten();
        let others = listed.filter(|name| *name != group);
        others.filter_map(|name| self.families.get_key_value(name)).collect()
    }

    /// The connection to a node has ended.
    pub(super) fn lost(&mut self, group: &GroupName, at: &Address) {
        let place = self.families.get_mut(group).and_then(|family| family.get_mut(at));
        if let Some(place) = place {
            place.up = false;
        }
    }

    /// What was known of the group was wrong, and so was whose this process is.
    fn unlearn(&mut self, group: &GroupName, info: &Info) {
        self.forget(group);
        for place in self.families.values_mut().flat_map(|family| family.values_mut()) {
            place.faces.retain(|face| !face.is_of(info));
        }
    }

    /// An operator has removed the group.
    pub(super) fn forget(&mut self, group: &GroupName) {
        self.families.remove(group);
        self.data.remove(group);
    }

    /// The group has no such node any more.
    pub(super) fn forget_place(&mut self, group: &GroupName, at: &Address) {
        if let Some(family) = self.families.get_mut(group) {
            family.remove(at);
        }
    }

    /// What a node shows is no process of its group, but one of another group, which does not see
    /// it where it was: neither has it known it before, nor its data, nor do both groups watch the
    /// same nodes. `before`: what was thought of it. Whoever is met first is believed.
    fn judge(
        &self,
        claims: &Claims,
        (group, at, is_master): (&GroupName, &Address, bool),
        info: &Info,
        before: Option<&Stranger>,
        now: Instant,
    ) -> Option<Stranger> {
        let run_id = info.run_id.as_ref()?;
        let own = self.families.get(group)?;
        if faces(own).any(|face| face.run_id == *run_id || face.is_of_any(&info.histories())) {
            return None;
        }
        let was_sure = before.is_some_and(|before| before.sure);
        let before = before.filter(|before| before.run_id == *run_id);
        let since = before.map_or(now, |before| before.since);
        let by_process = |face: &Face| face.run_id == *run_id;
        let by_history =
            |face: &Face| info.role == Role::Master && face.is_of_any(&info.histories());
        let ids = std::iter::once(run_id).chain(info.histories());
        self.others(group, ids).into_iter().find_map(|(name, other)| {
            let held = || other.iter().filter(|(place, _)| claims.holds(place, name));
            let proven = |seen: &Place, is_it: &dyn Fn(&Face) -> bool| {
                seen.faces.iter().any(|face| face.proven && is_it(face))
            };
            let process = held().find(|(_, seen)| proven(seen, &by_process));
            // Whose master has not been seen yet cannot tell others' data from its own.
            let knows_own = self.data.contains_key(group);
            let history = || held().find(|(_, seen)| knows_own && proven(seen, &by_history));
            let (place, _) = process.or_else(history)?;
            // It may have restarted since.
            let is_known = was_sure && (before.is_some() || process.is_none());
            if !is_known && overlap(own, other) {
                return None;
            }
            let is_it = |face: &Face| match process {
                Some(_) => by_process(face),
                None => by_history(face),
            };
            let shown = |(place, seen): &(&Address, &Place)| *place != at && seen.shows(is_it);
            let told = held().filter(shown).any(|(_, seen)| seen.told_since(since));
            let believed = match process {
                // A replica may well be given to another group. A master that has another group's
                // place besides its own is not ours for that.
                Some(_) => told && !is_master,
                // That its history goes on at another node of its group says nothing of this one.
                None => told && !is_known,
            };
            if believed {
                return None;
            }
            let sure = is_known || held().find(shown).is_none();
            let (run_id, group, place) = (run_id.clone(), name.clone(), place.clone());
            Some(Stranger { run_id, group, place, since, sure, shared: told && !sure })
        })
    }

    /// This process is certainly of both groups: they watch the same nodes.
    pub(super) fn are_both(&self, one: &GroupName, other: &GroupName, run_id: &RunId) -> bool {
        let is_of = |group: &GroupName| {
            let mut known = self.families.get(group).into_iter().flat_map(faces);
            known.any(|face| face.proven && face.run_id == *run_id)
        };
        is_of(one) && is_of(other)
    }

    /// These groups have had a node in common, as far as is known.
    fn overlap(&self, one: &GroupName, other: &GroupName) -> bool {
        let families = self.families.get(one).zip(self.families.get(other));
        families.is_some_and(|(one, other)| overlap(one, other))
    }

    /// One of these histories is or was that of a master of the group.
    fn is_own_data(&self, group: &GroupName, data: &[&RunId]) -> bool {
        let of_group = self.families.get(group).into_iter().flat_map(faces);
        let mut masters = self.data.get(group).into_iter().flatten();
        masters.any(|own| data.contains(&own)) || of_group.into_iter().any(|f| f.is_of_any(data))
    }

    /// The other group of whose masters' histories one of these is, if none is of this one's.
    fn holder_of_data(
        &self,
        claims: &Claims,
        group: &GroupName,
        data: &[&RunId],
    ) -> Option<&GroupName> {
        let own = self.families.get(group)?;
        if !self.data.contains_key(group) || self.is_own_data(group, data) {
            return None;
        }
        let of_other = |(name, other): &(&GroupName, &Family)| {
            let places = other.iter().filter(|(place, _)| claims.holds(place, name));
            let mut masters = places.flat_map(|(_, place)| &place.faces);
            masters.any(|face| face.is_of_any(data)) && !overlap(own, other)
        };
        let mut others = self.others(group, data.iter().copied()).into_iter();
        others.find(of_other).map(|(name, _)| name)
    }
}

impl Group {
    /// Whose process a node of ours is that says this: its own, or somebody else's. True if ours.
    pub(super) fn judge_origin(&mut self, core: &mut Core, at: &Address, info: &Info) -> bool {
        let name = self.name.clone();
        let is_master = *at == self.master.address;
        let Some(node) = self.node_mut(at) else { return true };
        let before = node.stranger.take();
        let stranger = match core.holds(Guard::ProcessTells) {
            true => {
                let place = (&name, at, is_master);
                core.origins.judge(&core.claims, place, info, before.as_ref(), core.now())
            }
            false => None,
        };
        let is_new = |of: &Stranger| before.as_ref().is_none_or(|before| !before.sure) && of.sure;
        let was_shared = before.as_ref().is_some_and(|before| before.shared);
        node.stranger.clone_from(&stranger);
        match &stranger {
            Some(of) if is_master && is_new(of) => {
                let text = format!(
                    "{at} {NOT_THE_MASTER} {name} any more: the process there is one of {}, \
                     which had it at {}. Two nodes have changed places, or an address was given \
                     away. The master of {name} counts as down, and only replicas that hold its \
                     data are promoted. If it lives elsewhere now, say SENTINEL REMOVE {name} and \
                     SENTINEL MONITOR with its address; if {at} is to be the master, MONITOR that",
                    of.group, of.place
                );
                core.say(Level::Warning, Some(&name), text);
            }
            Some(of) if is_master && of.shared && !was_shared => {
                let text = format!(
                    "{at} leads to the master of {}, which has it at {}, too. As long as that is \
                     so nobody is sent there for {name}, and no replica that has copied its data \
                     is promoted. If it is to be the master of both groups, say SENTINEL REMOVE \
                     {name} and SENTINEL MONITOR with its address",
                    of.group, of.place
                );
                core.say(Level::Warning, Some(&name), text);
            }
            None if is_master && before.is_some_and(|before| before.sure) => {
                let text = format!("{at} {THE_MASTER} {name} again");
                core.say(Level::Warning, Some(&name), text);
            }
            _ => {}
        }
        stranger.is_none()
    }

    /// A node of this group is what it said: it will be known again.
    pub(super) fn note_origin(&self, core: &mut Core, at: &Address) {
        let is_master = *at == self.master.address;
        let replica = || self.replicas.get(at).filter(|node| node.is_ours());
        let node = if is_master { Some(&self.master) } else { replica() };
        if let Some(info) = node.and_then(|node| node.info.as_ref()) {
            // One that has restarted goes on from what it was.
            let goes_on = || core.origins.is_own_data(&self.name, &info.histories());
            let is_proven = !is_master || !self.is_no_history_of(info) || goes_on();
            core.origins.note(&self.name, at, info, (is_master, is_proven), core.now());
        }
    }

    /// Our replicas have told their histories, and this master's is none of them: it has just
    /// started, or a stale name led to somebody else's for a moment. No other group is to be told
    /// that it is ours.
    fn is_no_history_of(&self, master: &Info) -> bool {
        let told = self.replicas.values().filter_map(|node| node.info.as_ref()?.replid.as_ref());
        let mut told = told.peekable();
        let replid = master.replid.as_ref().filter(|_| master.role == Role::Master);
        replid.is_some() && told.peek().is_some() && !told.any(|told| Some(told) == replid)
    }

    /// Of whom it was not sure whether it is a stranger, the other group may have told meanwhile.
    pub(super) fn settle_origins(&mut self, core: &mut Core) {
        let nodes = std::iter::once(&self.master).chain(self.replicas.values());
        let doubtful = nodes.filter(|node| node.stranger.as_ref().is_some_and(|of| !of.sure));
        let doubtful: Vec<_> =
            doubtful.filter_map(|node| Some((node.address.clone(), node.info.clone()?))).collect();
        for (at, info) in doubtful {
            if self.judge_origin(core, &at, &info) {
                self.note_origin(core, &at);
            }
        }
        self.believe_the_others(core);
    }

    /// A sentinel that was started while two nodes had changed places takes the right ones for
    /// strangers later. Alone it does nothing about it, and need not insist.
    fn believe_the_others(&mut self, core: &mut Core) {
        let Some(since) = self.master.stranger.as_ref().map(|of| of.since) else { return };
        let valid_ms = core.tune.opinion_valid_ms();
        let ups = self.peers.values().filter_map(|peer| peer.master_up_at);
        let ups = ups.filter(|at| core.now().since(*at) <= valid_ms).count() as u32;
        if ups < majority(self.voters()) || !core.due(since.plus(BELIEVED_MS)) {
            return;
        }
        let Some(info) = self.master.info.clone() else { return };
        let (at, name) = (self.master.address.clone(), self.name.clone());
        let text = format!("{at} {THE_MASTER} {name} again, since {ups} sentinels say so");
        core.say(Level::Warning, Some(&name), text);
        core.origins.unlearn(&name, &info);
        self.master.stranger = None;
        self.note_origin(core, &at);
        // Nor does it count whom they followed.
        for node in self.replicas.values_mut() {
            (node.followed, node.own_run_id, node.last_followed) = (false, None, None);
            node.hasten_info();
        }
    }

    /// Somebody else's data, which a replica has copied from a stranger in our master's place.
    pub(super) fn has_copied(&self, core: &Core, info: &Info) -> Option<GroupName> {
        let of_stranger = self.master.stranger.as_ref().filter(|_| {
            let held = self.master.info.as_ref().and_then(|master| master.replid.as_ref());
            held.is_some_and(|held| info.histories().contains(&held))
        });
        let of_other = || core.origins.holder_of_data(&core.claims, &self.name, &info.histories());
        of_stranger.map(|of| &of.group).or_else(of_other).cloned()
    }

    /// A master of another group, as its history shows: no old master of ours that is back, though
    /// nobody saw it come.
    pub(super) fn is_of_other_data(&self, core: &Core, info: &Info) -> bool {
        let data = info.replid.as_ref().filter(|_| core.holds(Guard::ProcessTells));
        data.is_some_and(|data| {
            core.origins.holder_of_data(&core.claims, &self.name, &[data]).is_some()
        })
    }

    /// A group that has a node at this address, and none in common with this one.
    pub(super) fn group_apart<'a>(&self, core: &'a Core, at: &Address) -> Option<&'a GroupName> {
        let holder = core.claims.holder(at, &self.name)?;
        let apart = !core.origins.overlap(&self.name, holder) && core.holds(Guard::ProcessTells);
        apart.then_some(holder)
    }

    /// The node at this address has proved to be of another group. A master that lived at another
    /// one's address for a while still shows replicas of then.
    pub(super) fn is_at_home_elsewhere(&self, core: &Core, at: &Address) -> bool {
        let home = self.group_apart(core, at).and_then(|group| core.origins.families.get(group));
        home.is_some_and(|family| family.contains_key(at))
    }

    /// How a node that another group had is called.
    pub(super) fn of_whom(stranger: &Stranger) -> String {
        let Stranger { group, place, .. } = stranger;
        format!("is a process of {group}, which had it at {place}")
    }
}
