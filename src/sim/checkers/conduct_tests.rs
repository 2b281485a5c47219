//! Conduct in elections, kept and broken.

use super::super::{Checkers, Said};
use super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::{LinkId, Revision};

const GROUP: &str = "g";
/// The one whose conduct is judged.
const ME: u8 = 9;

fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 20])
}

fn address(n: u8) -> Address {
    Address::new(format!("10.0.0.{n}"), 26_379)
}

fn master() -> Address {
    Address::new("10.0.0.100", 6_379)
}

/// What a member of three remembers: epochs and a vote.
fn state(current: Epoch, config: Epoch, vote: Option<(Epoch, u8)>) -> State {
    let mut group = GroupState::fresh(GroupSettings::new(master(), 2), None);
    group.sentinels = [1, 2].map(|n| (id(n), address(n))).into();
    group.config_epoch = config;
    group.leader_epoch = vote.map_or(0, |(epoch, _)| epoch);
    group.voted_for = vote.map(|(_, n)| id(n));
    let groups = BTreeMap::from([(GROUP.to_owned(), group)]);
    State {
        my_id: id(ME),
        current_epoch: current,
        groups: groups.into(),
        removed: Default::default(),
        live: None,
    }
}

/// The same, but it remembers nobody.
fn newcomer(current: Epoch, vote: Option<(Epoch, u8)>) -> State {
    let mut state = state(current, 0, vote);
    state.groups.get_mut(GROUP).expect("the group").sentinels.clear();
    state
}

struct Court {
    checkers: Checkers,
    disk: State,
}

impl Court {
    fn new(disk: State) -> Court {
        let checkers = Checkers::new(BTreeMap::new(), 3);
        let mut court = Court { checkers, disk };
        court.starts(0);
        court
    }

    fn starts(&mut self, at: Ms) {
        let (id, disk) = (id(ME), &self.disk);
        let speaker = Speaker { at, since: at, waited_ms: 0, number: 0, id: &id, disk };
        self.checkers.conduct.died(0);
        self.checkers.conduct.started(&speaker);
        self.checkers.open_book(&speaker);
    }

    fn hears(&mut self, at: Ms, from: u8, input: &Input, fails: bool) {
        let (id, disk) = (id(ME), &self.disk);
        let speaker = Speaker { at, since: at, waited_ms: 0, number: 0, id: &id, disk };
        let Checkers { conduct, ledger, .. } = &mut self.checkers;
        conduct.hears(&speaker, Some(&address(from)), input, (fails, true), ledger);
    }

    fn asked(&mut self, at: Ms, candidate: u8, epoch: i64, fails: bool) {
        let (host, port) = (master().host, master().port.into());
        let candidate = Some(id(candidate).to_string());
        let request = Request::IsMasterDown { host, port, epoch, candidate };
        self.hears(at, 0, &Input::Request { id: RequestId(1), request }, fails);
    }

    fn accused(&mut self, at: Ms, by: u8) {
        let command = Command::IsMasterDown { master: master(), epoch: 0, candidate: None };
        let items = vec![Value::Integer(1), Value::bulk("*"), Value::Integer(0)];
        let event = LinkEvent::Reply { command, reply: Value::Array(items) };
        self.hears(at, by, &Input::Link { link: LinkId(1), event }, false);
    }

    fn says(&mut self, at: Ms, effect: &Effect) -> &'static str {
        let (id, disk) = (id(ME), &self.disk);
        let speaker = Speaker { at, since: at, waited_ms: 0, number: 0, id: &id, disk };
        let Checkers { conduct, ledger, .. } = &mut self.checkers;
        let found = conduct.says(&speaker, effect, ledger);
        // Not all that would be told is.
        let said = Said { effect, to: None, receiver: None, question: None };
        self.checkers.write_book(&speaker, &said);
        found.map_or("", |(rule, _)| rule.name())
    }

    fn writes(&mut self, at: Ms, state: State) -> &'static str {
        let effect =
            Effect::Persist { revision: Revision(1), state: Box::new(state.clone()), whole: false };
        let rule = self.says(at, &effect);
        self.disk = state;
        rule
    }

    /// It is asked by this candidate and votes for it.
    fn votes(&mut self, at: Ms, epoch: Epoch, candidate: u8) -> &'static str {
        self.asked(at, candidate, epoch as i64, false);
        self.writes(at, state(epoch, 0, Some((epoch, candidate))))
    }

    fn announces(&mut self, at: Ms, kind: EventKind, payload: String) -> &'static str {
        let event = Event { kind, group: Some(GROUP.into()), payload };
        self.says(at, &Effect::Announce(event))
    }

    fn stands(&mut self, at: Ms, epoch: Epoch) -> &'static str {
        let rule = self.writes(at, state(epoch, 0, Some((epoch, ME))));
        assert_eq!(rule, "");
        self.announces(at + 1, EventKind::VoteForLeader, format!("{} {epoch}", id(ME)))
    }
}

