//! The ledger: what each sentinel announced, written down from its events alone. Whoever only
//! listens knows what whoever asks is told, and what is on disk.
//!
//! Announcements may wait for the disk while answers do not, so both are compared only when
//! nothing is being written: then nothing waits.

mod compare;
mod page;

use std::collections::{BTreeMap, BTreeSet};

use page::{Cause, Known, Member};
pub(super) use page::{Page, Told};

use super::{Checkers, Group, Said, Speaker, read_vote};
use crate::config::state::GroupState;
use crate::sentinel::types::{Address, Epoch};
use crate::sentinel::{Effect, Event, EventKind, Input, Request};
use crate::sim::rules::{Broken, Rule};
use crate::sim::wire::Ms;

/// An answer agrees with the events.
const AGREE: Rule = Rule::WhoListensKnowsWhatWhoAsksIsTold;
/// The disk does.
const WRITTEN: Rule = Rule::WhoListensKnowsWhatIsOnDisk;
/// Each change is told, and told once.
const ONCE: Rule = Rule::EachChangeIsToldOnce;
/// A switch leads from the master that was told to the one that is on disk, and has its reason.
const SWITCH: Rule = Rule::ASwitchLeadsFromMasterToMaster;
/// The events of a failover come one after the other, until it ends.
const STAGES: Rule = Rule::AFailoverIsToldFromBeginningToEnd;
/// A failover makes a newer configuration, or ends.
const NEWER: Rule = Rule::ANewerConfigurationEndsOlderFailovers;
/// What is answered to a peer is what was announced.
const OPINION: Rule = Rule::OpinionsAreAnnounced;

/// A sentinel is asked for all that it knows so often, in ms: the answers are long.
const AUDIT_MS: Ms = 10_000;

/// All that one sentinel told since it started.
#[derive(Debug, Default)]
struct Book {
    epoch: Epoch,
    tilt: bool,
    pages: BTreeMap<Group, Page>,
    /// FAILOVERs that were answered OK, and have not begun: that the group is watched may be told
    /// later.
    orders: BTreeMap<Group, u32>,
    /// Groups in which no failover has begun since the last of them.
    untried: BTreeSet<Group>,
    /// Nothing is being written, or has to be.
    settled: bool,
    failed: bool,
    /// Something was told, or written, since it was last compared with the disk.
    dirty: bool,
    /// When it was last asked for all that it knows.
    audited_at: Ms,
    /// Groups that it was told to remove, until it tells that: of what it had to say of them only
    /// that is told which concerns others, too.
    removing: BTreeSet<Group>,
    /// When it was last told to RESET a group.
    reset_at: Option<Ms>,
}

/// All books, by sentinel.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<usize, Book>);

impl Ledger {
    /// What a sentinel has told of a group since it started.
    pub(super) fn page(&self, sentinel: usize, group: &str) -> Option<&Page> {
        self.0.get(&sentinel)?.pages.get(group)
    }

    /// A FAILOVER was answered OK, and none has begun without another cause.
    pub(super) fn is_ordered(&self, sentinel: usize, group: &str) -> bool {
        self.0.get(&sentinel).is_some_and(|book| book.orders.contains_key(group))
    }

    /// A FAILOVER was answered OK, and none at all has begun since.
    pub(super) fn is_untried(&self, sentinel: usize, group: &str) -> bool {
        self.0.get(&sentinel).is_some_and(|book| book.untried.contains(group))
    }

    /// True if the sentinel calls this replica down, in any group.
    pub(super) fn is_down(&self, sentinel: usize, at: &Address) -> bool {
        let name = at.to_string();
        let pages = self.0.get(&sentinel).into_iter().flat_map(|book| book.pages.values());
        pages.filter_map(|page| page.replicas.get(&name)).any(|replica| replica.down)
    }
}

impl Checkers {
    /// A sentinel starts with what is on its disk.
    pub(super) fn open_book(&mut self, speaker: &Speaker) {
        let groups = speaker.disk.groups.iter();
        let pages =
            groups.map(|(name, group)| (name.to_string(), Page::remembered(group))).collect();
        // Not all are asked at once.
        let audited_at = speaker.at + AUDIT_MS / 7 * (speaker.number as Ms % 7);
        let epoch = speaker.disk.current_epoch;
        let book = Book { epoch, pages, audited_at, ..Book::default() };
        self.ledger.0.insert(speaker.number, book);
    }

    /// Its process ends.
    pub(super) fn close_book(&mut self, sentinel: usize) {
        self.ledger.0.remove(&sentinel);
    }

    /// Something comes to it: all that it decided before is said, unless it waits for the disk.
    pub(super) fn read_book(&mut self, speaker: &Speaker, disk_fails: bool, disk_idle: bool) {
        let Some(book) = self.ledger.0.get_mut(&speaker.number) else { return };
        // What ends a write may begin the next.
        let was_settled = std::mem::replace(&mut book.settled, disk_idle && !disk_fails);
        if disk_fails && !book.failed {
            book.pages.values_mut().for_each(|page| page.loose = true);
        }
        book.failed = disk_fails;
        // Who was stopped has still to say what it had decided.
        if book.dirty && was_settled && book.settled && !speaker.was_stopped() {
            book.dirty = false;
            if let Err((rule, how)) = book.compare_with_disk(speaker) {
                self.broken(speaker, rule, how);
            }
        }
    }

