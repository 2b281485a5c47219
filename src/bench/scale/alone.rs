//! One sentinel and many groups: how long it takes to know them all, what watching them costs, and
//! how soon it answers meanwhile.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::crowd::{Crowd, REPLICAS};
use super::query::{lookups, ping_while};
use super::rows::{Sheet, ms};
use super::sentinel::{Program, Sentinel, name, place};
use super::tell;

/// How often a sentinel is asked whether all is well: it costs it something.
const CALM_PERIOD: Duration = Duration::from_millis(250);
/// What comes in a burst after the start is over by then.
const SETTLE: Duration = Duration::from_secs(3);
/// How long it is watched while nothing happens.
const STEADY: Duration = Duration::from_secs(10);
/// How long it is asked PING alone.
const PINGED: Duration = Duration::from_secs(5);
/// Requests in flight on a connection of `redis-benchmark`.
const IN_FLIGHT: [u32; 2] = [1, 16];

/// One trial. What was found before an error is in the rows.
pub(super) async fn run(
    program: Program,
    groups: usize,
    patience: Duration,
    dir: &Path,
    sheet: &mut Sheet<'_>,
) -> io::Result<()> {
    let mut crowd = Crowd::raise(groups, 1, dir).await?;
    let masters = crowd.masters();
    let start = || Sentinel::start(program, &masters, 1, place(dir, 1));
    let sentinel = started(start, groups, &mut crowd, patience, sheet, "start").await?;
    let tilts = sentinel.logged("+tilt")?;
    let again = sentinel.stop().await?;
    crowd.until(Instant::now() + patience, |counts| counts.connected == 0).await?;
    let sentinel = started(again, groups, &mut crowd, patience, sheet, "restart").await?;
    sleep(SETTLE).await;
    steady(&sentinel, &mut crowd, sheet).await?;
    asked(&sentinel, groups, dir, sheet).await?;
    sheet.put("TILT during the start", "", tilts as f64);
    sheet.put("TILT later", "", (sentinel.logged("+tilt")? - tilts) as f64);
    sentinel.end().await
}

/// Starts the sentinel and waits until it answers and has asked every node for INFO.
async fn started(
    start: impl FnOnce() -> io::Result<Sentinel>,
    groups: usize,
    crowd: &mut Crowd,
    patience: Duration,
    sheet: &mut Sheet<'_>,
    what: &str,
) -> io::Result<Sentinel> {
    let begun = Instant::now();
    let deadline = begun + patience;
    let mut sentinel = start()?;
    let nodes = crowd.nodes();
    let (pong, known) = tokio::try_join!(
        sentinel.pong(deadline),
        crowd.until(deadline, |counts| counts.informed == nodes),
    )?;
    sheet.put(&format!("{what} until PONG"), "ms", ms(pong - begun));
    sheet.put(&format!("{what} until all nodes are known"), "ms", ms(known - begun));
    let cpu = sentinel.usage()?.cpu;
    sheet.put(&format!("CPU time of the {what}"), "s", cpu.as_secs_f64());
    // A sentinel in TILT does less than it does later.
    let mut knowledge = sentinel.knowledge(groups, deadline).await?;
    while knowledge.know(REPLICAS, 1) < groups || !knowledge.is_calm() {
        if Instant::now() >= deadline {
            return Err(io::Error::other("given up: INFO does not tell that all is well"));
        }
        sleep(CALM_PERIOD).await;
        knowledge = sentinel.knowledge(groups, deadline).await?;
    }
    tell(format_args!("  all known {:.0} ms after its {what}", ms(known - begun)));
    Ok(sentinel)
}

/// What it costs while nothing happens.
async fn steady(sentinel: &Sentinel, crowd: &mut Crowd, sheet: &mut Sheet<'_>) -> io::Result<()> {
    tell(format_args!("  idle for {} s", STEADY.as_secs()));
    let (begun, before, counted) = (Instant::now(), sentinel.usage()?, crowd.counts().await?);
    sleep(STEADY).await;
    let (after, counts) = (sentinel.usage()?, crowd.counts().await?);
    let seconds = begun.elapsed().as_secs_f64();
    let share = (after.cpu - before.cpu).as_secs_f64() / seconds;
    sheet.put("idle: CPU", "% of a core", 100.0 * share);
    sheet.put("idle: memory", "MB", after.bytes as f64 / 1e6);
    sheet.put("idle: descriptors", "", after.descriptors as f64);
    let each = counts.connected as f64 / crowd.nodes() as f64;
    sheet.put("idle: connections to each node", "", each);
    for (name, count) in &counts.commands {
        let count = count - counted.commands.get(name).copied().unwrap_or_default();
        if count > 0 {
            let rate = count as f64 / seconds;
            sheet.put(&format!("idle: {name} at the nodes"), "per s", rate);
        }
    }
    Ok(())
}

/// What its clients meet.
async fn asked(
    sentinel: &Sentinel,
    groups: usize,
    dir: &Path,
    sheet: &mut Sheet<'_>,
) -> io::Result<()> {
    let (took, ()) = ping_while(sentinel.port, sleep(PINGED)).await?;
    sheet.put_spread("PING", "ms", took);
    let group = name(groups / 2);
    for in_flight in IN_FLIGHT {
        tell(format_args!("  get-master-addr-by-name, {in_flight} in flight"));
        let rate = lookups(sentinel.port, &group, in_flight, dir);
        let (took, rate) = ping_while(sentinel.port, rate).await?;
        let Some(rate) = rate? else {
            tell(format_args!("  redis-benchmark does not work here"));
            return Ok(());
        };
        let what = format!("get-master-addr-by-name -P {in_flight}");
        sheet.put(&what, "per s", rate);
        sheet.put_spread(&format!("PING during {what}"), "ms", took);
    }
    Ok(())
}
