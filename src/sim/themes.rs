//! Themes: faults that belong together, at related times, which chance alone seldom brings about. A
//! run has one of those about votes, or one of those about the choice of a master, or none.

pub(super) mod choice;
mod counts;
pub(super) mod votes;
