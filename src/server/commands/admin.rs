//! What operators ask and order: configuration, `INFO`, the end.

use std::time::Duration;

use tracing::warn;

use crate::resp::Value;
use crate::server::config::NO_PERSISTENCE;
use crate::server::info;
use crate::wall_clock::since_1970;

use super::{Answer, Call, Reply, SYNTAX, help, number, ok, refuse, value};

pub(super) fn config_get(call: &mut Call<'_>) -> Answer {
    let found = call.node.config.get(&call.words(2));
    let pairs = found.into_iter().map(|(name, v)| (Value::bulk(name), Value::bulk(v)));
    value(Value::Map(pairs.collect()))
}

pub(super) fn config_set(call: &mut Call<'_>) -> Answer {
    let words = call.words(2);
    if !words.len().is_multiple_of(2) {
        return refuse("ERR wrong number of arguments for 'config|set' command");
    }
    let pairs: Vec<(String, String)> =
        words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    call.node.config.set(&pairs)?;
    call.node.config_changed();
    ok()
}

pub(super) fn config_rewrite(call: &mut Call<'_>) -> Answer {
    match call.node.config.rewrite() {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            ok()
        }
        Err(problem) => {
            warn!("CONFIG REWRITE failed: {problem}");
            Err(problem.into())
        }
    }
}

pub(super) fn config_resetstat(call: &mut Call<'_>) -> Answer {
    call.node.stats = info::Stats::new(call.node.now);
    ok()
}

pub(super) fn config_help(_: &mut Call<'_>) -> Answer {
    help(&[
        "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET <pattern>",
        "    Return parameters matching the glob-like <pattern> and their values.",
        "SET <directive> <value>",
        "    Set the configuration <directive> to <value>.",
        "RESETSTAT",
        "    Reset statistics reported by the INFO command.",
        "REWRITE",
        "    Rewrite the configuration file.",
        "HELP",
        "    Prints this help.",
    ])
}

pub(super) fn info(call: &mut Call<'_>) -> Answer {
    let sections = call.words(1);
    value(Value::Verbatim(call.node.info(&sections)))
}

pub(super) fn time(call: &mut Call<'_>) -> Answer {
    let _ = call;
    let since = since_1970();
    let parts = [since.as_secs().to_string(), since.subsec_micros().to_string()];
    value(Value::Array(parts.map(Value::bulk).into()))
}

/// `DEBUG SLEEP` stops the whole node, as in Redis: tests use it to make one that does not answer.
pub(super) fn debug(call: &mut Call<'_>) -> Answer {
    /// Longer makes no better test, in seconds.
    const LONGEST: f64 = 600.0;
    if call.is(1, "SLEEP") && call.args.len() == 3 {
        let seconds = std::str::from_utf8(&call.args[2]).ok().and_then(|t| t.parse::<f64>().ok());
        let Some(seconds) = seconds.filter(|s| (0.0..=LONGEST).contains(s)) else {
            return refuse("ERR value is not a valid float");
        };
        std::thread::sleep(Duration::from_secs_f64(seconds));
        return ok();
    }
    let sub = call.words(1).swap_remove(0);
    Err(format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try DEBUG HELP.")
        .into())
}

pub(super) fn shutdown(call: &mut Call<'_>) -> Answer {
    let known = ["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"];
    if !(1..call.args.len()).all(|i| known.iter().any(|word| call.is(i, word))) {
        return refuse(SYNTAX);
    }
    if (1..call.args.len()).any(|i| call.is(i, "ABORT")) {
        return refuse("ERR No shutdown in progress.");
    }
    if (1..call.args.len()).any(|i| call.is(i, "SAVE")) {
        return Err(format!("ERR Errors trying to SHUTDOWN: {NO_PERSISTENCE}").into());
    }
    tracing::info!("User requested shutdown...");
    call.node.stopping = true;
    Ok(Reply::Done)
}

pub(super) fn lastsave(call: &mut Call<'_>) -> Answer {
    number(call.node.started_unix_s())
}

pub(super) fn save(_: &mut Call<'_>) -> Answer {
    Err(format!("ERR {NO_PERSISTENCE}").into())
}

pub(super) fn script_kill(_: &mut Call<'_>) -> Answer {
    refuse("NOTBUSY No scripts in execution right now.")
}
