//! What the fuzz targets do with their bytes. Each body is a function that panics where something
//! is wrong; `fuzz_targets/` hands them to libFuzzer, `tests/fuzz.rs` of the main crate runs them
//! over the seeds and mutations of them, on any toolchain.

mod config;
mod desk;
mod replication;
mod sentinel;
mod source;
mod wire;

/// A target: its name, which is also that of its folder of seeds, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("resp_request", wire::resp_request),
    ("resp_reply", wire::resp_reply),
    ("requests", sentinel::requests),
    ("core_inputs", sentinel::core_inputs),
    ("info", sentinel::info),
    ("hello", sentinel::hello),
    ("yaml", config::yaml),
    ("sentinel_conf", config::sentinel_conf),
    ("state_file", config::state_file),
    ("journal", config::journal),
    ("rdb", replication::rdb),
    ("psync_reply", replication::psync_reply),
];

/// Runs one target, by its name.
///
/// # Panics
/// If there is no such target, and wherever its body finds a fault.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, body) = target.unwrap_or_else(|| panic!("no target is called {name}"));
    body(data);
}
