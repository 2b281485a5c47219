//! The presentation for pipes, files and `--plain`: a log, each line with its time since the start
//! and, once there was a fault, its time since that.

use std::io::{self, Write};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::model::{Line, Model};

/// Prints what is said on the board, until told to `stop` and all is printed. Blocks when the
/// reader of the output does; to be run on a thread of its own.
///
/// # Errors
/// When the output is closed.
pub(super) async fn print(
    mut board: watch::Receiver<Model>,
    stop: CancellationToken,
    mut out: impl Write,
) -> io::Result<()> {
    let mut printed = 0;
    loop {
        // Read first: what is said before the stop must be printed.
        let is_last = stop.is_cancelled();
        let (text, next) = {
            let model = board.borrow_and_update();
            let (lines, next) = model.lines_from(printed);
            (lines.map(show).collect::<String>(), next)
        };
        printed = next;
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if is_last {
            return Ok(());
        }
        tokio::select! {
            changed = board.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => {}
        }
    }
}

fn show(line: &Line) -> String {
    let at = line.at.as_secs_f64();
    let after = line.after_fault.map_or(String::new(), |d| format!("+{:.3}", d.as_secs_f64()));
    let indent = if line.is_event { "  " } else { "" };
    format!("{at:8.3}  {after:>8}  {indent}{}\n", line.text)
}

#[cfg(test)]
mod tests {
    use super::super::model::{Event, healthy_model};
    use super::*;

    #[tokio::test]
    async fn everything_said_before_the_stop_is_printed_once() {
        let board = watch::Sender::new(healthy_model());
        let stop = CancellationToken::new();
        board.send_modify(|model| model.say("one"));
        let mut out = Vec::new();
        let printer = print(board.subscribe(), stop.clone(), &mut out);
        let talk = async {
            tokio::task::yield_now().await;
            let at = std::time::Instant::now();
            let (name, payload) = ("+sdown".to_string(), "master demo 127.0.0.1 7001".to_string());
            board.send_modify(|model| model.hear(Event { at, sentinel: 1, name, payload }));
            board.send_modify(|model| model.say("two"));
            stop.cancel();
        };
        let (printed, ()) = tokio::join!(printer, talk);
        printed.expect("a Vec takes everything");
        let text = String::from_utf8(out).expect("text");
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().skip(1).collect()).collect();
        assert_eq!(
            words,
            [vec!["one"], vec!["sentinel-2", "+sdown", "master", "demo", "node-1"], vec!["two"]]
        );
    }
}
