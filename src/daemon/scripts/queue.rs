//! Which script runs next, which has run for too long, and what becomes of one that failed:
//! decisions only, told the time. The rules are Redis's.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use crate::sentinel::ScriptTimes;

/// Scripts that may wait or run; for one more the oldest that waits is dropped.
pub(super) const QUEUE_MAX: usize = 256;
/// Scripts that may run at once.
pub(super) const RUNNING_MAX: usize = 16;
/// Attempts that a script has.
pub(super) const ATTEMPTS_MAX: u32 = 10;
/// The exit code with which a script asks for another attempt.
const TRY_AGAIN: i32 = 1;
/// What stands for a signal where no process could be made.
const NO_PROCESS: i32 = 99;

/// Names a job; never used twice.
pub(super) type JobId = u64;

/// A script to be run, and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) script: PathBuf,
    pub(super) args: Vec<String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With an exit code; 2 if it cannot be executed.
    Exit(i32),
    /// By a signal, ours or another.
    Signal(i32),
    /// The system had no room for another process.
    NoProcess,
}

/// What `-script-error` tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) script: PathBuf,
    pub(super) signal: i32,
    pub(super) code: i32,
}

/// One script as `SENTINEL PENDING-SCRIPTS` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The script's path and its arguments.
    pub argv: Vec<String>,
    /// True while it runs.
    pub running: bool,
    /// Its process; 0 if there is none.
    pub pid: u32,
    /// For how long it has run or, if it does not, how long it will still wait, in ms.
    pub ms: u64,
    /// Attempts so far, the present one included.
    pub attempts: u32,
}

#[derive(Debug)]
enum State {
    Waiting { until_ms: u64 },
    Running { since_ms: u64, pid: Option<u32>, overdue: bool },
}

#[derive(Debug)]
struct Job {
    id: JobId,
    call: Arc<Call>,
    attempts: u32,
    state: State,
}

impl Job {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

/// All scripts that wait or run, the oldest first. Times are those of one clock that never goes
/// back, in ms.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    running: usize,
    last_id: JobId,
    pub(super) times: ScriptTimes,
}

impl Queue {
    /// Adds a script behind all others. Returns the one that had to go for it.
    pub(super) fn push(&mut self, call: Call) -> Option<Arc<Call>> {
        self.last_id += 1;
        let state = State::Waiting { until_ms: 0 };
        self.jobs.push_back(Job { id: self.last_id, call: Arc::new(call), attempts: 0, state });
        if self.jobs.len() <= QUEUE_MAX {
            return None;
        }
        let oldest = self.jobs.iter().position(|job| !job.is_running())?;
        self.jobs.remove(oldest).map(|job| job.call)
    }

    /// The next script that is to be started now; it counts as running.
    pub(super) fn start(&mut self, now_ms: u64) -> Option<(JobId, Arc<Call>)> {
        if self.running >= RUNNING_MAX {
            return None;
        }
        let due =
            |job: &&mut Job| matches!(job.state, State::Waiting { until_ms } if until_ms <= now_ms);
        let job = self.jobs.iter_mut().find(due)?;
        job.attempts += 1;
        job.state = State::Running { since_ms: now_ms, pid: None, overdue: false };
        self.running += 1;
        Some((job.id, job.call.clone()))
    }

    /// A script that was started has this process.
    pub(super) fn started(&mut self, id: JobId, process: u32) {
        if let Some(Job { state: State::Running { pid, .. }, .. }) = self.find(id) {
            *pid = Some(process);
        }
    }

