//! Identities, kept and broken.

use std::collections::BTreeMap;

use super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::types::Address;

const GROUP: &str = "g";
const HERE: &str = "10.0.0.1";
const ELSEWHERE: &str = "10.0.0.2";

fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 20])
}

/// What a sentinel with this id remembers: a vote of its own in this epoch.
fn state(me: u8, epoch: u64) -> State {
    let master = Address::new("10.0.0.100", 6_379);
    let mut group = GroupState::fresh(GroupSettings::new(master, 2), None);
    group.leader_epoch = epoch;
    group.voted_for = Some(id(me));
    let groups = BTreeMap::from([(GROUP.to_owned(), group)]);
    State {
        my_id: id(me),
        current_epoch: epoch,
        groups: groups.into(),
        removed: Default::default(),
        live: None,
    }
}

fn hello(me: u8, from: &str) -> String {
    format!("{from},26379,{},1,{GROUP},10.0.0.100,6379,0", id(me))
}

/// A sentinel, seen at a time at which its disk holds what `disk` says.
fn at<T>(at: Ms, disk: &State, look: impl FnOnce(&Speaker) -> T) -> T {
    look(&Speaker { at, since: at, waited_ms: 0, number: 0, id: &disk.my_id, disk })
}

/// One with the id 1, a twin of which may live elsewhere, and that has said hello.
fn met() -> Identities {
    let mut identities = Identities::default();
    identities.cloned(&id(1));
    let said = at(0, &state(1, 4), |speaker| identities.says(speaker, &hello(1, HERE)));
    assert_eq!(said, None);
    identities
}

fn hears(identities: &mut Identities, now: Ms, payload: String) {
    let input =
        Input::Request { id: crate::sentinel::RequestId(1), request: Request::Hello(payload) };
    at(now, &state(1, 4), |speaker| identities.hears(speaker, &input));
}

fn rule_of(broken: Option<Broken>) -> Option<&'static str> {
    broken.map(|(rule, _)| rule.name())
}

#[test]
fn whoever_heard_its_double_does_not_stand() {
    let rule = Some("nobody stands whose id another has");
    let stands = |identities: &Identities, now, epoch| {
        rule_of(at(now, &state(1, 4), |speaker| identities.writes(speaker, &state(1, epoch))))
    };
    let mut identities = met();
    assert_eq!(stands(&identities, 5, 5), None, "nobody was heard");
    hears(&mut identities, 10, hello(1, HERE));
    hears(&mut identities, 10, hello(2, ELSEWHERE));
    assert_eq!(stands(&identities, 20, 5), None, "its own word, and another's");
    hears(&mut identities, 30, hello(1, ELSEWHERE));
    assert_eq!(stands(&identities, 40, 5), None, "whoever said that does not run");
    let twin =
        Speaker { at: 40, since: 40, waited_ms: 0, number: 1, id: &id(1), disk: &state(1, 4) };
    identities.says(&twin, &hello(1, ELSEWHERE));
    hears(&mut identities, 30, hello(1, ELSEWHERE));
    assert_eq!(stands(&identities, 40, 5), rule);
    assert_eq!(stands(&identities, 40, 4), None, "that vote is old");
    assert_eq!(stands(&identities, 40_000, 5), None, "that was long ago");
    at(50, &state(1, 4), |speaker| {
        let failed =
            Input::PersistFailed { revision: crate::sentinel::Revision(1), reason: "full".into() };
        identities.hears(speaker, &failed);
    });
    assert_eq!(stands(&identities, 60, 5), None, "it may have been decided before");
    at(50, &state(1, 4), |speaker| {
        let written = Input::Persisted { revision: crate::sentinel::Revision(2) };
        identities.hears(speaker, &written);
    });
    assert_eq!(stands(&identities, 60, 5), rule);
    identities.died(1);
    assert_eq!(stands(&identities, 60, 5), None, "the other one is dead");
    identities.says(&twin, &hello(1, ELSEWHERE));
    hears(&mut identities, 60, hello(1, ELSEWHERE));
    assert_eq!(stands(&identities, 70, 5), rule);
    identities.died(0);
    assert_eq!(stands(&identities, 70, 5), None, "it has forgotten");
}

#[test]
fn an_id_that_was_given_up_is_not_said_again() {
    let says = |identities: &mut Identities, me| {
        rule_of(at(9, &state(me, 4), |speaker| identities.says(speaker, &hello(me, HERE))))
    };
    let mut identities = met();
    assert_eq!(says(&mut identities, 3), None);
    assert_eq!(says(&mut identities, 3), None);
    assert_eq!(says(&mut identities, 1), Some("an id that is given up stays so"));
    let mut identities = met();
    assert_eq!(says(&mut identities, 3), None);
    identities.excuse(0);
    assert_eq!(says(&mut identities, 1), None, "an old file was put back");
}
