//! The moments at which a sentinel can be made to die or to stand still.

use crate::sentinel::{Command, Effect, EventKind};

/// The moment at which a crash is set to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It writes its state.
    Persist,
    /// It asks for a vote.
    AskForVotes,
    /// It announces a vote.
    Vote,
    /// It announces that it was elected.
    Lead,
    /// It promotes a replica.
    Promote,
    /// It sends a node to another master.
    Repoint,
    /// It announces another master.
    Switch,
    /// It says hello.
    Hello,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Moment::Persist => "write",
            Moment::AskForVotes => "question for a vote",
            Moment::Vote => "vote",
            Moment::Lead => "election that it wins",
            Moment::Promote => "promotion",
            Moment::Repoint => "order to a node to follow another",
            Moment::Switch => "+switch-master",
            Moment::Hello => "hello",
        })
    }
}

impl Moment {
    pub(super) const ALL: &[Moment] = &[
        Moment::Persist,
        Moment::AskForVotes,
        Moment::Vote,
        Moment::Lead,
        Moment::Promote,
        Moment::Repoint,
        Moment::Switch,
        Moment::Hello,
    ];

    pub(super) fn is(self, effect: &Effect) -> bool {
        let announces = |kind| matches!(effect, Effect::Announce(event) if event.kind == kind);
        match self {
            Moment::Persist => matches!(effect, Effect::Persist { .. }),
            Moment::AskForVotes => matches!(
                effect,
                Effect::Send { command: Command::IsMasterDown { candidate: Some(_), .. }, .. }
            ),
            Moment::Vote => announces(EventKind::VoteForLeader),
            Moment::Lead => announces(EventKind::ElectedLeader),
            Moment::Promote => matches!(effect, Effect::Send { command: Command::Promote, .. }),
            Moment::Repoint => {
                matches!(effect, Effect::Send { command: Command::Follow { .. }, .. })
            }
            Moment::Switch => announces(EventKind::SwitchMaster),
            Moment::Hello => matches!(effect, Effect::Send { command: Command::Hello { .. }, .. }),
        }
    }
}

/// A crash that waits for its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambush {
    /// What it waits for.
    pub moment: Moment,
    /// The effect itself is still carried out.
    pub after: bool,
}
