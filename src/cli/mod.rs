//! The command line: which subcommand is meant, also when the program was started under one of
//! Redis's own names. One file per subcommand.

mod bench;
mod check;
mod demo;
mod process;
mod sentinel;
mod server;
mod sim;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps Redis and Valkey available: failover, agreed by majority and explained.
#[derive(Debug, Parser)]
#[command(name = "watchfire", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sentinel(sentinel::Args),
    Server(server::Args),
    Demo(demo::Args),
    Check(check::Args),
    Sim(sim::Args),
    Bench(bench::Args),
}

/// Runs the program. `argv` includes the program's name, by which a symlink called
/// `redis-sentinel`, `valkey-sentinel`, `redis-server` or `valkey-server` chooses its subcommand.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(as_subcommand(argv.into_iter().collect()));
    match cli.command {
        Command::Sentinel(args) => sentinel::run(args),
        Command::Server(args) => server::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

/// Says what is wrong on standard error; if nobody can read that, the exit code still tells.
fn complain(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Rewrites `redis-sentinel FILE ...` to `watchfire sentinel FILE ...`, and `redis-server FILE
/// --sentinel` likewise.
fn as_subcommand(mut argv: Vec<OsString>) -> Vec<OsString> {
    let name = argv.first().and_then(|a| Path::new(a).file_name()).and_then(|n| n.to_str());
    let subcommand = match name {
        Some(n) if n.contains("redis-sentinel") || n.contains("valkey-sentinel") => "sentinel",
        Some(n) if n.contains("redis-server") || n.contains("valkey-server") => {
            // Redis knows `--sentinel` as a mode; `--sentinel monitor ...` is a directive of that
            // mode.
            match argv.iter().position(|a| a == "--sentinel") {
                Some(at) => {
                    let is_mode = argv
                        .get(at + 1)
                        .is_none_or(|next| next.to_string_lossy().starts_with("--"));
                    if is_mode {
                        argv.remove(at);
                    }
                    "sentinel"
                }
                None => "server",
            }
        }
        _ => return argv,
    };
    argv.splice(0..1, ["watchfire".into(), subcommand.into()]);
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn names_of_redis_choose_the_subcommand() {
        for (typed, meant) in [
            ("/usr/bin/redis-sentinel a.conf", "watchfire sentinel a.conf"),
            ("valkey-sentinel a.conf --port 1", "watchfire sentinel a.conf --port 1"),
            ("redis-server a.conf --sentinel", "watchfire sentinel a.conf"),
            ("redis-server --port 7000", "watchfire server --port 7000"),
            ("valkey-server", "watchfire server"),
            ("watchfire demo", "watchfire demo"),
        ] {
            assert_eq!(as_subcommand(words(typed)), words(meant));
        }
    }
}
