//! `tls-ciphers` and `tls-ciphersuites` in the terms of OpenSSL, over the cipher suites that there
//! are here: those of TLS 1.2 with forward secrecy and authenticated encryption, and those of TLS
//! 1.3.

/// The suites of TLS 1.2 by their names in OpenSSL, the strongest first, each with the words of
/// OpenSSL's cipher lists that mean it.
const TLS12: [(&str, &[&str]); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", &["AES256", "AESGCM", "AES", "SHA384", "ECDSA", "aECDSA"]),
    ("ECDHE-RSA-AES256-GCM-SHA384", &["AES256", "AESGCM", "AES", "SHA384", "RSA", "aRSA"]),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", &["CHACHA20", "ECDSA", "aECDSA"]),
    ("ECDHE-RSA-CHACHA20-POLY1305", &["CHACHA20", "RSA", "aRSA"]),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", &["AES128", "AESGCM", "AES", "SHA256", "ECDSA", "aECDSA"]),
    ("ECDHE-RSA-AES128-GCM-SHA256", &["AES128", "AESGCM", "AES", "SHA256", "RSA", "aRSA"]),
];

/// Words that mean every suite of [`TLS12`].
const EVERY: [&str; 12] = [
    "DEFAULT", "ALL", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "FIPS", "TLSv1.2", "AEAD",
    "SSLv3", "TLSv1",
];

/// The suites of TLS 1.3.
const TLS13: [&str; 3] =
    ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];

/// Suites of TLS 1.3 that OpenSSL has and that are not offered here.
const ELSEWHERE: [&str; 2] = ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

/// Interprets a cipher list of OpenSSL (`tls-ciphers`): the suites that remain, in its order. As in
/// OpenSSL, words that mean nothing here are passed over.
///
/// # Errors
/// No suite remains; the text tells which there are.
pub(super) fn tls12(list: &str) -> Result<Vec<&'static str>, String> {
    let (mut chosen, mut killed): (Vec<&'static str>, Vec<&'static str>) = Default::default();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        // `@STRENGTH` sorts, which the order of TLS12 does already; `@SECLEVEL` is met by all.
        if word.starts_with('@') {
            continue;
        }
        let meant = |word: &str| {
            let every = TLS12.iter().filter(|suite| means(word, suite)).map(|(name, _)| *name);
            every.collect::<Vec<_>>()
        };
        let (act, word) = match word.chars().next() {
            Some(act @ ('!' | '-' | '+')) => (act, &word[1..]),
            _ => (' ', word),
        };
        let meant = meant(word);
        match act {
            '!' | '-' => chosen.retain(|name| !meant.contains(name)),
            '+' => chosen.sort_by_key(|name| meant.contains(name)),
            _ => {
                let new = |name: &&str| !killed.contains(name) && !chosen.contains(name);
                let new: Vec<_> = meant.iter().copied().filter(new).collect();
                chosen.extend(new);
            }
        }
        if act == '!' {
            killed.extend(meant);
        }
    }
    if chosen.is_empty() {
        let names = TLS12.map(|(name, _)| name).join(", ");
        return Err(format!("none of these is offered; there are: {names}"));
    }
    Ok(chosen)
}

/// Whether a word of a cipher list (several joined by `+` must all apply) means a suite.
fn means(word: &str, (name, words): &(&str, &[&str])) -> bool {
    word.split('+').all(|part| {
        let is = |known: &&str| known.eq_ignore_ascii_case(part);
        name.eq_ignore_ascii_case(part) || words.iter().any(is) || EVERY.iter().any(is)
    })
}

/// Interprets `tls-ciphersuites`: names of suites of TLS 1.3, joined by colons.
///
/// # Errors
/// A name is unknown, or no suite remains.
pub(super) fn tls13(list: &str) -> Result<Vec<&'static str>, String> {
    let mut chosen = Vec::new();
    let there_are = || format!("there are: {}", TLS13.join(", "));
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        match TLS13.iter().find(|name| name.eq_ignore_ascii_case(word)) {
            Some(name) if chosen.contains(name) => {}
            Some(name) => chosen.push(*name),
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
        let all: Vec<&str> = TLS12.iter().map(|(name, _)| *name).collect();
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
