//! Drives a core with tokio.

mod handle;
mod link;
mod store;

pub use handle::Handle;
