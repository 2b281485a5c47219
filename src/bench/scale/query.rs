//! What a client of a sentinel meets: how long PING takes, how often it can ask for a master.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::process;
use crate::bench::wire::Wire;

/// A PING follows the other's answer, no sooner than this after the other.
const PING_PERIOD: Duration = Duration::from_millis(1);
/// How long one answer may take.
const PONG_WITHIN: Duration = Duration::from_secs(60);
/// How long a run of `redis-benchmark` may take.
const BENCHMARK_WITHIN: Duration = Duration::from_secs(120);
/// What `redis-benchmark` opens.
const CLIENTS: u32 = 50;

/// How long each PING took, in ms, until `done` is.
pub(super) async fn ping_while<T>(
    port: u16,
    done: impl Future<Output = T>,
) -> io::Result<(Vec<f64>, T)> {
    let mut wire = Wire::local(port).await?;
    let mut period = interval(PING_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut done = std::pin::pin!(done);
    let mut took = Vec::new();
    loop {
        tokio::select! {
            done = &mut done => return Ok((took, done)),
            _ = period.tick() => {}
        }
        let asked = Instant::now();
        // The other future goes on meanwhile, and its end is looked at behind the answer.
        let answer = timeout(PONG_WITHIN, wire.obtain(&["PING"]));
        answer.await.map_err(|_| io::Error::other("no answer to PING"))??;
        took.push(super::rows::ms(asked.elapsed()));
    }
}

/// Requests per second of `get-master-addr-by-name` with so many in flight on each connection;
/// `None` where there is no `redis-benchmark`.
pub(super) async fn lookups(
    port: u16,
    group: &str,
    in_flight: u32,
    dir: &Path,
) -> io::Result<Option<f64>> {
    let requests = if in_flight > 1 { 1_000_000 } else { 200_000 };
    let line = format!("redis-benchmark -p {port} -c {CLIENTS} -P {in_flight} -n {requests} --csv");
    let mut program: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    program.extend(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group].map(OsString::from));
    let mut command = process::command(&program, dir)?;
    command.stderr(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let output = timeout(BENCHMARK_WITHIN, command.kill_on_drop(true).output()).await;
    let output = output.map_err(|_| io::Error::other("redis-benchmark takes too long"))??;
    Ok(rate(&String::from_utf8_lossy(&output.stdout)))
}

/// The second field of the last line.
fn rate(csv: &str) -> Option<f64> {
    csv.lines().last()?.split("\",\"").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\
            \"SENTINEL GET-MASTER-ADDR-BY-NAME g1\",\"66225.17\",\"0.384\"\n";
        assert_eq!(rate(csv), Some(66225.17));
        assert_eq!(rate("\"test\",\"rps\"\n"), None);
    }
}
