//! Drives a core with tokio.

mod handle;

pub use handle::Handle;
