//! The demo's eyes: asks nodes and sentinels in short turns how they are, listens to every event of
//! every sentinel, and writes what it learns on the board. Nodes are asked behind their proxies:
//! the demo sees both sides of a partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, GROUP};
use super::model::{Board, Event, NodeInfo, Role, SentinelInfo};

/// Between two questions to the same process.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long a process on loopback may take to answer before it counts as not answering.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// Between two attempts to subscribe to a sentinel.
const SUBSCRIBE_EVERY: Duration = Duration::from_millis(50);

/// Starts watching; ends when the set is dropped.
pub(super) fn watch(cluster: &Cluster, board: &Board) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (at, port) in cluster.node_ports().into_iter().enumerate() {
        tasks.spawn(watch_node(at, port, board.clone()));
    }
    for (at, port) in cluster.sentinel_ports().into_iter().enumerate() {
        tasks.spawn(watch_sentinel(at, port, board.clone()));
        tasks.spawn(listen(at, port, board.clone()));
    }
    tasks
}

/// A connection to a port of this machine that gives up soon.
pub(super) async fn connect(port: u16, within: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(Some(within));
    client(port)?.get_multiplexed_async_connection_with_config(&config).await
}

fn client(port: u16) -> RedisResult<Client> {
    Client::open(("127.0.0.1", port))
}

async fn watch_node(at: usize, port: u16, board: Board) {
    let mut connection = None;
    loop {
        let info = ask_node(&mut connection, port).await.ok();
        if info.is_none() {
            connection = None;
        }
        board.send_modify(|model| model.nodes[at].info = info);
        sleep(ASK_EVERY).await;
    }
}

async fn ask_node(
    connection: &mut Option<MultiplexedConnection>,
    port: u16,
) -> RedisResult<NodeInfo> {
    let connection = open(connection, port).await?;
    let text: String = ask(connection, &["INFO", "replication"]).await?;
    parse_info(&text)
        .ok_or_else(|| (ErrorKind::Client, "INFO replication makes no sense", text).into())
}

async fn open(
    connection: &mut Option<MultiplexedConnection>,
    port: u16,
) -> RedisResult<&mut MultiplexedConnection> {
    let open = match connection.take() {
        Some(open) => open,
        None => connect(port, ANSWER_WITHIN).await?,
    };
    Ok(connection.insert(open))
}

/// Reads the fields of `INFO replication` that the demo shows.
fn parse_info(text: &str) -> Option<NodeInfo> {
    let fields: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    Some(match *fields.get("role")? {
        "master" => NodeInfo {
            role: Role::Master,
            offset: number("master_repl_offset")?,
            master_port: None,
            link_up: false,
        },
        "slave" => NodeInfo {
            role: Role::Replica,
            offset: number("slave_repl_offset").unwrap_or_default(),
            master_port: number("master_port").and_then(|port| port.try_into().ok()),
            link_up: fields.get("master_link_status") == Some(&"up"),
        },
        _ => return None,
    })
}

async fn watch_sentinel(at: usize, port: u16, board: Board) {
    let mut connection = None;
    loop {
        let info = ask_sentinel(&mut connection, port).await.ok();
        let (info, id) = info.unzip();
        if info.is_none() {
            connection = None;
        }
        board.send_modify(|model| {
            model.sentinels[at].info = info;
            model.sentinels[at].id = id.unwrap_or(std::mem::take(&mut model.sentinels[at].id));
        });
        sleep(ASK_EVERY).await;
    }
}

async fn ask_sentinel(
    connection: &mut Option<MultiplexedConnection>,
    port: u16,
) -> RedisResult<(SentinelInfo, String)> {
    let connection = open(connection, port).await?;
    let id = ask(connection, &["SENTINEL", "MYID"]).await?;
    let master = master_port(connection).await?;
    let replicas = flags(connection, "REPLICAS").await?;
    let peers = flags(connection, "SENTINELS").await?;
    let is_ill = |flag: &str| matches!(flag, "s_down" | "o_down" | "disconnected");
    let well = |all: &[String]| all.iter().filter(|flags| !flags.split(',').any(is_ill)).count();
    let info = SentinelInfo {
        master,
        replicas_well: well(&replicas),
        replicas: replicas.len(),
        peers_well: well(&peers),
        peers: peers.len(),
    };
    Ok((info, id))
}

/// Asks a sentinel on which port the master of the group is.
pub(super) async fn master_port(sentinel: &mut MultiplexedConnection) -> RedisResult<Option<u16>> {
    let words = ["SENTINEL", "get-master-addr-by-name", GROUP];
    let address: Option<(String, u16)> = ask(sentinel, &words).await?;
    Ok(address.map(|(_, port)| port))
}

/// The `flags` field of each instance that a sentinel lists.
async fn flags(sentinel: &mut MultiplexedConnection, kind: &str) -> RedisResult<Vec<String>> {
    let words = ["SENTINEL", kind, GROUP];
    let instances: Vec<BTreeMap<String, String>> = ask(sentinel, &words).await?;
    Ok(instances.into_iter().filter_map(|mut fields| fields.remove("flags")).collect())
}

async fn listen(at: usize, port: u16, board: Board) {
    loop {
        // Ends when the sentinel goes away, and begins anew when it is back.
        let _ = hear_events(at, port, &board).await;
        board.send_modify(|model| model.sentinels[at].listening = false);
        sleep(SUBSCRIBE_EVERY).await;
    }
}

async fn hear_events(at: usize, port: u16, board: &Board) -> RedisResult<()> {
    let subscribe = async {
        let mut events = client(port)?.get_async_pubsub().await?;
        events.psubscribe("*").await?;
        Ok::<_, RedisError>(events)
    };
    let in_vain = |_| RedisError::from((ErrorKind::Io, "no answer to PSUBSCRIBE in time"));
    let events = timeout(ANSWER_WITHIN, subscribe).await.map_err(in_vain)??;
    board.send_modify(|model| model.sentinels[at].listening = true);
    let mut events = events.into_on_message();
    while let Some(message) = events.next().await {
        let arrived = Instant::now();
        let name = message.get_channel_name().to_string();
        let payload = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
        if name.starts_with(['+', '-']) {
            let event = Event { at: arrived, sentinel: at, name, payload };
            board.send_modify(|model| model.hear(event));
        }
    }
    Ok(())
}

/// Sends a command and reads its answer as whatever the asker wants.
pub(super) async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> RedisResult<T> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_master_and_replica() {
        let master = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                      slave0:ip=127.0.0.1,port=7002,state=online,offset=14,lag=0\r\n\
                      master_repl_offset:14\r\n";
        let told = NodeInfo { role: Role::Master, offset: 14, master_port: None, link_up: false };
        assert_eq!(parse_info(master), Some(told));
        let replica = "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:7001\r\n\
                       master_link_status:up\r\nslave_repl_offset:28\r\nmaster_repl_offset:28\r\n";
        let told =
            NodeInfo { role: Role::Replica, offset: 28, master_port: Some(7001), link_up: true };
        assert_eq!(parse_info(replica), Some(told));
    }

    #[test]
    fn nonsense_is_no_info() {
        for text in ["", "role:king\r\n", "role:master\r\n", "role", "master_repl_offset:1"] {
            assert_eq!(parse_info(text), None, "{text}");
        }
    }
}
