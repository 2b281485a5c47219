//! CLIENT TRACKING and its kin. A sentinel has no keys, so nothing is ever invalidated; but
//! libraries ask for it when they connect, and Redis's sentinels say yes.

use bytes::Bytes;

use super::session::{Outcome, Session, integer, syntax_error};
use crate::resp::Value;

/// Prefixes that one connection may name.
const PREFIXES_MAX: usize = 128;

/// What a connection said with CLIENT TRACKING ON.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracking {
    /// `REDIRECT id`; 0 for none.
    pub(crate) redirect: i64,
    /// `BCAST`
    pub(crate) broadcast: bool,
    optin: bool,
    optout: bool,
    noloop: bool,
    prefixes: Vec<Bytes>,
    /// `CLIENT CACHING`
    pub(crate) caching: bool,
}

/// `CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`
pub(crate) fn tracking(session: &mut Session, args: &[Bytes]) -> Outcome {
    track(session, args).map(|()| Value::ok()).into()
}

fn track(session: &mut Session, args: &[Bytes]) -> Result<(), Value> {
    let wanted = options(session, &args[3..])?;
    let mut state = session.client.state();
    match &args[2].to_ascii_lowercase()[..] {
        b"on" => {
            let known = state.tracking.take();
            let merged = compatible(known.as_ref(), wanted);
            state.tracking = merged.as_ref().ok().cloned().or(known);
            merged.map(|_| ())
        }
        b"off" => {
            state.tracking = None;
            Ok(())
        }
        _ => Err(syntax_error()),
    }
}

fn options(session: &Session, mut words: &[Bytes]) -> Result<Tracking, Value> {
    let mut wanted = Tracking::default();
    while let [word, rest @ ..] = words {
        words = rest;
        match (&word.to_ascii_lowercase()[..], rest) {
            (b"redirect", [id, rest @ ..]) => {
                words = rest;
                if wanted.redirect != 0 {
                    let text = "ERR A client can only redirect to a single other client";
                    return Err(Value::error(text));
                }
                wanted.redirect = integer(id, "ERR value is not an integer or out of range")?;
                let all = session.api.clients.all();
                if !all.iter().any(|client| client.id as i64 == wanted.redirect) {
                    let text = "ERR The client ID you want redirect to does not exist";
                    return Err(Value::error(text));
                }
            }
            (b"prefix", [prefix, rest @ ..]) => {
                words = rest;
                if wanted.prefixes.len() == PREFIXES_MAX {
                    let text = format!("ERR A connection may have at most {PREFIXES_MAX} prefixes");
                    return Err(Value::error(text));
                }
                wanted.prefixes.push(Bytes::copy_from_slice(prefix));
            }
            (b"bcast", _) => wanted.broadcast = true,
            (b"optin", _) => wanted.optin = true,
            (b"optout", _) => wanted.optout = true,
            (b"noloop", _) => wanted.noloop = true,
            _ => return Err(syntax_error()),
        }
    }
    Ok(wanted)
}

/// What is tracked from now on, if that goes together with what was asked for before.
fn compatible(known: Option<&Tracking>, mut wanted: Tracking) -> Result<Tracking, Value> {
    let error = |text: &str| Err(Value::error(format!("ERR {text}")));
    if !wanted.broadcast && !wanted.prefixes.is_empty() {
        return error("PREFIX option requires BCAST mode to be enabled");
    }
    if known.is_some_and(|known| known.broadcast != wanted.broadcast) {
        return error(
            "You can't switch BCAST mode on/off before disabling tracking for this client, and \
             then re-enabling it with a different mode.",
        );
    }
    if wanted.broadcast && (wanted.optin || wanted.optout) {
        return error("OPTIN and OPTOUT are not compatible with BCAST");
    }
    if wanted.optin && wanted.optout {
        return error("You can't specify both OPTIN mode and OPTOUT mode");
    }
    if known.is_some_and(|k| (wanted.optin && k.optout) || (wanted.optout && k.optin)) {
        return error(
            "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and \
             then re-enabling it with a different mode.",
        );
    }
    let before = known.map_or(&[][..], |known| &known.prefixes);
    for (at, prefix) in wanted.prefixes.iter().enumerate() {
        let overlaps = |other: &&Bytes| prefix.starts_with(other) || other.starts_with(prefix);
        let text = String::from_utf8_lossy(prefix);
        let which =
            match (before.iter().find(overlaps), wanted.prefixes[at + 1..].iter().find(overlaps)) {
                (Some(other), _) => ("an existing", other),
                (None, Some(other)) => ("another provided", other),
                (None, None) => continue,
            };
        let (kind, other) = (which.0, String::from_utf8_lossy(which.1));
        return error(&format!(
            "Prefix '{text}' overlaps with {kind} prefix '{other}'. Prefixes for a single client \
             must not overlap."
        ));
    }
    if before.len() + wanted.prefixes.len() > PREFIXES_MAX {
        return error(&format!("A connection may have at most {PREFIXES_MAX} prefixes"));
    }
    if wanted.broadcast && wanted.prefixes.is_empty() {
        // All keys, as TRACKINGINFO shows them.
        wanted.prefixes.push(Bytes::new());
    }
    wanted.prefixes.extend_from_slice(before);
    wanted.prefixes.sort_unstable();
    wanted.prefixes.dedup();
    Ok(wanted)
}

/// `CLIENT CACHING YES|NO`
pub(crate) fn caching(session: &mut Session, args: &[Bytes]) -> Outcome {
    let mut state = session.client.state();
    let Some(tracking) = state.tracking.as_mut() else {
        let text = "ERR CLIENT CACHING can be called only when the client is in tracking mode with \
                    OPTIN or OPTOUT mode enabled";
        return Value::error(text).into();
    };
    match &args[2].to_ascii_lowercase()[..] {
        b"yes" if !tracking.optin => Value::error(
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ),
        b"no" if !tracking.optout => Value::error(
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        b"yes" | b"no" => {
            tracking.caching = true;
            Value::ok()
        }
        _ => syntax_error(),
    }
    .into()
}

/// `CLIENT GETREDIR`: -1 without tracking, 0 without redirection.
pub(crate) fn getredir(session: &mut Session, _: &[Bytes]) -> Outcome {
    let state = session.client.state();
    Value::Integer(state.tracking.as_ref().map_or(-1, |tracking| tracking.redirect)).into()
}

/// `CLIENT TRACKINGINFO`
pub(crate) fn trackinginfo(session: &mut Session, _: &[Bytes]) -> Outcome {
    let state = session.client.state();
    let off = Tracking { redirect: -1, ..Tracking::default() };
    let tracking = state.tracking.as_ref().unwrap_or(&off);
    let clients = session.api.clients.all();
    let gone = tracking.redirect > 0
        && !clients.iter().any(|client| client.id as i64 == tracking.redirect);
    let flags = [
        (state.tracking.is_none(), "off"),
        (state.tracking.is_some(), "on"),
        (tracking.broadcast, "bcast"),
        (tracking.optin, "optin"),
        (tracking.caching && tracking.optin, "caching-yes"),
        (tracking.optout, "optout"),
        (tracking.caching && tracking.optout, "caching-no"),
        (tracking.noloop, "noloop"),
        (gone, "broken_redirect"),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| Value::bulk(flag));
    let prefixes = tracking.prefixes.iter().map(Value::bulk);
    Value::Map(vec![
        (Value::bulk("flags"), Value::Set(flags.collect())),
        (Value::bulk("redirect"), Value::Integer(tracking.redirect)),
        (Value::bulk("prefixes"), Value::Array(prefixes.collect())),
    ])
    .into()
}
