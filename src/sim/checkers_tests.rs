//! Rules put before the checkers, kept and broken.

use super::super::dice::Dice;
use super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::hello::GiveUp;
use crate::sentinel::{LinkId, RequestId};

const GROUP: &str = "g";
const GIVEN_UP: &str = "what is given up is not acted on";

fn address(n: u8) -> Address {
    Address::new(format!("10.0.0.{n}"), 6379)
}

fn id(n: u64) -> RunId {
    Dice::new(n, "id").run_id()
}

/// A disk that holds these epochs and this vote.
fn disk(current: Epoch, config: Epoch, vote: Option<(Epoch, u64)>) -> State {
    let mut group = GroupState::fresh(GroupSettings::new(address(1), 2), None);
    group.sentinels = (1..3).map(|n| (id(n), address(n as u8))).collect();
    group.config_epoch = config;
    group.leader_epoch = vote.map_or(0, |(epoch, _)| epoch);
    group.voted_for = vote.map(|(_, n)| id(n));
    State {
        my_id: id(0),
        current_epoch: current,
        groups: [(GROUP, group)].into(),
        removed: Default::default(),
        live: None,
    }
}

struct Court(Checkers);

impl Court {
    fn new() -> Court {
        let nodes = BTreeSet::from([address(1), address(2)]);
        let mut checkers = Checkers::new(BTreeMap::from([(GROUP.into(), nodes)]), 3);
        checkers.set_season(Season::Rough);
        Court(checkers)
    }

    fn says(&mut self, number: u64, disk: &State, effect: Effect, asked: Option<Request>) {
        self.says_to(2, 1, number, disk, effect, asked);
    }

    fn says_to(
        &mut self,
        to: u8,
        at: Ms,
        number: u64,
        disk: &State,
        effect: Effect,
        asked: Option<Request>,
    ) {
        let (id, to) = (id(number), address(to));
        let number = number as usize;
        let speaker = Speaker { at, since: at, waited_ms: 0, number, id: &id, disk };
        let question = asked.as_ref();
        let said = Said { effect: &effect, to: Some(&to), receiver: None, question };
        self.0.says(&speaker, &said);
    }

    fn sends(&mut self, number: u64, disk: &State, command: Command) {
        self.says(number, disk, Effect::Send { link: LinkId(1), command }, None);
    }

    fn hello(&mut self, number: u64, disk: &State, current: Epoch, master: u8, config: Epoch) {
        let at = address(master);
        let payload = format!(
            "10.0.0.9,26379,{},{current},{GROUP},{},{},{config}",
            id(number),
            at.host,
            at.port
        );
        self.sends(number, disk, Command::Hello { payload });
    }

    fn announces(&mut self, number: u64, disk: &State, kind: EventKind, payload: String) {
        self.announces_at(1, number, disk, kind, payload);
    }

    fn announces_at(
        &mut self,
        at: Ms,
        number: u64,
        disk: &State,
        kind: EventKind,
        payload: String,
    ) {
        let event = Event { kind, group: Some(GROUP.into()), payload };
        self.says_to(2, at, number, disk, Effect::Announce(event), None);
    }

    fn votes(&mut self, number: u64, disk: &State, epoch: Epoch, candidate: u64) {
        let question = Request::IsMasterDown {
            host: address(1).host,
            port: 6379,
            epoch: epoch as i64,
            candidate: Some(id(candidate).to_string()),
        };
        let items = vec![
            Value::Integer(1),
            Value::bulk(id(candidate).as_str()),
            Value::Integer(epoch as i64),
        ];
        let effect = Effect::Reply { id: RequestId(1), reply: Value::Array(items) };
        self.says(number, disk, effect, Some(question));
    }

    /// Somebody was elected in this epoch.
    fn elected(&mut self, epoch: Epoch) {
        self.0.leaders.insert((GROUP.into(), epoch), 0);
    }

