//! Time, ids and chance, as the core knows them.

pub use crate::config::types::{Address, EPOCH_MAX, RunId, Secret};

/// A moment of the monotonic clock, in ms since a zero that only its maker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// The moment `ms` milliseconds after zero.
    pub const fn from_ms(ms: u64) -> Instant {
        Instant(ms)
    }

    /// Milliseconds since zero.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// This moment and `ms` more.
    pub const fn plus(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms))
    }

    /// The last multiple of `ms` up to this moment; the moment itself if that is 0.
    pub(crate) const fn on_grid(self, ms: u64) -> Instant {
        match self.0.checked_rem(ms) {
            Some(beyond) => Instant(self.0 - beyond),
            None => self,
        }
    }

    /// Milliseconds from `earlier` to this moment; 0 if it lies ahead.
    pub const fn since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read together by the daemon or made by the simulator. `mono` drives every timer;
/// `wall_ms` (Unix time in ms)
/// decides nothing but whether a signed hello is an old one; it is there for what people are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The monotonic clock.
    pub mono: Instant,
    /// Unix time in ms.
    pub wall_ms: u64,
}

/// Counts elections; the higher one is the newer one. Sentinel's `current-epoch` and
/// `config-epoch`.
pub type Epoch = u64;

/// No vote request moves the own epoch further than this. Real ones grow by one with each
/// election; in Redis a single request with epoch -1 ends all later ones.
pub const EPOCH_JUMP_MAX: Epoch = 1 << 24;
/// No hello moves it further than this: who is left behind must catch up, whatever stock sentinels
/// were made to believe.
pub const EPOCH_STRIDE_MAX: Epoch = 1 << 40;
/// After so many strides nobody tries to catch up: there, no election is far from the last epoch.
pub const EPOCH_STRIDES_MAX: u64 = 64;
/// More than this at once is a leap, and leaps need a pause between them: who lags behind must be
/// able to follow faster than others are led on.
pub const EPOCH_LEAP: Epoch = 1 << 8;

/// The name of a group: what clients ask for.
pub type GroupName = std::sync::Arc<str>;

/// Numbers the states that are to be made durable; the higher one holds all that the lower one
/// held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// One logical connection to a node or peer, from [`Effect::Connect`] to [`Effect::Disconnect`];
/// the daemon may reconnect below it. Never used twice.
///
/// [`Effect::Connect`]: super::Effect::Connect
/// [`Effect::Disconnect`]: super::Effect::Disconnect
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Ties a reply to the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Chance, made from a seed (SplitMix64), so that a run can be played again.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, `bound` (which must not be 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
