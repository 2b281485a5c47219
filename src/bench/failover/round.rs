//! One round: a fresh group settles, something is done to its master, and what follows is timed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::answers::{ask_once, master_address};
use super::fault::Fault;
use super::group::{GROUP, Group, Plan, SENTINELS};
use super::measure::{Measure, Outcome, Writes};
use super::timeline::{Timeline, ms};
use super::watch::Watch;
use super::writer::{Habit, Ledger, Writer};
use crate::bench::wire::{Wire, within};
use crate::demo::failure::Failure;
use crate::resp::Value;

/// Age of a group at which something is done to it. A fresh Watchfire listens for 2.5 s before it
/// takes part in elections; Redis's sentinels have met after two of their hellos.
const AGE: Duration = Duration::from_secs(4);
/// How long it may take until the bench sees everybody and its clients write.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// How long a node may take to shut down.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// How long a failover may take, beyond `down-after`.
const STAGES_WITHIN: Duration = Duration::from_secs(15);
/// How long there is no majority, beyond `down-after`, unless an election was lost by then. Redis
/// gives an election up after 10 s; Watchfire does not stand while it sees no majority.
const MAJORITY_AFTER: Duration = Duration::from_secs(12);
/// How long it may take until a leader is elected, once there is a majority again.
const ELECTED_WITHIN: Duration = Duration::from_secs(30);
/// How long a failed-over group is watched for a second failover that nothing calls for.
const LINGER: Duration = Duration::from_secs(3);
/// How long the old master may take to become a replica, once it is back.
const RETURNS_WITHIN: Duration = Duration::from_secs(20);
/// How long the sentinels may take to agree on the master whose keys are read in the end.
const AGREE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether they agree.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a process may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Plays one round in `dir`. `number` says which of the sentinels does what, so that each has each
/// part in turn. To be called on the main thread, as [`Group::start`] is.
pub(super) async fn play(
    dir: &Path,
    plan: &Plan,
    fault: Fault,
    number: usize,
) -> Result<Outcome, Failure> {
    let mut group = Group::start(dir, plan).await?;
    let outcome = play_with(&mut group, plan, fault, number).await;
    group.stop().await;
    outcome
}

async fn play_with(
    group: &mut Group,
    plan: &Plan,
    fault: Fault,
    number: usize,
) -> Result<Outcome, Failure> {
    group.settle().await?;
    let mut stage = Stage::open(group, fault, number);
    stage.begin().await?;
    // Somewhere within a second, so that no period of the sentinels is always hit at one point.
    let phase = Duration::from_millis(rand::random_range(0..1000));
    stage.watch_for((AGE + phase).saturating_sub(group.age())).await;
    group.nobody_died()?;

    inflict(group, fault, number, &mut stage.timeline).await?;
    if fault == Fault::Shutdown {
        // The node waits for its replicas first, up to a second, and is well until then.
        let deadline = Instant::now() + ENDS_WITHIN;
        stage.until(deadline, |seen| seen.silent().is_some()).await;
        stage.timeline.fault = stage.timeline.silent();
    }
    if fault == Fault::Election {
        let deadline = Instant::now() + plan.down_after + MAJORITY_AFTER;
        stage.until(deadline, Timeline::lost_an_election).await;
        stage.timeline.thawed = Some(Instant::now());
        for at in others(number) {
            group.freeze_sentinel(at, false);
        }
        let deadline = Instant::now() + ELECTED_WITHIN;
        stage.until(deadline, |seen| seen.switched_all().is_some()).await;
    } else {
        let deadline = Instant::now() + plan.down_after + STAGES_WITHIN;
        stage.until(deadline, |seen| is_over(seen, fault)).await;
    }
    stage.watch_for(LINGER).await;
    let (again, called_down) =
        (stage.timeline.failed_over_again(), stage.timeline.successor_called_down());

    if !fault.is_order() {
        stage.timeline.undone = Some(Instant::now());
        undo(group, fault).await?;
        let deadline = Instant::now() + RETURNS_WITHIN;
        stage.until(deadline, |seen| seen.demoted_after_return().is_some()).await;
    }
    group.nobody_died()?;
    let (timeline, ledgers) = stage.close().await?;
    let writes = count(group, &ledgers).await?;
    let Some(at) = timeline.fault else {
        return Err(Failure::Program("the master does not shut down".into()));
    };
    let pauses = ledgers.iter().filter(|_| fault.is_order() || fault == Fault::Refused);
    let pauses = pauses.filter_map(|(habit, ledger)| {
        Some((Measure::Pause(*habit), ms(ledger.longest_pause(at)?)))
    });
    let stages = Measure::all(&timeline, fault, plan.down_after);
    Ok(Outcome {
        measures: stages.into_iter().chain(pauses).collect(),
        writes,
        failed_over_again: again,
        successor_called_down: called_down,
        told: timeline.told(),
    })
}

