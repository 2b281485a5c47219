//! Numbers of the `sentinel` directives, which Redis reads with C's `atoi` and `strtoull`: what
//! stands at the beginning counts. A file with which Redis starts is read alike here, but never
//! in silence.

use super::{Fault, Reader};

/// Largest number that Redis reads out of these directives, epochs aside.
const MOST_IN_REDIS: i64 = i32::MAX as i64;

/// C's `atoi`: 0 where no digits are, and of what is too large its lowest 32 bits.
fn atoi(text: &str) -> i64 {
    let (negative, digits) = digits(text);
    let add = |sum: i64, digit: u8| {
        let digit = i64::from(digit - b'0') * if negative { -1 } else { 1 };
        sum.saturating_mul(10).saturating_add(digit)
    };
    i64::from(digits.bytes().fold(0, add) as i32)
}

/// C's `strtoull`: a negative number counts from the end.
fn strtoull(text: &str) -> u64 {
    let (negative, digits) = digits(text);
    let add =
        |sum: Option<u64>, digit: u8| sum?.checked_mul(10)?.checked_add((digit - b'0').into());
    match digits.bytes().fold(Some(0), add) {
        Some(number) if negative => number.wrapping_neg(),
        Some(number) => number,
        None => u64::MAX,
    }
}

/// Whether a minus stands before the digits at the beginning, and these.
fn digits(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    (text.starts_with('-'), &unsigned[..end])
}

/// The number as Redis reads it; one that is written in full up to `most` counts as it is written,
/// even where Redis would lose a part of it: this program may have written it.
pub(super) fn number(text: &str, most: i64) -> i64 {
    match text.parse::<i64>() {
        Ok(number) if (MOST_IN_REDIS..=most).contains(&number) => number,
        _ => atoi(text),
    }
}

/// An epoch as Redis reads it.
pub(super) fn epoch(text: &str) -> u64 {
    strtoull(text)
}

impl Reader<'_> {
    /// Tells of a number that was read out of word number `word` and is not what is written there,
    /// or not what Redis would read.
    pub(super) fn tell_number(&mut self, word: usize, text: &str, read: i64) {
        let in_redis = atoi(text);
        if text.parse() != Ok(read) {
            let help = match humantime::parse_duration(text) {
                Ok(time) => format!("times are in milliseconds: {}", time.as_millis()),
                Err(_) => format!("write {read}"),
            };
            let message = format!("'{text}' is no such number: {read} is read, as in Redis");
            self.report(Fault::warning(word, message).help(help));
        } else if in_redis != read {
            self.report(
                Fault::warning(word, format!("Redis would read {in_redis} here"))
                    .help(format!("it takes numbers up to {MOST_IN_REDIS} only")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_c() {
        for (text, read) in [
            ("5", 5),
            ("5s", 5),
            ("05", 5),
            ("+5", 5),
            (" 5", 5),
            ("5.5", 5),
            ("-5", -5),
            ("abc", 0),
            ("0x5", 0),
            ("", 0),
            ("-", 0),
            ("4294967301", 5),
            ("99999999999", 1_215_752_191),
            ("99999999999999999999", -1),
            ("-99999999999999999999", 0),
        ] {
            assert_eq!(number(text, 9), read, "{text}");
        }
        assert_eq!(number("99999999999", 99_999_999_999), 99_999_999_999);
        for (text, read) in [
            ("5s", 5),
            ("abc", 0),
            ("-5", u64::MAX - 4),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", u64::MAX),
        ] {
            assert_eq!(epoch(text), read, "{text}");
        }
    }
}