    fn stands(&mut self, number: u64, epoch: Epoch) -> State {
        let disk = disk(epoch, 0, Some((epoch, number)));
        let payload = format!("{} {epoch}", id(number));
        self.announces(number, &disk, EventKind::VoteForLeader, payload);
        disk
    }

    #[track_caller]
    fn finds(&self, rule: &str) {
        let found = self.0.violation().map(|v| v.what.clone());
        match (&found, rule) {
            (None, "") => {}
            (Some(what), rule) if !rule.is_empty() && what.starts_with(rule) => {}
            _ => panic!("expected {rule:?}, found {found:?}"),
        }
    }
}

#[test]
fn an_election_by_the_rules_breaks_none() {
    let mut court = Court::new();
    let leader = court.stands(0, 5);
    court.votes(1, &disk(5, 0, Some((5, 0))), 5, 0);
    court.announces(0, &leader, EventKind::ElectedLeader, String::new());
    court.sends(0, &leader, Command::Promote);
    court.hello(0, &leader, 5, 1, 0);
    court.finds("");
}

#[test]
fn finds_a_hello_that_is_ahead_of_the_disk() {
    let mut court = Court::new();
    court.hello(0, &disk(4, 0, None), 5, 1, 0);
    court.finds("durable before spoken");
    let mut court = Court::new();
    court.hello(0, &disk(5, 4, None), 5, 1, 5);
    court.finds("durable before spoken");
    let mut court = Court::new();
    court.hello(0, &disk(5, 4, None), 5, 2, 4);
    court.finds("durable before spoken");
}

#[test]
fn finds_a_vote_that_is_ahead_of_the_disk() {
    let mut court = Court::new();
    court.votes(1, &disk(5, 0, Some((4, 0))), 5, 0);
    court.finds("durable before spoken");
}

#[test]
fn finds_a_vote_given_twice() {
    let mut court = Court::new();
    court.votes(1, &disk(5, 0, Some((5, 0))), 5, 0);
    court.votes(1, &disk(5, 0, Some((5, 2))), 5, 2);
    court.finds("one vote per epoch");
}

#[test]
fn finds_epochs_that_go_back() {
    let mut court = Court::new();
    court.elected(5);
    court.elected(4);
    court.hello(0, &disk(5, 5, None), 5, 1, 5);
    court.hello(0, &disk(5, 4, None), 5, 1, 4);
    court.finds("config epochs never go back");
    let mut court = Court::new();
    court.hello(0, &disk(5, 0, None), 5, 1, 0);
    court.hello(0, &disk(5, 0, None), 4, 1, 0);
    court.finds("epochs never go back");
}

#[test]
fn finds_a_hello_that_is_older_than_what_its_sender_knows() {
    let mut court = Court::new();
    court.elected(5);
    court.elected(4);
    court.hello(0, &disk(5, 5, None), 5, 1, 4);
    court.finds("a hello shows the newest configuration");
}

#[test]
fn finds_two_masters_in_one_config_epoch() {
    let mut court = Court::new();
    court.elected(4);
    court.hello(0, &disk(5, 4, None), 5, 1, 4);
    let mut other = disk(5, 4, None);
    other.groups.get_mut(GROUP).expect("the group").settings.master = address(2);
    court.hello(1, &other, 5, 2, 4);
    court.finds("one master per config epoch");
}

#[test]
fn finds_a_promotion_without_a_majority() {
    let mut court = Court::new();
    let alone = court.stands(0, 5);
    court.sends(0, &alone, Command::Promote);
    court.finds("a majority before promotion");
    let mut court = Court::new();
    court.sends(0, &disk(5, 0, None), Command::Promote);
    court.finds("a majority before promotion");
    // Half of four are none, though they are the quorum.
    for (others, rule) in [(1, "a majority before promotion"), (2, "")] {
        let mut court = Court::new();
        let mut leader = court.stands(0, 5);
        let known = &mut leader.groups.get_mut(GROUP).expect("the group").sentinels;
        known.insert(id(3), address(3));
        (1..=others).for_each(|n| court.votes(n, &disk(5, 0, Some((5, 0))), 5, 0));
        court.sends(0, &leader, Command::Promote);
        court.finds(rule);
    }
}