#[test]
fn finds_a_vote_that_does_not_bind_not_even_across_a_restart() {
    for restarts in [false, true] {
        for (later, rule) in [(4_000, "a vote binds"), (5_010, "")] {
            let mut court = Court::new(state(4, 0, None));
            assert_eq!(court.votes(10, 5, 1), "");
            if restarts {
                court.starts(500);
            }
            assert_eq!(court.votes(10 + later, 6, 2), rule);
        }
    }
    // A newer configuration frees it.
    let mut court = Court::new(state(4, 0, None));
    court.votes(10, 5, 1);
    court.asked(20, 2, 6, false);
    assert_eq!(court.writes(20, state(6, 5, Some((6, 2)))), "");
}

#[test]
fn finds_somebody_who_stands_and_cannot_write() {
    for (failures, rule) in [(1, ""), (2, "nobody stands who cannot write")] {
        let mut court = Court::new(state(4, 0, None));
        for _ in 0..failures {
            let (revision, reason) = (Revision(1), "No space left on device".into());
            court.hears(5, 0, &Input::PersistFailed { revision, reason }, true);
        }
        assert_eq!(court.writes(10, state(5, 0, Some((5, ME)))), rule);
    }
}

#[test]
fn a_vote_binds_until_its_candidate_gives_up() {
    for (candidate, epoch, rule) in [(1, 5, ""), (1, 4, "a vote binds"), (2, 5, "a vote binds")] {
        let mut court = Court::new(state(4, 0, None));
        court.votes(10, 5, 1);
        let payload = GiveUp { id: id(candidate), epoch, group: GROUP.into() }.payload();
        let request = Request::Hello(payload);
        court.hears(500, candidate, &Input::Request { id: RequestId(2), request }, false);
        assert_eq!(court.votes(1_000, 6, 2), rule, "{candidate} gave up {epoch}");
    }
}

#[test]
fn finds_votes_for_the_past_for_strangers_and_by_whoever_cannot_write() {
    let mut court = Court::new(state(7, 7, None));
    court.asked(10, 1, 6, false);
    let rule = court.writes(10, state(7, 7, Some((6, 1))));
    assert_eq!(rule, "votes are for what is to come");
    let mut court = Court::new(state(4, 0, None));
    assert_eq!(court.votes(10, 5, 77), "votes are for sentinels of the group");
    let mut court = Court::new(state(4, 0, None));
    court.asked(10, 1, 5, true);
    let rule = court.writes(10, state(5, 0, Some((5, 1))));
    assert_eq!(rule, "no vote while the disk fails");
}

#[test]
fn finds_a_vote_of_somebody_who_sees_a_minority() {
    for (silent, rule) in [(2, ""), (3, "votes are of those who see a majority")] {
        let of_five = |vote| {
            let mut state = state(4, 0, vote);
            let group = state.groups.get_mut(GROUP).expect("the group");
            group.sentinels = (1..5).map(|n| (id(n), address(n))).collect();
            state
        };
        let mut court = Court::new(of_five(None));
        for n in 2..2 + silent {
            let down = format!("sentinel {} 10.0.0.{n} 26379 @ g 10.0.0.100 6379", id(n));
            court.announces(5, EventKind::Sdown, down);
        }
        court.asked(10, 1, 5, false);
        assert_eq!(court.writes(10, of_five(Some((5, 1)))), rule);
    }
}

