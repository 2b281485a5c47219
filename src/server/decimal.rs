//! `INCRBYFLOAT`'s addition, in decimal so that 0.1 and 0.2 make 0.3.

/// The places after the point that `INCRBYFLOAT` keeps.
const PLACES: u32 = 17;

/// Adds two decimal numbers as `INCRBYFLOAT` does and gives the sum without trailing zeros. Sums of
/// ordinary size are exact; the rest is computed as `f64`. `Err` says which rule of Redis it
/// breaks.
pub(super) fn add_floats(a: &[u8], b: &[u8]) -> Result<String, &'static str> {
    const NO_FLOAT: &str = "ERR value is not a valid float";
    let (x, y) = (float(a).ok_or(NO_FLOAT)?, float(b).ok_or(NO_FLOAT)?);
    if let (Some(x), Some(y)) = (scaled(a), scaled(b))
        && let Some(sum) = x.checked_add(y)
    {
        return Ok(unscaled(sum));
    }
    let sum = x + y;
    if !sum.is_finite() {
        return Err("ERR increment would produce NaN or Infinity");
    }
    Ok(format!("{sum}"))
}

/// Reads what `strtold` reads whole: decimal or exponent form, `inf`; never blanks or NaN.
fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let first = text.bytes().next()?;
    if first.is_ascii_whitespace() {
        return None;
    }
    text.parse::<f64>().ok().filter(|f| !f.is_nan())
}

/// The number times 10^17, if it is in plain decimal form and fits.
fn scaled(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || fraction.len() > PLACES as usize || whole.len() > 18 {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let value = digits * 10i128.pow(PLACES - fraction.len() as u32);
    Some(if negative { -value } else { value })
}

fn unscaled(value: i128) -> String {
    let unit = 10u128.pow(PLACES);
    let sign = if value < 0 { "-" } else { "" };
    let size = value.unsigned_abs();
    let text = format!("{sign}{}.{:017}", size / unit, size % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_short() {
        for (a, b, sum) in [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-1.25", "0.25", "-1"),
            ("-0.5", "0.25", "-0.25"),
        ] {
            assert_eq!(add_floats(a.as_bytes(), b.as_bytes()).as_deref(), Ok(sum));
        }
        assert!(add_floats(b"x", b"1").is_err());
        assert!(add_floats(b"1", b"inf").is_err());
        assert!(add_floats(b"1", b"nan").is_err());
    }
}
