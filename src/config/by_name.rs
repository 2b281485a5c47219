//! A map by name whose copies share what they have in common: a copy, and what differs between two
//! copies, costs little where there are ten thousand entries and one has changed. The entries stand
//! in order in chunks; whoever changes one copies its chunk, if somebody else has that too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A chunk with more entries is split.
const CHUNK_MAX: usize = 64;

/// Some entries in order; never empty.
type Chunk<V> = Vec<(Arc<str>, Arc<V>)>;

/// A map from names; see the head of this file.
pub struct ByName<V> {
    chunks: Vec<Arc<Chunk<V>>>,
    len: usize,
}

/// What differs between two maps: entries that are new or other than before, and names that are
/// gone.
pub struct Differences<'a, V> {
    /// Entries that are new or other than before, in order.
    pub changed: Vec<(&'a str, &'a V)>,
    /// Names that have no entry any more, in order.
    pub gone: Vec<&'a str>,
}

impl<V> ByName<V> {
    /// A map without entries.
    pub const fn new() -> ByName<V> {
        ByName { chunks: Vec::new(), len: 0 }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of this name.
    pub fn get<Q: AsRef<str> + ?Sized>(&self, name: &Q) -> Option<&V> {
        let chunk = self.chunks.get(self.chunk_of(name.as_ref())?)?;
        position(chunk, name.as_ref()).ok().map(|at| &*chunk[at].1)
    }

    /// Whether this name has an entry.
    pub fn contains_key<Q: AsRef<str> + ?Sized>(&self, name: &Q) -> bool {
        self.get(name).is_some()
    }

    /// All entries in the order of their names.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Arc<str>, &V)> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(name, value)| (name, &**value))
    }

    /// All names in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Arc<str>> + Clone {
        self.iter().map(|(name, _)| name)
    }

    /// All entries without their names.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// What differs from `old`. Chunks that both share are not looked at.
    pub fn since<'a>(&'a self, old: &'a ByName<V>) -> Differences<'a, V>
    where
        V: PartialEq,
    {
        let mut gone: BTreeMap<&str, &Arc<V>> = old.not_in(self).collect();
        let mut changed = Vec::new();
        for (name, value) in self.not_in(old) {
            let same = gone.remove(name).is_some_and(|old| Arc::ptr_eq(old, value) || old == value);
            if !same {
                changed.push((name, &**value));
            }
        }
        Differences { changed, gone: gone.into_keys().collect() }
    }

    /// The entries of the chunks that the other one does not share.
    fn not_in(&self, other: &ByName<V>) -> impl Iterator<Item = (&str, &Arc<V>)> {
        let shared: BTreeSet<_> = other.chunks.iter().map(Arc::as_ptr).collect();
        let own = self.chunks.iter().filter(move |chunk| !shared.contains(&Arc::as_ptr(chunk)));
        own.flat_map(|chunk| chunk.iter()).map(|(name, value)| (&**name, value))
    }

    /// The chunk that has this name if one has: the last one that begins no later, or the first.
    fn chunk_of(&self, name: &str) -> Option<usize> {
        let begins =
            |chunk: &Arc<Chunk<V>>| chunk.first().is_some_and(|(first, _)| **first <= *name);
        let after = self.chunks.partition_point(begins);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }

    /// Sets the entry of this name.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: V) {
        let (name, value) = (name.into(), Arc::new(value));
        let Some(at) = self.chunk_of(&name) else {
            self.chunks.push(Arc::new(vec![(name, value)]));
            self.len = 1;
            return;
        };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        match position(chunk, &name) {
            Ok(place) => chunk[place].1 = value,
            Err(place) => {
                chunk.insert(place, (name, value));
                self.len += 1;
                if chunk.len() > CHUNK_MAX {
                    let rest = chunk.split_off(chunk.len() / 2);
                    self.chunks.insert(at + 1, Arc::new(rest));
                }
            }
        }
    }
}

impl<V: Clone> ByName<V> {
    /// The entry of this name, to be changed.
    pub fn get_mut<Q: AsRef<str> + ?Sized>(&mut self, name: &Q) -> Option<&mut V> {
        let at = self.chunk_of(name.as_ref())?;
        let place = position(&self.chunks[at], name.as_ref()).ok()?;
        Some(Arc::make_mut(&mut Arc::make_mut(&mut self.chunks[at])[place].1))
    }

    /// All entries without their names, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let chunks = self.chunks.iter_mut().flat_map(|chunk| Arc::make_mut(chunk).iter_mut());
        chunks.map(|(_, value)| Arc::make_mut(value))
    }

    /// Takes the entry of this name out.
    pub fn remove<Q: AsRef<str> + ?Sized>(&mut self, name: &Q) -> Option<V> {
        let at = self.chunk_of(name.as_ref())?;
        let place = position(&self.chunks[at], name.as_ref()).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let (_, value) = chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        self.len -= 1;
        Some(Arc::unwrap_or_clone(value))
    }

    /// Takes all entries out.
    pub fn clear(&mut self) {
        *self = ByName::new();
    }
}

/// Where the name stands in the chunk, or would.
fn position<V>(chunk: &Chunk<V>, name: &str) -> Result<usize, usize> {
    chunk.binary_search_by(|(other, _)| (**other).cmp(name))
}

