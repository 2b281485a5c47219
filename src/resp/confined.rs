//! What RESP2 leaves to a connection that is subscribed: each reply could be taken for a message.

/// The commands that it may still give.
const LEFT: [&str; 7] =
    ["subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ping", "quit", "reset"];

/// Whether it may still give `command`, named without its subcommand, in lower case.
pub fn is_left(command: &str) -> bool {
    LEFT.contains(&command)
}

/// Redis's words for any other; `name` as Redis shows it, with its subcommand.
pub fn refusal(name: &str) -> String {
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context"
    )
}
