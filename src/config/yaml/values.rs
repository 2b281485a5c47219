//! What single values mean. Each reader reports what is wrong and then gives nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::diagnostic::Diagnostic;
use super::super::rules::{TIME_MS_MAX, valid_host};
use super::super::settings::LogLevel;
use super::super::types::{Address, Secret};
use super::super::users::UserLine;
use super::Reader;
use super::node::{Node, Value};

impl Reader<'_> {
    /// Any text; numbers and flags count as they are written.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) | Value::Number(text) | Value::Flag(text) => Some(text.clone()),
            Value::Null => {
                self.refuse(node.place, "a value is missing here", "write it behind the colon")
            }
            Value::List(_) | Value::Map(_) => self.refuse(
                node.place,
                "a single value is expected here",
                "write it behind the colon, without brackets or braces",
            ),
        }
    }

    pub(super) fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        if text.is_empty() {
            return self.refuse(node.place, "a path is missing here", "remove the line for none");
        }
        Some(PathBuf::from(text))
    }

    pub(super) fn flag(&mut self, node: &Node) -> Option<bool> {
        match self.text(node)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => self.refuse(node.place, "this is neither true nor false", "write true or false"),
        }
    }

    fn number(&mut self, node: &Node, max: u32) -> Option<u32> {
        let number = self.text(node)?.parse().ok().filter(|n| (1..=max).contains(n));
        if number.is_none() {
            let message = format!("argument must be between 1 and {max} inclusive");
            return self.refuse(node.place, message, "write a whole number");
        }
        number
    }

    pub(super) fn count(&mut self, node: &Node) -> Option<u32> {
        self.number(node, i32::MAX.unsigned_abs())
    }

    /// A port, or 0 for none.
    pub(super) fn port_or_none(&mut self, node: &Node) -> Option<u16> {
        let port = self.text(node)?.parse().ok();
        let help = "write a whole number, 0 for none";
        port.or_else(|| self.refuse(node.place, "a port is a number from 0 to 65535", help))
    }

    pub(super) fn port(&mut self, node: &Node) -> Option<u16> {
        self.number(node, u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
    }

    pub(super) fn quorum(&mut self, node: &Node) -> Option<u32> {
        let quorum = self.text(node)?.parse().ok().filter(|&quorum: &u32| quorum > 0);
        if quorum.is_none() {
            let help = "the quorum is how many sentinels must agree, for example 2 of 3";
            return self.refuse(node.place, "Quorum must be 1 or greater.", help);
        }
        quorum
    }

    pub(super) fn log_level(&mut self, node: &Node) -> Option<LogLevel> {
        let text = self.text(node)?;
        LogLevel::parse(&text).or_else(|| {
            let help = "one of debug, verbose, notice, warning, nothing";
            self.refuse(node.place, format!("unknown log level '{text}'"), help)
        })
    }

    /// Users, each with its rules in Redis's words: one text, or a list of rules.
    pub(super) fn users(&mut self, node: &Node) -> Option<Vec<UserLine>> {
        let Value::Map(entries) = &node.value else {
            let help = "write: users: {reader: 'on >password &* +@connection'}";
            return self.refuse(node.place, "'users' must map names to rules", help);
        };
        let mut users: Vec<UserLine> = Vec::new();
        for (key, node) in entries {
            if key.name.is_empty() || key.name.contains(|c: char| c.is_whitespace() || c == '\0') {
                let help = "a name has no blanks";
                self.error(key.place, "Spaces not allowed in ACL usernames", help);
            }
            if users.iter().any(|user| user.name == key.name) {
                let help = "put all rules of a user into one entry";
                self.error(key.place, "Duplicate user found.", help);
            }
            let texts: Vec<String> = match &node.value {
                Value::List(rules) => rules.iter().filter_map(|rule| self.text(rule)).collect(),
                _ => self.text(node).into_iter().collect(),
            };
            let rules = texts.iter().flat_map(|text| text.split_ascii_whitespace());
            users.push(UserLine {
                name: key.name.clone(),
                rules: rules.map(Secret::new).collect(),
                // Its line may hold a password.
                place: Diagnostic { line: key.place.0, ..Diagnostic::error("") },
                included: false,
            });
        }
        Some(users)
    }

    /// One address or a list of them, by the rules of Redis's `bind`.
    pub(super) fn bind(&mut self, node: &Node) -> Option<Vec<String>> {
        let addresses: Vec<String> = match &node.value {
            Value::List(items) => {
                items.iter().map(|item| self.text(item)).collect::<Option<_>>()?
            }
            _ => vec![self.text(node)?],
        };
        let bad = |a: &String| a.trim_start_matches('-').is_empty() || a.contains([' ', ',']);
        if addresses.is_empty() || addresses.iter().any(bad) {
            return self.refuse(
                node.place,
                "bind needs addresses",
                "list addresses of this machine: [127.0.0.1, 10.0.0.1]; '*' means all",
            );
        }
        Some(addresses)
    }

    pub(super) fn announced(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if !valid_host(&text, true) {
            return self.refuse(
                node.place,
                "this is neither an IP address nor a host name",
                "give the address at which the other sentinels reach this one",
            );
        }
        Some(text)
    }

    /// `host:port`, an IPv6 address in brackets.
    pub(super) fn address(&mut self, node: &Node) -> Option<Address> {
        let text = self.text(node)?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").unwrap_or((rest, "")),
            None => text.rsplit_once(':').unwrap_or((&text, "")),
        };
        let port = port.parse::<u16>().ok().filter(|&port| port > 0);
        let help = match port {
            _ if !text.starts_with('[') && host.contains(':') => {
                "write an IPv6 address in brackets: '[::1]:6379'"
            }
            Some(port) if valid_host(host, self.resolve_hostnames) => {
                return Some(Address::new(host, port));
            }
            Some(_) if valid_host(host, true) => {
                let help = "write its IP address, or add: hostnames: {resolve: true}";
                return self.refuse(node.place, "Can't resolve instance hostname.", help);
            }
            _ => "write host and port: 127.0.0.1:6379",
        };
        self.refuse(node.place, format!("'{text}' is no address of a master"), help)
    }

    /// A time above 0, in ms.
    pub(super) fn time(&mut self, node: &Node) -> Option<u64> {
        let ms = self.time_or_zero(node)?;
        if ms == 0 {
            let help = "write a time of at least 1ms, for example 5s";
            return self.refuse(node.place, "negative or zero time parameter.", help);
        }
        Some(ms)
    }

    /// A time, in ms. Its unit must be there: Redis counts milliseconds, other programs seconds.
    pub(super) fn time_or_zero(&mut self, node: &Node) -> Option<u64> {
        let text = self.text(node)?;
        if text.parse::<f64>().is_ok_and(|n| n != 0.0) {
            let help = format!("write {text}ms for milliseconds, {text}s for seconds");
            return self.refuse(node.place, "a time needs its unit", help);
        }
        let ms = match humantime::parse_duration(&text) {
            Ok(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Err(_) if text == "0" => 0,
            Err(_) => {
                let help = "write a number and its unit: 1500ms, 5s, 3m, 1h";
                return self.refuse(node.place, "this is no time", help);
            }
        };
        if ms > TIME_MS_MAX {
            return self.refuse(node.place, "this time is too long", "ten years are the limit");
        }
        Some(ms)
    }

    /// A time in whole seconds, 0 for never.
    pub(super) fn seconds(&mut self, node: &Node) -> Option<u64> {
        let ms = self.time_or_zero(node)?;
        if !ms.is_multiple_of(1000) {
            return self.refuse(node.place, "this time has whole seconds only", "for example 300s");
        }
        Some(ms / 1000)
    }

    pub(super) fn script(&mut self, node: &Node) -> Option<PathBuf> {
        let path = self.path(node)?;
        if !(self.outside.executable)(&path) {
            return self.refuse(
                node.place,
                "this script does not exist or cannot be executed",
                "give the path of a file that this user may execute (chmod +x)",
            );
        }
        Some(path)
    }

    /// Commands and what the nodes call them.
    pub(super) fn renames(&mut self, node: &Node) -> Option<BTreeMap<String, String>> {
        const EXAMPLE: &str = "for example: rename_commands: {CONFIG: my-config}";
        let Value::Map(entries) = &node.value else {
            let message = "this must map commands to their names on the nodes";
            return self.refuse(node.place, message, EXAMPLE);
        };
        let mut renames = BTreeMap::new();
        for (key, value) in entries {
            let Some(name) = self.text(value) else { continue };
            if key.name.is_empty() || name.is_empty() {
                self.error(key.place, "a command and its new name must not be empty", EXAMPLE);
            } else if renames.insert(key.name.to_ascii_uppercase(), name).is_some() {
                self.error(
                    key.place,
                    "Same command renamed multiple times with rename-command.",
                    "keep one of the lines",
                );
            }
        }
        Some(renames)
    }
}
