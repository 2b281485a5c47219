//! Rules, users, the ACL file and the log, apart from any connection.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn catalog() -> Arc<Catalog> {
    let row = |name: &str, categories, open, same_as: Option<&str>| Row {
        name: name.to_owned(),
        categories,
        open,
        same_as: same_as.map(str::to_owned),
    };
    Arc::new(Catalog::new([
        row("auth", &["@fast", "@connection"], true, None),
        row("client", &["@slow"], false, None),
        row("client|id", &["@slow", "@connection"], false, None),
        row("client|kill", &["@admin", "@slow", "@dangerous", "@connection"], false, None),
        row("ping", &["@fast", "@connection"], false, None),
        row("publish", &["@pubsub", "@fast"], false, None),
        row("sentinel", &["@admin", "@slow", "@dangerous"], false, None),
        row("sentinel|masters", &["@admin", "@slow", "@dangerous"], false, None),
        row("sentinel|primaries", &["@admin"], false, Some("sentinel|masters")),
        row("sentinel|myid", &["@admin", "@slow", "@dangerous"], false, None),
        row("subscribe", &["@pubsub", "@slow"], false, None),
    ]))
}

fn acl() -> Acl {
    Acl::new(catalog(), false)
}

/// The user that these rules make, parted by blanks.
fn user(rules: &str) -> (Acl, User) {
    let mut acl = acl();
    let rules = join_selectors(&rules.split(' ').collect::<Vec<_>>()).unwrap();
    acl.set("bob", &rules).unwrap_or_else(|bad| panic!("{bad:?}"));
    let user = acl.get("bob").unwrap().clone();
    (acl, user)
}

/// Whether the user may do this: a command, its first argument, its channels.
fn may(acl: &Acl, user: &User, words: &str) -> Result<(), Denial> {
    let mut words = words.split(' ');
    let command = acl.catalog().find(words.next().unwrap()).unwrap();
    let channels: Vec<&[u8]> = words.map(str::as_bytes).collect();
    let first_arg = channels.first().copied();
    user.check(&Wish { command, first_arg, channels: &channels, patterns: false }, acl.catalog())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("all of it is text")
}

fn lines(acl: &Acl) -> Vec<String> {
    acl.lines().into_iter().map(text).collect()
}

#[test]
fn later_rules_about_a_command_outdate_earlier_ones() {
    for (rules, expected) in [
        ("+ping -ping +ping", "-@all +ping"),
        ("+client|id -client|kill +client", "-@all +client"),
        ("+client -client|kill", "-@all +client -client|kill"),
        ("+@all -@dangerous +PING", "+@all -@dangerous +ping"),
        ("+ping +@all", "+@all"),
        ("+ping -@all", "-@all"),
        ("+@Dangerous -@dangerous", "-@all -@dangerous"),
        ("nocommands +ping|hello", "-@all +ping|hello"),
        ("+ping|hello +ping", "-@all +ping"),
        ("+sentinel|primaries", "-@all +sentinel|masters"),
        ("allcommands", "+@all"),
    ] {
        assert_eq!(user(rules).1.root().commands(), expected, "{rules}");
    }
}

#[test]
fn what_a_user_may_do_follows_its_rules_in_order() {
    let yes = Ok(());
    let no = Err(Denial::Command);
    for (rules, wish, expected) in [
        ("on", "ping", no),
        ("on", "auth", yes),
        ("+@connection", "client|id", yes),
        ("+@connection -client", "client|id", no),
        ("+client -client|kill", "client|kill", no),
        ("+@all -@dangerous", "sentinel|masters", no),
        ("+@all -@dangerous +sentinel|masters", "sentinel|masters", yes),
        ("+sentinel|masters", "sentinel|primaries", yes),
        ("+@all -sentinel|masters", "sentinel|primaries", no),
        ("+sentinel|masters", "sentinel|myid", no),
        ("+ping|hi", "ping Hi", Err(Denial::Channel(0))),
        ("+ping|hi", "ping ho", no),
        ("+publish &a*", "publish abc", yes),
        ("+publish &a*", "publish abc b", Err(Denial::Channel(1))),
        ("+publish allchannels", "publish b", yes),
        ("+ping &b (+publish &a)", "publish a", yes),
        // Each selector counts for itself.
        ("+ping &b (+publish &a)", "publish b", Err(Denial::Channel(0))),
        ("+ping (+publish &a) clearselectors", "publish a", no),
    ] {
        let (acl, user) = user(rules);
        assert_eq!(may(&acl, &user, wish), expected, "{rules}: {wish}");
    }
}

