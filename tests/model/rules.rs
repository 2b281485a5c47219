//! The rules that the model follows, each of which can be taken out to see what it is there for.

/// What a sentinel does that knows no other: a new one, or one after RESET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newcomers {
    /// It stands and votes like any other.
    TakePart,
    /// It takes no part until it has listened to the hello channel for some hello periods.
    Listen,
    /// It takes no part until it has met another.
    UntilMet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What shows a vote or an epoch waits for the disk.
    pub(crate) persist_before_speaking: bool,
    /// A write begins only when the one before it has ended.
    pub(crate) one_write_in_flight: bool,
    pub(crate) newcomers: Newcomers,
    /// A newcomer that has listened votes only in epochs newer than those it has found.
    pub(crate) no_vote_in_epochs_found: bool,
}

impl Rules {
    /// What the core keeps at the least: without its rules for newcomers, which some worlds add.
    pub(crate) const LEAST: Rules = Rules {
        persist_before_speaking: true,
        one_write_in_flight: true,
        newcomers: Newcomers::TakePart,
        no_vote_in_epochs_found: false,
    };
}
