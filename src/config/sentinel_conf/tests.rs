//! Redis's `sentinel.conf`: what is read, what is found wrong, and that what is written is read
//! back.

use proptest::prelude::*;

use super::super::conf::parse;
use super::super::state::State;
use super::super::types::Address;
use super::super::users::UserLine;
use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const PEER: &str = "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb";

fn statements(text: &str) -> Vec<Statement> {
    let (lines, diagnostics) = parse(text);
    assert_eq!(diagnostics, []);
    let statement = |line| Statement { line, file: None, aside: false };
    lines.into_iter().map(statement).collect()
}

pub(super) fn read_text(text: &str) -> (SentinelSettings, ConfState, Vec<Diagnostic>) {
    let executable = |path: &Path| path.starts_with("/scripts");
    let known = (SentinelSettings::default(), ConfState::default());
    let (settings, mut state, mut found) = read(known, &statements(text), &executable);
    read_votes(text, &mut state);
    found.extend(own::read_groups(text, &mut state.groups));
    (settings, state, found)
}

/// Reads what must be good, and gives the findings of no weight back with it.
pub(super) fn good(text: &str) -> (SentinelSettings, ConfState) {
    let (settings, state, found) = read_text(text);
    let errors: Vec<_> = found.iter().filter(|d| d.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    (settings, state)
}

/// What is found, a line each: severity, place, message.
pub(super) fn findings(text: &str) -> Vec<String> {
    let found = read_text(text).2;
    found.iter().map(|d| format!("{} {}:{} {}", d.severity, d.line, d.column, d.message)).collect()
}

fn rules(user: &UserLine) -> Vec<&str> {
    user.rules.iter().map(Secret::reveal).collect()
}

pub(super) fn state_of(conf: ConfState) -> State {
    State {
        my_id: conf.my_id.unwrap_or_else(|| RunId::parse(ID).unwrap()),
        current_epoch: conf.current_epoch,
        groups: conf.groups.into(),
        removed: Default::default(),
        live: None,
    }
}

/// What a start takes from this text alone.
pub(super) fn declared(text: &str) -> Declared {
    let (settings, conf, _) = read_text(text);
    let groups = conf.groups.into_iter().map(|(name, group)| (name, group.settings)).collect();
    Declared { settings, groups, own: own(text), ..Declared::default() }
}

#[test]
fn a_whole_file_in_any_order() {
    let text = format!(
        "sentinel known-sentinel mymaster 10.0.0.9 26379 {PEER}\n\
         sentinel known-replica mymaster 10.0.0.2 6379\n\
         sentinel known-slave mymaster 10.0.0.3 6379\n\
         SENTINEL Down-After-Milliseconds mymaster 5000\n\
         sentinel failover-timeout mymaster 60000\n\
         sentinel parallel-syncs mymaster 2\n\
         sentinel auth-user mymaster watcher\n\
         sentinel auth-pass mymaster \"with blank\"\n\
         sentinel rename-command mymaster config cfg\n\
         sentinel notification-script mymaster /scripts/tell\n\
         sentinel master-reboot-down-after-period mymaster 100\n\
         sentinel leader-epoch mymaster 8\n\
         # watchfire-vote mymaster 8 {PEER}\n\
         sentinel config-epoch mymaster 7\n\
         sentinel monitor mymaster redis.example 6379 2\n\
         sentinel resolve-hostnames yes\n\
         sentinel myid {ID}\n\
         sentinel current-epoch 3\n\
         sentinel announce-ip 1.2.3.4\n\
         sentinel announce-port 5\n\
         sentinel sentinel-user u\n\
         sentinel sentinel-pass p\n\
         sentinel deny-scripts-reconfig no\n\
         port 5000\nbind 127.0.0.1 -::1\ndir /tmp\nlogfile \"\"\nloglevel verbose\n\
         tcp-backlog 9\ntcp-keepalive 8\ntimeout 6\nmaxclients 7\nrequirepass secret\nsentinel\n"
    );
    let (settings, state) = good(&text);
    assert_eq!(settings.bind, ["127.0.0.1", "-::1"]);
    assert_eq!((settings.port, settings.maxclients, settings.logfile), (5000, 7, None));
    assert_eq!((settings.tcp_backlog, settings.tcp_keepalive_s, settings.timeout_s), (9, 8, 6));
    assert_eq!(settings.requirepass, Some(Secret::new("secret")));
    assert_eq!(settings.announce_ip.as_deref(), Some("1.2.3.4"));
    assert_eq!(settings.announce_port, Some(5));
    assert_eq!(settings.sentinel_pass, Some(Secret::new("p")));
    assert!(settings.resolve_hostnames && !settings.deny_scripts_reconfig);
    assert_eq!(state.my_id, RunId::parse(ID));
    assert_eq!(state.current_epoch, 8, "the highest epoch of a group counts");
    let group = &state.groups["mymaster"];
    assert_eq!(group.settings.master, Address::new("redis.example", 6379));
    assert_eq!((group.settings.quorum, group.settings.parallel_syncs), (2, 2));
    assert_eq!((group.settings.down_after_ms, group.settings.failover_timeout_ms), (5000, 60_000));
    assert_eq!(group.settings.auth_pass, Some(Secret::new("with blank")));
    assert_eq!(group.settings.rename_commands["CONFIG"], "cfg");
    assert_eq!((group.config_epoch, group.leader_epoch), (7, 8));
    assert_eq!(group.voted_for, RunId::parse(PEER));
    assert_eq!(group.replicas.len(), 2);
    assert_eq!(group.sentinels[&RunId::parse(PEER).unwrap()].port, 26379);
}

#[test]
fn a_vote_counts_only_in_its_epoch() {
    let vote = |epoch: u64, leader_epoch: u64| {
        let text = format!(
            "sentinel monitor a 1.1.1.1 1 2\nsentinel leader-epoch a {leader_epoch}\n\
             # watchfire-vote a {epoch} {PEER}\n# watchfire-vote gone 1 {PEER}\n"
        );
        good(&text).1.groups["a"].voted_for.clone()
    };
    assert_eq!(vote(4, 4), RunId::parse(PEER));
    assert_eq!(vote(4, 5), None, "Redis has voted since");
    assert_eq!(vote(0, 0), None);
}

#[test]
fn errors_are_in_the_words_of_redis() {
    let many = "sentinel monitor a 1.1.1.1 1 0\n\
        sentinel monitor b 1.1.1.1 0 1\n\
        sentinel monitor c localhost 1 1\n\
        sentinel monitor d 1.1.1.1 1 1\n\
        sentinel monitor d 1.1.1.2 1 1\n\
        sentinel monitor e,f 1.1.1.2 1 1\n\
        sentinel down-after-milliseconds d 0\n\
        sentinel failover-timeout d 5s\n\
        sentinel master-reboot-down-after-period d -1\n\
        sentinel down-after-milliseconds x 1\n\
        sentinel notification-script d /none\n\
        sentinel client-reconfig-script d /none\n\
        sentinel rename-command d a b\n\
        sentinel rename-command d A c\n\
        sentinel known-replica d 1.1.1.3 1\n\
        sentinel known-replica d 1.1.1.3 1\n\
        sentinel myid short\n\
        sentinel resolve-hostnames maybe\n\
        sentinel deny-scripts-reconfig maybe\n\
        sentinel monitr a 1.1.1.1 1 1\n\
        sentinel monitor a 1.1.1.1 1\n\
        port 70000\nport x\nport 1 2\nfoo 1\nloglevel loud\ndaemonize maybe\nmaxclients 0\n";
    let known = format!(
        "sentinel known-sentinel d 1.1.1.4 1 {PEER}\nsentinel known-sentinel d 1.1.1.5 1 {PEER}\n"
    );
    assert_eq!(
        findings(&(many.to_owned() + &known)),
        [
            "error 1:30 Quorum must be 1 or greater.",
            "error 2:28 Invalid port number.",
            "error 3:20 Can't resolve instance hostname.",
            "note 4:18 quorum 1: one sentinel alone declares the master of 'd' down",
            "error 5:18 Duplicate master name.",
            "error 6:18 Invalid master name.",
            "error 7:36 negative or zero time parameter.",
            "warning 8:29 '5s' is no such number: 5 is read, as in Redis",
            "error 9:44 negative time parameter.",
            "error 10:34 No such master with specified name.",
            "error 11:32 Notification script seems non existing or non executable.",
            "error 12:35 Client reconfiguration script seems non existing or non executable.",
            "error 14:27 Same command renamed multiple times with rename-command.",
            "warning 16:26 Duplicate hostname and port for replica.",
            "error 17:15 Malformed Sentinel id in myid option.",
            "error 18:28 Please specify yes or no for the resolve-hostnames option.",
            "error 19:32 Please specify yes or no for the deny-scripts-reconfig options.",
            "error 20:10 Unrecognized sentinel configuration statement.",
            "error 21:28 Unrecognized sentinel configuration statement.",
            "error 22:6 argument must be between 0 and 65535 inclusive",
            "error 23:6 argument couldn't be parsed into an integer",
            "error 24:8 wrong number of arguments",
            "error 25:1 Bad directive or wrong number of arguments",
            "error 26:10 argument(s) must be one of the following: debug, verbose, notice, \
             warning, nothing",
            "error 27:11 argument must be 'yes' or 'no'",
            "error 28:12 argument must be between 1 and 4294967295 inclusive",
            "warning 30:37 Duplicate runid for sentinel.",
        ]
    );
}

#[test]
fn what_is_remembered_of_others_never_keeps_it_from_starting() {
    let text = format!(
        "sentinel monitor a 1.1.1.1 1 2\nsentinel known-replica a name 1\n\
         sentinel known-replica a 1.1.1.2 0\nsentinel known-replica a 1.1.1.2 1\n\
         sentinel known-slave a 1.1.1.2 1\nsentinel known-sentinel a 1.1.1.2 70000 {PEER}\n\
         sentinel known-sentinel a 1.1.1.3 1 short\nsentinel known-sentinel a 1.1.1.3 1\n\
         sentinel known-sentinel a 1.1.1.3 0 {PEER}\n"
    );
    assert_eq!(
        findings(&text),
        [
            "warning 2:26 Can't resolve instance hostname.",
            "warning 3:34 Invalid port number.",
            "warning 6:35 Invalid port number.",
            "warning 7:37 This is not an id of 40 hexadecimal digits",
            "note 9:35 A sentinel without an address",
        ]
    );
    let group = &good(&text).1.groups["a"];
    assert_eq!(group.replicas, [Address::new("1.1.1.2", 1)]);
    assert!(group.sentinels.is_empty());
}

#[test]
fn a_number_that_is_none_is_told_of_once() {
    let text = "sentinel monitor a 1.1.1.1 6379tcp 2abc\nsentinel down-after-milliseconds a 30s\n\
                sentinel failover-timeout a 3000000000\nsentinel parallel-syncs a x\n\
                sentinel config-epoch a 5th\nsentinel current-epoch -5\n\
                sentinel announce-port 70000\nsentinel failover-timeout a abc\n\
                sentinel parallel-syncs a 02\n";
    assert_eq!(
        findings(text),
        [
            "warning 1:28 '6379tcp' is no such number: 6379 is read, as in Redis",
            "warning 1:36 '2abc' is no such number: 2 is read, as in Redis",
            "warning 2:36 '30s' is no such number: 30 is read, as in Redis",
            "warning 3:29 Redis would read -1294967296 here",
            "warning 4:27 parallel-syncs below 1 is taken as 1",
            "warning 5:25 '5th' is no epoch: 5 is read, as in Redis",
            "error 6:24 value is not an integer or out of range",
            "warning 7:24 70000 is no port, and is not announced",
            "error 8:29 negative or zero time parameter.",
        ]
    );
    let help = |at: usize| read_text(text).2[at].help.clone();
    assert_eq!(help(2).as_deref(), Some("times are in milliseconds: 30000"));
}

#[test]
fn an_epoch_that_leaves_no_room_for_elections_is_refused() {
    for (line, at) in [
        ("sentinel current-epoch", "2:24"),
        ("sentinel config-epoch a", "2:25"),
        ("sentinel leader-epoch a", "2:25"),
    ] {
        let found = |epoch: &str| {
            findings(&format!("sentinel monitor a 1.1.1.1 1 2\n{line} {epoch}\n")).join("\n")
        };
        let many = format!("warning {at} No sentinel counts that many failovers");
        assert_eq!(found("4611686018427387904"), many);
        let refused = format!("error {at} value is not an integer or out of range");
        for epoch in ["4611686018427387905", "18446744073709551615", "99999999999999999999", "-1"] {
            assert_eq!(found(epoch), refused, "{epoch}");
        }
    }
}

#[test]
fn a_bad_group_does_not_make_its_other_lines_bad() {
    let text = "sentinel monitor a x 1 1\nsentinel parallel-syncs a 2\n\
                sentinel failover-timeout a 0\n";
    assert_eq!(
        findings(text),
        [
            "error 1:20 Can't resolve instance hostname.",
            "error 3:29 negative or zero time parameter."
        ]
    );
    let twice = "sentinel monitor a x 1 1\nsentinel monitor a 1.1.1.1 1 2\n";
    assert_eq!(findings(twice), ["error 1:20 Can't resolve instance hostname."]);
}

#[test]
fn an_error_shows_line_caret_and_mend() {
    let found = read_text("# x\nsentinel monitor mymaster localhost 6379 2\nprot 1\n").2;
    assert_eq!(
        found[0].clone().in_file(Path::new("s.conf")).to_string(),
        [
            "error: Can't resolve instance hostname.",
            " --> s.conf:2:27",
            "  |",
            "2 | sentinel monitor mymaster localhost 6379 2",
            "  |                           ^^^^^^^^^",
            "  = help: write its IP address, or add the line: sentinel resolve-hostnames yes",
        ]
        .join("\n")
    );
    assert_eq!(found[1].help.as_deref(), Some("did you mean 'port'?"));
}

#[test]
fn no_password_is_shown() {
    let text = "sentinel auth-pass hunter2 hunter2\nsentinel auth-pass hunter2\n\
                sentinel sentinel-pass hunter2 hunter2\nrequirepas hunter2\n\
                requirepass hunter2 hunter2\nmasterauth hunter2 hunter2\nuser a on >hunter2\n\
                user default off >hunter2\ntls-key-file-pass hunter2\nmasterauth hunter2\n";
    let found = read_text(text).2;
    assert!(found.len() >= 7, "{found:?}");
    for diagnostic in found {
        let shown = diagnostic.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("******"), "{shown}");
    }
}

