//! Choices and repairs put before the checkers, good and bad.

use super::super::super::dice::Dice;
use super::super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::{LinkId, LostReason, RequestId};

pub(in super::super) const GROUP: &str = "g";
/// When the election was won, or the node looked at.
pub(in super::super) const NOW: Ms = 100_000;

pub(in super::super) fn address(n: usize) -> Address {
    Address::new(format!("10.0.0.{n}"), 6379)
}

pub(in super::super) fn id(n: u64) -> RunId {
    Dice::new(n, "id").run_id()
}

/// A sentinel that leads a failover of node 1, whose replicas are 2 and 3, and what it was told.
pub(in super::super) struct Court {
    pub(in super::super) checkers: Checkers,
    pub(in super::super) disk: State,
    pub(in super::super) ears: BTreeMap<Address, Ear>,
    pub(in super::super) peers: BTreeMap<Address, Ear>,
    hellos: Hellos,
    pub(in super::super) at: Ms,
    pub(in super::super) waited_ms: Ms,
    pub(in super::super) settled: bool,
}

impl Court {
    pub(in super::super) fn new() -> Court {
        let nodes = (1..=3).map(address).collect();
        let mut checkers = Checkers::new(BTreeMap::from([(GROUP.into(), nodes)]), 3);
        checkers.set_season(Season::Rough);
        let mut settings = GroupSettings::new(address(1), 2);
        settings.down_after_ms = 1_000;
        let mut group = GroupState::fresh(settings, None);
        group.replicas = [2, 3].map(address).into();
        group.sentinels = (1..3).map(|n| (id(n), address(n as usize))).collect();
        let groups = BTreeMap::from([(GROUP.into(), group)]);
        let disk = State {
            my_id: id(0),
            current_epoch: 5,
            groups: groups.into(),
            removed: Default::default(),
            live: None,
        };
        let (ears, peers) = (BTreeMap::new(), BTreeMap::new());
        let hellos = Hellos::default();
        let (at, waited_ms, settled) = (NOW, 0, true);
        let mut court = Court { checkers, disk, ears, peers, hellos, at, waited_ms, settled };
        court.at = NOW - 2_000;
        court.speaks(|checkers, speaker, _| checkers.open_book(speaker));
        for n in 1..=3 {
            let ear = court.ears.entry(address(n)).or_default();
            ear.connected(court.at);
            for _ in 0..3 {
                ear.answer(court.at, &Command::Ping, &Value::Simple("PONG".into()));
            }
        }
        court.tells(1, &master(1));
        court.announces(EventKind::Monitor, "master g 10.0.0.1 6379 quorum 2");
        court.at = NOW;
        let place = (0, GROUP.to_owned());
        court.checkers.stood_at.insert(place.clone(), NOW);
        court.checkers.candidacies.insert(place, (5, 2));
        court.announces(EventKind::Sdown, "master g 10.0.0.1 6379");
        court.announces(EventKind::Odown, "master g 10.0.0.1 6379 #quorum 2/2");
        court.announces(EventKind::TryFailover, "master g 10.0.0.1 6379");
        court.announces(EventKind::VoteForLeader, &format!("{} 5", id(0)));
        court.announces(EventKind::ElectedLeader, "master g 10.0.0.1 6379");
        for n in [2, 3] {
            court.pongs(n);
            court.tells(n, &replica(n, 100, 500));
        }
        court.at += 1;
        for n in [2, 3] {
            court.tells(n, &replica(n, 100, 500));
        }
        court
    }

    pub(in super::super) fn pongs(&mut self, n: usize) {
        let ear = self.ears.entry(address(n)).or_default();
        ear.answer(self.at, &Command::Ping, &Value::Simple("PONG".into()));
    }

    /// A node answers INFO.
    pub(in super::super) fn tells(&mut self, n: usize, info: &str) {
        let ear = self.ears.entry(address(n)).or_default();
        ear.answer(self.at, &Command::Info, &Value::bulk(info));
    }

    pub(in super::super) fn speaks<T>(
        &mut self,
        what: impl FnOnce(&mut Checkers, &Speaker, &Seat) -> T,
    ) -> T {
        let id = id(0);
        let speaker = Speaker {
            at: self.at,
            since: self.at.saturating_sub(self.waited_ms),
            waited_ms: self.waited_ms,
            number: 0,
            id: &id,
            disk: &self.disk,
        };
        let (ears, peers) = (self.ears.iter().collect(), self.peers.iter().collect());
        let seat = Seat { ears, peers, hellos: &self.hellos, settled: self.settled };
        what(&mut self.checkers, &speaker, &seat)
    }

