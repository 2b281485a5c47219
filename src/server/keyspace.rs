//! The data: sixteen databases of keys, values and deadlines. It knows nothing of clients or of
//! replication; it tells which keys it expired so that others can.
//!
//! Entries lie in slots that never move while they live, and a hash table finds the slot of a key.
//! That gives `SCAN` its promise (a key present all the time is returned, however the table grows),
//! lets a deadline name its key in four bytes, and makes a random key cheap.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

/// What a key holds. Lists, hashes, sets and sorted sets will stand beside strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A string, which is also a counter.
    String(Bytes),
}

/// A key with all that belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) value: Value,
    /// Unix time in ms after which the key does not exist.
    pub(super) expire_at_ms: Option<u64>,
}

/// One database.
#[derive(Debug, Default)]
pub(super) struct Db {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    deadlines: BTreeSet<(u64, u32)>,
}

impl Db {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// How many keys have a deadline.
    pub(super) fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    fn slot(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&slot| self.at(slot).is_some_and(|e| e.key == key)).copied()
    }

    fn at(&self, slot: u32) -> Option<&Entry> {
        self.slots[slot as usize].as_ref()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.slot(key).and_then(|slot| self.at(slot))
    }

    /// Puts an entry in place of whatever the key held.
    pub(super) fn insert(&mut self, entry: Entry) {
        let deadline = entry.expire_at_ms;
        let slot = match self.slot(&entry.key) {
            Some(slot) => {
                if let Some(old) = self.slots[slot as usize].replace(entry)
                    && let Some(at) = old.expire_at_ms
                {
                    self.deadlines.remove(&(at, slot));
                }
                slot
            }
            None => self.occupy(entry),
        };
        if let Some(at) = deadline {
            self.deadlines.insert((at, slot));
        }
    }

    fn occupy(&mut self, entry: Entry) -> u32 {
        let hash = self.hasher.hash_one(&entry.key[..]);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(entry);
                slot
            }
            None => {
                // Four billion keys in one database are beyond the memory that this design is for.
                let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 slots");
                self.slots.push(Some(entry));
                slot
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |&slot| {
            let key = slots[slot as usize].as_ref().map_or(&[][..], |e| &e.key);
            hasher.hash_one(key)
        });
        slot
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let found = self
            .index
            .find_entry(hash, |&slot| slots[slot as usize].as_ref().is_some_and(|e| e.key == key));
        let (slot, _) = found.ok()?.remove();
        let entry = self.slots[slot as usize].take()?;
        if let Some(at) = entry.expire_at_ms {
            self.deadlines.remove(&(at, slot));
        }
        self.free.push(slot);
        Some(entry)
    }

    fn set_deadline(&mut self, key: &[u8], deadline: Option<u64>) {
        let Some(slot) = self.slot(key) else { return };
        let Some(entry) = self.slots[slot as usize].as_mut() else { return };
        if let Some(old) = std::mem::replace(&mut entry.expire_at_ms, deadline) {
            self.deadlines.remove(&(old, slot));
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, slot));
        }
    }

    /// All entries, those past their deadline included.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    /// Visits slots from `cursor` on until `count` entries or ten times as many slots were seen;
    /// gives the entries and the cursor to go on with, 0 at the end.
    fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<&Entry>) {
        let start = usize::try_from(cursor).unwrap_or(usize::MAX).min(self.slots.len());
        let mut found = Vec::new();
        let mut at = start;
        let end = start.saturating_add(count.saturating_mul(10)).min(self.slots.len());
        while at < end && found.len() < count {
            found.extend(self.slots[at].as_ref());
            at += 1;
        }
        (if at == self.slots.len() { 0 } else { at as u64 }, found)
    }

    /// A key at random; `pick(n)` gives a number below `n`.
    fn random(&self, mut pick: impl FnMut(usize) -> usize) -> Option<&Entry> {
        if self.index.is_empty() {
            return None;
        }
        const TRIES: usize = 128;
        let hit = (0..TRIES).find_map(|_| self.slots[pick(self.slots.len())].as_ref());
        // Nearly all slots are free: take the next one in use after a random place.
        hit.or_else(|| {
            let (before, after) = self.slots.split_at(pick(self.slots.len()));
            after.iter().chain(before).flatten().next()
        })
    }
}

