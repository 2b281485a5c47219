//! What a data node hears from its master: snapshots, and the whole conversation of a link.

use bytes::{Bytes, BytesMut};
use watchfire::server::fuzz::{DATABASES, follow};
use watchfire::server::rdb::{Item, Preamble, RdbError, RdbValue, Reader, Writer};

use super::source::cuts;
use super::wire::pieces;

/// LZF's longest run: no three bytes may become more.
const LONGEST_RUN: usize = 264;

/// The reader of snapshots, and what it read through the writer and the reader again.
pub(crate) fn rdb(data: &[u8]) {
    for max_string in [512 << 20, i64::MAX as usize, 64] {
        let whole = read(data, max_string, std::iter::repeat(data.len().max(1)));
        assert_eq!(read(data, max_string, cuts(data)), whole, "cut in pieces");
        if data.len() < 512 {
            assert_eq!(read(data, max_string, std::iter::repeat(1)), whole, "byte by byte");
        }
        let (items, error) = whole;
        let size: usize = items.iter().map(size).sum();
        assert!(size <= data.len() * LONGEST_RUN, "{size} bytes out of {}", data.len());
        if let Some(error) = error {
            assert!(!error.to_string().is_empty());
        }
        write_again(&items);
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Aux { key, value } | Item::Key { key, value: RdbValue::String(value), .. } => {
            key.len() + value.len()
        }
        Item::Function(source) => source.len(),
        _ => 0,
    }
}

/// The items, and what was wrong at the end.
fn read(
    data: &[u8],
    max_string: usize,
    cuts: impl Iterator<Item = usize>,
) -> (Vec<Item>, Option<RdbError>) {
    let mut reader = Reader::new(max_string);
    let mut buf = BytesMut::new();
    let mut items = Vec::new();
    for piece in pieces(data, cuts) {
        buf.extend_from_slice(piece);
        loop {
            match reader.feed(&mut buf) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
    }
    assert_eq!(reader.offset() + buf.len() as u64, data.len() as u64, "every byte is counted");
    (items, reader.end_of_input().err())
}

fn write_again(items: &[Item]) {
    let preamble =
        Preamble { redis_version: "7.2.4", created_s: 1, used_memory: 2, position: None };
    let mut out = BytesMut::new();
    let mut writer = Writer::new(&preamble, &mut out);
    let mut written: Vec<Item> = Vec::new();
    for item in items {
        match item {
            Item::SelectDb(db) => {
                writer.select_db(*db, 3, 1, &mut out);
                written.extend([item.clone(), Item::ResizeDb { keys: 3, expires: 1 }]);
            }
            Item::Key { key, value: RdbValue::String(value), expire_at_ms } => {
                // The format holds times as signed numbers.
                let at_ms = expire_at_ms.filter(|at| i64::try_from(*at).is_ok());
                assert_eq!(at_ms, *expire_at_ms, "a time that cannot be written");
                writer.write_string(key, value, at_ms, &mut out);
                written.push(item.clone());
            }
            _ => {}
        }
    }
    writer.finish(&mut out);
    written.push(Item::End { checksum_verified: true });
    let (found, error) = read(&out, 512 << 20, std::iter::repeat(out.len()));
    assert_eq!(error, None);
    let mut found = found.into_iter().filter(|item| !matches!(item, Item::Aux { .. }));
    assert!(written.iter().all(|item| found.next().as_ref() == Some(item)), "{written:?}");
    assert_eq!(found.next(), None);
}

/// All that a master may say on a link: greetings, the reply to PSYNC, a snapshot, the stream.
pub(crate) fn psync_reply(data: &[u8]) {
    if data.len() > 16 << 10 {
        return;
    }
    for (resume, password) in [(false, false), (true, true)] {
        let whole = talk(data, data.len(), resume, password);
        let piece = cuts(data).next().unwrap_or(1);
        assert_eq!(talk(data, piece, resume, password), whole, "in pieces of {piece}");
        if data.len() < 128 {
            assert_eq!(talk(data, 1, resume, password), whole, "byte by byte");
        }
        assert!(!whole.failure.is_empty(), "the master hung up");
        assert!(whole.loaded <= data.len() * LONGEST_RUN);
        let stream = Bytes::from(whole.stream);
        let found = data.windows(stream.len().max(1)).any(|w| w == stream) || stream.is_empty();
        // Blank lines between commands are left out.
        assert!(found || whole.commands > 1, "the stream is what came");
        let prefix = format!("loaded [{}", "0, ".repeat(DATABASES + 1));
        assert!(!whole.events.iter().any(|event| event.starts_with(&prefix)));
    }
}

fn talk(
    data: &[u8],
    piece: usize,
    resume: bool,
    password: bool,
) -> watchfire::server::fuzz::Followed {
    follow(data, piece, resume, password).expect("the system gives a runtime")
}
