//! Many runs on many threads, and what they were like all together. Memory is bounded however many
//! there are, and no number depends on which thread was faster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::wire::Ms;
use super::{Help, Options, Outcome, Plan, Telling, run};

/// So many of the runs that broke a rule are kept, those with the lowest seeds.
pub const FAILURES_MAX: usize = 20;
/// The caller hears at least so often, even if no run ends.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// What many runs were like. The names are those of [`Outcome`], the numbers are sums.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// How long they took, in virtual ms.
    pub virtual_ms: u64,
    /// Faults.
    pub faults: u64,
    /// How many of these were orders of an operator.
    pub orders: u64,
    /// Inputs that cores took.
    pub inputs: u64,
    /// Effects that they wanted.
    pub effects: u64,
    /// Elections begun.
    pub elections: u64,
    /// Elections won.
    pub won: u64,
    /// Of these, how many are not judged, as memories were lost or copied, say.
    pub unjudged: u64,
    /// `+switch-master` events of all sentinels.
    pub switches: u64,
    /// Writes that a client was told to be done.
    pub writes_acked: u64,
    /// Of these, how many the master did not hold in the end.
    pub writes_lost: u64,
    /// In how many runs the model operator had to help, in any way, and in each.
    pub helped: u64,
    /// See `helped`.
    pub helps: BTreeMap<Help, u64>,
    /// Runs that were given up.
    pub captured: u64,
    /// One fingerprint of all runs, whatever their order: two machines need compare no more.
    pub hash: u64,
    /// How many runs broke a rule.
    pub broken: u64,
    /// How many runs broke each rule, and the lowest seed of these.
    pub rules: BTreeMap<String, (u64, u64)>,
    /// The first of the broken runs, by seed; no more than [`FAILURES_MAX`].
    pub failures: BTreeMap<u64, Outcome>,
    /// Seeds whose runs had begun when the sweep was broken off, and did not end soon. They are in
    /// no other number.
    pub left_behind: Vec<u64>,
    /// How many runs were well so many ms after healing. As a run has its bound, so has this map.
    converged: Times,
    /// How many runs had replaced all masters so many ms after these died.
    replaced: Times,
}

/// How often each time was taken, in ms.
#[derive(Debug, Clone, Default)]
struct Times(BTreeMap<Ms, u64>);

impl Times {
    fn add(&mut self, ms: Option<Ms>) {
        if let Some(ms) = ms {
            *self.0.entry(ms).or_default() += 1;
        }
    }

    fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// What `share` of a thousand did not exceed; 0 if there was none.
    fn quantile(&self, share: u64) -> Ms {
        let rank = (self.count() * share).div_ceil(1_000).max(1);
        let mut seen = 0;
        let reached = |(_, runs): &(&Ms, &u64)| {
            seen += *runs;
            seen >= rank
        };
        self.0.iter().find(reached).map_or(0, |(ms, _)| *ms)
    }
}

