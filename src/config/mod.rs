//! Text in, validated settings out: our YAML, Redis's `sentinel.conf` and `redis.conf` syntax, and
//! the rewriting that keeps comments and order. Pure but for one file, [`load`], which reads.
//!
//! Begin at [`load::load_sentinel`]: it yields [`settings`] and [`state`], made of [`types`], by
//! the rules in [`rules`]; whatever is wrong is a [`diagnostic::Diagnostic`].

pub mod by_name;
pub mod bytes;
pub mod ciphers;
pub mod conf;
pub mod diagnostic;
#[doc(hidden)]
pub mod fuzz;
pub mod load;
mod own;
pub mod rewrite;
pub mod rules;
pub mod sentinel_conf;
pub mod settings;
pub mod state;
pub mod transport;
pub mod types;
pub mod users;
mod yaml;
