//! What is written is read back: any settings and any state, written over a file that an operator
//! wrote in his own way, in his own order.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::settings::LogLevel;
use super::super::state::State;
use super::super::types::Address;
use super::tests::{declared, good, read_text, sorted, state, state_of};
use super::*;

/// Text that a password, a path or a name in a command may be.
fn word() -> impl Strategy<Value = String> {
    let sharp = "[ \"'\\\\#\t\n\r\u{e9}\u{a0}\u{1f511}$&*>a-z0-9]{1,10}";
    prop_oneof![sharp, "\\PC{1,8}", Just("#".to_owned()), Just("it's \"so\" #1".to_owned())]
}

/// Lines of an operator that are not ours to change.
fn foreign_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "# ?\\PC{0,20}",
        "[ \t]*#[a-z ]{0,9}",
        Just(String::new()),
        Just("  ".to_owned()),
        Just("save 60 1".to_owned()),
        Just("appendonly  \"yes\"".to_owned()),
        Just("always-show-logo no".to_owned()),
        Just("search.timeout 5".to_owned()),
        Just("sentinel".to_owned()),
    ]
}

prop_compose! {
    fn settings()(
        ports in (1u16.., prop::option::of(1u16..)),
        paths in prop::array::uniform3(prop::option::of("/[a-z #']{1,8}")),
        bind in select(vec![&[][..], &["127.0.0.1"], &["*", "-::*"], &["::1", "127.0.0.1"]]),
        loglevel in select(vec![LogLevel::Debug, LogLevel::Notice, LogLevel::Warning]),
        numbers in prop::array::uniform3(0u32..1000),
        secrets in prop::array::uniform3(prop::option::of(word())),
        flags in any::<[bool; 2]>(),
        announced in prop::option::of(select(vec!["10.0.0.1", "::1", "a.example"])),
    ) -> SentinelSettings {
        SentinelSettings {
            bind: bind.iter().map(|address| address.to_string()).collect(),
            port: ports.0,
            dir: paths[0].clone().unwrap_or(".".into()).into(),
            logfile: paths[1].clone().map(Into::into),
            pidfile: paths[2].clone().map(Into::into),
            loglevel,
            tcp_keepalive_s: numbers[0].into(),
            timeout_s: numbers[1].into(),
            maxclients: numbers[2] + 1,
            requirepass: secrets[0].clone().map(Secret::new),
            announce_ip: announced.map(str::to_owned),
            announce_port: ports.1,
            // Else groups could not be given by name.
            resolve_hostnames: true,
            announce_hostnames: flags[0],
            sentinel_user: secrets[1].clone(),
            sentinel_pass: secrets[2].clone().map(Secret::new),
            deny_scripts_reconfig: flags[1],
            ..SentinelSettings::default()
        }
    }
}

/// The lines of a text in another order, with lines of somebody else between them.
fn disturbed(text: &str, order: &[Index], between: &[(Index, String)], crlf: bool) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (at, index) in order.iter().enumerate() {
        let end = lines.len();
        if at < end {
            lines.swap(at, index.index(end));
        }
    }
    for (at, line) in between {
        lines.insert(at.index(lines.len() + 1), line.clone());
    }
    lines.join(if crlf { "\r\n" } else { "\n" })
}

/// What nobody but its author changes: comments and lines that mean nothing to a sentinel.
fn foreign(text: &str) -> Vec<String> {
    let ours = |line: &&str| {
        let name = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        own::is_own(name) || *line == super::super::rewrite::SIGNATURE
    };
    let kinds = ["#", "save", "appendonly", "always-show-logo", "search."];
    let lines = text.split('\n').map(|line| line.trim_matches([' ', '\t', '\r']));
    let lines = lines.filter(|line| kinds.iter().any(|kind| line.starts_with(kind)));
    lines.filter(|line| !ours(line)).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_written_over_whatever_is_there_is_read_back(
        before in (settings(), state()),
        after in (settings(), state()),
        order in prop::collection::vec(any::<Index>(), 0..40),
        between in prop::collection::vec((any::<Index>(), foreign_line()), 0..12),
        crlf in any::<bool>(),
    ) {
        // A file in which a sentinel has left its lines, and an operator has been at them.
        let first = render("", &declared(""), &before.0, &before.1, None);
        let original = disturbed(&first, &order, &between, crlf);
        let (read, conf) = good(&original);
        prop_assert_eq!(&read, &before.0, "the order does not matter:\n{}", original);
        prop_assert_eq!(sorted(state_of(conf)), sorted(before.1), "\n{}", original);

        let now = declared(&original);
        let written = render(&original, &now, &after.0, &after.1, None);
        let (read, conf) = good(&written);
        prop_assert_eq!(&read, &after.0, "settings of\n{}", written);
        prop_assert_eq!(sorted(state_of(conf)), sorted(after.1.clone()), "state of\n{}", written);
        prop_assert_eq!(foreign(&written), foreign(&original), "in\n{}", written);

        prop_assert_eq!(&render(&written, &now, &after.0, &after.1, None), &written);
        let started_anew = render(&written, &declared(&written), &after.0, &after.1, None);
        prop_assert_eq!(&started_anew, &written, "a start changes nothing");
    }
}

/// One case of everything, to be looked at.
#[test]
fn an_ipv6_master_with_every_kind_of_text() {
    let mut group =
        GroupState::fresh(GroupSettings::new(Address::new("fe80::1%eth0", 6379), 2), None);
    group.settings.auth_pass = Some(Secret::new("a \"b\" 'c' #d \\ \u{fc}"));
    group.replicas = vec![Address::new("::1", 1), Address::new("r-1.example", 2)];
    let state = State {
        my_id: RunId::from_bytes([1; 20]),
        current_epoch: 0,
        groups: [("gr\u{f6}\u{df}e".to_owned(), group)].into(),
        removed: Default::default(),
        live: None,
    };
    let settings = SentinelSettings { resolve_hostnames: true, ..SentinelSettings::default() };
    let written = render("", &declared(""), &settings, &state, None);
    for line in [
        "sentinel monitor gr\u{f6}\u{df}e fe80::1%eth0 6379 2\n",
        "sentinel auth-pass gr\u{f6}\u{df}e \"a \\\"b\\\" 'c' #d \\\\ \u{fc}\"\n",
        "sentinel known-replica gr\u{f6}\u{df}e ::1 1\n",
    ] {
        assert!(written.contains(line), "{line} is not in\n{written}");
    }
    assert!(read_text(&written).2.iter().all(|finding| !finding.is_error()));
}
