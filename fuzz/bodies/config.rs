//! Configuration and state: whatever a file holds, it is read or refused with words; and what is
//! written is read back as it was.

use watchfire::config::by_name::ByName;
use watchfire::config::diagnostic::Diagnostic;
use watchfire::config::fuzz as config;
use watchfire::config::load::Loaded;
use watchfire::config::rewrite::SIGNATURE;
use watchfire::config::settings::GroupSettings;
use watchfire::config::state::{GroupState, State};
use watchfire::config::types::{Address, EPOCH_MAX, RunId};
use watchfire::daemon::fuzz as state_files;
use watchfire::sentinel::reconcile;

/// What stands for the password of another file; no finding may show it.
const SECRET: &str = "hunter2";

/// Our own syntax.
pub(crate) fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (_, groups, found) = config::yaml(text);
    shows(text, &found);
    if found.iter().any(Diagnostic::is_error) {
        return;
    }
    groups.iter().for_each(|(name, group)| usable(name, group));
    // As a sentinel would begin with it, and again after a restart.
    let id = RunId::from_bytes([1; 20]);
    let (state, _) = reconcile(groups.clone(), None, id.clone());
    survives_its_file(&state);
    let (again, notes) = reconcile(groups, Some(state.clone()), id);
    assert_eq!((again, notes), (state, vec![]), "nothing changes at a restart");
}

/// Findings can be shown, each about a line that the text has.
fn shows(text: &str, found: &[Diagnostic]) {
    for finding in found {
        let shown = finding.to_string();
        let hidden = text.contains(SECRET) || !shown.contains(SECRET);
        assert!(!shown.is_empty() && hidden, "{shown}");
        assert!(finding.line <= text.split(['\n', '\r']).count() + 1, "{shown}");
    }
}

/// What every part of the program may rely on.
fn usable(name: &str, group: &GroupSettings) {
    assert!(!name.is_empty() && !name.contains([' ', ',', '\n', '\r']), "{name:?}");
    assert!(!group.master.host.is_empty() && group.master.port > 0, "{group:?}");
    let counts = [group.quorum, group.parallel_syncs].iter().all(|n| *n > 0);
    assert!(counts && group.down_after_ms > 0 && group.failover_timeout_ms > 0, "{group:?}");
    assert!(!group.rename_commands.iter().any(|(from, to)| from.is_empty() || to.is_empty()));
}

/// Redis's syntax, and the file as a sentinel rewrites it.
pub(crate) fn sentinel_conf(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(read) = config::sentinel_conf(text) else { return };
    let loaded = match read {
        Ok(loaded) => loaded,
        Err(found) => {
            assert!(found.iter().any(Diagnostic::is_error));
            return shows(text, &found);
        }
    };
    shows(text, &loaded.notes);
    loaded.groups.iter().for_each(|(name, group)| usable(name, group));
    let found = loaded.conf_state.clone().expect("a sentinel.conf has state");
    let mut state = State {
        my_id: found.my_id.unwrap_or_else(|| RunId::from_bytes([1; 20])),
        current_epoch: found.current_epoch,
        groups: found.groups.into(),
        removed: Default::default(),
        live: None,
    };
    let first = rewritten(&loaded, text, &state);
    state.current_epoch = EPOCH_MAX.min(state.current_epoch + 1);
    for group in state.groups.values_mut() {
        happened(group, state.current_epoch);
    }
    state.groups.insert("new", GroupState::fresh(group(), None));
    let second = rewritten(&loaded, &first, &state);
    // Written by a process that was started on the file as it is by then.
    let mut again = config::sentinel_conf(&first).expect("still one").expect("still good");
    assert_eq!(rewritten(&again, &first, &state), second, "by whomever it is written");
    // What an option of the command line, or a command, has changed of the process.
    again.settings.port = again.settings.port.wrapping_add(1).max(1);
    again.settings.announce_ip = Some("192.0.2.9".into());
    again.settings.sentinel_pass = Some(watchfire::config::types::Secret::new(" #\"'\\"));
    let changed = rewritten(&again, &first, &state);
    assert_eq!(again.edited(&first, &first), Ok(false), "nobody has been at it");
    let late = format!("# a late comment\n{changed}");
    assert_eq!(again.edited(&changed, &late), Ok(false), "a comment says nothing");
    rewritten(&again, &late, &state);
    state.groups.clear();
    rewritten(&loaded, &second, &state);
}

fn group() -> GroupSettings {
    let mut group = GroupSettings::new(Address::new("192.0.2.1", 6379), 2);
    group.auth_pass = Some(watchfire::config::types::Secret::new(" #\"'\\\n\u{e9}"));
    group
}

/// A failover, a vote, a new replica.
fn happened(group: &mut GroupState, epoch: u64) {
    let (new, old) = (Address::new("192.0.2.7", 7), group.settings.master.clone());
    group.replicas.retain(|replica| *replica != new && *replica != old);
    if group.settings.master != new {
        group.replicas.push(std::mem::replace(&mut group.settings.master, new));
    }
    group.config_epoch = epoch;
    group.leader_epoch = epoch;
    group.voted_for = Some(RunId::from_bytes([3; 20]));
    group.settings.down_after_ms = 1234;
}

