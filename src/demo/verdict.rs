//! The end of the story: what is checked, what was found, and the report that says so. Pure.

use std::fmt::Write as _;

use super::failover::{Failover, seconds};
use super::model::{Model, Role, Who, names};
use super::writer::{KeyState, Ledger};

/// How many lost keys the report names.
const MAX_NAMED: usize = 10;

/// The verdict on a failover.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    checks: Vec<Check>,
    keys: Keys,
}

#[derive(Debug, Clone)]
struct Check {
    passed: bool,
    text: String,
}

/// What became of the numbered keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    sent: usize,
    accepted: usize,
    acknowledged: usize,
    /// On the new master, with the right value.
    found: usize,
    /// Acknowledged, yet not found.
    lost: Vec<usize>,
    /// Accepted by the old master, never on a replica, and gone: nothing was promised.
    gone_unacknowledged: usize,
}

impl Keys {
    /// Compares what the client was told with what is `found` (one entry for each key of the
    /// ledger).
    pub(super) fn tally(ledger: &Ledger, found: &[bool]) -> Keys {
        let is_found = |number: usize| found.get(number) == Some(&true);
        let missing = |state| {
            let states = ledger.keys.iter().enumerate();
            states.filter(move |(number, key)| **key == state && !is_found(*number))
        };
        Keys {
            sent: ledger.count(KeyState::Sent),
            accepted: ledger.count(KeyState::Accepted),
            acknowledged: ledger.count(KeyState::Acknowledged),
            found: found.iter().filter(|found| **found).count(),
            lost: missing(KeyState::Acknowledged).map(|(number, _)| number).collect(),
            gone_unacknowledged: missing(KeyState::Accepted).count(),
        }
    }

    /// A few lines that tell of the keys.
    pub(super) fn report(&self) -> String {
        let Keys { sent, accepted, acknowledged, found, lost, gone_unacknowledged } = self;
        let mut text = format!(
            "  written {sent}   accepted {accepted}   acknowledged {acknowledged}   \
             found {found}   lost {}\n",
            lost.len()
        );
        text.push_str("  (acknowledged: on at least one replica, too, by WAIT 1)\n");
        if *gone_unacknowledged > 0 {
            let _ = writeln!(
                text,
                "  {gone_unacknowledged} more were accepted by a master but were on no replica \
                 yet: gone, as nobody else had them"
            );
        }
        if !lost.is_empty() {
            let named: Vec<String> =
                lost.iter().take(MAX_NAMED).map(|number| format!("demo:{number}")).collect();
            let more = if lost.len() > MAX_NAMED { " ..." } else { "" };
            let _ = writeln!(text, "  lost: {}{more}", named.join(" "));
        }
        text
    }
}

/// Judges the group as it is now. `found` tells which keys the new master holds, or why it could
/// not be asked.
pub(super) fn judge(model: &Model, ledger: &Ledger, found: Result<Vec<bool>, String>) -> Verdict {
    let mut checks = Vec::new();
    let mut check = |passed: bool, text: String| checks.push(Check { passed, text });
    let old = model.failover.as_ref().map_or(0, |failover| failover.old);
    let new = model.named_master().filter(|node| *node != old);
    let masters: Vec<String> = (0..model.nodes.len())
        .filter(|node| model.nodes[*node].role() == Some(Role::Master))
        .map(|node| Who::Node(node).to_string())
        .collect();
    match new {
        Some(new) => {
            let port = model.nodes[new].port;
            let (new, total) = (Who::Node(new), model.sentinels.len());
            let agree = model.sentinels.iter().filter(|s| names(s, port)).count();
            check(agree == total, format!("{agree} of {total} sentinels name {new} as the master"));
            let replicas = model.nodes.len() - 1;
            let follow = model.nodes.iter().filter(|node| node.follows(port)).count();
            check(
                follow == replicas,
                format!("{follow} of {replicas} replicas follow {new}, with their links up"),
            );
            let back = model.nodes[old].follows(port);
            let is = if back { "is back as" } else { "is not back as" };
            check(back, format!("the old master, {}, {is} a replica of {new}", Who::Node(old)));
        }
        None => check(false, "the sentinels name a new master".into()),
    }
    let named = if masters.is_empty() { "none".into() } else { masters.join(", ") };
    check(masters.len() == 1, format!("exactly one node is a master: {named}"));
    let keys = match found {
        Ok(found) => {
            let keys = Keys::tally(ledger, &found);
            let (lost, all) = (keys.lost.len(), keys.acknowledged);
            check(
                lost == 0 && all > 0,
                format!("{} of {all} acknowledged writes are on the new master", all - lost),
            );
            keys
        }
        Err(reason) => {
            check(false, format!("the keys can be read back: {reason}"));
            Keys::tally(ledger, &[])
        }
    };
    Verdict { checks, keys }
}

