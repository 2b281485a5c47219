//! The directives about who may do what: `user`, `aclfile`, `acllog-max-len`, `acl-pubsub-default`,
//! and `rename-command`, which changes what a sentinel's own commands are called.

use super::super::types::Secret;
use super::super::users::{BEYOND_RULES, COMMANDS, UserLine};
use super::general::{integer, path};
use super::{Fault, Reader, Severity};

/// Redis's words for a file with both.
const BOTH: &str = "Configuring Redis with users defined in redis.conf and at the same setting an \
     ACL file path is invalid. This setup is very likely to lead to configuration errors and \
     security holes, please define either an ACL file or declare users directly in your \
     redis.conf, but not both.";

impl Reader<'_> {
    /// One of these directives; `words` begins with its name and has at least one more.
    pub(super) fn access(&mut self, name: &str, words: &[&str]) -> Result<(), Fault> {
        match name {
            "user" => self.user(words[1], &words[2..]),
            "aclfile" => {
                self.settings.acl_file = path(words[1]);
                self.acl_file_at = Some(self.index);
                Ok(())
            }
            "acllog-max-len" => {
                let max = integer(words[1], 0, i64::MAX as u64)?;
                self.settings.acllog_max_len = usize::try_from(max).unwrap_or(usize::MAX);
                Ok(())
            }
            "acl-pubsub-default" => {
                self.settings.acl_all_channels = match words[1].to_ascii_lowercase().as_str() {
                    "allchannels" => true,
                    "resetchannels" => false,
                    _ => {
                        let known = "allchannels, resetchannels";
                        return Err(Fault::new(
                            1,
                            format!("argument(s) must be one of the following: {known}"),
                        ));
                    }
                };
                Ok(())
            }
            _ => self.rename_own_command(words),
        }
    }

    /// `user <name> <rule> ...`. A line of the command line counts in place of the file's, and one
    /// of the main file in place of an included one's.
    fn user(&mut self, name: &str, rules: &[&str]) -> Result<(), Fault> {
        if name.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(Fault::new(1, "Spaces not allowed in ACL usernames")
                .help("a name stands between blanks in Redis's files"));
        }
        let statement = &self.statements[self.index];
        let line = UserLine {
            name: name.to_owned(),
            rules: rules.iter().copied().map(Secret::new).collect(),
            place: statement.finding(Severity::Error, 2, ""),
            included: statement.aside && statement.file.is_some(),
        };
        let users = &mut self.settings.users;
        match users.iter_mut().find(|known| known.name == name) {
            None => users.push(line),
            Some(known) if line.is_option() && !known.is_option() => *known = line,
            Some(known) if known.included && !line.included => *known = line,
            Some(known) if line.included && !known.included => {}
            Some(_) => {
                let text = format!(
                    "Error in user declaration '{}': Duplicate user found. A user can only be \
                     defined once in config files",
                    line.shown_name()
                );
                return Err(Fault::new(1, text).help("put all rules of a user into one line"));
            }
        }
        Ok(())
    }

    /// `rename-command <command> <new-name>`: of this sentinel's own commands. An empty name takes
    /// the command away.
    fn rename_own_command(&mut self, words: &[&str]) -> Result<(), Fault> {
        let [_, from, to] = words else {
            return Err(Fault::new(0, "Bad directive or wrong number of arguments")
                .help("write: rename-command <command> <new-name>"));
        };
        let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
        let renamed = &mut self.settings.renamed_commands;
        // Who is called `from` by now.
        let original = match renamed.iter().find(|(_, now)| **now == from) {
            Some((original, _)) => original.clone(),
            None if renamed.contains_key(&from) => String::new(),
            None => from.clone(),
        };
        if !COMMANDS.contains(&original.as_str()) {
            return Err(Fault::new(1, "No such command in rename-command").help(format!(
                "a sentinel has these commands: {}. How the nodes call a command is told with: \
                 sentinel rename-command",
                COMMANDS.join(", ")
            )));
        }
        let taken = COMMANDS.contains(&to.as_str()) && !renamed.contains_key(&to)
            || renamed.values().any(|now| *now == to);
        if !to.is_empty() && (taken && to != from || BEYOND_RULES.contains(&to.as_str())) {
            return Err(Fault::new(2, "Target command name already exists"));
        }
        renamed.insert(original, to);
        Ok(())
    }

    /// Judges what only the whole file shows.
    pub(super) fn finish_access(&mut self) {
        let settings = &self.settings;
        if let (Some(index), Some(_)) = (self.acl_file_at, &settings.acl_file)
            && !settings.users.is_empty()
        {
            let help = "move the users into the file, or remove the line 'aclfile'";
            self.report_at(index, Fault::new(0, BOTH).help(help));
        }
    }
}
