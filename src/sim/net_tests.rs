//! What the model network does with packets, crashes and names.

use super::super::wire::Ask;
use super::*;

const A: Proc = Proc::Client(0);
const B: Proc = Proc::Node(0);

fn net() -> (Net, Address) {
    let shape = NetShape { jitter_ms: 5, patience_ms: 10_000 };
    let mut net = Net::new(shape, Dice::new(1, "net"));
    let address = Address::new(ip_of(1), 6379);
    net.add(A, 0, None);
    net.add(B, 1, Some(6379));
    net.start(A);
    net.start(B);
    (net, address)
}

fn all(net: &mut Net, until: Ms) -> Vec<(Ms, Happening)> {
    let mut seen = Vec::new();
    while let Some(happening) = net.next(until) {
        seen.push((net.now(), happening));
    }
    seen
}

fn ask(n: u32) -> Packet {
    Packet::Ask(Box::new(Ask::Set(n)))
}

fn asks(seen: &[(Ms, Happening)]) -> Vec<u32> {
    seen.iter()
        .filter_map(|(_, happening)| match happening {
            Happening::To(_, News::Packet(_, Packet::Ask(ask))) => match **ask {
                Ask::Set(n) => Some(n),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

fn blocked(ways: &[(Machine, Machine)]) -> Weather {
    Weather { blocked: ways.iter().copied().collect(), ..Weather::default() }
}

#[test]
fn a_connection_keeps_its_order_whatever_the_delays() {
    let (mut net, address) = net();
    let conn = net.dial(A, &address, Purpose::Commands, 1_000);
    for n in 0..20 {
        net.send(A, conn, ask(n));
    }
    let seen = all(&mut net, 500);
    assert_eq!(asks(&seen), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_partition_holds_packets_and_a_short_one_loses_none() {
    let (mut net, address) = net();
    let conn = net.dial(A, &address, Purpose::Commands, 60_000);
    net.set_weather(blocked(&[(0, 1), (1, 0)]));
    net.send(A, conn, ask(1));
    assert_eq!(asks(&all(&mut net, 5_000)), Vec::<u32>::new());
    net.set_weather(Weather::default());
    net.send(A, conn, ask(2));
    assert_eq!(asks(&all(&mut net, 9_000)), [1, 2]);
}

#[test]
fn a_long_partition_makes_the_sender_give_up() {
    let (mut net, address) = net();
    let conn = net.dial(A, &address, Purpose::Commands, 60_000);
    net.set_weather(blocked(&[(0, 1), (1, 0)]));
    net.send(A, conn, ask(1));
    let seen = all(&mut net, 20_000);
    let lost = Happening::To(A, News::Lost(conn, LostReason::TimedOut));
    assert!(seen.iter().any(|(at, h)| *h == lost && *at >= 10_000), "{seen:?}");
}

#[test]
fn who_does_not_run_refuses_and_who_is_nowhere_never_answers() {
    let (mut net, address) = net();
    net.kill(B);
    let conn = net.dial(A, &address, Purpose::Commands, 1_000);
    let seen = all(&mut net, 500);
    assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::Refused)));
    let conn = net.dial(A, &Address::new("10.9.9.9", 1), Purpose::Commands, 1_000);
    let seen = all(&mut net, 5_000);
    assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::TimedOut)));
}

#[test]
fn a_crash_is_heard_on_the_other_side_and_timers_of_a_dead_life_are_not() {
    let (mut net, address) = net();
    let conn = net.dial(A, &address, Purpose::Commands, 1_000);
    all(&mut net, 100);
    net.timer(B, 50, Timer::Tick);
    net.kill(B);
    net.start(B);
    let seen = all(&mut net, 500);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::Closed)));
}

#[test]
fn one_blocked_direction_lets_the_other_pass() {
    let (mut net, address) = net();
    let conn = net.dial(A, &address, Purpose::Commands, 60_000);
    all(&mut net, 100);
    net.set_weather(blocked(&[(1, 0)]));
    net.send(B, conn, Packet::Greeted);
    net.send(A, conn, ask(1));
    let seen = all(&mut net, 1_000);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(asks(&seen), [1]);
}

#[test]
fn a_machine_without_power_answers_nobody_and_resets_old_connections_when_it_is_back() {
    let (mut net, address) = net();
    let conn = net.dial(A, &address, Purpose::Commands, 1_000);
    all(&mut net, 100);
    net.send(B, conn, Packet::Greeted);
    all(&mut net, 200);
    net.vanish(B);
    net.set_weather(Weather { dark: BTreeSet::from([1]), ..Weather::default() });
    net.send(A, conn, ask(1));
    assert_eq!(all(&mut net, 3_000), []);
    net.set_weather(Weather::default());
    net.start(B);
    let seen = all(&mut net, 9_000);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::Closed)));
}

#[test]
fn a_forgotten_connection_is_half_open_and_a_new_one_works() {
    let (mut net, address) = net();
    let old = net.dial(A, &address, Purpose::Commands, 60_000);
    all(&mut net, 100);
    net.send(B, old, Packet::Greeted);
    all(&mut net, 200);
    net.forget_between(0, 1);
    net.send(A, old, ask(1));
    let new = net.dial(A, &address, Purpose::Commands, 60_000);
    net.send(A, new, ask(2));
    let seen = all(&mut net, 30_000);
    assert_eq!(asks(&seen), [2]);
    let lost = Happening::To(A, News::Lost(old, LostReason::TimedOut));
    assert!(seen.iter().any(|(_, h)| *h == lost), "{seen:?}");
}

#[test]
fn who_moved_to_another_port_of_the_machine_is_not_met_at_the_old_one() {
    let (mut net, address) = net();
    net.kill(B);
    let conn = net.dial(A, &address, Purpose::Commands, 1_000);
    net.relocate(B, 1, Some(6380));
    net.start(B);
    let seen = all(&mut net, 9_000);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::TimedOut)));
}

#[test]
fn names_hang_and_lie_as_the_weather_says() {
    let (mut net, _) = net();
    net.add(Proc::Node(1), 2, Some(6379));
    net.start(Proc::Node(1));
    net.name("b".into(), 1);
    net.name("c".into(), 2);
    let b = Address::new("b", 6379);
    let greeted_by = |net: &mut Net| {
        let conn = net.dial(A, &b, Purpose::Commands, 1_000);
        let seen = all(net, net.now() + 1_500);
        let (_, happening) = seen.into_iter().next().expect("something happens");
        net.close(A, conn);
        happening
    };
    assert!(matches!(greeted_by(&mut net), Happening::To(B, _)));
    let names = BTreeMap::from([("b".into(), "c".into())]);
    net.set_weather(Weather { false_names: names, ..Weather::default() });
    assert!(matches!(greeted_by(&mut net), Happening::To(Proc::Node(1), _)));
    let mute_names = BTreeSet::from(["b".into()]);
    net.set_weather(Weather { mute_names, ..Weather::default() });
    let lost = greeted_by(&mut net);
    assert!(matches!(lost, Happening::To(A, News::Lost(_, LostReason::Unresolved(_)))));
}
