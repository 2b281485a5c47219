//! One failover as the world sees it: the stages that sentinels announce and the client's writes,
//! each with its time since the fault. Pure: events go in, rows of a timeline come out.

use std::time::{Duration, Instant};

use super::model::{Event, Node, Who};

/// A failover, from the fault to the return of the old master.
#[derive(Debug, Clone)]
pub(super) struct Failover {
    /// What was done, as in "kill -9 of node-1".
    pub(super) cause: String,
    /// The node that was the master.
    pub(super) old: usize,
    pub(super) start: Instant,
    sentinels: usize,
    /// Which sentinels said `+sdown` of the old master, in this order.
    noticed: Vec<(usize, Instant)>,
    /// First `+odown`: who, when, and its "2/2".
    agreed: Option<(usize, Instant, String)>,
    elected: Option<(usize, Instant)>,
    /// First `+promoted-slave`: which node, and when.
    promoted: Option<(usize, Instant)>,
    /// Which sentinels said `+switch-master` away from the old master, in this order.
    announced: Vec<(usize, Instant)>,
    /// First write that another master accepted: which node, and when.
    accepted: Option<(usize, Instant)>,
    /// First write after the fault that a replica of another master has, too.
    acknowledged: Option<Instant>,
    /// From the last write accepted before the fault to the first after it.
    gap: Option<Duration>,
    returned: Option<Instant>,
}

/// A stage of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) stage: &'static str,
    /// Since the fault; `None` while it has not happened.
    pub(super) after: Option<Duration>,
    pub(super) note: String,
}

impl Failover {
    /// `sentinels` is how many of them watch.
    pub(super) fn new(cause: String, old: usize, start: Instant, sentinels: usize) -> Failover {
        Failover {
            cause,
            old,
            start,
            sentinels,
            noticed: Vec::new(),
            agreed: None,
            elected: None,
            promoted: None,
            announced: Vec::new(),
            accepted: None,
            acknowledged: None,
            gap: None,
            returned: None,
        }
    }

    /// Takes an event for the timeline, if it tells of this failover.
    pub(super) fn hear(&mut self, event: &Event, nodes: &[Node]) {
        let (who, at) = (event.sentinel, event.at);
        let words: Vec<&str> = event.payload.split(' ').collect();
        // A master is `master NAME IP PORT`, a replica `slave IP:PORT IP PORT @ ...`.
        let subject = words
            .get(3)
            .and_then(|port| port.parse::<u16>().ok())
            .and_then(|port| nodes.iter().position(|node| node.port == port));
        let of_old_master = words.first() == Some(&"master") && subject == Some(self.old);
        match event.name.as_str() {
            "+sdown" if of_old_master => note_once(&mut self.noticed, who, at),
            "+odown" if of_old_master => {
                let votes = words.last().copied().unwrap_or_default().to_string();
                self.agreed.get_or_insert((who, at, votes));
            }
            "+elected-leader" if of_old_master => {
                self.elected.get_or_insert((who, at));
            }
            "+promoted-slave" => {
                if let Some(node) = subject.filter(|node| *node != self.old) {
                    self.promoted.get_or_insert((node, at));
                }
            }
            // `NAME OLD-IP OLD-PORT NEW-IP NEW-PORT`
            "+switch-master" => {
                let old = words.get(2).and_then(|port| port.parse::<u16>().ok());
                if old == nodes.get(self.old).map(|node| node.port) {
                    note_once(&mut self.announced, who, at);
                }
            }
            _ => {}
        }
    }

    /// A master accepted a write; `before` is when the one before it was accepted.
    pub(super) fn write_accepted(
        &mut self,
        at: Instant,
        port: u16,
        nodes: &[Node],
        before: Option<Instant>,
    ) {
        let Some(node) = self.other_node(port, nodes) else { return };
        if self.accepted.is_none() {
            self.accepted = Some((node, at));
            self.gap = before.map(|before| at.saturating_duration_since(before));
        }
    }

    /// A replica of the master at `port` has a write, too.
    pub(super) fn write_acknowledged(&mut self, at: Instant, port: u16, nodes: &[Node]) {
        if self.other_node(port, nodes).is_some() {
            self.acknowledged.get_or_insert(at);
        }
    }

    fn other_node(&self, port: u16, nodes: &[Node]) -> Option<usize> {
        nodes.iter().position(|node| node.port == port).filter(|node| *node != self.old)
    }

    /// The old master follows the new one.
    pub(super) fn old_master_returned(&mut self, at: Instant) {
        self.returned.get_or_insert(at);
    }

    /// From the first `+sdown` to the first write that the new master accepted.
    pub(super) fn sdown_to_write(&self) -> Option<Duration> {
        let (_, noticed) = self.noticed.first()?;
        let (_, accepted) = self.accepted?;
        Some(accepted.saturating_duration_since(*noticed))
    }

    /// How long no write was accepted.
    pub(super) fn gap(&self) -> Option<Duration> {
        self.gap
    }

    /// Both a write accepted by the new master and one that its replica has were seen.
    pub(super) fn writes_flow(&self) -> bool {
        self.accepted.is_some() && self.acknowledged.is_some()
    }

    /// The first stage that has not been seen, and the sentinel whose log is likely to tell why.
    pub(super) fn missing_stage(&self) -> Option<(&'static str, usize)> {
        let leader = self.elected.map_or(0, |(who, _)| who);
        let missing = self.rows().into_iter().find(|row| row.after.is_none())?;
        Some((missing.stage, leader))
    }

