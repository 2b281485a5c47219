//! From a request to its execution: the gates that Redis puts before a command, in its order,
//! queueing in `MULTI`, the call itself, and what replicas are to be told of it.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use tracing::warn;

use crate::resp::{Protocol, Request, Value, confined};

use super::client::{Blocked, ClientId, ReplyMode};
use super::commands::{
    ADMIN, Answer, Call, Command, Effect, MAY_REPLICATE, NO_AUTH, NO_MULTI, Reply, STALE, WRITE,
    find,
};
use super::keyspace::Expiry;
use super::node::Node;

/// `CLIENT PAUSE`.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) until: Instant,
    /// Only writes wait.
    pub(super) writes_only: bool,
}

type Refusal = Cow<'static, str>;

impl Node {
    /// Executes one request of a client, or refuses it, queues it, or makes it wait.
    pub(super) fn execute(&mut self, id: ClientId, request: Request) {
        self.stats.input_bytes += request.raw.len() as u64;
        let args = request.args;
        if ATTACKS.iter().any(|word| args[0].eq_ignore_ascii_case(word)) {
            warn!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or \
                 Host: commands to Redis. Connection aborted."
            );
            if let Some(client) = self.clients.get_mut(&id) {
                client.queue.clear();
            }
            return self.close_after_reply(id);
        }
        let command = match self.gates(id, &args) {
            Ok(command) => command,
            Err(refusal) => {
                if let Some(t) = self.clients.get_mut(&id).and_then(|c| c.transaction.as_mut()) {
                    t.broken = true;
                }
                self.answer(id, Err(refusal));
                return;
            }
        };
        if self.must_pause(id, command) {
            let Some(client) = self.clients.get_mut(&id) else { return };
            client.blocked = Some(Blocked::Paused);
            client.queue.push_front(Request { args, ..request });
            return;
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.last_command = command.name;
        let runs_inside_multi = ["exec", "discard", "multi", "watch", "quit", "reset"];
        if let Some(transaction) = &mut client.transaction
            && !runs_inside_multi.contains(&command.name)
        {
            if command.is(NO_MULTI) {
                transaction.broken = true;
                self.answer(id, Err("ERR Command not allowed inside a transaction".into()));
            } else {
                transaction.queue.push((command, args));
                self.reply(id, &Value::Simple("QUEUED".into()));
            }
            return;
        }
        self.set_clock();
        let answer = self.call(id, command, &args);
        if self.send_effects() {
            let offset = self.replication.offset();
            if let Some(client) = self.clients.get_mut(&id) {
                client.wrote_until = offset;
            }
        }
        self.answer(id, answer);
    }

    fn answer(&mut self, id: ClientId, answer: Answer) {
        match answer {
            Ok(Reply::Value(value)) => self.reply(id, &value),
            Ok(Reply::Done | Reply::Wait) => {}
            Err(text) => {
                self.reply(id, &Value::Error(text.into_owned()));
            }
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.reply_mode = match client.reply_mode {
                ReplyMode::SkipNext => ReplyMode::Skip,
                ReplyMode::Skip => ReplyMode::On,
                other => other,
            };
            if client.kill_after_reply {
                self.close_after_reply(id);
            }
        }
    }