#[test]
fn finds_newcomers_that_do_not_listen() {
    let mut court = Court::new(newcomer(0, None));
    court.checkers.conduct.members.get_mut(&(0, GROUP.into())).expect("it").known.insert(id(1));
    court.asked(2_000, 1, 5, false);
    assert_eq!(court.writes(2_000, newcomer(5, Some((5, 1)))), "newcomers listen first");
    for (epoch, rule) in [(7, "newcomers vote in later epochs"), (8, "")] {
        let mut court = Court::new(newcomer(0, None));
        assert_eq!(court.writes(1_000, newcomer(7, None)), "");
        assert_eq!(court.writes(2_500, state(7, 0, None)), "");
        assert_eq!(court.votes(2_600, epoch, 1), rule);
    }
}

#[test]
fn finds_an_election_without_fresh_opinions_and_one_out_of_turn() {
    let odown = || "master g 10.0.0.100 6379 #quorum 2/2".to_owned();
    for (accused, stands, rule) in [
        (900, 1_000, "sentinels of smaller rank stand first"),
        (900, 1_050, ""),
        (900, 7_000, "a quorum of fresh opinions before an election"),
    ] {
        let mut court = Court::new(state(4, 0, None));
        court.announces(800, EventKind::Sdown, "master g 10.0.0.100 6379".into());
        court.accused(accused, 1);
        court.announces(1_000, EventKind::Odown, odown());
        assert_eq!(court.stands(stands, 5), rule);
    }
    // Who is silent comes first for nobody, and a RESET makes nobody speak.
    let mut court = Court::new(state(4, 0, None));
    court.accused(900, 1);
    court.announces(
        950,
        EventKind::Sdown,
        format!("sentinel {} 10.0.0.1 26379 @ g 10.0.0.100 6379", id(1)),
    );
    court.announces(960, EventKind::ResetMaster, "master g 10.0.0.100 6379".into());
    court.accused(970, 1);
    court.announces(1_000, EventKind::Odown, odown());
    assert_eq!(court.stands(1_000, 5), "");
    // Whoever voted for another gives the usual lead after the tenure of that vote.
    for (stands, rule) in [(5_010, "sentinels of smaller rank stand first"), (5_070, "")] {
        let mut court = Court::new(state(4, 0, None));
        court.votes(10, 5, 2);
        court.accused(900, 1);
        court.announces(1_000, EventKind::Odown, odown());
        court.accused(4_900, 1);
        assert_eq!(court.stands(stands, 6), rule);
    }
}

#[test]
fn finds_a_failover_that_is_tried_again_at_once_and_a_vote_that_stays_with_its_loser() {
    for (again, rule) in [(1_050, "a pause after a failover that was given up"), (1_100, "")] {
        let mut court = Court::new(state(4, 0, None));
        for at in [900, 1_000] {
            court.accused(at, 1);
        }
        court.stands(900, 5);
        court.announces(1_000, EventKind::AbortNotElected, String::new());
        assert_eq!(court.stands(again, 6), rule);
    }
    // Whose disk failed may have decided that long ago.
    let mut court = Court::new(state(4, 0, None));
    court.stands(900, 5);
    let reason = "No space left on device".into();
    court.hears(990, 0, &Input::PersistFailed { revision: Revision(2), reason }, false);
    court.announces(1_000, EventKind::AbortNotElected, String::new());
    assert_eq!(court.stands(1_050, 6), "");
    let mut court = Court::new(state(4, 0, None));
    court.stands(900, 5);
    court.announces(1_000, EventKind::AbortNotElected, String::new());
    for (leader, epoch, rule) in
        [(2, 6, ""), (ME, 5, "a vote for oneself is free once that is given up")]
    {
        court.asked(1_200, 2, 6, false);
        let vote = [Value::bulk(id(leader).as_str()), Value::Integer(epoch)];
        let items = std::iter::once(Value::Integer(1)).chain(vote).collect();
        let reply = Effect::Reply { id: RequestId(1), reply: Value::Array(items) };
        assert_eq!(court.says(1_200, &reply), rule);
    }
}