#[test]
fn what_redis_writes_by_itself_draws_no_remark() {
    let text = "protected-mode no\nlatency-tracking-info-percentiles 50 99 99.9\n\
                user default on nopass sanitize-payload ~* &* +@all\nport 1\n";
    assert_eq!(findings(text), [""; 0]);
}

#[test]
fn what_means_nothing_here_is_said() {
    assert_eq!(
        findings("port 1\nsave 60 1\nset-proc-title no\nsyslog-enabled no\nunixsocket /x\n"),
        [
            "note 2:1 'save' means nothing to a sentinel",
            "note 3:1 'set-proc-title' is accepted, and changes nothing here",
        ]
    );
}

#[test]
fn users_are_read_with_their_places() {
    let text = "user bob on >hunter2 +ping\naclfile \"\"\nuser default off\nacllog-max-len 7\n\
                acl-pubsub-default AllChannels\n";
    let (settings, _) = good(text);
    let shown: Vec<_> = settings.users.iter().map(|u| (u.name.as_str(), rules(u))).collect();
    assert_eq!(shown, [("bob", vec!["on", ">hunter2", "+ping"]), ("default", vec!["off"])]);
    assert_eq!((settings.acllog_max_len, settings.acl_all_channels), (7, true));
    let finding = settings.users[0].finding(Severity::Error, "so").to_string();
    assert!(finding.contains("1 | user bob ******\n"), "{finding}");
    let secret = format!("{:?}", settings.users);
    assert!(!secret.contains("hunter2"), "{secret}");
    for (text, expected) in [
        (
            "user a on\nuser a off",
            "error 2:6 Error in user declaration 'a': Duplicate user found. A user can only be \
             defined once in config files",
        ),
        ("user \"a b\" on", "error 1:6 Spaces not allowed in ACL usernames"),
        (
            "acllog-max-len -1",
            "error 1:16 argument must be between 0 and 9223372036854775807 inclusive",
        ),
        (
            "acl-pubsub-default x",
            "error 1:20 argument(s) must be one of the following: allchannels, resetchannels",
        ),
    ] {
        assert_eq!(findings(text), [expected], "{text}");
    }
    let both = findings("aclfile /x\nuser a on");
    assert!(both[0].starts_with("error 1:1 Configuring Redis with users defined in"), "{both:?}");
}

