//! What a model node does, asked and watched by a client.

use super::super::net::{NetShape, ip_of};
use super::super::wire::Happening;
use super::super::wire::Write;
use super::answer::loading_error;
use super::*;

const CLIENT: Proc = Proc::Client(0);

/// Nodes that follow the first one, and a client that talks to them.
struct Trial {
    net: Net,
    nodes: Vec<Node>,
    heard: Vec<(ConnId, Packet)>,
    lost: Vec<ConnId>,
}

impl Trial {
    fn new(nodes: usize) -> Trial {
        let shape = NetShape { jitter_ms: 2, patience_ms: 10_000 };
        let mut net = Net::new(shape, Dice::new(1, "net"));
        net.add(CLIENT, 9, None);
        net.start(CLIENT);
        let address = |n: usize| Address::new(ip_of(n), 6379);
        let shape = NodeShape {
            first_offset: 1,
            serves_stale: true,
            rewrites: true,
            loading_ms: 1,
            copy_ms: 50,
            silence_ms: 60_000,
            never_up_s: -1,
            backlog: 4_000,
            priority: Some(100),
        };
        let nodes = (0..nodes)
            .map(|n| {
                let (proc, master) = (Proc::Node(n), (n > 0).then(|| address(0)));
                net.add(proc, n, Some(6379));
                net.start(proc);
                let dice = Dice::new(n as u64, "node");
                let mut node = Node::new(proc, address(n), master, shape.clone(), dice);
                node.start(&mut net);
                node
            })
            .collect();
        Trial { net, nodes, heard: Vec::new(), lost: Vec::new() }
    }

    fn run(&mut self, ms: Ms) {
        let until = self.net.now() + ms;
        self.net.remind(ms, crate::sim::wire::Note::Probe);
        while let Some(happening) = self.net.next(until) {
            match happening {
                Happening::To(Proc::Node(n), news) => self.nodes[n].take(&mut self.net, news),
                Happening::To(_, News::Packet(conn, packet)) => self.heard.push((conn, packet)),
                Happening::To(_, News::Lost(conn, _)) => self.lost.push(conn),
                _ => {}
            }
        }
    }

    fn dial(&mut self, node: usize, purpose: Purpose) -> ConnId {
        let address = self.nodes[node].address.clone();
        let conn = self.net.dial(CLIENT, &address, purpose, 1_000);
        self.run(50);
        conn
    }

    fn ask(&mut self, conn: ConnId, ask: Ask) -> Value {
        self.heard.clear();
        self.net.send(CLIENT, conn, Packet::Ask(Box::new(ask)));
        self.run(50);
        let reply = self.heard.iter().find_map(|(c, packet)| match packet {
            Packet::Reply(reply) if *c == conn => Some((**reply).clone()),
            Packet::Pong if *c == conn => Some(Value::Simple("PONG".into())),
            _ => None,
        });
        reply.expect("the node answers")
    }

    fn command(&mut self, conn: ConnId, command: Command) -> Value {
        self.ask(conn, Ask::Command(command))
    }

    fn info(&mut self, conn: ConnId) -> String {
        self.command(conn, Command::Info).text().unwrap_or_default().to_owned()
    }

    fn restart(&mut self, n: usize) {
        self.net.kill(Proc::Node(n));
        self.net.start(Proc::Node(n));
        self.nodes[n].start(&mut self.net);
    }

    fn writes(&self, n: usize) -> Vec<Write> {
        self.nodes[n].history().iter().map(|entry| entry.write).collect()
    }
}

#[test]
fn a_replica_copies_and_then_follows_the_stream() {
    let mut trial = Trial::new(2);
    let conn = trial.dial(0, Purpose::Commands);
    assert_eq!(trial.ask(conn, Ask::Set(1)), Value::ok());
    trial.run(2_000);
    assert!(trial.nodes[1].in_sync());
    trial.ask(conn, Ask::Set(2));
    trial.run(100);
    assert_eq!(trial.writes(1), [1, 2]);
    let info = trial.info(conn);
    assert!(info.contains("role:master\r\n"), "{info}");
    assert!(info.contains("slave0:ip=10.0.0.2,port=6379,state=online"), "{info}");
    let replica = trial.dial(1, Purpose::Commands);
    let info = trial.info(replica);
    assert!(info.contains("role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n"));
    assert!(info.contains("master_link_status:up\r\n"), "{info}");
    let refused = trial.ask(replica, Ask::Set(3));
    assert!(matches!(refused, Value::Error(e) if e.starts_with("READONLY")));
}

