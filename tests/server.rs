//! The bundled data node beside the real redis-server: the same commands get the same replies, and
//! each replicates from the other.

#[path = "server/support.rs"]
mod support;

#[path = "server/commands.rs"]
mod commands;
#[path = "server/process.rs"]
mod process;
#[path = "server/replication.rs"]
mod replication;