    /// The scripts that have run for too long and are to be killed; each is named once.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Vec<JobId> {
        let max_ms = self.times.max_runtime_ms;
        let mut found = Vec::new();
        for job in &mut self.jobs {
            if let State::Running { since_ms, overdue: overdue @ false, .. } = &mut job.state
                && now_ms.saturating_sub(*since_ms) > max_ms
            {
                *overdue = true;
                found.push(job.id);
            }
        }
        found
    }

    /// An attempt is over: the script is done, waits for another attempt, or is given up. Returns
    /// what is to be announced.
    pub(super) fn ended(&mut self, id: JobId, end: End, now_ms: u64) -> Option<Failure> {
        let retry_delay_ms = self.times.retry_delay_ms;
        let at = self.jobs.iter().position(|job| job.id == id && job.is_running())?;
        self.running -= 1;
        let job = &mut self.jobs[at];
        let again = match end {
            End::Exit(code) => code == TRY_AGAIN,
            End::Signal(_) | End::NoProcess => true,
        };
        let (signal, code) = match end {
            End::Exit(code) => (0, code),
            End::Signal(signal) => (signal, 0),
            End::NoProcess => (NO_PROCESS, 0),
        };
        let failure = || Failure { script: job.call.script.clone(), signal, code };
        if again && job.attempts < ATTEMPTS_MAX {
            // That the system refuses is told at once, as Redis does.
            let failure = (end == End::NoProcess).then(failure);
            let delay_ms = retry_delay_ms.saturating_mul(1 << (job.attempts - 1));
            job.state = State::Waiting { until_ms: now_ms.saturating_add(delay_ms) };
            return failure;
        }
        let failure = (end != End::Exit(0)).then(failure);
        self.jobs.remove(at);
        failure
    }

    /// When there is something to do again if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<u64> {
        let room = self.running < RUNNING_MAX;
        let times = self.jobs.iter().filter_map(|job| match job.state {
            State::Waiting { until_ms } => room.then_some(until_ms),
            State::Running { overdue: true, .. } => None,
            State::Running { since_ms, .. } => {
                Some(since_ms.saturating_add(self.times.max_runtime_ms).saturating_add(1))
            }
        });
        times.min()
    }

    /// How many run, and how many wait or run.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.running, self.jobs.len())
    }

    /// The processes of all scripts that run; `None` while one is being made.
    pub(super) fn processes(&self) -> Option<Vec<u32>> {
        let running = self.jobs.iter().filter_map(|job| match job.state {
            State::Waiting { .. } => None,
            State::Running { pid, .. } => Some(pid),
        });
        running.collect()
    }

    /// All scripts, the oldest first.
    pub(super) fn pending(&self, now_ms: u64) -> Vec<Pending> {
        let shown = |job: &Job| {
            let (pid, ms) = match job.state {
                State::Waiting { until_ms } => (None, until_ms.saturating_sub(now_ms)),
                State::Running { since_ms, pid, .. } => (pid, now_ms.saturating_sub(since_ms)),
            };
            let path = job.call.script.to_string_lossy().into_owned();
            Pending {
                argv: std::iter::once(path).chain(job.call.args.iter().cloned()).collect(),
                running: job.is_running(),
                pid: pid.unwrap_or(0),
                ms,
                attempts: job.attempts,
            }
        };
        self.jobs.iter().map(shown).collect()
    }

    fn find(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn call(name: &str) -> Call {
        Call { script: "/s".into(), args: vec![name.into()] }
    }

    /// A queue of `count` scripts named from 0 on.
    fn filled(count: usize) -> Queue {
        let mut queue = Queue::default();
        for n in 0..count {
            assert_eq!(queue.push(call(&n.to_string())), None);
        }
        queue
    }

    /// Everything that may start now.
    fn start_all(queue: &mut Queue, now_ms: u64) -> Vec<(JobId, String)> {
        let started = std::iter::from_fn(|| queue.start(now_ms));
        started.map(|(id, call)| (id, call.args[0].clone())).collect()
    }

    fn names(started: &[(JobId, String)]) -> Vec<&str> {
        started.iter().map(|(_, name)| name.as_str()).collect()
    }

    fn failure(signal: i32, code: i32) -> Option<Failure> {
        Some(Failure { script: "/s".into(), signal, code })
    }

    #[test]
    fn first_come_first_run_and_sixteen_at_once() {
        let mut queue = filled(18);
        let started = start_all(&mut queue, 0);
        let first: Vec<String> = (0..16).map(|n| n.to_string()).collect();
        assert_eq!(names(&started), first);
        assert_eq!(queue.counts(), (16, 18));
        // No slot is free: nothing to wake up for but the time limit.
        assert_eq!(queue.wake_at(), Some(60_001));
        assert_eq!(queue.ended(started[3].0, End::Exit(0), 5), None);
        assert_eq!(names(&start_all(&mut queue, 5)), ["16"]);
        assert_eq!(queue.counts(), (16, 17));
    }

    #[test]
    fn when_it_is_full_the_oldest_that_does_not_run_goes() {
        let mut queue = filled(QUEUE_MAX);
        start_all(&mut queue, 0);
        let mut dropped = Vec::new();
        for n in QUEUE_MAX..QUEUE_MAX + 3 {
            dropped.extend(queue.push(call(&n.to_string())).map(|call| call.args[0].clone()));
        }
        assert_eq!(dropped, ["16", "17", "18"]);
        assert_eq!(queue.counts(), (RUNNING_MAX, QUEUE_MAX));
        let left = queue.pending(0);
        assert_eq!(
            (&*left[0].argv[1], &*left[16].argv[1], &*left[255].argv[1]),
            ("0", "19", "258")
        );
    }

    #[test]
    fn exit_code_one_and_signals_are_tried_again_after_a_pause_that_doubles() {
        for (end, last) in [(End::Exit(1), failure(0, 1)), (End::Signal(9), failure(9, 0))] {
            let mut queue = filled(1);
            let mut now_ms = 7;
            for attempt in 1..=ATTEMPTS_MAX {
                let (id, _) = queue.start(now_ms).expect("it is due");
                now_ms += 3;
                let failure = queue.ended(id, end, now_ms);
                if attempt == ATTEMPTS_MAX {
                    assert_eq!(failure, last);
                    continue;
                }
                assert_eq!(failure, None, "attempt {attempt}");
                let pause_ms = 30_000 << (attempt - 1);
                assert_eq!(queue.pending(now_ms)[0].ms, pause_ms);
                assert_eq!(queue.wake_at(), Some(now_ms + pause_ms));
                assert_eq!(queue.start(now_ms + pause_ms - 1), None);
                now_ms += pause_ms;
            }
            assert_eq!(queue.counts(), (0, 0));
            assert_eq!(queue.wake_at(), None);
        }
    }

    #[test]
    fn other_exit_codes_end_it() {
        for (code, expected) in [(0, None), (2, failure(0, 2)), (255, failure(0, 255))] {
            let mut queue = filled(1);
            let (id, _) = queue.start(0).expect("due");
            assert_eq!(queue.ended(id, End::Exit(code), 1), expected);
            assert_eq!(queue.counts(), (0, 0));
            assert_eq!(queue.ended(id, End::Exit(code), 1), None, "it is gone");
        }
    }

    #[test]
    fn a_system_without_room_for_a_process_is_told_and_tried_again() {
        let mut queue = filled(1);
        for attempt in 1..=ATTEMPTS_MAX {
            let (id, _) = queue.start(DAY_MS * u64::from(attempt)).expect("due");
            let ended = queue.ended(id, End::NoProcess, DAY_MS * u64::from(attempt));
            assert_eq!(ended, failure(99, 0));
        }
        assert_eq!(queue.counts(), (0, 0));
    }

    #[test]
    fn one_that_waits_for_another_attempt_holds_nobody_up() {
        let mut queue = filled(2);
        let (first, _) = queue.start(0).expect("due");
        queue.ended(first, End::Exit(1), 0);
        assert_eq!(names(&start_all(&mut queue, 0)), ["1"]);
        // It has kept its place: it comes before those that were added since.
        queue.push(call("2"));
        assert_eq!(names(&start_all(&mut queue, 30_000)), ["0", "2"]);
    }

    #[test]
    fn who_runs_for_too_long_is_named_once() {
        let mut queue = filled(2);
        let (first, _) = queue.start(100).expect("due");
        let (second, _) = queue.start(200).expect("due");
        queue.started(first, 4711);
        assert_eq!(queue.wake_at(), Some(60_101));
        assert!(queue.overdue(60_100).is_empty());
        assert_eq!(queue.overdue(60_101), [first]);
        assert!(queue.overdue(60_150).is_empty());
        assert_eq!(queue.wake_at(), Some(60_201));
        queue.times.max_runtime_ms = 10;
        assert_eq!(queue.overdue(60_151), [second], "the limit is the one in force now");
        assert_eq!(queue.ended(first, End::Signal(9), 60_152), None, "another attempt");
        assert_eq!(queue.pending(60_152)[0].attempts, 1);
    }

    #[test]
    fn absurd_times_overflow_nothing() {
        let mut queue = filled(1);
        queue.times = ScriptTimes { max_runtime_ms: u64::MAX, retry_delay_ms: u64::MAX };
        let (id, _) = queue.start(5).expect("due");
        assert_eq!(queue.wake_at(), Some(u64::MAX));
        assert!(queue.overdue(DAY_MS).is_empty());
        assert_eq!(queue.ended(id, End::Exit(1), DAY_MS), None);
        assert_eq!(queue.start(DAY_MS), None);
    }

    #[test]
    fn what_waits_and_runs_is_shown() {
        let mut queue = filled(2);
        let (id, _) = queue.start(10).expect("due");
        queue.started(id, 4711);
        let argv = |name: &str| vec!["/s".to_owned(), name.to_owned()];
        let expected = [
            Pending { argv: argv("0"), running: true, pid: 4711, ms: 5, attempts: 1 },
            Pending { argv: argv("1"), running: false, pid: 0, ms: 0, attempts: 0 },
        ];
        assert_eq!(queue.pending(15), expected);
        assert_eq!(queue.processes(), Some(vec![4711]));
        queue.start(15).expect("due");
        assert_eq!(queue.processes(), None, "the second has no process yet");
        queue.ended(id, End::Exit(1), 20);
        let waits = Pending { argv: argv("0"), running: false, pid: 0, ms: 29_999, attempts: 1 };
        assert_eq!(queue.pending(21)[0], waits);
    }
}
