//! One group as one sentinel told it, and what each kind of news makes of that.

use std::collections::BTreeMap;

use super::{Broken, Details, ONCE, STAGES, shown, stranger};
use crate::config::state::GroupState;
use crate::sentinel::types::{Address, Epoch, RunId};
use crate::sentinel::{Event, EventKind};
use crate::sim::wire::Ms;

/// So long after a RESET, at most, in ms, the sentinel still forgets whom it does not find. It may
/// be stopped meanwhile.
const RESET_MS: Ms = 60_000;

/// When something was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Told {
    /// When it was decided, at the earliest: it may have had to wait for the disk.
    pub(in super::super) since: Ms,
    pub(in super::super) at: Ms,
    /// Nothing was being written: it was decided at that moment.
    pub(in super::super) at_once: bool,
}

/// What is known of a master, a replica or a sentinel.
#[derive(Debug, Clone)]
pub(in super::super) struct Member {
    pub(super) at: Address,
    /// Called down.
    pub(super) down: bool,
    /// When that was last told of it, or that it is not.
    pub(super) judged: Option<Told>,
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
        Member { at, down: false, judged: None, known }
    }

    /// It is called down, or not any more. False if that was told already.
    fn judge(&mut self, down: bool, told: Told) -> bool {
        self.judged = Some(told);
        std::mem::replace(&mut self.down, down) != down
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

impl Stage {
    /// Where a failover is, in words.
    fn name(self) -> &'static str {
        match self {
            Stage::Idle => "there is no failover",
            Stage::Tried => "it stands for election",
            Stage::Elected => "it is elected",
            Stage::Selects => "it looks for a replica",
            Stage::Selected => "it has found a replica",
            Stage::Sends => "it is about to promote",
            Stage::Awaits => "it awaits the promotion",
            Stage::Promoted => "its replica is promoted",
            Stage::Repoints => "it repoints replicas",
        }
    }
}

/// Why another master is about to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Peer,
    Promotion(Address),
}

/// One group, as one sentinel told it.
#[derive(Debug)]
pub(in super::super) struct Page {
    /// Its `+monitor` was told.
    pub(super) watched: bool,
    pub(super) master: Member,
    /// When it was last told of, or made, another master.
    pub(in super::super) switched: Option<Told>,
    /// Since when a quorum sees the master down, and when that last ended.
    pub(in super::super) odown: Option<Told>,
    pub(in super::super) odown_ended: Ms,
    pub(super) replicas: Members,
    pub(super) peers: Members,
    pub(super) stage: Stage,
    /// When that was told, and the beginning of that failover.
    pub(super) staged_at: Ms,
    pub(in super::super) tried_at: Ms,
    /// An operator ordered the present failover, or the last one.
    pub(in super::super) forced: bool,
    /// When it told that it was elected, where that had to wait for nothing.
    pub(in super::super) elected: Option<Ms>,
    /// The epoch in which it stood for election last.
    pub(super) stood_in: Epoch,
    /// The disk failed since the failover began: what waits for it comes late, or not at all.
    pub(super) loose: bool,
    pub(super) cause: Option<Cause>,
    /// When replicas, and sentinels, may have been forgotten of whom nothing is told.
    replicas_doubted_at: Option<Ms>,
    peers_doubted_at: Option<Ms>,
    /// What was told of settings that an operator changed, until it is seen on disk.
    pub(super) set: BTreeMap<String, String>,
    /// The settings that were last seen on disk.
    pub(super) kept: BTreeMap<&'static str, u64>,
}