#[test]
fn a_user_of_an_included_file_yields_to_the_main_file() {
    let mut lines = statements("user a on\nuser a off\n");
    lines[0].aside = true;
    lines[0].file = Some(Path::new("included.conf").into());
    let known = (SentinelSettings::default(), ConfState::default());
    let (settings, _, found) = read(known, &lines, &|_| true);
    assert_eq!((rules(&settings.users[0]), found.len()), (vec!["off"], 0));
}

#[test]
fn own_commands_are_renamed_one_line_after_the_other() {
    let (settings, _) =
        good("rename-command Shutdown Halt\nrename-command halt stop\nrename-command role \"\"\n");
    let renamed: Vec<_> = settings.renamed_commands.iter().collect();
    let expected = [("role", ""), ("shutdown", "stop")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(renamed, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
    let none = "No such command in rename-command";
    for (text, expected) in [
        ("rename-command get x", format!("error 1:16 {none}")),
        ("rename-command quit x", format!("error 1:16 {none}")),
        ("rename-command ping a\nrename-command ping b", format!("error 2:16 {none}")),
        ("rename-command ping role", "error 1:21 Target command name already exists".into()),
        (
            "rename-command ping a\nrename-command role A",
            "error 2:21 Target command name already exists".into(),
        ),
        ("rename-command ping", "error 1:1 Bad directive or wrong number of arguments".into()),
    ] {
        assert_eq!(findings(text), [expected], "{text}");
    }
}

#[test]
fn a_group_in_an_included_file_yields_to_the_main_file() {
    let mut lines = statements(
        "sentinel monitor a 1.1.1.1 1 2\nsentinel monitor a 2.2.2.2 2 2\n\
         sentinel rename-command a X y\nsentinel rename-command a X y\n",
    );
    (lines[0].aside, lines[2].aside) = (true, true);
    let known = (SentinelSettings::default(), ConfState::default());
    let (_, state, found) = read(known, &lines, &|_| true);
    assert_eq!(state.groups["a"].settings.master, Address::new("2.2.2.2", 2));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].line, found[0].severity), (1, Severity::Note));
}

