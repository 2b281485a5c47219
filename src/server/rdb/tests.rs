//! Dumps of a real server, dumps of our own, and dumps that were damaged.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MAX_STRING: usize = 512 << 20;

/// All items of a dump that arrives in pieces of `piece` bytes, how it ended, and what was left
/// over.
fn read(dump: &[u8], piece: usize) -> (Vec<Item>, Result<(), RdbError>, usize) {
    let mut reader = Reader::new(MAX_STRING);
    let mut buf = BytesMut::new();
    let mut items = Vec::new();
    for piece in dump.chunks(piece) {
        buf.extend_from_slice(piece);
        loop {
            match reader.feed(&mut buf) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Err(error), buf.len()),
            }
        }
    }
    (items, reader.end_of_input(), buf.len())
}

type Row = (u32, Bytes, Bytes, Option<u64>);

/// The keys of a dump, sorted, with their databases.
fn rows(items: &[Item]) -> Vec<Row> {
    let (mut db, mut rows) = (0, Vec::new());
    for item in items {
        match item {
            Item::SelectDb(number) => db = *number,
            Item::Key { key, value: RdbValue::String(value), expire_at_ms } => {
                rows.push((db, key.clone(), value.clone(), *expire_at_ms));
            }
            _ => {}
        }
    }
    rows.sort();
    rows
}

fn write(rows: &[Row]) -> BytesMut {
    let mut out = BytesMut::new();
    let position = Position { stream_db: 3, id: "0123456789", offset: 77 };
    let preamble = Preamble {
        redis_version: "7.0.15",
        created_s: 1_700_000_000,
        used_memory: 1 << 20,
        position: Some(position),
    };
    let mut writer = Writer::new(&preamble, &mut out);
    let mut selected = None;
    for (db, key, value, expire_at_ms) in rows {
        if selected != Some(db) {
            selected = Some(db);
            writer.select_db(*db, 1, 0, &mut out);
        }
        writer.write_string(key, value, *expire_at_ms, &mut out);
    }
    writer.finish(&mut out);
    out
}

const STRINGS: &[u8] = include_bytes!("../../../tests/fixtures/strings.rdb");
const NO_CHECKSUM: &[u8] = include_bytes!("../../../tests/fixtures/strings-no-checksum.rdb");
const LFU: &[u8] = include_bytes!("../../../tests/fixtures/strings-lfu.rdb");
const LRU: &[u8] = include_bytes!("../../../tests/fixtures/strings-lru.rdb");
const LIST: &[u8] = include_bytes!("../../../tests/fixtures/list.rdb");
const FUNCTION: &[u8] = include_bytes!("../../../tests/fixtures/function.rdb");

#[test]
fn dumps_of_redis_are_read() {
    for (dump, verified) in [(STRINGS, true), (NO_CHECKSUM, false), (LFU, true), (LRU, true)] {
        for piece in [1, 7, dump.len()] {
            let (items, end, left) = read(dump, piece);
            assert_eq!((end, left), (Ok(()), 0));
            assert_eq!(items.last(), Some(&Item::End { checksum_verified: verified }));
            let rows = rows(&items);
            let find = |wanted: &str| rows.iter().find(|row| row.1 == wanted).unwrap();
            let text = |wanted: &str| String::from_utf8_lossy(&find(wanted).2).into_owned();
            assert_eq!(rows.len(), 13);
            assert_eq!(text("int8"), "-5");
            assert_eq!(text("int16"), "1000");
            assert_eq!(text("int32"), "-2000000");
            assert_eq!(text("int64"), "9223372036854775807");
            assert_eq!(text("zeros"), "007");
            assert_eq!(text("empty"), "");
            assert_eq!(find("binary").2, &b"\x00\xff\r\n"[..]);
            assert_eq!(find("run").2, [vec![0; 20_000], vec![b'x']].concat());
            assert_eq!(text("words"), "the quick brown fox jumps over the lazy dog. ".repeat(20));
            assert_eq!(find("noise").2.len(), 300);
            assert_eq!(find("expiring").3, Some(4_102_444_800_000));
            assert_eq!(find("empty").3, None, "an expiry time belongs to one key only");
            assert_eq!(find("in-three").0, 3);
            assert_eq!((find("in-fifteen").0, find("in-fifteen").3), (15, Some(4_102_444_801_000)));
        }
    }
}

