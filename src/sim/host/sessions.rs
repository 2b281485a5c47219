//! Those who ask a sentinel, over connections of their own: one request at a time, in order.

use super::{Asked, Host};
use crate::resp::Value;
use crate::sentinel::{Command, Input, Request, RequestId};
use crate::sim::net::Net;
use crate::sim::wire::{Ask, ConnId, Packet};

impl Host {
    pub(super) fn reply(&mut self, net: &mut Net, id: RequestId, reply: Value) {
        let Some(asked) = self.asked.remove(&id) else { return };
        let Some(conn) = asked.conn else {
            self.answer = Some(reply);
            return;
        };
        net.send(self.proc, conn, Packet::Reply(Box::new(reply)));
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.busy = false;
        }
        self.serve(net, conn);
    }

    /// Answers a session's requests in order; what only the core can answer goes there.
    pub(super) fn serve(&mut self, net: &mut Net, conn: ConnId) {
        while let Some(session) = self.sessions.get_mut(&conn)
            && !session.busy
            && let Some(ask) = session.queue.pop_front()
        {
            match read_ask(ask) {
                Ok(request) => {
                    session.busy = true;
                    if let Request::Hello(payload) = &request {
                        self.hellos.hear(net.now(), &net.shown.text(payload));
                    }
                    self.submit(request, Some(conn));
                }
                Err(packet) => net.send(self.proc, conn, packet),
            }
        }
    }

    pub(super) fn submit(&mut self, request: Request, conn: Option<ConnId>) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.asked.insert(id, Asked { request: request.clone(), conn });
        self.inputs.push_back(Input::Request { id, request });
    }
}

/// What a sentinel's API makes of a request: something for the core, or an answer at once.
fn read_ask(ask: Ask) -> Result<Request, Packet> {
    match ask {
        Ask::MasterAddress(group) => Ok(Request::MasterAddress(group)),
        Ask::Command(Command::Ping) => Err(Packet::Pong),
        Ask::Command(Command::Hello { payload }) => Ok(Request::Hello(payload)),
        Ask::Command(Command::GiveUp(given_up)) => Ok(Request::Hello(given_up.payload())),
        Ask::Command(Command::IsMasterDown { master, epoch, candidate }) => {
            Ok(Request::IsMasterDown {
                host: master.host,
                port: master.port.into(),
                epoch: epoch as i64,
                candidate: candidate.map(String::from),
            })
        }
        Ask::Command(Command::AskVote { master, asker }) => Ok(Request::IsMasterDown {
            host: master.host,
            port: master.port.into(),
            epoch: 0,
            candidate: Some(asker.into()),
        }),
        Ask::Command(Command::AskId { .. }) => Ok(Request::MyId),
        _ => Err(Packet::Reply(Box::new(Value::error("ERR unknown command")))),
    }
}
