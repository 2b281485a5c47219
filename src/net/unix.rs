//! `unixsocket`: a listening socket in the file system. What a dead process left is removed, as
//! Redis does; unlike Redis, a socket on which somebody listens is left alone, and so is any other
//! file.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::config::diagnostic::os_words;
use crate::config::transport::UnixSettings;

/// A Unix socket that listens; its file is removed when it is dropped.
#[derive(Debug)]
pub struct UnixDoor {
    /// The socket.
    pub listener: UnixListener,
    /// What removes its file.
    pub file: SocketFile,
}

/// The file of a socket, removed when this is dropped, unless it is another's by now.
#[derive(Debug)]
pub struct SocketFile {
    /// Where it is, as configured.
    pub path: Arc<Path>,
    /// Absolute, for the working directory may change.
    absolute: PathBuf,
    id: Option<Id>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_some() && id(&self.absolute) == self.id {
            let _ = fs::remove_file(&self.absolute);
        }
    }
}

/// A Unix socket could not be made. Nothing is left open.
#[derive(Debug, thiserror::Error)]
#[error("Failed opening Unix socket: {call}: {}: {why}. {mend}", path.display())]
pub struct UnixError {
    /// The file.
    pub path: PathBuf,
    /// The step that failed: `bind`, `chmod`, `chown`.
    pub call: &'static str,
    /// The system's words.
    pub why: String,
    /// What to do.
    pub mend: &'static str,
}

/// Opens the socket of `unixsocket`, if there is one, inside a tokio runtime.
pub fn listen_unix(settings: &UnixSettings, backlog: u32) -> Result<Option<UnixDoor>, UnixError> {
    let Some(path) = settings.path.as_deref() else { return Ok(None) };
    let error = |call, why, mend| UnixError { path: path.to_owned(), call, why, mend };
    make_room(path).map_err(|(why, mend)| error("bind", why, mend))?;
    let failed = |call, mend| move |cause: io::Error| error(call, os_words(&cause), mend);
    let bind = failed("bind", "Give 'unixsocket' a path in a folder that this user may write to");
    let listener = bind_to(path, backlog).map_err(bind)?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let file = SocketFile { path: path.into(), id: id(&absolute), absolute };
    if let Some(name) = &settings.group {
        let mend = "Give 'unixsocketgroup' a group of this machine that this user is in";
        let group = group_id(name).map_err(|why| error("chown", why, mend))?;
        std::os::unix::fs::chown(path, None, Some(group)).map_err(failed("chown", mend))?;
    }
    if let Some(mode) = settings.mode {
        let mend = "Correct 'unixsocketperm'";
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, mode).map_err(failed("chmod", mend))?;
    }
    Ok(Some(UnixDoor { listener, file }))
}

fn bind_to(path: &Path, backlog: u32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    UnixListener::from_std(socket.into())
}

/// Removes the socket of a process that is gone; otherwise says who is in the way.
fn make_room(path: &Path) -> Result<(), (String, &'static str)> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        let mend = "Remove that file, or choose another path for 'unixsocket'";
        return Err(("there is a file that is no socket".into(), mend));
    }
    if UnixStream::connect(path).is_ok() {
        let mend = "Another process listens there: stop it, or choose another path";
        return Err(("Address already in use".into(), mend));
    }
    fs::remove_file(path).map_err(|cause| (os_words(&cause), "Remove the old socket"))
}

/// The number of a group that is given by name or number.
fn group_id(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no group '{name}'")),
        Err(error) => Err(error.desc().to_owned()),
    }
}

/// Device, number, and the time in s and ns when it was made: numbers are used again.
type Id = (u64, u64, i64, i64);

fn id(path: &Path) -> Option<Id> {
    let found = path.symlink_metadata().ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> UnixSettings {
        UnixSettings { path: Some(path.to_owned()), mode: Some(0o600), group: None }
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_process_is_replaced_and_ours_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // Its file stays behind, as after a crash.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let door = listen_unix(&settings(&path), 5).unwrap().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();

        let error = listen_unix(&settings(&path), 5).unwrap_err().to_string();
        assert!(error.contains("Address already in use. Another process listens"), "{error}");
        drop(door);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        let error = listen_unix(&settings(&path), 5).unwrap_err().to_string();
        assert!(error.contains("there is a file that is no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"data");

        let own = folder.path().join("s");
        let door = listen_unix(&settings(&own), 5).unwrap().unwrap();
        fs::remove_file(&own).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&own).unwrap();
        drop(door);
        assert!(own.exists(), "the socket of the next process stays");
        drop(other);
    }

    #[tokio::test]
    async fn a_group_is_given_by_name_or_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let own = path.parent().unwrap().metadata().unwrap().gid();
        let with = |group: &str| UnixSettings { group: Some(group.into()), ..settings(&path) };
        drop(listen_unix(&with(&own.to_string()), 5).unwrap());
        let error = listen_unix(&with("no-such-group"), 5).unwrap_err().to_string();
        assert!(error.contains("chown: ") && error.contains("no group 'no-such-group'"), "{error}");
        assert!(!path.exists(), "nothing is left behind");
    }
}
