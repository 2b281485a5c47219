//! Hellos of others: how a stock sentinel meets peers, learns epochs and follows a newer
//! configuration.

use super::Stock;
use super::instance::peer_details;
use crate::config::rules::valid_host;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Epoch, EventKind};

/// Redis's `strtoull`: a sign is taken, what overflows is the largest, what is no number is 0. So
/// -1 is the largest epoch there is.
fn unsigned(text: &str) -> Epoch {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let end = digits.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let number = match &digits[..end] {
        "" => 0,
        digits => digits.parse().unwrap_or(Epoch::MAX),
    };
    if minus { number.wrapping_neg() } else { number }
}

fn address(host: &str, port: &str, names_allowed: bool) -> Option<Address> {
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    valid_host(host, names_allowed).then(|| Address::new(host, port))
}

impl Stock {
    /// `sentinelProcessHelloMessage`. Unlike Redis we do not meet ourselves.
    pub(super) fn hear(&mut self, payload: &str) {
        let mut fields = payload.split(',');
        let mut next = || fields.next().unwrap_or_default();
        let (ip, port, id, epoch) = (next(), next(), next(), next());
        let (name, master_ip, master_port, config_epoch) = (next(), next(), next(), next());
        if config_epoch.is_empty() || fields.next().is_some() {
            return;
        }
        let Some((name, _)) = self.groups.get_key_value(name) else { return };
        let name = name.clone();
        let Some(id) = RunId::parse(id).filter(|id| *id != self.core.my_id) else { return };
        let names_allowed = self.core.settings.resolve_hostnames;
        self.meet(&name, &id, address(ip, port, names_allowed));
        let epoch = unsigned(epoch);
        let core = &mut self.core;
        if epoch > core.current_epoch {
            core.current_epoch = epoch;
            core.flush();
            core.announce_epoch(&name);
        }
        let Some(group) = self.groups.get_mut(&name) else { return };
        let Some(peer) = group.peers.get_mut(&id) else { return };
        peer.hello_at = core.now;
        let config_epoch = unsigned(config_epoch);
        if group.config_epoch >= config_epoch {
            return;
        }
        // Where only the number changes, nothing is written.
        group.config_epoch = config_epoch;
        let Some(to) = address(master_ip, master_port, names_allowed) else { return };
        if to != group.settings.master {
            let at = &peer.instance.address;
            let details = peer_details(&id, at, &name, &group.settings.master);
            core.announce(EventKind::ConfigUpdateFrom, Some(&name), details);
            group.announce_switch(core, &to);
            group.change_address(core, to);
        }
    }

    /// Makes the sender known under this address, if it is not.
    fn meet(&mut self, name: &str, id: &RunId, address: Option<Address>) {
        let core = &mut self.core;
        let Some(group) = self.groups.get_mut(name) else { return };
        let known = group.peers.get(id).map(|peer| &peer.instance.address);
        if known.is_some() && known == address.as_ref() {
            return;
        }
        let moved = group.remove_peer(core, id);
        if let Some(at) = &address {
            if moved {
                let (host, port) = (&at.host, at.port);
                let payload = format!("{} ip {host} port {port} for {id}", group.details());
                core.announce(EventKind::SentinelAddressSwitch, Some(&group.name), payload);
            } else if let Some(other) =
                group.peers.iter().find(|(_, peer)| peer.instance.address == *at)
            {
                let other = other.0.clone();
                let details = peer_details(&other, at, &group.name, &group.settings.master);
                core.announce(EventKind::SentinelInvalidAddr, Some(&group.name), details);
                for group in self.groups.values_mut() {
                    group.remove_peer(core, &other);
                }
            }
        }
        let Some(at) = address else { return };
        let Some(group) = self.groups.get_mut(name) else { return };
        group.add_peer(core, id.clone(), at.clone());
        let details = peer_details(id, &at, &group.name, &group.settings.master);
        let name = group.name.clone();
        if !moved {
            core.announce(EventKind::Sentinel, Some(&name), details);
        } else {
            self.move_elsewhere(&name, id, &at, &details);
        }
        self.core.flush();
    }

    /// A peer moved: its entries in other groups move too, and keep what they know.
    fn move_elsewhere(&mut self, name: &str, id: &RunId, at: &Address, details: &str) {
        let core = &mut self.core;
        let mut count = 0;
        for group in self.groups.values_mut().filter(|group| *group.name != *name) {
            let Some(peer) = group.peers.get_mut(id) else { continue };
            peer.instance.address = at.clone();
            peer.instance.reopen(core, &group.settings);
            count += 1;
        }
        if count > 0 {
            let payload = format!("{details} {count} additional matching instances");
            let group = self.groups.get(name).map(|group| &group.name);
            core.announce(EventKind::SentinelAddressUpdate, group, payload);
        }
    }
}
