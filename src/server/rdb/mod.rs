//! Redis's snapshot format (RDB): what a full resynchronisation carries. Pure: bytes in, items out,
//! and the reverse; both ways piece by piece, so that a snapshot is never in memory as a whole.
//!
//! A dump is `REDIS` with a four-digit version, then opcodes and keys, then the end mark and a
//! CRC64 of all before it. Strings only for now: [`RdbValue`] is where the other types will join.

mod read;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;

pub use read::Reader;
pub use write::{Position, Preamble, Writer};

/// The newest version that the reader takes: Redis 7.4's.
pub const NEWEST_VERSION: u32 = 12;
/// The version that the writer claims. What it writes was complete in Redis 5.0; so every server
/// from 5.0 on reads it.
pub const WRITTEN_VERSION: u32 = 9;

const MAGIC: &[u8] = b"REDIS";
/// The first version whose end is followed by a checksum.
const CHECKSUM_SINCE: u32 = 5;

/// The bytes that announce what comes next.
mod opcode {
    pub(super) const STRING: u8 = 0;
    pub(super) const SLOT_INFO: u8 = 0xf4;
    pub(super) const FUNCTION: u8 = 0xf5;
    pub(super) const FUNCTION_PRE_GA: u8 = 0xf6;
    pub(super) const MODULE_AUX: u8 = 0xf7;
    pub(super) const IDLE: u8 = 0xf8;
    pub(super) const FREQUENCY: u8 = 0xf9;
    pub(super) const AUX: u8 = 0xfa;
    pub(super) const RESIZE_DB: u8 = 0xfb;
    pub(super) const EXPIRE_MS: u8 = 0xfc;
    pub(super) const EXPIRE_S: u8 = 0xfd;
    pub(super) const SELECT_DB: u8 = 0xfe;
    pub(super) const END: u8 = 0xff;
}

/// One piece of a dump.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A fact about the dump, such as `repl-stream-db`; unknown ones mean nothing.
    Aux {
        /// Its name.
        key: Bytes,
        /// Its value as text.
        value: Bytes,
    },
    /// The keys that follow belong to this database.
    SelectDb(u32),
    /// How many keys the selected database holds: a hint, not to be trusted with memory.
    ResizeDb {
        /// All keys.
        keys: u64,
        /// Keys with an expiry time.
        expires: u64,
    },
    /// A key of the selected database. Key and value are copies of their own, fit to be kept.
    Key {
        /// Its name.
        key: Bytes,
        /// What it holds.
        value: RdbValue,
        /// When it expires, in ms of Unix time; it may have expired already.
        expire_at_ms: Option<u64>,
    },
    /// The source of a function library.
    Function(Bytes),
    /// The dump is whole. Bytes behind it belong to somebody else.
    End {
        /// `false` if the dump carries no checksum: old versions, and `rdbchecksum no`.
        checksum_verified: bool,
    },
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
pub enum RdbValue {
    /// A string, whichever way it was encoded.
    String(Bytes),
}

/// The dump cannot be used. What was read of it must be dropped: there is no telling what is
/// missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RdbError {
    /// It does not begin with `REDIS` and four digits.
    #[error("not an RDB dump: it begins with '{}'", .0.escape_ascii())]
    BadMagic(Vec<u8>),
    /// Written by a server that is too new.
    #[error(
        "Can't handle RDB format version {0}: versions 1 to {NEWEST_VERSION} are understood; the \
         server that wrote it is newer than this node"
    )]
    UnsupportedVersion(u32),
    /// A key of a type that this node does not store.
    #[error(
        "key '{}' holds a {type_name}, which this node cannot store: it knows strings only; \
         remove the key from the master, or use a Redis or Valkey server as replica", shown(.key)
    )]
    UnsupportedType {
        /// The key.
        key: Bytes,
        /// The type as the TYPE command names it, and `module value`.
        type_name: &'static str,
    },
    /// The bytes make no sense.
    #[error("corrupt RDB dump at byte {offset}: {what}")]
    Corrupt {
        /// Where the item in question begins, from the start of the dump.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The bytes ended before the dump did.
    #[error("the RDB dump ends at byte {0}, before its end mark")]
    Truncated(u64),
    /// The dump was damaged on its way, or on a disk.
    #[error("Wrong RDB checksum expected: ({expected:x}) but got ({found:x})")]
    Checksum {
        /// What the dump says.
        expected: u64,
        /// What its bytes give.
        found: u64,
    },
}

/// Enough of a key to find it by.
fn shown(key: &[u8]) -> String {
    const SHOWN: usize = 64;
    let dots = if key.len() > SHOWN { "..." } else { "" };
    format!("{}{dots}", key[..key.len().min(SHOWN)].escape_ascii())
}