/// The sentinels but the one whose turn it is.
fn others(number: usize) -> impl Iterator<Item = usize> {
    (0..SENTINELS).filter(move |at| *at != number % SENTINELS)
}

/// Does it, and writes down when.
async fn inflict(
    group: &mut Group,
    fault: Fault,
    number: usize,
    timeline: &mut Timeline,
) -> Result<(), Failure> {
    let master = group.nodes()[0];
    match fault {
        Fault::Kill | Fault::Refused => {
            timeline.fault = Some(Instant::now());
            group.kill_master();
        }
        Fault::Election => {
            others(number).for_each(|at| group.freeze_sentinel(at, true));
            timeline.fault = Some(Instant::now());
            group.kill_master();
        }
        Fault::Stop => {
            timeline.fault = Some(Instant::now());
            group.freeze_master(true);
        }
        Fault::Shutdown => {
            let wire = within(ANSWER_WITHIN, Wire::open(master)).await;
            let mut wire = wire.map_err(Failure::io("reach the master"))?;
            timeline.fault = Some(Instant::now());
            // Nothing answers it but the end of the connection.
            let sent = wire.send(&["SHUTDOWN", "NOSAVE"]).await;
            sent.map_err(Failure::io("send SHUTDOWN"))?;
        }
        Fault::Blackhole => {
            timeline.fault = Some(Instant::now());
            group.cut_off_master(true).await?;
        }
        Fault::Order | Fault::Coordinated => {
            let sentinel = group.sentinels()[number % SENTINELS];
            let wire = within(ANSWER_WITHIN, Wire::open(sentinel)).await;
            let mut wire = wire.map_err(Failure::io("reach a sentinel"))?;
            let words: &[&str] = match fault {
                Fault::Coordinated => &["SENTINEL", "FAILOVER", GROUP, "COORDINATED"],
                _ => &["SENTINEL", "FAILOVER", GROUP],
            };
            timeline.fault = Some(Instant::now());
            let answer = within(ANSWER_WITHIN, wire.ask(words)).await;
            let answer = answer.map_err(Failure::io("order a failover"))?;
            if answer != Value::ok() {
                let text = format!("SENTINEL FAILOVER was answered by {answer:?}");
                return Err(Failure::Program(text));
            }
        }
    }
    Ok(())
}

async fn undo(group: &mut Group, fault: Fault) -> Result<(), Failure> {
    match fault {
        Fault::Kill | Fault::Refused | Fault::Election | Fault::Shutdown => {
            group.restart_master().await
        }
        Fault::Stop => {
            group.freeze_master(false);
            Ok(())
        }
        Fault::Blackhole => group.cut_off_master(false).await,
        Fault::Order | Fault::Coordinated => Ok(()),
    }
}