#[test]
fn a_pattern_must_be_allowed_to_the_letter() {
    let (acl, user) = user("+subscribe &a* &b");
    let command = acl.catalog().find("subscribe").unwrap();
    for (channel, patterns, expected) in
        [("ab", false, true), ("ab", true, false), ("a*", true, true), ("*", true, false)]
    {
        let channels = [channel.as_bytes()];
        let wish = Wish { command, first_arg: None, channels: &channels, patterns };
        assert_eq!(user.check(&wish, acl.catalog()).is_ok(), expected, "{channel} {patterns}");
    }
}

#[test]
fn a_line_makes_the_same_user_again() {
    let hash = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4";
    let rules = "on >pw >x <x ~a %R~b %W~b %W~c &+s* -@all +client -client|kill \
                 (~d +ping|x) skip-sanitize-payload (%RW~e +@all -@admin)";
    let (mut acl, user) = user(rules);
    let line = text(user.describe());
    assert_eq!(
        line,
        format!(
            "on skip-sanitize-payload #{hash} ~a ~b %W~c resetchannels &+s* -@all +client \
             -client|kill (~d resetchannels -@all +ping|x) (~e resetchannels +@all -@admin)"
        )
    );
    let words = join_selectors(&line.split(' ').collect::<Vec<_>>()).unwrap();
    acl.define("bob", &words).unwrap();
    assert_eq!(acl.get("bob"), Some(&user));
}

#[test]
fn passwords_are_taken_while_the_user_is_on() {
    let mut acl = acl();
    for (rules, password, expected) in [
        (&[">one", ">two"][..], "one", false),
        (&["on"], "one", true),
        (&["<one"], "one", false),
        (&[], "two", true),
        (&[], "", false),
        (&["nopass"], "anything", true),
        (&[">three"], "anything", false),
        (&[], "three", true),
        (&["resetpass"], "three", false),
        (&["nopass", "off"], "three", false),
    ] {
        acl.set("bob", rules).unwrap();
        assert_eq!(acl.accepts(b"bob", password.as_bytes()), expected, "{rules:?} {password}");
    }
    assert!(!acl.accepts(b"nobody", b"x") && !acl.accepts(b"\xff", b"x"));
}

#[test]
fn one_wrong_rule_changes_nothing() {
    let (mut acl, before) = user("on +ping");
    for (rule, error) in [
        ("+nope", RuleError::Unknown),
        ("-ping|x", RuleError::Unknown),
        ("+@nope", RuleError::Unknown),
        ("+ping|", RuleError::Syntax),
        ("+client|id|x", RuleError::FirstArgOfSubcommand),
        ("<never", RuleError::NoSuchPassword),
        ("#beef", RuleError::BadHash),
        ("!BEEF", RuleError::BadHash),
        ("%X~a", RuleError::Syntax),
        ("%~a", RuleError::Syntax),
        ("~a b", RuleError::Syntax),
        ("&a\tb", RuleError::Syntax),
        ("(+nope)", RuleError::Unknown),
        ("hello", RuleError::Syntax),
    ] {
        let bad = acl.set("bob", &["off", rule]).unwrap_err();
        assert_eq!(bad, BadRule { index: 1, error }, "{rule}");
        assert_eq!(acl.get("bob"), Some(&before), "{rule}");
    }
    assert_eq!(acl.set("bob", &["~*", "~a"]).unwrap_err().error, RuleError::AllKeys);
    assert_eq!(acl.set("bob", &["&*", "&a"]).unwrap_err().error, RuleError::AllChannels);
    assert_eq!(join_selectors(&["+ping", "(+a", "b"]), Err(1));
}

#[test]
fn an_error_never_shows_a_password() {
    let rules = ["on", "!hunter2"];
    let bad = acl().set("bob", &rules).unwrap_err();
    assert_eq!(bad.shown(&rules), "!******");
}

#[test]
fn a_file_is_taken_over_as_a_whole_or_not_at_all() {
    let mut acl = acl();
    acl.set("old", &["on"]).unwrap();
    let before = lines(&acl);
    let warning =
        "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    for (text, expected) in [
        ("usr bob on", "f:1 should start with user keyword followed by the username. "),
        ("# hi", "f:1 should start with user keyword followed by the username. "),
        ("\nuser bob on\nuser bob off", "WARNING: Duplicate user 'bob' found on line 3. "),
        ("user bob (+ping", "f:1: Unmatched parenthesis in selector definition."),
        (
            "user bob +foo\nuser al zzz",
            "f:1: Error in applying operation '+foo': Unknown command or category name in ACL. \
             f:2: Syntax error. ",
        ),
    ] {
        let error = acl.load("f", text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, format!("{expected}{warning}"), "{text:?}");
        assert_eq!(lines(&acl), before);
    }
    acl.load("f", b"\n  user carl   on (+ping &x) \r\n").unwrap();
    assert_eq!(
        lines(&acl),
        [
            "user carl on sanitize-payload resetchannels -@all (resetchannels &x -@all +ping)",
            "user default on nopass sanitize-payload ~* &* +@all",
        ]
    );
    acl.load("f", b"user carl on >s\xe9same\n").unwrap();
    assert!(acl.accepts(b"carl", b"s\xe9same"), "a password may be any bytes");
    let error = acl.load("f", b"user c\x0b on").unwrap_err().to_string();
    assert!(error.starts_with("'f:1: username 'c\x0b' contains invalid"), "{error}");
    assert!(!acl.auth_required());
    assert!(acl.require_password(b"pw") && !acl.require_password(b"other"));
    assert!(acl.auth_required() && acl.accepts(b"default", b"pw"));
    acl.load("f", &acl.lines().join(&b'\n')).unwrap();
    assert!(acl.accepts(b"default", b"pw") && !acl.accepts(b"default", b"other"));
}

