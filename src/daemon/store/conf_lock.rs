//! The lock that keeps two sentinels from sharing a `sentinel.conf`. It is on the file itself, so
//! that nothing lies beside it and the system gives it back whatever becomes of its holder; and it
//! is on the new file before that takes the place of the old one. Redis knows nothing of it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;

/// How long and how often the lock of somebody else is looked at before a start is given up: a
/// predecessor that has closed its doors may still write.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 60;

/// A lock on a file; dropping it gives it back.
#[derive(Debug)]
pub(super) struct ConfLock(#[expect(dead_code, reason = "closing it ends the lock")] File);

/// Somebody else has it: what is known of him, as an insertion into a sentence.
#[derive(Debug)]
pub(super) struct Held(pub(super) String);

impl ConfLock {
    /// Locks the file at `path`; `None` where the file system has no such locks.
    ///
    /// # Errors
    /// Somebody else has it and keeps it.
    pub(super) fn take(path: &Path) -> Result<Option<ConfLock>, Held> {
        let mut looks = 0;
        loop {
            let Ok(file) = File::open(path) else { return Ok(None) };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Its holder may have put another file there since it was opened.
                Ok(()) if is_at(&file, path) => return Ok(Some(ConfLock(file))),
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(_) => return Ok(None),
            }
            looks += 1;
            if looks == LOOKS_MAX {
                return Err(Held(holder(&file).unwrap_or_default()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether somebody has the file at `path`.
    pub(super) fn is_held(path: &Path) -> bool {
        let lock = |file: &File| flock(file, FlockOperation::NonBlockingLockExclusive);
        File::open(path).is_ok_and(|file| lock(&file) == Err(Errno::WOULDBLOCK))
    }

    /// Locks a file that nobody else knows yet.
    pub(super) fn of_new(file: &File) -> Option<ConfLock> {
        let same = file.try_clone().ok()?;
        flock(&same, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(ConfLock(same))
    }
}

/// Whether this is the file that has the name now.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    let ids = file.metadata().and_then(|ours| Ok((id(ours), id(fs::metadata(path)?))));
    ids.is_ok_and(|(ours, there)| ours == there)
}

/// The process that has locked the file, as far as the system tells.
fn holder(file: &File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let locked = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    find_holder(&fs::read_to_string("/proc/locks").ok()?, &locked)
}

fn find_holder(locks: &str, locked: &str) -> Option<String> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else { return None };
        // A process of another container has no number here.
        let known = file == locked && pid.parse::<u32>().is_ok_and(|pid| pid > 0);
        known.then(|| format!(" (pid {pid})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_in_the_list_of_the_system() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 08:01:132 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 08:01:131 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 10 08:01:131 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 08:01:133 0 EOF\n";
        assert_eq!(find_holder(locks, "08:01:131").as_deref(), Some(" (pid 10)"));
        assert_eq!(find_holder(locks, "08:01:133"), None);
        assert_eq!(find_holder(locks, "08:01:1"), None);
    }
}
