//! Drives a core with tokio: `link` keeps a connection to each node and peer, `store` makes the
//! state durable, `run` is the one task that owns the core, `handle` is how the API reaches it,
//! `history` keeps the last events, `log` is where all of it is told. [`start`] puts them together;
//! no decision is taken here.

#[doc(hidden)]
pub mod fuzz;
mod handle;
mod history;
mod link;
pub mod log;
mod run;
mod store;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use handle::Handle;
pub use history::{HISTORY_MAX, History, Past};
pub use store::StateFileError;

use self::run::Driver;
use self::store::{Memory, Store};
use crate::config::load::{Loaded, Syntax};
use crate::config::types::RunId;
use crate::net::{self, ListenError, Listening};
use crate::sentinel::Sentinel;

/// Answers of the store that may wait for the core: one write is in flight at a time.
const ANSWERS_MAX: usize = 1;

/// A sentinel cannot start. Nothing is left open or half-made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The state file cannot be used.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The folder for the state file cannot be made.
    #[error(
        "Can't create the folder {} for the state file: {}. Create it for the user that runs the \
         sentinel, or set 'state_dir' to another one",
        path.display(),
        words(cause)
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
    /// The thread that writes the state cannot be started.
    #[error("Can't start the thread that writes the state: {}", words(.0))]
    Thread(io::Error),
}

/// A sentinel that runs, in tasks of the tokio runtime that started it.
pub struct Running {
    /// How to ask it and listen to it.
    pub handle: Handle,
    /// Its id.
    pub id: RunId,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until the sentinel has ended: some time after the token given to [`start`] is
    /// cancelled, at most 2 s even if the disk hangs.
    pub async fn ended(self) {
        // A panic of the task has been told by the panic hook.
        let _ = self.task.await;
    }
}

/// Starts a sentinel: opens its port, takes back what it remembered, makes sure that it can
/// remember more, and begins to watch. The sockets are for [`api::serve`](crate::api::serve);
/// cancelling `stop` ends the sentinel.
///
/// # Errors
/// Whatever keeps it from doing its job; see [`StartError`].
pub fn start(loaded: &Loaded, stop: CancellationToken) -> Result<(Running, Listening), StartError> {
    let mut settings = loaded.settings.clone();
    // Before anything is written: the one who holds the port may hold the file, too.
    let listening = net::listen(&settings.bind, settings.port, settings.tcp_backlog)?;
    settings.port = listening.port;
    if loaded.syntax == Syntax::Yaml {
        make_folder(&settings.dir)?;
    }
    let fresh_id = RunId::from_bytes(rand::random());
    let (mut memory, state, notes) = Memory::open(loaded, fresh_id)?;
    let state_file = memory.path().to_owned();
    memory.write(&state).map_err(|error| StartError::NotWritable {
        what: if loaded.syntax == Syntax::Yaml { "state file" } else { "config file" },
        path: state_file.clone(),
        why: error.to_string(),
    })?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let id = state.my_id.clone();
    tracing::info!("Running mode=sentinel, port={}.", listening.port);
    tracing::info!("State is kept in {}", state_file.display());
    tracing::warn!("Sentinel ID is {id}");
    let (sender, stored) = mpsc::channel(ANSWERS_MAX);
    let store = Store::start(memory, sender).map_err(StartError::Thread)?;
    let (handle, requests) = Handle::new();
    let core = |clock| Sentinel::new(clock, settings, state, rand::random());
    let (driver, inbox) = Driver::new(core, handle.clone(), store, requests, stored);
    let task = tokio::spawn(driver.run(inbox, stop));
    Ok((Running { handle, id, task }, listening))
}

/// The state's folder is ours, so it is made if it is missing, and closed to others.
fn make_folder(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| StartError::Folder { path: path.to_owned(), cause })
}

/// The system's words, without the number behind them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
