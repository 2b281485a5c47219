//! Any bytes as text, and back. Files are UTF-8; but a comment may be older than that, and Redis
//! takes any bytes for a password: neither may be lost.

/// Bytes that are no UTF-8 stand in a text as characters from here on, which nobody uses.
const RAW: u32 = 0x10_ff00;

/// These bytes as text. Different bytes give different texts: characters that stand for bytes are
/// themselves taken for the bytes that they are made of.
pub fn decode(bytes: &[u8]) -> String {
    if !begins_raw(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match raw(c) {
                Some(_) => text.extend(c.encode_utf8(&mut [0; 4]).bytes().filter_map(stand_in)),
                None => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().copied().filter_map(stand_in));
    }
    text
}

/// The bytes of a text that comes from [`decode`].
pub fn encode(text: &str) -> Vec<u8> {
    if !begins_raw(text.as_bytes()) {
        return text.as_bytes().to_vec();
    }
    let mut bytes = Vec::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut bytes, c));
    bytes
}

/// Adds the bytes for which a character of [`decode`] stands.
pub(super) fn push(bytes: &mut Vec<u8>, c: char) {
    match raw(c) {
        Some(byte) => bytes.push(byte),
        None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The byte for which this character stands, if it is none of UTF-8.
pub(super) fn raw(c: char) -> Option<u8> {
    u8::try_from(u32::from(c).wrapping_sub(RAW)).ok()
}

/// Whether a text of [`decode`] was UTF-8.
pub fn is_utf8(text: &str) -> bool {
    !begins_raw(text.as_bytes()) || !text.chars().any(|c| raw(c).is_some())
}

/// Whether there may be a character that stands for a byte: each begins with this one. A quick look
/// for the many texts that have none.
fn begins_raw(bytes: &[u8]) -> bool {
    memchr::memchr(0xf4, bytes).is_some()
}

fn stand_in(byte: u8) -> Option<char> {
    char::from_u32(RAW + u32::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_utf8_stays_as_it_is() {
        assert_eq!(decode("port ü # größe".as_bytes()), "port ü # größe");
        assert!(is_utf8(&decode("größe".as_bytes())));
        assert!(!is_utf8(&decode(b"# gr\xfc\xdfe")));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..9),
                    // What stands for a byte may be written, too.
                    "[a\u{10fe80}-\u{10ffff}]{0,9}".prop_map(String::into_bytes),
                ],
                0..5,
            ),
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(encode(&decode(&bytes)), bytes);
        }
    }
}
