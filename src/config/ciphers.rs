//! `tls-ciphers` and `tls-ciphersuites` in the terms of OpenSSL, over the cipher suites that there
//! are here: those of TLS 1.2 with forward secrecy and authenticated encryption, and those of TLS
//! 1.3.

/// A cipher suite: what a configuration calls it, and what the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suite {
    /// Its registered number.
    pub code: u16,
    /// In TLS 1.2 OpenSSL's name, in TLS 1.3 the registered one.
    name: &'static str,
    /// The words of OpenSSL's cipher lists that mean it.
    words: &'static [&'static str],
}

const fn suite(code: u16, name: &'static str, words: &'static [&'static str]) -> Suite {
    Suite { code, name, words }
}

/// The suites of TLS 1.2, in OpenSSL's order: the strongest first.
#[rustfmt::skip]
pub const TLS12: [Suite; 6] = [
    suite(0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384",
        &["AES256", "AESGCM", "AES", "SHA384", "ECDSA", "aECDSA"]),
    suite(0xc030, "ECDHE-RSA-AES256-GCM-SHA384",
        &["AES256", "AESGCM", "AES", "SHA384", "RSA", "aRSA"]),
    suite(0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305", &["CHACHA20", "ECDSA", "aECDSA"]),
    suite(0xcca8, "ECDHE-RSA-CHACHA20-POLY1305", &["CHACHA20", "RSA", "aRSA"]),
    suite(0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256",
        &["AES128", "AESGCM", "AES", "SHA256", "ECDSA", "aECDSA"]),
    suite(0xc02f, "ECDHE-RSA-AES128-GCM-SHA256",
        &["AES128", "AESGCM", "AES", "SHA256", "RSA", "aRSA"]),
];

/// Words that mean every suite of [`TLS12`].
const EVERY: [&str; 12] = [
    "DEFAULT", "ALL", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "FIPS", "TLSv1.2", "AEAD",
    "SSLv3", "TLSv1",
];

/// The suites of TLS 1.3, in the same order.
pub const TLS13: [Suite; 3] = [
    suite(0x1302, "TLS_AES_256_GCM_SHA384", &[]),
    suite(0x1303, "TLS_CHACHA20_POLY1305_SHA256", &[]),
    suite(0x1301, "TLS_AES_128_GCM_SHA256", &[]),
];

/// Suites of TLS 1.3 that OpenSSL has and that are not offered here.
const ELSEWHERE: [&str; 2] = ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

/// Interprets a cipher list of OpenSSL (`tls-ciphers`): the suites that remain, in its order. As in
/// OpenSSL, words that mean nothing here are passed over.
///
/// # Errors
/// No suite remains; the text tells which there are.
pub(super) fn tls12(list: &str) -> Result<Vec<Suite>, String> {
    let (mut chosen, mut killed): (Vec<Suite>, Vec<Suite>) = Default::default();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        // `@STRENGTH` sorts, which the order of TLS12 does already; `@SECLEVEL` is met by all.
        if word.starts_with('@') {
            continue;
        }
        let (act, word) = match word.chars().next() {
            Some(act @ ('!' | '-' | '+')) => (act, &word[1..]),
            _ => (' ', word),
        };
        let meant: Vec<Suite> = TLS12.into_iter().filter(|suite| means(word, suite)).collect();
        match act {
            '!' | '-' => chosen.retain(|suite| !meant.contains(suite)),
            '+' => chosen.sort_by_key(|suite| meant.contains(suite)),
            _ => {
                let new = |suite: &Suite| !killed.contains(suite) && !chosen.contains(suite);
                let new: Vec<_> = meant.iter().copied().filter(new).collect();
                chosen.extend(new);
            }
        }
        if act == '!' {
            killed.extend(meant);
        }
    }
    if chosen.is_empty() {
        let names = TLS12.map(|suite| suite.name).join(", ");
        return Err(format!("none of these is offered; there are: {names}"));
    }
    Ok(chosen)
}

/// Whether a word of a cipher list (several joined by `+` must all apply) means a suite.
fn means(word: &str, suite: &Suite) -> bool {
    word.split('+').all(|part| {
        let is = |known: &&str| known.eq_ignore_ascii_case(part);
        let own = std::iter::once(&suite.name).chain(suite.words);
        own.chain(&EVERY).any(is)
    })
}

/// Interprets `tls-ciphersuites`: names of suites of TLS 1.3, joined by colons.
///
/// # Errors
/// A name is unknown, or no suite remains.
pub(super) fn tls13(list: &str) -> Result<Vec<Suite>, String> {
    let mut chosen = Vec::new();
    let there_are = || format!("there are: {}", TLS13.map(|suite| suite.name).join(", "));
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        match TLS13.iter().find(|suite| suite.name.eq_ignore_ascii_case(word)) {
            Some(suite) if chosen.contains(suite) => {}
            Some(suite) => chosen.push(*suite),
            None if ELSEWHERE.iter().any(|name| name.eq_ignore_ascii_case(word)) => {}
            None => return Err(format!("'{word}' is no cipher suite of TLS 1.3; {}", there_are())),
        }
    }
    if chosen.is_empty() {
        Err(format!("no cipher suite remains; {}", there_are()))
    } else {
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_openssl_choose_among_what_there_is() {
        let all = TLS12.to_vec();
        for (list, expected) in [
            ("DEFAULT", all.clone()),
            ("DEFAULT:!MEDIUM", all.clone()),
            ("HIGH:!aNULL:!MD5", all.clone()),
            ("ECDHE+AESGCM:!AES128", all[..2].to_vec()),
            ("ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA", all[5..].to_vec()),
            ("CHACHA20:!ECDSA", vec![all[3]]),
            ("ALL:-AES:@STRENGTH", all[2..4].to_vec()),
            ("ALL:!CHACHA20:CHACHA20:+AES256:!RSA", vec![all[4], all[0]]),
        ] {
            assert_eq!(tls12(list), Ok(expected), "{list}");
        }
        let error = tls12("RC4-SHA:DES-CBC3-SHA").unwrap_err();
        assert!(error.contains("ECDHE-RSA-AES256-GCM-SHA384"), "{error}");
    }

    #[test]
    fn suites_of_tls_1_3_have_exact_names() {
        let two = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256";
        assert_eq!(tls13(two), Ok(vec![TLS13[1], TLS13[2]]));
        assert!(tls13("TLS_AES_512").unwrap_err().contains("'TLS_AES_512' is no cipher suite"));
        assert!(tls13("TLS_AES_128_CCM_SHA256").unwrap_err().contains("no cipher suite remains"));
    }
}