/// Median, 99 % and the longest, in s.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 0 {
            return f.write_str("none");
        }
        let [half, most, all] =
            [500, 990, 1_000].map(|share| self.quantile(share) as f64 / 1_000.0);
        write!(f, "median {half:.1} s, 99 % {most:.1} s, longest {all:.1} s")
    }
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        for (sum, more) in [
            (&mut self.virtual_ms, outcome.virtual_ms),
            (&mut self.faults, outcome.faults),
            (&mut self.orders, outcome.orders),
            (&mut self.inputs, outcome.inputs),
            (&mut self.effects, outcome.effects),
            (&mut self.elections, outcome.elections),
            (&mut self.won, outcome.won),
            (&mut self.unjudged, outcome.unjudged),
            (&mut self.switches, outcome.switches),
            (&mut self.writes_acked, outcome.writes_acked),
            (&mut self.writes_lost, outcome.writes_lost),
        ] {
            *sum += more;
        }
        self.hash = self.hash.wrapping_add(mix(outcome.seed ^ mix(outcome.hash)));
        self.helped += u64::from(!outcome.helps.is_empty());
        for help in &outcome.helps {
            *self.helps.entry(*help).or_default() += 1;
        }
        self.captured += u64::from(outcome.captured);
        self.converged.add(outcome.converged_ms);
        self.replaced.add(outcome.replaced_ms);
        let Some(violation) = &outcome.violation else { return };
        self.broken += 1;
        let rule = self.rules.entry(kind(violation.rule())).or_insert((0, outcome.seed));
        *rule = (rule.0 + 1, rule.1.min(outcome.seed));
        self.failures.insert(outcome.seed, outcome.clone());
        if self.failures.len() > FAILURES_MAX {
            self.failures.pop_last();
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = grouped;
        let ended = self.runs - self.broken - self.captured;
        let never = ended.saturating_sub(self.converged.count());
        let never = match never {
            0 => String::new(),
            // With others that would be a broken rule.
            count => format!("; {} never (stock sentinels may stay stuck)", n(count)),
        };
        let share = self.writes_lost as f64 * 100.0 / self.writes_acked.max(1) as f64;
        // No rule is broken by that: a node confirms before its replicas have the write.
        let expected = match self.writes_lost {
            0 => "",
            _ => ": expected, replication is asynchronous",
        };
        // An order of the plan is none of these.
        let helps: Vec<_> =
            self.helps.iter().map(|(help, runs)| format!("{help} {}", n(*runs))).collect();
        let helps =
            if helps.is_empty() { String::new() } else { format!(": {}", helps.join(", ")) };
        let lines = [
            ("virtual time", span(self.virtual_ms)),
            (
                "faults",
                format!("{}, of these {} orders of an operator", n(self.faults), n(self.orders)),
            ),
            (
                "elections",
                format!(
                    "{}, {} of them won; {} of these not judged (memories lost or copied)",
                    n(self.elections),
                    n(self.won),
                    n(self.unjudged)
                ),
            ),
            ("switches", format!("{} (+switch-master of all sentinels)", n(self.switches))),
            ("inputs", n(self.inputs)),
            ("effects", n(self.effects)),
            (
                "writes",
                format!(
                    "{} confirmed, {} of these lost ({share:.3} %{expected})",
                    n(self.writes_acked),
                    n(self.writes_lost)
                ),
            ),
            ("well again", format!("after healing: {}{never}", self.converged)),
            ("helped", format!("an operator had to, in {}{helps}", of_runs(self.helped))),
            (
                "replaced",
                format!("dead masters, in {}: {}", of_runs(self.replaced.count()), self.replaced),
            ),
            (
                "given up",
                match self.captured {
                    0 => "no run".into(),
                    runs => format!("{}: a stranger was taken for an old master", of_runs(runs)),
                },
            ),
            ("hash of all", format!("{:016x}", self.hash)),
            ("broken", if self.broken == 0 { "none".into() } else { n(self.broken) }),
        ];
        write!(f, "{:<14}{}", "runs", n(self.runs))?;
        for (name, value) in lines {
            write!(f, "\n{name:<14}{value}")?;
        }
        for (rule, (count, seed)) in &self.rules {
            write!(f, "\n{:>14}  {rule} (first in seed {seed})", n(*count))?;
        }
        Ok(())
    }
}

/// So many runs, in words.
fn of_runs(count: u64) -> String {
    match count {
        1 => "1 run".to_owned(),
        _ => format!("{} runs", grouped(count)),
    }
}

/// What a sweep has to tell.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// A run has ended.
    Ended(&'a Outcome),
    /// The run of this seed has taken so long, in real time, that it may never end; told once.
    Endless(u64),
    /// None did, for a while.
    Nothing,
}

/// How long a sweep waits for a run, in real time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Whoever takes longer is told of.
    pub to_tell: Duration,
    /// Whoever takes longer from the moment when the sweep is broken off is left behind.
    pub to_leave: Duration,
}

/// Runs take tens of milliseconds, the largest a second or two.
pub const PATIENCE: Patience =
    Patience { to_tell: Duration::from_secs(60), to_leave: Duration::from_secs(3) };

