//! Which history of writes this node holds, how far it got, and the latest piece of it: what
//! decides whether a replica may continue where it stopped or needs everything anew. Pure; random
//! ids come from the caller.
//!
//! A *history* is named by a replication id. Its bytes are counted from 1; `offset` is the number
//! of the last one. A node remembers one earlier history as well, up to the byte where the present
//! one parted from it, so that replicas of the old master can follow the new one without a full
//! resynchronisation.

use crate::config::types::RunId;

/// `repl-backlog-size` where nothing is said, in bytes.
pub const BACKLOG_SIZE: usize = 1 << 20;

/// Replication identity, offset and backlog of one node.
#[derive(Debug)]
pub struct History {
    id: RunId,
    previous: Option<Previous>,
    offset: u64,
    backlog: Option<Ring>,
}

/// The history that the present one grew out of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Previous {
    id: RunId,
    /// The first byte that the two histories do not share: `second_repl_offset`.
    parted_at: u64,
}

impl History {
    /// A new, empty history without a backlog.
    pub fn new(id: RunId) -> History {
        History { id, previous: None, offset: 0, backlog: None }
    }

    /// `master_replid`
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// `master_replid2`; Redis shows forty zeros for none.
    pub fn previous_id(&self) -> Option<&RunId> {
        self.previous.as_ref().map(|previous| &previous.id)
    }

    /// `second_repl_offset`; Redis shows -1 for none.
    pub fn second_offset(&self) -> Option<u64> {
        self.previous.as_ref().map(|previous| previous.parted_at)
    }

    /// `master_repl_offset`: the number of the last byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// `repl_backlog_active`
    pub fn has_backlog(&self) -> bool {
        self.backlog.is_some()
    }

    /// `repl_backlog_histlen`: bytes of the history that the backlog still holds.
    pub fn held(&self) -> usize {
        self.backlog.as_ref().map_or(0, |ring| ring.length)
    }

    /// `repl_backlog_first_byte_offset`; 0 without a backlog, as in Redis.
    pub fn first_held(&self) -> u64 {
        self.backlog.as_ref().map_or(0, |ring| self.offset + 1 - ring.length as u64)
    }

    /// What this node asks of a master to continue this history: the id and the first byte wanted,
    /// for `PSYNC <id> <offset>`. A master that becomes a replica asks this too.
    pub fn wanted(&self) -> (&RunId, u64) {
        (&self.id, self.offset + 1)
    }

    /// Creates the backlog when the first replica attaches to a master: a new history begins, since
    /// bytes written before were not counted. Does nothing if there is a backlog.
    pub fn begin(&mut self, new_id: RunId, size: usize) {
        if self.backlog.is_none() {
            self.id = new_id;
            self.previous = None;
            self.backlog = Some(Ring::new(size));
        }
    }

    /// Frees the backlog of a master that had no replica for `repl-backlog-ttl`. Writes are no
    /// longer counted, so the history ends here.
    pub fn end(&mut self, new_id: RunId) {
        self.id = new_id;
        self.previous = None;
        self.backlog = None;
    }

    /// Changes `repl-backlog-size`, keeping the latest bytes.
    pub fn resize(&mut self, size: usize) {
        if let Some(ring) = &mut self.backlog {
            ring.resize(size);
        }
    }

    /// Counts and keeps bytes of the stream. Without a backlog nobody follows this history, and
    /// nothing happens.
    pub fn append(&mut self, bytes: &[u8]) {
        if let Some(ring) = &mut self.backlog {
            ring.append(bytes);
            self.offset += bytes.len() as u64;
        }
    }

    /// Whether a replica that asks `PSYNC <id> <offset>` may continue: the position to send from,
    /// for [`History::since`]. `None` means a full resynchronisation.
    ///
    /// The id must be the present one, or the previous one with an offset that is not behind the
    /// parting; and the backlog must hold all from the offset on, which may be the byte to be
    /// written next.
    pub fn accepts(&self, id: &str, offset: i64) -> Option<u64> {
        let offset = u64::try_from(offset).ok()?;
        let id = RunId::parse(id)?;
        let shared = self
            .previous
            .as_ref()
            .is_some_and(|previous| id == previous.id && offset <= previous.parted_at);
        ((id == self.id || shared) && self.since(offset).is_some()).then_some(offset)
    }

    /// All bytes from `position` to the end of the history, in two pieces since the backlog is a
    /// ring. `None` if the backlog does not reach back that far, or if the position is beyond the
    /// next byte.
    pub fn since(&self, position: u64) -> Option<[&[u8]; 2]> {
        let ring = self.backlog.as_ref()?;
        let wanted = (self.offset + 1).checked_sub(position)?;
        let wanted = usize::try_from(wanted).ok().filter(|wanted| *wanted <= ring.length)?;
        Some(ring.latest(wanted))
    }

