//! The bytes of a file as text, and back. Files are UTF-8; but a comment may be older than that,
//! and must not be lost when the file is written again.

/// In comments, bytes that are no UTF-8 stand in the text as characters from here on, which nobody
/// uses.
const RAW: u32 = 0x10_ff00;

/// The text of these bytes.
///
/// # Errors
/// The number, counted from 1, of the first line that is no comment and no UTF-8.
pub fn decode(bytes: &[u8]) -> Result<String, usize> {
    let mut text = String::with_capacity(bytes.len());
    for (at, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let is_comment = line.trim_ascii_start().starts_with(b"#");
        for chunk in line.utf8_chunks() {
            if !chunk.invalid().is_empty() && !is_comment {
                return Err(at + 1);
            }
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().filter_map(|&b| char::from_u32(RAW + u32::from(b))));
        }
    }
    Ok(text)
}

/// The bytes of a text of which parts come from [`decode`].
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let is_comment = line.trim_ascii_start().starts_with('#');
        for c in line.chars() {
            match u8::try_from(u32::from(c).wrapping_sub(RAW)) {
                Ok(byte) if is_comment => bytes.push(byte),
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_old_comment_is_no_reason_to_refuse_a_file() {
        assert!(decode(b"# gr\xfc\xdfe\r\n \t#\xff\nport 1\n").is_ok());
        assert_eq!(decode(b"# \xfc\nport 1 \xfc\n"), Err(2));
        assert_eq!(decode("port ü # größe".as_bytes()).as_deref(), Ok("port ü # größe"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(
            lines in prop::collection::vec(
                "# \\PC{0,9}\r?|port [a\u{10ff80}-\u{10ffff}]{0,9}",
                0..9,
            ),
            raw in prop::collection::vec(128..=255u8, 0..9),
        ) {
            // What somebody may give as a password is no byte of a comment.
            let text = lines.join("\n");
            prop_assert_eq!(decode(&encode(&text)), Ok(text.clone()));
            let bytes = [b"# ", &raw[..], b"\n", text.as_bytes()].concat();
            let text = decode(&bytes).expect("all but the comment is UTF-8");
            prop_assert_eq!(encode(&text), bytes);
        }
    }
}
