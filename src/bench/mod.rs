//! Measures Watchfire and `redis-sentinel` side by side, in one run and over the same nodes.
//!
//! `nodes` plays thousands of Redis nodes in one process; `scale` measures over them what watching
//! many groups costs, and how fast many fail over at once.

pub mod nodes;
pub mod scale;
