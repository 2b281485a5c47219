//! A text that is seldom read, compressed: thousands of nodes say five KB each, every ten seconds.

use bytes::Bytes;
use lz4_flex::block::{compress, decompress};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Packed {
    bytes: Box<[u8]>,
    /// The length of the text, in bytes; 0 where it is kept as it is.
    length: usize,
}

impl Packed {
    pub(super) fn new(text: &[u8]) -> Packed {
        let packed = compress(text);
        match packed.len() < text.len() {
            true => Packed { bytes: packed.into(), length: text.len() },
            // Too short, or nothing repeats.
            false => Packed::raw(text),
        }
    }

    /// The same, not compressed.
    pub(super) fn raw(text: &[u8]) -> Packed {
        Packed { bytes: text.into(), length: 0 }
    }

    pub(super) fn text(&self) -> Bytes {
        match self.length {
            0 => Bytes::copy_from_slice(&self.bytes),
            // What was packed here is unpacked.
            length => decompress(&self.bytes, length).unwrap_or_default().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_shrinks_to_half() {
        let text = include_bytes!("../bench/nodes/info.txt");
        let packed = Packed::new(text);
        assert!(packed.bytes.len() < text.len() * 6 / 10, "{} bytes", packed.bytes.len());
        assert_eq!(&packed.text()[..], text);
    }

    #[test]
    fn what_is_packed_is_read_back() {
        let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
        for text in [vec![], vec![7; 3], vec![0; 70_000], b"abab".repeat(20_000), noise] {
            assert_eq!(Packed::new(&text).text(), text);
        }
    }
}