/// What happens to a key whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It is deleted and its deletion reported: a master.
    Delete,
    /// It is only hidden: a replica, which waits for its master's `DEL`.
    Hide,
    /// It is there: commands from the master, which has decided already.
    Ignore,
}

/// A key that some client watches.
#[derive(Debug)]
struct Watched {
    watchers: usize,
    revision: u64,
}

/// All databases, with the bookkeeping of expiry and `WATCH`.
#[derive(Debug)]
pub(super) struct Keyspace {
    dbs: Vec<Db>,
    /// Unix time in ms, the same for the whole of one command.
    pub(super) now_ms: u64,
    pub(super) expiry: Expiry,
    /// Keys deleted because their time had come, in order, until somebody takes them.
    pub(super) expired: Vec<(usize, Bytes)>,
    /// Counts changes that commands made; one that leaves it alone has changed nothing.
    pub(super) dirty: u64,
    /// Counts changes of any kind, for `WATCH`.
    revision: u64,
    watched: HashMap<(usize, Bytes), Watched>,
}

impl Keyspace {
    pub(super) fn new(databases: usize) -> Keyspace {
        Keyspace {
            dbs: (0..databases).map(|_| Db::default()).collect(),
            now_ms: 0,
            expiry: Expiry::Delete,
            expired: Vec::new(),
            dirty: 0,
            revision: 0,
            watched: HashMap::new(),
        }
    }

    pub(super) fn dbs(&self) -> &[Db] {
        &self.dbs
    }

    /// Puts other databases in place of these, which are given back. Every watched key counts as
    /// changed.
    pub(super) fn replace(&mut self, mut dbs: Vec<Db>) -> Vec<Db> {
        dbs.resize_with(self.dbs.len(), Db::default);
        self.revision += 1;
        self.touch_watched(|_| true);
        std::mem::replace(&mut self.dbs, dbs)
    }

    fn is_past(&self, entry: &Entry) -> bool {
        entry.expire_at_ms.is_some_and(|at| at <= self.now_ms)
    }

    /// The entry as a command sees it; a key past its deadline is treated as [`Expiry`] says.
    pub(super) fn entry(&mut self, db: usize, key: &[u8]) -> Option<&Entry> {
        let past = self.is_past(self.dbs[db].get(key)?);
        if past && self.expiry != Expiry::Ignore {
            if self.expiry == Expiry::Delete {
                self.expire(db, key);
            }
            return None;
        }
        self.dbs[db].get(key)
    }

    fn expire(&mut self, db: usize, key: &[u8]) {
        if let Some(entry) = self.dbs[db].remove(key) {
            self.touch(db, &entry.key);
            self.expired.push((db, entry.key));
        }
    }

    /// Deletes up to `limit` keys whose time has come.
    pub(super) fn expire_due(&mut self, limit: usize) {
        for db in 0..self.dbs.len() {
            while self.expired.len() < limit {
                let due = self.dbs[db].deadlines.first().filter(|(at, _)| *at <= self.now_ms);
                let Some(key) = due.and_then(|&(_, s)| self.dbs[db].at(s)).map(|e| e.key.clone())
                else {
                    break;
                };
                self.expire(db, &key);
            }
        }
    }