    /// The checks before a command, in Redis's order.
    fn gates(&mut self, id: ClientId, args: &[Bytes]) -> Result<&'static Command, Refusal> {
        let command = find(args)?;
        if !command.takes(args.len()) {
            let name = command.name;
            return Err(format!("ERR wrong number of arguments for '{name}' command").into());
        }
        let Some(client) = self.clients.get(&id) else { return Ok(command) };
        if client.is_master() {
            return Ok(command);
        }
        if command.name == "debug" && !self.may_debug(&client.addr) {
            return Err(NO_DEBUG.into());
        }
        if !client.authenticated && !command.is(NO_AUTH) {
            return Err("NOAUTH Authentication required.".into());
        }
        let writes = command.is(WRITE) || (command.name == "exec" && self.queued(id, WRITE));
        if writes && !self.is_replica() && !self.has_enough_replicas() {
            return Err("NOREPLICAS Not enough good replicas to write.".into());
        }
        if writes && self.is_replica() && self.config.replica_read_only {
            return Err("READONLY You can't write against a read only replica.".into());
        }
        let listening = client.subscriptions() > 0 && client.protocol == Protocol::Resp2;
        if listening && !confined::is_left(command.name) {
            return Err(confined::refusal(command.name).into());
        }
        if !command.is(STALE) && self.is_stale() && !self.config.replica_serve_stale_data {
            return Err(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to \
                        'no'."
                    .into(),
            );
        }
        let from_replica = client.is_replica() && !command.is(ADMIN) && command.name != "ping";
        if from_replica && command.keys.0 > 0 {
            return Err("ERR Replica can't interact with the keyspace".into());
        }
        Ok(command)
    }

    fn queued(&self, id: ClientId, flag: u32) -> bool {
        let transaction = self.clients.get(&id).and_then(|c| c.transaction.as_ref());
        transaction.is_some_and(|t| t.queue.iter().any(|(command, _)| command.is(flag)))
    }

    fn may_debug(&self, addr: &str) -> bool {
        match self.config.enable_debug_command.as_str() {
            "yes" => true,
            "local" => addr
                .parse::<std::net::SocketAddr>()
                .is_ok_and(|a| a.ip().to_canonical().is_loopback()),
            _ => false,
        }
    }

    fn must_pause(&self, id: ClientId, command: &Command) -> bool {
        let Some(pause) = &self.pause else { return false };
        let Some(client) = self.clients.get(&id) else { return false };
        if client.is_replica() || client.is_master() {
            return false;
        }
        let may_replicate = WRITE | MAY_REPLICATE;
        let writes =
            command.is(may_replicate) || (command.name == "exec" && self.queued(id, may_replicate));
        !pause.writes_only || writes
    }

    /// Ends a pause and lets the clients go on that it stopped.
    pub(super) fn resume(&mut self) {
        self.pause = None;
        let is_paused = |b: &Option<Blocked>| matches!(b, Some(Blocked::Paused));
        let paused = self.clients.values_mut().filter(|c| is_paused(&c.blocked));
        let ids: Vec<ClientId> = paused.map(|c| (c.blocked = None, c.id).1).collect();
        ids.into_iter().for_each(|id| self.run_queue(id));
    }

    /// Runs one command, alone or as part of a transaction, and notes what replicas must do.
    pub(super) fn call(
        &mut self,
        id: ClientId,
        command: &'static Command,
        args: &[Bytes],
    ) -> Answer {
        let Some(client) = self.clients.get(&id) else { return Ok(Reply::Done) };
        let (db, from_master) = (client.db, client.is_master());
        self.keyspace.expiry = match () {
            () if from_master => Expiry::Ignore,
            () if self.is_replica() || self.pause.is_some() => Expiry::Hide,
            () => Expiry::Delete,
        };
        self.stats.commands += 1;
        let before = self.keyspace.dirty;
        let mut call = Call { node: self, id, db, args, effect: Effect::AsSent };
        let answer = command.run(&mut call);
        let effect = call.effect;
        if from_master
            && let Err(why) = &answer
            && let Some(upstream) = &mut self.replication.upstream
        {
            // It went well on the master: the data differ from here on.
            upstream.error = Some(format!("{why} (command '{}')", command.name));
        }
        self.take_expired();
        // A transaction has noted the effects of its commands one by one.
        if self.keyspace.dirty != before && command.is(WRITE) {
            self.stats.changes += 1;
            self.effects.push((
                db,
                match effect {
                    Effect::AsSent => args.to_vec(),
                    Effect::Instead(args) => args,
                },
            ));
        }
        answer
    }

    /// Notes deletions of expired keys as effects.
    pub(super) fn take_expired(&mut self) {
        for (db, key) in std::mem::take(&mut self.keyspace.expired) {
            self.stats.expired_keys += 1;
            self.effects.push((db, vec![Bytes::from_static(b"DEL"), key]));
        }
    }
}

/// What a browser that is made to talk to this port says first.
const ATTACKS: [&[u8]; 2] = [b"post", b"host:"];

const NO_DEBUG: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set \
     to \"local\", you can run it from a local connection, otherwise you need to set this option \
     in the configuration file, and then restart the server.";