    fn says(&mut self, to: usize, effect: Effect) {
        let to = address(to);
        let said = Said { effect: &effect, to: Some(&to), receiver: None, question: None };
        self.speaks(|checkers, speaker, seat| {
            checkers.weigh(speaker, &said, seat);
            if let Effect::Announce(event) = said.effect {
                checkers.prompt.note(speaker, event);
                checkers.conduct.says(speaker, said.effect, &checkers.ledger);
            }
            // Not all that would be told is.
            checkers.write_book(speaker, &said);
        });
        if let Effect::Send { command, .. } = effect {
            self.ears.entry(to).or_default().send(self.at, &command);
        }
    }

    /// It begins a life.
    pub(in super::super) fn starts(&mut self) {
        self.speaks(|checkers, speaker, _| checkers.started(speaker));
    }

    /// It is looked at.
    pub(in super::super) fn looks(&mut self) {
        self.speaks(|checkers, speaker, seat| checkers.look(speaker, seat));
    }

    /// It hears, and answers, a request.
    pub(in super::super) fn answers(&mut self, n: u64, request: &Request, reply: &Value) {
        self.hears(n, request);
        self.replies(n, request, reply);
    }

    pub(in super::super) fn hears(&mut self, n: u64, request: &Request) {
        let input = Input::Request { id: RequestId(n), request: request.clone() };
        self.speaks(|checkers, speaker, _| checkers.hears(speaker, None, &input, (false, true)));
    }

    pub(in super::super) fn replies(&mut self, n: u64, request: &Request, reply: &Value) {
        let effect = Effect::Reply { id: RequestId(n), reply: reply.clone() };
        let said = Said { effect: &effect, to: None, receiver: None, question: Some(request) };
        self.speaks(|checkers, speaker, seat| {
            checkers.weigh(speaker, &said, seat);
            checkers.answered(speaker, RequestId(n), said.question, reply);
            checkers.write_book(speaker, &said);
        });
    }

    pub(in super::super) fn announces(&mut self, kind: EventKind, payload: &str) {
        let event = Event { kind, group: Some(GROUP.into()), payload: payload.into() };
        self.says(1, Effect::Announce(event));
    }

    pub(in super::super) fn promotes(&mut self, n: usize) {
        self.says(n, Effect::Send { link: LinkId(1), command: Command::Promote });
    }

    pub(in super::super) fn sends(&mut self, n: usize, master: usize) {
        let command = Command::Follow { master: address(master) };
        self.says(n, Effect::Send { link: LinkId(1), command });
    }

    /// A hello of the sentinel itself, which shows that it goes on.
    fn lives(&mut self, config: Epoch) {
        let id = id(0);
        let speaker = Speaker {
            at: self.at,
            since: self.at.saturating_sub(self.waited_ms),
            waited_ms: self.waited_ms,
            number: 0,
            id: &id,
            disk: &self.disk,
        };
        self.checkers.overdue(&speaker, GROUP, config);
    }

    #[track_caller]
    pub(in super::super) fn finds(&self, rule: &str) {
        let found = self.checkers.violation().map(|broken| broken.what.clone());
        match &found {
            None => assert_eq!(rule, "", "nothing is found"),
            Some(what) => assert!(!rule.is_empty() && what.starts_with(rule), "{what}"),
        }
    }
}

pub(in super::super) fn master(n: usize) -> String {
    format!("run_id:{n}\r\nrole:master\r\n")
}

pub(in super::super) fn replica(n: usize, priority: u32, offset: u64) -> String {
    format!(
        "run_id:{n}\r\nuptime_in_seconds:90\r\nrole:slave\r\nmaster_host:10.0.0.1\r\n\
         master_port:6379\r\nmaster_link_status:up\r\nslave_repl_offset:{offset}\r\n\
         slave_priority:{priority}\r\ndb0:keys=1\r\n"
    )
}

/// One without a link, and why not, in s.
pub(in super::super) fn unlinked(n: usize, for_s: i64) -> String {
    let down = format!("status:down\r\nmaster_link_down_since_seconds:{for_s}");
    replica(n, 100, 500).replace("status:up", &down)
}

/// What is found when replica 2 is promoted after it, or something else, has changed.
#[track_caller]
fn promoted_after(change: impl FnOnce(&mut Court), rule: &str) {
    let mut court = Court::new();
    change(&mut court);
    court.promotes(2);
    court.finds(rule);
}

