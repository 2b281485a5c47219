//! Measures Watchfire and `redis-sentinel` side by side, in one run and over the same nodes.
//!
//! `failover` times the stages of one group's failover. `scale` measures what watching many groups
//! costs, and how fast many fail over at once, over the thousands of Redis nodes that `nodes` plays
//! in one process. `report` and `chart` show what was found.

mod chart;
pub mod failover;
pub mod nodes;
mod output;
mod report;
pub mod scale;
mod wire;