#[test]
fn rewriting_keeps_the_file_and_adds_the_state() {
    let original = "# my sentinel\nport 5000\nsentinel monitor a 1.1.1.1 1 2\n\
                    # patience\nsentinel down-after-milliseconds a 5000\n\
                    sentinel known-slave a 1.1.1.2 1\nsave 60 1\n";
    let (settings, conf) = good(original);
    let declared = Declared {
        settings: settings.clone(),
        groups: conf.groups.iter().map(|(n, g)| (n.clone(), g.settings.clone())).collect(),
        overrides: Vec::new(),
        own: own(original),
        user_lines: UserLines::default(),
    };
    let mut state = state_of(conf);
    let group = state.groups.get_mut("a").unwrap();
    group.settings.master = Address::new("1.1.1.2", 1);
    group.replicas = vec![Address::new("1.1.1.1", 1), Address::new("1.1.1.3", 1)];
    (group.config_epoch, group.leader_epoch) = (4, 4);
    group.voted_for = RunId::parse(PEER);
    state.current_epoch = 4;
    let written = render(original, &declared, &settings, &state, None);
    assert_eq!(
        written,
        format!(
            "# my sentinel\nport 5000\nsentinel monitor a 1.1.1.2 1 2\n\
             # patience\nsentinel down-after-milliseconds a 5000\n\
             sentinel known-replica a 1.1.1.1 1\nsave 60 1\n\
             \n# Generated by CONFIG REWRITE\n\
             sentinel myid {ID}\nsentinel current-epoch 4\nsentinel config-epoch a 4\n\
             sentinel leader-epoch a 4\n# watchfire-vote a 4 {PEER}\n\
             sentinel known-replica a 1.1.1.3 1\n"
        )
    );
    assert_eq!(render(&written, &declared, &settings, &state, None), written);
    let removed = State { groups: Default::default(), ..state.clone() };
    let without = render(&written, &declared, &settings, &removed, None);
    assert!(!without.contains(" a ") && without.contains("# patience"), "{without}");
    // Watched again, as in the file at first: it stands there again.
    let again = render(&without, &declared, &settings, &state, None);
    assert!(again.contains("\nsentinel monitor a 1.1.1.2 1 2\n"), "{again}");
    assert!(again.contains("\nsentinel down-after-milliseconds a 5000\n"), "{again}");
}