#[test]
fn a_choice_by_the_rules_breaks_none() {
    promoted_after(|_| {}, "");
    let old = |court: &mut Court| (2..=3).for_each(|n| court.tells(n, &unlinked(n, 11)));
    promoted_after(old, "");
    promoted_after(|court| court.tells(3, &replica(3, 100, 400)), "");
}

#[test]
fn finds_a_promotion_of_somebody_silent() {
    let answers = "who is promoted answers";
    promoted_after(
        |court| court.ears.entry(address(2)).or_default().lost(NOW, &LostReason::Closed),
        answers,
    );
    let down = "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.1 6379";
    let called_down = |court: &mut Court| {
        court.at += 1_100;
        court.announces(EventKind::Sdown, down);
    };
    promoted_after(called_down, answers);
    promoted_after(|court| court.at += 6_000, "a promotion comes while the votes bind");
    let late = |court: &mut Court| {
        court.checkers.stood_at.insert((0, GROUP.into()), NOW + 6_000);
        court.at += 6_000;
    };
    promoted_after(late, answers);
    let speechless = |court: &mut Court| {
        late(court);
        court.pongs(2);
    };
    promoted_after(speechless, "who is promoted has said lately what it is");
}

#[test]
fn who_is_named_with_a_switch_stays_down_and_who_was_forgotten_does_not() {
    for (later, down) in [(0, true), (1, false)] {
        let mut court = Court::new();
        court.announces(EventKind::ResetMaster, "master g 10.0.0.1 6379");
        court.announces(EventKind::Sdown, "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.1 6379");
        court.announces(EventKind::SwitchMaster, "g 10.0.0.1 6379 10.0.0.3 6379");
        court.at += later;
        court.announces(EventKind::Slave, "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.3 6379");
        assert_eq!(court.checkers.ledger.is_down(0, &address(2)), down);
    }
}

#[test]
fn finds_a_promotion_of_old_data() {
    promoted_after(|court| court.tells(2, &unlinked(2, 15)), "old data are not promoted");
    let empty = unlinked(2, -1).replace("db0", "none");
    promoted_after(|court| court.tells(2, &empty), "emptiness is not promoted");
    let forced = |court: &mut Court| {
        let ok = Value::Simple("OK".into());
        court.answers(1, &Request::Failover(GROUP.into()), &ok);
        court.announces(EventKind::TryFailover, "master g 10.0.0.1 6379");
        court.tells(2, &empty);
    };
    promoted_after(forced, "");
    // Nobody wishes for old data while there is a master.
    let while_it_lives = |court: &mut Court| {
        court.announces(EventKind::SdownEnd, "master g 10.0.0.1 6379");
        forced(court);
    };
    promoted_after(while_it_lives, "emptiness is not promoted");
}

#[test]
fn finds_that_nobody_is_promoted_who_could_be() {
    let rule = "whoever can be promoted is found";
    let gives_up = |change: fn(&mut Court), rule: &str| {
        let mut court = Court::new();
        change(&mut court);
        court.announces(EventKind::AbortNoGoodSlave, "master g 10.0.0.1 6379");
        court.finds(rule);
        let mut court = Court::new();
        change(&mut court);
        let none = Value::error("NOGOODSLAVE No suitable replica to promote");
        court.replies(1, &Request::Failover(GROUP.into()), &none);
        court.finds(rule);
    };
    gives_up(|_| {}, rule);
    let unfit = |court: &mut Court| {
        court.tells(2, &replica(2, 0, 500));
        court.ears.entry(address(3)).or_default().lost(court.at, &LostReason::Closed);
    };
    gives_up(unfit, "");
    gives_up(|court| court.tells(1, &replica(1, 100, 500)), "");
}

#[test]
fn finds_a_promotion_of_a_stranger() {
    promoted_after(|court| court.tells(2, &master(2)), "");
    promoted_after(|court| court.tells(2, &master(7)), "who is promoted was a replica");
}

#[test]
fn finds_a_choice_that_was_made_too_soon_or_not_well() {
    let silent = |court: &mut Court| {
        court.at -= 1;
        court.announces(EventKind::ElectedLeader, "master g 10.0.0.1 6379");
        court.at += 100;
        court.announces(EventKind::ElectedLeader, "master g 10.0.0.1 6379");
    };
    promoted_after(silent, "all are asked before one is promoted");
    let down_but_not_told_yet = |court: &mut Court| {
        court.at += 1_100;
        court.pongs(2);
        court.announces(EventKind::ElectedLeader, "master g 10.0.0.1 6379");
        court.tells(2, &replica(2, 100, 500));
    };
    promoted_after(down_but_not_told_yet, "");
    let waited = |court: &mut Court| {
        silent(court);
        court.at += 200;
    };
    promoted_after(waited, "");
    let best = "the best replica is promoted";
    promoted_after(|court| court.tells(3, &replica(3, 100, 600)), best);
    promoted_after(|court| court.tells(3, &replica(3, 50, 400)), best);
    let double = |court: &mut Court| court.tells(2, &replica(1, 100, 500));
    promoted_after(double, "who is promoted is one node");
}

