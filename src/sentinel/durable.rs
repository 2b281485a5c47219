//! What must survive a crash: joined with the configuration at start, collected when it is written.

use std::collections::BTreeMap;

use super::types::RunId;
use crate::config::by_name::ByName;
use crate::config::settings::GroupSettings;
use crate::config::state::{GroupState, State};

/// Joins what a YAML file declares with what was remembered; returns the state to start with, and a
/// sentence for each difference that an operator should know of.
///
/// The file is right wherever somebody changed it since it was last read; elsewhere what happened
/// at run time stays: addresses after a failover, `SENTINEL SET`, `MONITOR` and `REMOVE`. Epochs,
/// votes and known nodes are always kept. `fresh_id` is this sentinel's id if it has none yet.
pub fn reconcile(
    declared: BTreeMap<String, GroupSettings>,
    remembered: Option<State>,
    fresh_id: RunId,
) -> (State, Vec<String>) {
    let mut notes = Vec::new();
    let state = join(declared, remembered, fresh_id, &mut notes);
    (state, notes.into_iter().map(|(_, note)| note).collect())
}

/// Why there is something to say.
#[derive(PartialEq)]
enum Why {
    /// What is remembered differs from the file, since it came about later.
    Later,
    /// Somebody changed the file since.
    Edited,
}

fn join(
    declared: BTreeMap<String, GroupSettings>,
    remembered: Option<State>,
    fresh_id: RunId,
    notes: &mut Vec<(Why, String)>,
) -> State {
    let mut old = remembered.unwrap_or_else(|| State {
        my_id: fresh_id,
        current_epoch: 0,
        groups: ByName::new(),
        removed: Default::default(),
        live: None,
    });
    let mut groups = ByName::new();
    let mut removed = ByName::new();
    for (name, settings) in declared {
        if let Some(then) = old.removed.remove(&name) {
            if then == settings {
                let note = format!(
                    "Group {name} stays removed (SENTINEL REMOVE); change its declaration, or use \
                     SENTINEL MONITOR, to watch it again"
                );
                notes.push((Why::Later, note));
                removed.insert(name, settings);
                continue;
            }
            let note =
                format!("Group {name} was removed; its declaration has changed: watched again");
            notes.push((Why::Edited, note));
        }
        let group = match old.groups.remove(&name) {
            None => GroupState::fresh(settings.clone(), Some(settings)),
            Some(group) => declared_again(&name, group, settings, notes),
        };
        groups.insert(name, group);
    }
    for (name, group) in std::mem::take(&mut old.groups) {
        if group.declared.is_some() {
            let note = format!("Group {name} is not declared any more: no longer watched");
            notes.push((Why::Edited, note));
        } else {
            let note = format!("Group {name} was added by SENTINEL MONITOR: watched on");
            notes.push((Why::Later, note));
            groups.insert(name, group);
        }
    }
    State { groups, removed, ..old }
}

/// The same for a `sentinel.conf`, which says more: `found` is what it holds, state included. Where
/// nothing is remembered beside it, that is all there is.
///
/// What is remembered was learned when the file could not be written. It counts, unless others
/// wrote the file since (Redis Sentinel, say): a newer configuration or a newer vote in the file
/// does then, and what it knows of nodes is added.
pub fn reconcile_conf(found: State, remembered: Option<State>) -> (State, Vec<String>) {
    let (state, notes) = join_conf(found, remembered);
    (state, notes.into_iter().map(|(_, note)| note).collect())
}

/// The same where what is remembered is what the file says with what its journal adds. That the
/// journal was ahead of the file is no news, and the file is about to follow.
pub fn reconcile_journal(found: State, remembered: State) -> (State, Vec<String>) {
    let (state, notes) = join_conf(found, Some(remembered));
    let edited = notes.into_iter().filter(|(why, _)| *why == Why::Edited);
    (state, edited.map(|(_, note)| note).collect())
}

