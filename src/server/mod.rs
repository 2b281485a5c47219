//! Stub.

pub mod backlog;
