//! The group left running, with faults on request.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::failure::Failure;
use super::model::{Board, Run, Who};
use super::story::{Group, begin_failover, note_return};
use super::verdict::{Keys, timeline};
use super::writer::{Writer, read_back};

/// What the person at the keyboard wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// `kill -9`
    Kill(Who),
    /// SIGSTOP, or SIGCONT if it is frozen.
    Freeze(Who),
    /// Cut a node off, or heal the cut.
    Cut(Who),
    /// Start it, after a `kill -9` if it runs.
    Restart(Who),
    Quit,
    /// Ctrl-C
    Interrupt,
}

/// How often children are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const SIGINT: u8 = 2;

/// Obeys until it is told to quit; returns what is left to say.
pub(super) async fn obey(
    group: &mut Group,
    board: &Board,
    commands: &mut mpsc::Receiver<Command>,
) -> Result<String, Failure> {
    let writer = Writer::start(group.cluster.sentinel_ports(), board.clone());
    board.send_modify(|model| model.status = "all is up: do your worst".into());
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = tick.tick() => {
                if let Some(death) = group.cluster.death() {
                    let text = death.to_string();
                    board.send_modify(|model| model.say(text.lines().next().unwrap_or_default()));
                }
                note_return(board);
                continue;
            }
        };
        match command {
            None | Some(Command::Quit) => break,
            Some(Command::Interrupt) => return Err(Failure::Interrupted(SIGINT)),
            Some(command) => do_fault(group, board, command).await?,
        }
    }
    board.send_modify(|model| model.status = "reading all keys back".into());
    Ok(last_words(board, writer).await)
}

async fn do_fault(group: &mut Group, board: &Board, command: Command) -> Result<(), Failure> {
    let say = |text: String| board.send_modify(|model| model.say(text));
    match command {
        Command::Kill(who) if run_of(board, who) == Run::Dead => say(format!("{who} is dead")),
        Command::Kill(who) => {
            announce(board, "kill -9", who);
            group.cluster.kill(who).await;
        }
        Command::Freeze(who) => match run_of(board, who) {
            Run::Dead => say(format!("{who} does not run")),
            Run::Frozen => {
                say(format!("thaw of {who} (SIGCONT)"));
                group.cluster.freeze(who, false);
            }
            Run::Running => {
                announce(board, "freeze (SIGSTOP)", who);
                group.cluster.freeze(who, true);
            }
        },
        Command::Cut(Who::Sentinel(_)) => say("only data nodes can be cut off".into()),
        Command::Cut(who @ Who::Node(at)) => {
            let is_cut = board.borrow().nodes[at].cut;
            match is_cut {
                true => say(format!("{who} is connected again")),
                false => announce(board, "partition", who),
            }
            group.cluster.cut(at, !is_cut);
        }
        Command::Restart(who) => {
            if run_of(board, who) != Run::Dead {
                announce(board, "kill -9 and restart", who);
                group.cluster.kill(who).await;
            }
            group.cluster.start(who)?;
        }
        Command::Quit | Command::Interrupt => {}
    }
    Ok(())
}

/// Says what is done; a fault of the master begins a new timeline.
fn announce(board: &Board, fault: &str, who: Who) {
    let master = board.borrow().named_master();
    match who {
        Who::Node(at) if Some(at) == master => begin_failover(board, fault, at),
        _ => board.send_modify(|model| model.say(format!("{fault} of {who}"))),
    }
}

fn run_of(board: &Board, who: Who) -> Run {
    let model = board.borrow();
    match who {
        Who::Node(at) => model.nodes[at].run,
        Who::Sentinel(at) => model.sentinels[at].run,
    }
}

/// The last timeline, and what became of the keys if a master can be asked.
async fn last_words(board: &Board, writer: Writer) -> String {
    let mut text = board.borrow().failover.as_ref().map(timeline).unwrap_or_default();
    let ledger = writer.stop().await.unwrap_or_default();
    let master = board.borrow().named_master().map(|at| board.borrow().nodes[at].port);
    let found = match master {
        Some(port) => read_back(port, ledger.keys.len()).await.ok(),
        None => None,
    };
    match found {
        Some(found) => text.push_str(&format!("Keys\n{}", Keys::tally(&ledger, &found).report())),
        None => text.push_str("Keys: no master answers, so they cannot be read back.\n"),
    }
    text
}
