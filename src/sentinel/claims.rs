//! Which groups have a node at an address: one that is configured with it, or one whose name means
//! it, by the last connection, or by the last lookup where none has told. Mostly that is one group;
//! but addresses are given away, and names lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::types::{Address, GroupName, LinkId};

/// A node of a group, by its configured address.
pub(super) type GroupNode = Arc<(GroupName, Address)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: BTreeMap<Address, Vec<GroupName>>,
    meant: BTreeMap<Address, BTreeMap<LinkId, GroupNode>>,
    /// Under which addresses each link stands in `meant`.
    meanings: BTreeMap<LinkId, Vec<Address>>,
}

impl Claims {
    /// A link to this node was opened.
    pub(super) fn opened(&mut self, node: &GroupNode) {
        self.held.entry(node.1.clone()).or_default().push(node.0.clone());
    }

    /// It was closed for good.
    pub(super) fn closed(&mut self, link: LinkId, node: &GroupNode) {
        self.forget_meaning(link);
        let Some(groups) = self.held.get_mut(&node.1) else { return };
        if let Some(at) = groups.iter().position(|group| *group == node.0) {
            groups.swap_remove(at);
        }
        if groups.is_empty() {
            self.held.remove(&node.1);
        }
    }

    /// All IPs that the name of this link's node may mean, in place of those that it meant.
    pub(super) fn means(&mut self, link: LinkId, node: &GroupNode, ips: &[String]) {
        self.forget_meaning(link);
        let names = ips.iter().filter(|ip| **ip != node.1.host);
        let addresses: Vec<_> = names.map(|ip| Address::new(ip, node.1.port)).collect();
        for address in &addresses {
            self.meant.entry(address.clone()).or_default().insert(link, node.clone());
        }
        if !addresses.is_empty() {
            self.meanings.insert(link, addresses);
        }
    }

    fn forget_meaning(&mut self, link: LinkId) {
        for address in self.meanings.remove(&link).unwrap_or_default() {
            if let Some(links) = self.meant.get_mut(&address) {
                links.remove(&link);
                if links.is_empty() {
                    self.meant.remove(&address);
                }
            }
        }
    }

    /// All groups that have a node at this address, by its configuration or by what its name means,
    /// in their order.
    pub(super) fn groups_at(&self, address: &Address) -> BTreeSet<GroupName> {
        let held = self.held.get(address).into_iter().flatten().cloned();
        let meant = self.meant.get(address).into_iter().flat_map(BTreeMap::values);
        held.chain(meant.map(|node| node.0.clone())).collect()
    }

    /// This group has a node that is configured with this address.
    pub(super) fn holds(&self, address: &Address, group: &GroupName) -> bool {
        self.held.get(address).is_some_and(|groups| groups.contains(group))
    }

    /// A group other than this one that has a node which is configured with this address.
    pub(super) fn holder(&self, address: &Address, but: &GroupName) -> Option<&GroupName> {
        self.held.get(address)?.iter().find(|group| *group != but)
    }

    /// A group other than this one that has a node whose name means this address. A node that has
    /// the name of our own node is that node: two groups may watch the same one.
    pub(super) fn namesake(
        &self,
        address: &Address,
        but: &GroupName,
        own_name: &Address,
    ) -> Option<&GroupName> {
        let mut nodes = self.meant.get(address)?.values();
        let is_another =
            |node: &&GroupNode| node.0 != *but && !node.1.host.eq_ignore_ascii_case(&own_name.host);
        nodes.find(is_another).map(|node| &node.0)
    }
}
