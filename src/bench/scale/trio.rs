//! Three sentinels and many groups: how long they take to know each other, and what they make of
//! all masters failing at once, or of a machine that is busy otherwise.

use std::io;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::crowd::{Crowd, Fault, Promoted, REPLICAS};
use super::process::{Process, Usage};
use super::rows::{Sheet, ms};
use super::sentinel::{DOWN_AFTER, Knowledge, Program, Sentinel, number, place};
use super::tell;
use crate::bench::wire::Wire;

const SENTINELS: usize = 3;
const QUORUM: usize = 2;
/// How often sentinels are asked what they know: it costs them something.
const ASK_PERIOD: Duration = Duration::from_millis(250);
/// How long they are watched before masters fail.
const IDLE: Duration = Duration::from_secs(3);
/// Announcements that may wait to be noted.
const ANNOUNCEMENTS_MAX: usize = 4096;
/// How long after a sentinel's last announcement its word must agree with the others'.
const AGREE_WITHIN: Duration = Duration::from_secs(5);

/// Three sentinels, their nodes, and where each master is at first.
pub(super) struct Trio {
    sentinels: Vec<Sentinel>,
    crowd: Crowd,
    masters: Vec<SocketAddrV4>,
}

impl Trio {
    /// They start, and come to know each other for every group.
    pub(super) async fn meet(
        program: Program,
        groups: usize,
        patience: Duration,
        dir: &Path,
        sheet: &mut Sheet<'_>,
    ) -> io::Result<Trio> {
        let mut trio = Trio::raise(program, groups, dir).await?;
        trio.get_to_know(patience, sheet).await?;
        Ok(trio)
    }

    async fn raise(program: Program, groups: usize, dir: &Path) -> io::Result<Trio> {
        let crowd = Crowd::raise(groups, SENTINELS, dir).await?;
        let masters = crowd.masters();
        let start = |at| Sentinel::start(program, &masters, QUORUM, place(dir, at));
        let sentinels = (1..=SENTINELS).map(start).collect::<io::Result<_>>()?;
        Ok(Trio { sentinels, crowd, masters })
    }

