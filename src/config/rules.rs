//! What a value must be, whichever syntax or command it comes from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::diagnostic::Severity;
use super::settings::GroupSettings;
use super::types::Address;

/// Longest time that is accepted, in ms: ten years. Far from where a sum of times overflows.
pub const TIME_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;
/// Longest group name, in bytes.
const GROUP_NAME_BYTES_MAX: usize = 255;
/// Longest host name, in bytes, as in DNS.
const HOST_BYTES_MAX: usize = 253;

/// What [`valid_group_name`] asks for, to be shown in an error.
pub const GROUP_NAME_RULE: &str =
    "a name has 1 to 255 bytes and no blanks, commas, quotes or control characters";

/// Whether a master group may have this name: it must survive the hello message (commas), the state
/// lines of a `sentinel.conf` (blanks, line breaks, quotes) and a log line.
pub fn valid_group_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '"' | '\'');
    (1..=GROUP_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(bad)
}

/// Whether a node may be given as this host: an IP address, or with `names` also a host name.
pub fn valid_host(host: &str, names: bool) -> bool {
    is_ip(host) || (names && is_host_name(host))
}

/// An IPv4 or bare IPv6 address; the latter may name its zone (`fe80::1%eth0`).
pub fn is_ip(host: &str) -> bool {
    let zoned = |(ip, zone): (&str, &str)| {
        ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_name_byte)
    };
    host.parse::<IpAddr>().is_ok() || host.split_once('%').is_some_and(zoned)
}

/// A name that a resolver may know. What looks like a broken IPv4 address is none.
fn is_host_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let good_label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(is_name_byte);
    let numeric = |l: &str| l.bytes().all(|b| b.is_ascii_digit());
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(good_label)
        && !name.rsplit('.').next().is_some_and(numeric)
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')
}

/// Something about a group that starts but deserves a word.
pub(super) struct Remark {
    pub(super) group: String,
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Looks over the groups as a whole. `known` says how many other sentinels are on record for a
/// group.
pub(super) fn remarks(
    groups: &BTreeMap<String, GroupSettings>,
    known: impl Fn(&str) -> usize,
) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut masters: BTreeMap<&Address, &str> = BTreeMap::new();
    for (name, group) in groups {
        let mut remark = |severity, message, help| {
            remarks.push(Remark { group: name.clone(), severity, message, help });
        };
        if let Some(other) = masters.insert(&group.master, name) {
            remark(
                Severity::Error,
                format!("'{other}' and '{name}' watch the same master, {}", group.master),
                "other sentinels ask by address and cannot tell the two apart: keep one of them",
            );
        }
        let others = known(name);
        if others > 0 && group.quorum as usize > others + 1 {
            remark(
                Severity::Warning,
                format!(
                    "quorum {} of '{name}' is more than the {} sentinels on record",
                    group.quorum,
                    others + 1
                ),
                "with so few sentinels the master is never agreed to be down: lower the quorum \
                 or add sentinels",
            );
        } else if group.quorum == 1 {
            remark(
                Severity::Note,
                format!("quorum 1: one sentinel alone declares the master of '{name}' down"),
                "with three sentinels, quorum 2 keeps one without its network from being believed",
            );
        }
    }
    remarks
}

/// The candidate that was probably meant: few letters away, or begun and not finished.
pub(super) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    // Comparing costs the product of the lengths; no directive is that long.
    if word.len() > 64 {
        return None;
    }
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let far = |c: &&str| distance(word.as_bytes(), c.to_ascii_lowercase().as_bytes());
    let near = candidates.iter().copied().min_by_key(far)?;
    if far(&near) <= 1 + word.len() / 4 {
        return Some(near);
    }
    candidates.into_iter().find(|c| word.len() > 3 && c.starts_with(&word))
}

/// Levenshtein's distance of two short words.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names() {
        for good in ["mymaster", "a", "cache:eu-1", "größe", "#1"] {
            assert!(valid_group_name(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "a,b", "a\"b", "a'b", "a\0", "a\u{a0}b", &"x".repeat(256)] {
            assert!(!valid_group_name(bad), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        for ip in ["127.0.0.1", "::1", "fe80::1%eth0"] {
            assert!(valid_host(ip, false), "{ip}");
        }
        for name in ["localhost", "redis_1", "a.b-c.example.", "4you.example"] {
            assert!(valid_host(name, true) && !valid_host(name, false), "{name}");
        }
        let too_long = "a.".repeat(128);
        for bad in ["", "1.2.3", "256.1.1.1", "a b", "[::1]", "a..b", "::1%", "é", &too_long] {
            assert!(!valid_host(bad, true), "{bad}");
        }
    }

    #[test]
    fn misspelt_words_find_their_candidate() {
        let names = ["port", "bind", "down-after-milliseconds"];
        assert_eq!(closest("prot", names), Some("port"));
        assert_eq!(closest("poort", names), Some("port"));
        assert_eq!(closest("down-after-miliseconds", names), Some("down-after-milliseconds"));
        assert_eq!(closest("down-after", names), Some("down-after-milliseconds"));
        assert_eq!(closest("xyz", names), None);
    }
}
