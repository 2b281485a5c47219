//! Drives a core with tokio.

mod handle;
mod link;

pub use handle::Handle;
