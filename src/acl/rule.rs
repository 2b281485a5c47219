//! What can be wrong with a rule, and how the rules of a line are told apart.

/// A rule cannot be applied. Nothing is changed by it; the texts are Redis's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No command or category of this name.
    #[error("Unknown command or category name in ACL")]
    Unknown,
    /// No rule looks like this.
    #[error("Syntax error")]
    Syntax,
    /// A key pattern beside `~*`.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not \
         have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    AllKeys,
    /// A channel pattern beside `&*`.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does \
         not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    AllChannels,
    /// `<password` or `!hash`, but the user has no such password.
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    /// Not the SHA-256 of anything.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal \
         characters"
    )]
    BadHash,
    /// A user of this name stands above.
    #[error("Duplicate user found. A user can only be defined once in config files")]
    Duplicate,
    /// `+a|b|c`
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// Joins the words of selectors, which are written `(+ping ~a)` and thus come as several words.
///
/// # Errors
/// The number of the word that opens a selector which is never closed.
pub fn join_selectors<T: AsRef<[u8]>>(words: &[T]) -> Result<Vec<Vec<u8>>, usize> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open = None;
    for (at, word) in words.iter().map(AsRef::as_ref).enumerate() {
        let closes = word.ends_with(b")");
        match joined.last_mut() {
            Some(selector) if open.is_some() => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if closes {
                    open = None;
                }
            }
            _ => {
                joined.push(word.to_vec());
                if word.starts_with(b"(") && !closes {
                    open = Some(at);
                }
            }
        }
    }
    open.map_or(Ok(joined), Err)
}

/// Names and patterns stand between blanks in files.
pub(super) fn has_blanks(text: &[u8]) -> bool {
    // What C calls space, and the byte that ends its strings.
    text.iter().any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}
