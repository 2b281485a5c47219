//! `SENTINEL DEBUG`: the times by which a sentinel works, changed for a test and never saved. What
//! is shown is what is in force; the defaults are ours where they differ from Redis's, and
//! `docs/sentinel-commands.md` tells what each of them does.

use super::Sentinel;
use super::effect::{Effect, ScriptTimes};
use super::timers::Subject;
use crate::config::rules::TIME_MS_MAX;
use crate::config::settings::{DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS};
use crate::resp::Value;

macro_rules! tunables {
    ($($(#[doc = $what:literal])+ $field:ident $name:literal $default:expr,)+) => {
        /// The times that `SENTINEL DEBUG` shows and changes, all in ms and above 0.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Tunables {
            $($(#[doc = $what])+ pub $field: u64,)+
        }

        impl Default for Tunables {
            fn default() -> Tunables {
                Tunables { $($field: $default,)+ }
            }
        }

        impl Tunables {
            /// Names and values in Redis's order.
            fn pairs(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field)),+]
            }

            fn named(&mut self, name: &str) -> Option<&mut u64> {
                $(if name.eq_ignore_ascii_case($name) {
                    return Some(&mut self.$field);
                })+
                None
            }
        }
    };
}

tunables! {
    /// Pause between INFOs to a node with which all is well. In trouble it is 1 s, or this if less.
    info_period_ms "INFO-PERIOD" 10_000,
    /// Longest pause between PINGs: they go out every tenth of `down-after`.
    ping_period_ms "PING-PERIOD" 1_000,
    /// Pause between questions to a peer whether it sees the master down; five of them is how long
    /// its opinion counts.
    ask_period_ms "ASK-PERIOD" 1_000,
    /// Pause between our hello messages to one instance.
    publish_period_ms "PUBLISH-PERIOD" 2_000,
    /// `down-after-milliseconds` of groups that `SENTINEL MONITOR` adds from now on.
    default_down_after_ms "DEFAULT-DOWN-AFTER" DOWN_AFTER_MS,
    /// `failover-timeout` of groups that `SENTINEL MONITOR` adds from now on.
    default_failover_timeout_ms "DEFAULT-FAILOVER-TIMEOUT" FAILOVER_TIMEOUT_MS,
    /// A stall of this process that is so long is a TILT.
    tilt_trigger_ms "TILT-TRIGGER" 2_000,
    /// How long nothing is decided after a TILT: one hello period, in which newer configurations
    /// are heard of. (Redis does nothing for 30 s.)
    tilt_period_ms "TILT-PERIOD" 2_000,
    /// A SLAVEOF that shows no effect within this time may be sent again.
    slave_reconf_timeout_ms "SLAVE-RECONF-TIMEOUT" 10_000,
    /// Least age of a link that stays silent before it is opened anew; it doubles up to 15 s.
    /// (Redis waits for 15 s.)
    min_link_reconnect_ms "MIN-LINK-RECONNECT-PERIOD" 2_000,
    /// How long a candidate waits for votes, where `failover-timeout` is not shorter. (Redis waits
    /// for 10 s.)
    election_timeout_ms "ELECTION-TIMEOUT" 2_000,
    /// A script that runs longer is killed.
    script_max_runtime_ms "SCRIPT-MAX-RUNTIME" 60_000,
    /// Pause before a script that failed is run again; it doubles with each failure.
    script_retry_delay_ms "SCRIPT-RETRY-DELAY" 30_000,
}

impl Tunables {
    /// How long a peer's opinion counts.
    pub(super) fn opinion_valid_ms(&self) -> u64 {
        self.ask_period_ms.saturating_mul(5)
    }

    /// A hello may go out early by so much in a step that is under way anyway.
    pub(super) fn hello_slack_ms(&self) -> u64 {
        self.publish_period_ms / 20
    }

    /// Reads all pairs before any of them is applied. The error is a complete reply.
    fn changed(&self, words: &[String]) -> Result<Tunables, String> {
        let mut new = self.clone();
        for pair in words.chunks(2) {
            let name = &pair[0];
            let (Some(time), Some(value)) = (new.named(name), pair.get(1)) else {
                return Err(format!(
                    "ERR Unknown option or number of arguments for SENTINEL DEBUG '{name}'"
                ));
            };
            let ms = crate::resp::number::parse_int(value.as_bytes());
            let ms = ms.and_then(|ms| u64::try_from(ms).ok());
            *time = ms.filter(|ms| (1..=TIME_MS_MAX).contains(ms)).ok_or_else(|| {
                format!("ERR Invalid argument '{value}' for SENTINEL DEBUG '{name}'")
            })?;
        }
        Ok(new)
    }
}

impl Sentinel {
    /// The times by which it works now.
    pub fn tunables(&self) -> &Tunables {
        &self.core.tune
    }

    /// `SENTINEL DEBUG [parameter value ...]`
    pub(super) fn debug(&mut self, words: &[String]) -> Value {
        if words.is_empty() {
            let pairs = self.core.tune.pairs().into_iter();
            let shown = pairs.map(|(name, ms)| (Value::bulk(name), Value::bulk(ms.to_string())));
            return Value::Map(shown.collect());
        }
        match self.core.tune.changed(words) {
            Ok(tune) => self.core.tune = tune,
            Err(error) => return Value::error(error),
        }
        let Tunables { script_max_runtime_ms, script_retry_delay_ms, .. } = self.core.tune;
        self.core.out.emit(Effect::TimeScripts(ScriptTimes {
            max_runtime_ms: script_max_runtime_ms,
            retry_delay_ms: script_retry_delay_ms,
        }));
        // Nobody waits for what was due by the old times.
        for (name, group) in &mut self.groups {
            group.hasten_hellos(&self.core);
            self.timers.set(Subject::Group(name.clone()), Some(self.core.now()));
        }
        self.touch(Subject::Peers);
        Value::ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(line: &str) -> Result<Tunables, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Tunables::default().changed(&words)
    }

    #[test]
    fn pairs_are_read_to_the_end_or_not_at_all() {
        let unknown = "ERR Unknown option or number of arguments for SENTINEL DEBUG";
        for (line, expected) in [
            ("colour 1", format!("{unknown} 'colour'")),
            ("ping-period", format!("{unknown} 'ping-period'")),
            ("ask-period 1 Tilt-Period", format!("{unknown} 'Tilt-Period'")),
            ("ask-period 0", "ERR Invalid argument '0' for SENTINEL DEBUG 'ask-period'".into()),
            ("ask-period x", "ERR Invalid argument 'x' for SENTINEL DEBUG 'ask-period'".into()),
            (
                "info-period 9223372036854775807",
                "ERR Invalid argument '9223372036854775807' for SENTINEL DEBUG 'info-period'"
                    .into(),
            ),
        ] {
            assert_eq!(changed(line), Err(expected), "{line}");
        }
        let new = changed("INFO-period 7 script-retry-delay 9").expect("good pairs");
        assert_eq!((new.info_period_ms, new.script_retry_delay_ms), (7, 9));
        assert_eq!(new.pairs().len(), 13);
    }
}