    /// The timeline, one row for each stage in the order in which they happen.
    pub(super) fn rows(&self) -> Vec<Row> {
        let after = |at: Instant| at.saturating_duration_since(self.start);
        let row =
            |stage, at: Option<Instant>, note: String| Row { stage, after: at.map(after), note };
        let first = |seen: &[(usize, Instant)]| seen.first().map(|(_, at)| *at);
        let accepted_note = self.accepted.map_or(String::new(), |(node, _)| {
            let confirmed = match self.acknowledged {
                Some(at) => format!("+{} on a replica", seconds(after(at))),
                None => "on no replica yet".into(),
            };
            format!("by {}; {confirmed}", Who::Node(node))
        });
        vec![
            row("down noticed", first(&self.noticed), self.everybody(&self.noticed)),
            row(
                "agreed",
                self.agreed.as_ref().map(|(_, at, _)| *at),
                self.agreed.as_ref().map_or(String::new(), |(who, _, votes)| {
                    format!("{}, quorum {votes}", Who::Sentinel(*who))
                }),
            ),
            row(
                "leader elected",
                self.elected.map(|(_, at)| at),
                self.elected.map_or(String::new(), |(who, _)| Who::Sentinel(who).to_string()),
            ),
            row(
                "promoted",
                self.promoted.map(|(_, at)| at),
                self.promoted.map_or(String::new(), |(node, _)| Who::Node(node).to_string()),
            ),
            row("announced", first(&self.announced), self.everybody(&self.announced)),
            row("first write accepted", self.accepted.map(|(_, at)| at), accepted_note),
            row("old master is a replica", self.returned, String::new()),
        ]
    }

    /// "sentinel-2; all 3 by +1.020 s"
    fn everybody(&self, seen: &[(usize, Instant)]) -> String {
        let (Some((first, _)), Some((_, last))) = (seen.first(), seen.last()) else {
            return String::new();
        };
        let first = Who::Sentinel(*first);
        if seen.len() < self.sentinels {
            return format!("{first}; {} of {} so far", seen.len(), self.sentinels);
        }
        let last = last.saturating_duration_since(self.start);
        format!("{first}; all {} by +{}", self.sentinels, seconds(last))
    }
}

fn note_once(seen: &mut Vec<(usize, Instant)>, who: usize, at: Instant) {
    if seen.iter().all(|(known, _)| *known != who) {
        seen.push((who, at));
    }
}

/// "1.004 s"
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::model::healthy_model;
    use super::*;

    fn stages(failover: &Failover) -> Vec<(&'static str, Option<u128>)> {
        failover.rows().into_iter().map(|r| (r.stage, r.after.map(|d| d.as_millis()))).collect()
    }

    #[test]
    fn events_and_writes_become_a_timeline() {
        let mut model = healthy_model();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        model.accepted(at(0), 7001);
        model.failover = Some(Failover::new("kill -9 of node-1".into(), 0, start, 3));
        let old = "master demo 127.0.0.1 7001";
        let replica = "slave 127.0.0.1:7003 127.0.0.1 7003 @ demo 127.0.0.1 7001";
        let switch = "demo 127.0.0.1 7001 127.0.0.1 7003";
        for (ms, sentinel, name, payload) in [
            (900, 0, "+sdown", "slave 127.0.0.1:7002 127.0.0.1 7002 @ demo 127.0.0.1 7001"),
            (1000, 1, "+sdown", old),
            (1001, 1, "+odown", "master demo 127.0.0.1 7001 #quorum 2/2"),
            (1002, 0, "+sdown", old),
            (1003, 1, "+elected-leader", old),
            (1004, 2, "+sdown", old),
            (1010, 1, "+promoted-slave", replica),
            (1011, 1, "+switch-master", switch),
            (1012, 0, "+switch-master", switch),
        ] {
            let (name, payload) = (name.to_string(), payload.to_string());
            model.hear(Event { at: at(ms), sentinel, name, payload });
        }
        model.accepted(at(1020), 7003);
        model.acknowledged(at(1025), 7003, 1);
        let failover = model.failover.as_ref().expect("set above");
        assert_eq!(
            stages(failover),
            [
                ("down noticed", Some(1000)),
                ("agreed", Some(1001)),
                ("leader elected", Some(1003)),
                ("promoted", Some(1010)),
                ("announced", Some(1011)),
                ("first write accepted", Some(1020)),
                ("old master is a replica", None),
            ]
        );
        let notes: Vec<String> = failover.rows().into_iter().map(|row| row.note).collect();
        assert_eq!(notes[0], "sentinel-2; all 3 by +1.004 s");
        assert_eq!(notes[1], "sentinel-2, quorum 2/2");
        assert_eq!(notes[3], "node-3");
        assert_eq!(notes[4], "sentinel-2; 2 of 3 so far");
        assert_eq!(notes[5], "by node-3; +1.025 s on a replica");
        assert_eq!(failover.sdown_to_write(), Some(Duration::from_millis(20)));
        assert_eq!(failover.gap(), Some(Duration::from_millis(1020)));
    }

    #[test]
    fn writes_to_the_old_master_and_foreign_events_count_for_nothing() {
        let mut model = healthy_model();
        let start = Instant::now();
        model.failover = Some(Failover::new("freeze of node-1".into(), 0, start, 3));
        model.accepted(start, 7001);
        model.acknowledged(start, 7001, 1);
        for (name, payload) in [
            ("+switch-master", "demo 127.0.0.1 9999 127.0.0.1 7003"),
            ("+sdown", "master demo 127.0.0.1 7002"),
            ("+odown", ""),
            ("+promoted-slave", "slave"),
        ] {
            let (name, payload) = (name.to_string(), payload.to_string());
            model.hear(Event { at: start, sentinel: 0, name, payload });
        }
        let failover = model.failover.as_ref().expect("set above");
        assert!(failover.rows().iter().all(|row| row.after.is_none()));
        assert!(!failover.writes_flow());
    }
}
