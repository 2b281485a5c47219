//! The entries of `SENTINEL MASTERS`, `REPLICAS` and `SENTINELS`: fields in Redis's order, which
//! some clients read by position; times are ages in ms.

use super::core::Core;
use super::group::Group;
use super::info::{DEFAULT_PRIORITY, Role};
use super::node::Node;
use super::rights::Refusals;
use super::types::{Instant, RunId};
use crate::config::settings::FLAP_PAUSE_MS;
use crate::resp::Value;

/// Fields in order, each a bulk string.
#[derive(Default)]
struct Entry(Vec<(Value, Value)>);

impl Entry {
    fn put(&mut self, field: &str, value: impl ToString) {
        self.0.push((Value::bulk(field), Value::bulk(value.to_string())));
    }

    fn done(self) -> Value {
        Value::Map(self.0)
    }
}

fn age(core: &Core, at: Option<Instant>) -> u64 {
    at.map_or(0, |at| core.now().since(at))
}

impl Group {
    /// This master's entry.
    pub(super) fn master_entry(&self, core: &Core) -> Value {
        let mut flags = Vec::new();
        if self.shown_down_since(core, &self.master).is_some() {
            flags.push("s_down");
        }
        if self.odown_since.is_some() {
            flags.push("o_down");
        }
        flags.push("master");
        if is_disconnected(&self.master) {
            flags.push("disconnected");
        }
        if let Some(failover) = &self.failover {
            flags.push("failover_in_progress");
            if failover.forced {
                flags.push("force_failover");
            }
        }
        if self.master.rebooted_at.is_some() {
            flags.push("master_reboot");
        }
        let mut entry = Entry::default();
        entry.put("name", &self.name);
        self.put_node(core, &mut entry, &self.master, &flags);
        if let Some(failover) = &self.failover {
            entry.put("failover-state", failover.state_name());
        }
        self.put_times(core, &mut entry, &self.master, self.odown_since);
        put_info(core, &mut entry, &self.master, Role::Master);
        entry.put("config-epoch", self.config_epoch);
        entry.put("num-slaves", self.replicas.len());
        entry.put("num-other-sentinels", self.peers.len());
        entry.put("quorum", self.settings.quorum);
        entry.put("failover-timeout", self.settings.failover_timeout_ms);
        entry.put("parallel-syncs", self.settings.parallel_syncs);
        if let Some(path) = &self.settings.notification_script {
            entry.put("notification-script", path.display());
        }
        if let Some(path) = &self.settings.client_reconfig_script {
            entry.put("client-reconfig-script", path.display());
        }
        if self.settings.refused_after_ms > 0 {
            // Our own, and so at the end.
            entry.put("refused-after", self.settings.refused_after_ms);
        }
        if self.settings.flap_pause_ms != FLAP_PAUSE_MS {
            entry.put("flap-pause", self.settings.flap_pause_ms);
        }
        put_refusals(&mut entry, &self.master.refusals);
        entry.done()
    }

    /// The entries of all replicas that do not hide themselves.
    pub(super) fn replica_entries(&self, core: &Core) -> Value {
        let shown = |node: &&Node| node.info.as_ref().is_none_or(|info| info.announced);
        let entries = self.replicas.values().filter(shown);
        Value::Array(entries.map(|node| self.replica_entry(core, node)).collect())
    }

    fn replica_entry(&self, core: &Core, node: &Node) -> Value {
        let mut flags = Vec::new();
        if self.shown_down_since(core, node).is_some() {
            flags.push("s_down");
        }
        flags.push("slave");
        if is_disconnected(node) {
            flags.push("disconnected");
        }
        if self.failover.as_ref().is_some_and(|f| f.promotes(&node.address)) {
            flags.push("promoted");
        }
        match &node.reconf {
            Some(reconf) if reconf.in_progress => flags.push("reconf_inprog"),
            Some(_) => flags.push("reconf_sent"),
            None => {}
        }
        if node.script_killed {
            flags.push("script_kill_sent");
        }
        let mut entry = Entry::default();
        entry.put("name", &node.address);
        self.put_node(core, &mut entry, node, &flags);
        self.put_times(core, &mut entry, node, None);
        put_info(core, &mut entry, node, Role::Slave);
        let info = node.info.as_ref();
        let master = info.and_then(|info| info.master.as_ref());
        let link_up = info.is_some_and(|info| info.link_up);
        entry.put("master-link-down-time", info.map_or(0, |info| info.link_down_ms));
        entry.put("master-link-status", if link_up { "ok" } else { "err" });
        entry.put("master-host", master.map_or("?", |at| &at.host));
        entry.put("master-port", master.map_or(0, |at| at.port));
        entry.put("slave-priority", info.map_or(DEFAULT_PRIORITY, |info| info.priority));
        entry.put("slave-repl-offset", info.map_or(0, |info| info.offset));
        entry.put("replica-announced", u8::from(info.is_none_or(|info| info.announced)));
        put_refusals(&mut entry, &node.refusals);
        entry.done()
    }

