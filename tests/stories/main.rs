//! Stories: whole groups of real processes in which things are killed, frozen, restarted and fed
//! with rubbish, one file per kind of story. Most are told twice, over the bundled node and over
//! Debian's redis-server. `STORY_SENTINEL=redis` plays them with Redis's own sentinel, to compare;
//! `STORY_EVENTS=1` with `-- --nocapture` prints what the sentinels announced, also of a good end.

#[path = "../support/mod.rs"]
mod support;

/// Tells each named story (a function of [`support::node::Nodes`]) over both kinds of nodes, as the
/// tests `<story>::bundled` and `<story>::redis`.
macro_rules! over_both_nodes {
    ($($story:ident),* $(,)?) => {$(
        mod $story {
            #[test]
            fn bundled() {
                super::$story($crate::support::node::Nodes::Bundled);
            }
            #[test]
            fn redis() {
                super::$story($crate::support::node::Nodes::Redis);
            }
        }
    )*};
}

mod access;
mod aliases;
mod clients;
mod command_line;
mod crash;
mod drop_in;
mod exporter;
mod fleet;
mod freeze;
mod full_disk;
mod haproxy;
mod hostile;
mod ipv6;
mod kill;
mod main_job;
mod manual;
mod mixed;
mod names;
mod operator;
mod process;
mod quorum;
mod redis_cli;
mod rights;
mod rolling;
mod scripts;
mod shapes;
mod side_by_side;
mod state;
mod swaps;
mod there_and_back;
mod tls;
mod topology;
mod unwritable;