#[test]
fn what_is_unset_and_set_again_stands_in_the_file_again() {
    let original = "sentinel announce-ip 1.1.1.1\nSENTINEL Sentinel-Pass secret\n";
    let (settings, conf) = good(original);
    let declared =
        Declared { settings: settings.clone(), own: own(original), ..Default::default() };
    let state = state_of(conf);
    let unset = SentinelSettings { announce_ip: None, sentinel_pass: None, ..settings.clone() };
    let written = render(original, &declared, &unset, &state, None);
    assert!(!written.contains("announce-ip") && !written.contains("secret"), "{written}");
    let again = render(&written, &declared, &settings, &state, None);
    assert_eq!(good(&again).0, settings, "{again}");
}

/// The lines of a file, as a rewrite wants to know them.
fn own(text: &str) -> BTreeSet<String> {
    parse(text).0.iter().map(plain).chain(own::lines(text).map(own::plain)).collect()
}

#[test]
fn a_directive_of_ours_stands_in_its_place_again_once_it_holds_again() {
    let original = "# watchfire-refused-after m 200\nsentinel monitor m ::1 1 2\n# kept\n";
    let (declared, (settings, conf)) = (declared(original), good(original));
    let mut state = state_of(conf);
    let mut written = original.to_owned();
    for ms in [300, 0, 200] {
        state.groups.get_mut("m").expect("read").settings.refused_after_ms = ms;
        written = render(&written, &declared, &settings, &state, None);
        assert_eq!(good(&written).1.groups["m"].settings.refused_after_ms, ms, "{written}");
        assert!(written.contains("# kept\n"));
    }
    for (ms, lines) in [(60_000, 0), (0, 1), (500, 1), (60_000, 0)] {
        state.groups.get_mut("m").expect("read").settings.flap_pause_ms = ms;
        written = render(&written, &declared, &settings, &state, None);
        assert_eq!(good(&written).1.groups["m"].settings.flap_pause_ms, ms, "{written}");
        assert_eq!(written.matches("# watchfire-flap-pause m").count(), lines, "{written}");
    }
    assert_eq!(
        findings("sentinel refused-after m 200"),
        ["error 1:10 Unrecognized sentinel configuration statement."]
    );
}