/// The text with this state, which must hold just that, and whatever was not ours.
pub(crate) fn rewritten(loaded: &Loaded, text: &str, state: &State) -> String {
    let written = loaded.render(text, &loaded.settings, state, None);
    let read = config::sentinel_conf(&written).unwrap_or_else(|| panic!("not a conf: {written}"));
    let read = read.unwrap_or_else(|found| panic!("refused: {found:?}\n{written}"));
    let mut settings = loaded.settings.clone();
    state.live.iter().for_each(|live| settings.set_live(live.settings.clone()));
    assert_eq!(read.settings, settings, "settings of\n{written}");
    let found = read.conf_state.clone().expect("a sentinel.conf has state");
    assert_eq!(found.my_id.as_ref(), Some(&state.my_id));
    assert_eq!(found.current_epoch, state.current_epoch, "{written}");
    assert_eq!(sorted(found.groups.into()), sorted(state.groups.clone()), "groups of\n{written}");
    let kept = comments(&written);
    let mut kept = kept.iter();
    for comment in comments(text) {
        assert!(kept.any(|line| *line == comment), "lost: {comment:?}\n{written}");
    }
    let again = read.render(&written, &read.settings, state, None);
    assert_eq!(again, written, "a rewrite changes nothing where nothing has changed");
    written
}

/// The order of replicas means nothing.
fn sorted(mut groups: ByName<GroupState>) -> ByName<GroupState> {
    groups.values_mut().for_each(|group| group.replicas.sort());
    groups
}

/// The comments that are not ours.
fn comments(text: &str) -> Vec<&str> {
    let ours = |line: &&str| line.contains("watchfire-vote") || *line == SIGNATURE;
    let blank = [' ', '\t', '\n', '\r', '\x0b', '\x0c'];
    let lines = text.split('\n').map(|line| line.trim_matches(blank));
    lines.filter(|line| line.starts_with('#') && !ours(line)).collect()
}

/// The state file: garbage is refused, what is read can be written.
pub(crate) fn state_file(data: &[u8]) {
    match state_files::decode(data) {
        Ok(state) => survives_its_file(&state),
        Err(error) => assert!(error.to_string().contains("move the file away"), "{error}"),
    }
    // Damage is noticed, so hardly anything gets past the checksum: give the content its own.
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(state) = serde_json::from_str::<State>(text) {
        survives_its_file(&state);
    }
}

/// Two bytes say where the journal is torn and damaged; then come states, one in a line.
pub(crate) fn journal(data: &[u8]) {
    const ID: &str = "0123456789abcdef";
    let read = |bytes: &[u8], state: &State| state_files::replay(ID, bytes, state.clone());
    let (place, rest) = data.split_at(data.len().min(2));
    let lines = rest.split(|byte| *byte == b'\n');
    let states = lines.filter_map(|line| serde_json::from_slice(line).ok());
    let mut states: Vec<State> = states.collect();
    // Whatever stands there is read, or refused.
    let fresh = State {
        my_id: RunId::from_bytes([1; 20]),
        current_epoch: 0,
        groups: ByName::new(),
        removed: ByName::new(),
        live: None,
    };
    let title = state_files::journal(ID, &[]).expect("a journal without a record");
    let _ = read(rest, &fresh);
    let _ = read(&[title.as_bytes(), rest].concat(), &fresh);

    states.insert(0, fresh);
    let whole = state_files::journal(ID, &states).expect("every change can be written");
    let bytes = whole.as_bytes();
    let last = states.last().expect("one at least");
    assert_eq!(read(bytes, &states[0]).as_ref(), Ok(&Some(last.clone())));
    let place = place.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    // Torn anywhere it leads to one of the states on the way.
    let torn = read(&bytes[..place % bytes.len()], &states[0]).expect("torn is not damaged");
    assert!(torn.is_none_or(|torn| states.contains(&torn)));
    // Damaged anywhere it is refused, or is taken for torn in its last record.
    let at = place % bytes.len();
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1 << (place % 7);
    let last_record = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n');
    match read(&damaged, &states[0]) {
        Ok(Some(state)) => {
            // A digit may be written in two ways.
            let missed = state != *last && last_record.is_none_or(|last| at <= last);
            assert!(!missed && states.contains(&state), "byte {at} is not missed");
        }
        Ok(None) => assert!(at < title.len() && whole.lines().count() == 1, "byte {at} of {whole}"),
        Err(_) => {}
    }
}

/// Written and read back.
pub(crate) fn survives_its_file(state: &State) {
    let text = state_files::encode(state).expect("every state can be written");
    let read = state_files::decode(text.as_bytes()).expect("what was written can be read");
    assert_eq!(read, *state);
}
