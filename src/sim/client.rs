//! A client that writes to whatever node the sentinels name.

use super::dice::Dice;
use super::net::Net;
use super::wire::{Ask, ConnId, Ms, News, Packet, Proc, Purpose, Timer, Write};
use crate::resp::Value;
use crate::sentinel::types::Address;

/// Longest pause between two looks at what is to be done, in ms.
const PACE_MS: Ms = 300;
/// What is not done within so long is given up, in ms.
const PATIENCE_MS: Ms = 1_000;

/// What the client is about.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Idle,
    /// Asks a sentinel for the master.
    Asking(ConnId),
    Connecting(ConnId),
    Ready(ConnId),
    Writing(ConnId, Write),
}

/// A client of one group.
pub(super) struct Client {
    pub(super) proc: Proc,
    pub(super) group: String,
    /// Where the sentinels are, by number.
    pub(super) sentinels: Vec<Address>,
    next_sentinel: usize,
    step: Step,
    since: Ms,
    next_write: Write,
    /// Writes that a node confirmed, with the time at which they were sent, in order.
    acked: Vec<(Ms, Write)>,
    dice: Dice,
}

impl Client {
    pub(super) fn new(
        number: usize,
        group: String,
        sentinels: Vec<Address>,
        mut dice: Dice,
    ) -> Client {
        Client {
            proc: Proc::Client(number),
            group,
            next_sentinel: dice.below(sentinels.len() as u64) as usize,
            sentinels,
            step: Step::Idle,
            since: 0,
            next_write: number as Write * 1_000_000,
            acked: Vec::new(),
            dice,
        }
    }

    pub(super) fn start(&mut self, net: &mut Net) {
        net.timer(self.proc, self.dice.within(1..=PACE_MS), Timer::Tick);
    }

    /// Writes that were confirmed.
    pub(super) fn acked(&self) -> &[(Ms, Write)] {
        &self.acked
    }

    /// What comes to it.
    pub(super) fn take(&mut self, net: &mut Net, news: News) {
        match news {
            News::Timer(_) => {
                net.timer(self.proc, self.dice.within(1..=PACE_MS), Timer::Tick);
                self.tick(net);
            }
            News::Lost(conn, _) if self.conn() == Some(conn) => self.step = Step::Idle,
            News::Lost(..) => {}
            News::Packet(conn, packet) if self.conn() == Some(conn) => {
                self.packet(net, conn, packet);
            }
            News::Packet(..) => {}
        }
    }

    fn conn(&self) -> Option<ConnId> {
        match self.step {
            Step::Idle => None,
            Step::Asking(conn) | Step::Connecting(conn) | Step::Ready(conn) => Some(conn),
            Step::Writing(conn, _) => Some(conn),
        }
    }

    fn enter(&mut self, net: &Net, step: Step) {
        self.step = step;
        self.since = net.now();
    }

    fn give_up(&mut self, net: &mut Net) {
        if let Some(conn) = self.conn() {
            net.close(self.proc, conn);
        }
        self.step = Step::Idle;
    }

    fn tick(&mut self, net: &mut Net) {
        match self.step {
            Step::Idle => {
                let sentinel = self.sentinels[self.next_sentinel].clone();
                self.next_sentinel = (self.next_sentinel + 1) % self.sentinels.len();
                let conn = net.dial(self.proc, &sentinel, Purpose::Commands, PATIENCE_MS);
                self.enter(net, Step::Asking(conn));
            }
            Step::Ready(conn) => {
                self.next_write += 1;
                let write = self.next_write;
                self.enter(net, Step::Writing(conn, write));
                net.send(self.proc, conn, Packet::Ask(Box::new(Ask::Set(write))));
            }
            Step::Asking(_) | Step::Connecting(_) | Step::Writing(..) => {
                if net.now() - self.since > PATIENCE_MS {
                    self.give_up(net);
                }
            }
        }
    }

    fn packet(&mut self, net: &mut Net, conn: ConnId, packet: Packet) {
        match (self.step.clone(), packet) {
            (Step::Asking(_), Packet::Greeted) => {
                let ask = Ask::MasterAddress(self.group.clone());
                net.send(self.proc, conn, Packet::Ask(Box::new(ask)));
            }
            (Step::Asking(_), Packet::Reply(reply)) => {
                self.give_up(net);
                if let Some(master) = read_address(&reply) {
                    let conn = net.dial(self.proc, &master, Purpose::Commands, PATIENCE_MS);
                    self.enter(net, Step::Connecting(conn));
                }
            }
            (Step::Connecting(_), Packet::Greeted) => self.enter(net, Step::Ready(conn)),
            (Step::Writing(_, write), Packet::Reply(reply)) => match *reply {
                Value::Simple(_) => {
                    self.acked.push((self.since, write));
                    self.enter(net, Step::Ready(conn));
                }
                // READONLY, LOADING: this is not the master any more.
                _ => self.give_up(net),
            },
            _ => {}
        }
    }
}

/// The address in a reply to `SENTINEL GET-MASTER-ADDR-BY-NAME`.
pub(super) fn read_address(reply: &Value) -> Option<Address> {
    let Value::Array(items) = reply else { return None };
    let [host, port] = &items[..] else { return None };
    Some(Address::new(host.text()?, port.text()?.parse().ok()?))
}
