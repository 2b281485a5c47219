//! The fuzz targets without a fuzzer: each body runs over its seeds and over mutations of them.
//! libFuzzer finds more (`.ci/fuzz`); this holds what was found, on any toolchain.
//!
//! `WATCHFIRE_FUZZ=<n> cargo test --test fuzz -- --nocapture` plays the mutations of one number
//! again. `WATCHFIRE_FUZZ_SECONDS=<n>` looks on for so long in each target.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[path = "../fuzz/bodies/mod.rs"]
#[allow(unreachable_pub, reason = "it is the root of the fuzz crate as well")]
mod bodies;

/// The number whose mutations run every time.
const FIXED: u64 = 1;
/// Mutations of a fixed and of a fresh number, at most.
const MUTATIONS: usize = 2_000;
/// How long the mutations of one number may take, on a slow machine.
const SHARE: Duration = Duration::from_millis(1_500);
/// No input takes that long; a target that does hangs.
const HANG: Duration = Duration::from_secs(60);
/// Seeds stay small, so that mutations hit what matters, and few.
const SEED_BYTES_MAX: usize = 4096;
const SEEDS_MAX: usize = 32;

/// Longer than any seed, so that inputs can grow, but not without end.
const INPUT_BYTES_MAX: usize = 8192;

#[test]
fn resp_request() {
    run("resp_request");
}

#[test]
fn resp_reply() {
    run("resp_reply");
}

#[test]
fn requests() {
    run("requests");
}

#[test]
fn core_inputs() {
    run("core_inputs");
}

#[test]
fn info() {
    run("info");
}

#[test]
fn hello() {
    run("hello");
}

#[test]
fn yaml() {
    run("yaml");
}

#[test]
fn sentinel_conf() {
    run("sentinel_conf");
}

#[test]
fn state_file() {
    run("state_file");
}

#[test]
fn journal() {
    run("journal");
}

#[test]
fn rdb() {
    run("rdb");
}

#[test]
fn psync_reply() {
    run("psync_reply");
}

#[test]
fn every_target_has_its_test_its_program_and_its_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = include_str!("fuzz.rs");
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in bodies::TARGETS {
        assert!(here.contains(&format!("fn {name}() {{\n    run(\"{name}\");")), "{name}");
        assert!(manifest.contains(&format!("\"fuzz_targets/{name}.rs\"")), "{name}");
        let program = root.join(format!("fuzz/fuzz_targets/{name}.rs"));
        let program = std::fs::read_to_string(program).expect("its program");
        assert!(program.contains(&format!("\"{name}\"")), "{name}");
        let seeds = seeds(name);
        assert!((3..=SEEDS_MAX).contains(&seeds.len()), "{name} has {} seeds", seeds.len());
        for (file, seed) in seeds {
            assert!(seed.len() < SEED_BYTES_MAX, "{file}: {} bytes", seed.len());
        }
    }
}

/// The seeds of a target, by the names of their files.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).expect("the seeds of the target").flatten();
    let mut seeds: Vec<_> = files
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(file.path()).expect("a seed"))
        })
        .collect();
    seeds.sort();
    seeds
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Runs a target over its seeds and their mutations, and watches that it goes on.
fn run(target: &'static str) {
    let current = Arc::new(Mutex::new(Vec::new()));
    let (done, wait) = channel();
    let input = current.clone();
    let runner = std::thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run_all(target, &input)));
        // Nobody waits any more for one that has hung.
        let _ = done.send(());
        outcome
    });
    let limit = HANG + Duration::from_secs(number_from_env("WATCHFIRE_FUZZ_SECONDS").unwrap_or(0));
    let hung = wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
    if !hung && runner.join().is_ok_and(|outcome| outcome.is_ok()) {
        return;
    }
    let input = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let what = if hung { "hangs" } else { "fails" };
    panic!("{target} {what} on this input ({} bytes): {}", input.len(), input.escape_ascii());
}

fn run_all(target: &str, current: &Mutex<Vec<u8>>) {
    let seeds: Vec<Vec<u8>> = seeds(target).into_iter().map(|(_, seed)| seed).collect();
    let execute = |input: Vec<u8>| {
        *current.lock().expect("the watcher does not panic with it") = input.clone();
        bodies::run(target, &input);
    };
    let began = Instant::now();
    let mut count = seeds.len();
    seeds.iter().cloned().for_each(execute);
    execute(Vec::new());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let given = number_from_env("WATCHFIRE_FUZZ");
    let seconds = number_from_env("WATCHFIRE_FUZZ_SECONDS");
    let fresh = given.unwrap_or(now % 1_000_000_000);
    let share = seconds.map_or(SHARE, Duration::from_secs);
    for number in [FIXED, fresh] {
        let mut mutator = Mutator { state: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
        let end = Instant::now() + share;
        let mut made = 0;
        while (made < MUTATIONS || seconds.is_some()) && Instant::now() < end {
            execute(mutator.mutation(&seeds));
            made += 1;
        }
        count += made;
    }
    println!(
        "{target}: {} seeds, {count} executions in {:.1} s, fresh number {fresh}",
        seeds.len(),
        began.elapsed().as_secs_f64()
    );
}

/// Makes new inputs out of old ones; the same number makes the same ones.
struct Mutator {
    state: u64,
}

impl Mutator {
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % bound.max(1)
    }

    fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let other = &seeds[self.below(seeds.len())];
            self.mutate(&mut input, other);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    /// One change.
    fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len());
        match self.below(9) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = self.below(256) as u8,
            2 => input.insert(at, self.below(256) as u8),
            3 => input.truncate(at),
            4 => drop(input.drain(at..(at + 1 + self.below(12)).min(input.len()).max(at))),
            // The head of this one, the tail of another.
            5 => {
                input.truncate(at);
                input.extend_from_slice(&other[self.below(other.len())..]);
            }
            // A part of another, or of itself, put in.
            6 => {
                let from = if self.below(2) == 0 { other.to_vec() } else { input.clone() };
                let start = self.below(from.len());
                let end = (start + 1 + self.below(40)).min(from.len());
                drop(input.splice(at..at, from[start.min(end)..end].iter().copied()));
            }
            7 => self.change_number(input, at),
            _ => {
                const WORDS: &[&[u8]] =
                    &[b"\r\n", b"\0\0\0\0", b"\xff\xff\xff\xff", b" ", b"\"", b"-", b"$-1\r\n"];
                drop(input.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied()));
            }
        }
    }

    /// Another number in place of the first one behind `at`.
    fn change_number(&mut self, input: &mut Vec<u8>, at: usize) {
        const NUMBERS: &[&str] = &[
            "0",
            "-1",
            "1",
            "2",
            "65535",
            "65536",
            "2147483647",
            "2147483648",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "01",
            "1e9",
            "",
        ];
        let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else {
            return;
        };
        let length = input[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = NUMBERS[self.below(NUMBERS.len())].bytes();
        drop(input.splice(start..start + length, number));
    }
}
