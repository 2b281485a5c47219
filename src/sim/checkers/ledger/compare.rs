//! The ledger held against the disk, and against what is answered.

use std::collections::BTreeSet;

use super::page::{Cause, Known, Member, Members, Page, Stage};
use super::{AGREE, Book, Broken, NEWER, OPINION, Speaker, WRITTEN, address};
use crate::resp::Value;
use crate::sentinel::Request;
use crate::sentinel::types::{Address, RunId};
use crate::sim::checkers::times::QUICK_DISK_MS;
use crate::sim::wire::Ms;
use crate::sim::words;

/// A failover ends at most so long after its timeout, in ms.
const END_SLACK_MS: Ms = 5_000;

impl Book {
    /// All that is on disk was told, and nothing else.
    pub(super) fn compare_with_disk(&mut self, speaker: &Speaker) -> Result<(), Broken> {
        let disk = speaker.disk;
        if self.epoch != disk.current_epoch {
            let how = format!("told epoch {}, and wrote {}", self.epoch, disk.current_epoch);
            return Err((WRITTEN, how));
        }
        // Whose `+monitor` is not told nobody knows of.
        self.pages.retain(|_, page| page.watched);
        let (told, written) =
            (self.pages.keys().map(|n| n.as_str()), disk.groups.keys().map(|n| &**n));
        if !told.clone().eq(written.clone()) {
            let (told, written) = (listed(told), listed(written));
            return Err((WRITTEN, format!("told of groups {told}, and wrote {written}")));
        }
        for (group, (name, page)) in disk.groups.values().zip(&mut self.pages) {
            let settings = &group.settings;
            let wrong = |how: String| Err((WRITTEN, format!("{how} of {name}")));
            if page.master.at != settings.master {
                let (told, written) = (&page.master.at, &settings.master);
                return wrong(format!("told {told} as master, and wrote {written}"));
            }
            let (epoch, known) = (page.stood_in, group.config_epoch);
            if page.fails_over() && known >= epoch && !page.loose {
                let how = format!("stands for {name} in epoch {epoch}, and knows configuration");
                return Err((NEWER, format!("{how} {known}")));
            }
            if let Some(cause) = &page.cause {
                let cause = match cause {
                    Cause::Peer => "a peer's newer configuration".to_owned(),
                    Cause::Promotion(at) => format!("the promotion of {at}"),
                };
                return wrong(format!("told no switch, after {cause},"));
            }
            let replicas = group.replicas.iter().map(|at| (at.to_string(), at.clone(), None));
            if let Err(how) = compare(&mut page.replicas, replicas) {
                return wrong(how);
            }
            let set = std::mem::take(&mut page.set);
            for (option, written) in [
                ("quorum", settings.quorum.into()),
                ("down-after-milliseconds", settings.down_after_ms),
                ("failover-timeout", settings.failover_timeout_ms),
                ("parallel-syncs", settings.parallel_syncs.into()),
                ("refused-after", settings.refused_after_ms),
                ("flap-pause", settings.flap_pause_ms),
            ] {
                // What is not set stays what it was.
                let kept = page.kept.insert(option, written).unwrap_or(written).to_string();
                let told = set.get(option).unwrap_or(&kept);
                if written.to_string() != *told {
                    return wrong(format!("told {option} {told}, and wrote {written},"));
                }
            }
            let peers = group.sentinels.iter();
            let peers = peers.map(|(id, at)| (id.to_string(), at.clone(), None));
            // Who listens first writes down nobody.
            if group.sentinels.is_empty() && !page.peers.is_empty() {
                continue;
            }
            if let Err(how) = compare(&mut page.peers, peers) {
                return wrong(how);
            }
            page.trust(speaker.at);
        }
        Ok(())
    }

