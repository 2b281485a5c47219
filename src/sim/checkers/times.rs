//! The times that several checkers judge by, in ms: what a sentinel is to keep to, and what clocks
//! that drift make of that.

use crate::sim::wire::Ms;

/// A vote binds its voter for so long.
pub(in crate::sim) const TENURE_MS: Ms = 5_000;
/// The same by a clock that runs fast.
pub(super) const SHORT_TENURE_MS: Ms = TENURE_MS - DRIFT_MS;
/// An opinion does not count any more after so long, by a clock that runs slow.
pub(super) const OPINION_MS: Ms = 5_000 + DRIFT_MS;
/// What a clock makes of five seconds at most.
const DRIFT_MS: Ms = 20;

/// The lead of each sentinel that comes first and sees the master down, too.
pub(super) const LEAD_MS: Ms = 50;
/// A disk that is well takes no longer.
pub(super) const QUICK_DISK_MS: Ms = 80;
/// Silence is seen by PINGs, which are no farther apart.
pub(super) const PING_MS: Ms = 1_000;
/// A master has said within so long that it is one: twice Sentinel's INFO period.
pub(super) const SANE_MS: Ms = 20_000;
/// A node that is steadily wrong is put right after so long, where nobody confirms that no other
/// configuration is on its way, and `failover-timeout` is not longer: four hello periods.
pub(super) const PATIENCE_MS: Ms = 8_000;
/// An order to follow that shows no effect in so long counts no more, and is given again.
pub(super) const ORDER_MS: Ms = 10_000;
/// After a long freeze it takes so long until a sentinel decides again.
pub(super) const AWAKE_MS: Ms = 2_500;