#[test]
fn facts_and_hints_are_told() {
    let (items, ..) = read(STRINGS, 100);
    let fact = |name: &'static str, text: &'static str| Item::Aux {
        key: Bytes::from(name),
        value: Bytes::from(text),
    };
    assert_eq!(items[0], fact("redis-ver", "7.0.15"));
    assert_eq!(items[1], fact("redis-bits", "64"));
    assert!(items.contains(&Item::ResizeDb { keys: 11, expires: 1 }));
}

#[test]
fn another_type_is_refused_by_name() {
    let (items, end, _) = read(LIST, 9);
    let error = end.unwrap_err();
    let expected = RdbError::UnsupportedType { key: "groceries".into(), type_name: "list" };
    assert_eq!(error, expected);
    assert!(error.to_string().starts_with("key 'groceries' holds a list, which"), "{error}");
    assert!(rows(&items).len() <= 1);
}

#[test]
fn a_function_library_is_an_item() {
    let (items, end, _) = read(FUNCTION, 11);
    assert_eq!(end, Ok(()));
    let source = items.iter().find_map(|item| match item {
        Item::Function(source) => Some(source),
        _ => None,
    });
    assert!(source.unwrap().starts_with(b"#!lua name=lib\n"));
    assert_eq!(rows(&items).len(), 1);
}