    /// An answer says what was announced.
    pub(super) fn answers(
        &mut self,
        speaker: &Speaker,
        question: &Request,
        reply: &Value,
    ) -> Result<(), Broken> {
        match (question, reply) {
            (Request::Set { name, options }, Value::Simple(_)) => {
                return self.was_set(speaker, name, options);
            }
            (Request::Failover(name), Value::Simple(_)) => {
                *self.orders.entry(name.clone()).or_default() += 1;
                self.untried.insert(name.clone());
            }
            _ => {}
        }
        if !self.settled {
            return Ok(());
        }
        match question {
            Request::IsMasterDown { host, port, .. } => self.opinion(host, *port, reply),
            Request::MasterAddress(name) => {
                let told = self.pages.get(name).map(|page| &page.master.at);
                let same = match (told, reply) {
                    (None, _) => *reply == Value::NullArray,
                    (Some(told), Value::Array(words)) => {
                        let mut words = words.iter().filter_map(Value::text);
                        let port = |word: &str| word.parse() == Ok(told.port);
                        words.next() == Some(&*told.host) && words.next().is_some_and(port)
                    }
                    _ => false,
                };
                match same {
                    true => Ok(()),
                    false => {
                        let told = told.map_or_else(|| "nothing".into(), Address::to_string);
                        let reply = words::reply(reply);
                        Err((AGREE, format!("answers {reply} for {name}, not {told}")))
                    }
                }
            }
            Request::Master(name) => match self.pages.get(name) {
                None => Ok(()),
                Some(page) => {
                    let agrees = page.agrees(speaker, name, self.tilt, reply);
                    agrees.map_err(|how| (AGREE, format!("{how} of {name}")))
                }
            },
            Request::Replicas(name) => match self.pages.get_mut(name) {
                None => Ok(()),
                Some(page) => {
                    compare(&mut page.replicas, entries(reply).into_iter())
                        .map_err(|how| (AGREE, format!("{how} of {name}")))?;
                    let disk = speaker.disk.groups.get(name);
                    let disk = disk.map(|disk| disk.replicas.iter().map(Address::to_string));
                    are_written(name, reply, disk.map(Iterator::collect))
                }
            },
            Request::Sentinels(name) => match self.pages.get_mut(name) {
                None => Ok(()),
                Some(page) => {
                    compare(&mut page.peers, entries(reply).into_iter())
                        .map_err(|how| (AGREE, format!("{how} of {name}")))?;
                    // Who listens first writes down nobody.
                    let disk = speaker.disk.groups.get(name);
                    let disk = disk.filter(|disk| !disk.sentinels.is_empty());
                    let disk = disk.map(|disk| disk.sentinels.keys().map(RunId::to_string));
                    are_written(name, reply, disk.map(Iterator::collect))
                }
            },
            _ => Ok(()),
        }
    }

    /// What is set is told before it is answered. Where both waited, a REMOVE may have taken back
    /// what was to be told.
    fn was_set(&self, speaker: &Speaker, name: &str, options: &[String]) -> Result<(), Broken> {
        let waited = speaker.at - speaker.since > QUICK_DISK_MS;
        let watched = speaker.disk.groups.contains_key(name) && !waited;
        let Some(page) = self.pages.get(name).filter(|_| watched) else { return Ok(()) };
        for option in options.iter().step_by(2).take_while(|word| *word != "rename-command") {
            if !page.set.contains_key(&option.to_ascii_lowercase()) {
                let how = format!("answers that {option} of {name} is set, and did not tell");
                return Err((AGREE, how));
            }
        }
        Ok(())
    }

    /// "Down" is what was announced of this master; in TILT nothing is said to be down.
    fn opinion(&self, host: &str, port: i64, reply: &Value) -> Result<(), Broken> {
        let at = Address::new(host, u16::try_from(port).unwrap_or(0));
        let Value::Array(items) = reply else { return Ok(()) };
        let said = items.first() == Some(&Value::Integer(1));
        let mut pages = self.pages.values().filter(|page| page.master.at == at);
        let (page, None) = (pages.next(), pages.next()) else { return Ok(()) };
        let told = page.is_some_and(|page| page.master.down);
        match said == (told && !self.tilt) {
            true => Ok(()),
            false => {
                let (reply, told) = (words::reply(reply), if told { "down" } else { "up" });
                Err((OPINION, format!("answers {reply} of {at}, which was told to be {told}")))
            }
        }
    }
}