#[test]
fn finds_two_leaders_in_one_epoch() {
    let mut court = Court::new();
    for number in [0, 1] {
        let state = court.stands(number, 5);
        // The checker of votes would speak first: count them as given by others.
        let votes = court.0.votes.entry((GROUP.into(), 5)).or_default();
        votes.extend([(id(7 + 2 * number), id(number)), (id(8 + 2 * number), id(number))]);
        court.announces(number, &state, EventKind::ElectedLeader, String::new());
    }
    court.finds("one leader per epoch");
}

#[test]
fn a_vote_that_is_given_again_without_memory_may_make_a_second_leader_of_its_epoch_only() {
    for (epoch, rule) in [(5, ""), (6, "one leader per epoch")] {
        let mut court = Court::new();
        let voted = court.stands(0, 5);
        court.votes(2, &disk(5, 0, Some((5, 0))), 5, 0);
        court.announces(0, &voted, EventKind::ElectedLeader, String::new());
        court.0.lost_memory(2);
        let voted = court.stands(0, 6);
        court.votes(2, &disk(6, 0, Some((6, 0))), 6, 0);
        court.announces(0, &voted, EventKind::ElectedLeader, String::new());
        court.0.votes.entry((GROUP.into(), epoch)).or_default().remove(&id(2));
        let again = court.stands(1, epoch);
        court.votes(2, &disk(epoch, 0, Some((epoch, 1))), epoch, 1);
        court.announces(1, &again, EventKind::ElectedLeader, String::new());
        court.finds(rule);
    }
}

#[test]
fn finds_leaders_that_act_at_once() {
    let mut court = Court::new();
    let [first, second] = [(0, 5), (1, 6)].map(|(number, epoch)| court.stands(number, epoch));
    court.votes(2, &disk(5, 0, Some((5, 0))), 5, 0);
    court.votes(2, &disk(6, 0, Some((6, 1))), 6, 1);
    court.announces(1, &second, EventKind::ElectedLeader, String::new());
    court.finds("");
    court.sends(0, &first, Command::Promote);
    court.finds("leaders act one after the other");
}

#[test]
fn finds_a_leader_that_acts_on_what_it_gave_up_or_gives_up_what_it_acted_on() {
    let elected = || {
        let mut court = Court::new();
        let state = court.stands(0, 5);
        court.votes(2, &disk(5, 0, Some((5, 0))), 5, 0);
        (court, state)
    };
    let given_up =
        |of: u64, epoch| Command::GiveUp(GiveUp { id: id(of), epoch, group: GROUP.into() });
    for (of, epoch, rule) in [(0, 5, GIVEN_UP), (0, 4, ""), (1, 4, GIVEN_UP)] {
        for acts_first in [false, true] {
            let (mut court, state) = elected();
            let mut both = [Command::Promote, given_up(of, epoch)];
            if !acts_first {
                both.reverse();
            }
            both.into_iter().for_each(|command| court.sends(0, &state, command));
            court.finds(rule);
        }
    }
}

#[test]
fn finds_somebody_who_gives_up_and_frees_nobody() {
    for (tells, rule) in [(true, ""), (false, "whoever gives up frees its voters")] {
        let mut court = Court::new();
        let state = court.stands(0, 5);
        court.announces(0, &state, EventKind::AbortNotElected, "master g 10.0.0.1 6379".into());
        if tells {
            let given_up = GiveUp { id: id(0), epoch: 5, group: GROUP.into() };
            court.sends(0, &state, Command::GiveUp(given_up));
        }
        court.stands(0, 6);
        court.finds(rule);
    }
}

