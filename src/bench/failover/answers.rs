//! What sentinels answer.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bench::wire::{Wire, within};
use crate::resp::Value;

/// Asks once, over a connection of its own.
pub(super) async fn ask_once(
    address: SocketAddr,
    words: &[impl AsRef<[u8]>],
    time: Duration,
) -> io::Result<Value> {
    let answer = async { Wire::open(address).await?.ask(words).await };
    within(time, answer).await
}

/// Where a sentinel says that the master is.
pub(super) fn master_address(answer: &Value) -> Option<SocketAddr> {
    let Value::Array(parts) = answer else { return None };
    let [host, port] = parts.as_slice() else { return None };
    Some(SocketAddr::new(host.text()?.parse().ok()?, port.text()?.parse().ok()?))
}

/// The fields of one instance, `name value name value ...`.
pub(super) fn fields(answer: &Value) -> Option<BTreeMap<&str, &str>> {
    let Value::Array(words) = answer else { return None };
    words.chunks(2).map(|pair| Some((pair.first()?.text()?, pair.get(1)?.text()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(words: &[&str]) -> Value {
        Value::Array(words.iter().map(Value::bulk).collect())
    }

    #[test]
    fn answers_of_sentinels() {
        let address = "127.0.0.1:7001".parse().ok();
        assert_eq!(master_address(&array(&["127.0.0.1", "7001"])), address);
        assert_eq!(master_address(&Value::NullArray), None);
        let answer = array(&["flags", "master", "quorum", "2"]);
        let expected = BTreeMap::from([("flags", "master"), ("quorum", "2")]);
        assert_eq!(fields(&answer), Some(expected));
        assert_eq!(fields(&array(&["flags"])), None);
    }
}