#[test]
fn a_promotion_keeps_the_data_and_drops_everybody_elses_connections() {
    let mut trial = Trial::new(3);
    let conn = trial.dial(0, Purpose::Commands);
    trial.ask(conn, Ask::Set(1));
    trial.run(3_000);
    let (mine, other) = (trial.dial(1, Purpose::Commands), trial.dial(1, Purpose::Commands));
    let subscription = trial.dial(1, Purpose::Subscribe);
    let Value::Array(replies) = trial.command(mine, Command::Promote) else { panic!("no array") };
    assert_eq!(replies.len(), 7);
    let expected = [Value::ok(), Value::ok(), Value::Integer(1), Value::Integer(1)];
    assert_eq!(replies[5], Value::Array(expected.to_vec()));
    assert!(replies[6].text().is_some_and(|info| info.contains("role:master\r\n")));
    assert_eq!(trial.lost, [other, subscription]);
    assert_eq!(trial.writes(1), [1]);
    // The third node is told to follow, goes on, and gets what is written from then on.
    let third = trial.dial(2, Purpose::Commands);
    let master = trial.nodes[1].address.clone();
    trial.command(third, Command::Follow { master });
    trial.ask(mine, Ask::Set(2));
    trial.run(2_000);
    assert_eq!(trial.writes(2), [1, 2]);
}

#[test]
fn a_replica_goes_on_where_it_can_and_copies_where_it_ran_ahead() {
    let mut trial = Trial::new(3);
    trial.run(3_000);
    let (old, new) = (trial.dial(0, Purpose::Commands), trial.dial(1, Purpose::Commands));
    trial.command(new, Command::Promote);
    // Node 2 still follows node 0 and so runs ahead of the point at which node 1 left.
    trial.ask(old, Ask::Set(1));
    trial.run(100);
    assert_eq!(trial.writes(2), [1]);
    assert!(!trial.nodes[1].can_continue(trial.nodes[2].replid, trial.nodes[2].offset));
    let (third, master) = (trial.dial(2, Purpose::Commands), trial.nodes[1].address.clone());
    trial.command(third, Command::Follow { master });
    trial.ask(new, Ask::Set(2));
    trial.run(3_000);
    assert_eq!(trial.writes(2), [2], "what node 1 does not have is wiped");
    // A short break costs no copy.
    let (replid, offset) = (trial.nodes[2].replid, trial.nodes[2].offset);
    trial.net.cut_between(Proc::Node(1), Proc::Node(2));
    trial.ask(new, Ask::Set(3));
    assert!(trial.nodes[1].can_continue(replid, offset));
    trial.run(3_000);
    assert_eq!(trial.writes(2), [2, 3]);
}

#[test]
fn held_writes_go_on_later_and_hold_up_what_comes_behind_them() {
    let mut trial = Trial::new(2);
    trial.run(3_000);
    let (mine, other) = (trial.dial(0, Purpose::Commands), trial.dial(0, Purpose::Commands));
    trial.ask(other, Ask::Set(1));
    let hold = || Command::HoldWrites { epoch: 1, ms: 1_000 };
    let Value::Array(replies) = trial.command(mine, hold()) else { panic!("no array") };
    assert_eq!(replies[0], Value::ok());
    trial.heard.clear();
    trial.net.send(CLIENT, other, Packet::Ask(Box::new(Ask::Set(2))));
    trial.net.send(CLIENT, other, Packet::Ping);
    trial.run(500);
    assert!(trial.heard.is_empty(), "{:?}", trial.heard);
    assert_eq!(trial.writes(0), [1]);
    trial.run(600);
    assert_eq!((trial.heard.len(), trial.writes(1)), (2, vec![1, 2]));
    // A replica refuses them.
    trial.command(mine, hold());
    trial.heard.clear();
    trial.net.send(CLIENT, other, Packet::Ask(Box::new(Ask::Set(3))));
    trial.run(100);
    let master = trial.nodes[1].address.clone();
    trial.nodes[0].follow(&mut trial.net, master);
    trial.command(mine, Command::FreeWrites);
    assert!(trial.writes(0).len() == 2 && !trial.nodes[0].is_held(other));
    // An old version does not know it.
    trial.nodes[1].shape.never_up_s = 1_700_000_000;
    let mine = trial.dial(1, Purpose::Commands);
    let Value::Array(replies) = trial.command(mine, hold()) else { panic!("no array") };
    assert!(matches!(&replies[0], Value::Error(_)));
}

