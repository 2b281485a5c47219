//! Measures Watchfire and `redis-sentinel` side by side, in one run and over the same nodes.
//!
//! `nodes` plays thousands of Redis nodes in one process, for whatever is measured in width.

pub mod nodes;
