//! Stub.

pub mod backlog;
pub mod rdb;