impl<V> Clone for ByName<V> {
    fn clone(&self) -> ByName<V> {
        ByName { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<V> Default for ByName<V> {
    fn default() -> ByName<V> {
        ByName::new()
    }
}

impl<V: PartialEq> PartialEq for ByName<V> {
    fn eq(&self, other: &ByName<V>) -> bool {
        let all = |map| ByName::iter(map);
        self.len == other.len && all(self).eq(all(other))
    }
}

impl<V: fmt::Debug> fmt::Debug for ByName<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V, Q: AsRef<str> + ?Sized> Index<&Q> for ByName<V> {
    type Output = V;

    /// # Panics
    /// If there is no such entry.
    fn index(&self, name: &Q) -> &V {
        self.get(name).expect("no entry of this name")
    }
}

impl<K: Into<Arc<str>>, V> Extend<(K, V)> for ByName<V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(name, value)| self.insert(name, value));
    }
}

impl<K: Into<Arc<str>>, V> FromIterator<(K, V)> for ByName<V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> ByName<V> {
        let mut map = ByName::new();
        map.extend(entries);
        map
    }
}

impl<K: Into<Arc<str>>, V, const N: usize> From<[(K, V); N]> for ByName<V> {
    fn from(entries: [(K, V); N]) -> ByName<V> {
        entries.into_iter().collect()
    }
}

impl<V> From<BTreeMap<String, V>> for ByName<V> {
    fn from(entries: BTreeMap<String, V>) -> ByName<V> {
        entries.into_iter().collect()
    }
}

impl<V: Clone> IntoIterator for ByName<V> {
    type Item = (Arc<str>, V);
    type IntoIter = std::vec::IntoIter<(Arc<str>, V)>;

    fn into_iter(self) -> Self::IntoIter {
        let chunks = self.chunks.into_iter().flat_map(Arc::unwrap_or_clone);
        let entries = chunks.map(|(name, value)| (name, Arc::unwrap_or_clone(value)));
        entries.collect::<Vec<_>>().into_iter()
    }
}

impl<V: Serialize> Serialize for ByName<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, value)| (&**name, value)))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for ByName<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByName<V>, D::Error> {
        BTreeMap::<String, V>::deserialize(deserializer).map(ByName::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared<V>(a: &ByName<V>, b: &ByName<V>) -> usize {
        let of_b: Vec<_> = b.chunks.iter().map(Arc::as_ptr).collect();
        a.chunks.iter().filter(|chunk| of_b.contains(&Arc::as_ptr(chunk))).count()
    }

    #[test]
    fn a_copy_shares_all_but_the_chunk_of_what_changes() {
        let old: ByName<u32> = (0..1000).map(|n| (format!("{n:04}"), n)).collect();
        let mut new = old.clone();
        *new.get_mut("0500").unwrap() = 7;
        assert_eq!((old["0500"], new["0500"]), (500, 7));
        assert_eq!(shared(&new, &old), old.chunks.len() - 1);
        assert!(old.chunks.len() > 1000 / CHUNK_MAX);
        let differences = new.since(&old);
        assert_eq!((differences.changed, differences.gone), (vec![("0500", &7)], vec![]));
    }

    #[test]
    fn it_is_written_as_a_map() {
        let map: ByName<u32> = [("b", 2), ("a", 1)].into();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"a":1,"b":2}"#);
        assert_eq!(serde_json::from_str::<ByName<u32>>(&text).unwrap(), map);
        assert_eq!(format!("{map:?}"), r#"{"a": 1, "b": 2}"#);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_does_what_a_tree_does(
            steps in prop::collection::vec((0u8..4, 0u16..400, 0u8..3), 0..1500),
        ) {
            let (mut map, mut tree) = (ByName::new(), BTreeMap::new());
            let (mut old_map, mut old_tree) = (map.clone(), tree.clone());
            for (index, (what, name, value)) in steps.into_iter().enumerate() {
                let name = format!("g{name}");
                match what {
                    0 => prop_assert_eq!(map.remove(&name), tree.remove(&name)),
                    1 => {
                        map.get_mut(&name).into_iter().for_each(|old| *old = value);
                        tree.get_mut(&name).into_iter().for_each(|old| *old = value);
                    }
                    _ => {
                        map.insert(name.clone(), value);
                        tree.insert(name, value);
                    }
                }
                if index == 700 {
                    (old_map, old_tree) = (map.clone(), tree.clone());
                }
            }
            prop_assert_eq!(map.len(), tree.len());
            prop_assert_eq!(&map, &ByName::from(tree.clone()));
            prop_assert_eq!(&old_map, &ByName::from(old_tree.clone()));
            let differences = map.since(&old_map);
            let changed = tree.iter().filter(|(name, value)| old_tree.get(*name) != Some(value));
            let gone = old_tree.keys().filter(|name| !tree.contains_key(*name));
            let changed: Vec<_> = changed.map(|(name, value)| (name.as_str(), value)).collect();
            prop_assert_eq!(differences.changed, changed);
            prop_assert_eq!(differences.gone, gone.collect::<Vec<_>>());
        }
    }
}
