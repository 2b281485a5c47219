//! Our YAML: what is read, what is found wrong, and what never shows.

use proptest::prelude::*;

use super::super::types::Address;
use super::super::users::UserLine;
use super::*;

pub(super) fn read_text(
    text: &str,
) -> (SentinelSettings, BTreeMap<String, GroupSettings>, Vec<Diagnostic>) {
    let outside = Outside {
        executable: &|path| path.starts_with("/scripts"),
        file: &|path| match path.to_str() {
            Some("/run/secret") => Ok("from file\n".to_owned()),
            _ => Err("No such file or directory".to_owned()),
        },
        variable: &|name| (name == "SECRET").then(|| "from env".to_owned()),
    };
    read(text, &outside)
}

fn rules(user: &UserLine) -> Vec<&str> {
    user.rules.iter().map(Secret::reveal).collect()
}

/// What is found, a line each: severity, place, message, mend.
fn findings(text: &str) -> Vec<String> {
    let found = read_text(text).2;
    let help = |d: &Diagnostic| d.help.clone().unwrap_or_default();
    let line = |d: &Diagnostic| {
        format!("{} {}:{} {} ({})", d.severity, d.line, d.column, d.message, help(d))
    };
    found.iter().map(line).collect()
}

#[test]
fn the_smallest_file() {
    let (settings, groups, found) =
        read_text("groups:\n  mymaster:\n    master: 127.0.0.1:6379\n    quorum: 2\n");
    assert_eq!(found, []);
    let expected = SentinelSettings { dir: "./state".into(), ..SentinelSettings::default() };
    assert_eq!(settings, expected);
    let master = Address::new("127.0.0.1", 6379);
    assert_eq!(groups["mymaster"], GroupSettings::new(master, 2));
}

#[test]
fn everything_at_once() {
    let text = "
listen:
  bind: [127.0.0.1, '-::1']
  port: 5000
  max_clients: 50
  idle_timeout: 1m
  keepalive: 0
  password_file: /run/secret
state_dir: /var/lib/watchfire
log: {level: verbose, file: /var/log/sentinel.log}
pid_file: /run/sentinel.pid
announce: {ip: sentinel-1.example, port: 5001}
hostnames: {resolve: true, announce: yes}
peers: {user: s, password_env: SECRET}
scripts: {allow_reconfig: true}
groups:
  a:
    master: redis.example:6379
    quorum: 2
    down_after: 1500ms
    failover_timeout: 1m 30s
    parallel_syncs: 3
    master_reboot_down_after: 0
    refused_after: 200ms
    flap_pause: 2m
    auth: {user: w, password: 0123}
    notification_script: /scripts/tell
    client_reconfig_script: /scripts/move
    rename_commands: {config: cfg}
  b: {master: '[::1]:6379', quorum: 3}
";
    let (settings, groups, found) = read_text(text);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(settings.bind, ["127.0.0.1", "-::1"]);
    assert_eq!((settings.port, settings.maxclients), (5000, 50));
    assert_eq!((settings.timeout_s, settings.tcp_keepalive_s), (60, 0));
    assert_eq!(settings.requirepass, Some(Secret::new("from file")));
    assert_eq!(settings.loglevel.as_str(), "verbose");
    assert_eq!(settings.announce_ip.as_deref(), Some("sentinel-1.example"));
    assert_eq!(settings.announce_port, Some(5001));
    assert!(settings.resolve_hostnames && settings.announce_hostnames);
    assert_eq!(settings.sentinel_pass, Some(Secret::new("from env")));
    assert!(!settings.deny_scripts_reconfig);
    let a = &groups["a"];
    assert_eq!((a.down_after_ms, a.failover_timeout_ms, a.parallel_syncs), (1500, 90_000, 3));
    assert_eq!((a.master_reboot_down_after_ms, a.refused_after_ms), (0, 200));
    assert_eq!(a.flap_pause_ms, 120_000);
    assert_eq!(a.auth_pass, Some(Secret::new("0123")), "digits stay as they are written");
    assert_eq!(a.rename_commands["CONFIG"], "cfg");
    assert_eq!(groups["b"].master, Address::new("::1", 6379));
}

