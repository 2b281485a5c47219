//! What the groups of one stock sentinel share: time, id, epoch, links, the way out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::settings::{GroupSettings, SentinelSettings};
use crate::sentinel::types::{Address, Chance, RunId};
use crate::sentinel::{
    Command, Effect, Epoch, Event, EventKind, GroupName, Instant, LinkId, Target, TargetKind,
};

/// Whose link it is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) group: GroupName,
    pub(super) whom: Whom,
}

/// An instance within its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    Master,
    Replica(Address),
    Peer(RunId),
}

pub(super) struct Core {
    pub(super) now: Instant,
    pub(super) my_id: RunId,
    pub(super) current_epoch: Epoch,
    pub(super) settings: SentinelSettings,
    pub(super) chance: Chance,
    pub(super) tilt: bool,
    pub(super) links: BTreeMap<LinkId, Owner>,
    next_link: u64,
    pub(super) out: VecDeque<Effect>,
    /// The state is to be written before anything of `out` is done.
    pub(super) unwritten: bool,
}

impl Core {
    pub(super) fn new(
        now: Instant,
        settings: SentinelSettings,
        my_id: RunId,
        current_epoch: Epoch,
        seed: u64,
    ) -> Core {
        Core {
            now,
            my_id,
            current_epoch,
            settings,
            chance: Chance::new(seed),
            tilt: false,
            links: BTreeMap::new(),
            next_link: 1,
            out: VecDeque::new(),
            unwritten: false,
        }
    }

    /// `sentinelFlushConfig`. Redis writes at once, but all that it says goes into buffers, which
    /// are sent when the event has been handled: what is written comes first.
    pub(super) fn flush(&mut self) {
        self.unwritten = true;
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.out.push_back(effect);
    }

    pub(super) fn announce(&mut self, kind: EventKind, group: Option<&GroupName>, payload: String) {
        self.emit(Effect::Announce(Event { kind, group: group.cloned(), payload }));
    }

    /// Takes over or begins an epoch, without a word about the disk.
    pub(super) fn announce_epoch(&mut self, group: &GroupName) {
        let payload = self.current_epoch.to_string();
        self.announce(EventKind::NewEpoch, Some(group), payload);
    }

    pub(super) fn send(&mut self, link: LinkId, command: Command) {
        self.emit(Effect::Send { link, command });
    }

    pub(super) fn connect(
        &mut self,
        owner: Owner,
        address: &Address,
        settings: &GroupSettings,
    ) -> LinkId {
        let peer = matches!(owner.whom, Whom::Peer(_));
        let own = self.settings.sentinel_pass.as_ref();
        let target = Target {
            address: address.clone(),
            kind: if peer { TargetKind::Sentinel } else { TargetKind::Node },
            user: match peer {
                true => own.and(self.settings.sentinel_user.clone()),
                false => settings.auth_user.clone(),
            },
            password: match peer {
                true => own.or(self.settings.requirepass.as_ref()).cloned(),
                false => settings.auth_pass.clone(),
            },
            rename_commands: match peer {
                true => Arc::default(),
                false => Arc::new(settings.rename_commands.clone()),
            },
            client_name: format!("sentinel-{}", self.my_id.short()),
        };
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, owner);
        self.emit(Effect::Connect { link, target: Box::new(target) });
        link
    }

    pub(super) fn disconnect(&mut self, link: LinkId) -> Option<Owner> {
        self.emit(Effect::Disconnect { link });
        self.links.remove(&link)
    }

    /// Closes a link and opens one for the same instance.
    pub(super) fn reopen(
        &mut self,
        link: LinkId,
        address: &Address,
        settings: &GroupSettings,
    ) -> LinkId {
        match self.disconnect(link) {
            Some(owner) => self.connect(owner, address, settings),
            None => link,
        }
    }
}
