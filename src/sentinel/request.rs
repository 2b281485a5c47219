//! The SENTINEL command: what is asked. Arity and numbers are checked before; names and meaning
//! here.

/// A request of a client or of another sentinel, already parsed: the core never sees bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `SENTINEL MASTERS`
    Masters,
    /// `SENTINEL MASTER name`
    Master(String),
    /// `SENTINEL REPLICAS name`, `SENTINEL SLAVES name`
    Replicas(String),
    /// `SENTINEL SENTINELS name`
    Sentinels(String),
    /// `SENTINEL GET-MASTER-ADDR-BY-NAME name`
    MasterAddress(String),
    /// `SENTINEL IS-MASTER-DOWN-BY-ADDR ip port epoch id|*`
    IsMasterDown {
        /// The master's address.
        host: String,
        /// The master's port.
        port: i64,
        /// The asker's epoch.
        epoch: i64,
        /// For whom a vote is asked; `None` for `*`.
        candidate: Option<String>,
    },
    /// `SENTINEL MYID`
    MyId,
    /// `SENTINEL CKQUORUM name`
    CkQuorum(String),
    /// `SENTINEL FAILOVER name`
    Failover(String),
    /// `SENTINEL FAILOVER name COORDINATED`
    HandOver(String),
    /// `SENTINEL RESET pattern`
    Reset(String),
    /// `SENTINEL MONITOR name host port quorum`; the numbers as typed, since their errors have an
    /// order.
    Monitor {
        /// The new group's name.
        name: String,
        /// The master's host.
        host: String,
        /// The master's port, as typed.
        port: String,
        /// The quorum, as typed.
        quorum: String,
    },
    /// `SENTINEL REMOVE name`
    Remove(String),
    /// `SENTINEL SET name option value ...`
    Set {
        /// The group.
        name: String,
        /// Options and values, as typed.
        options: Vec<String>,
    },
    /// `SENTINEL CONFIG GET pattern ...`
    ConfigGet(Vec<String>),
    /// `SENTINEL CONFIG SET parameter value ...`, as typed.
    ConfigSet(Vec<String>),
    /// `SENTINEL INFO-CACHE name ...`
    InfoCache(Vec<String>),
    /// `SENTINEL SIMULATE-FAILURE flag ...`, as typed.
    SimulateFailure(Vec<String>),
    /// `SENTINEL DEBUG [parameter value ...]`, as typed.
    Debug(Vec<String>),
    /// `SENTINEL FLUSHCONFIG`
    FlushConfig,
    /// `PUBLISH __sentinel__:hello payload`, as other sentinels send it to us.
    Hello(String),
    /// `ROLE`
    Role,
    /// The section `# Sentinel` of INFO, as a bulk string. Scripts are run by others than the core:
    /// whoever asks says how many there are.
    Info {
        /// Scripts that run.
        running_scripts: usize,
        /// Scripts that run or wait.
        queued_scripts: usize,
    },
}