    /// Waits until each knows the other two for every group, and is calm.
    async fn get_to_know(&mut self, patience: Duration, sheet: &mut Sheet<'_>) -> io::Result<()> {
        let begun = Instant::now();
        let deadline = begun + patience;
        let groups = self.masters.len();
        try_join_all(self.sentinels.iter_mut().map(|sentinel| sentinel.pong(deadline))).await?;
        let known_by = async |sentinel: &Sentinel| loop {
            let knowledge = sentinel.knowledge(groups, deadline).await?;
            if knowledge.know(REPLICAS, SENTINELS) == groups {
                return io::Result::Ok((Instant::now(), sentinel.usage()?));
            }
            if Instant::now() >= deadline {
                let known = knowledge.know(REPLICAS, SENTINELS);
                let text = format!("given up: a sentinel knows the others for {known} groups");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            sleep(ASK_PERIOD).await;
        };
        let met = try_join_all(self.sentinels.iter().map(known_by)).await?;
        let last = met.iter().map(|(when, _)| *when).max().unwrap_or(begun);
        tell(format_args!("  they know each other after {:.0} ms", ms(last - begun)));
        sheet.put("start until they know each other", "ms", ms(last - begun));
        for (_, usage) in met {
            sheet.put("CPU time of that, each", "s", usage.cpu.as_secs_f64());
        }
        sheet.put("TILT in that time", "", self.logged("+tilt")? as f64);
        while !self.knowledge(deadline).await?.iter().all(Knowledge::is_calm) {
            if Instant::now() >= deadline {
                return Err(io::Error::other("given up: they do not calm down"));
            }
            sleep(ASK_PERIOD).await;
        }
        Ok(())
    }

    /// What they cost while nothing happens.
    pub(super) async fn idle(&self, sheet: &mut Sheet<'_>) -> io::Result<()> {
        let (begun, before) = (Instant::now(), self.usage()?);
        sleep(IDLE).await;
        let seconds = begun.elapsed().as_secs_f64();
        for (before, after) in before.iter().zip(self.usage()?) {
            let share = (after.cpu - before.cpu).as_secs_f64() / seconds;
            sheet.put("idle: CPU, each", "% of a core", 100.0 * share);
            sheet.put("idle: memory, each", "MB", after.bytes as f64 / 1e6);
        }
        Ok(())
    }

    /// All masters fail at once.
    pub(super) async fn fail(
        &mut self,
        fault: Fault,
        patience: Duration,
        sheet: &mut Sheet<'_>,
    ) -> io::Result<()> {
        let groups = self.masters.len();
        let (sender, mut announced) = mpsc::channel(ANNOUNCEMENTS_MAX);
        let mut watches = Vec::new();
        for (at, sentinel) in self.sentinels.iter().enumerate() {
            let mut wire = Wire::local(sentinel.port).await?;
            wire.obtain(&["SUBSCRIBE", "+switch-master"]).await?;
            let watch = tokio::spawn(watch(at, wire, sender.clone()));
            watches.push(AbortOnDropHandle::new(watch));
        }
        drop(sender);
        let lost = self.logged("-failover-abort-not-elected")?;
        let tilts = self.logged("+tilt")?;
        let before = self.usage()?;
        let due = Instant::now() + DOWN_AFTER;
        self.crowd.fail(fault).await?;

        let deadline = due + patience;
        // When each sentinel told first of each group.
        let mut told = vec![[None; SENTINELS]; groups];
        let mut missing = groups * SENTINELS;
        while missing > 0 {
            let Ok(Some(one)) = timeout_at(deadline, announced.recv()).await else { break };
            if let Some(place) = told.get_mut(one.group).map(|told| &mut told[one.sentinel])
                && place.is_none()
            {
                *place = Some(one.when);
                missing -= 1;
            }
        }
        let after = self.usage()?;
        let moved = self.moved(Instant::now() + AGREE_WITHIN).await?;
        let stuck = groups - moved.iter().filter(|moved| **moved).count();
        tell(format_args!("  {} of {groups} groups have moved", groups - stuck));

        let beyond = |when: Instant| ms(when.saturating_duration_since(due));
        let by_all = |(told, moved): (&[Option<Instant>; SENTINELS], &bool)| {
            let last = told.iter().flatten().max().filter(|_| *moved);
            last.filter(|_| told.iter().all(Option::is_some)).copied()
        };
        let all = told.iter().zip(&moved).filter_map(by_all).map(beyond).collect();
        let first = told.iter().filter_map(|told| told.iter().flatten().min().copied());
        let promoted = self.crowd.promoted().await?;
        let after_fault = promoted.iter().filter_map(|promoted| promoted.after);
        let took = after_fault.map(|after| ms(after.saturating_sub(DOWN_AFTER))).collect();
        sheet.put_spread("beyond down-after: promoted", "ms", took);
        sheet.put_spread("beyond down-after: first told", "ms", first.map(beyond).collect());
        sheet.put_spread("beyond down-after: told by all three", "ms", all);
        sheet.put("groups stuck", "", stuck as f64);
        let twice = |promoted: &&Promoted| promoted.times > 1;
        sheet.put("groups promoted twice", "", promoted.iter().filter(twice).count() as f64);
        let lost = self.logged("-failover-abort-not-elected")? - lost;
        sheet.put("elections lost", "", lost as f64);
        sheet.put("TILT since the fault", "", (self.logged("+tilt")? - tilts) as f64);
        for (before, after) in before.iter().zip(after) {
            let cpu = after.cpu - before.cpu;
            sheet.put("CPU time since the fault, each", "s", cpu.as_secs_f64());
        }
        Ok(())
    }

    /// Which groups have the same new address on all three.
    async fn moved(&self, deadline: Instant) -> io::Result<Vec<bool>> {
        loop {
            let all = self.knowledge(deadline + AGREE_WITHIN).await?;
            let address = |knowledge: &Knowledge, group: usize| {
                knowledge.groups[group].as_ref().and_then(|known| known.address)
            };
            let is_moved = |(group, master): (usize, &SocketAddrV4)| {
                let now = address(&all[0], group);
                now.is_some_and(|now| now != *master)
                    && all.iter().all(|knowledge| address(knowledge, group) == now)
            };
            let moved: Vec<bool> = self.masters.iter().enumerate().map(is_moved).collect();
            if !moved.contains(&false) || Instant::now() >= deadline {
                return Ok(moved);
            }
            sleep(ASK_PERIOD).await;
        }
    }

    /// Keeps all cores busy, and counts what is announced of masters that are well.
    pub(super) async fn saturate(
        &self,
        time: Duration,
        dir: &Path,
        sheet: &mut Sheet<'_>,
    ) -> io::Result<()> {
        const EVENTS: [&str; 4] = ["+sdown", "+odown", "+switch-master", "+tilt"];
        let cores = std::thread::available_parallelism()?.get();
        tell(format_args!("  {cores} processes keep the cores busy for {} s", time.as_secs()));
        let count =
            || EVENTS.iter().map(|event| self.logged(event)).collect::<io::Result<Vec<_>>>();
        let (counted, before) = (count()?, self.usage()?);
        let spin = ["sh", "-c", "while :; do :; done"].map(Into::into);
        let spinning = (0..cores).map(|_| Process::start(&spin, dir));
        let spinning = spinning.collect::<io::Result<Vec<_>>>()?;
        sleep(time).await;
        drop(spinning);
        for ((event, before), after) in EVENTS.iter().zip(counted).zip(count()?) {
            sheet.put(&format!("false {event}"), "", (after - before) as f64);
        }
        for (before, after) in before.iter().zip(self.usage()?) {
            let share = (after.cpu - before.cpu).as_secs_f64() / time.as_secs_f64();
            sheet.put("CPU, each", "% of a core", 100.0 * share);
        }
        Ok(())
    }

    async fn knowledge(&self, deadline: Instant) -> io::Result<Vec<Knowledge>> {
        let groups = self.masters.len();
        let asked = self.sentinels.iter().map(|sentinel| sentinel.knowledge(groups, deadline));
        try_join_all(asked).await
    }

    fn usage(&self) -> io::Result<Vec<Usage>> {
        self.sentinels.iter().map(Sentinel::usage).collect()
    }

    /// Lines with this event in all logs.
    fn logged(&self, event: &str) -> io::Result<usize> {
        self.sentinels.iter().map(|sentinel| sentinel.logged(event)).sum()
    }

    pub(super) async fn end(self) -> io::Result<()> {
        try_join_all(self.sentinels.into_iter().map(Sentinel::end)).await.map(drop)
    }
}

/// A `+switch-master`.
struct Announced {
    sentinel: usize,
    group: usize,
    when: Instant,
}

/// Hands on what a sentinel announces, until it or whoever listens is gone.
async fn watch(sentinel: usize, mut wire: Wire, announced: mpsc::Sender<Announced>) {
    while let Ok(message) = wire.next().await {
        let crate::resp::Value::Array(parts) = message else { continue };
        let payload = parts.get(2).and_then(|payload| payload.text()).unwrap_or_default();
        let Some(group) = payload.split(' ').next().and_then(number) else { continue };
        let when = Instant::now();
        if announced.send(Announced { sentinel, group, when }).await.is_err() {
            return;
        }
    }
}