    /// The earliest deadline of all keys, in Unix ms.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.dbs.iter().filter_map(|db| db.deadlines.first()).map(|(at, _)| *at).min()
    }

    pub(super) fn get(&mut self, db: usize, key: &[u8]) -> Option<&Value> {
        self.entry(db, key).map(|e| &e.value)
    }

    pub(super) fn exists(&mut self, db: usize, key: &[u8]) -> bool {
        self.entry(db, key).is_some()
    }

    pub(super) fn set(&mut self, db: usize, key: &Bytes, value: Value, expire_at_ms: Option<u64>) {
        self.dbs[db].insert(Entry { key: owned(key), value, expire_at_ms });
        self.changed(db, key);
    }

    /// Changes a value in place and keeps its deadline; `false` if there is no such key.
    pub(super) fn update(&mut self, db: usize, key: &[u8], f: impl FnOnce(&mut Value)) -> bool {
        if !self.exists(db, key) {
            return false;
        }
        let Some(slot) = self.dbs[db].slot(key) else { return false };
        if let Some(entry) = self.dbs[db].slots[slot as usize].as_mut() {
            f(&mut entry.value);
        }
        self.changed(db, key);
        true
    }

    pub(super) fn remove(&mut self, db: usize, key: &[u8]) -> Option<Entry> {
        self.entry(db, key)?;
        let entry = self.dbs[db].remove(key)?;
        self.changed(db, key);
        Some(entry)
    }

    /// Gives a key a deadline, or takes it away.
    pub(super) fn set_deadline(&mut self, db: usize, key: &[u8], expire_at_ms: Option<u64>) {
        self.dbs[db].set_deadline(key, expire_at_ms);
        self.changed(db, key);
    }

    /// Empties a database; gives its old content, so that the caller may free it elsewhere.
    pub(super) fn clear(&mut self, db: usize) -> Db {
        let old = std::mem::take(&mut self.dbs[db]);
        self.dirty += 1;
        self.revision += 1;
        self.touch_watched(|(d, key)| *d == db && old.get(key).is_some());
        old
    }

    pub(super) fn swap(&mut self, a: usize, b: usize) {
        let (x, y) = (&self.dbs[a], &self.dbs[b]);
        let changed: Vec<(usize, Bytes)> = self
            .watched
            .keys()
            .filter(|(db, _)| *db == a || *db == b)
            .filter(|(_, key)| x.get(key).is_some() || y.get(key).is_some())
            .cloned()
            .collect();
        self.dbs.swap(a, b);
        self.dirty += 1;
        self.revision += 1;
        self.touch_watched(|watched| changed.contains(watched));
    }

    pub(super) fn scan(&self, db: usize, cursor: u64, count: usize) -> (u64, Vec<&Entry>) {
        let (next, mut found) = self.dbs[db].scan(cursor, count);
        found.retain(|e| self.expiry == Expiry::Ignore || !self.is_past(e));
        (next, found)
    }

    /// All entries that a client may see.
    pub(super) fn visible(&self, db: usize) -> impl Iterator<Item = &Entry> {
        self.dbs[db].entries().filter(|e| !self.is_past(e))
    }

    pub(super) fn random(&self, db: usize) -> Option<&Entry> {
        const TRIES: usize = 100;
        let dbs = &self.dbs[db];
        let pick = || dbs.random(|n| rand::random_range(0..n));
        (0..TRIES).find_map(|_| pick().filter(|e| !self.is_past(e)))
    }

    fn changed(&mut self, db: usize, key: &[u8]) {
        self.dirty += 1;
        self.touch(db, key);
    }

    fn touch(&mut self, db: usize, key: &[u8]) {
        self.revision += 1;
        if !self.watched.is_empty()
            && let Some(watched) = self.watched.get_mut(&(db, Bytes::copy_from_slice(key)))
        {
            watched.revision = self.revision;
        }
    }

    fn touch_watched(&mut self, mut is_changed: impl FnMut(&(usize, Bytes)) -> bool) {
        for (key, watched) in &mut self.watched {
            if is_changed(key) {
                watched.revision = self.revision;
            }
        }
    }

    /// Starts watching a key: `WATCH`.
    pub(super) fn watch(&mut self, db: usize, key: &Bytes) -> Watch {
        let key = owned(key);
        let was_past = self.dbs[db].get(&key).is_some_and(|e| self.is_past(e));
        let watched = self
            .watched
            .entry((db, key.clone()))
            .or_insert(Watched { watchers: 0, revision: self.revision });
        watched.watchers += 1;
        Watch { db, key, seen: watched.revision, was_past }
    }

    /// Ends a watch and tells whether the key has changed, or run out, since it began.
    pub(super) fn unwatch(&mut self, watch: Watch) -> bool {
        let place = (watch.db, watch.key);
        let ran_out =
            !watch.was_past && self.dbs[place.0].get(&place.1).is_some_and(|e| self.is_past(e));
        let Some(watched) = self.watched.get_mut(&place) else { return ran_out };
        let changed = watched.revision != watch.seen;
        watched.watchers -= 1;
        if watched.watchers == 0 {
            self.watched.remove(&place);
        }
        changed || ran_out
    }
}