#[test]
fn finds_an_election_without_a_cause() {
    let (state, master) = (disk(5, 0, None), "master g 10.0.0.1 6379".to_owned());
    let odown = format!("{master} #quorum 2/2");
    let mut court = Court::new();
    court.announces(0, &state, EventKind::TryFailover, master.clone());
    court.finds("a quorum before an election");
    let mut court = Court::new();
    court.announces(0, &state, EventKind::Odown, odown.clone());
    court.finds("opinions are of the present master");
    let mut court = Court::new();
    let (at, id) = (1, id(0));
    let speaker = Speaker { at, since: at, waited_ms: 0, number: 0, id: &id, disk: &state };
    court.0.started(&speaker);
    court.votes(1, &disk(5, 0, Some((5, 0))), 5, 0);
    court.announces(0, &state, EventKind::Sdown, master.clone());
    court.announces(0, &state, EventKind::Odown, odown);
    court.announces(0, &state, EventKind::TryFailover, master);
    court.finds("");
}

#[test]
fn finds_what_is_decided_right_after_a_stall() {
    for kind in [EventKind::Sdown, EventKind::Odown, EventKind::ElectedLeader] {
        let mut court = Court::new();
        court.0.thawed(0, 0);
        let payload = "master g 10.0.0.1 6379 #quorum 1/1".to_owned();
        court.announces(0, &disk(0, 0, None), kind, payload);
        court.finds("nothing is decided right after a stall");
    }
    let mut court = Court::new();
    court.0.thawed(0, 0);
    let master = "master g 10.0.0.1 6379".to_owned();
    court.announces_at(2_000, 0, &disk(0, 0, None), EventKind::Sdown, master);
    court.finds("");
}

#[test]
fn finds_time_that_counts_though_it_was_not_watched() {
    let mut disk = disk(0, 0, None);
    disk.groups.get_mut(GROUP).expect("the group").settings.down_after_ms = 5_000;
    for (at, payload, rule) in [
        (1, "slave", "time not watched counts against nobody"),
        (4_000, "slave", "time not watched counts against nobody"),
        (4_000, "sentinel", "time not watched counts against nobody"),
        (5_000, "slave", ""),
        // It may be down for other reasons.
        (4_000, "master g 10.0.0.1 6379", ""),
    ] {
        let mut court = Court::new();
        court.0.thawed(0, 0);
        court.announces_at(at, 0, &disk, EventKind::Sdown, payload.into());
        court.finds(rule);
    }
}

#[test]
fn finds_trouble_announced_in_calm_weather() {
    let mut court = Court::new();
    court.announces(0, &disk(0, 0, None), EventKind::Sdown, String::new());
    court.finds("");
    court.0.set_season(Season::Calm);
    court.announces(0, &disk(0, 0, None), EventKind::Sdown, String::new());
    court.finds("no failover without cause");
    let mut court = Court::new();
    court.0.set_season(Season::After);
    court.announces(0, &disk(0, 0, None), EventKind::Sdown, String::new());
    court.finds("");
    court.announces(0, &disk(0, 0, None), EventKind::TryFailover, String::new());
    court.finds("no failover without cause");
}

#[test]
fn finds_a_master_from_elsewhere() {
    let mut court = Court::new();
    let payload = "g 10.0.0.1 6379 10.0.0.2 6379".to_owned();
    court.announces(0, &disk(0, 0, None), EventKind::SwitchMaster, payload);
    court.finds("");
    let payload = "g 10.0.0.1 6379 10.0.0.77 6379".to_owned();
    court.announces(0, &disk(0, 0, None), EventKind::SwitchMaster, payload);
    court.finds("masters are nodes of their group");
}

#[test]
fn finds_a_configuration_that_nobody_was_elected_for() {
    let mut court = Court::new();
    court.elected(3);
    court.hello(0, &disk(5, 3, None), 5, 1, 3);
    court.finds("");
    court.hello(0, &disk(5, 4, None), 5, 1, 4);
    court.finds("configurations are elected");
}