#[test]
fn all_problems_are_found_at_once() {
    let text = "
listen:
  port: 70000
  requirepass: hunter2
state_dir: [a]
log: loud
groups:
  'a b': {master: 127.0.0.1:6379, quorum: 2}
  c:
    master: localhost:6379
    quorum: 0
    down_after: 5000
    failover_timeout: soon
    paralel_syncs: 1
    down-after-milliseconds: 5
    auth: {password: '', password_env: NOT_SET}
    notification_script: /none
  d: {quorum: 2, master: '::1:6379', quorum: 1}
  e: {master: 127.0.0.1:6379, quorum: 2}
  f: {master: 127.0.0.1}
";
    assert_eq!(
        findings(text),
        [
            "error 3:9 a port is a number from 0 to 65535 (write a whole number, 0 for none)",
            "error 4:3 unknown setting 'requirepass' in listen (here it is called \
             'listen: {password: ...}')",
            "error 5:12 a single value is expected here (write it behind the colon, without \
             brackets or braces)",
            "error 6:6 log must be a mapping of settings (it may have: level, file, syslog, \
             syslog_ident, syslog_facility)",
            "error 8:3 Invalid master name. (a name has 1 to 255 bytes and no blanks, commas, \
             quotes or control characters)",
            "error 10:13 Can't resolve instance hostname. (write its IP address, or add: \
             hostnames: {resolve: true})",
            "error 11:13 Quorum must be 1 or greater. (the quorum is how many sentinels must \
             agree, for example 2 of 3)",
            "error 12:17 a time needs its unit (write 5000ms for milliseconds, 5000s for seconds)",
            "error 13:23 this is no time (write a number and its unit: 1500ms, 5s, 3m, 1h)",
            "error 14:5 unknown setting 'paralel_syncs' in a group (did you mean \
             'parallel_syncs'?)",
            "error 15:5 unknown setting 'down-after-milliseconds' in a group (here it is called \
             'down_after')",
            "error 16:22 'password' and 'password_env' exclude each other (keep one of them)",
            "error 16:22 this password is empty (remove the line for none)",
            "error 17:26 this script does not exist or cannot be executed (give the path of a \
             file that this user may execute (chmod +x))",
            "error 18:26 '::1:6379' is no address of a master (write an IPv6 address in brackets: \
             '[::1]:6379')",
            "error 18:38 'quorum' is given twice (keep one of them)",
            "error 19:3 'a b' and 'e' watch the same master, 127.0.0.1:6379 (other sentinels ask \
             by address and cannot tell the two apart: keep one of them)",
            "error 20:3 group 'f' has no 'quorum' (add: quorum: 2)",
            "error 20:15 '127.0.0.1' is no address of a master (write host and port: \
             127.0.0.1:6379)",
        ]
    );
}

#[test]
fn an_error_shows_line_caret_and_mend() {
    let (_, _, found) = read_text("groups:\n  m: {master: '127.0.0.1:1', quorum: two}\n");
    assert_eq!(
        found[0].clone().in_file(Path::new("s.yaml")).to_string(),
        [
            "error: Quorum must be 1 or greater.",
            " --> s.yaml:2:38",
            "  |",
            "2 |   m: {master: '127.0.0.1:1', quorum: two}",
            "  |                                      ^^^",
            "  = help: the quorum is how many sentinels must agree, for example 2 of 3",
        ]
        .join("\n")
    );
}