#[test]
fn a_message_on_the_master_reaches_subscribers_of_its_replicas() {
    let mut trial = Trial::new(2);
    trial.run(3_000);
    let subscription = trial.dial(1, Purpose::Subscribe);
    let conn = trial.dial(0, Purpose::Commands);
    trial.command(conn, Command::Hello { payload: "x".into() });
    let heard = (subscription, Packet::Published("x".into()));
    assert!(trial.heard.contains(&heard), "{:?}", trial.heard);
}

#[test]
fn a_node_that_rewrote_its_file_comes_back_in_the_role_it_had() {
    let mut trial = Trial::new(2);
    trial.run(3_000);
    let conn = trial.dial(1, Purpose::Commands);
    trial.command(conn, Command::Promote);
    let before = trial.nodes[1].run_id.clone();
    trial.restart(1);
    assert_eq!(trial.nodes[1].following(), None);
    assert_ne!(trial.nodes[1].run_id, before);
}

#[test]
fn a_master_that_comes_back_empty_wipes_its_replica() {
    let mut trial = Trial::new(2);
    let conn = trial.dial(0, Purpose::Commands);
    trial.ask(conn, Ask::Set(1));
    trial.run(3_000);
    assert_eq!(trial.writes(1), [1]);
    trial.nodes[0].refit(Data::Empty, None);
    trial.restart(0);
    trial.run(4_000);
    assert!(trial.writes(1).is_empty());
}

#[test]
fn a_loading_node_says_so_and_runs_no_transaction() {
    let mut trial = Trial::new(1);
    trial.nodes[0].loading_until = 10_000;
    let conn = trial.dial(0, Purpose::Commands);
    assert_eq!(trial.command(conn, Command::Ping), loading_error());
    let Value::Array(replies) = trial.command(conn, Command::Promote) else { panic!("no array") };
    assert!(matches!(&replies[5], Value::Error(e) if e.starts_with("EXECABORT")));
    assert!(replies[6].text().is_some_and(|info| info.contains("loading:1")));
}

#[test]
fn a_replica_comes_back_to_a_master_that_restarted() {
    let mut trial = Trial::new(2);
    trial.run(3_000);
    trial.net.kill(Proc::Node(0));
    trial.run(2_500);
    assert!(!trial.nodes[1].in_sync());
    trial.net.start(Proc::Node(0));
    trial.nodes[0].start(&mut trial.net);
    trial.run(3_000);
    assert!(trial.nodes[1].in_sync());
}

#[test]
fn ailments_show_in_what_a_node_answers() {
    let mut trial = Trial::new(1);
    let conn = trial.dial(0, Purpose::Commands);
    trial.nodes[0].ailment.error = Some("BUSY a script runs");
    assert_eq!(trial.command(conn, Command::Ping), Value::error("BUSY a script runs"));
    trial.command(conn, Command::ScriptKill);
    assert_eq!(trial.command(conn, Command::Ping), Value::Simple("PONG".into()));
    trial.nodes[0].ailment.boast = 1_000;
    assert!(trial.info(conn).contains("master_repl_offset:1001\r\n"));
    trial.nodes[0].ailment = Ailment { slow_ms: 500, ..Ailment::default() };
    trial.heard.clear();
    for n in 0..5 {
        trial.net.send(CLIENT, conn, Packet::Ask(Box::new(Ask::Set(n))));
    }
    trial.run(600);
    assert_eq!(trial.heard.len(), 5);
    assert_eq!(trial.writes(0), [0, 1, 2, 3, 4]);
}
