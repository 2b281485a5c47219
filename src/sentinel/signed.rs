//! Hellos that only holders of a shared secret can say (our own addition; stock sentinels take no
//! notice of what has not eight fields).
//!
//! `signed,<mac>,<counter>,<hello>`: the mac is HMAC-SHA256 over `<counter>,<hello>` in hexadecimal
//! digits. The counter grows with every hello that a sentinel says of a group, and begins at the
//! wall clock, so that it grows over restarts, too: what was said once cannot be said again later
//! by somebody who only listened.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::types::Secret;

/// The first field.
const WORD: &str = "signed";
/// How far the counter of somebody whom we do not know yet may lie from our own clock, in ms: what
/// a sentinel that is gone said long ago brings it back to no one.
pub(super) const NEWCOMER_CLOCK_MS: u64 = 10 * 60 * 1_000;

/// What a payload is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// Nobody signed it.
    Plain,
    /// Signed by a holder of the secret.
    Signed { counter: u64, payload: &'a str },
    /// It says that it is signed, and is not, or not with our secret.
    Forged,
}

/// Signs a hello.
pub(super) fn sign(key: &Secret, counter: u64, payload: &str) -> String {
    let text = format!("{counter},{payload}");
    let mac = mac(key, &text).finalize().into_bytes();
    format!("{WORD},{mac:x},{text}")
}

/// Looks whether a payload is signed, and by whom.
pub(super) fn read<'a>(key: &Secret, payload: &'a str) -> Heard<'a> {
    let Some((WORD, rest)) = payload.split_once(',') else { return Heard::Plain };
    let signed = || {
        let (digits, text) = rest.split_once(',')?;
        mac(key, text).verify_slice(&bytes(digits)?).ok()?;
        let (counter, payload) = text.split_once(',')?;
        Some(Heard::Signed { counter: counter.parse().ok()?, payload })
    };
    signed().unwrap_or(Heard::Forged)
}

/// True for what says that it is signed.
pub(super) fn is_signed(payload: &str) -> bool {
    payload.split_once(',').is_some_and(|(word, _)| word == WORD)
}

/// The hello in a payload, whether or not it is signed, and by whomever.
pub(super) fn inner(payload: &str) -> &str {
    match payload.split_once(',') {
        Some((WORD, rest)) => rest.splitn(3, ',').nth(2).unwrap_or_default(),
        _ => payload,
    }
}

fn mac(key: &Secret, text: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.bytes())
        .unwrap_or_else(|_| unreachable!("a key of any length is taken"));
    mac.update(text.as_bytes());
    mac
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_read_by_holders_of_the_secret_only() {
        let (key, other) = (Secret::new("between us"), Secret::new("between them"));
        let signed = sign(&key, 7, "a,b,c");
        assert_eq!(read(&key, &signed), Heard::Signed { counter: 7, payload: "a,b,c" });
        assert_eq!(read(&other, &signed), Heard::Forged);
        assert_eq!(read(&key, "a,b,c"), Heard::Plain);
        assert_eq!((inner(&signed), inner("a,b,c")), ("a,b,c", "a,b,c"));
        for wrong in [
            signed.replace(",7,", ",8,"),
            signed.replace("a,b", "a,d"),
            signed.replacen(',', ",0", 1),
            "signed,,7,a".into(),
            "signed".into(),
            "signed,zz,7,a,b,c".into(),
            "signed,\u{e9}\u{e9},7,a,b,c".into(),
        ] {
            assert_ne!(read(&key, &wrong), Heard::Signed { counter: 7, payload: "a,b,c" });
            assert!(!matches!(read(&key, &wrong), Heard::Signed { .. }), "{wrong}");
        }
    }

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        let text = "what do ya want for nothing?";
        let mac = mac(&Secret::new("Jefe"), text).finalize().into_bytes();
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