#[test]
fn no_password_is_shown() {
    for text in [
        "listen: {password: [hunter2]}",
        "listen:\n  password:\n    - hunter2\n    - hunter2\n",
        "listen:\n  passwort: hunter2\n",
        "requirepass: hunter2\ngroups: {}\n",
        "listen: {password: 'hunter2}",
        "listen:\n  password: |\n    hunter2\n   hunter2: x\n",
        "groups:\n  a:\n    auth: hunter2\n",
        "groups: {a: {auth: {password: hunter2, x: 1}}}",
        "listen: {port: x, password: hunter2}",
    ] {
        let found = read_text(text).2;
        assert!(!found.is_empty());
        for diagnostic in found {
            let shown = diagnostic.to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn no_groups_is_a_warning_and_broken_yaml_an_error() {
    assert!(findings("listen: {port: 1}\n")[0].starts_with("warning 1:1 No group is watched"));
    let found = findings("groups:\n");
    assert!(found[0].starts_with("warning 1:7 No group is watched"), "{found:?}");
    assert!(findings("- a\n")[0].starts_with("error 1:1 the file must be a mapping"));
    let unclosed = &findings("groups:\n  a: {quorum: 1\n")[0];
    assert!(unclosed.starts_with("error 2:6 This is not YAML: unclosed bracket '{'"), "{unclosed}");
    assert!(findings("a: 1\n---\nb: 1\n")[0].contains("multiple YAML documents"));
    assert!(findings("listen: *x\n")[0].contains("unknown anchor"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        text in "((listen|groups|a|quorum|password)?[:{},\\[\\]\"'|>&*!# \n-]{1,3}|\\PC){0,20}"
    ) {
        for finding in read_text(&text).2 {
            prop_assert!(!finding.to_string().is_empty());
        }
    }
}

#[test]
fn a_billion_laughs_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let last = vec![format!("*a{}", n - 1); 10];
        text += &format!("a{n}: &a{n} [{}]\n", last.join(", "));
    }
    let found = read_text(&text).2;
    assert!(found[0].is_error() && found[0].message.starts_with("This is not YAML"), "{found:?}");
}

#[test]
fn many_groups_share_their_defaults() {
    let mut text =
        "groups:\n  a: &d {master: '127.0.0.1:1', quorum: 2, down_after: 1s}\n".to_owned();
    for n in 2..1000 {
        text += &format!("  g{n}: {{<<: *d, master: '127.0.0.1:{n}'}}\n");
    }
    let (_, groups, found) = read_text(&text);
    assert_eq!(found, []);
    assert_eq!((groups.len(), groups["g999"].down_after_ms), (999, 1000));
}

#[test]
fn users_are_texts_or_lists_of_rules() {
    let text =
        "users:\n  default: off\n  bob: on >hunter2 +ping\n  al: [on, '~*  &*']\ngroups: {}\n";
    let (settings, _, found) = read_text(text);
    let shown: Vec<_> = settings.users.iter().map(|u| (u.name.as_str(), rules(u))).collect();
    assert_eq!(
        shown,
        [
            ("default", vec!["off"]),
            ("bob", vec!["on", ">hunter2", "+ping"]),
            ("al", vec!["on", "~*", "&*"])
        ]
    );
    assert!(found.iter().all(|finding| !finding.is_error()), "{found:?}");
    for (text, expected) in [
        ("users: {a: on, a: off}\n", "Duplicate user found."),
        ("users: {'a b': on}\n", "Spaces not allowed in ACL usernames"),
        ("users: on\n", "'users' must map names to rules"),
        ("users: {a: {b: c}}\n", "a single value is expected here"),
        ("acl_file: x\nusers: {a: on >hunter2}\n", "'users' and 'acl_file' exclude each other"),
        ("users: {bob: on >hunter2, {: x}\n", "This is not YAML"),
    ] {
        let found = read_text(text).2;
        let errors: String = found.iter().map(|finding| format!("{finding}\n")).collect();
        assert!(errors.contains(expected) && !errors.contains("hunter2"), "{text}: {errors}");
    }
}