    /// It is told to forget a group, and with it what it was ordered to do there; or to forget who
    /// is silent.
    pub(super) fn hears_order(&mut self, speaker: &Speaker, input: &Input) {
        let Input::Request { request, .. } = input else { return };
        let Some(book) = self.ledger.0.get_mut(&speaker.number) else { return };
        match request {
            Request::Remove(name) => {
                book.orders.remove(name);
                book.untried.remove(name);
                book.removing.insert(name.clone());
            }
            Request::Reset(_) => book.reset_at = Some(speaker.at),
            _ => {}
        }
    }

    /// True, now and then, if what it is asked for now can be compared.
    pub(in crate::sim) fn audit_is_due(&mut self, sentinel: usize, now: Ms) -> bool {
        let Some(book) = self.ledger.0.get_mut(&sentinel) else { return false };
        let may = book.settled && now >= book.audited_at + AUDIT_MS;
        if may {
            book.audited_at = now;
        }
        may
    }

    /// It says something.
    pub(super) fn write_book(&mut self, speaker: &Speaker, said: &Said) -> Option<Broken> {
        let book = self.ledger.0.get_mut(&speaker.number)?;
        let found = match said.effect {
            Effect::Persist { .. } => {
                (book.settled, book.dirty) = (false, true);
                Ok(())
            }
            Effect::Announce(event) if is_of_links(event.kind) => Ok(()),
            Effect::Announce(event) => {
                book.dirty |= !is_of_health(event.kind);
                book.enter(speaker, event)
            }
            Effect::Reply { reply, .. } => match said.question {
                Some(question) => book.answers(speaker, question, reply),
                None => Ok(()),
            },
            _ => Ok(()),
        };
        found.err()
    }
}

impl Book {
    /// An event is written down; it must follow from what is written.
    fn enter(&mut self, speaker: &Speaker, event: &Event) -> Result<(), Broken> {
        let Some(name) = event.group.as_deref() else { return self.enter_own(event) };
        match event.kind {
            EventKind::VoteForLeader => {
                if let (Some(page), Some((leader, epoch))) =
                    (self.pages.get_mut(name), read_vote(&event.payload))
                    && leader == *speaker.id
                {
                    page.stood_in = epoch;
                }
                return Ok(());
            }
            EventKind::Unmonitor => {
                // What waited to be told of it is dropped: that it was watched again, or that
                // somebody is gone whom other groups knew, too.
                self.pages.remove(name);
                self.removing.remove(name);
                self.pages.values_mut().for_each(|page| page.doubt_peers(speaker.at));
                return Ok(());
            }
            EventKind::SwitchMaster => return self.switch(speaker, name, event),
            _ => {}
        }
        let Some(of) = Details::of(&event.payload) else {
            return Err((ONCE, format!("announces {}, which nobody can read", shown(event))));
        };
        if event.kind == EventKind::Monitor {
            return self.monitor(name, &of, speaker.told(), event);
        }
        let (failed, removing) = (self.failed, self.removing.contains(name));
        let Some(page) = self.pages.get_mut(name) else { return Err(stranger(event)) };
        if of.master != page.master.at && !page.loose && !removing {
            let how = format!("announces {}, and the master is {}", shown(event), page.master.at);
            return Err((SWITCH, how));
        }
        match event.kind {
            EventKind::SentinelInvalidAddr => {
                // That it was met may have been taken back with the group.
                let mut known = removing;
                for page in self.pages.values_mut() {
                    known |= page.peers.remove(of.name).is_some();
                }
                known.then_some(()).ok_or_else(|| stranger(event))
            }
            EventKind::SentinelAddressSwitch => self.moved(&of, event),
            _ => {
                if event.kind == EventKind::TryFailover {
                    page.loose &= failed;
                    self.untried.remove(name);
                    page.forced = self.orders.contains_key(name);
                    // One that had its cause may have waited for the disk longer than the order.
                    if page.odown.is_none() {
                        self.orders.entry(name.into()).and_modify(|orders| *orders -= 1);
                        self.orders.retain(|_, orders| *orders > 0);
                    }
                }
                page.enter(&of, speaker.told(), event)
            }
        }
    }

    /// News of no group.
    fn enter_own(&mut self, event: &Event) -> Result<(), Broken> {
        match event.kind {
            EventKind::Tilt | EventKind::TiltEnd => {
                let tilt = event.kind == EventKind::Tilt;
                match std::mem::replace(&mut self.tilt, tilt) == tilt {
                    true => Err((ONCE, format!("announces {} again", event.kind.name()))),
                    false => Ok(()),
                }
            }
            EventKind::NewEpoch => {
                let epoch: Epoch = event.payload.parse().unwrap_or(0);
                let newer = self.epoch.max(epoch);
                let before = std::mem::replace(&mut self.epoch, newer);
                match epoch > before {
                    true => Ok(()),
                    false => Err((ONCE, format!("announces epoch {epoch} after {before}"))),
                }
            }
            _ => Ok(()),
        }
    }