impl Verdict {
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The text that stays on the terminal.
    pub(super) fn report(&self, failover: &Failover) -> String {
        let mut text = timeline(failover);
        if let Some(gap) = failover.gap() {
            let _ = writeln!(text, "\nTime without writes: {}", seconds(gap));
        }
        if let Some(took) = failover.sdown_to_write() {
            let _ = writeln!(
                text,
                "From the first +sdown to the first accepted write: {}",
                seconds(took)
            );
        }
        let _ = write!(text, "\nKeys\n{}\nChecks\n", self.keys.report());
        for check in &self.checks {
            let _ = writeln!(text, "  {} {}", if check.passed { '✓' } else { '✗' }, check.text);
        }
        text.push_str(match self.passed() {
            true => "\nVerdict: the failover succeeded and every check held.\n",
            false => "\nVerdict: FAILED, see ✗ above.\n",
        });
        text
    }
}

/// The stages of a failover as lines of text.
pub(super) fn timeline(failover: &Failover) -> String {
    let mut text = format!("Stages, in seconds since {}\n", failover.cause);
    for row in failover.rows() {
        let after =
            row.after.map_or("not seen".into(), |after| format!("+{:.3}", after.as_secs_f64()));
        let line = format!("  {:<24} {after:>9}   {}", row.stage, row.note);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::model::healthy_model;
    use super::KeyState::{Accepted, Acknowledged, Sent};
    use super::*;

    /// The group after node-1 was killed, node-3 promoted, and node-1 came back.
    fn after_failover() -> Model {
        let mut model = healthy_model();
        model.failover = Some(Failover::new("kill -9 of node-1".into(), 0, Instant::now(), 3));
        for (at, node) in model.nodes.iter_mut().enumerate() {
            let info = node.info.as_mut().expect("healthy");
            info.role = if at == 2 { Role::Master } else { Role::Replica };
            info.master_port = (at != 2).then_some(7003);
            info.link_up = at != 2;
        }
        for sentinel in &mut model.sentinels {
            sentinel.info.as_mut().expect("healthy").master = Some(7003);
        }
        model
    }

    fn ledger() -> Ledger {
        Ledger { keys: vec![Acknowledged, Acknowledged, Accepted, Sent, Acknowledged] }
    }

    fn failed(verdict: &Verdict) -> Vec<&str> {
        verdict.checks.iter().filter(|c| !c.passed).map(|c| c.text.as_str()).collect()
    }

    #[test]
    fn a_good_failover_passes_though_unacknowledged_writes_are_gone() {
        let verdict = judge(&after_failover(), &ledger(), Ok(vec![true, true, false, false, true]));
        assert!(verdict.passed(), "{:?}", failed(&verdict));
        assert_eq!(verdict.keys.gone_unacknowledged, 1);
        let model = after_failover();
        let report = verdict.report(model.failover.as_ref().expect("set above"));
        assert!(report.contains("written 5   accepted 4   acknowledged 3   found 3   lost 0"));
        assert!(report.contains("✓ 3 of 3 sentinels name node-3 as the master"));
        assert!(report.ends_with("Verdict: the failover succeeded and every check held.\n"));
    }

    #[test]
    fn each_thing_that_is_wrong_fails_its_check() {
        let all = || Ok(vec![true; 5]);
        let lost = judge(&after_failover(), &ledger(), Ok(vec![true, false, true, true, true]));
        assert_eq!(failed(&lost), ["2 of 3 acknowledged writes are on the new master"]);
        assert_eq!(lost.keys.lost, [1]);

        let nothing = judge(&after_failover(), &Ledger::default(), Ok(vec![]));
        assert_eq!(failed(&nothing), ["0 of 0 acknowledged writes are on the new master"]);

        let mut dissent = after_failover();
        dissent.sentinels[1].info.as_mut().expect("healthy").master = Some(7001);
        let verdict = judge(&dissent, &ledger(), all());
        assert_eq!(failed(&verdict), ["2 of 3 sentinels name node-3 as the master"]);

        let mut two_masters = after_failover();
        two_masters.nodes[0].info.as_mut().expect("healthy").role = Role::Master;
        assert_eq!(
            failed(&judge(&two_masters, &ledger(), all())),
            [
                "1 of 2 replicas follow node-3, with their links up",
                "the old master, node-1, is not back as a replica of node-3",
                "exactly one node is a master: node-1, node-3",
            ]
        );

        let unread = judge(&after_failover(), &ledger(), Err("connection refused".into()));
        assert_eq!(failed(&unread), ["the keys can be read back: connection refused"]);

        let mut none = healthy_model();
        none.failover = after_failover().failover;
        assert_eq!(failed(&judge(&none, &ledger(), all())), ["the sentinels name a new master"]);
    }
}
