//! Which scripts are due: `notification-script` for each event that an operator must know,
//! `client-reconfig-script` for each new master. They are run outside; each goes out in the way and
//! in the order of its event, so that a script is told nothing sooner than subscribers are.

use super::core::Core;
use super::effect::Effect;
use super::event::{EventKind, Level};
use super::group::Group;
use super::types::{Address, GroupName};
use crate::config::settings::GroupSettings;

impl Core {
    /// Takes note of a group's `notification-script`, before the next of its events; without
    /// settings the group is gone.
    pub(super) fn note_scripts(&mut self, group: &GroupName, settings: Option<&GroupSettings>) {
        match settings.and_then(|settings| settings.notification_script.clone()) {
            Some(script) => self.notified.insert(group.clone(), script),
            None => self.notified.remove(group),
        };
    }

    /// The script that is to be told of this event of a group: of all that Redis logs as a warning.
    pub(super) fn notification(
        &self,
        about: EventKind,
        group: &GroupName,
        payload: &str,
    ) -> Option<Effect> {
        let script = self.notified.get(group).filter(|_| about.level() == Level::Warning)?.clone();
        let args = vec![about.name().to_owned(), payload.to_owned()];
        Some(Effect::RunScript { about, group: group.clone(), script, args })
    }
}

impl Group {
    /// Runs `client-reconfig-script` for a new master once the configuration is durable. A sentinel
    /// that led the failover is its `leader`, all others are `observer`s.
    pub(super) fn run_reconfig_script(
        &self,
        core: &mut Core,
        role: &str,
        from: &Address,
        to: &Address,
    ) {
        let Some(script) = self.settings.client_reconfig_script.clone() else { return };
        let (from_port, to_port) = (from.port.to_string(), to.port.to_string());
        let args = [&*self.name, role, "start", &from.host, &from_port, &to.host, &to_port];
        let args = args.map(str::to_owned).to_vec();
        let (about, group) = (EventKind::SwitchMaster, self.name.clone());
        core.out.emit_durable(Effect::RunScript { about, group, script, args });
    }
}
