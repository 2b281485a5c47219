//! The commands of replication; what they set going is in `server::replication`.

use std::time::Duration;

use bytes::Bytes;

use crate::config::types::Address;
use crate::resp::Value;
use crate::resp::number::parse_int;
use crate::server::client::Client;
use crate::server::replication::Phase;

use super::{Answer, Call, NOT_INT, Reply, SYNTAX, number, ok, refuse, value};

pub(super) fn replicaof(call: &mut Call<'_>) -> Answer {
    if call.client().is_replica() {
        return refuse("ERR Command is not valid when client is a replica.");
    }
    if call.is(1, "NO") && call.is(2, "ONE") {
        call.node.become_master();
        return ok();
    }
    let port = parse_int(&call.args[2]).and_then(|port| u16::try_from(port).ok());
    let Some(port @ 1..) = port else { return refuse("ERR Invalid master port") };
    let Ok(host) = std::str::from_utf8(&call.args[1]) else { return refuse(SYNTAX) };
    let target = Address::new(host, port);
    if call.node.replication.upstream.as_ref().is_some_and(|u| u.target == target) {
        return value(Value::Simple("OK Already connected to specified master".into()));
    }
    call.node.follow(target);
    ok()
}

/// Longest `ip-address`, as in Redis.
const LONGEST_IP: usize = 255;

pub(super) fn replconf(call: &mut Call<'_>) -> Answer {
    if call.args.len().is_multiple_of(2) {
        return refuse(SYNTAX);
    }
    for option in call.args[1..].chunks(2) {
        let [name, argument] = option else { return refuse(SYNTAX) };
        match name.to_ascii_lowercase().as_slice() {
            b"ack" => {
                if let Some(offset) = parse_int(argument).and_then(|n| u64::try_from(n).ok()) {
                    let id = call.id;
                    call.node.acknowledged(id, offset);
                }
                return Ok(Reply::Done);
            }
            b"getack" => {
                if call.client().is_master() {
                    call.node.send_ack();
                }
                return Ok(Reply::Done);
            }
            other => announce(call.client(), other, argument)?,
        }
    }
    ok()
}

/// What a replica tells of itself before PSYNC.
fn announce(client: &mut Client, name: &[u8], argument: &Bytes) -> Result<(), String> {
    let peer = &mut client.announced;
    let text = String::from_utf8_lossy(argument);
    match name {
        b"listening-port" => {
            let port = parse_int(argument).and_then(|n| u16::try_from(n).ok());
            peer.port = port.ok_or(NOT_INT)?;
        }
        b"ip-address" if argument.len() > LONGEST_IP => {
            return Err(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                argument.len()
            ));
        }
        b"ip-address" => peer.ip = Some(text.into_owned()).filter(|ip| !ip.is_empty()),
        b"capa" => match argument.to_ascii_lowercase().as_slice() {
            b"eof" => peer.eof = true,
            b"psync2" => peer.psync2 = true,
            _ => {}
        },
        b"rdb-only" => peer.snapshot_only = argument[..] == b"1"[..],
        // Nothing can be left out of a snapshot here.
        b"rdb-filter-only" if argument.is_empty() => {}
        b"version" => {}
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!("ERR Unrecognized REPLCONF option: {other}"));
        }
    }
    Ok(())
}

pub(super) fn psync(call: &mut Call<'_>) -> Answer {
    if call.client().is_replica() || call.client().is_master() {
        return Ok(Reply::Done);
    }
    if call.args.len() > 3 {
        return refuse("ERR PSYNC FAILOVER can't be sent to a master.");
    }
    if call.node.is_stale() {
        return refuse("NOMASTERLINK Can't SYNC while not connected with my master");
    }
    let id = call.id;
    match call.args {
        [_, asked, offset] => {
            let offset = parse_int(offset).ok_or(NOT_INT)?;
            let asked = String::from_utf8_lossy(asked).into_owned();
            call.node.attach(id, Some((&asked, offset)));
        }
        _ => call.node.attach(id, None),
    }
    Ok(Reply::Done)
}

pub(super) fn role(call: &mut Call<'_>) -> Answer {
    let offset = i64::try_from(call.node.replication.offset()).unwrap_or(i64::MAX);
    if let Some(upstream) = &call.node.replication.upstream {
        let offset = if upstream.phase == Phase::Connected { offset } else { -1 };
        return value(Value::Array(vec![
            Value::bulk("slave"),
            Value::bulk(&upstream.target.host),
            Value::Integer(upstream.target.port.into()),
            Value::bulk(upstream.phase.name()),
            Value::Integer(offset),
        ]));
    }
    let online = call.node.peers().filter(|(_, peer)| peer.state.name() == "online");
    let replicas = online.map(|(client, peer)| {
        let (ip, port) = peer.address(client);
        let parts = [ip, port.to_string(), peer.acked.to_string()];
        Value::Array(parts.map(Value::bulk).into())
    });
    let replicas = Value::Array(replicas.collect());
    value(Value::Array(vec![Value::bulk("master"), Value::Integer(offset), replicas]))
}

pub(super) fn wait(call: &mut Call<'_>) -> Answer {
    if call.node.is_replica() {
        return refuse(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 \
             if a replica is configured to be writable (which is not the default) writes to \
             replicas are just local and are not propagated.",
        );
    }
    let wanted = call.int(1)?;
    let timeout = parse_int(&call.args[2]);
    let Some(timeout) = timeout else {
        return refuse("ERR timeout is not an integer or out of range");
    };
    let Ok(timeout_ms) = u64::try_from(timeout) else { return refuse("ERR timeout is negative") };
    let offset = call.client().wrote_until;
    let count = call.node.replicas_at(offset);
    if count as i64 >= wanted || call.node.inside_exec {
        return number(count);
    }
    let timeout = Duration::from_millis(timeout_ms);
    let until = if timeout_ms > 0 { call.node.now.checked_add(timeout) } else { None };
    let id = call.id;
    call.node.wait_for_replicas(id, wanted, offset, until);
    Ok(Reply::Wait)
}
