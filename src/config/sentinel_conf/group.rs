//! The directives of a master group: `sentinel monitor` and all that follow a group's name.

use std::path::PathBuf;

use super::super::conf::{Line, Statement};
use super::super::rules::{GROUP_NAME_RULE, TIME_MS_MAX, closest, valid_group_name, valid_host};
use super::super::settings::GroupSettings;
use super::super::state::GroupState;
use super::super::types::{Address, RunId, Secret};
use super::number::number;
use super::{Fault, Reader};

impl Reader<'_> {
    /// `sentinel monitor <name> <host> <port> <quorum>`. A group that is not good stands in for
    /// itself all the same, so that its other directives are looked at too.
    pub(super) fn monitor(&mut self, args: &[&str]) -> Result<(), Fault> {
        let name = args[0];
        if self.broken.remove(name) {
            self.state.groups.remove(name);
        }
        let outcome = self.try_monitor(name, args);
        if outcome.is_err() && !self.state.groups.contains_key(name) {
            let settings = GroupSettings::new(Address::new("", 0), 0);
            self.state.groups.insert(name.to_owned(), GroupState::fresh(settings, None));
            self.broken.insert(name.to_owned());
        }
        outcome
    }

    fn try_monitor(&mut self, name: &str, args: &[&str]) -> Result<(), Fault> {
        if !valid_group_name(name) {
            return Err(Fault::new(2, "Invalid master name.").help(GROUP_NAME_RULE));
        }
        let read = number(args[3], u32::MAX.into());
        let quorum = u32::try_from(read).ok().filter(|&q| q > 0).ok_or_else(|| {
            Fault::new(5, "Quorum must be 1 or greater.")
                .help("the quorum is how many sentinels must agree, for example 2 of 3")
        })?;
        if let Some(&first) = self.monitored_at.get(name) {
            return self.monitored_twice(name, first);
        }
        if self.state.groups.contains_key(name) {
            return Err(Fault::new(2, "Duplicate master name.")
                .help(format!("'{name}' stands in the YAML file already")));
        }
        let master = self.address(3, args[1], args[2])?;
        self.tell_number(5, args[3], read);
        let settings = GroupSettings::new(master, quorum);
        self.state.groups.insert(name.to_owned(), GroupState::fresh(settings, None));
        self.monitored_at.insert(name.to_owned(), self.index);
        Ok(())
    }

    /// A group whose `monitor` stands in an included file gets a line in the main file at the first
    /// rewrite, and that is the one that follows the failovers. Redis does not start any more then.
    /// One of the command line is refused, as in Redis: who gives it sees it, and can leave it out.
    fn monitored_twice(&mut self, name: &str, first: usize) -> Result<(), Fault> {
        let (this, other) = (&self.statements[self.index], &self.statements[first]);
        let is_option = this.aside && this.file.is_none();
        if this.aside == other.aside || is_option {
            let line = other.line.number;
            let help = match is_option && line > 0 {
                true => {
                    format!("line {line} of the file has '{name}' already: leave the option out")
                }
                false => format!("'{name}' is monitored by line {line} already"),
            };
            return Err(Fault::new(2, "Duplicate master name.").help(help));
        }
        let (void, counts) = if this.aside { (self.index, first) } else { (first, self.index) };
        self.report_at(
            void,
            Fault::note(
                2,
                format!("The main file says where '{name}' is; this line does not count"),
            )
            .help("the main file follows the failovers; included files do not"),
        );
        if counts == self.index {
            self.monitored_at.remove(name);
            self.state.groups.remove(name);
            let line = self.statements[self.index].line.clone();
            let args: Vec<&str> = line.args().skip(1).collect();
            return self.monitor(&args);
        }
        Ok(())
    }

    /// A directive `sentinel <directive> <name> ...`; the number of arguments is right.
    pub(super) fn group(&mut self, directive: &str, args: &[&str]) -> Result<(), Fault> {
        if !self.state.groups.contains_key(args[0]) {
            return Err(self.no_such_group(directive, args[0]));
        }
        match directive {
            "config-epoch" | "leader-epoch" => {
                let epoch = self.epoch(3, args[1])?;
                self.with(args[0], |g| match directive {
                    "config-epoch" => g.config_epoch = epoch,
                    _ => g.leader_epoch = epoch,
                });
                Ok(())
            }
            "known-replica" | "known-slave" => self.known_replica(args),
            "known-sentinel" => self.known_sentinel(args),
            "rename-command" => self.rename_command(args),
            "parallel-syncs" => self.parallel_syncs(args),
            "notification-script" | "client-reconfig-script" => self.script(directive, args),
            "auth-pass" | "auth-user" => {
                let value = Some(args[1].to_owned()).filter(|v| !v.is_empty());
                self.with(args[0], |g| match directive {
                    "auth-pass" => g.settings.auth_pass = value.map(Secret::new),
                    _ => g.settings.auth_user = value,
                });
                Ok(())
            }
            "down-after-milliseconds" => {
                let ms = self.time_ms(args[1], 1)?;
                self.with(args[0], |g| g.settings.down_after_ms = ms);
                Ok(())
            }
            "failover-timeout" => {
                let ms = self.time_ms(args[1], 1)?;
                self.with(args[0], |g| g.settings.failover_timeout_ms = ms);
                Ok(())
            }
            _ => {
                let ms = self.time_ms(args[1], 0)?;
                self.with(args[0], |g| g.settings.master_reboot_down_after_ms = ms);
                Ok(())
            }
        }
    }

    /// Changes a group that is known to exist.
    fn with(&mut self, group: &str, change: impl FnOnce(&mut GroupState)) {
        if let Some(group) = self.state.groups.get_mut(group) {
            change(group);
        }
    }

    fn no_such_group(&self, directive: &str, name: &str) -> Fault {
        let fault = Fault::new(2, "No such master with specified name.");
        let names = self.state.groups.keys().map(String::as_str);
        match closest(name, names.clone()) {
            Some(meant) => fault.help(format!("did you mean '{meant}'?")),
            // Here a password may stand where the name should.
            None if directive == "auth-pass" => {
                fault.help("write: sentinel auth-pass <name> <password>, after a monitor line")
            }
            None if names.len() == 0 => {
                fault.help(format!("add: sentinel monitor {name} <host> <port> <quorum>"))
            }
            None => {
                let names: Vec<&str> = names.take(5).collect();
                fault.help(format!("the groups are: {}", names.join(", ")))
            }
        }
    }

    /// An address from two words, the first of which is word number `word` of the line.
    fn address(&mut self, word: usize, host: &str, port: &str) -> Result<Address, Fault> {
        if !valid_host(host, self.settings.resolve_hostnames) {
            let fault = Fault::new(word, "Can't resolve instance hostname.");
            return Err(match valid_host(host, true) {
                true => fault
                    .help("write its IP address, or add the line: sentinel resolve-hostnames yes"),
                false => fault.help("this is neither an IP address nor a host name"),
            });
        }
        let read = number(port, 0);
        match u16::try_from(read) {
            Ok(number @ 1..) => {
                self.tell_number(word + 1, port, read);
                Ok(Address::new(host, number))
            }
            _ => Err(Fault::new(word + 1, "Invalid port number.")
                .help("a port is a number from 1 to 65535")),
        }
    }

    /// What is remembered of a replica. A line that cannot be used is no reason not to start, as it
    /// is in Redis: it is left out, and the replica is found again.
    fn known_replica(&mut self, args: &[&str]) -> Result<(), Fault> {
        const FOUND_AGAIN: &str = "the line is ignored; replicas are found again from their master";
        let address = match self.address(3, args[1], args[2]) {
            Ok(address) => address,
            Err(fault) => return Err(fault.ignored(FOUND_AGAIN)),
        };
        let again = self.state.groups.get(args[0]).is_some_and(|g| g.replicas.contains(&address));
        if again && !self.is_written_both_ways(args) {
            return Err(
                Fault::new(3, "Duplicate hostname and port for replica.").ignored(FOUND_AGAIN)
            );
        }
        if !again {
            self.with(args[0], |g| g.replicas.push(address));
        }
        Ok(())
    }

    /// Redis 7.0 writes a known-replica line beside a known-slave line of the same replica, and
    /// then does not start any more.
    fn is_written_both_ways(&self, args: &[&str]) -> bool {
        let this = &self.statements[self.index];
        let spelling = |s: &Statement| s.line.word(1).map(str::to_ascii_lowercase);
        self.statements.iter().any(|s| {
            s.line.args().skip(1).eq(args.iter().copied()) && spelling(s) != spelling(this)
        })
    }

    /// What is remembered of another sentinel. As with replicas, a line of no use is left out.
    fn known_sentinel(&mut self, args: &[&str]) -> Result<(), Fault> {
        const FOUND_AGAIN: &str = "the line is ignored; sentinels are found again by their hello";
        // An old form without the id; Redis ignores it too.
        let Some(id) = args.get(3) else { return Ok(()) };
        if number(args[2], 0) == 0 {
            // Redis 6.2 takes the port from a sentinel whose address another one has now.
            return Err(Fault::note(4, "A sentinel without an address").help(FOUND_AGAIN));
        }
        let address = match self.address(3, args[1], args[2]) {
            Ok(address) => address,
            Err(fault) => return Err(fault.ignored(FOUND_AGAIN)),
        };
        let Some(id) = RunId::parse(id) else {
            return Err(
                Fault::new(5, "This is not an id of 40 hexadecimal digits").ignored(FOUND_AGAIN)
            );
        };
        if self.state.groups.get(args[0]).is_some_and(|g| g.sentinels.contains_key(&id)) {
            return Err(Fault::new(5, "Duplicate runid for sentinel.").ignored(FOUND_AGAIN));
        }
        self.with(args[0], |g| drop(g.sentinels.insert(id, address)));
        Ok(())
    }

    fn rename_command(&mut self, args: &[&str]) -> Result<(), Fault> {
        let command = args[1].to_ascii_uppercase();
        if command.is_empty() || args[2].is_empty() {
            let word = if command.is_empty() { 3 } else { 4 };
            return Err(Fault::new(word, "Unrecognized sentinel configuration statement.")
                .help("name the command as Redis calls it, then as the nodes call it"));
        }
        let renamed = self.state.groups.get(args[0]).map(|g| &g.settings.rename_commands);
        match renamed.and_then(|r| r.get(&command)) {
            None => {
                self.with(args[0], |g| {
                    g.settings.rename_commands.insert(command, args[2].to_owned());
                });
                Ok(())
            }
            // The same line again, here and outside the main file.
            Some(name) if name == args[2] && self.is_written_aside() => Ok(()),
            Some(_) => {
                Err(Fault::new(3, "Same command renamed multiple times with rename-command.")
                    .help("keep one of the lines"))
            }
        }
    }

    /// Whether the same directive stands in the main file and outside of it.
    fn is_written_aside(&self) -> bool {
        let this = &self.statements[self.index];
        let same = |line: &Line| line.args().eq(this.line.args());
        self.statements.iter().any(|s| s.aside != this.aside && same(&s.line))
    }

    fn parallel_syncs(&mut self, args: &[&str]) -> Result<(), Fault> {
        let count = number(args[1], 0);
        if count < 1 {
            self.report(
                Fault::warning(3, "parallel-syncs below 1 is taken as 1")
                    .help("with 0, Redis leaves all replicas at the old master until a timeout"),
            );
        } else {
            self.tell_number(3, args[1], count);
        }
        let count = u32::try_from(count).unwrap_or_default().max(1);
        self.with(args[0], |g| g.settings.parallel_syncs = count);
        Ok(())
    }

    /// A time in ms, at least `min`.
    fn time_ms(&mut self, text: &str, min: i64) -> Result<u64, Fault> {
        let read = number(text, TIME_MS_MAX as i64);
        let time = u64::try_from(read).ok().filter(|_| read >= min).ok_or_else(|| match min {
            0 => Fault::new(3, "negative time parameter.")
                .help("write a number of milliseconds, 0 for never"),
            _ => Fault::new(3, "negative or zero time parameter.")
                .help("write a number of milliseconds above 0, for example 5000"),
        })?;
        self.tell_number(3, text, read);
        Ok(time)
    }

    fn script(&mut self, directive: &str, args: &[&str]) -> Result<(), Fault> {
        let path = PathBuf::from(args[1]);
        let notification = directive == "notification-script";
        if !(self.executable)(&path) {
            let kind = if notification { "Notification" } else { "Client reconfiguration" };
            return Err(Fault::new(
                3,
                format!("{kind} script seems non existing or non executable."),
            )
            .help("give the path of a file that this user may execute (chmod +x)"));
        }
        self.with(args[0], |g| match notification {
            true => g.settings.notification_script = Some(path),
            false => g.settings.client_reconfig_script = Some(path),
        });
        Ok(())
    }
}