fn join_conf(found: State, remembered: Option<State>) -> (State, Vec<(Why, String)>) {
    let declared: BTreeMap<_, _> =
        found.groups.iter().map(|(name, g)| (name.to_string(), g.settings.clone())).collect();
    let Some(remembered) = remembered else {
        let mut state = found;
        for (group, settings) in state.groups.values_mut().zip(declared.into_values()) {
            group.declared = Some(settings);
        }
        return (state, Vec::new());
    };
    let before: BTreeMap<_, _> = remembered
        .groups
        .iter()
        .map(|(name, group)| {
            let epochs = (group.config_epoch, group.leader_epoch);
            (name.clone(), (epochs, group.settings.master.clone()))
        })
        .collect();
    let mut notes = Vec::new();
    let mut state = join(declared, Some(remembered), found.my_id, &mut notes);
    state.current_epoch = state.current_epoch.max(found.current_epoch);
    for (name, in_file) in found.groups {
        let Some(group) = state.groups.get_mut(&name) else { continue };
        let Some(((config_epoch, leader_epoch), master)) = before.get(&name) else {
            let declared = group.declared.take();
            *group = GroupState { declared, ..in_file };
            continue;
        };
        if in_file.leader_epoch > *leader_epoch {
            group.leader_epoch = in_file.leader_epoch;
            group.voted_for = in_file.voted_for;
        }
        let newer = in_file.config_epoch > *config_epoch;
        if newer {
            let epoch = in_file.config_epoch;
            let note =
                format!("The configuration file has a newer configuration of {name}, {epoch}");
            notes.push((Why::Edited, note));
        }
        // The very configuration that is remembered has been written into the file meanwhile.
        if newer || (in_file.config_epoch == *config_epoch && in_file.settings.master == *master) {
            group.config_epoch = in_file.config_epoch;
            group.settings.master = in_file.settings.master;
        }
        if newer {
            for replica in in_file.replicas {
                if !group.replicas.contains(&replica) {
                    group.replicas.push(replica);
                }
            }
            for (id, address) in in_file.sentinels {
                if !group.sentinels.values().any(|known| *known == address) {
                    group.sentinels.entry(id).or_insert(address);
                }
            }
        }
    }
    (state, notes)
}

