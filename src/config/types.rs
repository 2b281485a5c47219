//! Small types that configuration and the decision core share.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The largest epoch: far above all that elections can reach, and far below all that could
/// overflow.
pub const EPOCH_MAX: u64 = 1 << 62;

/// The id of a sentinel or the run id of a node: 40 lower-case hexadecimal digits.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Arc<str>);

impl RunId {
    /// Takes exactly 40 hexadecimal digits (upper case is folded); `None` for anything else.
    pub fn parse(text: &str) -> Option<RunId> {
        let good = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| RunId(text.to_ascii_lowercase().into()))
    }

    /// Builds an id from 20 bytes of a random source, which belongs to the caller.
    pub fn from_bytes(bytes: [u8; 20]) -> RunId {
        RunId(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into())
    }

    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, as Sentinel uses them in connection names.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl TryFrom<String> for RunId {
    type Error = String;
    fn try_from(text: String) -> Result<RunId, String> {
        RunId::parse(&text).ok_or_else(|| format!("'{text}' is not an id of 40 hexadecimal digits"))
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.as_str().to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.short())
    }
}

/// Where a node or a peer listens: an IP literal or a host name, and a port. IPv6 is kept bare,
/// without brackets, as Sentinel's hello carries it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// IP literal or host name.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

impl Address {
    /// An address from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        Address { host: host.into(), port }
    }
}

/// `host:port`, IPv6 in brackets: the form in which Sentinel names a replica.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A password. It has no `Display`, and its `Debug` hides it, so that it cannot reach a log by
/// accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The password in clear, for the wire and for the file that it came from.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}