#[test]
fn names_and_patterns_may_be_any_bytes() {
    let mut acl = acl();
    let line = b"user c\xe9 on nopass sanitize-payload %R~k\xe9 resetchannels &a\xe9* \
                 -@all +subscribe (resetchannels &\xff -@all)";
    acl.load("f", line).unwrap();
    assert_eq!(acl.lines()[0], line);
    assert!(acl.accepts(b"c\xe9", b"") && !acl.accepts(b"c\xea", b""));
    assert!(!acl.accepts("c\u{fffd}".as_bytes(), b"") && acl.get(b"c").is_none());
    let user = acl.get(b"c\xe9").expect("this user");
    assert!(user.may_hear(b"a\xe9b", false) && user.may_hear(b"a\xe9*", true));
    assert!(user.may_hear(b"\xff", false) && !user.may_hear(b"a", false));
    for rule in [&b"+\xff"[..], b"-@\xff", b"+ping|\xff"] {
        assert_eq!(acl.set(b"c\xe9", &[rule]).unwrap_err().error, RuleError::Unknown);
    }
    assert_eq!(acl.set(b"c\xe9", &[b"\xff"]).unwrap_err().error, RuleError::Syntax);
    assert!(acl.delete(b"c\xe9"));
}

#[test]
fn denials_of_one_kind_within_a_minute_are_one_entry() {
    let mut log = Log::new(2);
    let denied = |object: &str| Denied {
        reason: Reason::Command,
        object: object.into(),
        username: b"bob".to_vec(),
        client: String::new(),
    };
    let shown = |log: &Log| {
        let entry = |e: &Entry| (String::from_utf8_lossy(&e.denied.object).into_owned(), e.count);
        log.entries().map(entry).collect::<Vec<_>>()
    };
    for (object, at) in [("a", 0), ("b", 1), ("a", 60_000)] {
        log.add(denied(object), at);
    }
    assert_eq!(shown(&log), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    log.add(denied("b"), 60_002);
    assert_eq!(shown(&log), [("b".to_owned(), 1), ("a".to_owned(), 2)], "b is a new entry");
    let ids: Vec<u64> = log.entries().map(|entry| entry.id).collect();
    assert_eq!(ids, [2, 0]);
    log.add(denied(&"x".repeat(5_000)), 60_003);
    assert_eq!(log.entries().next().map(|entry| entry.denied.object.len()), Some(1024));
    log.reset();
    assert_eq!(log.entries().count(), 0);
}

const RULES: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    ">a",
    ">b",
    "<a",
    "+@all",
    "-@all",
    "+@fast",
    "-@fast",
    "+@dangerous",
    "-@connection",
    "+ping",
    "-ping",
    "+ping|x",
    "+ping|Y",
    "+client",
    "-client",
    "+client|id",
    "-client|kill",
    "+sentinel|primaries",
    "-sentinel",
    "~a",
    "%R~a",
    "%W~b",
    "~*",
    "resetkeys",
    "&a",
    "&*",
    "resetchannels",
    "(+ping ~a)",
    "(+@all &x -client)",
    "clearselectors",
    "reset",
    "skip-sanitize-payload",
];

proptest! {
    #[test]
    fn any_user_is_made_again_by_its_line(
        rules in prop::collection::vec(prop::sample::select(RULES), 0..16),
        all_channels: bool,
    ) {
        let mut acl = Acl::new(catalog(), all_channels);
        for rule in rules {
            // Some do not go together.
            let _ = acl.set("bob", &[rule]);
        }
        if let Some(user) = acl.get("bob").cloned() {
            let line = text(user.describe());
            let mut other = Acl::new(catalog(), !all_channels);
            other.load("f", format!("user bob {line}").as_bytes()).unwrap();
            prop_assert_eq!(other.get("bob"), Some(&user), "{}", line);
        }
    }

    #[test]
    fn no_file_makes_it_panic(text in "(user |bob |[-+@~%&()#>a-z0-9\\PC \n]){0,40}") {
        let _ = acl().load("f", text.as_bytes());
    }
}