/// One client's watch on one key.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) db: usize,
    pub(super) key: Bytes,
    seen: u64,
    was_past: bool,
}

/// From this size on an argument keeps the buffer in which it arrived; smaller ones are copied out
/// of it, since otherwise a key of ten bytes would hold a whole read buffer.
const KEEP_BUFFER: usize = 32 * 1024;

/// The bytes in a form fit to be stored.
pub(super) fn owned(bytes: &Bytes) -> Bytes {
    if bytes.len() >= KEEP_BUFFER { bytes.clone() } else { Bytes::copy_from_slice(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn put(space: &mut Keyspace, key: &str, expire_at_ms: Option<u64>) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        space.set(0, &key, Value::String(Bytes::from_static(b"v")), expire_at_ms);
    }

    #[test]
    fn a_scan_returns_every_key_that_stays_while_the_table_grows_and_shrinks() {
        let mut space = Keyspace::new(1);
        for i in 0..500 {
            put(&mut space, &format!("stay:{i}"), None);
            put(&mut space, &format!("go:{i}"), None);
        }
        let (mut cursor, mut seen, mut round) = (0, HashSet::new(), 0);
        loop {
            let (next, found) = space.scan(0, cursor, 7);
            seen.extend(found.into_iter().map(|e| e.key.clone()));
            if next == 0 {
                break;
            }
            cursor = next;
            if round < 500 {
                space.remove(0, format!("go:{round}").as_bytes());
                put(&mut space, &format!("new:{round}:a"), None);
                put(&mut space, &format!("new:{round}:b"), None);
                round += 1;
            }
        }
        for i in 0..500 {
            assert!(seen.contains(format!("stay:{i}").as_bytes()), "stay:{i} was missed");
        }
    }

    #[test]
    fn deadlines_delete_hide_or_do_nothing_as_told() {
        let mut space = Keyspace::new(1);
        put(&mut space, "k", Some(100));
        space.now_ms = 100;
        space.expiry = Expiry::Ignore;
        assert!(space.exists(0, b"k"));
        space.expiry = Expiry::Hide;
        assert!(!space.exists(0, b"k"));
        assert_eq!(space.dbs()[0].len(), 1);
        space.expiry = Expiry::Delete;
        assert!(!space.exists(0, b"k"));
        assert_eq!(space.dbs()[0].len(), 0);
        assert_eq!(space.expired, vec![(0, Bytes::from_static(b"k"))]);
        assert_eq!(space.next_deadline_ms(), None);
    }

    #[test]
    fn due_keys_go_in_the_order_of_their_deadlines() {
        let mut space = Keyspace::new(1);
        for (key, at) in [("c", 30), ("a", 10), ("b", 20), ("later", 99)] {
            put(&mut space, key, Some(at));
        }
        put(&mut space, "a", None);
        space.now_ms = 50;
        space.expire_due(usize::MAX);
        let gone: Vec<&[u8]> = space.expired.iter().map(|(_, k)| &k[..]).collect();
        assert_eq!(gone, [b"b", b"c"]);
        assert_eq!(space.next_deadline_ms(), Some(99));
    }

    #[test]
    fn a_watch_sees_changes_and_nothing_else() {
        let mut space = Keyspace::new(2);
        let key = Bytes::from_static(b"k");
        let watch = space.watch(0, &key);
        put(&mut space, "other", None);
        assert!(!space.unwatch(watch));
        let watch = space.watch(0, &key);
        put(&mut space, "k", Some(10));
        assert!(space.unwatch(watch));
        let watch = space.watch(0, &key);
        space.now_ms = 11;
        assert!(space.unwatch(watch), "it ran out");
        let watch = space.watch(1, &key);
        space.swap(0, 1);
        assert!(space.unwatch(watch), "another database came in");
    }
}
