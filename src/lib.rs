//! Watchfire keeps Redis and Valkey available. This is the map of the house, in reading order.
//!
//! * [`resp`]: the wire format, RESP2 and RESP3, pure. Read `resp::value` first.
//! * [`config`]: text in, validated settings out: our YAML, `sentinel.conf`, `redis.conf`;
//!   diagnostics that show the line and the mend; the rewriting that keeps comments and order.
//! * [`acl`]: users and what each may do, as Redis has them; pure.
//! * [`sentinel`]: **the decision core.** Time and input go in, effects come out; no socket, file,
//!   clock or random source. Start at `sentinel::Sentinel::handle`.
//! * [`net`]: listeners shared by `daemon`, `api` and `server`.
//! * [`daemon`]: drives a core with tokio: links to nodes and peers, the store, the one task.
//! * [`api`]: the RESP server of a sentinel: what clients, exporters and other sentinels talk to.
//! * [`server`]: the bundled data node; it does not know that sentinels exist.
//! * [`wall_clock`]: the time since 1970, for `daemon`, `api` and `server`.
//! * [`sim`]: a simulated world around the very same core, with its faults and checkers.
//! * [`demo`]: a whole group as child processes on this machine, told as a story.
//! * [`bench`]: measures Watchfire beside `redis-sentinel`; plays thousands of nodes.
//! * [`cli`]: the command line, one file per subcommand.
//!
//! ARCHITECTURE.md tells which way the arrows run; `tests/tidy.rs` holds the walls.

pub mod acl;
pub mod api;
pub mod bench;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod net;
pub mod resp;
pub mod sentinel;
pub mod server;
pub mod sim;
pub mod wall_clock;
