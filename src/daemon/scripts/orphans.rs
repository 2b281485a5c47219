//! What scripts leave behind. Where this process is the first one of a container, whoever loses its
//! parent becomes its child, and must be waited for when it ends: otherwise its place in the
//! system's table of processes is never free again.

use std::fs;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};

/// True if orphans become children of this process.
pub(super) fn are_ours() -> bool {
    #[cfg(target_os = "linux")]
    if rustix::process::child_subreaper().is_ok_and(|subreaper| subreaper.is_some()) {
        return true;
    }
    getpid().is_init()
}

/// The children of this process that have ended and that nobody has waited for.
pub(super) fn dead_children() -> Vec<u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| is_dead_child(*pid, own)).collect()
}

/// Reads `pid (name) state parent ...`, where the name may hold anything.
fn is_dead_child(pid: u32, of: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    fields.next() == Some("Z") && fields.next().is_some_and(|parent| parent == of.to_string())
}

/// Waits for a dead child.
pub(super) fn bury(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have been waited for already.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}
