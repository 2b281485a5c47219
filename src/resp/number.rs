//! Numbers as Redis reads and prints them.

use bytes::{BufMut, BytesMut};

/// Reads a decimal integer by Redis's strict rule (`string2ll`): an optional minus sign and digits,
/// with no plus sign, blanks, leading zeros or `-0`, within 64 bits. `None` for all else.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Summed below zero, since the range reaches one further there.
    digits
        .iter()
        .try_fold(0i64, |sum, digit| {
            let value = digit.wrapping_sub(b'0');
            (value <= 9).then(|| sum.checked_mul(10)?.checked_sub(i64::from(value)))?
        })
        .and_then(|sum| if negative { Some(sum) } else { sum.checked_neg() })
}

/// Appends an integer in decimal.
pub(crate) fn put_int(number: impl itoa::Integer, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A double as Redis 7.2 and Valkey print it: the shortest digits that read back as the same
/// number, `inf`, `-inf`, `nan`; an exponent only where plain digits would be long.
pub fn format_double(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() || number == 0.0 {
        return format!("{number}");
    }
    // Rust's exponent form has the shortest digits: `-1.2345e-7`.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}", place_point(number, &digits, exponent))
}

/// Sets the decimal point, or an exponent, by the rules of Redis's `fpconv_dtoa`. `exponent`
/// belongs to the form with one digit before the point.
fn place_point(number: f64, digits: &str, exponent: i32) -> String {
    let count = digits.len() as i32;
    // The number is `digits` times ten to the power of `scale`.
    let scale = exponent - count + 1;
    let whole_in_52_bits = number.fract() == 0.0 && number.abs() <= (1i64 << 52) as f64;
    if scale >= 0 && (whole_in_52_bits || exponent.abs() < count + 7) {
        return format!("{digits}{}", "0".repeat(scale as usize));
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let before_point = count + scale;
        return if before_point <= 0 {
            format!("0.{}{digits}", "0".repeat(before_point.unsigned_abs() as usize))
        } else {
            let (whole, fraction) = digits.split_at(before_point as usize);
            format!("{whole}.{fraction}")
        };
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}e{sign}{}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for text in ["0", "1", "-1", "10", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_int(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in ["", "-", "+1", "01", "-0", "00", " 1", "1 ", "1a", "1.0", "0x1", "1:"] {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        }
        for text in ["9223372036854775808", "-9223372036854775809", "99999999999999999999"] {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_printed_as_redis_prints_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (123.456, "123.456"),
            (1e15, "1000000000000000"),
            (1e20, "1e+20"),
            (1.5e300, "1.5e+300"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (-2.5e-9, "-2.5e-9"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (number, text) in cases {
            assert_eq!(format_double(number), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn doubles_survive_printing(number in proptest::num::f64::NORMAL) {
            proptest::prop_assert_eq!(format_double(number).parse::<f64>().ok(), Some(number));
        }
    }
}
