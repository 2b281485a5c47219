//! What operators and clients are answered: an OK is kept, and the master is the one that was
//! elected.

use std::collections::{BTreeMap, BTreeSet};

use super::choice::Place;
use super::told::{Ear, Seat};
use super::{Checkers, Claim, Group, Speaker};
use crate::config::settings::GroupSettings;
use crate::resp::Value;
use crate::sentinel::types::Address;
use crate::sentinel::{Input, Request, RequestId};
use crate::sim::rules::Rule;
use crate::sim::words;

/// What was asked for, and what is known of masters.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// The last change of each group for which a sentinel was asked, until it is answered.
    last: BTreeMap<Place, RequestId>,
    /// What sentinels ever named as masters.
    named: BTreeMap<Group, BTreeSet<Address>>,
}

impl Orders {
    /// Something comes to a sentinel.
    pub(super) fn hears(&mut self, speaker: &Speaker, input: &Input) {
        let Input::Request { id, request } = input else { return };
        let group = match request {
            Request::Set { name, .. } | Request::Monitor { name, .. } | Request::Remove(name) => {
                name.clone()
            }
            _ => return,
        };
        self.last.insert((speaker.number, group), *id);
    }

    /// A sentinel says hello, and names this master.
    pub(super) fn names(&mut self, group: &str, master: &Address) {
        if !self.named.get(group).is_some_and(|named| named.contains(master)) {
            self.named.entry(group.into()).or_default().insert(master.clone());
        }
    }

    pub(super) fn died(&mut self, sentinel: usize) {
        self.last.retain(|(number, _), _| *number != sentinel);
    }
}

impl Checkers {
    /// A change that was answered OK is on disk, and shown from then on.
    pub(super) fn answered(
        &mut self,
        speaker: &Speaker,
        id: RequestId,
        question: Option<&Request>,
        reply: &Value,
    ) {
        let (name, done) = match question {
            Some(Request::Set { name, options }) => {
                let held = |settings: &GroupSettings| {
                    options.chunks_exact(2).all(|pair| holds(settings, &pair[0], &pair[1]))
                };
                (name, speaker.disk.groups.get(name).is_none_or(|group| held(&group.settings)))
            }
            Some(Request::Monitor { name, .. }) => (name, speaker.disk.groups.contains_key(name)),
            Some(Request::Remove(name)) => (name, !speaker.disk.groups.contains_key(name)),
            _ => return,
        };
        let place = (speaker.number, name.clone());
        if self.orders.last.get(&place) != Some(&id) {
            // Another change has come since.
            return;
        }
        self.orders.last.remove(&place);
        if !matches!(reply, Value::Simple(_)) {
            return;
        }
        if !done {
            let asked = question.map(words::typed).unwrap_or_default();
            let how = format!("answers {asked} with OK, and its disk does not hold that");
            self.broken(speaker, Rule::DurableBeforeAnswered, how);
        }
        if let Some(Request::Set { options, .. }) = question {
            let (group, options) = (name.clone(), options.clone());
            self.claims.push(Claim::Tuned { sentinel: speaker.number, group, options });
        }
    }

    /// A client is told where the master is: where the speaker's configuration has it. That may be
    /// on its way to the disk still, but somebody has seen it to be a master then.
    pub(super) fn weigh_address(
        &mut self,
        speaker: &Speaker,
        question: Option<&Request>,
        reply: &Value,
        seat: &Seat,
    ) {
        let Some(Request::MasterAddress(name)) = question else { return };
        let Value::Array(items) = reply else { return };
        let [host, port] = &items[..] else { return };
        let (Some(host), Some(port)) = (host.text(), port.text()) else { return };
        let told = Address::new(host, port.parse().unwrap_or(0));
        let Some(known) = speaker.disk.groups.get(name) else { return };
        let master = &known.settings.master;
        let changing = self.orders.last.contains_key(&(speaker.number, name.clone()));
        if told == *master || changing || self.mixed {
            return;
        }
        let named = self.orders.named.get(name).is_some_and(|named| named.contains(&told));
        let follows =
            |ear: &Ear| ear.info.as_ref().is_some_and(|info| info.follows.as_ref() == Some(&told));
        // It may have died since. What two links to one address told is not known.
        let has_said = |ear: &Ear| {
            ear.info.as_ref().is_some_and(|info| info.is_master)
                || ear.promotion.is_some_and(|order| order.shown_at.is_some())
        };
        let seen = named
            || seat.ears.get(&told).is_none_or(|ear| has_said(ear))
            || seat.ears.get(master).is_some_and(|ear| follows(ear));
        if seat.settled || !seen {
            let how = format!("names {told} as the master of {name}, and knows {master}");
            self.broken(speaker, Rule::ClientsAreToldTheMaster, how);
        }
    }
}

/// These settings hold this value.
fn holds(settings: &GroupSettings, option: &str, value: &str) -> bool {
    let held = match option {
        "quorum" => u64::from(settings.quorum),
        "down-after-milliseconds" => settings.down_after_ms,
        "failover-timeout" => settings.failover_timeout_ms,
        "parallel-syncs" => u64::from(settings.parallel_syncs),
        "refused-after" => settings.refused_after_ms,
        "flap-pause" => settings.flap_pause_ms,
        _ => return true,
    };
    held.to_string() == value
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
