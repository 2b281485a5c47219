//! What a node's INFO tells: compared with what it said before, announced where it changed, and
//! kept whole for `SENTINEL INFO-CACHE`.

use super::Sentinel;
use super::core::Core;
use super::event::{EventKind, Level};
use super::group::{Group, MEMBERS_MAX};
use super::info::{Info, Role};
use super::node::Node;
use super::packed::Packed;
use super::types::Address;
use crate::config::rules::valid_host;
use crate::resp::Value;

/// How much of a node's INFO is kept, in bytes: several times what any real one has. Of a longer
/// one the whole lines that fit.
const INFO_TEXT_MAX: usize = 256 << 10;

/// What is kept of an INFO: a copy of its own, since the reply may be a part of something larger.
fn kept(text: &str) -> &[u8] {
    let whole_lines = |max: usize| {
        let end = text.as_bytes()[..max].iter().rposition(|byte| *byte == b'\n');
        end.map_or(0, |at| at + 1)
    };
    let length = if text.len() > INFO_TEXT_MAX { whole_lines(INFO_TEXT_MAX) } else { text.len() };
    &text.as_bytes()[..length]
}

impl Sentinel {
    /// `SENTINEL INFO-CACHE name ...`: for each group known its name, and what its master and its
    /// replicas said last: an age in ms (0 where nothing was said yet) and the text.
    pub(super) fn info_cache(&self, names: &[String]) -> Value {
        let mut told: Vec<&str> = Vec::new();
        let mut reply = Vec::new();
        for (name, group) in names.iter().filter_map(|name| Some((name, self.groups.get(&**name)?)))
        {
            if told.contains(&name.as_str()) {
                continue;
            }
            told.push(name);
            let nodes = std::iter::once(&group.master).chain(group.replicas.values());
            let said = nodes.map(|node| said(&self.core, node));
            reply.extend([Value::bulk(name), Value::Array(said.collect())]);
        }
        Value::Array(reply)
    }
}

fn said(core: &Core, node: &Node) -> Value {
    match node.info_at {
        Some(at) => {
            let age_ms = Value::Integer(core.now().since(at) as i64);
            Value::Array(vec![age_ms, Value::Bulk(node.info_text.text())])
        }
        None => Value::Array(vec![Value::Integer(0), Value::Null]),
    }
}

impl Group {
    /// INFO came from one of our nodes.
    pub(super) fn take_info(&mut self, core: &mut Core, address: &Address, text: Option<&str>) {
        let Some((text, info)) = text.and_then(|text| Some((text, Info::parse(text)?))) else {
            self.count_bad_info(core, address);
            return;
        };
        let quiet = self.quiet;
        if let Some(node) = self.node_mut(address) {
            // It comes again soon where something is under way: no time for packing.
            node.info_text = match quiet || node.info.is_none() {
                true => Packed::new(kept(text)),
                false => Packed::raw(kept(text)),
            };
        }
        let is_master = *address == self.master.address;
        let found =
            if is_master && info.role == Role::Master { info.slaves.clone() } else { vec![] };
        self.note_info(core, address, info);
        // The replicas of a stranger are not ours.
        let found = found.into_iter().filter(|_| self.master.stranger.is_none());
        for slave in found.collect::<Vec<_>>() {
            let known = self.replicas.values().any(|node| node.is_at(&slave));
            let usable = valid_host(&slave.host, core.settings.resolve_hostnames);
            let room = self.replicas.len() < MEMBERS_MAX;
            let ours = !self.is_at_home_elsewhere(core, &slave);
            if !known && usable && room && ours && !self.master.is_at(&slave) {
                self.insert_replica(core, slave.clone());
                core.out.touch_group(&self.name);
                let details = self.node_details(core, &slave);
                core.announce(EventKind::Slave, Some(&self.name), details);
            }
        }
    }

    fn count_bad_info(&mut self, core: &mut Core, address: &Address) {
        let Some(node) = self.node_mut(address) else { return };
        node.bad_infos += 1;
        if node.bad_infos.is_power_of_two() {
            let text = format!(
                "{address} answered INFO with something that is no INFO ({} times so far); \
                 what it said before stays in force",
                node.bad_infos
            );
            core.say(Level::Warning, Some(&self.name), text);
        }
    }

    /// Compares with what the node said before, and announces what changed.
    fn note_info(&mut self, core: &mut Core, address: &Address, info: Info) {
        let is_master = *address == self.master.address;
        let expected = if is_master { Role::Master } else { Role::Slave };
        let reboot_period = self.settings.master_reboot_down_after_ms;
        let is_ours = self.judge_origin(core, address, &info);
        let followed = info.master.as_ref();
        let by_alias = || {
            let of_others = followed.is_some_and(|at| self.group_apart(core, at).is_some());
            !is_master && info.link_up && self.has_our_history(&info) && !of_others
        };
        let follows_ours = followed.is_some_and(|at| self.master.is_at(at)) || by_alias();
        let Some(node) = self.node_mut(address) else { return };
        let now = core.now();
        let rebooted = match (&node.run_id, &info.run_id) {
            (Some(old), Some(new)) => old != new,
            _ => false,
        };
        if rebooted && is_master && reboot_period > 0 {
            node.rebooted_at = Some(now);
        }
        let before = node.run_id.clone().filter(|_| rebooted);
        if rebooted {
            // What the process before it was sent is no order to this one.
            node.reconf = None;
        }
        if info.run_id.is_some() {
            node.run_id.clone_from(&info.run_id);
        }
        let old = node.info.as_ref();
        let role_changed = old.is_some_and(|old| old.role != info.role);
        if role_changed || old.is_none() {
            node.role_since = now;
        }
        if role_changed || old.is_none() || old.is_some_and(|old| old.master != info.master) {
            node.settled_since = now;
        }
        let role = info.role;
        if role == Role::Slave && follows_ours && is_ours {
            node.followed = true;
            node.own_run_id.clone_from(&node.run_id);
        }
        if let (Some(run_id), Some(master)) = (&info.run_id, &info.master) {
            node.last_followed = Some((run_id.clone(), master.clone()));
        }
        node.info = Some(info);
        node.info_at = Some(now);
        node.infos += 1;
        if is_ours {
            self.note_origin(core, address);
        }
        if let Some(before) = before {
            self.part_doubles(&before, address, now);
            let details = self.node_details(core, address);
            core.announce(EventKind::Reboot, Some(&self.name), details);
        }
        if role_changed {
            let kind =
                if role == expected { EventKind::RoleChange } else { EventKind::RoleMismatch };
            let details = self.node_details(core, address);
            let payload = format!("{details} new reported role is {}", role.name());
            core.announce(kind, Some(&self.name), payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_without_end_is_cut_at_a_line() {
        assert_eq!(kept("role:master\r\n"), b"role:master\r\n");
        let endless = "role:master\r\n".repeat(INFO_TEXT_MAX);
        let text = kept(&endless);
        assert!(text.len() <= INFO_TEXT_MAX && text.len() > INFO_TEXT_MAX - 20);
        assert!(text.ends_with(b"role:master\r\n"));
        assert_eq!(kept(&"x".repeat(INFO_TEXT_MAX + 1)), b"");
    }
}
