//! The stage on which stories play: real processes on free loopback ports, each with a folder of
//! its own, always ended with the story; and the means to watch them without fixed sleeps.
//!
//! Start reading at [`group::Group`]. Test crates take this module in by
//! `#[path = "../support/mod.rs"] mod support;`, and each uses its own part of it.
#![allow(dead_code, unreachable_pub)]

pub mod certificates;
pub mod client;
pub mod events;
pub mod follower;
pub mod group;
pub mod library;
pub mod node;
pub mod process;
pub mod sentinel;
pub mod slots;
pub mod wait;
pub mod writer;