    /// The entries of the other sentinels.
    pub(super) fn sentinel_entries(&self, core: &Core) -> Value {
        Value::Array(self.peers.keys().map(|id| self.sentinel_entry(core, id)).collect())
    }

    fn sentinel_entry(&self, core: &Core, id: &RunId) -> Value {
        let mut entry = Entry::default();
        let (Some(peer), Some(link)) = (self.peers.get(id), core.peers.get(id)) else {
            return entry.done();
        };
        let mut flags = Vec::new();
        if peer.sdown_since.is_some() {
            flags.push("s_down");
        }
        flags.push("sentinel");
        if !link.health.up {
            flags.push("disconnected");
        }
        let valid = |at: Instant| core.now().since(at) < core.tune.opinion_valid_ms();
        if peer.master_down_at.is_some_and(valid) {
            flags.push("master_down");
        }
        entry.put("name", id);
        entry.put("ip", &peer.address.host);
        entry.put("port", peer.address.port);
        entry.put("runid", id);
        entry.put("flags", flags.join(","));
        entry.put("link-pending-commands", link.health.pending);
        entry.put("link-refcount", link.groups.len());
        entry.put("last-ping-sent", link.health.silent_ms(core.moment()));
        entry.put("last-ok-ping-reply", age(core, Some(link.health.last_ok)));
        entry.put("last-ping-reply", age(core, Some(link.health.last_reply)));
        if peer.sdown_since.is_some() {
            entry.put("s-down-time", age(core, peer.sdown_since));
        }
        entry.put("down-after-milliseconds", self.settings.down_after_ms);
        entry.put("last-hello-message", age(core, Some(peer.last_hello)));
        let vote = peer.vote.as_ref();
        entry.put("voted-leader", vote.map_or("?", |(id, _)| id.as_str()));
        entry.put("voted-leader-epoch", vote.map_or(0, |(_, epoch)| *epoch));
        put_refusals(&mut entry, &link.refusals);
        entry.done()
    }

    fn shown_down_since(&self, core: &Core, node: &Node) -> Option<Instant> {
        node.shown_down_since(core, self.settings.down_after_ms)
    }

    fn put_node(&self, core: &Core, entry: &mut Entry, node: &Node, flags: &[&str]) {
        let at = self.shown(core, node);
        entry.put("ip", at.host);
        entry.put("port", at.port);
        entry.put("runid", node.run_id.as_ref().map_or("", RunId::as_str));
        entry.put("flags", flags.join(","));
        entry.put("link-pending-commands", node.health.pending);
        entry.put("link-refcount", 1);
    }

    fn put_times(&self, core: &Core, entry: &mut Entry, node: &Node, odown: Option<Instant>) {
        entry.put("last-ping-sent", node.health.silent_ms(core.moment()));
        entry.put("last-ok-ping-reply", age(core, Some(node.health.last_ok)));
        entry.put("last-ping-reply", age(core, Some(node.health.last_reply)));
        if let Some(since) = self.shown_down_since(core, node) {
            entry.put("s-down-time", age(core, Some(since)));
        }
        if odown.is_some() {
            entry.put("o-down-time", age(core, odown));
        }
        entry.put("down-after-milliseconds", self.settings.down_after_ms);
    }
}

/// A field of our own, at the end, while something is wrong.
fn put_refusals(entry: &mut Entry, refusals: &Refusals) {
    if let Some(shown) = refusals.shown() {
        entry.put("config-errors", shown);
    }
}

/// No use to us at present; clients that read the flag leave such a replica alone.
fn is_disconnected(node: &Node) -> bool {
    !node.health.up || node.subscribed_since.is_none() || node.health.locked_out.is_some()
}

fn put_info(core: &Core, entry: &mut Entry, node: &Node, assumed: Role) {
    entry.put("info-refresh", age(core, node.info_at));
    entry.put("role-reported", node.role().unwrap_or(assumed).name());
    entry.put("role-reported-time", age(core, Some(node.role_since)));
}
