//! `watchfire bench scale`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::bench::scale::{self, Fault, Program};

/// Measure what many groups cost, and how fast they fail over at once
///
/// One sentinel watches groups of three nodes: how long it takes to know them, what it uses while
/// nothing happens, how soon it answers (--groups). Three sentinels meet, and all masters hang at
/// once (--mass), or nothing happens and no core is free (--saturate). What is named is measured,
/// else both of the first. Needs up to 20,000 open files, and redis-benchmark for a part.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One sentinel with so many groups [default: 100,1000,3000]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = number)]
    groups: Vec<usize>,

    /// Three sentinels with so many groups, of which all masters fail [default: 100,300,1000]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = number)]
    mass: Vec<usize>,

    /// How they fail: they answer no more, or their connections end, too
    #[arg(long, value_delimiter = ',', default_values = ["hang", "close"], value_parser = fault)]
    faults: Vec<Fault>,

    /// Three sentinels on a busy machine for so long, with the most groups of --mass or 1000
    #[arg(long, value_name = "SECONDS")]
    saturate: Option<u64>,

    /// Measure this program alone
    #[arg(long)]
    only: Option<Only>,

    /// Do everything so often; the table shows medians and maxima
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// How long to wait for a sentinel to start, or for groups to fail over
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    patience: Duration,

    /// Also write each row of the table as a line of JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Also draw the table
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Most groups.
const GROUPS_MAX: usize = 20_000;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Only {
    Redis,
    Watchfire,
}

pub(super) fn run(args: Args) -> ExitCode {
    scale::run(&options(args))
}

/// So many groups, each of which has ports of its own.
fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=GROUPS_MAX) => Ok(number),
        _ => Err(format!("must be a number of groups, from 1 to {GROUPS_MAX}")),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn fault(text: &str) -> Result<Fault, String> {
    match text {
        "hang" => Ok(Fault::Hang),
        "close" => Ok(Fault::Close),
        _ => Err("must be hang or close".into()),
    }
}

fn options(args: Args) -> scale::Options {
    let Args { mut groups, mut mass, faults, saturate, only, rounds, patience, json, svg } = args;
    let programs = match only {
        None => vec![Program::Redis, Program::Watchfire],
        Some(Only::Redis) => vec![Program::Redis],
        Some(Only::Watchfire) => vec![Program::Watchfire],
    };
    let most = mass.iter().copied().max().unwrap_or(1000);
    let busy = saturate.map(|seconds| (most, Duration::from_secs(seconds)));
    if groups.is_empty() && mass.is_empty() && busy.is_none() {
        groups = vec![100, 1000, 3000];
        mass = vec![100, 300, 1000];
    }
    let rounds = rounds.into();
    scale::Options { programs, alone: groups, mass, faults, busy, rounds, patience, json, svg }
}
