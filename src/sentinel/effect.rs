//! What goes out of the core.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::event::{Event, EventKind, Level};
use super::hello::GiveUp;
use super::types::{Address, Epoch, GroupName, LinkId, RequestId, Revision, RunId, Secret};
use crate::config::settings::LogLevel;
use crate::config::state::State;
use crate::resp::Value;

/// Everything that a sentinel can want done. Effects are to be carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make this state durable, then say [`Input::Persisted`](super::Input::Persisted) or
    /// [`Input::PersistFailed`](super::Input::PersistFailed). At most one is in flight.
    Persist {
        /// To be named in the answer.
        revision: Revision,
        /// All that must survive a crash.
        state: Box<State>,
        /// Somebody asked for the file itself (`FLUSHCONFIG`): what only adds to it is not enough.
        whole: bool,
    },
    /// Open a link and keep it open: connect, and reconnect with back-off, until `Disconnect`.
    Connect {
        /// The link's name from now on.
        link: LinkId,
        /// Where to and how.
        target: Box<Target>,
    },
    /// Close a link for good; its unanswered commands are forgotten.
    Disconnect {
        /// Which.
        link: LinkId,
    },
    /// Send a command on a link; dropped if the link is not up.
    Send {
        /// Which.
        link: LinkId,
        /// What.
        command: Command,
    },
    /// Answer a request.
    Reply {
        /// The request's id.
        id: RequestId,
        /// The answer.
        reply: Value,
    },
    /// From now on clients that ask for this group's master are told this one; `None`: that there
    /// is no such group. [`Request::MasterAddress`](super::Request::MasterAddress) is answered the
    /// same; this is for whoever answers many clients at once.
    Show {
        /// The group.
        group: GroupName,
        /// Its master, as it is shown to clients.
        master: Option<Address>,
    },
    /// Tell everybody: Pub/Sub and the log hang on this.
    Announce(Event),
    /// From now on the log tells this much: `SENTINEL CONFIG SET loglevel`.
    SetLogLevel(LogLevel),
    /// End the process at once, as by a crash: `SENTINEL SIMULATE-FAILURE`.
    Crash,
    /// A sentence for the log that tells why something is done or not done. Not published.
    Say {
        /// How much it matters.
        level: Level,
        /// Which group it is about, if one.
        group: Option<GroupName>,
        /// The sentence.
        text: String,
    },
    /// Run a script of a group, without waiting for it.
    RunScript {
        /// The event that it tells of, or that goes with it: it is told no sooner than that.
        about: EventKind,
        /// Whose script it is.
        group: GroupName,
        /// `notification-script` or `client-reconfig-script`.
        script: PathBuf,
        /// What stands behind the path: `event payload`, or
        /// `name leader|observer start from-ip from-port to-ip to-port`.
        args: Vec<String>,
    },
    /// Scripts have these times from now on, those that wait or run already among them.
    TimeScripts(ScriptTimes),
}

/// How long scripts may run, and wait for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptTimes {
    /// After so long a script is killed, in ms (`SENTINEL DEBUG script-max-runtime`).
    pub max_runtime_ms: u64,
    /// Pause after a first failed attempt, in ms; it doubles with each further one (`SENTINEL DEBUG
    /// script-retry-delay`).
    pub retry_delay_ms: u64,
}

impl Default for ScriptTimes {
    /// Redis's.
    fn default() -> ScriptTimes {
        ScriptTimes { max_runtime_ms: 60_000, retry_delay_ms: 30_000 }
    }
}

/// Whom a link leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// A data node (commands and hello subscription) or another sentinel (commands only).
    pub kind: TargetKind,
    /// User for AUTH, if one is set.
    pub user: Option<String>,
    /// Password for AUTH, if one is set.
    pub password: Option<Secret>,
    /// `rename-command`: upper-case original name to the name that this node knows.
    pub rename_commands: Arc<BTreeMap<String, String>>,
    /// What CLIENT SETNAME says on the command connection, without Sentinel's suffix `-cmd`
    /// (`-pubsub` for the subscription).
    pub client_name: String,
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A master or replica: commands, and a subscription to the hello channel.
    Node,
    /// Another sentinel: commands only.
    Sentinel,
}

