//! Drives a core with tokio: `link` keeps a connection to each node and peer, `store` makes the
//! state durable, `run` is the one task that owns the core, `scripts` runs those of the operator,
//! `handle` is how the API reaches it, `history` keeps the last events, `log` is where all of it is
//! told. [`start`] puts them together; no decision about masters is taken here.

#[doc(hidden)]
pub mod fuzz;
mod handle;
mod history;
mod link;
pub mod log;
mod masters;
mod run;
mod scripts;
mod store;
pub mod syslog;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use handle::Handle;
pub use history::{HISTORY_MAX, History, Past};
pub use scripts::{Pending, Scripts};
pub use store::{StateFileError, journal_left, state_folders};

use self::link::{Names, Outgoing};
use self::run::Driver;
pub(crate) use self::store::replace_file;
use self::store::{Memory, Opened, Store};
use crate::config::diagnostic::{Diagnostic, os_words};
use crate::config::load::{Loaded, Syntax};
use crate::config::settings::SentinelSettings;
use crate::config::types::RunId;
use crate::net::tls::{Tls, TlsError};
use crate::net::{self, Doors, ListenError, UnixError};
use crate::sentinel::Sentinel;

/// Answers of the store that may wait for the core: one write is in flight at a time.
const ANSWERS_MAX: usize = 1;

/// A sentinel cannot start. Nothing is left open or half-made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The Unix socket cannot be opened.
    #[error(transparent)]
    Unix(#[from] UnixError),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Tls(Box<Diagnostic>),
    /// The state file cannot be used.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The folder for the state file cannot be made.
    #[error(
        "Can't create the folder {} for the state file: {}. Create it for the user that runs the \
         sentinel, or set 'state_dir' to another one",
        path.display(),
        os_words(cause)
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The state, with which a sentinel keeps its promises, cannot be written.
    #[error("Sentinel {what} {} is not writable: {why}. Exiting...", path.display())]
    NotWritable {
        /// What the file is: `config file`, `state file`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The step that failed, and the system's words.
        why: String,
    },
    /// Another sentinel writes the `sentinel.conf`.
    #[error(
        "Config file {} is in use by another sentinel{holder}. Stop that one, or give this one a \
         file of its own: each has an id and epochs in it, and would undo what the other writes",
        path.display()
    )]
    ConfInUse {
        /// The file.
        path: PathBuf,
        /// Who has it, as far as that is known: ` (pid 7)`.
        holder: String,
    },
    /// A thread cannot be started.
    #[error("Can't start a thread: {}", os_words(.0))]
    Thread(io::Error),
}

/// A sentinel that runs: its core on a thread of its own, all else in the tokio runtime that
/// started it.
pub struct Running {
    /// How to ask it and listen to it.
    pub handle: Handle,
    /// Its id.
    pub id: RunId,
    /// Has certificates and keys read again at once: SIGHUP.
    pub reload: Arc<Notify>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// Waits until the sentinel has ended: some time after the token given to [`start`] is
    /// cancelled, at most 2 s even if the disk hangs.
    pub async fn ended(self) {
        // A panic of the thread has been told by the panic hook.
        let _ = self.ended.await;
    }
}

/// Starts a sentinel: opens its port, takes back what it remembered, makes sure that it can
/// remember more, and begins to watch. The sockets are for [`api::serve`](crate::api::serve);
/// cancelling `stop` ends the sentinel.
///
/// # Errors
/// Whatever keeps it from doing its job; see [`StartError`].
pub fn start(loaded: &Loaded, stop: CancellationToken) -> Result<(Running, Doors), StartError> {
    let settings = loaded.settings.clone();
    let tls = match settings.transport.tls.is_used() {
        true => Some(open_tls(loaded)?),
        false => None,
    };
    // Before anything is written: the one who holds the port may hold the file, too.
    let doors = open_doors(&settings, tls.clone())?;
    if loaded.syntax == Syntax::Yaml {
        make_folder(&settings.dir)?;
    }
    let fresh_id = RunId::from_bytes(rand::random());
    let Opened { memory, state, notes } = Memory::open(loaded, fresh_id)?;
    let state_file = memory.path().to_owned();
    for note in notes {
        tracing::warn!("{note}");
    }
    let id = state.my_id.clone();
    tracing::info!("Running mode=sentinel, port={}.", doors.port());
    if let Some(unix) = &doors.unix {
        tracing::info!("Ready to accept connections at {}", unix.file.path.display());
    }
    tracing::info!("State is kept in {}", state_file.display());
    tracing::warn!("Sentinel ID is {id}");
    let (sender, stored) = mpsc::channel(ANSWERS_MAX);
    let store = Store::start(memory, sender).map_err(StartError::Thread)?;
    let (handle, requests) = Handle::new();
    let reload = Arc::new(Notify::new());
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().keep_fresh(reload.clone(), stop.clone()));
    }
    let outgoing = Outgoing {
        tls: tls.filter(|_| settings.transport.tls.links),
        source: settings.transport.bind_source,
        names: Names::default(),
    };
    tokio::spawn(scripts::run(handle.clone(), stop.clone()));
    let core = |clock| Sentinel::new(clock, settings, state, rand::random());
    let drive = {
        let handle = handle.clone();
        async move {
            let (driver, inbox) = Driver::new(core, handle, store, outgoing, requests, stored);
            driver.run(inbox, stop).await;
        }
    };
    let ended = on_a_thread(drive).map_err(StartError::Thread)?;
    Ok((Running { handle, id, reload, ended }, doors))
}

/// Runs the core with all its links on one thread of its own: they hand each other thousands of
/// small things a second, which costs next to nothing within one thread. The receiver ends when
/// that does.
fn on_a_thread(
    drive: impl Future<Output = ()> + Send + 'static,
) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (until, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("core".into()).spawn(move || {
        let _until = until;
        runtime.block_on(drive);
        // A name server that hangs is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(ended)
}

/// Reads certificates and keys; an error names the line that is to blame.
fn open_tls(loaded: &Loaded) -> Result<Arc<Tls>, StartError> {
    Tls::open(&loaded.settings.transport.tls).map_err(|TlsError { directive, message, help }| {
        let finding = Diagnostic::error(message).help(help);
        StartError::Tls(Box::new(loaded.point(directive, finding)))
    })
}

/// Opens all that it listens on.
fn open_doors(settings: &SentinelSettings, tls: Option<Arc<Tls>>) -> Result<Doors, StartError> {
    let listen = |port| net::listen(&settings.bind, port, settings.tcp_backlog);
    let is_on = |port: u16| Some(port).filter(|port| *port != 0);
    let tls_port = is_on(settings.transport.tls.port).zip(tls);
    Ok(Doors {
        tcp: is_on(settings.port).map(listen).transpose()?,
        tls: tls_port.map(|(port, tls)| Ok::<_, ListenError>((listen(port)?, tls))).transpose()?,
        unix: net::listen_unix(&settings.transport.unix, settings.tcp_backlog)?,
    })
}

/// The state's folder is ours, so it is made if it is missing, and closed to others.
fn make_folder(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| StartError::Folder { path: path.to_owned(), cause })
}