    /// A group is watched from the start or from now on. Its file may name another master than its
    /// memory.
    fn monitor(
        &mut self,
        name: &str,
        of: &Details,
        told: Told,
        event: &Event,
    ) -> Result<(), Broken> {
        let page = self.pages.entry(name.into()).or_insert_with(|| Page::new(of.at.clone()));
        page.master = Member::new(of.at.clone(), Known::Sure);
        page.switched = Some(told);
        page.replicas.remove(&of.at.to_string());
        match std::mem::replace(&mut page.watched, true) {
            true => Err((ONCE, format!("announces {} again", shown(event)))),
            false => Ok(()),
        }
    }

    /// A sentinel has another address, in all groups.
    fn moved(&mut self, of: &Details, event: &Event) -> Result<(), Broken> {
        let ["ip", host, "port", port, "for", id] = of.rest[..] else {
            return Err(stranger(event));
        };
        let Some(at) = address(host, port) else { return Err(stranger(event)) };
        // Whom nobody was told of is new, where the word of that was taken back with the group.
        let known = |page: &Page| page.peers.contains_key(id);
        let mut news = !self.removing.is_empty() && !self.pages.values().any(known);
        for peer in self.pages.values_mut().filter_map(|page| page.peers.get_mut(id)) {
            news |= peer.at != at;
            peer.at = at.clone();
        }
        match news {
            true => Ok(()),
            false => Err((ONCE, format!("announces {} again", shown(event)))),
        }
    }

    fn switch(&mut self, speaker: &Speaker, name: &str, event: &Event) -> Result<(), Broken> {
        let words: Vec<&str> = event.payload.split(' ').collect();
        let (old, new) = match words[..] {
            [group, host, port, to, to_port] if group == name => {
                (address(host, port), address(to, to_port))
            }
            _ => (None, None),
        };
        let wrong = |how: &str| Err((SWITCH, format!("announces {}: {how}", shown(event))));
        let (Some(old), Some(new)) = (old, new) else { return wrong("nobody can read that") };
        let Some(page) = self.pages.get_mut(name) else { return Err(stranger(event)) };
        let cause = page.cause.clone();
        let before = page.master.at.clone();
        let promoted = match &cause {
            Some(Cause::Promotion(at)) => *at == new,
            _ => true,
        };
        page.switch(new.clone(), speaker.told());
        if old != before {
            return wrong(&format!("the master was {before}"));
        }
        if new == old || !promoted {
            return wrong("that is none");
        }
        if cause.is_none() {
            return wrong("nothing was told of its reason");
        }
        // Two switches may be written at once, and a RESET that forgets the first master, too.
        let reset = self.reset_at.is_some_and(|at| at >= speaker.told().since);
        let known = speaker.disk.groups.get(name);
        let knows =
            |group: &GroupState| group.settings.master == new || group.replicas.contains(&new);
        if self.settled && !reset && !known.is_some_and(knows) {
            return wrong("its disk knows nothing of it");
        }
        Ok(())
    }
}

/// Whom an event is about: the details with which it begins.
struct Details<'a> {
    /// `master`, `slave` or `sentinel`.
    kind: &'a str,
    name: &'a str,
    at: Address,
    /// Its master as this sentinel knows it.
    master: Address,
    rest: Vec<&'a str>,
}

impl Details<'_> {
    fn of(payload: &str) -> Option<Details<'_>> {
        let words: Vec<&str> = payload.split(' ').collect();
        match words[..] {
            [kind @ "master", name, host, port, ref rest @ ..] => {
                let at = address(host, port)?;
                Some(Details { kind, name, master: at.clone(), at, rest: rest.to_vec() })
            }
            [
                kind @ ("slave" | "sentinel"),
                name,
                host,
                port,
                "@",
                _,
                on,
                on_port,
                ref rest @ ..,
            ] => {
                let (at, master) = (address(host, port)?, address(on, on_port)?);
                Some(Details { kind, name, at, master, rest: rest.to_vec() })
            }
            _ => None,
        }
    }
}

/// Told often, and of nothing that is known of others.
fn is_of_links(kind: EventKind) -> bool {
    matches!(kind, EventKind::CmdLinkReconnection | EventKind::PubsubLinkReconnection)
}

/// What changes nothing on disk.
fn is_of_health(kind: EventKind) -> bool {
    use EventKind::{Odown, OdownEnd, Reboot, RoleChange, RoleMismatch, Sdown, SdownEnd};
    matches!(kind, Odown | OdownEnd | Reboot | RoleChange | RoleMismatch | Sdown | SdownEnd)
}

fn address(host: &str, port: &str) -> Option<Address> {
    Some(Address::new(host, port.parse().ok()?))
}

fn shown(event: &Event) -> String {
    format!("{} {}", event.kind.name(), event.payload)
}

fn stranger(event: &Event) -> Broken {
    (ONCE, format!("announces {}, of which it never told", shown(event)))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
