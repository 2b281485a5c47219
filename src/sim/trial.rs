//! The last trial of a run: all is well again, and then the master of every group dies and stays
//! dead until another one has taken its place. Nothing else fails, and no operator helps. Whoever
//! refuses too much, and so never breaks a rule of safety, fails here.

use std::collections::BTreeSet;

use super::checkers::Season;
use super::rules::Rule;
use super::wire::{Ms, Proc};
use super::world::World;

/// How far a run has come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trial {
    /// It has none.
    None,
    /// It comes once all is well.
    Due,
    /// The masters are dead since then.
    Orphaned {
        /// When they died.
        since: Ms,
        /// Those that are dead.
        dead: BTreeSet<usize>,
    },
    /// They were replaced after so long, in ms, and are back.
    Passed(Ms),
}

impl World {
    /// The nodes that are dead by the trial.
    pub(super) fn is_dead(&self, node: usize) -> bool {
        matches!(&self.trial, Trial::Orphaned { dead, .. } if dead.contains(&node))
    }

    /// All masters die.
    pub(super) fn begin_trial(&mut self) {
        let is_master = |n: &usize| self.nodes[*n].following().is_none();
        let dead: BTreeSet<usize> = (0..self.nodes.len()).filter(is_master).collect();
        self.tell(|_| "the last trial: all masters die".to_owned());
        self.watch.checkers.set_season(Season::Rough);
        self.well_since = None;
        for n in &dead {
            self.put_down(Proc::Node(*n), false);
        }
        self.trial = Trial::Orphaned { since: self.net.now(), dead };
    }

    /// Looks whether others have taken their place; then they come back.
    pub(super) fn judge_trial(&mut self) {
        let Trial::Orphaned { since, dead } = self.trial.clone() else { return };
        let (now, bound) = (self.net.now(), self.plan.shape.replaced_ms());
        match self.what_is_wrong() {
            None => {
                let took = now - since;
                self.tell(|_| format!("all masters are replaced after {took} ms"));
                self.trial = Trial::Passed(took);
                dead.into_iter().for_each(|n| self.put_up(Proc::Node(n)));
                self.healed_at = Some(now);
            }
            Some(wrong) if now > since + bound => {
                let how = format!("not within {bound} ms, {wrong}");
                self.watch.checkers.fail(now, Rule::DeadMastersAreReplaced, how);
            }
            Some(_) => {}
        }
    }
}
