//! A museum of Redis Sentinel's known defects: a file and a story each, with the number of the
//! public issue. Stock sentinels (their rules, in the simulated world) show the defect; ours live
//! through the very same plan without it.
//!
//! A race that no single script hits for certain is swept: the same story with its times drawn by
//! many seeds. `cargo test --test museum -- --nocapture` prints how many of them show it.

mod disjoint_majorities;
mod hall;
mod inflated_majority;
mod new_master_dies_early;
mod priority_before_offset;
mod reset_blind_window;
mod reused_address;
mod silent_disagreement;
mod two_leaders;
mod undone_promotion;

mod absurd_epoch;
mod all_restarted;
mod lost_election;
mod only_a_replica_survives;
mod stuck_replica;
mod tilt_storms;
mod unreadable_file;
mod unresolved_names;
mod wrong_password;
