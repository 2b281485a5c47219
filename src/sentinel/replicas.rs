//! The replicas of a group, by address. A map keeps room for eleven values at a time, and a node is
//! large; so each has a box of its own, which nobody outside has to know.

use std::collections::BTreeMap;
use std::collections::btree_map::Keys;

use super::node::Node;
use super::types::Address;

#[derive(Debug, Default)]
pub(super) struct Replicas(BTreeMap<Address, Box<Node>>);

impl Replicas {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains_key(&self, address: &Address) -> bool {
        self.0.contains_key(address)
    }

    pub(super) fn get(&self, address: &Address) -> Option<&Node> {
        self.0.get(address).map(|node| &**node)
    }

    pub(super) fn get_mut(&mut self, address: &Address) -> Option<&mut Node> {
        self.0.get_mut(address).map(|node| &mut **node)
    }

    pub(super) fn insert(&mut self, address: Address, node: Node) {
        self.0.insert(address, Box::new(node));
    }

    pub(super) fn remove(&mut self, address: &Address) -> Option<Node> {
        self.0.remove(address).map(|node| *node)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Address, &Node)> {
        self.0.iter().map(|(address, node)| (address, &**node))
    }

    pub(super) fn keys(&self) -> Keys<'_, Address, Box<Node>> {
        self.0.keys()
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &Node> + Clone {
        self.0.values().map(|node| &**node)
    }

    pub(super) fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Node> {
        self.0.values_mut().map(|node| &mut **node)
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = Node> {
        self.0.into_values().map(|node| *node)
    }
}