/// Lives so many runs from the first seed on, in their order, on so many threads. `hear` is told of
/// each that ends, and now and then that none did; when it breaks off, no new run begins, and those
/// that have begun and end soon still count.
pub fn sweep(
    first: u64,
    count: u64,
    jobs: usize,
    options: &Options,
    hear: impl FnMut(&Summary, News<'_>) -> ControlFlow<()>,
) -> Summary {
    let options = options.clone();
    let live = move |seed| run(&Plan::draw(seed, &options), Telling::Silent);
    sweep_with(first, count, jobs, PATIENCE, live, hear)
}

/// What the threads of a sweep share.
struct Work<L> {
    live: L,
    first: u64,
    count: u64,
    /// How many runs have begun, or all if no more are to begin.
    begun: AtomicU64,
    /// Those that have not ended, by seed, and since when they run.
    running: Mutex<BTreeMap<u64, Instant>>,
}

impl<L> Work<L> {
    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.running.lock().expect("nobody panics with it")
    }

    /// Takes the next seed. The last there is may be the last of all numbers.
    fn begin(&self) -> Option<u64> {
        let more = |begun| (begun < self.count).then(|| begun + 1);
        let begun = self.begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.running().insert(self.first + begun, Instant::now());
        Some(self.first + begun)
    }

    fn longer_than(&self, time: Duration) -> Vec<u64> {
        let running = self.running();
        let long = running.iter().filter(|(_, since)| since.elapsed() >= time);
        long.map(|(seed, _)| *seed).collect()
    }
}

