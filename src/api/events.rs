//! `SENTINEL EVENTS`: what a subscriber that came late has missed. No other sentinel has it; the
//! channels are as ever.

use bytes::Bytes;

use super::session::{Outcome, Session, integer, syntax_error, text};
use crate::daemon::{HISTORY_MAX, Past};
use crate::resp::Value;

/// `SENTINEL EVENTS [SINCE id] [COUNT n]`: events in order, each with its id, Unix time in ms,
/// channel and payload. With SINCE those after that event, and the first n of them; else the last
/// n. Where n is not given, all that are kept.
///
/// An id is the `run_id` of INFO, a dash, and a number that grows by one. The id of another run
/// shows that the sentinel has been started since: then everything is told. A user is told of the
/// channels that it may subscribe to; the numbers of the others are missing then.
pub(crate) fn events(session: &mut Session, args: &[Bytes]) -> Outcome {
    answer(session, args).into()
}

fn answer(session: &Session, args: &[Bytes]) -> Result<Value, Value> {
    let run_id = session.api.settings.run_id.as_str();
    let (mut since, mut count) = (None, None);
    let mut rest = &args[2..];
    while let [option, value, more @ ..] = rest {
        if option.eq_ignore_ascii_case(b"since") && since.is_none() {
            since = Some(number(value, run_id)?);
        } else if option.eq_ignore_ascii_case(b"count") && count.is_none() {
            let not_positive = "ERR COUNT must be a positive integer";
            let wanted = integer(value, not_positive)?;
            let wanted = usize::try_from(wanted).ok().filter(|count| *count > 0);
            count = Some(wanted.ok_or_else(|| Value::error(not_positive))?);
        } else {
            return Err(syntax_error());
        }
        rest = more;
    }
    if !rest.is_empty() {
        return Err(syntax_error());
    }
    let events = session.api.handle.history().read(since, HISTORY_MAX);
    let (acl, name) = (session.api.users.acl(), session.client.state().user.clone());
    let may_hear = |past: &&Past| {
        let channel = past.event.kind.name().as_bytes();
        acl.get(&name).is_some_and(|user| user.may_hear(channel, false))
    };
    let heard: Vec<&Past> = events.iter().filter(may_hear).collect();
    let count = count.unwrap_or(HISTORY_MAX).min(heard.len());
    let wanted = match since {
        Some(_) => &heard[..count],
        None => &heard[heard.len() - count..],
    };
    Ok(Value::Array(wanted.iter().map(|past| entry(past, run_id)).collect()))
}

/// The number in an id of this run; 0, which comes before all, for another run's.
fn number(id: &[u8], run_id: &str) -> Result<u64, Value> {
    let id = text(id)?;
    let parts =
        id.split_once('-').filter(|(run, _)| crate::config::types::RunId::parse(run).is_some());
    let number = parts.and_then(|(run, number)| Some((run, number.parse::<u64>().ok()?)));
    let (run, number) = number.ok_or_else(|| {
        Value::error("ERR Invalid event id: give one that SENTINEL EVENTS has shown")
    })?;
    Ok(if run.eq_ignore_ascii_case(run_id) { number } else { 0 })
}

fn entry(past: &Past, run_id: &str) -> Value {
    let pairs = [
        ("id", Value::bulk(format!("{run_id}-{}", past.number))),
        ("time", Value::Integer(i64::try_from(past.at_ms).unwrap_or(i64::MAX))),
        ("channel", Value::bulk(past.event.kind.name())),
        ("payload", Value::bulk(&past.event.payload)),
    ];
    Value::Map(pairs.map(|(name, value)| (Value::bulk(name), value)).into())
}
