//! Redis's glob patterns, as KEYS, PSUBSCRIBE, CONFIG GET and SENTINEL RESET read them.

/// True if `text` matches `pattern`: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, `\` quotes. Bytes, case
/// kept. Linear in practice and never exponential: a failed `*` goes back to the latest star only.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(used) = one(&pattern[p..], text[t]) {
            p += used;
            t += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// How many bytes of the pattern match this one byte; `None` if they do not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => class(pattern, byte),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b => (b == byte).then_some(1),
    }
}

/// A `[...]` class; one that is never closed ends with the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut hit = false;
    while at < pattern.len() && pattern[at] != b']' {
        if pattern[at] == b'\\' && at + 1 < pattern.len() {
            at += 1;
            hit |= pattern[at] == byte;
        } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
            let (a, b) = (pattern[at], pattern[at + 2]);
            hit |= (a.min(b)..=a.max(b)).contains(&byte);
            at += 2;
        } else {
            hit |= pattern[at] == byte;
        }
        at += 1;
    }
    (hit != negated).then_some((at + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_of_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("my*er", "mymaster", true),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("[ab", "a", true),
            ("+s*", "+switch-master", true),
            ("", "a", false),
        ] {
            let got = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(got, expected, "{pattern} against {text}");
        }
        assert!(!matches(&b"*a".repeat(2000), &b"a".repeat(1999)), "ends, and says no");
    }
}
