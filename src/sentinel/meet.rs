//! What is done with a hello: getting to know other sentinels, taking over newer configurations.

use super::Sentinel;
use super::core::Core;
use super::event::{EventKind, Level};
use super::group::{Group, MEMBERS_MAX};
use super::hello::Hello;
use super::peer::Heard;
use super::timers::Subject;
use super::types::{Address, GroupName, RunId};
use crate::config::rules::valid_host;

impl Sentinel {
    /// A hello was heard on a node, or said to us by its sender.
    pub(super) fn hear_hello(&mut self, payload: &str) {
        let hello = match Hello::parse(payload) {
            Ok(hello) => hello,
            Err(why) => return self.count_bad_hello(&why),
        };
        let Some((name, _)) = self.groups.get_key_value(hello.group.as_str()) else { return };
        let name = name.clone();
        if hello.id == self.core.my_id {
            return;
        }
        if !self.core.is_credible(hello.current_epoch.max(hello.config_epoch)) {
            return self.count_bad_hello("its epoch lies absurdly far ahead of ours");
        }
        let names_allowed = self.core.settings.resolve_hostnames;
        let usable = |host: &str| valid_host(host, names_allowed);
        if !usable(&hello.sender.host) || !usable(&hello.master.host) {
            return self.count_bad_hello(if names_allowed {
                "it holds what is neither an IP address nor a host name"
            } else {
                "it holds a host name, and resolve-hostnames is off"
            });
        }
        if self.core.is_own_address(&hello.sender) {
            // A late word of the one who lived here before us.
            return;
        }
        self.meet(&name, &hello.id, &hello.sender);
        // No sentinel says so, but nothing may be configured in an epoch that is still to come.
        self.core.adopt_epoch(hello.current_epoch.max(hello.config_epoch));
        let Some(group) = self.groups.get_mut(&name) else { return };
        let news = group.take_hello(&mut self.core, &hello);
        if news || !group.is_quiet(&self.core) {
            self.touch(Subject::Group(name));
        }
    }

    fn count_bad_hello(&mut self, why: &str) {
        self.core.bad_hellos += 1;
        if self.core.bad_hellos.is_power_of_two() {
            let text =
                format!("Ignored a hello message: {why} ({} ignored so far)", self.core.bad_hellos);
            self.core.say(Level::Warning, None, text);
        }
    }

    /// Makes sure that this sentinel is known to the group, under this address.
    fn meet(&mut self, name: &GroupName, id: &RunId, address: &Address) {
        let Some(group) = self.groups.get(name) else { return };
        match group.peers.get(id) {
            Some(peer) if peer.address == *address => return,
            Some(_) => return self.move_peer(name, id, address),
            None => {}
        }
        if group.peers.len() >= MEMBERS_MAX {
            return self.count_bad_hello("its group has as many sentinels as it may have");
        }
        let holder = group.peers.iter().find(|(_, peer)| peer.address == *address);
        if let Some(old) = holder.map(|(old, _)| old.clone()) {
            self.replace_peer(name, &old);
        }
        let known_elsewhere = self.core.peers.get(id).is_some_and(|l| l.address != *address);
        if known_elsewhere {
            self.move_peer(name, id, address);
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        group.insert_peer(&mut self.core, id.clone(), address.clone());
        self.core.out.touch();
        let details = group.peer_details(&self.core, id);
        self.core.announce(EventKind::Sentinel, Some(name), details);
    }

    /// Another id says to live at this address: the old one is gone from all groups.
    fn replace_peer(&mut self, name: &GroupName, old: &RunId) {
        if let Some(group) = self.groups.get(name) {
            let details = group.peer_details(&self.core, old);
            self.core.announce(EventKind::SentinelInvalidAddr, Some(name), details);
        }
        for (name, group) in &mut self.groups {
            if group.peers.remove(old).is_some() {
                self.core.leave_peer(old, name);
            }
        }
    }

    /// A known sentinel has another address: it moves in all groups, and so does its link.
    fn move_peer(&mut self, name: &GroupName, id: &RunId, address: &Address) {
        let mut others = 0;
        for (other, group) in &mut self.groups {
            if let Some(peer) = group.peers.get_mut(id) {
                peer.address = address.clone();
                peer.connection_changed();
                others += u32::from(other != name);
            }
        }
        if let Some(mut link) = self.core.peers.remove(id) {
            link.reopen(&mut self.core, id, address.clone());
            self.core.peers.insert(id.clone(), link);
            self.touch(Subject::Peer(id.clone()));
        }
        self.core.out.touch();
        let Some(group) = self.groups.get(name) else { return };
        let master = group.master_details(&self.core);
        let payload = format!("{master} ip {} port {} for {id}", address.host, address.port);
        self.core.announce(EventKind::SentinelAddressSwitch, Some(name), payload);
        if others > 0 {
            let details = group.peer_details(&self.core, id);
            let payload = format!("{details} {others} additional matching instances");
            self.core.announce(EventKind::SentinelAddressUpdate, Some(name), payload);
        }
    }
}

impl Group {
    /// True if a step must follow, whatever else is under way.
    fn take_hello(&mut self, core: &mut Core, hello: &Hello) -> bool {
        let now = core.now();
        let newer = hello.config_epoch > self.config_epoch;
        if newer {
            self.adopt_config(core, hello);
        }
        let Some(peer) = self.peers.get_mut(&hello.id) else { return newer };
        let first = peer.hello.is_none();
        peer.last_hello = now;
        peer.hello = Some(Heard {
            at: now,
            current_epoch: hello.current_epoch,
            config_epoch: hello.config_epoch,
        });
        let lags = hello.config_epoch < self.config_epoch;
        if lags {
            // Tell it at once.
            peer.next_hello = now;
        }
        newer || first || lags
    }

    /// A newer configuration: the higher epoch wins, everywhere and without asking.
    fn adopt_config(&mut self, core: &mut Core, hello: &Hello) {
        self.config_epoch = hello.config_epoch;
        core.out.touch();
        if self.master.is_at(&hello.master) {
            if self.failover.as_ref().is_some_and(|f| f.epoch <= hello.config_epoch) {
                self.give_up(core);
            }
            return;
        }
        let known = self.replicas.values().find(|node| node.is_at(&hello.master));
        let to = known.map_or_else(|| hello.master.clone(), |node| node.address.clone());
        let details = self.peer_details(core, &hello.id);
        core.announce_durable(EventKind::ConfigUpdateFrom, Some(&self.name), details);
        self.switch_master(core, to);
    }
}
