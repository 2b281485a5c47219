//! Another sentinel: the one link to it that all groups share, and what it thinks of one group's
//! master.

use std::collections::BTreeSet;

use super::Sentinel;
use super::core::Core;
use super::effect::Command;
use super::event::Level;
use super::health::Health;
use super::mutant::Guard;
use super::rights::{MYID, Refusals, refusal_of_command};
use super::types::{Address, Epoch, GroupName, Instant, RunId};
use crate::resp::Value;

/// The link to another sentinel, shared by all groups that know it.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) address: Address,
    pub(super) health: Health,
    /// Our own IP on the connection to it.
    pub(super) local_ip: Option<String>,
    /// Commands that it does not let us send.
    pub(super) refusals: Refusals,
    /// Another sentinel, which answered at its address when it was last asked who it is: a port is
    /// forwarded wrongly, or somebody new lives there. What it says must not count twice.
    pub(super) other: Option<RunId>,
    /// The groups in which it takes part.
    pub(super) groups: BTreeSet<GroupName>,
    /// The shortest `down-after` of those groups, in ms: sets the pace of PINGs.
    pub(super) down_after_ms: u64,
}

impl PeerLink {
    pub(super) fn new(core: &mut Core, id: &RunId, address: Address) -> PeerLink {
        let link = core.connect_peer(id, &address);
        PeerLink {
            address,
            health: Health::new(core, link),
            local_ip: None,
            refusals: Refusals::default(),
            other: None,
            groups: BTreeSet::new(),
            down_after_ms: u64::MAX,
        }
    }

    /// Closes the connection and opens another, maybe elsewhere.
    pub(super) fn reopen(&mut self, core: &mut Core, id: &RunId, address: Address) {
        core.disconnect(self.health.link);
        let link = core.connect_peer(id, &address);
        self.address = address;
        self.health.relink(core, link);
    }

    /// It lives elsewhere, as it said itself: the silence at the old address counts no more.
    pub(super) fn moved(&mut self, core: &mut Core, id: &RunId, address: Address) {
        self.reopen(core, id, address);
        self.health = Health::new(core, self.health.link);
        self.other = None;
    }

    /// A connection stands: before anything else it is asked who it is, so that no answer of
    /// somebody else comes first.
    pub(super) fn connected(&mut self, core: &mut Core, local_ip: String) {
        self.health.connected(core.moment());
        self.local_ip = Some(local_ip);
        self.health.send(core, Command::AskId { word: None });
    }

    /// It said who it is. Whoever does not know the question (Redis before 6.2), or does not let us
    /// ask, is believed to be who it should be. True if that changes something.
    fn identified(&mut self, id: &RunId, reply: &Value) -> bool {
        let other = reply.text().and_then(RunId::parse).filter(|told| told != id);
        let news = other != self.other;
        self.other = other;
        news
    }

    /// Sends the PING that is due, and opens a half-open connection anew.
    pub(super) fn tend(&mut self, core: &mut Core, id: &RunId) {
        if self.health.wants_reopening(core, self.down_after_ms) {
            let address = self.address.clone();
            self.reopen(core, id, address);
        }
        self.health.tend(core, self.down_after_ms);
    }
}

impl Sentinel {
    /// Who lives at a peer's address has said who it is.
    pub(super) fn note_identity(&mut self, id: &RunId, reply: &Value) {
        self.note_peer_right(id, MYID, refusal_of_command(reply));
        let holds = self.core.holds(Guard::PeerIsItself);
        let Some(link) = self.core.peers.get_mut(id) else { return };
        if !link.identified(id, reply) || !holds {
            return;
        }
        let (address, short) = (&link.address, id.short());
        let text = match &link.other {
            Some(other) if *other == self.core.my_id => format!(
                "{address}, where sentinel {short} should live, leads back to me: a port is \
                 forwarded wrongly. {short} counts as silent"
            ),
            Some(other) => format!(
                "At {address}, where sentinel {short} should live, {} answers: a port is \
                 forwarded wrongly, or it has taken its place. {short} counts as silent",
                other.short()
            ),
            None => format!("Sentinel {short} answers at {address} itself again"),
        };
        self.core.say(Level::Warning, None, text);
    }
}

/// Another sentinel's part in one group.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Address,
    pub(super) sdown_since: Option<Instant>,
    /// When it last said that the present master is down for it; `None` once it says otherwise.
    pub(super) master_down_at: Option<Instant>,
    /// When it last said that it is not.
    pub(super) master_up_at: Option<Instant>,
    /// For whom it says to have voted, and in which epoch.
    pub(super) vote: Option<(RunId, Epoch)>,
    /// The last epoch in which it answered our wish for a vote, whatever the answer.
    pub(super) answered_epoch: Option<Epoch>,
    /// The last epoch in which we asked for its vote over the present connection.
    pub(super) asked_epoch: Option<Epoch>,
    /// When we last asked for its opinion over the present connection.
    pub(super) asked_at: Option<Instant>,
    /// Questions without an answer over the present connection.
    pub(super) questions_open: u32,
    /// What it last told of that when asked for it alone; see `news`.
    pub(super) last_vote: LastVote,
    pub(super) hello: Option<Heard>,
    /// Its last hello, if that said nothing but what is so, and what we show as the master with it:
    /// while both are the same it is a sign of life, and no more.
    pub(super) echo: Option<(Box<str>, Address)>,
    /// The counter of its last signed hello of this group.
    pub(super) counter: u64,
    pub(super) last_hello: Instant,
    pub(super) hello_in_flight: bool,
    pub(super) next_hello: Instant,
}

/// What it was asked, and told, of its last vote in this group.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LastVote {
    /// A question without an answer.
    pub(super) asked_at: Option<Instant>,
    /// The last answer: when it was asked for, and the epoch, 0 where that says nothing.
    pub(super) told: Option<(Instant, Epoch)>,
}

/// What its last hello said of this group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) current_epoch: Epoch,
    pub(super) config_epoch: Epoch,
}

impl Peer {
    pub(super) fn new(now: Instant, address: Address) -> Peer {
        Peer {
            address,
            sdown_since: None,
            master_down_at: None,
            master_up_at: None,
            vote: None,
            answered_epoch: None,
            asked_epoch: None,
            asked_at: None,
            questions_open: 0,
            last_vote: LastVote::default(),
            hello: None,
            echo: None,
            counter: 0,
            last_hello: now,
            hello_in_flight: false,
            next_hello: now,
        }
    }

    /// A new connection: whatever was under way on the old one will not be answered.
    pub(super) fn connection_changed(&mut self) {
        self.asked_epoch = None;
        self.asked_at = None;
        self.questions_open = 0;
        self.last_vote = LastVote::default();
        self.hello_in_flight = false;
    }

    /// It is to be found elsewhere. What was said at the old address may have been said by another
    /// process, which would count twice once it is known by an id of its own.
    pub(super) fn moved(&mut self, address: Address) {
        self.address = address;
        self.echo = None;
        self.connection_changed();
        self.forget_opinion();
        self.vote = None;
        self.answered_epoch = None;
    }

    /// Opinions of a master that is no longer meant, or of a time before it fell silent, count for
    /// nothing: in Redis they fail a healthy new master over.
    pub(super) fn forget_opinion(&mut self) {
        self.master_down_at = None;
        self.master_up_at = None;
        self.asked_at = None;
        self.questions_open = 0;
    }
}
