//! `watchfire sim`: lives simulated runs, each replayable from its seed.

use std::process::ExitCode;

use crate::sim::{Options, Plan, Telling, run};

/// Simulates failures around the shipped decision core, one replayable run per seed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Lives so many runs.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    #[arg(long, default_value_t = 0)]
    from: u64,
    #[arg(long)]
    verbose: bool,
    #[arg(long)]
    stock: bool,
}

pub(super) fn run_(args: Args) -> ExitCode {
    let t = std::time::Instant::now();
    let (mut ms, mut inputs, mut effects) = (0, 0, 0);
    let options = Options { stock: args.stock, ..Options::default() };
    let telling = if args.verbose { Telling::Print } else { Telling::Silent };
    for seed in args.from..args.from + args.seeds {
        let o = run(&Plan::draw(seed, &options), telling);
        if o.violation.is_some() { println!("{o}"); }
        ms += o.virtual_ms; inputs += o.inputs; effects += o.effects;
    }
    let s = t.elapsed().as_secs_f64();
    println!("{} seeds {:.1}/s virtual {} s, x{:.0} inputs {} effects {}", args.seeds, args.seeds as f64 / s, ms / 1000, ms as f64 / 1000.0 / s, inputs, effects);
    ExitCode::SUCCESS
}