    /// Promotion to master: a new history grows out of the present one.
    pub fn promote(&mut self, new_id: RunId) {
        let old = std::mem::replace(&mut self.id, new_id);
        self.previous = Some(Previous { id: old, parted_at: self.offset + 1 });
    }

    /// A full resynchronisation was loaded: `+FULLRESYNC <id> <offset>`. This node now holds its
    /// master's history up to `offset` (at most 2^63 - 1), with an empty backlog for replicas of
    /// its own.
    pub fn adopt(&mut self, id: RunId, offset: u64, backlog_size: usize) {
        *self = History { id, previous: None, offset, backlog: Some(Ring::new(backlog_size)) };
    }

    /// The master let this node continue: `+CONTINUE` or `+CONTINUE <id>`. `true` if the id is
    /// another one; then the node's own replicas must reconnect to learn it.
    pub fn proceed(&mut self, id: Option<RunId>, backlog_size: usize) -> bool {
        self.backlog.get_or_insert_with(|| Ring::new(backlog_size));
        match id {
            Some(id) if id != self.id => {
                self.promote(id);
                true
            }
            _ => false,
        }
    }
}

/// The latest bytes of a stream.
#[derive(Debug)]
struct Ring {
    /// Zeroed pages that the system lends only as they are written.
    data: Vec<u8>,
    /// Where the next byte goes.
    next: usize,
    /// How many bytes are held; at most the size of `data`.
    length: usize,
}

impl Ring {
    fn new(size: usize) -> Ring {
        Ring { data: vec![0; size.max(1)], next: 0, length: 0 }
    }

    fn append(&mut self, bytes: &[u8]) {
        let size = self.data.len();
        let bytes = &bytes[bytes.len().saturating_sub(size)..];
        let (head, tail) = bytes.split_at(bytes.len().min(size - self.next));
        self.data[self.next..self.next + head.len()].copy_from_slice(head);
        self.data[..tail.len()].copy_from_slice(tail);
        self.next = (self.next + bytes.len()) % size;
        self.length = size.min(self.length + bytes.len());
    }

    /// The last `count` bytes, which must be held.
    fn latest(&self, count: usize) -> [&[u8]; 2] {
        match self.next.checked_sub(count) {
            Some(start) => [&self.data[start..self.next], &[]],
            None => {
                let wrapped = count - self.next;
                [&self.data[self.data.len() - wrapped..], &self.data[..self.next]]
            }
        }
    }

