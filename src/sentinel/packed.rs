//! A text that is seldom read, compressed (LZF): thousands of nodes say five KB each, every ten
//! seconds.

use bytes::Bytes;

/// Bits of the hash of four bytes: the table of places is to stay in the fastest cache.
const HASH_BITS: u32 = 11;
/// How far back LZF can refer, in bytes, and how much it can repeat at once.
const BACK_MAX: usize = 1 << 13;
const REPEAT_MAX: usize = 264;
/// Bytes in a row that are not repeated.
const PLAIN_MAX: usize = 32;

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
            length => lzf::decompress(&self.bytes, length).unwrap_or_default().into(),
        }
    }
}

/// LZF, with a table of 4 KB where the `lzf` crate clears one of 512 KB for each text.
fn compress(text: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(text.len() / 2);
    // Where four bytes with this hash were last seen: the lower bits of that place. Whether they
    // are the same, and where that is, shows when it is looked at.
    let mut places = [0_u16; 1 << HASH_BITS];
    let (mut at, mut plain_from) = (0, 0);
    while let Some(four) = number(text, at) {
        let place = &mut places[(four.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
        let back = usize::from((at as u16).wrapping_sub(*place));
        *place = at as u16;
        if !(1..=BACK_MAX.min(at)).contains(&back) || number(text, at - back) != Some(four) {
            at += 1;
            continue;
        }
        let most = text.len().min(at + REPEAT_MAX);
        let same = text[at..most].iter().zip(&text[at - back..]);
        let length = same.take_while(|(now, then)| now == then).count();
        put_plain(&mut packed, &text[plain_from..at]);
        put_repeat(&mut packed, back - 1, length - 2);
        at += length;
        plain_from = at;
    }
    put_plain(&mut packed, &text[plain_from..]);
    packed
}

/// The four bytes from here on.
fn number(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn put_plain(packed: &mut Vec<u8>, bytes: &[u8]) {
    for run in bytes.chunks(PLAIN_MAX) {
        packed.push(run.len() as u8 - 1);
        packed.extend_from_slice(run);
    }
}

fn put_repeat(packed: &mut Vec<u8>, back: usize, length: usize) {
    packed.push((length.min(7) << 5 | back >> 8) as u8);
    if length >= 7 {
        packed.push((length - 7) as u8);
    }
    packed.push(back as u8);
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
    fn long_repetitions_and_far_ones_are_read_back() {
        let far: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
        let twice = [&far[..9_000], &far[..9_000]].concat();
        for text in [vec![], vec![7; 3], vec![0; 70_000], b"abab".repeat(20_000), far, twice] {
            assert_eq!(Packed::new(&text).text(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_back(text in "([a-c]{0,9}|\\PC{0,40}){0,50}") {
            proptest::prop_assert_eq!(Packed::new(text.as_bytes()).text(), text);
        }
    }
}
