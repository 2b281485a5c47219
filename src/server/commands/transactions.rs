//! `MULTI`, `EXEC` and `WATCH`.

use crate::resp::Value;
use crate::server::client::{Client, Transaction};
use crate::server::node::Node;

use super::{Answer, Call, Reply, ok, refuse, value};

pub(super) fn multi(call: &mut Call<'_>) -> Answer {
    let client = call.client();
    if client.transaction.is_some() {
        return refuse("ERR MULTI calls can not be nested");
    }
    client.transaction = Some(Transaction::default());
    ok()
}

pub(super) fn exec(call: &mut Call<'_>) -> Answer {
    let Some(transaction) = call.client().transaction.take() else {
        return refuse("ERR EXEC without MULTI");
    };
    let changed = end_watches(call);
    if transaction.broken {
        return refuse("EXECABORT Transaction discarded because of previous errors.");
    }
    if changed {
        return value(Value::NullArray);
    }
    let mut replies = Vec::with_capacity(transaction.queue.len());
    call.node.inside_exec = true;
    for (command, args) in transaction.queue {
        replies.push(match call.node.call(call.id, command, &args) {
            Ok(Reply::Value(reply)) => reply,
            Ok(Reply::Done | Reply::Wait) => continue,
            Err(text) => {
                call.node.stats.error_replies += 1;
                Value::Error(text.into_owned())
            }
        });
    }
    call.node.inside_exec = false;
    value(Value::Array(replies))
}

pub(super) fn discard(call: &mut Call<'_>) -> Answer {
    if call.client().transaction.take().is_none() {
        return refuse("ERR DISCARD without MULTI");
    }
    end_watches(call);
    ok()
}

pub(super) fn watch(call: &mut Call<'_>) -> Answer {
    if call.client().transaction.is_some() {
        return refuse("ERR WATCH inside MULTI is not allowed");
    }
    for key in &call.args[1..] {
        let db = call.db;
        if call.client().watches.iter().any(|w| w.db == db && w.key == *key) {
            continue;
        }
        let watch = call.node.keyspace.watch(db, key);
        call.client().watches.push(watch);
    }
    ok()
}

pub(super) fn unwatch(call: &mut Call<'_>) -> Answer {
    end_watches(call);
    ok()
}

/// Ends all watches of the client; tells whether a watched key has changed.
fn end_watches(call: &mut Call<'_>) -> bool {
    let watches = std::mem::take(&mut call.client().watches);
    // All of them end, also behind the first that has changed.
    watches.into_iter().filter_map(|w| call.node.keyspace.unwatch(w).then_some(())).count() > 0
}

/// Leaves a transaction, as `RESET` does.
pub(super) fn leave(node: &mut Node, client: &mut Client) {
    client.transaction = None;
    client.watches.drain(..).for_each(|w| {
        node.keyspace.unwatch(w);
    });
}
