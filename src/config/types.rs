//! Small types that configuration and the decision core share.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bytes;

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
/// without brackets, as Sentinel's hello carries it, and in its one canonical form: the same
/// address can be written in many ways, and is compared as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "AsWritten")]
pub struct Address {
    /// IP literal or host name.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

impl Address {
    /// An address from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        Address { host: canonical(host.into()), port }
    }
}

/// The text of an IPv6 address in the form of RFC 5952 (one that stands for an IPv4 address becomes
/// that); everything else as it is.
pub fn canonical(host: String) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => host,
    }
}

/// An address as a state file holds it.
#[derive(Deserialize)]
struct AsWritten {
    host: String,
    port: u16,
}

impl From<AsWritten> for Address {
    fn from(written: AsWritten) -> Address {
        Address::new(written.host, written.port)
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

/// A password: any bytes, kept as text. It has no `Display`, and its `Debug` hides it, so that it
/// cannot reach a log by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The password in clear, for the file that it came from: as [`bytes::decode`] has it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The password in clear, for the wire.
    pub fn bytes(&self) -> Vec<u8> {
        bytes::encode(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_text_however_it_is_written() {
        for (written, shown) in [
            ("2001:DB8:0::5", "[2001:db8::5]:1"),
            ("2001:0db8:0000:0000:0000:0000:0000:0005", "[2001:db8::5]:1"),
            ("::ffff:10.0.0.1", "10.0.0.1:1"),
            ("10.0.0.1", "10.0.0.1:1"),
            ("Redis-0.Example", "Redis-0.Example:1"),
            ("fe80::1%eth0", "[fe80::1%eth0]:1"),
        ] {
            assert_eq!(Address::new(written, 1).to_string(), shown);
            let stored = format!(r#"{{"host":"{written}","port":1}}"#);
            let read: Address = serde_json::from_str(&stored).expect("an address");
            assert_eq!(read.to_string(), shown);
        }
    }
}