#[test]
fn what_no_string_dump_holds_is_passed_over_or_refused() {
    let body = |bytes: &[u8]| {
        let dump = [&b"REDIS0012"[..], bytes, b"\xff\0\0\0\0\0\0\0\0"].concat();
        let (items, end, _) = read(&dump, 1);
        (rows(&items), end)
    };
    let row = |at_ms| vec![(0, Bytes::from("k"), Bytes::from("v"), at_ms)];
    let cases: &[(&[u8], Option<u64>)] = &[
        (b"\xfd\x02\0\0\0", Some(2000)),
        (b"\xfc\xff\xff\xff\xff\xff\xff\xff\xff", Some(0)),
        (b"\xf9\x05\xf8\x41\x00", None),
        (b"\xf4\x01\x02\x03", None),
        (b"\xf7\x09\x02\x01\x01\x07\x05\x02ab\x03\0\0\0\0\x04\0\0\0\0\0\0\0\0\0", None),
    ];
    for (prefix, at_ms) in cases {
        let bytes = [prefix, &b"\0\x01k\x01v"[..]].concat();
        assert_eq!(body(&bytes), (row(*at_ms), Ok(())), "{}", bytes.escape_ascii());
    }
    let cases: &[(&[u8], &str)] = &[
        (b"\xf6", "corrupt RDB dump at byte 9: functions in the format of a preview of Redis 7.0"),
        (b"\x1a", "corrupt RDB dump at byte 9: unknown type or opcode 26"),
        (b"\0\xc5", "corrupt RDB dump at byte 9: unknown string encoding 5"),
        (b"\0\x85", "corrupt RDB dump at byte 9: unknown length encoding 0x85"),
        (b"\xfe\xc0\x01", "corrupt RDB dump at byte 9: an encoded string where a length should be"),
        (b"\xfe\x81\0\0\0\x01\0\0\0\0", "corrupt RDB dump at byte 9: database 4294967296"),
        (b"\0\xc3\x03\x45\0abc", "corrupt RDB dump at byte 9: 3 bytes cannot unpack to 1280"),
        (
            b"\0\xc3\x02\x05\xe0\0",
            "corrupt RDB dump at byte 9: a compressed string does not unpack",
        ),
        (
            b"\0\x81\0\0\x01\0\0\0\0\0",
            "corrupt RDB dump at byte 9: a string of 1099511627776 bytes, above 536870912",
        ),
    ];
    for (bytes, text) in cases {
        let error = body(bytes).1.unwrap_err();
        assert_eq!(error.to_string(), *text, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_file_of_another_kind_or_time_is_refused() {
    let error = |dump: &[u8]| read(dump, 100).1.unwrap_err();
    assert_eq!(error(b"HTTP/1.1 200 OK"), RdbError::BadMagic(b"HTTP/1.1 ".to_vec()));
    assert_eq!(error(b"REDIS00x1"), RdbError::BadMagic(b"REDIS00x1".to_vec()));
    assert_eq!(error(b"REDIS0000"), RdbError::UnsupportedVersion(0));
    assert_eq!(error(b"REDIS0013"), RdbError::UnsupportedVersion(13));
    assert_eq!(error(b""), RdbError::Truncated(0));
}

#[test]
fn an_old_dump_ends_without_a_checksum() {
    let (items, end, left) = read(b"REDIS0004\xfe\x00\0\x01k\xc0\x07\xfffollowed", 100);
    assert_eq!((end, left), (Ok(()), 8));
    assert_eq!(items.last(), Some(&Item::End { checksum_verified: false }));
}

#[test]
fn a_claimed_length_reserves_no_memory() {
    let mut reader = Reader::new(MAX_STRING);
    let mut buf = BytesMut::from(&b"REDIS0009\0\x01k\x80\x1f\xff\xff\xffabc"[..]);
    assert_eq!(reader.feed(&mut buf), Ok(None));
    assert!(buf.capacity() < 4096);
    assert_eq!(reader.end_of_input(), Err(RdbError::Truncated(9)));
}

#[test]
fn bytes_behind_the_dump_are_left_alone() {
    let dump = [&write(&[])[..], b"*1\r\n$4\r\nPING\r\n"].concat();
    let (_, end, left) = read(&dump, dump.len());
    assert_eq!((end, left), (Ok(()), 14));
}

fn arbitrary_rows() -> impl Strategy<Value = Vec<Row>> {
    let bytes = || vec(any::<u8>(), 0..80).prop_map(Bytes::from);
    let long = (0usize..70_000).prop_map(|length| Bytes::from(vec![b'v'; length]));
    let value = prop_oneof![6 => bytes(), 1 => long];
    vec((0u32..20_000, bytes(), value, proptest::option::of(0..=i64::MAX as u64)), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(mut expected in arbitrary_rows(), piece in 1usize..5000) {
        let (items, end, left) = read(&write(&expected), piece);
        expected.sort();
        prop_assert_eq!((end, left), (Ok(()), 0));
        prop_assert_eq!(rows(&items), expected);
        prop_assert_eq!(items.last(), Some(&Item::End { checksum_verified: true }));
    }

    #[test]
    fn a_dump_that_breaks_off_is_not_taken_for_whole(
        cut in 0..STRINGS.len(),
        piece in 1usize..200,
    ) {
        let (items, end, _) = read(&STRINGS[..cut], piece);
        prop_assert!(matches!(end, Err(RdbError::Truncated(_))), "{:?}", end);
        let ended = items.iter().any(|item| matches!(item, Item::End { .. }));
        prop_assert!(!ended);
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0..STRINGS.len(), bit in 0..8u32) {
        let mut dump = STRINGS.to_vec();
        dump[at] ^= 1 << bit;
        let (_, end, left) = read(&dump, dump.len());
        // A version before the checksum leaves the checksum over, which a frame of known length
        // shows.
        prop_assert!(end.is_err() || left > 0);
    }

    #[test]
    fn garbage_is_an_error_or_waits(version in 1u32..13, body in vec(any::<u8>(), 0..300)) {
        let dump = [format!("REDIS{version:04}").into_bytes(), body].concat();
        let whole = read(&dump, dump.len());
        prop_assert_eq!(whole.0, read(&dump, 1).0);
    }

    #[test]
    fn compressed_garbage_is_an_error_or_text(
        packed in vec(any::<u8>(), 0..60),
        length in 0u16..0x4000,
    ) {
        let [high, low] = (0x4000 | length).to_be_bytes();
        let head = [b"REDIS0004\0\x01k\xc3", &[packed.len() as u8, high, low][..]].concat();
        let (items, ..) = read(&[&head[..], &packed].concat(), 1000);
        prop_assert!(rows(&items).iter().all(|row| row.2.len() == usize::from(length)));
    }
}