#[test]
fn finds_old_data_preferred() {
    // The master has been silent for 2 s, and `down-after` is 1 s.
    let behind = "who fell behind comes last";
    let urgent = |for_s| unlinked(2, for_s).replace("priority:100", "priority:1");
    promoted_after(|court| court.tells(2, &urgent(7)), behind);
    promoted_after(|court| court.tells(2, &urgent(-1)), behind);
    promoted_after(|court| court.tells(2, &urgent(4)), "");
    let both = |court: &mut Court| {
        court.tells(2, &urgent(7));
        court.tells(3, &unlinked(3, 7));
    };
    promoted_after(both, "");
    let nobody_to_lag_behind = |court: &mut Court| {
        court.tells(2, &urgent(7));
        court.tells(1, &replica(1, 100, 500));
    };
    promoted_after(nobody_to_lag_behind, "");
    let kept_up = |court: &mut Court| {
        court.tells(2, &urgent(7).replace("priority:1\r", "priority:100\r"));
        court.tells(3, &unlinked(3, 3).replace("offset:500", "offset:1"));
    };
    promoted_after(kept_up, behind);
}

#[test]
fn finds_one_that_was_promoted_already_passed_over() {
    promoted_after(|court| court.tells(3, &master(3)), "who was promoted already comes first");
    promoted_after(|court| court.tells(3, &master(7)), "");
    let under_another = |court: &mut Court| {
        court.announces(EventKind::SwitchMaster, "g 10.0.0.2 6379 10.0.0.1 6379");
        court.announces(EventKind::ElectedLeader, "master g 10.0.0.1 6379");
        court.at += 300;
        court.tells(2, &replica(2, 100, 500));
        court.tells(3, &master(3));
    };
    promoted_after(under_another, "");
}

#[test]
fn finds_a_promotion_that_has_no_end() {
    let mut court = Court::new();
    court.promotes(2);
    court.at += 6_000;
    court.checkers.goes_on(0, court.at - 6_000, court.at);
    court.lives(4);
    court.finds("");
    court.at += 6_000;
    court.lives(4);
    court.finds("a promotion without effect is given up");
    let mut court = Court::new();
    court.promotes(2);
    court.at += 6_000;
    court.lives(5);
    court.finds("");
    // An operator has just changed how long that may take.
    let mut court = Court::new();
    court.promotes(2);
    court.checkers.tuned(0, GROUP, court.at);
    court.at += 6_000;
    court.lives(4);
    court.finds("");
}

#[test]
fn finds_a_promotion_that_was_not_seen_or_not_in_time() {
    let promoted = "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.1 6379";
    let after = |ms: Ms, rule: &str| {
        let mut court = Court::new();
        court.tells(2, &master(2));
        court.promotes(2);
        if ms > 0 {
            court.at += ms;
            court.tells(2, &master(2));
        }
        court.announces(EventKind::PromotedSlave, promoted);
        court.finds(rule);
    };
    after(0, "a promotion is seen before it is told");
    after(10, "");
    after(6_000, "a promotion counts while the votes bind");
}

#[test]
fn finds_a_node_that_is_sent_to_no_master() {
    let rule = "nodes are sent to a master";
    let mut court = Court::new();
    court.at += 10_000;
    court.tells(1, &master(1));
    court.sends(2, 1);
    court.finds(rule);
    let sent_after = |change: fn(&mut Court), rule: &str| {
        let mut court = Court::new();
        court.at += 10_000;
        court.announces(EventKind::SdownEnd, "master g 10.0.0.1 6379");
        change(&mut court);
        court.sends(2, 1);
        court.finds(rule);
    };
    sent_after(|_| {}, "");
    sent_after(|court| court.tells(1, &replica(1, 100, 500)), rule);
    sent_after(|court| court.at += 20_000, rule);
}