#[test]
fn what_was_set_while_it_runs_and_taken_back_leaves_no_line() {
    let original = "port 26379\n# kept\n";
    let (declared, before) = (declared(original), good(original));
    let state = state_of(before.1);
    let given = SentinelSettings {
        announce_ip: Some("10.0.0.1".into()),
        announce_port: Some(1234),
        sentinel_user: Some("u".into()),
        sentinel_pass: Some(Secret::new("p")),
        ..before.0.clone()
    };
    let plain = render(original, &declared, &before.0, &state, None);
    let set = render(&plain, &declared, &given, &state, None);
    assert_eq!(set.lines().count(), plain.lines().count() + 4, "{set}");
    assert_eq!(render(&set, &declared, &before.0, &state, None), plain);
}

#[test]
fn the_command_line_is_written_into_the_file() {
    let original = "port 5000\nuser default on #00 ~* +@all\nuser bob off\nrename-command ping a\n";
    let (settings, _, _) = read_text(original);
    let mut now = settings.clone();
    (now.port, now.requirepass) = (6000, Some(Secret::new("a b")));
    now.users[0].rules.extend(["resetpass", ">a b"].map(Secret::new));
    let overrides = "port 6000\nsupervised systemd\nrequirepass \"a b\"\n\
                     sentinel monitor m 1.1.1.1 1 2\nrename-command role b\n";
    let declared = Declared {
        settings,
        groups: BTreeMap::new(),
        overrides: statements(overrides).into_iter().map(|s| s.line).collect(),
        own: own(original),
        user_lines: UserLines::default(),
    };
    let state = state_of(good(overrides).1);
    let written = render(original, &declared, &now, &state, None);
    assert_eq!(
        written,
        format!(
            "port 6000\nuser default on \"#00\" ~* +@all resetpass \">a b\"\nuser bob off\n\
             rename-command ping a\n\
             \n# Generated by CONFIG REWRITE\nrequirepass \"a b\"\n\
             supervised systemd\nrename-command role b\n\
             sentinel myid {ID}\nsentinel current-epoch 0\n\
             sentinel monitor m 1.1.1.1 1 2\nsentinel config-epoch m 0\nsentinel leader-epoch m 0\n"
        )
    );
    assert_eq!(render(&written, &declared, &now, &state, None), written);
}

