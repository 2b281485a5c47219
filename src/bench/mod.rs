//! Measures Watchfire and `redis-sentinel` side by side, in one run and over the same nodes.
//!
//! `failover` times the stages of one group's failover. `nodes` plays thousands of Redis nodes in
//! one process, for whatever is measured in width. `report` and `chart` show what was found.

mod chart;
pub mod failover;
pub mod nodes;
mod report;