/// The threads are not bound to the end of this: nothing ends a run that does not end by itself.
fn sweep_with<L: Fn(u64) -> Outcome + Send + Sync + 'static>(
    first: u64,
    count: u64,
    jobs: usize,
    patience: Patience,
    live: L,
    mut hear: impl FnMut(&Summary, News<'_>) -> ControlFlow<()>,
) -> Summary {
    let (begun, running) = (AtomicU64::new(0), Mutex::default());
    let work = Arc::new(Work { live, first, count, begun, running });
    let (done, outcomes) = sync_channel(2 * jobs.max(1));
    let spawn = |_| {
        let (done, work) = (done.clone(), work.clone());
        std::thread::spawn(move || {
            while let Some(seed) = work.begin() {
                let outcome = (work.live)(seed);
                work.running().remove(&seed);
                if done.send(outcome).is_err() {
                    return;
                }
            }
        })
    };
    let threads: Vec<JoinHandle<()>> = (0..jobs.max(1)).map(spawn).collect();
    // What is left are the senders of the threads: the last to end closes the channel.
    drop(done);
    let mut summary = Summary::default();
    let (mut endless, mut broken_off) = (BTreeSet::new(), None::<Instant>);
    loop {
        let mut heard = match outcomes.recv_timeout(HEARTBEAT.min(patience.to_tell)) {
            Ok(outcome) => {
                summary.add(&outcome);
                hear(&summary, News::Ended(&outcome))
            }
            Err(RecvTimeoutError::Timeout)
                if broken_off.is_some_and(|since| since.elapsed() >= patience.to_leave) =>
            {
                summary.left_behind = work.running().keys().copied().collect();
                return summary;
            }
            Err(RecvTimeoutError::Timeout) => hear(&summary, News::Nothing),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        for seed in work.longer_than(patience.to_tell) {
            if endless.insert(seed) && hear(&summary, News::Endless(seed)).is_break() {
                heard = ControlFlow::Break(());
            }
        }
        if heard.is_break() {
            work.begun.store(count, Ordering::Relaxed);
            broken_off.get_or_insert_with(Instant::now);
        }
    }
    for thread in threads {
        if let Err(panic) = thread.join() {
            resume_unwind(panic);
        }
    }
    summary
}

/// Spreads a number over all bits, so that sums of such do not cancel out.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A rule without the numbers of one run.
fn kind(rule: &str) -> String {
    let mut kind = String::new();
    for c in rule.chars() {
        match c.is_ascii_digit() {
            false => kind.push(c),
            true if kind.ends_with('N') => {}
            true => kind.push('N'),
        }
    }
    kind
}

/// A number as people read it: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in ms in the largest unit that it fills.
pub fn span(ms: u64) -> String {
    let hours = ms as f64 / 3_600_000.0;
    match hours {
        _ if hours >= 24.0 * 365.25 => format!("{:.2} years", hours / (24.0 * 365.25)),
        _ if hours >= 48.0 => format!("{:.1} days", hours / 24.0),
        _ if hours >= 2.0 => format!("{hours:.1} hours"),
        _ if hours * 60.0 >= 2.0 => format!("{:.1} minutes", hours * 60.0),
        _ => format!("{:.1} seconds", ms as f64 / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Violation;
    use super::*;

    fn outcome(seed: u64, broken: Option<&str>) -> Outcome {
        Outcome {
            seed,
            hash: seed * 31,
            violation: broken.map(|what| Violation { at_ms: 1, what: what.into() }),
            virtual_ms: 1_000,
            faults: 2,
            orders: 1,
            inputs: 3,
            effects: 4,
            elections: 5,
            switches: 6,
            converged_ms: broken.is_none().then_some(seed * 10),
            writes_acked: 7,
            writes_lost: 1,
            ..Outcome::default()
        }
    }

    fn summary_of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Summary {
        let mut summary = Summary::default();
        outcomes.for_each(|outcome| summary.add(outcome));
        summary
    }

    #[test]
    fn a_summary_does_not_depend_on_the_order() {
        let rule = |seed: u64| format!("well within {seed} ms: it is not");
        let of = |seed| outcome(seed, (seed % 3 == 0).then(|| rule(seed)).as_deref());
        let outcomes: Vec<Outcome> = (1..=200).map(of).collect();
        let there = summary_of(outcomes.iter());
        let back = summary_of(outcomes.iter().rev());
        assert_eq!(format!("{there:?}"), format!("{back:?}"));
        assert_eq!((there.runs, there.broken, there.writes_acked), (200, 66, 1_400));
        let kept: Vec<u64> = there.failures.keys().copied().collect();
        assert_eq!(kept, (1..=FAILURES_MAX as u64).map(|n| n * 3).collect::<Vec<_>>());
        assert_eq!(there.rules, BTreeMap::from([("well within N ms".into(), (66, 3))]));
        assert_ne!(there.hash, summary_of(outcomes.iter().skip(1)).hash);
        let text = there.to_string();
        assert!(text.contains("66  well within N ms (first in seed 3)"), "{text}");
    }

    #[test]
    fn a_run_that_was_given_up_is_counted_as_such() {
        let given_up = Outcome { captured: true, converged_ms: None, ..outcome(1, None) };
        let text = summary_of([given_up].iter()).to_string();
        assert!(text.contains("1 run: a stranger was taken for an old master"), "{text}");
        assert!(!text.contains("never"), "{text}");
    }

    #[test]
    fn what_the_operator_did_is_counted_by_kind() {
        let helped = |seed, helps: &[Help]| Outcome {
            helps: helps.iter().copied().collect(),
            ..outcome(seed, None)
        };
        let of = |outcomes: &[Outcome]| summary_of(outcomes.iter()).to_string();
        let two = of(&[helped(1, &[Help::Reset, Help::Set]), helped(2, &[Help::Reset])]);
        assert!(two.contains("an operator had to, in 2 runs: RESET 2, SET 1\n"), "{two}");
        let none = of(&[outcome(1, None)]);
        assert!(none.contains("an operator had to, in 0 runs\n"), "{none}");
    }

    #[test]
    fn a_summary_explains_what_looks_bad_and_is_not() {
        let stuck = Outcome { converged_ms: None, ..outcome(1, None) };
        let text = summary_of([stuck].iter()).to_string();
        for part in [
            "7 confirmed, 1 of these lost (14.286 %: expected, replication is asynchronous)",
            "; 1 never (stock sentinels may stay stuck)\n",
            "broken        none",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let good = Outcome { writes_lost: 0, ..outcome(1, None) };
        let text = summary_of([good].iter()).to_string();
        assert!(text.contains("7 confirmed, 0 of these lost (0.000 %)\n"), "{text}");
        assert!(!text.contains("never"), "{text}");
    }

    #[test]
    fn swapped_fingerprints_make_another_hash() {
        let with = |hashes: [u64; 2]| {
            let of = |(seed, hash)| Outcome { hash, ..outcome(seed as u64, None) };
            let outcomes: Vec<Outcome> = hashes.into_iter().enumerate().map(of).collect();
            summary_of(outcomes.iter()).hash
        };
        assert_ne!(with([1, 2]), with([2, 1]));
    }

    #[test]
    fn shares_of_the_time_to_be_well() {
        let outcomes: Vec<Outcome> = (1..=1_000).map(|seed| outcome(seed, None)).collect();
        let summary = summary_of(outcomes.iter());
        let shares = [500, 990, 1_000].map(|share| summary.converged.quantile(share));
        assert_eq!(shares, [5_000, 9_900, 10_000]);
        assert_eq!(Summary::default().converged.quantile(500), 0);
    }

    #[test]
    fn threads_change_nothing_and_breaking_off_ends_it() {
        let options = Options { faults_ms: Some(2_000), ..Options::default() };
        let all = |jobs| {
            let mut heard = 0;
            let summary = sweep(3, 8, jobs, &options, |_, news| {
                heard += usize::from(matches!(news, News::Ended(_)));
                ControlFlow::Continue(())
            });
            assert_eq!(heard, 8);
            format!("{summary:?}")
        };
        assert_eq!(all(1), all(3));
        let summary = sweep(0, u64::MAX, 2, &options, |_, _| ControlFlow::Break(()));
        assert!(summary.runs < 10, "{} runs", summary.runs);
        assert!(summary.left_behind.is_empty(), "{summary:?}");
    }

    #[test]
    fn the_last_seed_of_all_is_one() {
        let mut seeds = BTreeSet::new();
        let live = |seed| Outcome { seed, ..Outcome::default() };
        let summary = sweep_with(u64::MAX - 2, 3, 2, PATIENCE, live, |_, news| {
            if let News::Ended(outcome) = news {
                seeds.insert(outcome.seed);
            }
            ControlFlow::Continue(())
        });
        assert_eq!(summary.runs, 3);
        assert_eq!(seeds, (u64::MAX - 2..=u64::MAX).collect());
    }

    #[test]
    fn a_run_that_never_ends_is_told_of_once_and_left_behind_when_broken_off() {
        // Seed 2 waits for what never comes while the test lasts.
        let (never, end) = std::sync::mpsc::channel::<()>();
        let end = Mutex::new(end);
        let live = move |seed| {
            if seed == 2 {
                let _ = end.lock().expect("nobody panics with it").recv();
            }
            outcome(seed, None)
        };
        let short = Duration::from_millis(50);
        let patience = Patience { to_tell: short, to_leave: short };
        let (mut endless, mut quiet) = (Vec::new(), 0);
        let summary = sweep_with(0, 6, 2, patience, live, |summary, news| {
            match news {
                News::Endless(seed) => endless.push(seed),
                News::Nothing if summary.runs == 5 => quiet += 1,
                _ => {}
            }
            if quiet < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!((endless, summary.runs, summary.left_behind), (vec![2], 5, vec![2]));
        drop(never);
    }

    #[test]
    #[should_panic(expected = "nobody can live it")]
    fn a_panic_of_a_thread_is_one_of_the_sweep() {
        let live = |_| -> Outcome { panic!("nobody can live it") };
        sweep_with(0, 1, 1, PATIENCE, live, |_, _| ControlFlow::Continue(()));
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let spans = [1_500, 600_000, 10_800_000, 259_200_000, 63_115_200_000].map(span);
        assert_eq!(spans, ["1.5 seconds", "10.0 minutes", "3.0 hours", "3.0 days", "2.00 years"]);
    }
}
