//! What can be wrong with a node that runs.

use super::wire::Ms;

/// What is wrong with a node at present.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ailment {
    /// It accepts, and never answers a request.
    pub(super) hung: bool,
    /// It gets round to a request up to so late, in ms.
    pub(super) slow_ms: Ms,
    /// It answers requests with this error: BUSY, MISCONF, NOAUTH.
    pub(super) error: Option<&'static str>,
    /// Its INFO shows an offset larger by so much.
    pub(super) boast: u64,
    /// Its master does not let it in.
    pub(super) unlinked: bool,
    /// The sentinels have a wrong password for it.
    pub(super) locked: bool,
}
