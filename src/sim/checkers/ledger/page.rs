//! One group as one sentinel told it, and what each kind of news makes of that.

use std::collections::BTreeMap;

use super::{Broken, Details, ONCE, STAGES, shown};
use crate::config::state::GroupState;
use crate::sentinel::Event;
use crate::sentinel::types::{Address, Epoch};
use crate::sim::wire::Ms;

/// So long after a RESET, at most, in ms, the sentinel still forgets whom it does not find. It may
/// be stopped meanwhile.
const RESET_MS: Ms = 60_000;

/// What is known of a master, a replica or a sentinel.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) at: Address,
    /// Called down; `None` where nobody who listens can know.
    pub(super) down: Option<bool>,
    pub(super) known: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Sure,
    /// RESET may have made the sentinel forget it, which is not told of each.
    Doubtful,
    /// A switch is told, and after it each replica is told again.
    Due,
}

impl Member {
    pub(super) fn new(at: Address, known: Known) -> Member {
        Member { at, down: Some(false), known }
    }
}

/// Others by name: a replica's is its address, a sentinel's its id.
pub(super) type Members = BTreeMap<String, Member>;

/// How far the present failover has come, in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Idle,
    Tried,
    Elected,
    Selects,
    Selected,
    Sends,
    Awaits,
    Promoted,
    /// The other replicas are sent to the new master.
    Repoints,
}

/// Why another master is about to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Peer,
    Promotion(Address),
}

/// One group, as one sentinel told it.
#[derive(Debug)]
pub(super) struct Page {
    /// Its `+monitor` was told.
    pub(super) watched: bool,
    pub(super) master: Member,
    pub(super) odown: bool,
    pub(super) replicas: Members,
    pub(super) peers: Members,
    pub(super) stage: Stage,
    /// When that was told.
    pub(super) staged_at: Ms,
    /// The epoch in which it stood for election last.
    pub(super) stood_in: Epoch,
    /// The disk failed since the failover began: what waits for it comes late, or not at all.
    pub(super) loose: bool,
    pub(super) cause: Option<Cause>,
    /// When some may have been forgotten of whom nothing is told.
    pub(super) reset_at: Option<Ms>,
    /// What was told of settings that an operator changed, until it is seen on disk.
    pub(super) set: BTreeMap<String, String>,
}

impl Page {
    pub(super) fn new(master: Address) -> Page {
        Page {
            watched: false,
            master: Member::new(master, Known::Sure),
            odown: false,
            replicas: Members::new(),
            peers: Members::new(),
            stage: Stage::Idle,
            staged_at: 0,
            stood_in: 0,
            loose: false,
            cause: None,
            reset_at: None,
            set: BTreeMap::new(),
        }
    }

    pub(super) fn remembered(group: &GroupState) -> Page {
        let sure = |at: &Address| Member::new(at.clone(), Known::Sure);
        let mut page = Page::new(group.settings.master.clone());
        page.replicas = group.replicas.iter().map(|at| (at.to_string(), sure(at))).collect();
        page.peers = group.sentinels.iter().map(|(id, at)| (id.to_string(), sure(at))).collect();
        page
    }

    pub(super) fn member(&mut self, of: &Details) -> Option<&mut Member> {
        match of.kind {
            "master" => Some(&mut self.master),
            "slave" => self.replicas.get_mut(of.name),
            _ => self.peers.get_mut(of.name),
        }
    }

    pub(super) fn fails_over(&self) -> bool {
        (Stage::Tried..=Stage::Awaits).contains(&self.stage)
    }

    /// The events of a failover follow each other.
    pub(super) fn advance(&mut self, to: Stage, at: Ms, event: &Event) -> Result<(), Broken> {
        let before = [
            Stage::Idle,
            Stage::Idle,
            Stage::Tried,
            Stage::Elected,
            Stage::Selects,
            Stage::Selected,
            Stage::Sends,
            Stage::Awaits,
            Stage::Promoted,
        ][to as usize];
        // Who stands for election again repoints no more.
        let again = to == Stage::Tried && self.stage == Stage::Repoints;
        let stage = std::mem::replace(&mut self.stage, to);
        self.staged_at = at;
        if stage != before && !again && !self.loose {
            return Err((STAGES, format!("announces {} while {stage:?}", shown(event))));
        }
        Ok(())
    }

    pub(super) fn end(&mut self, event: &Event, ends: bool) -> Result<(), Broken> {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        if !ends && !self.loose {
            return Err((STAGES, format!("announces {} while {stage:?}", shown(event))));
        }
        Ok(())
    }

    /// Another master: what was said of it and of the old one counts no more, and all replicas are
    /// told again.
    pub(super) fn switch(&mut self, to: Address) {
        let old = std::mem::replace(&mut self.master, Member::new(to.clone(), Known::Sure));
        self.replicas.remove(&to.to_string());
        self.replicas.insert(old.at.to_string(), Member::new(old.at, Known::Due));
        for replica in self.replicas.values_mut().filter(|r| r.known == Known::Sure) {
            replica.known = Known::Due;
        }
        self.odown = false;
        let leads = matches!(&self.cause, Some(Cause::Promotion(_)));
        if !leads {
            self.stage = Stage::Idle;
        }
        self.cause = None;
    }

    /// RESET: nodes are not down until they are found so again, and nobody knows who is left.
    pub(super) fn reset(&mut self, at: Ms) {
        self.odown = false;
        self.stage = Stage::Idle;
        self.master.down = Some(false);
        for member in self.replicas.values_mut() {
            (member.down, member.known) = (Some(false), Known::Doubtful);
        }
        self.doubt_peers(at);
    }

    /// Some of the peers may be gone.
    pub(super) fn doubt_peers(&mut self, at: Ms) {
        self.reset_at = Some(at);
        for member in self.peers.values_mut() {
            member.known = Known::Doubtful;
        }
    }

    /// Once all that RESET did is done, whoever is left stays.
    pub(super) fn trust(&mut self, at: Ms) {
        if self.reset_at.is_some_and(|reset_at| at > reset_at + RESET_MS) {
            self.reset_at = None;
            for member in self.replicas.values_mut().chain(self.peers.values_mut()) {
                member.known = Known::Sure;
            }
        }
    }

    /// A replica or sentinel is announced as new.
    pub(super) fn meet(&mut self, of: &Details, event: &Event) -> Result<(), Broken> {
        let members = if of.kind == "slave" { &mut self.replicas } else { &mut self.peers };
        let old = members.get(of.name);
        if old.is_some_and(|old| old.known == Known::Sure) {
            return Err((ONCE, format!("announces {} again", shown(event))));
        }
        let down = match old {
            // A replica that is told again after a switch stays down; one that was forgotten
            // and is found does not.
            Some(old) if old.known == Known::Due => old.down,
            Some(old) if of.kind == "slave" && old.down != Some(false) => None,
            _ => Some(false),
        };
        let known = if self.reset_at.is_some() { Known::Doubtful } else { Known::Sure };
        let member = Member { at: of.at.clone(), down, known };
        members.insert(of.name.into(), member);
        Ok(())
    }
}
