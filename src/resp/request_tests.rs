//! The request decoder: Redis's texts, arbitrary splits of the input, hostile headers.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::encode::encode_command;
use super::*;

/// All commands in `input`, fed in pieces that end at `cuts`, and the error that ended it, if any.
fn decode(input: &[u8], cuts: &[usize], limits: Limits) -> (Vec<Request>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(limits);
    let mut buf = BytesMut::new();
    let mut requests = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        buf.extend_from_slice(&input[start..end]);
        start = end;
        loop {
            match decoder.feed(&mut buf) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn words(input: &str) -> Vec<Vec<String>> {
    let (requests, error) = decode(input.as_bytes(), &[], Limits::default());
    assert_eq!(error, None, "{input:?}");
    let text = |arg: &Bytes| String::from_utf8_lossy(arg).into_owned();
    requests.iter().map(|request| request.args.iter().map(text).collect()).collect()
}

fn error_text(input: &[u8], limits: Limits) -> String {
    let (_, error) = decode(input, &[], limits);
    error.map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn arrays_and_lines_may_follow_each_other() {
    let input = "*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n  PING  \r\nget a\n*1\r\n$4\r\nQUIT\r\n";
    let expected = [vec!["ECHO", "\r\n"], vec!["PING"], vec!["get", "a"], vec!["QUIT"]];
    assert_eq!(words(input), expected);
}

#[test]
fn blank_lines_and_empty_arrays_are_dropped() {
    assert_eq!(words("*0\r\n*-1\r\n\r\n\n*-7\r\n \t\r\nPING\r\n\n"), [["PING"]]);
}

#[test]
fn quotes_follow_the_rules_of_redis() {
    let cases: &[(&str, &[&str])] = &[
        (r#"echo "a\x41\n\q" "#, &["echo", "aA\nq"]),
        (r"echo 'a\'\n'", &["echo", r"a'\n"]),
        (r#"echo a"b c""#, &["echo", "ab c"]),
        (r#"echo """#, &["echo", ""]),
        (r#""""#, &[""]),
        (r#""\x4g\\""#, &["x4g\\"]),
    ];
    for (line, expected) in cases {
        assert_eq!(words(&format!("{line}\r\n")), [*expected], "{line}");
    }
    for line in [r#"echo "a"#, "echo 'a'b", r#"echo "a""b""#, r#"echo "a\""#, "echo 'a\\"] {
        let text = error_text(format!("{line}\r\n").as_bytes(), Limits::default());
        assert_eq!(text, "Protocol error: unbalanced quotes in request", "{line}");
    }
}

#[test]
fn raw_is_the_command_alone_and_counts_in_offsets() {
    let input = b"\n\n*1\r\n$4\r\nPING\r\n\n*0\r\nSET a b\r\n";
    let (requests, _) = decode(input, &[], Limits::default());
    assert_eq!(requests[0].raw, "*1\r\n$4\r\nPING\r\n");
    assert_eq!(requests[0].bytes(), 14);
    assert!(!requests[0].inline);
    assert_eq!(requests[1].raw, "SET a b\r\n");
    assert!(requests[1].inline);
}

/// As in Redis, which looks for its end with a function for C's strings.
#[test]
fn a_line_with_a_zero_byte_does_not_end() {
    let (requests, _) = decode(b"PING\r\nPING a\0b\r\nPING\r\n", &[], Limits::default());
    assert_eq!(requests.len(), 1);
    let long = [b"PING \0\n".as_slice(), &b"a".repeat(70_000)].concat();
    let text = error_text(&long, Limits::default());
    assert_eq!(text, "Protocol error: too big inline request");
}

/// Each text here is the answer of redis-server 7.0.15 to the same bytes.
#[test]
fn errors_are_redis_s_own() {
    let long = |start: &str, fill: &str| format!("{start}{}", fill.repeat(70_000)).into_bytes();
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1\n$4\nPING\r\n", "invalid multibulk length"),
        (b"*1\r\nx\r\n", "expected '$', got 'x'"),
        (b"*3\r\n$3\r\nfoo\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$a\r\n", "invalid bulk length"),
        (&long("*", "1"), "too big mbulk count string"),
        (&long("*1\r\n$", "1"), "too big bulk count string"),
        (&long("*1\r\n", "x"), "too big bulk count string"),
        (&long("", "a"), "too big inline request"),
    ];
    for (input, text) in cases {
        let shown = String::from_utf8_lossy(&input[..input.len().min(30)]);
        let expected = format!("Protocol error: {text}");
        assert_eq!(error_text(input, Limits::default()), expected, "{shown}");
    }
    assert_eq!(
        ProtocolError::InvalidBulkLength.reply(),
        Value::error("ERR Protocol error: invalid bulk length")
    );
}

#[test]
fn little_is_taken_from_clients_before_auth() {
    let limits = Limits::unauthenticated();
    let cases: &[(&[u8], &str)] = &[
        (b"*11\r\n", "Protocol error: unauthenticated multibulk length"),
        (b"*10\r\n", ""),
        (b"*2\r\n$16385\r\n", "Protocol error: unauthenticated bulk length"),
        (b"*2\r\n$16384\r\n", ""),
        (b"*999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$9999999999\r\n", "Protocol error: invalid bulk length"),
    ];
    for (input, text) in cases {
        assert_eq!(error_text(input, limits), *text);
    }
    let mut decoder = Decoder::new(limits);
    let mut buf = BytesMut::from(&b"PING\r\n*11\r\n"[..]);
    assert!(matches!(decoder.feed(&mut buf), Ok(Some(_))));
    decoder.set_limits(Limits::default());
    assert_eq!(decoder.feed(&mut buf), Ok(None));
}

#[test]
fn a_claim_reserves_no_memory() {
    for header in ["*1\r\n$536870912\r\n", "*2147483647\r\n", "*2147483647\r\n$0\r\n\r\n"] {
        let mut decoder = Decoder::new(Limits::default());
        let mut buf = BytesMut::from(header);
        assert_eq!(decoder.feed(&mut buf), Ok(None));
        assert!(buf.capacity() < 4096);
        assert!(decoder.found.capacity() < 4096);
    }
    assert_eq!(
        error_text(b"*1\r\n$1073741824\r\n", Limits::default()),
        "Protocol error: invalid bulk length"
    );
}

#[test]
fn the_sum_of_the_arguments_is_limited_before_it_is_read() {
    let limits = Limits { max_request: 200, ..Limits::default() };
    assert_eq!(decode(b"*2\r\n$90\r\n", &[], limits).1, None);
    let input = format!("*2\r\n$90\r\n{}\r\n$90\r\n", "x".repeat(90));
    assert_eq!(decode(input.as_bytes(), &[], limits).1, Some(ProtocolError::RequestTooBig));
    let many = format!("*9\r\n{}", "$0\r\n\r\n".repeat(6));
    assert_eq!(decode(many.as_bytes(), &[], limits).1, Some(ProtocolError::RequestTooBig));
}

#[test]
fn a_big_argument_in_small_pieces_costs_linear_time() {
    let mut input = BytesMut::new();
    encode_command(&[vec![b'\r'; 2_000_000], vec![b'x'; 10]], &mut input);
    let cuts: Vec<usize> = (0..input.len()).step_by(100).collect();
    let (requests, error) = decode(&input, &cuts, Limits::default());
    assert_eq!((requests.len(), error), (1, None));
    // A line that comes byte by byte is scanned once.
    let cuts: Vec<usize> = (0..60_000).collect();
    assert_eq!(decode(&[b'a'; 60_000], &cuts, Limits::default()), (vec![], None));
}

fn cuts_of(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Bytes that are likely to get somewhere in the decoder.
fn near_protocol() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*".to_vec()),
        Just(b"$".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
        "-?[0-9]{1,3}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn commands_survive_the_wire_however_it_is_cut(
        commands in vec(vec(vec(any::<u8>(), 0..40), 1..6), 0..6),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut input = BytesMut::new();
        for command in &commands {
            encode_command(command, &mut input);
        }
        let (requests, error) = decode(&input, &cuts_of(&input, &cuts), Limits::default());
        prop_assert_eq!(error, None);
        prop_assert_eq!(requests.iter().map(Request::bytes).sum::<usize>(), input.len());
        let args: Vec<_> = requests.into_iter().map(|request| request.args).collect();
        prop_assert_eq!(args, commands);
    }

    #[test]
    fn garbage_gives_the_same_however_it_is_cut(
        input in near_protocol(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        authenticated in any::<bool>(),
    ) {
        let limits = Limits { authenticated, ..Limits::default() };
        let whole = decode(&input, &[], limits);
        let pieces = decode(&input, &cuts_of(&input, &cuts), limits);
        prop_assert_eq!(whole, pieces);
    }
}
