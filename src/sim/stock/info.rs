//! What an INFO says, and what a stock sentinel does about it.

use super::core::{Core, Whom};
use super::failover::Step;
use super::group::Group;
use super::instance::{HELLO_PERIOD_MS, Instance, Role};
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Command, EventKind, Instant};

/// The lines that matter, as they stand in the text.
#[derive(Default)]
struct Told<'a> {
    run_id: Option<&'a str>,
    role: Option<Role>,
    /// Only the configured master's are looked at, whatever role it names.
    slaves: Vec<Address>,
    master: (Option<&'a str>, Option<u16>),
    link_up: Option<bool>,
    link_down_ms: i64,
    priority: Option<i64>,
    offset: Option<u64>,
}

impl Told<'_> {
    fn read(text: &str) -> Told<'_> {
        let mut told = Told::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match key {
                "run_id" => told.run_id = RunId::parse(value).map(|_| value),
                "role" if value.starts_with("master") => told.role = Some(Role::Master),
                "role" if value.starts_with("slave") => told.role = Some(Role::Slave),
                "master_link_down_since_seconds" => {
                    told.link_down_ms = value.parse().map_or(0, |s: i64| s.saturating_mul(1_000));
                }
                _ if is_slave_line(key) => told.slaves.extend(slave_address(value)),
                _ if told.role != Some(Role::Slave) => {}
                "master_host" => told.master.0 = Some(value),
                "master_port" => told.master.1 = value.parse().ok(),
                "master_link_status" => told.link_up = Some(value.eq_ignore_ascii_case("up")),
                "slave_priority" => told.priority = value.parse().ok(),
                "slave_repl_offset" => told.offset = value.parse().ok(),
                _ => {}
            }
        }
        told
    }
}

fn is_slave_line(key: &str) -> bool {
    let number = key.strip_prefix("slave").and_then(|rest| rest.bytes().next());
    number.is_some_and(|b| b.is_ascii_digit())
}

/// `ip=10.0.0.1,port=6379,state=online,...`
fn slave_address(value: &str) -> Option<Address> {
    let field = |name: &str| value.split(',').find_map(|field| field.strip_prefix(name));
    let (host, port) = (field("ip=")?, field("port=")?);
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Address::new(host, port))
}

impl Instance {
    /// The remembering half. True if the run id changed.
    fn remember(&mut self, now: Instant, told: &Told<'_>) -> bool {
        let mut rebooted = false;
        if let Some(id) = told.run_id
            && self.run_id.as_deref() != Some(id)
        {
            rebooted = self.run_id.is_some();
            self.run_id = Some(id.to_owned());
        }
        self.link_down_ms = told.link_down_ms;
        if let (Some(host), Some(port)) = told.master
            && self.follows.as_ref().is_none_or(|(h, p)| h != host || *p != port)
        {
            self.follows = Some((host.to_owned(), port));
            self.follows_since = now;
        }
        self.link_up = told.link_up.unwrap_or(self.link_up);
        self.priority = told.priority.unwrap_or(self.priority);
        self.offset = told.offset.unwrap_or(self.offset);
        self.info_at = Some(now);
        rebooted
    }

    fn is_following(&self, master: &Address) -> bool {
        self.follows.as_ref().is_some_and(|(h, p)| *h == master.host && *p == master.port)
    }
}

impl Group {
    /// `sentinelRefreshInstanceInfo`
    pub(super) fn take_info(&mut self, core: &mut Core, whom: &Whom, text: &str) {
        let told = Told::read(text);
        let now = core.now;
        // An INFO without a role is none of a data node.
        let Some(role) = told.role else { return };
        let Some(instance) = self.instance_mut(whom) else { return };
        let rebooted = instance.remember(now, &told);
        let role_changed = instance.role != role;
        if role_changed {
            instance.role = role;
            instance.role_since = now;
            if role == Role::Slave {
                instance.follows_since = now;
            }
        }
        let is_master = *whom == Whom::Master;
        if rebooted {
            if is_master && self.settings.master_reboot_down_after_ms > 0 {
                self.master.rebooted_at = Some(now);
            }
            let details = self.details_of(whom);
            core.announce(EventKind::Reboot, Some(&self.name), details);
        }
        if is_master {
            self.meet_replicas(core, told.slaves);
        }
        if role_changed {
            let fits = is_master == (role == Role::Master);
            let kind = if fits { EventKind::RoleChange } else { EventKind::RoleMismatch };
            let payload = format!("{} new reported role is {}", self.details_of(whom), role.name());
            core.announce(kind, Some(&self.name), payload);
        }
        if let Whom::Replica(at) = whom
            && !core.tilt
        {
            match role {
                Role::Master => self.replica_is_master(core, at),
                Role::Slave => self.replica_is_slave(core, at),
            }
        }
    }

    fn details_of(&self, whom: &Whom) -> String {
        match whom {
            Whom::Replica(at) => self.replica_details(at),
            _ => self.details(),
        }
    }

    fn meet_replicas(&mut self, core: &mut Core, slaves: Vec<Address>) {
        for at in slaves {
            if !self.replicas.contains_key(&at) {
                self.add_replica(core, at.clone());
                self.announce_replica(core, EventKind::Slave, &at);
                core.flush();
            }
        }
    }

    fn replica_is_master(&mut self, core: &mut Core, at: &Address) {
        let sane = self.master_is_sane(core.now);
        let master = &self.settings.master;
        let Some(replica) = self.replicas.get_mut(at) else { return };
        if replica.promoted {
            if self.failover.step == Step::WaitPromotion {
                self.promoted(core, at);
            }
            return;
        }
        // Time for news of a newer configuration to arrive.
        let wait = 4 * HELLO_PERIOD_MS;
        let instance = &mut replica.instance;
        if sane
            && instance.not_down_for(core.now, wait)
            && core.now.since(instance.role_since) > wait
        {
            instance.send(core, Command::Follow { master: master.clone() });
            self.announce_replica(core, EventKind::ConvertToSlave, at);
        }
    }

    fn replica_is_slave(&mut self, core: &mut Core, at: &Address) {
        let sane = self.master_is_sane(core.now);
        let wait = self.settings.failover_timeout_ms;
        let Group { name, settings, failover, replicas, .. } = self;
        let Some(replica) = replicas.get_mut(at) else { return };
        let details = || super::instance::replica_details(at, name, &settings.master);
        let instance = &mut replica.instance;
        if !instance.is_following(&settings.master)
            && sane
            && instance.not_down_for(core.now, wait)
            && core.now.since(instance.follows_since) > wait
        {
            instance.send(core, Command::Follow { master: settings.master.clone() });
            core.announce(EventKind::FixSlaveConfig, Some(name), details());
        }
        let promoted = failover.promoted.as_ref();
        if replica.sent && promoted.is_some_and(|to| replica.instance.is_following(to)) {
            replica.sent = false;
            replica.in_progress = true;
            core.announce(EventKind::SlaveReconfInprog, Some(name), details());
        }
        if replica.in_progress && replica.instance.link_up {
            replica.in_progress = false;
            replica.done = true;
            core.announce(EventKind::SlaveReconfDone, Some(name), details());
        }
    }
}
