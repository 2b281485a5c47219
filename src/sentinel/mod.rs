//! The decision core.

mod effect;
mod event;
pub mod hello;
mod input;
mod request;
pub mod types;

pub use effect::{Command, Effect, Target, TargetKind};
pub use event::{Event, EventKind, Level};
pub use input::{Input, LinkEvent, LostReason};
pub use request::Request;
pub use types::{Clock, Epoch, GroupName, Instant, LinkId, RequestId, Revision};

use crate::config::settings::{GroupSettings, SentinelSettings};
use crate::config::state::State;

/// One sentinel's mind: a function of settings, durable state, seed and the sequence of (clock, input).
pub struct Sentinel {}

impl Sentinel {
    /// A sentinel as it starts. `state` is what [`reconcile`](crate::config) made of the state file.
    pub fn new(_clock: Clock, _settings: SentinelSettings, _state: State, _seed: u64) -> Sentinel {
        Sentinel {}
    }
    /// The only way in. Total: never an error, never a panic. Drain [`poll`](Self::poll) after it.
    pub fn handle(&mut self, _clock: Clock, _input: Input) {}
    /// The next thing to do; `None` once all are taken.
    pub fn poll(&mut self) -> Option<Effect> {
        None
    }
    /// When `Input::Wake` is due if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Joins what the configuration declares with what was remembered; returns the state to start with and
/// a sentence for each difference that an operator should know of. `fresh_id` is used where none was
/// remembered.
pub fn reconcile(
    _declared: std::collections::BTreeMap<String, GroupSettings>,
    remembered: Option<State>,
    fresh_id: types::RunId,
) -> (State, Vec<String>) {
    let state = remembered.unwrap_or(State {
        my_id: fresh_id,
        current_epoch: 0,
        groups: Default::default(),
        removed: Default::default(),
    });
    (state, Vec::new())
}