#[test]
fn finds_a_node_that_is_put_right_too_soon() {
    let mut court = Court::new();
    court.announces(EventKind::SdownEnd, "master g 10.0.0.1 6379");
    court.tells(2, &master(7));
    let changed = court.at;
    let hello = |n| format!("10.0.0.9,26379,{},0,{GROUP},10.0.0.1,6379,0", id(n));
    court.at = changed + 2_500;
    court.hellos.hear(court.at, &hello(1));
    court.sends(2, 1);
    court.finds("");
    court.hellos = Hellos::default();
    court.sends(2, 1);
    court.finds("a majority knows of no news");
    let mut court = Court::new();
    court.announces(EventKind::SdownEnd, "master g 10.0.0.1 6379");
    court.tells(2, &master(7));
    court.at += 1_000;
    court.sends(2, 1);
    court.finds("news have time to come");
}

#[test]
fn finds_too_many_replicas_on_their_way() {
    let sent_after = |change: fn(&mut Court), rule: &str| {
        let mut court = Court::new();
        court.at += 10_000;
        court.announces(EventKind::SdownEnd, "master g 10.0.0.1 6379");
        court.sends(2, 1);
        change(&mut court);
        court.sends(3, 1);
        court.finds(rule);
    };
    sent_after(|_| {}, "");
    fn lost(court: &mut Court) {
        court.tells(2, &unlinked(2, -1));
        court.sends(2, 1);
    }
    sent_after(lost, "parallel-syncs is respected");
    // Its silence is told once the disk is ready.
    let lost_while_it_writes = |court: &mut Court| {
        lost(court);
        court.waited_ms = 10;
    };
    sent_after(lost_while_it_writes, "");
}

#[test]
fn finds_a_master_that_is_called_down_without_a_reason() {
    let rule = "a master is down for a reason";
    let called_after = |change: fn(&mut Court), rule: &str| {
        let mut court = Court::new();
        court.announces(EventKind::SdownEnd, "master g 10.0.0.1 6379");
        change(&mut court);
        court.announces(EventKind::Sdown, "master g 10.0.0.1 6379");
        court.finds(rule);
    };
    let answers = |court: &mut Court| (0..3).for_each(|_| court.pongs(1));
    called_after(|_| {}, "");
    called_after(answers, rule);
    fn refuses(court: &mut Court) {
        let no = Value::error("NOAUTH Authentication required.");
        court.ears.entry(address(1)).or_default().answer(court.at, &Command::Ping, &no);
        court.at += 900;
    }
    called_after(refuses, "who refuses us lives");
    let silent_since = |court: &mut Court| {
        refuses(court);
        court.at += 200;
    };
    called_after(silent_since, "");
    let follows = |court: &mut Court| {
        court.tells(1, &replica(1, 100, 500));
        court.at += 25_000;
        (0..3).for_each(|_| court.pongs(1));
    };
    called_after(follows, "");
    let named_since = |court: &mut Court| {
        court.tells(1, &replica(1, 100, 500));
        court.at += 25_000;
        court.announces(EventKind::SwitchMaster, "g 10.0.0.2 6379 10.0.0.1 6379");
        (0..3).for_each(|_| court.pongs(1));
    };
    called_after(named_since, rule);
}

#[test]
fn finds_silence_that_was_not_watched() {
    let rule = "time not watched counts against nobody";
    let replica_2 = "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.1 6379";
    for (node, payload) in [(1, "master g 10.0.0.1 6379"), (2, replica_2)] {
        for (awake_ms, rule) in [(100, rule), (3_000, rule), (4_900, "")] {
            let mut court = Court::new();
            court.disk.groups.get_mut(GROUP).expect("the group").settings.down_after_ms = 5_000;
            court.pongs(node);
            // It stops a while after that, and goes on long after.
            let since = court.at + 50;
            court.at += 10_050;
            court.checkers.goes_on(0, since, court.at);
            court.at += awake_ms - 50;
            court.announces(EventKind::Sdown, payload);
            court.finds(rule);
        }
    }
}

#[test]
fn finds_somebody_called_down_who_has_answered() {
    let called = |after_ms: Ms, rule: &str| {
        let mut court = Court::new();
        court.pongs(2);
        court.at += after_ms;
        court.announces(EventKind::Sdown, "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.1 6379");
        court.finds(rule);
    };
    called(900, "only silence is down");
    called(1_000, "");
    let mut court = Court::new();
    let peer = court.peers.entry(address(1)).or_default();
    peer.answer(court.at, &Command::Ping, &Value::Simple("PONG".into()));
    let payload = format!("sentinel {} 10.0.0.1 6379 @ g 10.0.0.1 6379", id(1));
    court.announces(EventKind::Sdown, &payload);
    court.finds("only silence is down");
}
