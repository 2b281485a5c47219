//! The wire format: what is decoded must not depend on how it was cut into pieces.

use bytes::{Bytes, BytesMut};
use watchfire::resp::{
    Decoder, Limits, Protocol, ProtocolError, ReplyDecoder, ReplyError, ReplyLimits, Value, encode,
    encode_command,
};

use super::source::cuts;

/// More is no better found by chance, and every decoder is run several times.
const LONGEST: usize = 16 << 10;

type Requests = (Vec<(Vec<Bytes>, Bytes, bool)>, Option<ProtocolError>, usize);

/// Requests of clients.
pub(crate) fn resp_request(data: &[u8]) {
    if data.len() > LONGEST {
        return;
    }
    let narrow = Limits {
        max_bulk: 64,
        max_multibulk: 16,
        max_inline: 48,
        max_request: 1024,
        authenticated: true,
    };
    for limits in [Limits::default(), Limits::unauthenticated(), narrow] {
        let whole = decode_requests(data, limits, std::iter::repeat(LONGEST));
        assert_eq!(decode_requests(data, limits, cuts(data)), whole, "cut in pieces");
        if data.len() < 256 {
            assert_eq!(decode_requests(data, limits, std::iter::repeat(1)), whole, "byte by byte");
        }
        let (requests, _, rest) = whole;
        let taken: usize = requests.iter().map(|(_, raw, _)| raw.len()).sum();
        assert!(taken + rest <= data.len(), "nothing is made up");
        for (args, raw, inline) in requests {
            assert!(!args.is_empty());
            let again = decode_requests(&raw, limits, std::iter::repeat(LONGEST));
            assert_eq!(again, (vec![(args.clone(), raw, inline)], None, 0), "what was counted");
            let mut wire = BytesMut::new();
            encode_command(&args, &mut wire);
            let (sent, error, _) =
                decode_requests(&wire, Limits::default(), std::iter::repeat(LONGEST));
            assert_eq!((sent[0].0.clone(), error), (args, None), "encoded and read back");
        }
    }
}

/// The requests, the error at the end if there is one, and how many bytes wait for more.
fn decode_requests(data: &[u8], limits: Limits, cuts: impl Iterator<Item = usize>) -> Requests {
    let mut decoder = Decoder::new(limits);
    let mut buf = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces(data, cuts) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.feed(&mut buf) {
                Ok(Some(request)) => {
                    requests.push((request.args, request.raw, request.inline));
                }
                Ok(None) => break,
                // What is behind the error depends on how much had arrived.
                Err(error) => return (requests, Some(error), 0),
            }
        }
    }
    (requests, None, buf.len())
}

/// Replies of servers.
pub(crate) fn resp_reply(data: &[u8]) {
    if data.len() > LONGEST {
        return;
    }
    let narrow = ReplyLimits { max_bulk: 64, max_line: 48, max_reply: 1024, max_depth: 3 };
    for limits in [ReplyLimits::default(), narrow] {
        let (values, error) = decode_replies(data, limits, std::iter::repeat(LONGEST));
        // Not compared as values: a NaN is not equal to itself.
        let whole = format!("{values:?} {error:?}");
        let pieces = decode_replies(data, limits, cuts(data));
        assert_eq!(format!("{:?} {:?}", pieces.0, pieces.1), whole, "cut in pieces");
        if data.len() < 256 {
            let bytes = decode_replies(data, limits, std::iter::repeat(1));
            assert_eq!(format!("{:?} {:?}", bytes.0, bytes.1), whole, "byte by byte");
        }
        for value in &values {
            survives(value);
        }
    }
}

/// What is encoded is read back as one value, which is encoded the same.
pub(crate) fn survives(value: &Value) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut wire = BytesMut::new();
        encode(value, protocol, &mut wire);
        let limits = ReplyLimits { max_line: 1 << 20, ..ReplyLimits::default() };
        let (values, error) = decode_replies(&wire, limits, std::iter::repeat(usize::MAX));
        assert_eq!((values.len(), error), (1, None), "{value:?} as {}", wire.escape_ascii());
        let mut again = BytesMut::new();
        encode(&values[0], protocol, &mut again);
        assert_eq!(again, wire, "{value:?}");
    }
}

fn decode_replies(
    data: &[u8],
    limits: ReplyLimits,
    cuts: impl Iterator<Item = usize>,
) -> (Vec<Value>, Option<ReplyError>) {
    let mut decoder = ReplyDecoder::new(limits);
    let mut buf = BytesMut::new();
    let mut values = Vec::new();
    for piece in pieces(data, cuts) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.feed(&mut buf) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

/// `data` in pieces of these lengths.
pub(crate) fn pieces(
    mut data: &[u8],
    mut cuts: impl Iterator<Item = usize>,
) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = cuts.next()?.min(data.len());
        let (piece, rest) = data.split_at(length);
        data = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