/// A command for a node or peer. The words that go over the wire are [`Command::requests`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `PING`
    Ping,
    /// `INFO`
    Info,
    /// `PUBLISH __sentinel__:hello payload`
    Hello {
        /// The eight fields, joined by commas.
        payload: String,
    },
    /// `PUBLISH __sentinel__:hello payload`: to a sentinel, that we gave up an election.
    GiveUp(GiveUp),
    /// `SENTINEL is-master-down-by-addr ip port epoch id|*`
    IsMasterDown {
        /// The master that is meant, as configured.
        master: Address,
        /// The asker's epoch: the one of the election if a vote is asked for.
        epoch: Epoch,
        /// Whom to vote for; `None` asks for an opinion only.
        candidate: Option<RunId>,
    },
    /// `SENTINEL is-master-down-by-addr ip port 0 id`: a wish for a vote in epoch 0, in which
    /// nobody votes; the answer shows the last vote.
    AskVote {
        /// The master of the group that is meant, as configured.
        master: Address,
        /// Who asks.
        asker: RunId,
    },
    /// Promotion: `SLAVEOF NO ONE` and what goes with it in one transaction, then `INFO`.
    Promote,
    /// `CLIENT PAUSE ms WRITE`: to a master that is to hold all writes; then `INFO`, which shows
    /// what was written before.
    HoldWrites {
        /// The epoch of the failover for which it does.
        epoch: Epoch,
        /// For how long, in ms, if they are not freed before.
        ms: u64,
    },
    /// `CLIENT UNPAUSE`: writes that were held go on, or are refused by a replica.
    FreeWrites,
    /// `FAILOVER TO host port TIMEOUT ms`: to a master that is to hand its role over.
    HandOver {
        /// The replica that is to become the master, as the master shows it.
        to: Address,
        /// How long the master may wait for it, and hold writes, in ms.
        timeout_ms: u64,
    },
    /// What a hand-over leaves undone on a node: `CONFIG REWRITE`, and its clients are sent away.
    HandedOver,
    /// `SLAVEOF host port` and what goes with it in one transaction, then `INFO`.
    Follow {
        /// The new master.
        master: Address,
    },
    /// `SENTINEL MYID`.
    AskId {
        /// To whom is said to have our id: the candidate of a vote request that goes before it,
        /// about nobody's master. It means nothing to anybody but ourselves, if it is we who live
        /// there.
        word: Option<RunId>,
    },
    /// `SCRIPT KILL`, for a node that answers `-BUSY` for too long.
    ScriptKill,
}

impl Command {
    /// The requests that make up this command, to be pipelined in order, each as its words; names
    /// are put through `rename` (upper-case original name to actual name). With more than one
    /// request the reply is the array of all replies.
    pub fn requests(&self, rename: &BTreeMap<String, String>) -> Vec<Vec<String>> {
        let several = |requests: Vec<Vec<&str>>| {
            let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
            requests.into_iter().map(owned).collect::<Vec<Vec<String>>>()
        };
        let settled = [
            vec!["CONFIG", "REWRITE"],
            vec!["CLIENT", "KILL", "TYPE", "normal"],
            vec!["CLIENT", "KILL", "TYPE", "pubsub"],
        ];
        let transaction = |host: &str, port: &str| {
            let mut requests = vec![vec!["MULTI"], vec!["SLAVEOF", host, port]];
            requests.extend(settled.clone());
            requests.extend([vec!["EXEC"], vec!["INFO"]]);
            several(requests)
        };
        let one = |words: &[&str]| vec![words.iter().map(|w| (*w).to_owned()).collect()];
        let mut requests: Vec<Vec<String>> = match self {
            Command::Ping => one(&["PING"]),
            Command::Info => one(&["INFO"]),
            Command::Hello { payload } => one(&["PUBLISH", super::hello::CHANNEL, payload]),
            Command::GiveUp(given_up) => {
                one(&["PUBLISH", super::hello::CHANNEL, &given_up.payload()])
            }
            Command::IsMasterDown { master, epoch, candidate } => one(&[
                "SENTINEL",
                "is-master-down-by-addr",
                &master.host,
                &master.port.to_string(),
                &epoch.to_string(),
                candidate.as_ref().map_or("*", RunId::as_str),
            ]),
            Command::AskVote { master, asker } => one(&[
                "SENTINEL",
                "is-master-down-by-addr",
                &master.host,
                &master.port.to_string(),
                "0",
                asker.as_str(),
            ]),
            Command::Promote => transaction("NO", "ONE"),
            Command::HoldWrites { ms, .. } => {
                several(vec![vec!["CLIENT", "PAUSE", &ms.to_string(), "WRITE"], vec!["INFO"]])
            }
            Command::FreeWrites => one(&["CLIENT", "UNPAUSE"]),
            Command::HandOver { to, timeout_ms } => {
                let (port, timeout) = (to.port.to_string(), timeout_ms.to_string());
                one(&["FAILOVER", "TO", &to.host, &port, "TIMEOUT", &timeout])
            }
            Command::HandedOver => several(settled.to_vec()),
            Command::Follow { master } => transaction(&master.host, &master.port.to_string()),
            Command::AskId { word } => {
                let question = word.iter().map(|word| {
                    vec!["SENTINEL", "is-master-down-by-addr", "0.0.0.0", "1", "0", word.as_str()]
                });
                several(question.chain([vec!["SENTINEL", "MYID"]]).collect())
            }
            Command::ScriptKill => one(&["SCRIPT", "KILL"]),
        };
        for words in &mut requests {
            if let Some(actual) = rename.get(&words[0]) {
                words[0].clone_from(actual);
            }
        }
        requests
    }
}
