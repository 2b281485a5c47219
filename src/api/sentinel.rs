//! SENTINEL, ROLE and PUBLISH: from words to a [`Request`] of the core, which answers them.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::commands::wrong_arity;
use super::session::{Outcome, Session, integer, text};
use crate::config::bytes::decode;
use crate::config::load::is_executable;
use crate::config::rules::valid_host;
use crate::daemon::Pending;
use crate::resp::Value;
use crate::sentinel::{Request, hello};

type Parsed = Result<Request, Value>;

/// Longest wait for a name server while SENTINEL MONITOR is answered.
const LOOKUP_MAX: Duration = Duration::from_secs(1);

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// `ROLE`
pub(crate) fn role(_: &[Bytes]) -> Parsed {
    Ok(Request::Role)
}

/// `PUBLISH __sentinel__:hello payload`: another sentinel greets us.
pub(crate) fn publish(args: &[Bytes]) -> Parsed {
    if args[1] != hello::CHANNEL.as_bytes() {
        return Err(Value::error("ERR Only HELLO messages are accepted by Sentinel instances."));
    }
    Ok(Request::Hello(String::from_utf8_lossy(&args[2]).into_owned()))
}

/// `SENTINEL MASTERS`
pub(crate) fn masters(_: &[Bytes]) -> Parsed {
    Ok(Request::Masters)
}

/// `SENTINEL MASTER name`
pub(crate) fn master(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::Master)
}

/// `SENTINEL REPLICAS name`
pub(crate) fn replicas(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::Replicas)
}

/// `SENTINEL SENTINELS name`
pub(crate) fn sentinels(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::Sentinels)
}

/// `SENTINEL GET-MASTER-ADDR-BY-NAME name`
pub(crate) fn master_address(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::MasterAddress)
}

/// `SENTINEL IS-MASTER-DOWN-BY-ADDR ip port epoch id|*`
pub(crate) fn is_master_down(args: &[Bytes]) -> Parsed {
    let candidate = text(&args[5])?;
    Ok(Request::IsMasterDown {
        host: text(&args[2])?,
        port: integer(&args[3], NOT_AN_INTEGER)?,
        epoch: integer(&args[4], NOT_AN_INTEGER)?,
        candidate: (candidate != "*").then_some(candidate),
    })
}

/// `SENTINEL MYID`
pub(crate) fn myid(_: &[Bytes]) -> Parsed {
    Ok(Request::MyId)
}

/// `SENTINEL CKQUORUM name`
pub(crate) fn ckquorum(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::CkQuorum)
}

/// `SENTINEL FAILOVER name [COORDINATED]`
pub(crate) fn failover(args: &[Bytes]) -> Parsed {
    match &args[2..] {
        [name] => text(name).map(Request::Failover),
        [name, word] if word.eq_ignore_ascii_case(b"coordinated") => {
            text(name).map(Request::HandOver)
        }
        // As where the word is not known.
        _ => Err(wrong_arity("sentinel|failover")),
    }
}

/// `SENTINEL CONFIG GET pattern ...`, `SENTINEL CONFIG SET parameter value ...`
pub(crate) fn config(args: &[Bytes]) -> Parsed {
    let words = options(&args[3..])?;
    match &args[2].to_ascii_lowercase()[..] {
        b"get" => Ok(Request::ConfigGet(words)),
        b"set" if words.len() > 1 => Ok(Request::ConfigSet(words)),
        _ => Err(Value::error(
            "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> \
             [<param> <value> ...] are supported.",
        )),
    }
}

/// `SENTINEL INFO-CACHE name ...`
pub(crate) fn info_cache(args: &[Bytes]) -> Parsed {
    texts(&args[2..]).map(Request::InfoCache)
}

/// `SENTINEL SIMULATE-FAILURE flag ...`
pub(crate) fn simulate_failure(args: &[Bytes]) -> Parsed {
    texts(&args[2..]).map(Request::SimulateFailure)
}

/// `SENTINEL DEBUG [parameter value ...]`
pub(crate) fn debug(args: &[Bytes]) -> Parsed {
    texts(&args[2..]).map(Request::Debug)
}

fn texts(args: &[Bytes]) -> Result<Vec<String>, Value> {
    args.iter().map(|arg| text(arg)).collect()
}

/// Options with their values, of which a password and a user may be any bytes.
fn options(args: &[Bytes]) -> Result<Vec<String>, Value> {
    const OF_BYTES: [&str; 4] = ["auth-pass", "auth-user", "sentinel-pass", "sentinel-user"];
    let is_of_bytes = |name: &Bytes| {
        OF_BYTES.iter().any(|of_bytes| name.eq_ignore_ascii_case(of_bytes.as_bytes()))
    };
    let before = std::iter::once(None).chain(args.iter().map(Some));
    let word = |(arg, before): (&Bytes, Option<&Bytes>)| match before.is_some_and(is_of_bytes) {
        true => Ok(decode(arg)),
        false => text(arg),
    };
    args.iter().zip(before).map(word).collect()
}

/// `SENTINEL RESET pattern`
pub(crate) fn reset(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::Reset)
}

