//! The hello line: how sentinels find each other and spread the newest configuration.

/// The channel on which sentinels say hello.
pub const CHANNEL: &str = "__sentinel__:hello";