impl Page {
    /// SENTINEL MASTER says what was told and what is on disk.
    fn agrees(
        &self,
        speaker: &Speaker,
        name: &str,
        tilt: bool,
        reply: &Value,
    ) -> Result<(), String> {
        let field = |wanted: &str| field(reply, wanted).unwrap_or_default();
        let at = address(field("ip"), field("port"));
        if at.as_ref() != Some(&self.master.at) {
            let shown = at.map_or_else(|| "no address".into(), |at| at.to_string());
            return Err(format!("answers {shown}, and told {} as master", self.master.at));
        }
        let has = |flag: &str| field("flags").split(',').any(|word| word == flag);
        let fails_over = self.loose.then(|| has("failover_in_progress"));
        let down = if is_refused(reply) { has("s_down") } else { self.master.down };
        for (flag, told) in [
            ("s_down", down),
            ("o_down", self.odown.is_some()),
            ("failover_in_progress", fails_over.unwrap_or_else(|| self.fails_over())),
        ] {
            if has(flag) != told {
                return Err(format!("answers {}, and told {flag} {told}", field("flags")));
            }
        }
        let mut numbers = Vec::new();
        for (number, members) in
            [("num-slaves", &self.replicas), ("num-other-sentinels", &self.peers)]
        {
            if members.values().all(|member| member.known == Known::Sure) {
                numbers.push((number, members.len() as u64));
            }
        }
        if let Some(group) = speaker.disk.groups.get(name) {
            let settings = &group.settings;
            numbers.push(("config-epoch", group.config_epoch));
            numbers.push(("quorum", settings.quorum.into()));
            numbers.push(("down-after-milliseconds", settings.down_after_ms));
            numbers.push(("failover-timeout", settings.failover_timeout_ms));
            numbers.push(("parallel-syncs", settings.parallel_syncs.into()));
            let until = self.staged_at + settings.failover_timeout_ms + END_SLACK_MS;
            if self.stage == Stage::Repoints && speaker.at > until && !tilt && !self.loose {
                return Err("told no end of the failover".into());
            }
        }
        for (number, told) in numbers {
            if field(number) != told.to_string() {
                return Err(format!("answers {number} {}, not {told},", field(number)));
            }
        }
        Ok(())
    }
}

/// Those told are those shown, by name and address, and down or not. Whom RESET made the sentinel
/// forget is struck off.
fn compare(
    told: &mut Members,
    shown: impl Iterator<Item = (String, Address, Option<bool>)>,
) -> Result<(), String> {
    let mut seen = 0;
    let mut names = Vec::new();
    for (name, at, down) in shown {
        let Some(member) = told.get(&name) else { return Err(format!("never told of {name}")) };
        if member.known == Known::Due {
            return Err(format!("did not tell {name} again after a switch"));
        }
        if member.at != at && member.known == Known::Sure {
            return Err(format!("told {name} at {}, and not {at}", member.at));
        }
        if let Some(down) = down.filter(|down| *down != member.down) {
            return Err(format!("told {name} down {}, and not {down}", member.down));
        }
        seen += 1;
        names.push(name);
    }
    if seen < told.len() {
        let missing = |(name, member): &(&String, &Member)| {
            !names.contains(name) && member.known != Known::Doubtful
        };
        if let Some((name, _)) = told.iter().find(missing) {
            return Err(format!("told of {name}, which is not shown as one"));
        }
        told.retain(|name, _| names.contains(name));
    }
    Ok(())
}

/// Those shown are those on disk: also where RESET forgot somebody, which is not told of each.
fn are_written(name: &str, reply: &Value, disk: Option<BTreeSet<String>>) -> Result<(), Broken> {
    let shown: BTreeSet<String> = entries(reply).into_iter().map(|(name, ..)| name).collect();
    match disk {
        Some(disk) if disk != shown => {
            let (shown, disk) = (listed(&shown), listed(&disk));
            Err((WRITTEN, format!("shows {shown} of {name}, and wrote {disk}")))
        }
        _ => Ok(()),
    }
}

/// Name, address and whether it is down, of each entry of SENTINEL REPLICAS or SENTINELS.
fn entries(reply: &Value) -> Vec<(String, Address, Option<bool>)> {
    let Value::Array(entries) = reply else { return Vec::new() };
    let read = |entry: &Value| {
        let at = address(field(entry, "ip")?, field(entry, "port")?)?;
        let down = field(entry, "flags")?.split(',').any(|flag| flag == "s_down");
        let down = (!is_refused(entry)).then_some(down);
        Some((field(entry, "name")?.to_owned(), at, down))
    };
    entries.iter().filter_map(read).collect()
}

fn field<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    let Value::Map(pairs) = entry else { return None };
    pairs.iter().find(|(key, _)| key.text() == Some(name)).and_then(|(_, value)| value.text())
}

/// It refuses our PING: it is shown as down after a while, as Redis does, and is not called so.
fn is_refused(entry: &Value) -> bool {
    let errors = field(entry, "config-errors").unwrap_or_default();
    errors.split(',').any(|error| error.starts_with("PING "))
}

/// Names with commas between them.
fn listed(names: impl IntoIterator<Item: AsRef<str>>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