/// `SENTINEL MONITOR name host port quorum`. The core knows no name server, so a name is looked up
/// here.
pub(crate) fn monitor(session: &mut Session, args: &[Bytes]) -> Outcome {
    let words = match texts(&args[2..]) {
        Ok(words) => words,
        Err(error) => return error.into(),
    };
    let handle = session.api.handle.clone();
    Outcome::LaterThenEvents(Box::pin(async move {
        let [name, host, port, quorum] = &words[..] else { return wrong_arity("sentinel|monitor") };
        let is_name = valid_host(host, true) && !valid_host(host, false);
        let known = !is_name || resolves(host).await;
        // A host that cannot be is refused by the core, in its turn among the other errors.
        let host = if known { host.clone() } else { String::new() };
        let (name, port, quorum) = (name.clone(), port.clone(), quorum.clone());
        handle.ask(Request::Monitor { name, host, port, quorum }).await
    }))
}

/// True if this name has an address. A name server that is silent is not waited for longer than a
/// connection would be.
async fn resolves(host: &str) -> bool {
    let found = tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host, 0))).await;
    found.is_ok_and(|found| found.is_ok_and(|mut found| found.next().is_some()))
}

/// `SENTINEL REMOVE name`
pub(crate) fn remove(args: &[Bytes]) -> Parsed {
    text(&args[2]).map(Request::Remove)
}

/// `SENTINEL FLUSHCONFIG`
pub(crate) fn flushconfig(_: &[Bytes]) -> Parsed {
    Ok(Request::FlushConfig)
}

/// `SENTINEL PENDING-SCRIPTS`
pub(crate) fn pending_scripts(session: &mut Session, _: &[Bytes]) -> Outcome {
    let jobs = session.api.handle.scripts().pending();
    Value::Array(jobs.into_iter().map(pending).collect()).into()
}

/// One script, its fields in Redis's order; numbers are texts.
fn pending(job: Pending) -> Value {
    let text = |value: &dyn ToString| Value::bulk(value.to_string());
    let (flags, time) =
        if job.running { ("running", "run-time") } else { ("scheduled", "run-delay") };
    let fields = [
        ("argv", Value::Array(job.argv.into_iter().map(Value::bulk).collect())),
        ("flags", Value::bulk(flags)),
        ("pid", text(&job.pid)),
        (time, text(&job.ms)),
        ("retry-num", text(&job.attempts)),
    ];
    Value::Map(fields.into_iter().map(|(name, value)| (Value::bulk(name), value)).collect())
}

/// `SENTINEL SET name option value ...`. The core cannot look at files, so scripts are looked at
/// here; not where the core refuses to change them anyway.
pub(crate) fn set(session: &mut Session, args: &[Bytes]) -> Outcome {
    let (name, options) = match set_words(args) {
        Ok(words) => words,
        Err(error) => return error.into(),
    };
    let scripts =
        if session.api.settings.deny_scripts_reconfig { Vec::new() } else { scripts(&options) };
    let handle = session.api.handle.clone();
    Outcome::Later(Box::pin(async move {
        if let Some(error) = missing(scripts).await {
            // An unknown master is the error that comes first.
            return match handle.ask(Request::Master(name)).await {
                unknown @ Value::Error(_) => unknown,
                _ => error,
            };
        }
        handle.ask(Request::Set { name, options }).await
    }))
}

/// What SENTINEL SET is told: the group's name, options and values.
pub(super) fn set_words(args: &[Bytes]) -> Result<(String, Vec<String>), Value> {
    let mut words = options(&args[2..])?;
    let name = words.remove(0);
    Ok((name, words))
}

/// The scripts among the options of SENTINEL SET, each with the error that is due if it cannot be
/// run.
fn scripts(options: &[String]) -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    let mut rest = options;
    while let [option, value, more @ ..] = rest {
        let error = match &option.to_ascii_lowercase()[..] {
            "notification-script" => {
                Some("ERR Notification script seems non existing or non executable")
            }
            "client-reconfig-script" => {
                Some("ERR Client reconfiguration script seems non existing or non executable")
            }
            _ => None,
        };
        // An empty path takes the script away.
        found.extend(error.filter(|_| !value.is_empty()).map(|error| (value.into(), error)));
        // The only option of two values.
        let skip = option.eq_ignore_ascii_case("rename-command") && !more.is_empty();
        rest = if skip { &more[1..] } else { more };
    }
    found
}

/// The error of the first script that does not exist or must not be run.
async fn missing(scripts: Vec<(PathBuf, &'static str)>) -> Option<Value> {
    let look = move || scripts.into_iter().find(|(path, _)| !is_executable(path));
    // A file system that hangs holds this connection, nobody else.
    let found = tokio::task::spawn_blocking(look).await.ok()?;
    found.map(|(_, error)| Value::error(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_found_among_the_options() {
        let options = ["rename-command", "notification-script", "/a", "Notification-Script", "/b"];
        let options = [&options[..], &["client-reconfig-script", "", "quorum"]].concat();
        let options: Vec<String> = options.into_iter().map(String::from).collect();
        let found: Vec<_> = scripts(&options).into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, [PathBuf::from("/b")]);
    }
}