#[test]
fn users_changed_at_run_time_take_the_place_of_their_lines() {
    let original = "user bob on >hunter2\n# the default user\n\
                    user default on nopass +@all\nport 1\nrequirepass x\n";
    let (settings, conf) = good(original);
    let declared = Declared { settings: settings.clone(), ..Declared::default() };
    let state = state_of(conf);
    assert!(render(original, &declared, &settings, &state, None).starts_with(original));
    let lines = ["user bob on #aa resetchannels -@all (~a +ping)", "user default on nopass +@all"];
    declared.user_lines.set(lines.map(str::to_owned).into());
    let written = render(original, &declared, &settings, &state, None);
    let head = "user bob on \"#aa\" resetchannels -@all (~a +ping)\n# the default user\n\
                user default on nopass +@all\nport 1\n\n# Generated";
    assert!(written.starts_with(head), "{written}");
    assert_eq!(render(&written, &declared, &settings, &state, None), written);
}

fn address() -> impl Strategy<Value = Address> {
    ("10\\.[0-9]\\.[0-9]\\.[1-9]|[a-z]{1,5}\\.example|::[1-9]", 1..=u16::MAX)
        .prop_map(|(host, port)| Address::new(host, port))
}

fn id() -> impl Strategy<Value = RunId> {
    any::<[u8; 20]>().prop_map(RunId::from_bytes)
}