fn declared_again(
    name: &str,
    mut group: GroupState,
    settings: GroupSettings,
    notes: &mut Vec<(Why, String)>,
) -> GroupState {
    if group.declared.as_ref() == Some(&settings) {
        if group.settings.master != settings.master {
            let note = format!(
                "Master of {name} is {}, as remembered; the configuration file says {}",
                group.settings.master, settings.master
            );
            notes.push((Why::Later, note));
        }
        let mut same_place = settings.clone();
        same_place.master.clone_from(&group.settings.master);
        if group.settings != same_place {
            let note = format!(
                "Settings of {name} were changed by SENTINEL SET and differ from the \
                 configuration file"
            );
            notes.push((Why::Later, note));
        }
        return group;
    }
    let note = format!("The declaration of {name} has changed: its settings are taken anew");
    notes.push((Why::Edited, note));
    // A failover since then stands, unless it is the master's address that was edited. What is
    // edited was elected by nobody: where other sentinels know a configuration that was, it wins.
    let edited = match &group.declared {
        Some(then) => then.master != settings.master,
        None => group.config_epoch == 0,
    };
    let master = match edited {
        true => {
            group.config_epoch = 0;
            settings.master.clone()
        }
        false => group.settings.master.clone(),
    };
    group.settings = GroupSettings { master, ..settings.clone() };
    group.declared = Some(settings);
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::Address;

    fn settings(port: u16) -> GroupSettings {
        GroupSettings::new(Address::new("127.0.0.1", port), 2)
    }

    fn declared(port: u16) -> BTreeMap<String, GroupSettings> {
        BTreeMap::from([("m".to_owned(), settings(port))])
    }

    fn id() -> RunId {
        RunId::from_bytes([7; 20])
    }

    #[test]
    fn a_failover_outlives_a_restart_until_the_declared_address_is_edited() {
        let (mut state, _) = reconcile(declared(1), None, id());
        let group = state.groups.get_mut("m").expect("declared");
        group.settings.master.port = 2;
        (group.config_epoch, group.leader_epoch) = (5, 5);

        let (again, notes) =
            reconcile(declared(1), Some(state.clone()), RunId::from_bytes([8; 20]));
        assert_eq!(again, state, "nothing changes, the id neither");
        assert_eq!(notes.len(), 1, "{notes:?}");

        let mut quorum = declared(1);
        quorum.get_mut("m").expect("declared").quorum = 3;
        let (again, _) = reconcile(quorum, Some(state.clone()), id());
        assert_eq!(again.groups["m"].settings.master.port, 2);
        assert_eq!(again.groups["m"].settings.quorum, 3);

        let (again, _) = reconcile(declared(9), Some(state), id());
        assert_eq!(again.groups["m"].settings.master.port, 9);
        let epochs = (again.groups["m"].config_epoch, again.groups["m"].leader_epoch);
        assert_eq!(epochs, (0, 5), "the edited address was elected by nobody");
    }

    #[test]
    fn what_was_removed_stays_removed_until_it_is_declared_otherwise() {
        let (mut state, _) = reconcile(declared(1), None, id());
        state.groups.clear();
        state.removed = declared(1).into();
        let (again, notes) = reconcile(declared(1), Some(state.clone()), id());
        assert!(again.groups.is_empty() && notes.len() == 1);
        assert_eq!(again.removed.len(), 1);
        let (again, _) = reconcile(declared(2), Some(state), id());
        assert_eq!(again.groups.len(), 1);
        assert!(again.removed.is_empty());
    }

    #[test]
    fn groups_added_at_run_time_stay_and_undeclared_ones_go() {
        let (mut state, _) = reconcile(declared(1), None, id());
        state.groups.insert("extra", GroupState::fresh(settings(5), None));
        let (again, notes) = reconcile(BTreeMap::new(), Some(state), id());
        assert_eq!(again.groups.keys().map(|name| &**name).collect::<Vec<_>>(), ["extra"]);
        assert_eq!(notes.len(), 2);
    }

    /// What a file says: one group with its master on this port, elected in this epoch.
    fn in_file(port: u16, config_epoch: u64) -> State {
        let mut group = GroupState::fresh(settings(port), None);
        group.config_epoch = config_epoch;
        group.leader_epoch = config_epoch;
        group.replicas = vec![Address::new("127.0.0.1", 50 + port)];
        let groups = ByName::from([("m".to_owned(), group)]);
        State {
            my_id: id(),
            current_epoch: config_epoch,
            groups,
            removed: Default::default(),
            live: None,
        }
    }

    /// Master's port, configuration and leader epoch of the group.
    fn told(state: &State) -> (u16, u64, u64) {
        let group = &state.groups["m"];
        (group.settings.master.port, group.config_epoch, group.leader_epoch)
    }

    #[test]
    fn a_conf_file_is_all_there_is_where_nothing_is_remembered_beside_it() {
        let (state, notes) = reconcile_conf(in_file(1, 5), None);
        assert_eq!((told(&state), notes.len()), ((1, 5, 5), 0));
        assert_eq!(state.groups["m"].declared, Some(settings(1)));
    }

    #[test]
    fn what_is_remembered_beside_a_conf_file_counts_unless_the_file_is_newer() {
        let (mut memory, _) = reconcile_conf(in_file(1, 5), None);
        let group = memory.groups.get_mut("m").expect("declared");
        group.settings.master.port = 2;
        (group.config_epoch, group.leader_epoch) = (7, 8);
        group.voted_for = Some(id());
        memory.current_epoch = 8;
        let again = |file| reconcile_conf(file, Some(memory.clone())).0;
        assert_eq!(again(in_file(1, 5)), memory, "the file cannot follow");

        let newer = again(in_file(3, 9));
        assert_eq!((told(&newer), newer.current_epoch), ((3, 9, 9), 9), "Redis went on with it");
        assert_eq!(newer.groups["m"].voted_for, None, "for whom Redis voted is not known");
        assert_eq!(newer.groups["m"].replicas.len(), 2, "what either knows");

        let edited = again(in_file(3, 5));
        assert_eq!(told(&edited), (3, 0, 8), "an edited address was elected by nobody");

        // Written into the file, and killed before it was forgotten here.
        let mut written = in_file(2, 7);
        written.groups.get_mut("m").expect("declared").leader_epoch = 8;
        assert_eq!(told(&again(written)), (2, 7, 8));
        assert_eq!(again(State { groups: ByName::new(), ..in_file(1, 5) }).groups.len(), 0);
    }
}