    fn resize(&mut self, size: usize) {
        let mut ring = Ring::new(size);
        for piece in self.latest(self.length) {
            ring.append(piece);
        }
        *self = ring;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> RunId {
        RunId::from_bytes([number; 20])
    }

    fn joined(pieces: [&[u8]; 2]) -> Vec<u8> {
        pieces.concat()
    }

    fn started(size: usize) -> History {
        let mut history = History::new(id(0));
        history.begin(id(1), size);
        history
    }

    #[test]
    fn bytes_are_counted_from_the_first_replica_on() {
        let mut history = History::new(id(0));
        history.append(b"not counted");
        assert_eq!((history.offset(), history.held(), history.first_held()), (0, 0, 0));
        history.begin(id(1), 100);
        assert_eq!((history.offset(), history.held(), history.first_held()), (0, 0, 1));
        assert_eq!(history.accepts(id(1).as_str(), 1), Some(1));
        history.append(b"hello");
        assert_eq!((history.offset(), history.held(), history.first_held()), (5, 5, 1));
        history.begin(id(2), 100);
        assert_eq!(history.id(), &id(1), "a backlog that is there stays");
    }

    #[test]
    fn partial_resync_needs_the_id_and_bytes_that_are_held() {
        let mut history = started(4);
        history.append(b"abcdef");
        assert_eq!(history.first_held(), 3);
        let one = id(1).as_str().to_uppercase();
        assert_eq!(history.accepts(&one, 2), None, "lost");
        assert_eq!(history.accepts(&one, 3), Some(3));
        assert_eq!(history.accepts(&one, 7), Some(7), "up to date");
        assert_eq!(history.accepts(&one, 8), None, "beyond the end");
        assert_eq!(history.accepts(&one, -1), None);
        assert_eq!(history.accepts("?", -1), None);
        assert_eq!(history.accepts(id(9).as_str(), 7), None);
        assert_eq!(history.since(4).map(joined), Some(b"def".to_vec()));
        assert_eq!(history.since(7).map(joined), Some(vec![]));
    }

    /// The numbers of a promotion seen on redis-server 7.0.15.
    #[test]
    fn promotion_keeps_the_old_history_up_to_the_parting() {
        let mut history = started(1000);
        history.append(&[b'x'; 514]);
        history.promote(id(2));
        assert_eq!((history.id(), history.previous_id()), (&id(2), Some(&id(1))));
        assert_eq!((history.offset(), history.second_offset()), (514, Some(515)));
        history.append(b"new");
        let old = id(1);
        assert_eq!(history.accepts(old.as_str(), 515), Some(515));
        assert_eq!(history.accepts(old.as_str(), 1), Some(1));
        assert_eq!(history.accepts(old.as_str(), 516), None, "the old master wrote on by itself");
        assert_eq!(history.accepts(id(2).as_str(), 516), Some(516));
    }

    #[test]
    fn a_replica_takes_over_the_history_of_its_master() {
        let mut replica = started(100);
        replica.append(b"own");
        replica.promote(id(7));
        replica.adopt(id(3), 1000, 50);
        assert_eq!((replica.id(), replica.previous_id()), (&id(3), None));
        assert_eq!((replica.offset(), replica.first_held(), replica.held()), (1000, 1001, 0));
        assert_eq!(replica.wanted(), (&id(3), 1001));
        replica.append(b"ab");
        assert!(!replica.proceed(None, 50));
        assert!(!replica.proceed(Some(id(3)), 50));
        assert!(replica.proceed(Some(id(4)), 50));
        assert_eq!((replica.id(), replica.previous_id()), (&id(4), Some(&id(3))));
        assert_eq!(replica.second_offset(), Some(1003));
        assert_eq!(replica.accepts(id(3).as_str(), 1001), Some(1001));
    }

    #[test]
    fn without_replicas_the_history_ends() {
        let mut history = started(100);
        history.append(b"abc");
        history.promote(id(2));
        history.end(id(3));
        assert_eq!((history.previous_id(), history.has_backlog()), (None, false));
        assert_eq!(history.accepts(id(3).as_str(), 4), None);
        history.begin(id(4), 100);
        assert_eq!((history.offset(), history.first_held()), (3, 4));
    }

    #[derive(Debug, Clone)]
    enum Action {
        Append(Vec<u8>),
        Resize(usize),
        Promote,
        Adopt(u16),
        Proceed(bool),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            5 => vec(any::<u8>(), 0..40).prop_map(Action::Append),
            1 => (0usize..60).prop_map(Action::Resize),
            1 => Just(Action::Promote),
            1 => any::<u16>().prop_map(Action::Adopt),
            1 => any::<bool>().prop_map(Action::Proceed),
        ]
    }

    proptest! {
        /// Against a model that keeps every byte since the last full resynchronisation.
        #[test]
        fn the_backlog_is_the_end_of_the_stream(actions in vec(action(), 0..40)) {
            let mut history = started(16);
            let (mut stream, mut base, mut size, mut next_id) = (Vec::new(), 0u64, 16usize, 2);
            for action in actions {
                next_id += 1;
                match action {
                    Action::Append(bytes) => {
                        history.append(&bytes);
                        stream.extend(bytes);
                    }
                    Action::Resize(to) => {
                        history.resize(to);
                        size = to.max(1);
                    }
                    Action::Promote => history.promote(id(next_id)),
                    Action::Adopt(offset) => {
                        history.adopt(id(next_id), u64::from(offset), 16);
                        (stream, base, size) = (Vec::new(), u64::from(offset), 16);
                    }
                    Action::Proceed(changed) => {
                        prop_assert_eq!(history.proceed(changed.then(|| id(next_id)), 16), changed);
                    }
                }
                prop_assert_eq!(history.offset(), base + stream.len() as u64);
                prop_assert!(history.held() <= size.min(stream.len()));
                prop_assert_eq!(history.first_held() + history.held() as u64, history.offset() + 1);
                for position in base..history.offset() + 3 {
                    let held = (history.first_held()..=history.offset() + 1).contains(&position);
                    let expected = held.then(|| stream[(position - base) as usize - 1..].to_vec());
                    prop_assert_eq!(history.since(position).map(joined), expected);
                    let accepted = history.accepts(history.id().as_str(), position as i64);
                    prop_assert_eq!(accepted, held.then_some(position));
                    let previous = history.previous_id().zip(history.second_offset());
                    if let Some((old, parted)) = previous {
                        let accepted = history.accepts(old.as_str(), position as i64);
                        let expected = (held && position <= parted).then_some(position);
                        prop_assert_eq!(accepted, expected);
                    }
                }
            }
        }
    }
}