impl Page {
    pub(super) fn new(master: Address) -> Page {
        Page {
            watched: false,
            master: Member::new(master, Known::Sure),
            switched: None,
            odown: None,
            odown_ended: 0,
            replicas: Members::new(),
            peers: Members::new(),
            stage: Stage::Idle,
            staged_at: 0,
            tried_at: 0,
            forced: false,
            elected: None,
            stood_in: 0,
            loose: false,
            cause: None,
            replicas_doubted_at: None,
            peers_doubted_at: None,
            set: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(super) fn remembered(group: &GroupState) -> Page {
        let sure = |at: &Address| Member::new(at.clone(), Known::Sure);
        let mut page = Page::new(group.settings.master.clone());
        page.replicas = group.replicas.iter().map(|at| (at.to_string(), sure(at))).collect();
        page.peers = group.sentinels.iter().map(|(id, at)| (id.to_string(), sure(at))).collect();
        page
    }

    fn member(&mut self, of: &Details) -> Option<&mut Member> {
        match of.kind {
            "master" => Some(&mut self.master),
            "slave" => self.replicas.get_mut(of.name),
            _ => self.peers.get_mut(of.name),
        }
    }

    /// When it told that it awaits a promotion, while it does.
    pub(in super::super) fn promotes_since(&self) -> Option<Ms> {
        (self.stage == Stage::Awaits).then_some(self.staged_at)
    }

    /// A failover goes on that has promoted nobody yet.
    pub(in super::super) fn fails_over(&self) -> bool {
        (Stage::Tried..=Stage::Awaits).contains(&self.stage)
    }

    /// Since when it has stood for election, in ms, and whether it won it.
    pub(in super::super) fn candidacy(&self) -> Option<(Ms, bool)> {
        self.fails_over().then_some((self.tried_at, self.stage > Stage::Tried))
    }

    /// It led the last failover, and sends the replicas to the new master.
    pub(in super::super) fn leads(&self) -> bool {
        self.stage >= Stage::Promoted
    }

    /// Since when the master has been called down, in ms.
    pub(in super::super) fn master_down(&self) -> Option<Ms> {
        self.master.judged.filter(|_| self.master.down).map(|told| told.since)
    }

    /// A sentinel that is called down.
    pub(in super::super) fn is_silent(&self, id: &RunId) -> bool {
        self.peers.get(id.as_str()).is_some_and(|peer| peer.down)
    }

    /// When this sentinel was last called down, or not any more.
    pub(in super::super) fn peer_judged(&self, id: &RunId) -> Option<Told> {
        self.peers.get(id.as_str())?.judged
    }

    /// When this node was last called down, or not any more.
    pub(in super::super) fn judged(&self, at: &Address) -> Option<Told> {
        match self.master.at == *at {
            true => self.master.judged,
            false => self.replicas.get(&at.to_string())?.judged,
        }
    }

    /// An event of this group is written down.
    pub(super) fn enter(&mut self, of: &Details, told: Told, event: &Event) -> Result<(), Broken> {
        match event.kind {
            EventKind::Slave | EventKind::Sentinel => self.meet(of, told, event),
            EventKind::Sdown | EventKind::SdownEnd => {
                let Some(member) = self.member(of) else { return Err(stranger(event)) };
                match member.judge(event.kind == EventKind::Sdown, told) {
                    true => Ok(()),
                    false => Err((ONCE, format!("announces {} again", shown(event)))),
                }
            }
            EventKind::Odown | EventKind::OdownEnd => self.judge_objectively(told, event),
            EventKind::ResetMaster => {
                self.reset(told.at);
                Ok(())
            }
            EventKind::Set => {
                if let [option, value] = of.rest[..] {
                    self.set.insert(option.to_ascii_lowercase(), value.into());
                }
                Ok(())
            }
            EventKind::ConfigUpdateFrom => {
                self.cause = Some(Cause::Peer);
                Ok(())
            }
            EventKind::TryFailover => self.advance(Stage::Tried, told, event),
            EventKind::ElectedLeader => self.advance(Stage::Elected, told, event),
            EventKind::StateSelectSlave => self.advance(Stage::Selects, told, event),
            EventKind::SelectedSlave => self.advance(Stage::Selected, told, event),
            EventKind::StateSendSlaveofNoone => self.advance(Stage::Sends, told, event),
            EventKind::StateWaitPromotion => self.advance(Stage::Awaits, told, event),
            EventKind::PromotedSlave => {
                if of.kind == "master" {
                    // It had been made a replica by somebody: nothing is switched.
                    self.no_odown(told.at);
                    self.master.down = false;
                } else {
                    self.cause = Some(Cause::Promotion(of.at.clone()));
                }
                self.switched = Some(told);
                self.advance(Stage::Promoted, told, event)
            }
            EventKind::StateReconfSlaves => self.advance(Stage::Repoints, told, event),
            EventKind::AbortNotElected
            | EventKind::AbortNoGoodSlave
            | EventKind::AbortSlaveTimeout => self.end(event, self.fails_over()),
            EventKind::FailoverEnd => self.end(event, self.stage == Stage::Repoints),
            _ => Ok(()),
        }
    }

    /// A quorum sees the master down, or does not any more.
    fn judge_objectively(&mut self, told: Told, event: &Event) -> Result<(), Broken> {
        let odown = event.kind == EventKind::Odown;
        let before = self.odown.is_some();
        match odown {
            true => self.odown = Some(told),
            false => self.no_odown(told.at),
        }
        match before == odown || odown && !self.master.down {
            true => Err((ONCE, format!("announces {}, without +sdown or again", shown(event)))),
            false => Ok(()),
        }
    }

    /// The events of a failover follow each other.
    fn advance(&mut self, to: Stage, told: Told, event: &Event) -> Result<(), Broken> {
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
        if self.loose && to == Stage::Elected && self.stage != Stage::Tried {
            // It had to wait for the disk, and the failover has gone on, or is over.
            return Ok(());
        }
        // Who stands for election again repoints no more.
        let again = to == Stage::Tried && self.stage == Stage::Repoints;
        let stage = std::mem::replace(&mut self.stage, to);
        self.staged_at = told.at;
        match to {
            Stage::Tried => (self.tried_at, self.elected) = (told.at, None),
            Stage::Elected => self.elected = (told.since == told.at).then_some(told.at),
            _ => {}
        }
        if stage != before && !again && !self.loose {
            return Err((STAGES, format!("announces {} while {}", shown(event), stage.name())));
        }
        Ok(())
    }

    fn end(&mut self, event: &Event, ends: bool) -> Result<(), Broken> {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        if !ends && !self.loose {
            return Err((STAGES, format!("announces {} while {}", shown(event), stage.name())));
        }
        Ok(())
    }

    /// Another master: what was said of it and of the old one counts no more, and all replicas are
    /// told again.
    pub(super) fn switch(&mut self, to: Address, told: Told) {
        let judged = self.replicas.remove(&to.to_string()).and_then(|replica| replica.judged);
        let new = Member { judged, ..Member::new(to, Known::Sure) };
        let old = std::mem::replace(&mut self.master, new);
        let Member { at, judged, .. } = old;
        self.replicas.insert(at.to_string(), Member { judged, ..Member::new(at, Known::Due) });
        for replica in self.replicas.values_mut().filter(|r| r.known == Known::Sure) {
            replica.known = Known::Due;
        }
        self.no_odown(told.at);
        let leads = matches!(&self.cause, Some(Cause::Promotion(_)));
        if !leads {
            self.stage = Stage::Idle;
        }
        self.cause = None;
        self.switched = Some(told);
    }

    fn no_odown(&mut self, at: Ms) {
        self.odown = None;
        self.odown_ended = at;
    }

    /// RESET: nodes are not down until they are found so again, and nobody knows who is left.
    fn reset(&mut self, at: Ms) {
        self.no_odown(at);
        self.stage = Stage::Idle;
        self.master.down = false;
        for member in self.replicas.values_mut() {
            (member.down, member.known) = (false, Known::Doubtful);
        }
        self.replicas_doubted_at = Some(at);
        self.doubt_peers(at);
    }

    /// Some of the peers may be gone.
    pub(super) fn doubt_peers(&mut self, at: Ms) {
        self.peers_doubted_at = Some(at);
        for member in self.peers.values_mut() {
            member.known = Known::Doubtful;
        }
    }

    /// Once all that RESET did is done, whoever is left stays.
    pub(super) fn trust(&mut self, at: Ms) {
        for (doubted_at, members) in [
            (&mut self.replicas_doubted_at, &mut self.replicas),
            (&mut self.peers_doubted_at, &mut self.peers),
        ] {
            if doubted_at.is_some_and(|doubted_at| at > doubted_at + RESET_MS) {
                *doubted_at = None;
                members.values_mut().for_each(|member| member.known = Known::Sure);
            }
        }
    }

    /// A replica or sentinel is announced as new.
    fn meet(&mut self, of: &Details, told: Told, event: &Event) -> Result<(), Broken> {
        let replica = of.kind == "slave";
        let switch = replica && self.switched.is_some_and(|switched| switched.at >= told.since);
        let members = if replica { &mut self.replicas } else { &mut self.peers };
        let old = members.get(of.name);
        if old.is_some_and(|old| old.known == Known::Sure) {
            return Err((ONCE, format!("announces {} again", shown(event))));
        }
        // A replica that is told again with a switch stays down; one that was forgotten and is
        // found does not.
        let down = old.is_some_and(|old| old.down && (old.known == Known::Due || switch));
        let doubted_at = if replica { self.replicas_doubted_at } else { self.peers_doubted_at };
        let known = if doubted_at.is_some() { Known::Doubtful } else { Known::Sure };
        let judged = old.and_then(|old| old.judged);
        let member = Member { at: of.at.clone(), down, judged, known };
        members.insert(of.name.into(), member);
        Ok(())
    }
}