prop_compose! {
    fn group()(
        master in address(),
        quorum in 1u32..9,
        times in prop::array::uniform3(prop_oneof![Just(30_000u64), 1..100_000u64]),
        refused_after_ms in prop_oneof![Just(0u64), 0..10_000u64],
        parallel_syncs in 1u32..3,
        auth in prop::array::uniform2(prop::option::of("\\PC{1,8}|[ \"'\\\\\\n]{1,4}")),
        script in prop::option::of("/scripts/[a-z ]{1,5}"),
        rename_commands in prop::collection::btree_map("[A-Z]{1,4}", "[a-z ]{1,4}", 0..3),
        epochs in (0u64..9, 0u64..9),
        voted_for in prop::option::of(id()),
        replicas in prop::collection::btree_set(address(), 0..4),
        sentinels in prop::collection::btree_map(id(), address(), 0..4),
    ) -> GroupState {
        let settings = GroupSettings {
            down_after_ms: times[0],
            failover_timeout_ms: times[1],
            parallel_syncs,
            auth_user: auth[0].clone(),
            auth_pass: auth[1].clone().map(Secret::new),
            notification_script: script.map(Into::into),
            rename_commands,
            master_reboot_down_after_ms: times[2],
            refused_after_ms,
            ..GroupSettings::new(master, quorum)
        };
        let (config_epoch, leader_epoch) = epochs;
        GroupState {
            config_epoch,
            leader_epoch,
            voted_for: voted_for.filter(|_| leader_epoch > 0),
            replicas: replicas.into_iter().collect(),
            sentinels,
            ..GroupState::fresh(settings, None)
        }
    }
}

prop_compose! {
    pub(super) fn state()(
        my_id in id(),
        groups in prop::collection::btree_map("[a-z#:*é]{1,4}", group(), 0..3),
    ) -> State {
        let (groups, removed) = (groups.into(), Default::default());
        State { my_id, current_epoch: 9, groups, removed, live: None }
    }
}

pub(super) fn sorted(mut state: State) -> State {
    for group in state.groups.values_mut() {
        group.replicas.sort();
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_state_written_is_the_state_read(before in state(), after in state()) {
        let settings =
            SentinelSettings { resolve_hostnames: true, ..SentinelSettings::default() };
        let mut file = "# a comment\nsentinel known-slave gone 10.0.0.1 1\n".to_owned();
        for state in [before, after] {
            // As after a start from that file.
            let declared = declared(&file);
            file = render(&file, &declared, &settings, &state, None);
            prop_assert_eq!(render(&file, &declared, &settings, &state, None), file.as_str());
            let (read_settings, conf) = good(&file);
            prop_assert_eq!(&read_settings, &settings);
            prop_assert_eq!(sorted(state_of(conf)), sorted(state));
        }
        prop_assert!(file.starts_with("# a comment\n"));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(sentinel |monitor |port |user |[a-z0-9\\PC \"\n]){0,30}") {
        let (lines, _) = parse(&text);
        let statement = |line| Statement { line, file: None, aside: false };
        let lines: Vec<Statement> = lines.into_iter().map(statement).collect();
        let known = (SentinelSettings::default(), ConfState::default());
        for finding in read(known, &lines, &|_| false).2 {
            prop_assert!(!finding.to_string().is_empty());
        }
    }
}

#[test]
fn integers_are_written_as_redis_writes_them() {
    const WORDS: &str = "argument couldn't be parsed into an integer";
    for line in ["port +1", "port 01", "timeout +5", "timeout 0300", "maxclients 0100", "port 00"] {
        assert_eq!(findings(line), [format!("error 1:{} {WORDS}", line.find(' ').unwrap() + 2)]);
    }
}