#[test]
fn finds_words_that_are_no_hello_and_no_vote() {
    let state = disk(5, 0, None);
    let mut court = Court::new();
    court.sends(0, &state, Command::Hello { payload: "good morning".into() });
    court.finds("well-formed hello");
    let mut court = Court::new();
    court.announces(0, &state, EventKind::VoteForLeader, "somebody 5".into());
    court.finds("well-formed vote");
    let mut court = Court::new();
    let question = Request::IsMasterDown {
        host: address(1).host,
        port: 6379,
        epoch: 5,
        candidate: Some(id(1).to_string()),
    };
    let reply = Value::Array(vec![Value::Integer(1)]);
    let effect = Effect::Reply { id: RequestId(1), reply };
    court.says(0, &state, effect, Some(question));
    court.finds("well-formed vote");
}

#[test]
fn finds_a_promotion_of_somebody_unheard_of() {
    for (to, rule) in [(2, ""), (77, "promotes a known node")] {
        let mut court = Court::new();
        let leader = court.stands(0, 5);
        court.votes(1, &disk(5, 0, Some((5, 0))), 5, 0);
        let promote = Effect::Send { link: LinkId(1), command: Command::Promote };
        court.says_to(to, 1, 0, &leader, promote, None);
        court.finds(rule);
    }
}

#[test]
fn finds_a_failover_that_outlives_a_newer_configuration() {
    for (config, rule) in [(4, ""), (5, "a newer configuration ends older failovers")] {
        let mut court = Court::new();
        court.stands(0, 5);
        court.votes(1, &disk(5, 0, Some((5, 0))), 5, 0);
        court.sends(0, &disk(5, config, Some((5, 0))), Command::Promote);
        court.finds(rule);
    }
}

#[test]
fn who_never_stood_or_whose_id_another_may_have_owes_nobody_a_word() {
    let abort = |court: &mut Court, state: &State| {
        let master = "master g 10.0.0.1 6379".to_owned();
        court.announces_at(5, 0, state, EventKind::AbortNotElected, master);
    };
    // The disk failed: nothing was told of a vote for itself since an operator's order.
    let mut court = Court::new();
    let state = disk(4, 0, None);
    let (at, id) = (1, id(0));
    court.0.started(&Speaker { at, since: at, waited_ms: 0, number: 0, id: &id, disk: &state });
    court.announces(0, &state, EventKind::Monitor, "master g 10.0.0.1 6379 quorum 2".into());
    let state = court.stands(0, 5);
    let done = Effect::Reply { id: RequestId(1), reply: Value::ok() };
    court.says(0, &state, done, Some(Request::Failover(GROUP.into())));
    let master = "master g 10.0.0.1 6379".to_owned();
    court.announces_at(5, 0, &state, EventKind::TryFailover, master);
    abort(&mut court, &state);
    court.stands(0, 6);
    court.finds("");
    // It has moved, and may hear itself.
    let mut court = Court::new();
    court.0.moved(0, 1);
    let state = court.stands(0, 5);
    abort(&mut court, &state);
    let payload = format!("{id} 6");
    court.announces_at(90_000, 0, &disk(6, 0, Some((6, 0))), EventKind::VoteForLeader, payload);
    court.finds("");
}

#[test]
fn a_promotion_is_of_the_group_whose_election_is_open() {
    // Another group knows the node, too: it was there before two nodes changed their places.
    const OTHER: &str = "h";
    let mut court = Court::new();
    court.0.groups.insert(OTHER.into(), BTreeSet::from([address(2)]));
    let mut state = court.stands(0, 5);
    court.votes(2, &disk(5, 0, Some((5, 0))), 5, 0);
    let mut other = state.groups[GROUP].clone();
    (other.config_epoch, other.replicas) = (7, vec![address(2)]);
    state.groups.insert(OTHER, other);
    court.0.candidacies.insert((0, OTHER.into()), (7, 2));
    let votes = BTreeMap::from([(id(0), id(0)), (id(2), id(0))]);
    court.0.votes.insert((OTHER.into(), 7), votes);
    court.sends(0, &state, Command::Promote);
    court.finds("");
}