/// Everything that is timed has been seen.
fn is_over(seen: &Timeline, fault: Fault) -> bool {
    let all_wrote = (0..seen.clients).all(|client| seen.wrote(client).is_some());
    // After a second failover not everybody may ever have gone along with the first.
    let all_agree = seen.switched_all().is_some() && seen.followed().is_some();
    all_wrote
        && (all_agree || seen.failed_over_again())
        && (!fault.is_order() || seen.demoted().is_some())
}

/// Everybody who looks and writes.
struct Stage {
    watch: Watch,
    timeline: Timeline,
    writers: Vec<(Habit, Writer)>,
}

impl Stage {
    fn open(group: &Group, fault: Fault, number: usize) -> Stage {
        let (nodes, sentinels) = (group.nodes(), group.sentinels());
        let watch = Watch::start(&nodes, &sentinels);
        // Not the one that is ordered to fail over, whose clients are the first to know; but not
        // one that is frozen either.
        let turn = if fault == Fault::Election { number } else { number + 1 };
        let asked = turn % SENTINELS;
        let start = |(at, habit): (usize, &Habit)| {
            let switched = watch.switches[asked].clone();
            let writer = Writer::start(at, *habit, sentinels[asked], switched, watch.tell.clone());
            (*habit, writer)
        };
        let writers: Vec<_> = fault.clients().iter().enumerate().map(start).collect();
        let timeline = Timeline::new(nodes, sentinels.len(), writers.len());
        Stage { watch, timeline, writers }
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        if self.until(Instant::now() + BEGINS_WITHIN, Timeline::has_begun).await {
            return Ok(());
        }
        Err(Failure::Program("the clients do not get to write".into()))
    }

    /// Takes facts until something is so; `false` if that is not the case by the deadline.
    async fn until(&mut self, deadline: Instant, is_so: impl Fn(&Timeline) -> bool) -> bool {
        loop {
            if is_so(&self.timeline) {
                return true;
            }
            match timeout_at(deadline.into(), self.watch.facts.recv()).await {
                Ok(Some(fact)) => self.timeline.facts.push(fact),
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// Takes facts for as long as this.
    async fn watch_for(&mut self, time: Duration) {
        self.until(Instant::now() + time, |_| false).await;
    }

    /// Ends the writing and the looking.
    async fn close(self) -> Result<(Timeline, Vec<(Habit, Ledger)>), Failure> {
        let mut ledgers = Vec::new();
        for (habit, writer) in self.writers {
            let ledger = writer.stop().await.map_err(Failure::io("stop a client"))?;
            ledgers.push((habit, ledger));
        }
        Ok((self.timeline, ledgers))
    }
}

/// Reads all keys from the master that the sentinels agree on in the end.
async fn count(group: &Group, ledgers: &[(Habit, Ledger)]) -> Result<Vec<Writes>, Failure> {
    let master = last_master(&group.sentinels()).await?;
    let mut writes = Vec::new();
    for (habit, ledger) in ledgers {
        let lost = ledger.lost(master).await.map_err(Failure::io("read the keys back"))?;
        writes.push(Writes { client: *habit, acknowledged: ledger.acknowledged(), lost });
    }
    Ok(writes)
}

/// What all sentinels name; if they do not come to agree, what the first of them names.
async fn last_master(sentinels: &[SocketAddr]) -> Result<SocketAddr, Failure> {
    let deadline = Instant::now() + AGREE_WITHIN;
    loop {
        let mut named = Vec::new();
        for sentinel in sentinels {
            let words = ["SENTINEL", "get-master-addr-by-name", GROUP];
            let answer = ask_once(*sentinel, &words, ANSWER_WITHIN).await;
            named.push(answer.ok().as_ref().and_then(master_address));
        }
        let agree = named.windows(2).all(|pair| pair[0] == pair[1]);
        if let Some(master) = named[0]
            && (agree || Instant::now() >= deadline)
        {
            return Ok(master);
        }
        if Instant::now() >= deadline {
            return Err(Failure::Program("the sentinels name no master".into()));
        }
        sleep(LOOK_EVERY).await;
    }
}
